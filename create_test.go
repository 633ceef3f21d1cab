package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// Create is optimistic: what must not come of that.

// orphan puts a session with a main entry into the store, whose owner is dead.
func orphan(t *testing.T, st store.Store, id string, v int) {
	t.Helper()
	ctx := context.Background()
	db := openInts(t, st, kvstore.Options{Node: "dead-" + id})
	check(t, db.Put(ctx, id, v))
	check(t, db.Close(ctx))
}

// A claim whose answer was lost has made this node the owner. A creation must not pass for a change of that
// tenure, and replace what is stored.
func TestCreateAfterALostClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		orphan(t, mem, "s", 42)
		line := storetest.NewFaults(mem)
		var lost atomic.Int64
		a := openInts(t, line, kvstore.Options{Node: "a", Hooks: kvstore.Hooks{Lost: func(kvstore.Lost) { lost.Add(1) }}})
		defer a.Close(ctx)
		// Any session that came and went: the node's highest epoch is 1 now, as that of s.
		check(t, a.Put(ctx, "other", 1))
		check(t, a.Delete(ctx, "other"))
		check(t, a.Flush(ctx))

		line.Inject(storetest.First(1, storetest.Fault{Fail: storetest.After}, storetest.Claim))
		_, err := a.Adopt(ctx, "s")
		if err == nil {
			t.Fatal("the claim was to fail")
		}
		// The store is asked: it may be ours.
		s, err := a.Create(ctx, "s")
		want(t, err, kvstore.ErrExists)
		if err != nil {
			return
		}
		s.Put(ctx, "", 7)
		err = s.Sync(ctx)
		if _, m := ints(t, mem, "s"); m[""] != 42 {
			t.Errorf("the store had s = 42; an optimistic Create has replaced it by %v: Sync gave %v, %d were reported lost", m, err, lost.Load())
		}
	})
}

// A Create that was given up while the store was asked leaves nothing behind that answers for the store.
func TestCreateGivenUp(t *testing.T) {
	for _, what := range []string{"adopt", "delete", "drain"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				mem := memory.New()
				orphan(t, mem, "s", 42)
				line := storetest.NewFaults(mem)
				a := openInts(t, line, kvstore.Options{Node: "a", MaxResident: 100})
				defer a.Close(ctx)
				line.Inject(storetest.First(1, storetest.Fault{Delay: time.Second}, storetest.Load))
				short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				_, err := a.Create(short, "s")
				want(t, err, context.DeadlineExceeded)
				time.Sleep(10 * time.Second)

				switch what {
				case "adopt":
					if _, err := a.Adopt(ctx, "s"); err != nil {
						t.Errorf("the store has s, released; Adopt gives %v", err)
					}
				case "delete":
					check(t, a.Delete(ctx, "s"))
					check(t, a.Flush(ctx))
					if h, m := ints(t, mem, "s"); h.Exists() {
						t.Errorf("Delete gave no error, and the store still has %v", m)
					}
				case "drain":
					minute, cancel := context.WithTimeout(ctx, time.Minute)
					defer cancel()
					if err := a.Drain(minute); err != nil {
						t.Errorf("there is no session, the store is well, and Drain gives after a minute: %v", err)
					}
				}
			})
		})
	}
}

// While a Create waits for room, nobody is told that the store has no such session.
func TestCreateWaitsForRoom(t *testing.T) {
	for _, what := range []string{"adopt", "delete"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				mem := memory.New()
				orphan(t, mem, "s", 42)
				line := storetest.NewFaults(mem)
				db, err := kvstore.Open[string](ctx, line, kvstore.Options{Node: "a", MaxBuffer: 4096})
				check(t, err)
				defer db.Close(ctx)
				_, err = db.AdoptOrCreate(ctx, "full")
				check(t, err)
				line.Inject(storetest.First(1, storetest.Fault{Delay: 2 * time.Second}, storetest.Apply))
				check(t, db.Put(ctx, "full", string(make([]byte, 4096-64-40))))
				short, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				done := make(chan error)
				go func() { _, err := db.Create(short, "s"); done <- err }()
				synctest.Wait()
				switch what {
				case "adopt":
					if _, err = db.Adopt(ctx, "s"); err != nil && !errors.Is(err, kvstore.ErrExists) {
						t.Errorf("the store has s, released; Adopt gives %v", err)
					}
				case "delete":
					err = db.Delete(ctx, "s")
				}
				cerr := <-done
				time.Sleep(5 * time.Second)
				db.Flush(ctx)
				if h, m := ints(t, mem, "s"); what == "delete" && err == nil && h.Exists() {
					t.Errorf("Delete gave no error (Create: %v), and the store still has %v", cerr, m)
				}
			})
		})
	}
}

// The place that a Create asks for is no answer for a Delete.
func TestDeleteBesideCreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		orphan(t, mem, "s", 42)
		line := storetest.NewFaults(mem)
		a := openInts(t, line, kvstore.Options{Node: "a", MaxResident: 100})
		defer a.Close(ctx)
		line.Inject(storetest.First(1, storetest.Fault{Delay: time.Second}, storetest.Load))
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		go a.Create(short, "s")
		synctest.Wait()
		err := a.Delete(ctx, "s")
		check(t, a.Flush(ctx))
		if h, m := ints(t, mem, "s"); err == nil && h.Exists() {
			t.Errorf("Delete gave no error, and the store still has %v", m)
		}
	})
}

