package storetest

import (
	"fmt"

	"github.com/seed-6f1f505d/kvstore/store"
)

var fenceRules = []rule{
	{"Everything else is Fenced, and Header is h: in particular a change to an absent session that does not create, whatever its epoch.", []testcase{
		{"absent", func(k *kit) {
			for i, kind := range k.kinds() {
				for _, epoch := range []uint64{1, 2, 1 << 40} {
					c := kind.of(unclaimed(fmt.Sprint("s", i), epoch))
					if c.Create {
						continue
					}
					if r := k.gets(store.Fenced, c); r.Header.Epoch != 0 {
						k.fail("%s: header is %+v, want that of an absent session", kind.name, r.Header)
					}
					k.absent(c.Session)
				}
			}
			if hs := k.walk(store.Query{}); len(hs) > 0 {
				k.fail("the walk has %v", hs)
			}
		}},
		{"taken over", func(k *kit) {
			a := k.lived()
			b := k.take("s")
			k.applied(k.naming(versioned(ending(b.change("k", "new"), inAnHour()), 8), "y"))
			k.fencesAll(a)
		}},
		{"taken over, and nothing written yet", func(k *kit) {
			a := k.lived()
			k.take("s")
			k.fencesAll(a)
		}},
		{"taken over twice", func(k *kit) {
			a := k.lived()
			b := k.take("s")
			k.take("s")
			k.fencesAll(a)
			k.fencesAll(b)
		}},
		{"taken over, and given up since", func(k *kit) {
			a := k.lived()
			k.applied(releasing(k.take("s").change()))
			k.fencesAll(a)
		}},
		{"taken over, and expired since", func(k *kit) {
			a := k.lived()
			k.applied(ending(k.take("s").change(), anHourAgo()))
			k.fencesAll(a)
		}},
		{"taken over, and deleted since", func(k *kit) {
			a := k.lived()
			k.applied(erasing(k.take("s").change()))
			k.fencesAll(a)
		}},
		{"deleted, and made again by another", func(k *kit) {
			a := k.lived()
			k.applied(erasing(a.change()))
			k.own("s", "k", "second life")
			k.fencesAll(a)
		}},
		{"while the zombie's lease runs", func(k *kit) {
			a := k.lived()
			k.alive(a.owner)
			k.take("s")
			k.fencesAll(a)
		}},
		{"released and claimed again by the same owner", func(k *kit) {
			a := k.lived()
			k.applied(releasing(a.change()))
			k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: a.owner})
			k.fencesAll(a)
		}},
		{"a creation of what another made", func(k *kit) {
			a := k.own("s", "k", "first")
			for _, epoch := range []uint64{a.epoch, a.epoch + 1, a.epoch + 100} { // dead or not, it is there
				k.fencesAll(unclaimed("s", epoch))
			}
			k.applied(releasing(a.change()))
			k.fencesAll(unclaimed("s", a.epoch+1))
		}},
		{"a creation of what expired under a living owner", func(k *kit) {
			a := k.own("s", "k", "v")
			k.alive(a.owner)
			k.applied(ending(a.change(), anHourAgo()))
			k.fencesAll(unclaimed("s", a.epoch+1))
		}},
		{"the header tells by whom", func(k *kit) {
			a := k.lived()
			b := k.take("s")
			k.applied(k.naming(versioned(ending(b.change(), inAnHour()), 8), "y", "z"))
			r := k.gets(store.Fenced, a.change())
			k.sameHeader(r.Header, k.load("s").Header)
		}},
	}},
	{"Incarnation and epoch are compared for equality, as a pair.", []testcase{
		{"the same epoch of another incarnation", func(k *kit) {
			a := k.own("s", "k", "v")
			b := unclaimed("s", a.epoch)
			b.owner.Node = a.owner.Node // the name proves nothing
			k.fencesAll(b)
		}},
		{"the same epoch of another incarnation, deleted", func(k *kit) {
			a := k.own("s", "k", "v")
			k.applied(erasing(a.change()))
			k.fencesAll(unclaimed("s", a.epoch))
		}},
		{"another epoch of the same incarnation", func(k *kit) {
			a := k.claimed(store.ClaimRequest{Session: "s", Owner: newOwner("a"), Create: true, Epoch: 10})
			k.applied(a.change("k", "v"))
			for _, epoch := range []uint64{1, 9, 11, 1 << 40} {
				k.fencesAll(&tenure{session: "s", owner: a.owner, epoch: epoch, seq: a.seq})
			}
		}},
		{"incarnations that differ in one bit", func(k *kit) {
			a := k.own("s", "k", "v")
			for i := range a.owner.Incarnation {
				b := *a
				b.owner.Incarnation[i] ^= 0x80
				k.gets(store.Fenced, b.change("k", "late"))
			}
			k.holds("s", "k", "v")
		}},
		{"incarnations of awkward bytes", func(k *kit) {
			for i, b := range []byte{0, '\'', '/', 0x80, 0xff} {
				o := store.Owner{Node: "a", Incarnation: store.Incarnation{b, b, b, 1}}
				a := k.claimed(store.ClaimRequest{Session: fmt.Sprint("s", i), Owner: o, Create: true})
				k.applied(a.change("k", "v"))
				if h := k.walk(store.Query{Owner: o.Incarnation})[a.session]; h.Owner != o {
					k.fail("owner is %v, want %v", h.Owner, o)
				}
			}
		}},
	}},
}

// fencesAll lets a tenure that is over, or never was, try everything: with a low
// seq, its next one, and one far above.
func (k *kit) fencesAll(z *tenure) {
	k.t.Helper()
	for _, kind := range k.kinds() {
		for _, seq := range []uint64{0, z.seq, z.seq + 1<<40} {
			t := *z
			t.seq = seq
			c := kind.of(&t)
			k.unchanged(z.session, "a fenced "+kind.name, func() {
				r := k.gets(store.Fenced, c)
				k.sameHeader(r.Header, k.load(z.session).Header)
			})
		}
	}
}
