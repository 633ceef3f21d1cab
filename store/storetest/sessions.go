package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

var sessionsRules = []rule{
	{"Sessions walks the headers of sessions, those that are not deleted.", []testcase{
		{"those that are there", func(k *kit) {
			a, b := k.own("a", "k", "v"), k.own("b")
			gone, free, ended := k.own("gone", "k", "v"), k.own("free"), k.own("ended", "k", "v")
			k.applied(erasing(gone.change()))
			k.applied(creating(erasing(unclaimed("never", 3).change())))
			k.applied(k.naming(versioned(ending(a.change(), inAnHour()), 7), "x", "y"))
			k.applied(releasing(free.change()))
			k.alive(ended.owner)
			k.applied(ending(ended.change(), anHourAgo())) // its owner may hold an extension
			hs := k.walk(store.Query{})
			if len(hs) != 4 {
				k.fail("the walk has %d sessions, want 4: %v", len(hs), hs)
			}
			for _, id := range []string{a.session, b.session, free.session, ended.session} {
				k.sameHeader(hs[id], k.load(id).Header)
			}
		}},
		{"of one owner", func(k *kit) {
			a := k.own("a", "k", "v")
			k.own("other")
			for _, id := range []string{"b", "c"} {
				k.claims(store.Granted, store.ClaimRequest{Session: id, Owner: a.owner, Create: true})
			}
			k.ownedBy(a.owner, "a", "b", "c")
			k.ownedBy(newOwner("nobody"))
			b := k.take("b")
			k.ownedBy(a.owner, "a", "c")
			k.ownedBy(b.owner, "b")
			k.applied(erasing(a.change()))
			k.ownedBy(a.owner, "c")
			k.applied(creating(a.change()))
			k.ownedBy(a.owner, "a", "c")
			k.applied(creating((&tenure{session: "d", owner: a.owner, epoch: 1}).change()))
			k.ownedBy(a.owner, "a", "c", "d")
		}},
		{"of one owner, released", func(k *kit) {
			a := k.own("a", "k", "v")
			k.applied(releasing(a.change()))
			k.ownedBy(a.owner, "a")
			k.take("a")
			k.ownedBy(a.owner)
		}},
		{"of the owner, not of the node", func(k *kit) {
			a := k.own("a")
			next := newOwner(a.owner.Node)
			k.claims(store.Granted, store.ClaimRequest{Session: "b", Owner: next, Create: true})
			k.ownedBy(a.owner, "a")
			k.ownedBy(next, "b")
		}},
	}},
	{"A session that exists throughout the walk, and matches q throughout, is yielded once. There is no order.", []testcase{
		{"while all are written to", func(k *kit) {
			ts := k.many(300)
			n := 0
			seen := map[string]bool{}
			for h, err := range k.st.Sessions(k.ctx, store.Query{}) {
				switch {
				case err != nil:
					k.fail("the walk gives error %v", err)
				case seen[h.Session]:
					k.fail("session %q is yielded twice", h.Session)
				}
				seen[h.Session] = true
				for range 3 {
					t := ts[n%len(ts)]
					k.applied(t.change("k", random(n%2000)))
					n += 7
				}
			}
			if len(seen) != len(ts) {
				k.fail("the walk has %d sessions of %d", len(seen), len(ts))
			}
		}},
		{"while others come and go", func(k *kit) {
			ts := k.many(200)
			seen := map[string]int{}
			for h, err := range k.st.Sessions(k.ctx, store.Query{Owner: ts[0].owner.Incarnation}) {
				if err != nil {
					k.fail("the walk gives error %v", err)
				}
				seen[h.Session]++
				o := k.own(fmt.Sprint("session/", len(seen), "/new"), "k", "v")
				if len(seen)%2 == 0 {
					k.applied(erasing(o.change()))
				}
			}
			for _, t := range ts {
				if seen[t.session] != 1 {
					k.fail("session %q is yielded %d times", t.session, seen[t.session])
				}
			}
		}},
	}},
	{"Any method may be called during the walk, on the yielded session too.", []testcase{
		{"on the yielded session", changedInWalk},
		{"a walk in a walk, and both ended early", func(k *kit) {
			k.many(20)
			for range k.st.Sessions(k.ctx, store.Query{}) {
				for range k.st.Sessions(k.ctx, store.Query{}) {
					break
				}
				if n := len(k.walk(store.Query{})); n != 20 {
					k.fail("the inner walk has %d sessions of 20", n)
				}
				break
			}
			k.applied(creating(unclaimed("another", 1).change()))
		}},
		{"leases", func(k *kit) {
			k.many(20)
			for h := range k.st.Sessions(k.ctx, store.Query{}) {
				k.alive(h.Owner)
				k.nodes()
			}
		}},
		{"Close", closedInWalk},
	}},
	{"A walk that could not see everything ends with an error as its last pair: no error means complete.", []testcase{
		{"cancelled in between", func(k *kit) {
			const all = 1500 // more than a store reads at once
			k.many(all)
			for _, after := range []int{1, 1000} {
				ctx, cancel := context.WithCancel(k.ctx)
				defer cancel()
				seen := map[string]bool{}
				var last error
				for h, err := range k.st.Sessions(ctx, store.Query{}) {
					switch {
					case last != nil:
						k.fail("the walk goes on after error %v", last)
					case err == nil && seen[h.Session]:
						k.fail("session %q is yielded twice", h.Session)
					case err == nil:
						seen[h.Session] = true
					}
					if last = err; len(seen) == after {
						cancel()
					}
				}
				if last == nil && len(seen) != all || last != nil && !errors.Is(last, context.Canceled) {
					k.fail("the walk has %d sessions of %d and error %v", len(seen), all, last)
				}
			}
		}},
	}},
}

