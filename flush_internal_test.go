package kvstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// stepped is a store that answers each Apply when it is told to.
type stepped struct {
	*memory.Store
	calls  int
	answer chan struct{}
}

func (s *stepped) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	s.calls++
	<-s.answer
	return s.Store.Apply(ctx, cs)
}

// The store is given the next batch before its answer to the last one is settled, and that is done while it has it. Two flushes of a lane, by hand.
func TestNextBatchBeforeTheAnswerIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := &stepped{Store: memory.New(), answer: make(chan struct{})}
		db, err := Open[string](ctx, st, Options{Node: "a", MaxDelay: time.Hour, Flushers: 1, MaxBatch: 4})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			if err := db.Put(ctx, fmt.Sprint("s", i), "v"); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		l := db.lanes[0]
		l.mu.Lock()
		l.kicked = true
		l.mu.Unlock()
		if wait, _ := l.take(); wait != 0 {
			t.Fatalf("the lane has nothing to flush for %v", time.Duration(wait))
		}
		for n, stored := range []int64{0, 4} {
			if got := db.Stats().Sessions; got != 0 {
				t.Errorf("%d sessions are settled before the store has batch %d", got, n+1)
			}
			go l.flush(ctx)
			synctest.Wait()
			if got := db.Stats().Sessions; st.calls != n+1 || got != stored {
				t.Errorf("%d calls of the store, and %d sessions are settled while it has the last one, not %d", st.calls, got, stored)
			}
			st.answer <- struct{}{}
			synctest.Wait()
		}
		if got := db.Stats().Sessions; got != 8 {
			t.Errorf("%d sessions are settled in the end, not 8", got)
		}
		close(st.answer)
		if err := db.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// Whatever IDs begin with, their places are in their order.
func TestPlaceOf(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	draw := func() string {
		b := make([]byte, rng.IntN(12))
		for i := range b {
			b[i] = "\x00ab\xff"[rng.IntN(4)]
		}
		return string(b)
	}
	apart := 0
	for range 200_000 {
		a, b, prefix := draw(), draw(), draw()
		if rng.IntN(2) == 0 {
			prefix = prefix[:len(prefix)/4]
		}
		x, y := placeOf(a, prefix), placeOf(b, prefix)
		if c := strings.Compare(a, b); c < 0 && x > y || c > 0 && x < y || c == 0 && x != y {
			t.Fatalf("behind %q the places of %q and %q are %x and %x", prefix, a, b, x, y)
		}
		if x != y {
			apart++
		}
	}
	if apart < 50_000 {
		t.Errorf("only %d pairs had two places", apart)
	}
}
