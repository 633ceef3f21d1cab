package storetest

import (
	"slices"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

var claimRules = []rule{
	{"A session that is released, or whose owner has no lease that runs, is granted.", []testcase{
		{"released", func(k *kit) {
			a := k.own("s", "k", "v")
			k.alive(a.owner)
			k.applied(releasing(a.change("k", "last")))
			c := k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: newOwner("b"), All: true})
			k.same(k.read(c), "k", "last")
		}},
		{"lease ended", func(k *kit) {
			a := k.own("s", "k", "v")
			k.alive(a.owner)
			k.dead(a.owner)
			c := k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: newOwner("b"), All: true})
			k.same(k.read(c), "k", "v")
		}},
		{"lease ran out", func(k *kit) {
			a := k.own("s", "k", "v")
			k.lease(a.owner, 40*time.Millisecond)
			k.until("the lease is over", func() bool {
				return k.claim(store.ClaimRequest{Session: "s", Owner: newOwner("b")}).Outcome == store.Granted
			})
			k.gets(store.Fenced, a.change("k", "late"))
		}},
		{"lease never known", func(k *kit) {
			a := k.own("s", "k", "v")
			b := k.claimed(store.ClaimRequest{Session: "s", Owner: newOwner("b")})
			k.gets(store.Fenced, a.change("k", "late"))
			k.applied(b.change("k", "next"))
			k.holds("s", "k", "next")
		}},
		{"by a claimant without a lease, while others have theirs", func(k *kit) {
			k.own("s", "k", "v")
			k.alive(newOwner("other"))
			k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: newOwner("b")})
		}},
	}},
	{"A session whose owner's lease runs is Held, and Holder tells by whom; with Force it is granted all the same.", []testcase{
		{"held", func(k *kit) {
			a := k.own("s", "k", "v")
			k.alive(a.owner)
			for _, r := range []store.ClaimRequest{{}, {Create: true}, {Epoch: a.epoch + 7}, {All: true}} {
				r.Session, r.Owner = "s", newOwner("b")
				k.unchanged("s", "a claim that is held", func() {
					k.held(k.claims(store.Held, r), a)
				})
			}
			k.applied(a.change("k", "still mine"))
		}},
		{"held after a claim", func(k *kit) {
			k.own("s", "k", "v")
			b := k.take("s")
			k.alive(b.owner)
			k.held(k.claims(store.Held, store.ClaimRequest{Session: "s", Owner: newOwner("c")}), b)
		}},
		{"another incarnation of the same node holds it", func(k *kit) {
			a := k.own("s", "k", "v")
			k.alive(a.owner)
			k.claims(store.Held, store.ClaimRequest{Session: "s", Owner: newOwner(a.owner.Node)})
		}},
		{"force", func(k *kit) {
			a := k.own("s", "k", "v")
			k.alive(a.owner)
			b := newOwner("b")
			c := k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: b, Force: true, All: true})
			k.same(k.read(c), "k", "v")
			if c.Header.Owner != b || c.Created {
				k.fail("claim is %+v, want owner %v, and not created", c, b)
			}
			k.gets(store.Fenced, a.change("k", "late"))
		}},
	}},
	{"A session that its claimant owns already is granted at the epoch it has, so that a claim whose answer was lost can be repeated.", []testcase{
		{"repeated", func(k *kit) {
			k.own("s", "k", "v")
			b := k.take("s")
			k.alive(b.owner)
			for _, r := range []store.ClaimRequest{{}, {Force: true}, {Create: true}, {Epoch: b.epoch}, {Epoch: b.epoch + 9}} {
				r.Session, r.Owner, r.All = "s", b.owner, true
				k.unchanged("s", "a repeated claim", func() {
					c := k.claims(store.Granted, r)
					k.same(k.read(c), "k", "v")
					k.sameHeader(c.Header, k.load("s").Header)
					if c.Created {
						k.fail("Claim(%+v) says that it made the session", r)
					}
				})
			}
		}},
		{"repeated after a write", func(k *kit) {
			a := k.own("s", "k", "v")
			c := k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: a.owner})
			if c.Header.Epoch != a.epoch || c.Header.Seq != a.seq {
				k.fail("header is %+v, want epoch %d, seq %d", c.Header, a.epoch, a.seq)
			}
			k.applied(a.change("k", "next"))
		}},
		{"repeated creation", func(k *kit) {
			r := store.ClaimRequest{Session: "s", Owner: newOwner("a"), Create: true}
			first, second := k.claims(store.Granted, r), k.claims(store.Granted, r)
			k.sameHeader(second.Header, first.Header)
		}},
		{"not after a release", func(k *kit) {
			a := k.own("s", "k", "v")
			k.applied(releasing(a.change()))
			c := k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: a.owner})
			if c.Header.Epoch <= a.epoch {
				k.fail("a released session is granted at epoch %d, want one above %d", c.Header.Epoch, a.epoch)
			}
		}},
	}},
	{"The epoch is raised before the entries are read: no write of the former owner can land after what Claim returned.", []testcase{
		{"a late write", func(k *kit) {
			a := k.own("s", "k", "v")
			late := a.change("k", "late")
			c := k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: newOwner("b"), Force: true, All: true})
			k.gets(store.Fenced, late)
			k.same(k.read(c), "k", "v")
			k.holds("s", "k", "v")
		}},
	}},
	{"A new tenure starts with seq 0, not released, and keeps expiry, aliases and schema.", []testcase{
		{"a grant", func(k *kit) {
			a, at := k.own("s", "k", "v"), inAnHour()
			k.applied(releasing(k.naming(versioned(ending(a.change(), at), 7), "x", "y")))
			b := newOwner("b")
			c := k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: b})
			want := store.Header{Session: "s", Owner: b, Epoch: a.epoch + 1, Expires: at, Aliases: k.aliases("x", "y"), Schema: 7}
			k.sameHeader(c.Header, want)
			k.sameHeader(k.load("s").Header, want)
			t := &tenure{session: "s", owner: b, epoch: c.Header.Epoch}
			k.applied(t.change("k", "seq 1"))
		}},
	}},
	{"Entries holds those of the named keys (or all) that exist.", []testcase{
		{"none, some or all", func(k *kit) {
			a := k.own("s", "a", "1", "ab", "2", "b", "3")
			read := func(all bool, keys ...string) []store.Entry {
				return k.read(k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: a.owner, All: all, Keys: keys}))
			}
			k.same(read(false))
			k.same(read(false, "a", "c"), "a", "1")
			k.same(read(false, "b", "ab"), "ab", "2", "b", "3")
			k.same(read(true), "a", "1", "ab", "2", "b", "3")
			a = k.take("s") // now at a raised epoch, too
			k.same(read(false, "", "b"), "b", "3")
		}},
		{"with their expiry", func(k *kit) {
			a, at := k.own("s"), inAnHour()
			k.applied(expiring(a.change("k", "v"), at))
			es := k.read(k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: newOwner("b"), Keys: []string{"k"}}))
			if !slices.EqualFunc(es, k.load("s").Entries, func(a, b store.Entry) bool { return a.Expires == b.Expires }) || es[0].Expires != at {
				k.fail("entries are %+v, want expiry %d", es, at)
			}
		}},
	}},
}

// held checks a claim that was refused for the sake of a living owner.
func (k *kit) held(c store.Claim, by *tenure) {
	k.t.Helper()
	h := c.Holder
	if h.Name != by.owner.Node || h.Incarnation != by.owner.Incarnation || h.Addr != by.owner.Node+":1" || h.Lease <= 0 {
		k.fail("holder is %+v, want %v with its address and a running lease", h, by.owner)
	}
	if c.Header.Owner != by.owner || c.Header.Epoch != by.epoch || len(c.Entries) > 0 {
		k.fail("claim is %+v, want the header on record and no entries", c)
	}
}