// many makes sessions of one owner.
func (k *kit) many(n int) []*tenure {
	k.t.Helper()
	o := newOwner("many")
	ts, cs := make([]*tenure, n), make([]store.Change, n)
	for i := range n {
		ts[i] = &tenure{session: fmt.Sprint("session/", i), owner: o, epoch: 1}
		cs[i] = creating(ts[i].change("k", "v"))
	}
	for _, r := range k.apply(cs...) {
		if r.Outcome != store.Applied {
			k.fail("result is %+v, want applied", r)
		}
	}
	return ts
}

func (k *kit) ownedBy(o store.Owner, ids ...string) {
	k.t.Helper()
	hs := k.walk(store.Query{Owner: o.Incarnation})
	for _, id := range ids {
		if hs[id].Owner.Incarnation != o.Incarnation {
			k.fail("the walk of an owner has not its session %q, but %v", id, hs)
		}
	}
	if len(hs) != len(ids) {
		k.fail("the walk of an owner has %v, want %q", hs, ids)
	}
}

// changedInWalk does to each session, as it is yielded, one of the things that can be done.
func changedInWalk(k *kit) {
	ts, seen := map[string]*tenure{}, map[string]bool{}
	for _, t := range k.many(120) {
		ts[t.session] = t
	}
	for h, err := range k.st.Sessions(k.ctx, store.Query{}) {
		if err != nil || seen[h.Session] || ts[h.Session] == nil {
			k.fail("the walk gives %+v, error %v; seen before: %v", h, err, seen[h.Session])
		}
		t := ts[h.Session]
		switch len(seen) % 5 {
		case 0:
			k.applied(erasing(t.change()))
		case 1:
			k.take(h.Session)
		case 2:
			k.applied(t.change("k", "changed", "another", random(3000)))
		case 3:
			k.applied(erasing(t.change()))
			k.applied(creating(t.change("k", "again")))
		case 4:
			k.holds(h.Session, "k", "v")
		}
		seen[h.Session] = true
	}
	if len(seen) != len(ts) {
		k.fail("the walk has %d sessions of %d", len(seen), len(ts))
	}
	if n := len(k.walk(store.Query{})); n != len(ts)*4/5 {
		k.fail("after it %d sessions are left, want %d", n, len(ts)*4/5)
	}
}

// closedInWalk must not wait for itself.
func closedInWalk(k *kit) {
	k.many(50)
	done := make(chan struct{})
	go func() {
		defer close(done)
		n := 0
		var last error
		for _, err := range k.st.Sessions(k.ctx, store.Query{}) {
			if last = err; err == nil {
				n++
			}
			if err := k.st.Close(); err != nil {
				k.complain("Close gives error %v", err)
			}
		}
		if last == nil && n != 50 || last != nil && !errors.Is(last, store.ErrClosed) {
			k.complain("the walk has %d sessions of 50 and error %v", n, last)
		}
	}()
	select {
	case <-done:
	case <-time.After(patience / 2):
		k.fail("Close during a walk does not return")
	}
}
