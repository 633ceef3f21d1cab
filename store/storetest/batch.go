package storetest

import (
	"fmt"

	"github.com/seed-6f1f505d/kvstore/store"
)

var batchRules = []rule{
	{"Each change is atomic and stands alone: that one is refused or fails says nothing of the others.", []testcase{
		{"every outcome in one call", func(k *kit) {
			live, gone, taken, old := k.own("live", "k", "v"), k.own("gone"), k.own("taken", "k", "v"), k.own("old", "k", "v")
			k.applied(erasing(gone.change()))
			b := k.take("taken")
			twin := old.change("k", "twin")
			k.applied(old.change("k", "newer"))
			cs := []store.Change{
				taken.change("k", "zombie"),
				live.change("k", "w"),
				unclaimed("none", 1).change("k", "v"),
				creating(unclaimed("new", 1).change("k", "v")),
				twin,
				unclaimed("bad", 0).change("k", "v"),
				gone.change("k", "v"),
				creating(unclaimed("taken elsewhere", 5).change("k", "v")),
			}
			want := []store.Outcome{store.Fenced, store.Applied, store.Fenced, store.Applied, store.Already, store.Rejected, store.Fenced, store.Applied}
			k.results(want, cs)
			k.holds("live", "k", "w")
			k.holds("new", "k", "v")
			k.holds("taken elsewhere", "k", "v")
			k.holds("taken", "k", "v")
			k.holds("old", "k", "newer")
			k.holds("gone")
			k.absent("none")
			k.absent("bad")
			k.applied(b.change("k", "mine"))
		}},
		{"a change is written whole", func(k *kit) {
			a := k.own("s", "drop", "v")
			var kv []string
			for i := range 500 {
				kv = append(kv, fmt.Sprint("key/", i), fmt.Sprint(i))
			}
			k.applied(dropping(a.change(kv...), "drop"))
			k.holds("s", kv...)
			k.take("s")
			k.gets(store.Fenced, wiping(a.change("key/1", "zombie", "late", "zombie")))
			k.holds("s", kv...)
		}},
	}},
	{"Changes of one session in one call are applied in their order.", []testcase{
		{"a session in many changes", func(k *kit) {
			ts := []*tenure{k.own("a", "k", "v"), k.own("b", "k", "v"), k.own("c", "k", "v")}
			var cs []store.Change
			var want []store.Outcome
			for i := range 200 {
				cs = append(cs, ts[i%3].change("k", fmt.Sprint(i), fmt.Sprint("key/", i%7), "v"))
				want = append(want, store.Applied)
			}
			k.results(want, cs)
			for i, t := range ts {
				k.same(k.load(t.session, "k").Entries, "k", fmt.Sprint(199-(199-i)%3))
			}
		}},
		{"made, deleted and made again", func(k *kit) {
			a := unclaimed("s", 1)
			first := creating(a.change("k", "first"))
			cs := []store.Change{first, erasing(a.change()), creating(a.change("l", "second")), first}
			k.results([]store.Outcome{store.Applied, store.Applied, store.Applied, store.Already}, cs)
			k.holds("s", "l", "second")
		}},
	}},
	{"It returns one result per change, in their order.", []testcase{
		{"none", func(k *kit) { k.apply() }},
		{"many", manyChanges},
		{"in their order, not that of the sessions", func(k *kit) {
			var cs []store.Change
			var want []store.Outcome
			for _, id := range []string{"m", "z", "a", "y", "b", "x"} {
				t := k.own(id, "k", "v")
				want = append(want, store.Applied)
				if id < "m" {
					k.take(id)
					want[len(want)-1] = store.Fenced
				}
				cs = append(cs, t.change("k", "w"))
			}
			for i, r := range k.results(want, cs) {
				if r.Outcome == store.Fenced && r.Header.Session != cs[i].Session {
					k.fail("result %d is of session %q, want %q", i, r.Header.Session, cs[i].Session)
				}
			}
		}},
	}},
}

func (k *kit) results(want []store.Outcome, cs []store.Change) []store.Result {
	k.t.Helper()
	rs := k.apply(cs...)
	for i, r := range rs {
		if r.Outcome != want[i] {
			k.fail("result %d of %d, for %s, is %v, want %v", i, len(rs), describe(cs[i]), r.Outcome, want[i])
		}
		if r.Outcome == store.Fenced {
			k.sameHeader(r.Header, k.load(cs[i].Session).Header)
		}
	}
	return rs
}

// manyChanges exceeds the numbers of parameters, operations and keys that engines take in one request.
func manyChanges(k *kit) {
	const n, owners = 2000, 7
	ts, cs, want := make([]*tenure, n), make([]store.Change, n), make([]store.Outcome, n)
	for i := range n {
		ts[i] = unclaimed(fmt.Sprint("session/", i), 1)
		ts[i].owner = ts[i%owners].owner
		cs[i], want[i] = creating(ts[i].change("k", fmt.Sprint(i), "", "main")), store.Applied
	}
	k.results(want, cs)
	if got := len(k.walk(store.Query{})); got != n {
		k.fail("the walk has %d sessions, want %d", got, n)
	}
	for i := range n {
		switch cs[i] = ts[i].change("k", "next"); i % 4 {
		case 1:
			cs[i], want[i] = erasing(ts[i].change()), store.Applied
		case 2:
			cs[i], want[i] = unclaimed(cs[i].Session, 1).change("k", "late"), store.Fenced
		case 3:
			cs[i].Seq, want[i] = 1, store.Already
		}
	}
	k.results(want, cs)
	for i := 0; i < n; i += 97 {
		switch id := cs[i].Session; i % 4 {
		case 0:
			k.holds(id, "k", "next", "", "main")
		case 1:
			k.holds(id)
		default:
			k.holds(id, "k", fmt.Sprint(i), "", "main")
		}
	}
}
