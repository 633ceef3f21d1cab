package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
	"github.com/seed-6f1f505d/kvstore/store"
)

// promoted waits until the replica has taken its master's place.
func promoted(t testing.TB, replica *redisserver.Server) {
	t.Helper()
	outage.Until(t, "the replica is a master", func() bool {
		return strings.HasPrefix(replica.Must(t, "ROLE"), "master") && strings.Contains(replica.Must(t, "CLUSTER", "INFO"), "cluster_state:ok")
	})
}

// A master is killed under load, and its replica takes its place. With a replica that confirms nothing is lost that was acknowledged; and
// with one replica only, nothing is acknowledged until there is another one.
func TestMasterKilled(t *testing.T) {
	c := redisserver.StartCluster(t)
	c.FailsOver(t)
	o := fresh()
	o.Replicas = 1
	st := open(t, c.URL(), o)
	w := outage.Start(t, st)
	for i := range 2 {
		w.Endure(t, c[i].Kill, func() {
			promoted(t, c[i+3])
			if err := c[i].Run(); err != nil {
				t.Fatal(err)
			}
		})
	}
	w.Progress(t, 200)
	w.End(t, st)
}

// A master stands still for longer than the others wait for it. When it goes on it finds itself replaced.
func TestMasterFrozen(t *testing.T) {
	c := redisserver.StartCluster(t)
	c.FailsOver(t)
	o := fresh()
	o.Replicas = 1
	st := open(t, c.URL(), o)
	w := outage.Start(t, st)
	for i := range 2 {
		w.Endure(t, func() { c[i].Freeze() }, func() {
			promoted(t, c[i+3])
			c[i].Thaw()
		})
	}
	w.Progress(t, 200)
	w.End(t, st)
}

// Without replicas that confirm, the store is there again as soon as the replica has taken over, without the old master.
func TestFailover(t *testing.T) {
	c := redisserver.StartCluster(t)
	c.FailsOver(t)
	st := open(t, c.URL(), fresh())
	w := outage.Start(t, st)
	var killed, over time.Time
	w.Endure(t, func() {
		killed = time.Now()
		c[0].Kill()
	}, func() {
		promoted(t, c[3])
		over = time.Now()
	})
	t.Logf("the replica took over after %v, and %v later the store was there again", over.Sub(killed), time.Since(over))
	w.Progress(t, 200)
}

// cutOff keeps a replica from getting what its master is told from now on. What is in the socket on its way must be cut off, too.
func cutOff(t testing.TB, master, replica *redisserver.Server) {
	t.Helper()
	replica.Freeze()
	master.Must(t, "CLIENT", "KILL", "TYPE", "replica")
	outage.Until(t, "the master has no replica", func() bool { return strings.Contains(master.Must(t, "INFO", "replication"), "connected_slaves:0") })
}

// inBucket returns a session's ID that is in that bucket.
func (s *Store) inBucket(b int) string {
	for i := 0; ; i++ {
		if id := fmt.Sprint("session-", i); s.bucketOf(id) == b {
			return id
		}
	}
}

// A claim that no replica has confirmed is an error, and so is a flush: they say so, and can be repeated.
func TestUnconfirmed(t *testing.T) {
	c := redisserver.StartCluster(t)
	o := fresh()
	o.Replicas, o.ReplicaWait = 1, 200*time.Millisecond
	st := open(t, c.URL(), o)
	id := st.inBucket(0) // its first master's
	a := store.ClaimRequest{Session: id, Owner: store.Owner{Node: "a", Incarnation: store.NewIncarnation()}, Create: true}
	if got, err := st.Claim(t.Context(), a); err != nil || got.Outcome != store.Granted {
		t.Fatalf("claim: %+v, %v", got, err)
	}
	cutOff(t, c[0], c[3])
	change := store.Change{Session: id, Owner: a.Owner, Epoch: 1, Seq: 1}
	other := store.Change{Session: st.inBucket(len(st.buckets) - 1), Owner: a.Owner, Epoch: 1, Seq: 1, Create: true}
	for range 2 { // also when nothing is left to be written
		if got, err := st.Claim(t.Context(), a); err == nil || !strings.Contains(err.Error(), "0 of 1 replicas") {
			t.Errorf("claim: %+v, %v; want an error that says that 0 of 1 replicas have it", got, err)
		}
		rs, err := st.Apply(t.Context(), []store.Change{change, other})
		if err != nil {
			t.Fatal(err)
		}
		if rs[0].Outcome != store.Undecided || rs[0].Err == nil || !strings.Contains(rs[0].Err.Error(), "0 of 1 replicas") {
			t.Errorf("a change that is not confirmed: %+v", rs[0])
		}
		if rs[1].Outcome != store.Applied && rs[1].Outcome != store.Already {
			t.Errorf("a change to another server: %+v", rs[1])
		}
	}
	c[3].Thaw()
	outage.Until(t, "the replica is back", func() bool {
		got, err := st.Claim(t.Context(), a)
		return err == nil && got.Outcome == store.Granted && got.Header.Epoch == 1
	})
	apply(t, st, change, store.Already)
}

