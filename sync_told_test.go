package kvstore_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// TestSyncTellsOfWhatIsInFlight: what is rejected while Sync waits, and was changed before it, is told by it, though Sync waits for what came after that, too.
func TestSyncTellsOfWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := t.Context(), memory.New()
		line := storetest.NewFaults(mem)
		a := openInts(t, mem, brisk("a"))
		defer a.Close(ctx)
		holder, err := a.AdoptOrCreate(ctx, "holder")
		check(t, err)
		check(t, holder.AddAlias(ctx, "x", kvstore.Stored))
		o := brisk("b")
		o.StoreTimeout = time.Minute
		b := openInts(t, line, o)
		defer b.Close(ctx)
		s, err := b.AdoptOrCreate(ctx, "s")
		check(t, err)
		line.Inject(func(c storetest.Call) (f storetest.Fault) {
			if c.Kind == storetest.Apply {
				f.Delay = time.Second
			}
			return f
		})
		check(t, s.AddAlias(ctx, "x", kvstore.InMemory))
		time.Sleep(500 * time.Millisecond) // it is in flight
		check(t, s.Put(ctx, "k", 1))
		want(t, s.Sync(ctx), kvstore.ErrRejected)
		check(t, s.Sync(ctx)) // it has been told
	})
}

// TestStoredTells: who asks for a change to be stored is told if it is not, however soon that is decided: before he begins to wait, even.
func TestStoredTells(t *testing.T) {
	ctx, mem := t.Context(), memory.New()
	a := openInts(t, mem, brisk("a"))
	defer a.Close(ctx)
	holder, err := a.AdoptOrCreate(ctx, "holder")
	check(t, err)
	ids := []string{"s", "t", "u", "v"}
	for _, id := range ids {
		check(t, holder.AddAlias(ctx, "of "+id, kvstore.Stored))
	}
	o := brisk("b")
	o.Flushers = 4
	b := openInts(t, mem, o)
	var all sync.WaitGroup
	for _, id := range ids {
		all.Go(func() {
			s, err := b.AdoptOrCreate(ctx, id)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range rounds(1500) {
				if err := s.AddAlias(ctx, "of "+id, kvstore.Stored); !errors.Is(err, kvstore.ErrRejected) {
					t.Errorf("attempt %d to take what another has: %v", i, err)
					return
				}
			}
		})
	}
	all.Wait()
	b.Close(ctx)
}
