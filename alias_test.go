package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// find returns what an alias leads to; "" if to nothing.
func find(t testing.TB, db *kvstore.DB[int], alias string) string {
	t.Helper()
	id, err := db.Lookup(context.Background(), alias)
	if err != nil {
		want(t, err, kvstore.ErrNotFound)
	}
	return id
}

func TestAlias(t *testing.T) {
	ctx := t.Context()
	st := memory.New()
	a, b := openInts(t, st, brisk("a")), openInts(t, st, brisk("b"))
	s, err := a.AdoptOrCreate(ctx, "call-1")
	check(t, err)
	check(t, s.AddAlias(ctx, "sip:xyz", kvstore.Stored))
	check(t, s.AddAlias(ctx, "user/alice", kvstore.InMemory))
	if got := s.Aliases(); !slices.Equal(got, []string{"sip:xyz", "user/alice"}) {
		t.Errorf("aliases %q", got)
	}
	if id := find(t, a, "user/alice"); id != "call-1" {
		t.Errorf("what is not stored yet leads to %q on its own node", id)
	}
	check(t, s.Sync(ctx))
	for _, alias := range []string{"sip:xyz", "user/alice"} {
		if id := find(t, b, alias); id != "call-1" {
			t.Errorf("%s leads to %q on another node", alias, id)
		}
	}
	var owned *kvstore.OwnedError
	if _, err := b.AdoptBy(ctx, "sip:xyz"); !errors.As(err, &owned) || owned.Session != "call-1" || owned.Addr != "a:1" {
		t.Errorf("AdoptBy of what another node has: %v", err)
	}
	if h, err := a.AdoptBy(ctx, "sip:xyz"); err != nil || h.ID() != "call-1" {
		t.Errorf("AdoptBy of what is here: %v", err)
	}
	check(t, s.RemoveAlias(ctx, "user/alice", kvstore.InMemory))
	if id := find(t, a, "user/alice"); id != "" {
		t.Errorf("what was removed leads to %q before that is stored", id)
	}
	check(t, a.Close(ctx))
	h, err := b.AdoptBy(ctx, "sip:xyz")
	check(t, err)
	if got := h.Aliases(); !slices.Equal(got, []string{"sip:xyz"}) {
		t.Errorf("the adopter finds the aliases %q", got)
	}
	check(t, b.Delete(ctx, "call-1"))
	if id := find(t, b, "sip:xyz"); id != "" {
		t.Errorf("an alias of a deleted session leads to %q", id)
	}
	s, err = b.AdoptOrCreate(ctx, "call-2")
	check(t, err)
	check(t, s.AddAlias(ctx, "sip:xyz", kvstore.Stored)) // it is free again, maybe before the store knows
	for alias, kind := range map[string]error{"": kvstore.ErrInvalid, strings.Repeat("x", store.MaxAlias+1): kvstore.ErrTooLarge} {
		want(t, s.AddAlias(ctx, alias, kvstore.InMemory), kind)
		want(t, s.RemoveAlias(ctx, alias, kvstore.InMemory), kind)
		_, err := b.Lookup(ctx, alias)
		want(t, err, kind)
	}
	err = s.Update(ctx, func(tx *kvstore.Tx[int]) error {
		for i := range store.MaxAliases {
			check(t, tx.AddAlias(fmt.Sprint(i)))
		}
		return tx.Put("k", 1)
	})
	want(t, err, kvstore.ErrTooLarge)
	if _, err := s.Get(ctx, "k"); !errors.Is(err, kvstore.ErrNotFound) || len(s.Aliases()) != 1 || find(t, b, "3") != "" {
		t.Errorf("a part of a refused transaction is there: %v, %q", err, s.Aliases())
	}
	check(t, b.Close(ctx))
}

