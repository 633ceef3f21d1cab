package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Path is a way to an engine on which what is sent can be held back: a proxy.
type Path interface {
	Hang(deaf bool) // from now on no answer arrives, and if deaf, no request
	Heal()          // what was held back arrives, though its sender may be gone
}

const (
	saysNoneArrives = "An error means that the outcome is unknown: the call may have been applied, may be applied later, or never."
	arrivals        = 3   // that are enough
	someRounds      = 20  // after which one is
	arrivalRounds   = 200 // after which none is a failure
)

// LateArrival has flushes arrive late at a real engine. through is a store whose connections go over the path, direct one on the same engine whose do
// not. A flush is held back until its caller has given up; meanwhile another owner claims the session, reads and writes it; then the flush arrives. Nothing of
// it may be there, then or later. In other rounds nobody claims the session: there it must be written in the end, at least now and then, or the test fails,
// since it shows nothing.
func LateArrival(t T, direct, through store.Store, path Path) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	k := &kit{t: t, st: direct, ctx: ctx, says: saysNoneArrives}
	via := &kit{t: t, st: through, ctx: ctx, says: saysNoneArrives}
	var robbed []string
	arrived := 0
	for round := 0; arrived < arrivals && (arrived == 0 || round < someRounds); round++ {
		if round == arrivalRounds {
			k.fail("no flush arrived after its caller had given up, in %d rounds: this shows nothing", round)
		}
		id := fmt.Sprint("late/", round)
		a := k.own(id, "k", "old", "l", "old")
		via.applied(a.change("k", "first"))
		path.Hang(true)
		short, giveUp := context.WithTimeout(ctx, 100*time.Millisecond)
		rs, err := through.Apply(short, []store.Change{a.change("k", "late", "l", "late")})
		giveUp()
		if err == nil && rs[0].Outcome != store.Undecided {
			k.fail("a flush on a path that hangs is %v", rs[0])
		}
		rob := round%2 == 0
		if rob {
			b := k.take(id)
			k.holds(id, "k", "first", "l", "old")
			k.applied(b.change("k", "mine"))
			robbed = append(robbed, id)
		}
		path.Heal()
		k.until("the path works again", func() bool {
			again, stop := context.WithTimeout(ctx, time.Second)
			defer stop()
			_, err := through.Load(again, id)
			return err == nil
		})
		if rob {
			k.holds(id, "k", "mine", "l", "old")
			continue
		}
		for range 40 { // it may never come
			if es := k.load(id, "k").Entries; len(es) == 1 && string(es[0].Value) == "late" {
				k.holds(id, "k", "late", "l", "late")
				arrived++
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	for _, id := range robbed {
		k.holds(id, "k", "mine", "l", "old")
	}
}

// Pinned checks that who reads after an acknowledgement sees what was acknowledged, whatever server answers: each of the stores is on the same engine, by a server
// of its own. Engines that let replicas answer, which lag behind, fail it.
func Pinned(t T, stores ...store.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	at := func(i int) *kit {
		return &kit{t: t, st: stores[i%len(stores)], ctx: ctx, says: "It reads at least the state of the last Claim or Apply that was acknowledged to anyone before the call."}
	}
	const rounds = 60
	value := make([]byte, 8<<10) // a lagging replica has more to do
	for i := range value {
		value[i] = byte('a' + i%26)
	}
	a := at(0).own("pinned", "k", "-1")
	for i := range rounds {
		want := fmt.Sprint(i, string(value))
		at(i).applied(a.change("k", want, fmt.Sprint("key/", i%7), want))
		at(i+1).same(at(i+1).load("pinned", "k").Entries, "k", want)
		// The next owner, at another server, reads all of it in its claim.
		next := newOwner(fmt.Sprint("owner ", i))
		by := at(i + 2)
		c := by.claims(store.Granted, store.ClaimRequest{Session: "pinned", Owner: next, Force: true, All: true})
		got := map[string]string{}
		for _, e := range by.read(c) {
			got[e.Key] = string(e.Value)
		}
		if got["k"] != want || got[fmt.Sprint("key/", i%7)] != want {
			by.fail("the claim of round %d reads %.20q, want %.20q", i, got["k"], want)
		}
		if h := at(i).load("pinned", "k").Header; !h.HeldBy(next, c.Header.Epoch) {
			at(i).fail("after the claim of round %d the header is %+v", i, h)
		}
		a = &tenure{session: "pinned", owner: next, epoch: c.Header.Epoch}
	}
}
