package kvstore_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// Loads are shared.

// All is asked of the store once, however many want it.
func TestAllAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		line := storetest.NewFaults(mem)
		orphan(t, mem, "s", 42)
		a := openInts(t, line, kvstore.Options{Node: "a"})
		defer a.Close(ctx)
		s, err := a.Adopt(ctx, "s")
		check(t, err)
		line.Inject(storetest.Every(storetest.Fault{Delay: time.Second}, storetest.Load))
		before := line.Calls(storetest.Load)
		together(100, func(int) { s.All(ctx) })
		if n := line.Calls(storetest.Load) - before; n > 1 {
			t.Errorf("100 goroutines ask for the same session: %d loads of all of it", n)
		}
	})
}

// A load that began before a change of its key is out of date for good, also when the changed value was forgotten.
func TestLoadFromBeforeAForgottenChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		former := openInts(t, mem, kvstore.Options{Node: "former"})
		s, err := former.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "k", 1))
		check(t, former.Close(ctx))

		read, pass := make(chan struct{}), make(chan struct{})
		first := true
		line := &tap{Store: mem}
		line.load = func(ctx context.Context, id string, keys []string) (store.Snapshot, error) {
			snap, err := mem.Load(ctx, id, keys...)
			if first {
				first = false
				close(read)
				<-pass
			}
			return snap, err
		}
		db := openInts(t, line, kvstore.Options{Node: "a", Codec: slowCodec{}})
		s, err = db.Adopt(ctx, "s")
		check(t, err)
		got := make(chan int)
		go func() {
			v, err := s.Get(ctx, "k")
			check(t, err)
			got <- v
		}()
		<-read
		check(t, s.Put(ctx, "k", 2))
		check(t, s.Sync(ctx))
		check(t, s.Put(ctx, "k", 666)) // cannot be encoded, and is forgotten: the store has 2
		want(t, s.Sync(ctx), kvstore.ErrRejected)
		close(pass)
		if v := <-got; v != 2 {
			t.Errorf("the key was 1, then 2, and that is stored: %d is read", v)
		}
		if v, err := s.Get(ctx, "k"); err != nil || v != 2 {
			t.Errorf("the key was 1, then 2, and that is stored: later %d is read, %v", v, err)
		}
		check(t, db.Close(ctx))
	})
}