// TestAliasClash: who comes second is told who has it, and keeps all else.
func TestAliasClash(t *testing.T) {
	ctx := t.Context()
	st := memory.New()
	a := openInts(t, st, brisk("a"))
	first, err := a.AdoptOrCreate(ctx, "first")
	check(t, err)
	check(t, first.AddAlias(ctx, "x", kvstore.Stored))

	here, err := a.AdoptOrCreate(ctx, "here")
	check(t, err)
	is := func(err error, session string) {
		t.Helper()
		var clash *kvstore.AliasError
		if !errors.As(err, &clash) || *clash != (kvstore.AliasError{Alias: "x", Session: session, Holder: "first"}) || !errors.Is(err, kvstore.ErrAlias) {
			t.Errorf("error %v", err)
		}
	}
	is(here.Update(ctx, func(tx *kvstore.Tx[int]) error {
		return errors.Join(tx.AddAlias("y"), tx.AddAlias("x"), tx.Put("k", 1))
	}), "here")
	if len(here.Aliases()) != 0 || find(t, a, "y") != "" {
		t.Errorf("a part of it was done: %q", here.Aliases())
	}
	other, err := a.AdoptOrCreate(ctx, "other")
	check(t, err)
	check(t, other.AddAlias(ctx, "y", kvstore.Stored)) // nobody has it
	is(other.Update(ctx, func(tx *kvstore.Tx[int]) error { return errors.Join(tx.AddAlias("y"), tx.AddAlias("x")) }), "other")
	if id := find(t, a, "y"); id != "other" {
		t.Errorf("what it had before leads to %q", id)
	}

	var mu sync.Mutex
	var lost []kvstore.Lost
	o := brisk("b")
	o.Hooks.Lost = func(l kvstore.Lost) { mu.Lock(); lost = append(lost, l); mu.Unlock() }
	b := openInts(t, st, o)
	s, err := b.AdoptOrCreate(ctx, "second")
	check(t, err)
	check(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error {
		return errors.Join(tx.AddAlias("x"), tx.AddAlias("z"), tx.Put("k", 7))
	}))
	err = s.Sync(ctx)
	is(err, "second")
	want(t, err, kvstore.ErrRejected)
	is(s.AddAlias(ctx, "x", kvstore.Stored), "second")
	check(t, s.Sync(ctx))
	if got := s.Aliases(); !slices.Equal(got, []string{"z"}) {
		t.Errorf("aliases %q", got)
	}
	if h, got := ints(t, st, "second"); got["k"] != 7 || !slices.Equal(h.Aliases, []string{"z"}) {
		t.Errorf("stored: %v, %q", got, h.Aliases)
	}
	if id := find(t, b, "x"); id != "first" {
		t.Errorf("x leads to %q", id)
	}
	check(t, b.Close(ctx))
	if len(lost) != 2 || !slices.Equal(lost[0].Aliases, []string{"x"}) || len(lost[0].Entries) != 0 {
		t.Errorf("handed over: %+v", lost)
	}
	is(lost[0].Cause, "second")
	if n := b.Stats().Buffered; n != 0 {
		t.Errorf("%d bytes of the buffer are held", n)
	}
	check(t, a.Close(ctx))
}

// TestAliasOfTheStolen: a session that is here still, and that another node has by now, does not have who wants its name wait for it.
func TestAliasOfTheStolen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st := t.Context(), memory.New()
		a, b := openInts(t, st, brisk("a")), openInts(t, st, brisk("b"))
		defer a.Close(ctx)
		defer b.Close(ctx)
		here, err := a.AdoptOrCreate(ctx, "stolen")
		check(t, err)
		check(t, here.Put(ctx, "k", 1))
		check(t, here.Sync(ctx))
		there, err := b.Steal(ctx, "stolen")
		check(t, err)
		check(t, there.AddAlias(ctx, "x", kvstore.Stored))

		s, err := a.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "k", 1))
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		err = s.AddAlias(short, "x", kvstore.Stored)
		want(t, err, kvstore.ErrAlias)
		want(t, err, kvstore.ErrRejected)
		check(t, s.Sync(short)) // what else is in it goes on
	})
}

// TestAliasMovesHere: a name that one session on a node gives up another can have at once, in whichever order they are flushed.
func TestAliasMovesHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewFaults(memory.New())
		db := openInts(t, st, kvstore.Options{MaxDelay: 50 * time.Millisecond})
		a, err := db.AdoptOrCreate(ctx, "a")
		check(t, err)
		b, err := db.AdoptOrCreate(ctx, "b")
		check(t, err)
		check(t, a.AddAlias(ctx, "x", kvstore.Stored))
		for range 20 {
			check(t, a.RemoveAlias(ctx, "x", kvstore.InMemory))
			check(t, b.AddAlias(ctx, "x", kvstore.Stored)) // urgent: it is flushed before the other
			if id := find(t, db, "x"); id != "b" {
				t.Fatalf("x leads to %q", id)
			}
			a, b = b, a
			check(t, db.Delete(ctx, b.ID())) // likewise what goes with a session
			b, err = db.Create(ctx, b.ID())
			check(t, err)
			id := a.ID()
			if find(t, db, "x") != id {
				t.Fatalf("x does not lead to %q", id)
			}
			// names are swapped back, for the next round
			check(t, b.Sync(ctx))
			a, b = b, a
			check(t, b.RemoveAlias(ctx, "x", kvstore.InMemory))
			check(t, a.AddAlias(ctx, "x", kvstore.Stored))
		}
		check(t, db.Close(ctx))
	})
}

