package storetest

import (
	"fmt"
	"slices"

	"github.com/seed-6f1f505d/kvstore/store"
)

var applyRules = []rule{
	{"If h has the change's incarnation and epoch, and is not deleted, the change is Applied.", []testcase{
		{"every kind", func(k *kit) {
			for i, kind := range k.kinds() {
				a := k.own(fmt.Sprint("s", i), "k", "v")
				k.applied(kind.of(a))
				if h := k.load(a.session).Header; h.Seq != a.seq || h.Epoch != a.epoch {
					k.fail("%s: header is %+v, want epoch %d, seq %d", kind.name, h, a.epoch, a.seq)
				}
			}
		}},
		{"numbers may be left out", func(k *kit) {
			a := k.own("s", "k", "v")
			a.seq += 100
			k.applied(a.change("k", "next"))
			k.holds("s", "k", "next")
		}},
		{"its lease is over", func(k *kit) {
			a := k.own("s", "k", "v")
			k.alive(a.owner)
			k.dead(a.owner)
			k.applied(a.change("k", "mine until someone claims it"))
		}},
		{"the session is expired", func(k *kit) {
			a := k.own("s", "k", "v")
			k.applied(ending(a.change(), anHourAgo()))
			k.applied(ending(a.change("l", "w"), inAnHour()))
			k.holds("s", "k", "v", "l", "w")
		}},
		{"the session is released", func(k *kit) {
			a := k.own("s", "k", "v")
			k.applied(releasing(a.change()))
			k.applied(a.change("k", "mine again"))
			if k.load("s").Header.Released {
				k.fail("the session is still released")
			}
			k.alive(a.owner)
			k.claims(store.Held, store.ClaimRequest{Session: "s", Owner: newOwner("b")})
		}},
		{"a creating change to a session that is there", func(k *kit) {
			a := k.own("s", "k", "v")
			k.applied(creating(a.change("l", "w")))
			k.holds("s", "k", "v", "l", "w")
		}},
		{"a creating change to its expired session", func(k *kit) {
			a := k.own("s", "k", "v")
			k.applied(ending(a.change(), anHourAgo()))
			k.applied(creating(ending(a.change("l", "w"), inAnHour())))
			k.holds("s", "k", "v", "l", "w")
		}},
		{"the node's name differs", func(k *kit) {
			a := k.own("s", "k", "v")
			a.owner.Node = "renamed"
			k.applied(a.change("k", "w"))
		}},
	}},
	{"If h has them and a seq below the change's Birth, h is not of the session that the change is about to make, but of one from before, or that a claim made: Fenced. A new session has a new epoch.", []testcase{
		{"made by a claim whose answer was lost", func(k *kit) {
			a := k.own("s")
			c := wiping(a.change("k", "new"))
			k.unchanged("s", "a creation", func() { k.gets(store.Fenced, born(c, c.Seq)) })
		}},
		{"adopted by a claim whose answer was lost", func(k *kit) {
			k.own("s", "k", "v")
			a := k.take("s")
			c := wiping(a.change("k", "new"))
			k.unchanged("s", "a creation", func() { k.gets(store.Fenced, born(c, c.Seq)) })
		}},
		{"released by its creator", func(k *kit) {
			a := k.own("s", "k", "v")
			k.applied(releasing(a.change()))
			c := a.change("k", "new")
			k.unchanged("s", "a creation", func() { k.gets(store.Fenced, born(wiping(c), c.Seq)) })
		}},
		{"a later attempt of the same creation", func(k *kit) {
			a := unclaimed("s", 1)
			k.applied(born(a.change("k", "v"), 1))
			k.applied(born(a.change("l", "w"), 1))
			k.holds("s", "k", "v", "l", "w")
		}},
		{"over the creator's own tombstone", func(k *kit) {
			a := k.own("s", "k", "v")
			k.applied(erasing(a.change()))
			c := a.change("l", "w")
			k.unchanged("s", "a creation", func() { k.gets(store.Fenced, born(c, c.Seq)) })
		}},
	}},
	{"Applied, the header has the change's seq, Released, expiry, aliases and schema;", []testcase{
		{"the header", func(k *kit) {
			a, at := k.own("s", "k", "v"), inAnHour()
			k.applied(k.naming(versioned(ending(a.change(), at), 7), "x", "y"))
			want := store.Header{Session: "s", Owner: a.owner, Epoch: a.epoch, Seq: a.seq, Expires: at, Aliases: k.aliases("x", "y"), Schema: 7}
			k.sameHeader(k.load("s").Header, want)
			k.sameHeader(k.walk(store.Query{})["s"], want)
			k.applied(releasing(a.change("k", "last")))
			want = store.Header{Session: "s", Owner: a.owner, Epoch: a.epoch, Seq: a.seq, Released: true}
			k.sameHeader(k.load("s").Header, want)
			k.holds("s", "k", "last")
			k.applied(a.change())
			want.Seq, want.Released = a.seq, false
			k.sameHeader(k.load("s").Header, want)
			k.holds("s", "k", "last")
		}},
	}},
	{"Wipe removes all entries before Puts; Deletes of absent keys are no error.", []testcase{
		{"puts and deletes", func(k *kit) {
			a := k.own("s", "a", "1", "b", "2", "c", "3")
			k.applied(dropping(a.change("a", "new", "d", "4"), "b", "none", ""))
			k.holds("s", "a", "new", "c", "3", "d", "4")
			k.applied(dropping(a.change(), "b"))
			k.applied(dropping(a.change(), "a", "c", "d"))
			k.holds("s")
			if !k.load("s").Header.Exists() {
				k.fail("the session went with its last entry")
			}
		}},
		{"wipe", func(k *kit) {
			a := k.own("s", "a", "1", "ab", "2", "", "3")
			other := k.own("sx", "a", "other")
			k.applied(wiping(a.change("ab", "new", "z", "26")))
			k.holds("s", "ab", "new", "z", "26")
			k.applied(dropping(wiping(a.change("y", "25")), "none"))
			k.holds("s", "y", "25")
			k.applied(wiping(a.change()))
			k.holds("s")
			k.holds(other.session, "a", "other")
		}},
		{"a deleted key's expiry is forgotten", func(k *kit) {
			a := k.own("s")
			k.applied(expiring(a.change("k", "v"), anHourAgo()))
			k.applied(dropping(a.change(), "k"))
			k.applied(a.change("k", "again"))
			k.holds("s", "k", "again")
		}},
		{"values of all lengths replace each other", func(k *kit) {
			a := k.own("s")
			for _, n := range []int{10, 0, 5000, 1, 200_000, 10, 70_000, 0} {
				v := random(n)
				k.applied(a.change("k", v, "l", v, "", v))
				k.holds("s", "k", v, "l", v, "", v)
			}
		}},
	}},
	{"A change that can never be applied (too large, malformed) is Rejected, with Err, and with Keys if single entries are to blame. Nothing of it is written.", []testcase{
		{"long keys", func(k *kit) {
			a, b := k.own("s", "k", "v"), k.own("other")
			long, longer := string(make([]byte, store.MaxKey+1)), string(make([]byte, 2*store.MaxKey))
			bad := a.change("k", "new", long, "v", "good", "v")
			bad.Deletes = []string{longer, "also good"}
			k.unchanged("s", "a rejected change", func() {
				rs := k.apply(creating(unclaimed("new", 1).change("k", "v")), bad, b.change("k", "v"))
				k.blames(rs[1], long, longer)
				if rs[0].Outcome != store.Applied || rs[2].Outcome != store.Applied {
					k.fail("the changes beside it are %v and %v, want applied", rs[0].Outcome, rs[2].Outcome)
				}
			})
			a.seq = bad.Seq - 1 // nothing of it is written: its number is still free
			k.applied(a.change("good", "v"))
			k.holds("s", "k", "v", "good", "v")
			k.holds("other", "k", "v")
			k.holds("new", "k", "v")
		}},
		{"a key twice", func(k *kit) {
			a := k.own("s", "k", "v")
			for _, n := range []int{2, 3, 15, 100} {
				for _, key := range []string{"", "k", "key/1"} {
					c := a.change(key, "new")
					for i := range n {
						c.Puts = append(c.Puts, store.Entry{Key: fmt.Sprint("key/", i+10), Value: []byte("v")})
					}
					put, deleted := c, c
					put.Puts = append(slices.Clone(c.Puts), store.Entry{Key: key, Value: []byte("newer")})
					deleted.Deletes = []string{"other", key}
					k.unchanged("s", "a rejected change", func() {
						k.blames(k.gets(store.Rejected, put), key)
						k.blames(k.gets(store.Rejected, deleted), key)
					})
					k.applied(wiping(c))
				}
			}
		}},
		{"malformed changes", func(k *kit) {
			a := k.own("s", "k", "v")
			for what, spoil := range map[string]func(c *store.Change){
				"no session":                     func(c *store.Change) { c.Session = "" },
				"a long session ID":              func(c *store.Change) { c.Session = string(make([]byte, store.MaxSession+1)) },
				"nobody as owner":                func(c *store.Change) { c.Owner = store.Owner{} },
				"epoch 0":                        func(c *store.Change) { c.Epoch = 0 },
				"seq 0":                          func(c *store.Change) { c.Seq = 0 },
				"too high an epoch":              func(c *store.Change) { c.Epoch = store.MaxEpoch + 1 },
				"too high a seq":                 func(c *store.Change) { c.Seq = store.MaxEpoch + 1 },
				"a deleted session with puts":    func(c *store.Change) { c.Delete = true },
				"a deleted session with deletes": func(c *store.Change) { c.Delete, c.Puts, c.Deletes = true, nil, []string{"k"} },
			} {
				c := creating(a.change("k", "new"))
				spoil(&c)
				k.unchanged("s", what, func() {
					if r := k.gets(store.Rejected, c); r.Err == nil || len(r.Keys) > 0 {
						k.fail("%s: result is %+v, want an Err and no Keys", what, r)
					}
				})
			}
			if n := len(k.walk(store.Query{})); n != 1 {
				k.fail("the walk has %d sessions, want 1", n)
			}
		}},
	}},
	{"Undecided means that this change's outcome is unknown, as for an error.", []testcase{
		{"a store that works decides", func(k *kit) {
			a := k.own("s", "k", "v")
			for _, r := range k.apply(a.change(), unclaimed("none", 1).change(), creating(unclaimed("new", 1).change())) {
				if r.Outcome == store.Undecided {
					k.fail("result is %+v though nothing failed", r)
				}
			}
		}},
	}},
}

// blames checks a rejection for which single entries are to blame.
func (k *kit) blames(r store.Result, keys ...string) {
	k.t.Helper()
	slices.Sort(r.Keys)
	slices.Sort(keys)
	if r.Outcome != store.Rejected || r.Err == nil || !slices.Equal(r.Keys, keys) {
		k.fail("result is %v with error %v for %d keys, want rejected for %d", r.Outcome, r.Err, len(r.Keys), len(keys))
	}
}
