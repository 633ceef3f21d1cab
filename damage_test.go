package kvstore_test

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// Walks over a store of which some is damaged.

func (d *rotten) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		if d.on.Load() && !yield(store.Header{}, &store.CorruptError{Session: "x", Header: true, Reason: "bit rot"}) {
			return
		}
		d.Store.Sessions(ctx, q)(yield)
	}
}

// rotten is a store with a header that cannot be read.
type rotten struct {
	store.Store
	on atomic.Bool
}

// What this node has released goes to whose share it is.
func TestOrphansLeavesTheReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		a := openInts(t, mem, kvstore.Options{Node: "a"})
		defer a.Close(ctx)
		b := openInts(t, mem, kvstore.Options{Node: "b"})
		defer b.Close(ctx)
		ring, err := kvstore.NewRing(kvstore.Member{Name: "a", Weight: 1}, kvstore.Member{Name: "b", Weight: 1})
		check(t, err)
		n := 0
		for i := range 200 {
			id := fmt.Sprint("s", i)
			if ring.Owner(id) == "b" { // a planned hand-off to the node whose share it is
				check(t, a.Put(ctx, id, i))
				check(t, a.Release(ctx, id))
				n++
			}
		}
		done, err := a.AdoptOrphans(ctx, kvstore.Takeover{})
		check(t, err)
		if done.Adopted > 0 {
			t.Errorf("a has handed %d sessions of b's share over; its AdoptOrphans has taken %d of them back: %+v", n, done.Adopted, done)
		}
	})
}

// A session that cannot be claimed does not end the pass.
func TestOrphansPassesDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		d := openInts(t, mem, kvstore.Options{Node: "d"})
		for i := range 200 {
			check(t, d.Put(ctx, fmt.Sprintf("s%03d", i), 1))
		}
		check(t, d.Close(ctx))
		line := &tap{Store: mem}
		line.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
			if r.Session == "s000" {
				return store.Claim{}, &store.CorruptError{Session: r.Session, Header: true, Reason: "shard of it is down"}
			}
			return mem.Claim(ctx, r)
		}
		a := openInts(t, line, kvstore.Options{Node: "a"})
		defer a.Close(ctx)
		done, err := a.AdoptOrphans(ctx, kvstore.Takeover{All: true})
		if a.Stats().Resident < 199 {
			t.Errorf("%+v, %v; resident %d of 199", done, err, a.Stats().Resident)
		}
	})
}

// A damaged header does not keep Drain from releasing what was evicted.
func TestDrainPassesDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		line := &rotten{Store: mem}
		a := openInts(t, line, kvstore.Options{Node: "a", MaxResident: 1})
		defer a.Close(ctx)
		for i := range 10 {
			check(t, a.Put(ctx, fmt.Sprint(i), i))
			check(t, a.Flush(ctx))
		}
		line.on.Store(true)
		err := a.Drain(ctx)
		held := 0
		for h := range mem.Sessions(ctx, store.Query{}) {
			if !h.Released {
				held++
			}
		}
		if held > 0 {
			t.Errorf("Drain gives %v, and %d of 10 sessions with sound headers are not released", err, held)
		}
	})
}
