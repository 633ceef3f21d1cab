package etcd

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

// counter counts the round trips of a client.
type counter struct {
	clientv3.KV
	n atomic.Int64
}

func (c *counter) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	c.n.Add(1)
	return c.KV.Get(ctx, key, opts...)
}

func (c *counter) Txn(ctx context.Context) clientv3.Txn {
	c.n.Add(1)
	return c.KV.Txn(ctx)
}

// A call takes the round trips that its comment says.
func TestRoundTrips(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	st := open(t, c.url(), fresh())
	count := &counter{KV: st.client.KV}
	st.client.KV = count
	takes := func(what string, want int, do func()) {
		t.Helper()
		count.n.Store(0)
		if do(); count.n.Load() != int64(want) {
			t.Errorf("%s takes %d round trips, want %d", what, count.n.Load(), want)
		}
	}
	a, b := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}, store.Owner{Node: "b", Incarnation: store.NewIncarnation()}
	const many = 1500
	changes := func(seq uint64, key string) []store.Change {
		cs := make([]store.Change, many)
		for i := range cs {
			cs[i] = store.Change{Session: fmt.Sprint(i), Owner: a, Epoch: 1, Seq: seq, Create: seq == 1, Puts: []store.Entry{{Key: key, Value: []byte("v")}}}
		}
		return cs
	}
	one := func(c store.Change) func() { return func() { apply(t, st, c, store.Applied) } }
	all := func(cs []store.Change) func() {
		return func() {
			rs, err := st.Apply(t.Context(), cs)
			if err != nil || slices.ContainsFunc(rs, func(r store.Result) bool { return r.Outcome != store.Applied }) {
				t.Errorf("Apply: %v", err)
			}
		}
	}
	claim := func(r store.ClaimRequest, want store.ClaimOutcome) func() {
		return func() {
			if c, err := st.Claim(t.Context(), r); err != nil || c.Outcome != want {
				t.Errorf("Claim(%+v) gives %+v, %v; want %v", r, c, err, want)
			}
		}
	}
	main, keyed := []store.Entry{{Value: []byte("v")}}, []store.Entry{{Key: "k", Value: []byte("v")}, {Value: []byte("v")}}
	takes("a creation", 1, one(store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 1, Create: true, Puts: main}))
	takes("a flush", 1, one(store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 2, Puts: main}))
	takes("the first flush of another entry", 2, one(store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 3, Puts: keyed}))
	takes("the next one", 1, one(store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 4, Puts: keyed}))
	takes("one of the main entry", 1, one(store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 5, Puts: main}))
	takes("one of nothing but the header", 1, one(store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 6}))
	takes("a claim that creates", 1, claim(store.ClaimRequest{Session: "t", Owner: a, Create: true, All: true}, store.Granted))
	takes("a flush after it", 1, one(store.Change{Session: "t", Owner: a, Epoch: 1, Seq: 1, Puts: main}))
	takes("a claim of an orphan", 2, claim(store.ClaimRequest{Session: "s", Owner: b, All: true}, store.Granted))
	takes("a flush after it", 1, one(store.Change{Session: "s", Owner: b, Epoch: 2, Seq: 1, Puts: keyed}))
	takes("a page of a range", 1, func() {
		if p, err := st.LoadRange(t.Context(), "s", store.Range{From: "k", Limit: 2}); err != nil || len(p.Entries) != 1 {
			t.Errorf("LoadRange: %+v, %v", p, err)
		}
	})
	takes("a deletion", 1, one(store.Change{Session: "s", Owner: b, Epoch: 2, Seq: 2, Delete: true}))
	named := store.Change{Session: "u", Owner: a, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"x", "y"}}
	takes("a creation that names aliases", 2, one(named))
	named.Seq, named.Create, named.Puts = 2, false, main
	takes("a flush that names the same", 1, one(named))
	named.Seq, named.Aliases = 3, []string{"y", "z"}
	takes("a flush that names others", 3, one(named))
	takes("a look-up", 2, func() {
		if h, err := st.Lookup(t.Context(), "z"); err != nil || h.Session != "u" {
			t.Errorf("Lookup: %+v, %v", h, err)
		}
	})
	takes("a deletion of a session with aliases", 2, one(store.Change{Session: "u", Owner: a, Epoch: 1, Seq: 4, Delete: true}))
	takes("many creations", 3, all(changes(1, "")))
	takes("many flushes", 2, all(changes(2, "")))

	rs := make([]store.ClaimRequest, 400)
	for i := range rs {
		rs[i] = store.ClaimRequest{Session: fmt.Sprint(many - 1 - i), Owner: b, All: true}
	}
	takes("many claims", 2, func() {
		cs, err := st.ClaimAll(t.Context(), rs)
		if err != nil || slices.ContainsFunc(cs, func(c store.Claim) bool { return c.Outcome != store.Granted || len(c.Entries) != 1 }) {
			t.Errorf("ClaimAll: %v", err)
		}
	})

	// Orphans that were listed are claimed at once.
	if _, err := st.KeepAlive(t.Context(), store.Node{Incarnation: b.Incarnation}, time.Hour); err != nil {
		t.Fatal(err)
	}
	n := 0
	const some = 100
	takes("a walk over an owner's sessions", 2+some, func() {
		for h, err := range st.Sessions(t.Context(), store.Query{Owner: a.Incarnation}) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n > some {
				continue
			}
			claim(store.ClaimRequest{Session: h.Session, Owner: b, All: true}, store.Granted)()
		}
	})
	if n != many+1-len(rs) {
		t.Errorf("the walk has %d sessions, want %d", n, many+1-len(rs))
	}
}

