package nats

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/proc"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// The server is killed under load, and started again.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	srv := start(t, "")
	st := open(t, srv.url(), nil)
	w := outage.Start(t, st)
	for range 5 {
		w.Endure(t, srv.Kill, func() { srv.run(t) })
	}
	w.Progress(t, 200)
	w.End(t, st)
	if n := w.Lost(); n > outage.Sessions { // what was under way in the end
		t.Errorf("%d losses were reported", n)
	}
}

// The server stands still for longer than any time-out and the lease, and then goes on where it was: with the calls, too, that were given up.
func TestServerFrozen(t *testing.T) {
	t.Parallel()
	srv := start(t, "")
	st := open(t, srv.url(), nil)
	w := outage.Start(t, st)
	for range 3 {
		w.Endure(t, srv.Freeze, func() {
			outage.Until(t, "the lease is over", func() bool { return w.DB().Health().LeaseLeft <= 0 })
			srv.Thaw()
		})
	}
	w.Progress(t, 200)
	w.End(t, st)
}

// Connections hang, in one direction or both: nothing is refused and nothing answered. What the server was asked it does all the same.
func TestConnectionsHang(t *testing.T) {
	t.Parallel()
	srv := start(t, "")
	p := outage.NewProxy(t, srv.port)
	st := open(t, urlAt(p.Port), nil)
	w := outage.Start(t, st)
	for _, deaf := range []bool{true, false, true, false} {
		w.Endure(t, func() { p.Hang(deaf) }, p.Heal)
	}
	w.Progress(t, 200)
	w.End(t, st)
}

// What was sent before its sender gave up arrives when the session is another's.
func TestLateArrival(t *testing.T) {
	t.Parallel()
	srv, o := start(t, ""), fresh()
	p := outage.NewProxy(t, srv.port)
	storetest.LateArrival(t, open(t, srv.url(), o), open(t, urlAt(p.Port), o), p)
}

// cluster is three servers.
type cluster struct {
	nodes map[string]*node
	url   string
}

func startCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{nodes: map[string]*node{}}
	var ports [3]int
	var routes, urls []string
	for i := range ports {
		var err error
		if ports[i], err = proc.FreePort(); err != nil {
			t.Fatal(err)
		}
		routes = append(routes, fmt.Sprintf("%q", urlAt(ports[i])))
	}
	for i, port := range ports {
		name := fmt.Sprint("n", i+1)
		n := newNode(t, name, fmt.Sprintf(`cluster: {name: three, listen: "127.0.0.1:%d", routes: [%s]}`, port, strings.Join(routes, ", ")))
		n.run(t)
		c.nodes[name], urls = n, append(urls, n.url())
	}
	c.url = strings.Join(urls, ",")
	for _, n := range c.nodes {
		n.await(t)
	}
	return c
}

// open waits until the cluster has found itself.
func (c *cluster) open(t testing.TB, o *Options) (st *Store) {
	t.Helper()
	outage.Until(t, "the stream is made", func() bool {
		var err error
		if st, err = Open(t.Context(), c.url, o); err != nil {
			t.Logf("not yet: %v", err)
		}
		return err == nil
	})
	t.Cleanup(func() { st.Close() })
	c.whole(t, st)
	outage.Until(t, "it has found its pace", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := st.KeepAlive(ctx, store.Node{Incarnation: store.NewIncarnation()}, 0)
		return err == nil
	})
	return st
}

// leader returns the server that leads the store's stream.
func (c *cluster) leader(t testing.TB, st *Store) (n *node) {
	t.Helper()
	outage.Until(t, "the stream has a leader", func() bool {
		in, err := st.info(t.Context(), "")
		if err == nil {
			n = c.nodes[in.Cluster.Leader]
		}
		return n != nil
	})
	return n
}

// whole waits until all three have what the leader has.
func (c *cluster) whole(t testing.TB, st *Store) {
	t.Helper()
	outage.Until(t, "the stream is on all three", func() bool {
		in, err := st.info(t.Context(), "")
		if err != nil || len(in.Cluster.Replicas) != 2 {
			return false
		}
		for _, r := range in.Cluster.Replicas {
			if r.Offline || !r.Current {
				return false
			}
		}
		return true
	})
}

// Of three servers that which leads is killed under load, and the others go on; it comes back, and again.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	st := c.open(t, nil)
	if st.alone {
		t.Fatal("in a cluster the stream has one replica")
	}
	w := outage.Start(t, st)
	for range 2 {
		c.whole(t, st)
		n := c.leader(t, st)
		w.Endure(t, n.Kill, func() {})
		w.Progress(t, 200)
		n.run(t)
	}
	c.whole(t, st)
	w.Progress(t, 200)
	w.End(t, st)
}

// Of three servers that which leads stands still until the others have another leader, and then goes on as if it still were it.
func TestLeaderFrozen(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	st := c.open(t, nil)
	w := outage.Start(t, st)
	c.whole(t, st)
	n := c.leader(t, st)
	w.Endure(t, n.Freeze, func() {
		outage.Until(t, "the lease is over", func() bool { return w.DB().Health().LeaseLeft <= 0 })
	})
	w.Progress(t, 200)
	n.Thaw()
	w.Progress(t, 1000)
	c.whole(t, st)
	w.End(t, st)
}

// Two of three are killed: nobody can write, and nothing is lost when they are back.
func TestMajorityKilled(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	st := c.open(t, nil)
	w := outage.Start(t, st)
	c.whole(t, st)
	a := c.leader(t, st)
	b := c.nodes["n1"]
	if a == b {
		b = c.nodes["n2"]
	}
	w.Endure(t, func() { a.Kill(); b.Kill() }, func() { a.run(t); b.run(t) })
	w.Progress(t, 200)
	w.End(t, st)
}

// A connection is lost while calls wait for their answers. They do not wait until the end, and tell what became of what they asked.
func TestConnectionLost(t *testing.T) {
	t.Parallel()
	srv := start(t, "")
	p := outage.NewProxy(t, srv.port)
	st, direct := open(t, urlAt(p.Port), fresh()), (*Store)(nil)
	direct = open(t, srv.url(), &st.opt)
	c := store.Change{Session: "s", Owner: store.Owner{Node: "a", Incarnation: store.NewIncarnation()}, Epoch: 1, Seq: 1, Create: true}
	apply(t, st, c, store.Applied)
	written := 0
	for range 10 {
		for _, deaf := range []bool{false, true} {
			// What is written arrives, or does not, and the answer never comes.
			c.Seq++
			c.Create = false
			if _, err := st.Load(t.Context(), "s"); err != nil { // it has the document, and the time, and so writes at once
				t.Fatal(err)
			}
			p.Hang(deaf)
			done := make(chan struct{})
			go func() {
				defer close(done)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if rs, err := st.Apply(ctx, []store.Change{c}); err != nil || rs[0].Outcome != store.Applied {
					t.Errorf("Apply over a connection that is lost gives %+v, %v", rs, err)
				}
			}()
			// On a busy machine what it has may be too old when Apply begins: then it asks first, and waits for that answer.
			for asked := time.Now(); !deaf && time.Since(asked) < 3*time.Second; {
				snap, err := direct.Load(t.Context(), "s")
				if err == nil && snap.Header.Seq == c.Seq {
					written++
					break
				}
			}
			p.Heal()
			<-done
		}
	}
	if written == 0 {
		t.Error("nothing was written over a connection of which the answers are lost")
	}
}