// What is lost without replicas that confirm: a claim that was acknowledged, when the master dies before its replica has it. The former
// owner is then the owner again, until somebody else claims; and two tenures have had one epoch. It is the incarnation that tells them apart.
func TestClaimLost(t *testing.T) {
	c := redisserver.StartCluster(t)
	st := open(t, c.URL(), fresh())
	id := st.inBucket(0)
	claim := func(node string) store.Header {
		t.Helper()
		got, err := st.Claim(t.Context(), store.ClaimRequest{Session: id, Owner: store.Owner{Node: node, Incarnation: store.NewIncarnation()}, Create: true})
		if err != nil || got.Outcome != store.Granted {
			t.Fatalf("claim: %+v, %v", got, err)
		}
		return got.Header
	}
	a := claim("a")
	c[0].Must(t, "WAIT", "1", "0")
	outage.Until(t, "the replica has it", func() bool {
		m, r := c[0].Must(t, "INFO", "replication"), c[3].Must(t, "INFO", "replication")
		return info(m, "master_repl_offset") == info(r, "slave_repl_offset")
	})
	cutOff(t, c[0], c[3])
	b := claim("b")
	c[0].Kill()
	c[3].Thaw()
	c[1:].FailsOver(t)
	promoted(t, c[3])
	outage.Until(t, "the store is there again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := st.Load(ctx, id)
		return err == nil
	})
	apply(t, st, store.Change{Session: id, Owner: a.Owner, Epoch: a.Epoch, Seq: 1}, store.Applied) // by the zombie: this is what Replicas is for
	d := claim("d")
	if d.Epoch != b.Epoch {
		t.Errorf("epochs are %d and %d: the test shows nothing", b.Epoch, d.Epoch)
	}
	apply(t, st, store.Change{Session: id, Owner: b.Owner, Epoch: b.Epoch, Seq: 1}, store.Fenced)
	apply(t, st, store.Change{Session: id, Owner: d.Owner, Epoch: d.Epoch, Seq: 1}, store.Applied)
}

// Changes that were acknowledged, and that the replica which takes over has not heard of, are written again: before the next change, of whatever
// session, or when somebody waits.
func TestFailoverForgets(t *testing.T) {
	for _, waits := range []bool{true, false} {
		t.Run(fmt.Sprint("waits=", waits), func(t *testing.T) {
			c := redisserver.StartCluster(t)
			st := open(t, c.URL(), fresh())
			id := st.inBucket(0)
			o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
			put := func(seq uint64, key string) store.Change {
				return store.Change{Session: id, Owner: o, Epoch: 1, Seq: seq, Create: seq == 1, Puts: []store.Entry{{Key: key, Value: []byte("v")}}}
			}
			apply(t, st, put(1, "replicated"), store.Applied)
			c[0].Must(t, "WAIT", "1", "0")
			cutOff(t, c[0], c[3])
			apply(t, st, put(2, "forgotten"), store.Applied)
			apply(t, st, put(3, "forgotten, too"), store.Applied)
			c[0].Kill()
			c[3].Thaw()
			c[1:].FailsOver(t)
			promoted(t, c[3])
			outage.Until(t, "the store is there again", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if waits {
					return st.Barrier(ctx) == nil
				}
				rs, err := st.Apply(ctx, []store.Change{put(4, "next")})
				return err == nil && rs[0].Outcome == store.Applied
			})
			snap, err := st.Load(t.Context(), id)
			want := 3
			if !waits {
				want = 4
			}
			if err != nil || len(snap.Entries) != want || snap.Header.Seq != uint64(want) {
				t.Errorf("there are %d entries, want %d: %+v, %v", len(snap.Entries), want, snap, err)
			}
		})
	}
}

func info(all, name string) string {
	for line := range strings.SplitSeq(all, "\r\n") {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return value
		}
	}
	return ""
}

// All buckets are moved to other servers, key by key, under load.
func TestResharding(t *testing.T) {
	for _, replicas := range []int{0, 1} {
		t.Run(fmt.Sprint("replicas=", replicas), func(t *testing.T) {
			c := redisserver.StartCluster(t)
			o := fresh()
			o.Buckets, o.Replicas = 6, replicas
			st := open(t, c.URL(), o)
			w := outage.Start(t, st)
			w.Progress(t, 100)
			for i := range st.buckets {
				n := slot(newTag(st.opt.Prefix, i, len(st.buckets)))
				from := n * 3 / slots
				move(t, c, n, c[from], c[(from+1)%3])
				w.Progress(t, 20)
			}
			outage.Until(t, "Health is well again", func() bool { return w.DB().Health().LastError == nil })
			w.Progress(t, 200)
			w.End(t, st)
			if n := w.Lost(); n > outage.Sessions {
				t.Errorf("%d losses were reported", n)
			}
		})
	}
}

// move moves a slot as redis-cli does.
func move(t testing.TB, c redisserver.Cluster, n int, from, to *redisserver.Server) {
	t.Helper()
	s, source, target := strconv.Itoa(n), from.Must(t, "CLUSTER", "MYID"), to.Must(t, "CLUSTER", "MYID")
	to.Must(t, "CLUSTER", "SETSLOT", s, "IMPORTING", source)
	from.Must(t, "CLUSTER", "SETSLOT", s, "MIGRATING", target)
	for {
		keys := from.Must(t, "CLUSTER", "GETKEYSINSLOT", s, "1")
		if keys == "" {
			break
		}
		from.Must(t, "MIGRATE", "127.0.0.1", strconv.Itoa(to.Port), keys, "0", "5000")
		time.Sleep(time.Millisecond) // so that calls find the bucket divided
	}
	to.Must(t, "CLUSTER", "SETSLOT", s, "NODE", target)
	for _, srv := range c[:3] {
		if srv != to {
			srv.Must(t, "CLUSTER", "SETSLOT", s, "NODE", target)
		}
	}
}