// An attempt to create that arrives late does not bring back what another node made, and deleted.
func TestLateCreation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		line := storetest.NewFaults(mem)
		var lost atomic.Int64
		a := openInts(t, line, kvstore.Options{Node: "a", Hooks: kvstore.Hooks{Lost: func(kvstore.Lost) { lost.Add(1) }}})
		defer a.Close(ctx)
		b := openInts(t, mem, kvstore.Options{Node: "b"})
		defer b.Close(ctx)
		check(t, a.Put(ctx, "other", 1))
		check(t, a.Delete(ctx, "other"))
		check(t, a.Flush(ctx))

		line.Inject(func(c storetest.Call) storetest.Fault {
			if c.Kind == storetest.Apply {
				return storetest.Fault{Fail: storetest.Late}
			}
			return storetest.Fault{}
		})
		s, err := a.Create(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "", 7))
		time.Sleep(150 * time.Millisecond) // one attempt or more is on its way
		_, err = b.AdoptOrCreate(ctx, "s")
		check(t, err)
		line.Inject(nil)
		want(t, s.Sync(ctx), kvstore.ErrFenced)
		check(t, b.Delete(ctx, "s"))
		check(t, b.Flush(ctx))
		line.ReplayLate(ctx)
		synctest.Wait()
		if h, m := ints(t, mem, "s"); h.Exists() || lost.Load() != 1 {
			t.Errorf("b deleted s; a's creation was refused and reported lost %d times; the store has %v, of node %s in epoch %d", lost.Load(), m, h.Owner.Node, h.Epoch)
		}
	})
}

// AdoptOrCreate of a session that was deleted here a moment ago has stored the new one when it returns.
func TestAdoptOrCreateOfTheDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		a := openInts(t, mem, kvstore.Options{Node: "a"})
		defer a.Close(ctx)
		check(t, a.Put(ctx, "s", 1))
		check(t, a.Flush(ctx))
		check(t, a.Delete(ctx, "s"))
		_, err := a.AdoptOrCreate(ctx, "s")
		check(t, err)
		if _, m := ints(t, mem, "s"); len(m) > 0 {
			t.Errorf("AdoptOrCreate made a new session, which is stored when it returns; the store has the old one: %v", m)
		}
	})
}

// A node that creates a session which it had before begins another tenure. It once took up the epoch that it
// had given up: a Create of a session that it had released, and that was in the store, wiped it.
func TestCreateAgain(t *testing.T) {
	ends := map[string]func(ctx context.Context, db *kvstore.DB[string]) error{
		"release": func(ctx context.Context, db *kvstore.DB[string]) error { return db.Release(ctx, "s") },
		"delete": func(ctx context.Context, db *kvstore.DB[string]) error {
			return errors.Join(db.Delete(ctx, "s"), db.Flush(ctx))
		},
	}
	for name, end := range ends {
		for _, resident := range []int{0, 1} {
			for _, before := range []int{1, 5} { // flushes of the former life
				t.Run(fmt.Sprint(name, "/resident=", resident, "/before=", before), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { createAgain(t, end, name == "release", resident, before) })
				})
			}
		}
	}
}

func createAgain(t *testing.T, end func(context.Context, *kvstore.DB[string]) error, released bool, resident, before int) {
	ctx, st := t.Context(), memory.New()
	open := func() *kvstore.DB[string] {
		db, err := kvstore.Open[string](ctx, st, kvstore.Options{MaxResident: resident})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open()
	defer db.Close(ctx)
	fill := func(key string, n int) error {
		s, err := db.Create(ctx, "s")
		for i := 0; i < n && err == nil; i++ {
			err = errors.Join(s.Put(ctx, key, "v"), s.Sync(ctx))
		}
		return err
	}
	if err := errors.Join(fill("old", before), end(ctx, db)); err != nil {
		t.Fatal(err)
	}
	want := "new"
	if err := fill("new", 2); released {
		if want = "old"; !errors.Is(err, kvstore.ErrFenced) {
			t.Errorf("the creation of a session that exists gives %v, want a fence", err)
		}
	} else if err != nil {
		t.Fatal(err)
	}
	other := open()
	defer other.Close(ctx)
	s, err := other.Steal(ctx, "s")
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.All(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(maps.Keys(maps.Collect(all))); !slices.Equal(got, []string{want}) {
		t.Errorf("the store has the entries %q of the session, want %q", got, want)
	}
}

// TestAdoptOrCreateAfterADeletedCreation: a creation that was deleted before it was stored says nothing of what the store has. Whoever
// asks for the session then gets the one that is there, or hears where it lives.
func TestAdoptOrCreateAfterADeletedCreation(t *testing.T) {
	for _, owned := range []bool{false, true} {
		t.Run(fmt.Sprint("owned=", owned), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, st := t.Context(), memory.New()
				theirs, db := openInts(t, st, kvstore.Options{Node: "theirs"}), openInts(t, st, kvstore.Options{Node: "ours", Hooks: kvstore.Hooks{Lost: func(kvstore.Lost) {}}})
				defer theirs.Close(ctx)
				defer db.Close(ctx)
				check(t, errors.Join(theirs.Put(ctx, "s", 5), theirs.Flush(ctx)))
				if !owned {
					check(t, theirs.Release(ctx, "s"))
				}
				_, err := db.Create(ctx, "s")
				check(t, errors.Join(err, db.Delete(ctx, "s")))
				s, err := db.AdoptOrCreate(ctx, "s")
				if owned {
					want(t, err, kvstore.ErrOwned)
					return
				}
				check(t, err)
				if v, err := s.Get(ctx, ""); v != 5 || err != nil {
					t.Errorf("the session has %d, %v; want what the store has", v, err)
				}
			})
		})
	}
}
