package storetest

import (
	"fmt"

	"github.com/seed-6f1f505d/kvstore/store"
)

var repeatRules = []rule{
	{"If h has the change's incarnation and epoch and at least its seq, the change is Already there: nothing is written.", []testcase{
		{"a repeated change", func(k *kit) {
			for i, kind := range k.kinds() {
				a := k.own(fmt.Sprint("s", i), "k", "v", "l", "w")
				c := kind.of(a)
				k.applied(c)
				k.already(c)
			}
		}},
		{"a late twin, of every kind", func(k *kit) {
			for i, kind := range k.kinds() {
				a := k.own(fmt.Sprint("s", i), "k", "v", "l", "w")
				twin := kind.of(a) // timed out, and still on its way
				k.applied(k.naming(ending(a.change("k", "newer"), inAnHour()), "x of "+a.session))
				k.already(twin)
				k.holds(a.session, "k", "newer", "l", "w")
			}
		}},
		{"a late twin, after every kind", func(k *kit) {
			for i, kind := range k.kinds() {
				a := k.own(fmt.Sprint("s", i), "k", "v", "l", "w")
				put, drop := a.change("k", "twin", "m", "twin"), dropping(a.change(), "l")
				create, erase := creating(a.change("k", "twin")), erasing(a.change())
				k.applied(kind.of(a))
				for _, twin := range []store.Change{put, drop, create, erase} {
					k.already(twin)
				}
			}
		}},
		{"a late release", func(k *kit) {
			a := k.own("s", "k", "v")
			k.alive(a.owner)
			late := releasing(a.change())
			k.applied(a.change("k", "stays"))
			k.already(late)
			k.claims(store.Held, store.ClaimRequest{Session: "s", Owner: newOwner("b")})
		}},
		{"a late deletion does not end the next life", func(k *kit) {
			a := k.own("s", "k", "v")
			late := erasing(a.change())
			k.applied(erasing(a.change()))
			k.applied(creating(a.change("k", "next life")))
			k.already(late)
			k.holds("s", "k", "next life")
		}},
		{"a late put does not reach the next life", func(k *kit) {
			a := k.own("s", "k", "v")
			late := a.change("l", "late")
			k.applied(erasing(a.change()))
			k.already(late)
			k.applied(creating(a.change("k", "next life")))
			k.already(late)
			k.holds("s", "k", "next life")
		}},
		{"a creation whose answer was lost", func(k *kit) {
			a := unclaimed("s", 1)
			c := creating(a.change("k", "v"))
			k.applied(c)
			k.already(c)
			k.applied(a.change("k", "next"))
			k.already(c)
			k.holds("s", "k", "next")
		}},
		{"an earlier attempt to create", func(k *kit) {
			a := unclaimed("s", 1)
			late := born(a.change("k", "late"), 1)
			k.applied(born(a.change("k", "v"), 1))
			k.already(late)
		}},
		{"the claim's seq 0 is below every change", func(k *kit) {
			k.own("s", "k", "v")
			b := k.take("s")
			c := b.change("k", "first")
			k.applied(c)
			k.already(c)
		}},
		{"of an earlier tenure it is fenced instead", func(k *kit) {
			a := k.own("s", "k", "v")
			c := a.change("k", "stored")
			k.applied(c)
			k.take("s")
			k.gets(store.Fenced, c)
		}},
	}},
}

// already repeats a change, and changes with its number that say something else.
func (k *kit) already(c store.Change) {
	k.t.Helper()
	k.unchanged(c.Session, "a late twin", func() {
		k.gets(store.Already, c)
		other := store.Change{Session: c.Session, Owner: c.Owner, Epoch: c.Epoch, Seq: c.Seq}
		k.gets(store.Already, other)
		other.Puts = []store.Entry{{Key: "twin", Value: []byte("twin")}}
		k.gets(store.Already, other)
	})
}
