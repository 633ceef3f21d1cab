package storetest

import (
	"math"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

var expiryRules = []rule{
	{"Expiry is an absolute time, checked at every read.", []testcase{
		{"at every read of an entry", func(k *kit) {
			a := k.own("s", "stays", "v")
			k.applied(expiring(a.change("past", "v"), anHourAgo()))
			k.applied(expiring(a.change("first", "v"), 1))
			k.applied(expiring(a.change("future", "v"), inAnHour()))
			keys := []string{"past", "first", "future", "stays"}
			k.holds("s", "stays", "v", "future", "v")
			k.same(k.load("s", keys...).Entries, "stays", "v", "future", "v")
			for _, r := range []store.ClaimRequest{{All: true}, {Keys: keys}} {
				r.Session, r.Owner = "s", newOwner("b")
				k.same(k.read(k.claim(r)), "stays", "v", "future", "v")
			}
		}},
		{"at every read of the main entry", func(k *kit) {
			a, at := k.own("s", "k", "v"), inAnHour()
			for _, v := range []string{"small", random(5000)} {
				k.applied(expiring(a.change("", v), at))
				es := k.load("s", "").Entries
				k.same(es, "", v)
				if es[0].Expires != at {
					k.fail("the expiry is %d, want %d", es[0].Expires, at)
				}
				k.applied(expiring(a.change("", v), anHourAgo()))
				k.holds("s", "k", "v")
				k.same(k.load("s", "").Entries)
				k.same(k.read(k.claim(store.ClaimRequest{Session: "s", Owner: a.owner, All: true})), "k", "v")
				k.applied(a.change("", v))
				k.holds("s", "k", "v", "", v)
			}
		}},
		{"it is kept to the millisecond", expiryIsExact},
		{"beyond what engines' clocks hold", func(k *kit) {
			a := k.own("s")
			for name, at := range map[string]store.Time{
				"2262": store.TimeOf(time.Date(2262, 4, 12, 0, 0, 0, 0, time.UTC)),
				"3000": store.TimeOf(time.Date(3000, 1, 1, 0, 0, 0, 1_000_000, time.UTC)),
				"9999": store.TimeOf(time.Date(9999, 12, 31, 23, 59, 59, 999_000_000, time.UTC)),
				"last": math.MaxInt64,
			} {
				k.applied(ending(expiring(a.change(name, "v"), at), at))
				s := k.load("s", name)
				k.same(s.Entries, name, "v")
				if s.Entries[0].Expires != at || s.Header.Expires != at {
					k.fail("%s: expiries are %d and %d, want %d", name, s.Entries[0].Expires, s.Header.Expires, at)
				}
				k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: a.owner})
			}
		}},
		{"a put replaces it", func(k *kit) {
			a := k.own("s")
			k.applied(expiring(a.change("k", "v"), inAnHour()))
			k.applied(a.change("k", "v"))
			if e := k.load("s", "k").Entries; len(e) != 1 || e[0].Expires != 0 {
				k.fail("entries are %+v after a put without expiry, want one that never ends", e)
			}
			k.applied(expiring(a.change("k", "v"), anHourAgo()))
			k.holds("s")
			k.applied(a.change("k", "again"))
			k.holds("s", "k", "again")
		}},
		{"a read does not move it", func(k *kit) {
			a, at := k.own("s"), inAnHour()
			k.applied(ending(expiring(a.change("k", "v"), at), at))
			for range 3 {
				s := k.load("s", "k")
				k.claim(store.ClaimRequest{Session: "s", Owner: newOwner("b"), Force: true, All: true})
				if s.Header.Expires != at || s.Entries[0].Expires != at {
					k.fail("expiries are %d and %d, want %d", s.Header.Expires, s.Entries[0].Expires, at)
				}
			}
		}},
	}},
	{"An entry is gone from its expiry on.", []testcase{
		{"an entry ends, and not early", func(k *kit) {
			a, at := k.own("s", "stays", "v"), store.TimeOf(time.Now().Add(300*time.Millisecond))
			k.applied(expiring(a.change("k", "v"), at))
			k.until("the entry is gone", func() bool {
				es := k.load("s", "k").Entries
				if len(es) == 0 && !at.Past(time.Now()) { // looked at after the read: slowness does no harm
					k.fail("the entry is gone %v early", time.Until(at.Std()))
				}
				return len(es) == 0
			})
			k.holds("s", "stays", "v")
		}},
	}},
	{"If it has expired, it is gone for its owner, too: who claims holds no extension.", []testcase{
		{"an owner that lives", func(k *kit) {
			a := k.own("s", "k", "v")
			k.alive(a.owner)
			k.applied(ending(a.change(), anHourAgo()))
			k.claims(store.NotFound, store.ClaimRequest{Session: "s", Owner: a.owner, All: true})
			c := k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: a.owner, Create: true, All: true})
			if !c.Created || c.Header.Epoch != a.epoch+1 || len(c.Entries) > 0 {
				k.fail("claim is %+v, want a new life at epoch %d, with nothing in it", c, a.epoch+1)
			}
		}},
	}},
	{"A session is gone from its expiry on, unless it is not released and its owner is alive (who may hold an extension that is not stored yet).", []testcase{
		{"it is released, and its last owner is alive", func(k *kit) {
			a := k.own("s", "k", "v")
			k.alive(a.owner)
			k.applied(releasing(ending(a.change(), anHourAgo())))
			k.claims(store.NotFound, store.ClaimRequest{Session: "s", Owner: newOwner("b"), Force: true})
			k.applied(creating(unclaimed("s", a.epoch+1).change("new", "life")))
			k.holds("s", "new", "life")
		}},
		{"its owner is dead", func(k *kit) {
			a := k.own("s", "k", "v")
			k.applied(ending(a.change(), anHourAgo()))
			k.claims(store.NotFound, store.ClaimRequest{Session: "s", Owner: newOwner("b"), All: true})
			k.claims(store.NotFound, store.ClaimRequest{Session: "s", Owner: newOwner("b"), Force: true})
		}},
		{"its owner is alive", func(k *kit) {
			a := k.own("s", "k", "v")
			k.alive(a.owner)
			k.applied(ending(a.change(), anHourAgo()))
			k.claims(store.Held, store.ClaimRequest{Session: "s", Owner: newOwner("b")})
			k.claims(store.Held, store.ClaimRequest{Session: "s", Owner: newOwner("b"), Create: true})
			k.gets(store.Fenced, creating(unclaimed("s", a.epoch+1).change("k", "new")))
			k.applied(ending(a.change(), inAnHour())) // the extension arrives
			k.dead(a.owner)
			c := k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: newOwner("b"), All: true})
			k.same(k.read(c), "k", "v")
		}},
		{"its owner is alive, and is robbed", func(k *kit) {
			a := k.own("s", "k", "v")
			k.alive(a.owner)
			k.applied(ending(a.change(), anHourAgo()))
			c := k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: newOwner("b"), Force: true, All: true})
			k.same(k.read(c), "k", "v")
		}},
		{"it ends, and not early", func(k *kit) {
			a, at := k.own("s", "k", "v"), store.TimeOf(time.Now().Add(300*time.Millisecond))
			k.applied(ending(a.change(), at))
			k.until("the session is gone", func() bool {
				c := k.claim(store.ClaimRequest{Session: "s", Owner: newOwner("b")})
				if c.Outcome == store.NotFound && !at.Past(time.Now()) {
					k.fail("the session is gone %v early", time.Until(at.Std()))
				}
				return c.Outcome == store.NotFound
			})
		}},
	}},
}

// expiring gives all of a change's puts an expiry.
func expiring(c store.Change, at store.Time) store.Change {
	for i := range c.Puts {
		c.Puts[i].Expires = at
	}
	return c
}

func expiryIsExact(k *kit) {
	a := k.own("s")
	for range 3 {
		for ms := range store.Time(3) {
			at := inAnHour()/1000*1000 + 998 + ms // across a second's end
			k.applied(ending(expiring(a.change("k", "v"), at), at))
			s := k.load("s")
			if len(s.Entries) != 1 || s.Entries[0].Expires != at || s.Header.Expires != at {
				k.fail("snapshot is %+v, want expiries %d", s, at)
			}
			if h := k.walk(store.Query{})["s"]; h.Expires != at {
				k.fail("walk has expiry %d, want %d", h.Expires, at)
			}
		}
	}
}