// TestAliasUnsupported: a store that keeps none says so, and nothing else is lost.
func TestAliasUnsupported(t *testing.T) {
	ctx := t.Context()
	mem := memory.New()
	st := &tap{Store: mem}
	st.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
		rs := make([]store.Result, len(cs))
		for i, c := range cs {
			if len(c.Aliases) > 0 {
				rs[i] = store.Result{Outcome: store.Rejected, Err: fmt.Errorf("no aliases: %w", errors.ErrUnsupported)}
				continue
			}
			one, err := mem.Apply(ctx, []store.Change{c})
			if err != nil {
				return nil, err
			}
			rs[i] = one[0]
		}
		return rs, nil
	}
	db := openInts(t, st, brisk("a"))
	s, err := db.AdoptOrCreate(ctx, "s")
	check(t, err)
	check(t, s.Put(ctx, "k", 1))
	err = s.AddAlias(ctx, "x", kvstore.Stored)
	want(t, err, errors.ErrUnsupported)
	want(t, err, kvstore.ErrRejected)
	check(t, s.Sync(ctx))
	_, err = db.Lookup(ctx, "x")
	want(t, err, errors.ErrUnsupported)
	check(t, db.Close(ctx))
	if _, got := ints(t, mem, "s"); got["k"] != 1 {
		t.Errorf("stored: %v", got)
	}
}

// TestAliasOutOfMemory: a session that was evicted, or has expired, is judged by the store.
func TestAliasOutOfMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := memory.New()
		db := openInts(t, st, kvstore.Options{MaxResident: 1})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.AddAlias(ctx, "x", kvstore.Stored))
		for id := range 4 {
			check(t, db.Put(ctx, fmt.Sprint(id), 1))
			check(t, db.Flush(ctx))
		}
		if db.Stats().Evicted == 0 {
			t.Fatal("nothing was evicted")
		}
		if id := find(t, db, "x"); id != "s" {
			t.Errorf("x leads to %q", id)
		}
		h, err := db.AdoptBy(ctx, "x")
		check(t, err)
		check(t, h.Expire(ctx, time.Now().Add(time.Minute)))
		time.Sleep(time.Minute)
		if id := find(t, db, "x"); id != "" {
			t.Errorf("x of an expired session leads to %q", id)
		}
		check(t, db.Close(ctx))
	})
}

// TestAliasRace: nodes fight for a few aliases, with every session of theirs, and steal the sessions from each other. At no time do two sessions in the store have
// one, and who was told that it is stored, in a tenure that nobody ended, has it.
func TestAliasRace(t *testing.T) {
	ctx := t.Context()
	st := memory.New()
	var dbs []*kvstore.DB[int]
	for i := range 3 {
		dbs = append(dbs, openInts(t, st, brisk(fmt.Sprint("n", i))))
	}
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, alias := range []string{"x", "y"} {
				h, err := st.Lookup(ctx, alias)
				if err != nil || h.Epoch > 0 && !slices.Contains(h.Aliases, alias) {
					t.Errorf("%s leads to %+v, %v", alias, h, err)
				}
			}
			dither(100)
		}
	})
	var granted [3]int
	together(3, func(i int) {
		rnd := rand.New(rand.NewPCG(uint64(i), 1))
		for range rounds(300) {
			id, alias := fmt.Sprint("s", rnd.IntN(4)), []string{"x", "y"}[rnd.IntN(2)]
			how := dbs[i].AdoptOrCreate
			if rnd.IntN(3) == 0 {
				how = dbs[i].Steal
			}
			s, err := how(ctx, id)
			if err != nil {
				continue
			}
			switch err := s.AddAlias(ctx, alias, kvstore.Stored); {
			case err == nil:
				granted[i]++
				h, err := st.Lookup(ctx, alias)
				check(t, err)
				if h.Session != id && h.HeldBy(h.Owner, s.Epoch()) && h.Session == "" {
					t.Errorf("%s was granted to %s, and leads to nothing", alias, id)
				}
				if err := s.RemoveAlias(ctx, alias, kvstore.Ack(rnd.IntN(2))); err != nil {
					want(t, err, kvstore.ErrFenced, kvstore.ErrReleased, kvstore.ErrNotFound)
				}
			default:
				want(t, err, kvstore.ErrAlias, kvstore.ErrFenced, kvstore.ErrReleased, kvstore.ErrNotFound)
			}
		}
	})
	close(stop)
	watch.Wait()
	if granted[0]+granted[1]+granted[2] == 0 {
		t.Error("no alias was ever granted")
	}
	for _, db := range dbs {
		db.Close(ctx)
	}
}
