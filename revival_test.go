package kvstore_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// What the exploration of the protocol (internal/model) found, with real DBs.

// A session that is made again while its deletion is in flight gets an epoch above the tombstone's. Else a creation by
// another node, which saw the tombstone and is late, could be stored after the next deletion: long after it was reported lost.
func TestANewLifeHasANewEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem := memory.New()
		toA, toB := &tap{Store: mem}, &tap{Store: mem}
		arrive := make(chan struct{})
		var held atomic.Bool // what b sends arrives when arrive is closed
		toB.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			if held.Load() {
				<-arrive
			}
			return mem.Apply(ctx, cs)
		}
		// Of what a sends the second has no answer, and is late; the others wait for b.
		var late []store.Change
		bFirst := make(chan struct{})
		calls := 0
		toA.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			switch calls++; {
			case calls == 2:
				late = slices.Clone(cs)
				for i := range late[0].Puts {
					late[0].Puts[i].Value = slices.Clone(late[0].Puts[i].Value)
				}
				return nil, errors.New("no answer")
			case calls > 2:
				<-bFirst
			}
			return mem.Apply(ctx, cs)
		}
		var lost losses
		o := brisk("a")
		o.MaxDelay, o.StoreTimeout, o.Hooks.Lost = 100*time.Millisecond, time.Second, lost.hook
		a := openInts(t, toA, o)
		defer a.Close(ctx)
		o.Node, o.Hooks.Lost = "b", nil
		b := openInts(t, toB, o)
		defer b.Close(ctx)
		_, err := b.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, b.Put(ctx, "s", 1))
		check(t, b.Flush(ctx))

		// b's deletion waits on its way. a's creation is refused by it, proposed again, and that is late.
		held.Store(true)
		check(t, b.Delete(ctx, "s"))
		time.Sleep(200 * time.Millisecond)
		held.Store(false)
		_, err = a.Create(ctx, "s")
		check(t, err)
		check(t, a.Put(ctx, "s", 2))
		time.Sleep(50 * time.Millisecond)
		check(t, b.Put(ctx, "s", 3)) // a new life
		time.Sleep(45 * time.Millisecond)
		close(arrive) // just before a's first flush
		time.Sleep(500 * time.Millisecond)
		close(bFirst)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if h, es := ints(t, mem, "s"); h.Owner.Node != "b" || h.Epoch != 2 || es[""] != 3 || lost.count("s", "") != 1 || late == nil {
			t.Fatalf("the store has %+v, %v; a's value was reported lost %d times", h, es, lost.count("s", ""))
		}
		check(t, b.Delete(ctx, "s"))
		check(t, b.Flush(ctx))
		rs, err := mem.Apply(ctx, late)
		if h, _ := ints(t, mem, "s"); err != nil || rs[0].Outcome != store.Fenced || h.Exists() {
			t.Errorf("what was reported lost is stored after the deletion: %+v, %v", h, rs)
		}
	})
}

// A deletion that is in flight when an audit finds the session taken is reported lost by the one or by the other.
func TestADeletionIsLostOnce(t *testing.T) {
	for _, again := range []bool{false, true} { // the session was made again meanwhile
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			mem := memory.New()
			arrive := make(chan struct{})
			var held atomic.Bool
			line := &tap{Store: mem, apply: func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
				if held.Load() {
					<-arrive
				}
				return mem.Apply(ctx, cs)
			}}
			var lost losses
			o := kvstore.Options{Node: "a", Hooks: kvstore.Hooks{Lost: lost.hook}}
			a := openInts(t, line, o)
			defer a.Close(ctx)
			b := openInts(t, mem, brisk("b"))
			defer b.Close(ctx)
			check(t, a.Put(ctx, "s", 1))
			check(t, a.Flush(ctx))
			held.Store(true)
			check(t, a.Delete(ctx, "s"))
			time.Sleep(500 * time.Millisecond)
			if again {
				check(t, a.Put(ctx, "s", 2))
			}
			_, err := b.Steal(ctx, "s")
			check(t, err)
			endLease(t, mem, "a")
			time.Sleep(time.Minute) // it is renewed, and what is here is looked at
			close(arrive)
			time.Sleep(time.Second)
			synctest.Wait()
			if len(lost.list) != 1 || !lost.list[0].Deleted {
				t.Errorf("made again: %v: lost: %+v", again, lost.list)
			}
		})
	}
}
