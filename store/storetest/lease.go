package storetest

import (
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

var leaseRules = []rule{
	{"KeepAlive says that n.Incarnation lives, for ttl from now on the store's clock, and returns whether its lease ran until now.", []testcase{
		{"it ran", func(k *kit) {
			a := newOwner("a")
			k.alive(a)
			for _, ttl := range []time.Duration{time.Hour, time.Minute, 0} {
				if !k.lease(a, ttl) {
					k.fail("a lease that runs is said not to have run, with a ttl of %v", ttl)
				}
			}
		}},
		{"and no longer", func(k *kit) {
			a := k.own("s")
			began := time.Now()
			const ttl = 60 * time.Millisecond
			k.lease(a.owner, ttl)
			k.until("the lease is over", func() bool {
				c := k.claim(store.ClaimRequest{Session: "s", Owner: newOwner("b")})
				if c.Outcome == store.Granted && time.Since(began) < ttl {
					k.fail("a lease of %v is over after %v", ttl, time.Since(began))
				}
				return c.Outcome == store.Granted
			})
		}},
		{"renewed, it runs from the renewal", func(k *kit) {
			a := k.own("s")
			k.lease(a.owner, 30*time.Millisecond)
			k.alive(a.owner)
			other := newOwner("other") // its lease ends after a's first one would have
			k.lease(other, 30*time.Millisecond)
			k.until("the other lease is over", func() bool { return len(k.nodes()) == 1 })
			k.claims(store.Held, store.ClaimRequest{Session: "s", Owner: newOwner("b")})
		}},
		{"a shorter ttl shortens it", func(k *kit) {
			a := k.own("s")
			k.alive(a.owner)
			k.lease(a.owner, 30*time.Millisecond)
			k.until("the lease is over", func() bool {
				return k.claim(store.ClaimRequest{Session: "s", Owner: newOwner("b")}).Outcome == store.Granted
			})
		}},
	}},
	{"If it did not, because it is the first, was over, was ended by whomever, or is not known any more, others may have claimed its sessions meanwhile.", []testcase{
		{"the first", func(k *kit) {
			k.alive(newOwner("another"))
			if k.lease(newOwner("a"), time.Hour) {
				k.fail("the first lease is said to have run before")
			}
		}},
		{"over", func(k *kit) {
			a := k.own("s")
			k.lease(a.owner, 30*time.Millisecond)
			k.until("the lease is over", func() bool {
				return k.claim(store.ClaimRequest{Session: "s", Owner: newOwner("b")}).Outcome == store.Granted
			})
			if k.lease(a.owner, time.Hour) {
				k.fail("a lease is said to have run that did not keep others from a claim")
			}
		}},
		{"ended", func(k *kit) {
			a := newOwner("a")
			k.alive(a)
			k.dead(a)
			if k.lease(a, 0) || k.lease(a, time.Hour) {
				k.fail("a lease that was ended is said to have run")
			}
		}},
	}},
	{"It replaces what was known of that incarnation, and no other's lease.", []testcase{
		{"it replaces", func(k *kit) {
			a := k.own("s")
			k.alive(a.owner)
			n := store.Node{Name: "renamed", Incarnation: a.owner.Incarnation, Addr: "[::1]:5060", Weight: 7}
			if _, err := k.st.KeepAlive(k.ctx, n, time.Hour); err != nil {
				k.fail("KeepAlive gives error %v", err)
			}
			ns := k.nodes()
			got := ns["renamed"]
			if got.Lease = 0; got != n || len(ns) != 1 {
				k.fail("nodes are %+v, want only %+v", ns, n)
			}
			holder := k.claims(store.Held, store.ClaimRequest{Session: "s", Owner: newOwner("b")}).Holder
			if holder.Lease = 0; holder != n {
				k.fail("holder is %+v, want %+v", holder, n)
			}
		}},
		{"others keep theirs", func(k *kit) {
			a, b := k.own("a"), k.own("b")
			k.alive(a.owner)
			k.alive(b.owner)
			k.dead(a.owner)
			k.claims(store.Granted, store.ClaimRequest{Session: "a", Owner: newOwner("c")})
			k.claims(store.Held, store.ClaimRequest{Session: "b", Owner: newOwner("c")})
		}},
		{"incarnations of one node are strangers", func(k *kit) {
			a := k.own("a")
			next := newOwner(a.owner.Node)
			k.alive(next)
			k.claims(store.Granted, store.ClaimRequest{Session: "a", Owner: newOwner("c")})
			b := k.own("b")
			k.alive(b.owner)
			k.dead(store.Owner{Node: b.owner.Node, Incarnation: next.Incarnation})
			k.claims(store.Held, store.ClaimRequest{Session: "b", Owner: newOwner("c")})
		}},
		{"it touches no session", func(k *kit) {
			a := k.own("s", "k", "v")
			k.unchanged("s", "KeepAlive", func() { k.alive(a.owner); k.dead(a.owner) })
		}},
	}},
	{"A ttl of zero or less ends the lease at once.", []testcase{
		{"zero or less", func(k *kit) {
			for _, ttl := range []time.Duration{0, -1, -time.Hour} {
				a := k.own("s")
				k.alive(a.owner)
				k.claims(store.Held, store.ClaimRequest{Session: "s", Owner: newOwner("b")})
				k.lease(a.owner, ttl)
				if ns := k.nodes(); len(ns) > 0 {
					k.fail("nodes are %+v after a ttl of %v", ns, ttl)
				}
				k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: newOwner("b")})
			}
		}},
		{"of a lease that never was", func(k *kit) {
			k.dead(newOwner("nobody"))
			if ns := k.nodes(); len(ns) > 0 {
				k.fail("nodes are %+v", ns)
			}
		}},
	}},
	{"A lease that is over may be renewed: leases are hints, epochs decide.", []testcase{
		{"renewed after it ended", func(k *kit) {
			a := k.own("s", "k", "v")
			k.alive(a.owner)
			k.dead(a.owner)
			k.alive(a.owner)
			k.held(k.claims(store.Held, store.ClaimRequest{Session: "s", Owner: newOwner("b")}), a)
		}},
		{"renewed after it ran out", func(k *kit) {
			a := k.own("s", "k", "v")
			k.lease(a.owner, time.Millisecond)
			k.until("the lease is over", func() bool { return len(k.nodes()) == 0 })
			k.alive(a.owner)
			k.held(k.claims(store.Held, store.ClaimRequest{Session: "s", Owner: newOwner("b")}), a)
		}},
		{"a renewal brings no session back", func(k *kit) {
			a := k.own("s", "k", "v")
			k.take("s")
			k.alive(a.owner)
			k.fencesAll(a)
		}},
	}},
	{"A node whose lease is running is there; one whose lease is over may be.", []testcase{
		{"those that live", func(k *kit) {
			want := map[string]store.Node{}
			for _, name := range []string{"a", "b", "c", ""} {
				n := store.Node{Name: name, Incarnation: store.NewIncarnation(), Addr: name + ".example:5060", Weight: len(name)}
				if _, err := k.st.KeepAlive(k.ctx, n, time.Hour); err != nil {
					k.fail("KeepAlive gives error %v", err)
				}
				want[name] = n
			}
			k.dead(store.Owner{Node: "b", Incarnation: want["b"].Incarnation})
			delete(want, "b")
			ns := k.nodes()
			if len(ns) != len(want) {
				k.fail("nodes are %+v, want %+v", ns, want)
			}
			for name, n := range want {
				got := ns[name]
				if got.Lease <= 0 || got.Lease > time.Hour+time.Second { // a clock may tick in seconds
					k.fail("an hour's lease has %v left", got.Lease)
				}
				if got.Lease = 0; got != n {
					k.fail("node is %+v, want %+v", got, n)
				}
			}
		}},
	}},
}
