package storetest

import "github.com/seed-6f1f505d/kvstore/store"

var claimCreateRules = []rule{
	{"A session that is absent, deleted or gone is NotFound; with Create it is granted empty and Created is set, and nothing of its former life remains.", []testcase{
		{"absent", func(k *kit) {
			for _, r := range []store.ClaimRequest{{}, {Force: true}, {Epoch: 3}, {All: true, Keys: []string{"k"}}} {
				r.Session, r.Owner = "s", newOwner("a")
				k.notFound(r)
				k.absent("s")
			}
			k.createdEmpty(1)
		}},
		{"absent, and a refused claim leaves nothing", func(k *kit) {
			r := store.ClaimRequest{Session: "s", Owner: newOwner("a")}
			k.notFound(r)
			k.gets(store.Fenced, (&tenure{session: "s", owner: r.Owner, epoch: 1}).change("k", "v"))
			if hs := k.walk(store.Query{}); len(hs) > 0 {
				k.fail("the walk has %v", hs)
			}
		}},
		{"deleted", func(k *kit) {
			a := k.lived()
			k.applied(erasing(a.change()))
			k.unchanged("s", "a claim that finds nothing", func() {
				k.notFound(store.ClaimRequest{Session: "s", Owner: newOwner("b"), Force: true, All: true})
				k.notFound(store.ClaimRequest{Session: "s", Owner: a.owner, All: true})
			})
			k.createdEmpty(a.epoch + 1)
			k.gets(store.Fenced, a.change("k", "late"))
			k.gets(store.Fenced, creating(a.change("k", "late")))
		}},
		{"deleted by a living owner", func(k *kit) {
			a := k.lived()
			k.alive(a.owner)
			k.applied(erasing(a.change()))
			k.notFound(store.ClaimRequest{Session: "s", Owner: newOwner("b")})
			k.createdEmpty(a.epoch + 1)
		}},
		{"created again by the owner who deleted it", func(k *kit) {
			a := k.lived()
			k.applied(erasing(a.change()))
			c := k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: a.owner, Create: true})
			if !c.Created || c.Header.Epoch != a.epoch+1 || c.Header.Seq != 0 {
				k.fail("claim is %+v, want created at epoch %d", c, a.epoch+1)
			}
			k.gets(store.Fenced, a.change("k", "late"))
			k.holds("s")
		}},
		{"expired, its owner dead", func(k *kit) {
			a := k.lived()
			k.applied(k.naming(versioned(ending(a.change(), anHourAgo()), 7), "x"))
			k.unchanged("s", "a claim that finds nothing", func() {
				k.notFound(store.ClaimRequest{Session: "s", Owner: newOwner("b"), All: true})
				k.notFound(store.ClaimRequest{Session: "s", Owner: newOwner("b"), Force: true, Keys: []string{"k"}})
			})
			k.createdEmpty(a.epoch + 1)
			k.gets(store.Fenced, a.change("k", "late"))
		}},
		{"expired and released by a dead owner", func(k *kit) {
			a := k.lived()
			k.applied(releasing(ending(a.change(), anHourAgo())))
			k.notFound(store.ClaimRequest{Session: "s", Owner: newOwner("b")})
			k.createdEmpty(a.epoch + 1)
		}},
		{"a created one can be written to", func(k *kit) {
			a := k.claimed(store.ClaimRequest{Session: "s", Owner: newOwner("a"), Create: true})
			k.applied(a.change("k", "v"))
			k.holds("s", "k", "v")
		}},
		{"an existing one is not created", func(k *kit) {
			k.own("s", "k", "v")
			c := k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: newOwner("b"), Create: true, All: true})
			if c.Created {
				k.fail("the claim says that it made the session")
			}
			k.same(k.read(c), "k", "v")
		}},
	}},
}

// lived makes session "s", to which everything happened that could leave something behind.
func (k *kit) lived() *tenure {
	k.t.Helper()
	k.own("s", "k", "v", "", "main")
	a := k.take("s")
	k.applied(k.naming(versioned(ending(a.change("a/b", "v"), inAnHour()), 7), "x"))
	return a
}

func (k *kit) notFound(r store.ClaimRequest) {
	k.t.Helper()
	if c := k.claims(store.NotFound, r); c.Created || len(c.Entries) > 0 {
		k.fail("Claim(%+v) is not found, yet gives %+v", r, c)
	}
}

// createdEmpty claims session "s" for a new owner, as a new session at the epoch.
func (k *kit) createdEmpty(epoch uint64) {
	k.t.Helper()
	o := newOwner("creator")
	c := k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: o, Create: true, All: true, Keys: []string{"k", ""}})
	if !c.Created || len(c.Entries) > 0 {
		k.fail("claim is %+v, want created and empty", c)
	}
	want := store.Header{Session: "s", Owner: o, Epoch: epoch}
	k.sameHeader(c.Header, want)
	k.sameHeader(k.load("s").Header, want)
	k.holds("s")
	k.same(k.load("s", "k", "", "a/b").Entries)
}
