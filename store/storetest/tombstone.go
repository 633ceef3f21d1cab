package storetest

import (
	"fmt"
	"slices"

	"github.com/seed-6f1f505d/kvstore/store"
)

var tombstoneRules = []rule{
	{"If h has them and is deleted, only a change that deletes or creates is Applied.", []testcase{
		{"every kind", func(k *kit) {
			for i, kind := range k.kinds() {
				a := k.own(fmt.Sprint("s", i), "k", "v")
				k.applied(erasing(a.change()))
				c := kind.of(a)
				if c.Create || c.Delete {
					k.applied(c)
					continue
				}
				k.unchanged(a.session, kind.name, func() {
					r := k.gets(store.Fenced, c)
					k.sameHeader(r.Header, k.load(a.session).Header)
				})
			}
		}},
		{"created again by its owner", func(k *kit) {
			a := k.lived()
			k.applied(erasing(a.change()))
			k.applied(creating(a.change("new", "v")))
			k.sameHeader(k.load("s").Header, store.Header{Session: "s", Owner: a.owner, Epoch: a.epoch, Seq: a.seq})
			k.holds("s", "new", "v")
			k.applied(a.change("k", "v"))
			k.holds("s", "new", "v", "k", "v")
		}},
	}},
	{"If h is deleted, or gone by expiry, a change that creates, with an epoch above h's, is Applied, and nothing of the former life remains.", []testcase{
		{"absent", func(k *kit) {
			for _, epoch := range []uint64{1, 2, 1 << 40} {
				a := unclaimed(fmt.Sprint("s", epoch), epoch)
				a.seq = epoch // it need not begin with 1
				k.applied(k.naming(versioned(ending(creating(a.change("k", "v")), inAnHour()), 7), "x of "+a.session))
				if h := k.load(a.session).Header; h.Epoch != epoch || h.Seq != a.seq || h.Owner != a.owner || h.Schema != 7 || !slices.Equal(h.Aliases, k.aliases("x of "+a.session)) {
					k.fail("header is %+v, want that of the change", h)
				}
				k.holds(a.session, "k", "v")
				k.applied(a.change("l", "w"))
			}
		}},
		{"deleted", func(k *kit) {
			a := k.lived()
			k.applied(erasing(a.change()))
			k.recreates(a)
		}},
		{"deleted by a living owner", func(k *kit) {
			a := k.lived()
			k.alive(a.owner)
			k.applied(erasing(a.change()))
			k.recreates(a)
		}},
		{"expired", func(k *kit) {
			a := k.lived()
			k.applied(ending(a.change(), anHourAgo()))
			k.recreates(a)
		}},
		{"only one of many creators", func(k *kit) {
			a := k.own("s", "k", "v")
			k.applied(erasing(a.change()))
			won := 0
			for range 5 {
				b := unclaimed("s", a.epoch+1)
				if k.apply(creating(b.change("k", "v")))[0].Outcome == store.Applied {
					won++
				}
			}
			if won != 1 {
				k.fail("%d creators were applied at one epoch", won)
			}
		}},
	}},
	{"A change that deletes leaves a tombstone: a header that keeps owner, epoch and seq, and no entries.", []testcase{
		{"a tombstone", func(k *kit) {
			a := k.lived()
			k.applied(erasing(a.change()))
			h := k.load("s").Header
			if !h.Deleted || h.Exists() || h.Owner != a.owner || h.Epoch != a.epoch || h.Seq != a.seq {
				k.fail("header is %+v, want a tombstone of epoch %d, seq %d", h, a.epoch, a.seq)
			}
			k.holds("s")
			k.same(k.load("s", "k", "", "a/b").Entries)
			if hs := k.walk(store.Query{}); len(hs) > 0 {
				k.fail("the walk has %v", hs)
			}
			k.applied(erasing(a.change())) // again, with the next number
			if h := k.load("s").Header; !h.Deleted || h.Seq != a.seq {
				k.fail("header is %+v, want a tombstone of seq %d", h, a.seq)
			}
		}},
		{"of one session only", func(k *kit) {
			a := k.own("s", "k", "v")
			k.own("s/", "k", "v")
			k.own("s\x00", "k", "v")
			k.applied(erasing(a.change()))
			k.holds("s/", "k", "v")
			k.holds("s\x00", "k", "v")
		}},
	}},
	{"If it also creates, it leaves one where nothing was, so that a creation that is still on its way finds it.", []testcase{
		{"made and deleted unseen", func(k *kit) {
			a := unclaimed("s", 1)
			late := creating(a.change("k", "v"))
			k.applied(creating(erasing(a.change())))
			if h := k.load("s").Header; !h.Deleted || h.Owner != a.owner || h.Epoch != 1 || h.Seq != 2 {
				k.fail("header is %+v, want a tombstone of epoch 1, seq 2", h)
			}
			k.gets(store.Already, late)
			k.holds("s")
			if hs := k.walk(store.Query{}); len(hs) > 0 {
				k.fail("the walk has %v", hs)
			}
			k.gets(store.Fenced, creating(unclaimed("s", 1).change("k", "v")))
			k.applied(creating(unclaimed("s", 2).change("k", "v")))
		}},
		{"above an older tombstone", func(k *kit) {
			a := k.lived()
			k.applied(erasing(a.change()))
			b := unclaimed("s", a.epoch+1)
			late := creating(b.change("k", "v"))
			k.applied(creating(erasing(b.change())))
			k.gets(store.Already, late)
			k.gets(store.Fenced, creating(a.change("k", "v")))
			if h := k.load("s").Header; !h.Deleted || h.Epoch != b.epoch {
				k.fail("header is %+v, want a tombstone of epoch %d", h, b.epoch)
			}
		}},
		{"above an expired session", func(k *kit) {
			a := k.lived()
			k.applied(ending(a.change(), anHourAgo()))
			b := unclaimed("s", a.epoch+1)
			k.applied(creating(erasing(b.change())))
			if h := k.load("s").Header; !h.Deleted || h.Owner != b.owner || h.Epoch != b.epoch {
				k.fail("header is %+v, want a tombstone of epoch %d", h, b.epoch)
			}
			k.holds("s")
			k.fencesAll(a)
		}},
		{"never where another's session is", func(k *kit) {
			a := k.own("s", "k", "v")
			k.gets(store.Fenced, creating(erasing(unclaimed("s", a.epoch+1).change())))
			k.holds("s", "k", "v")
		}},
	}},
	{"A tombstone outlives the longest outage and the longest retry.", []testcase{
		{"it is there after other work", func(k *kit) {
			a := k.lived()
			k.alive(a.owner)
			k.applied(erasing(a.change()))
			k.dead(a.owner)
			for i := range 50 {
				t := k.own(fmt.Sprint("other", i), "k", random(2000))
				k.applied(erasing(t.change()))
			}
			k.fencesAll(&tenure{session: "s", owner: newOwner("b"), epoch: a.epoch})
			k.gets(store.Fenced, a.change("k", "late"))
			if t := k.own("s"); t.epoch != a.epoch+1 {
				k.fail("epoch is %d, want %d", t.epoch, a.epoch+1)
			}
		}},
	}},
}

// recreates makes session "s", which is over, by a change of its own.
func (k *kit) recreates(former *tenure) {
	k.t.Helper()
	for epoch := range former.epoch + 1 {
		if epoch > 0 {
			k.gets(store.Fenced, creating(unclaimed("s", epoch).change("k", "late")))
		}
	}
	b := unclaimed("s", former.epoch+1)
	k.applied(creating(b.change("new", "v")))
	k.sameHeader(k.load("s").Header, store.Header{Session: "s", Owner: b.owner, Epoch: b.epoch, Seq: b.seq})
	k.holds("s", "new", "v")
	k.fencesAll(former)
}