// What a walk saw may be another thing when it is claimed.
func TestClaimAfterWalk(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	o := fresh()
	st, other := open(t, c.url(), o), open(t, c.url(), o)
	a, b := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}, store.Owner{Node: "b", Incarnation: store.NewIncarnation()}
	walk := func() {
		t.Helper()
		n := 0
		for _, err := range st.Sessions(t.Context(), store.Query{Owner: a.Incarnation}) {
			if n++; err != nil {
				t.Fatal(err)
			}
		}
		if n != 1 {
			t.Fatalf("the walk has %d sessions", n)
		}
	}
	claim := func(r store.ClaimRequest, want store.ClaimOutcome, epoch uint64) {
		t.Helper()
		r.Session, r.All = "s", true
		if c, err := st.Claim(t.Context(), r); err != nil || c.Outcome != want || c.Header.Epoch != epoch {
			t.Errorf("Claim(%+v) gives %+v, %v; want %v at epoch %d", r, c, err, want, epoch)
		}
	}
	change := store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 1, Create: true, Release: true, Expires: store.TimeOf(time.Now().Add(-time.Hour))}
	apply(t, other, change, store.Applied)
	walk() // it has expired, and is released
	change.Seq, change.Release, change.Expires = 2, false, 0
	apply(t, other, change, store.Applied)
	claim(store.ClaimRequest{Owner: b}, store.Granted, 2)

	change = store.Change{Session: "s", Owner: b, Epoch: 2, Seq: 1, Delete: true}
	apply(t, other, change, store.Applied)
	apply(t, other, store.Change{Session: "s", Owner: a, Epoch: 3, Seq: 1, Create: true}, store.Applied)
	walk() // it is an orphan
	if _, err := other.KeepAlive(t.Context(), store.Node{Name: "a", Incarnation: a.Incarnation}, time.Hour); err != nil {
		t.Fatal(err)
	}
	claim(store.ClaimRequest{Owner: b}, store.Held, 3)
	walk()
	apply(t, other, store.Change{Session: "s", Owner: a, Epoch: 3, Seq: 2, Delete: true}, store.Applied)
	claim(store.ClaimRequest{Owner: b}, store.NotFound, 3)
	claim(store.ClaimRequest{Owner: b, Create: true}, store.Granted, 4)
}
