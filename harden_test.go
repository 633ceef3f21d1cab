package kvstore_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// Stores that acknowledge sooner than what they have is durable, in virtual time.

// soft is such a store.
type soft struct {
	tap
	mu      sync.Mutex
	acked   int // calls of Apply that were acknowledged
	durable int // of them
	asked   int // calls of Barrier
	barrier func(ctx context.Context) error
}

func newSoft() *soft {
	s := &soft{tap: tap{Store: memory.New()}}
	s.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
		rs, err := s.Store.Apply(ctx, cs)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.acked++
		return rs, err
	}
	return s
}

func (s *soft) Barrier(ctx context.Context) error {
	s.mu.Lock()
	acked := s.acked
	s.asked++
	barrier := s.barrier
	s.mu.Unlock()
	if barrier != nil {
		if err := barrier(ctx); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.durable = max(s.durable, acked)
	return nil
}

func (s *soft) state() (acked, durable, asked int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked, s.durable, s.asked
}

// Sync, Flush, Close and a write-through return when what they waited for is durable; nobody asks for what is so already.
func TestBarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		st := newSoft()
		db := openInts(t, st, brisk("a"))
		s, err := db.Create(ctx, "s")
		check(t, err)
		must := func(what string, asks int) {
			t.Helper()
			if acked, durable, asked := st.state(); durable < acked || asked != asks {
				t.Errorf("%s: of %d acknowledged flushes %d are durable; the store was asked %d times, want %d", what, acked, durable, asked, asks)
			}
		}
		check(t, s.Put(ctx, "", 1))
		check(t, s.Sync(ctx))
		must("Sync", 1)
		check(t, s.Sync(ctx))
		must("another Sync", 1)
		check(t, s.Put(ctx, "", 2))
		time.Sleep(time.Second) // it is flushed by itself
		if acked, durable, asked := st.state(); acked != 2 || durable != 1 || asked != 1 {
			t.Errorf("a flush that nobody waits for: %d acknowledged, %d durable, %d asked", acked, durable, asked)
		}
		check(t, s.Sync(ctx))
		must("Sync of what is stored", 2)
		check(t, s.Put(ctx, "", 3))
		check(t, db.Flush(ctx))
		must("Flush", 3)
		check(t, s.Put(ctx, "", 4))
		closeDB(t, db)
		must("Close", 4)

		o := brisk("b")
		o.Mode = kvstore.WriteThrough
		through := openInts(t, st, o)
		check(t, through.Put(ctx, "t", 1))
		must("a write-through", 5)
		closeDB(t, through)
		must("Close of what is durable", 5)
	})
}

// Those who come while a barrier is under way share the next: what it covers was acknowledged before it began.
func TestBarrierIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		st := newSoft()
		st.barrier = func(context.Context) error { time.Sleep(time.Second); return nil }
		db := openInts(t, st, brisk("a"))
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				check(t, db.Put(ctx, "s", i))
				s, err := db.Session(ctx, "s")
				check(t, err)
				before, _, _ := st.state()
				check(t, s.Sync(ctx))
				if _, durable, _ := st.state(); durable < before {
					t.Errorf("after a Sync %d are durable, of %d acknowledged before", durable, before)
				}
			})
		}
		wg.Wait()
		if _, _, asked := st.state(); asked != 2 || time.Since(start) > 2100*time.Millisecond {
			t.Errorf("the store was asked %d times, in %v; want 2", asked, time.Since(start))
		}
		closeDB(t, db)
	})
}

// What is acknowledged while a barrier is under way is not covered by it.
func TestBarrierCoversNothingLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		st := newSoft()
		st.barrier = func(context.Context) error { time.Sleep(time.Second); return nil }
		db := openInts(t, st, brisk("a"))
		s, err := db.Create(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "", 1))
		done := make(chan error)
		go func() { done <- s.Sync(ctx) }()
		time.Sleep(500 * time.Millisecond)
		check(t, s.Put(ctx, "", 2))
		time.Sleep(100 * time.Millisecond) // it is flushed by itself
		check(t, <-done)
		check(t, s.Sync(ctx))
		if acked, durable, asked := st.state(); acked != 2 || durable != 2 || asked != 2 {
			t.Errorf("of %d acknowledged %d are durable; the store was asked %d times", acked, durable, asked)
		}
		closeDB(t, db)
	})
}

// A barrier that fails is tried again. Who cannot wait for that is told that it is not known; nothing is lost.
func TestBarrierFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		st := newSoft()
		boom := errors.New("boom")
		var down atomic.Bool
		st.barrier = func(context.Context) error {
			if down.Load() {
				return boom
			}
			return nil
		}
		db := openInts(t, st, brisk("a"))
		s, err := db.Create(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "", 1))
		down.Store(true)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := s.Sync(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Sync: %v", err)
		}
		if h := db.Health(); !errors.Is(h.LastError, boom) {
			t.Errorf("Health says %v", h.LastError)
		}
		if err := db.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Flush: %v", err)
		}
		done := make(chan error)
		go func() { done <- s.Sync(ctx) }()
		time.Sleep(time.Minute)
		down.Store(false)
		check(t, <-done)
		if v, err := s.Get(ctx, ""); v != 1 || err != nil {
			t.Errorf("the value is %d, %v", v, err)
		}

		check(t, s.Put(ctx, "", 2))
		down.Store(true)
		go func() { done <- s.Sync(ctx) }()
		time.Sleep(time.Second)
		short, cancel = context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := db.Close(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v", err)
		}
		if err := <-done; !errors.Is(err, kvstore.ErrClosed) {
			t.Errorf("a Sync that Close ended: %v", err)
		}
	})
}

// What a store had acknowledged, forgot, and cannot write again is an error of the next Flush, once, and of no Sync of another session; nor
// is it tried for ever. The sessions, which are others' by then, leave memory.
func TestForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		st := newSoft()
		db := openInts(t, st, brisk("a"))
		s, err := db.Create(ctx, "s")
		check(t, err)
		other, err := db.Create(ctx, "other")
		check(t, err)
		check(t, s.Put(ctx, "", 1))
		check(t, db.Flush(ctx))
		b := openInts(t, st.Store, kvstore.Options{Node: "b"})
		_, err = b.Steal(ctx, "s")
		check(t, err)
		told := false
		st.mu.Lock()
		st.barrier = func(context.Context) error {
			if told {
				return nil
			}
			told = true
			return &store.ForgottenError{Sessions: []string{"s"}}
		}
		st.mu.Unlock()
		check(t, other.Put(ctx, "", 1))
		check(t, other.Sync(ctx))
		if h := db.Health(); !h.OK() || h.LastError != nil {
			t.Errorf("the store answered, and Health says %v, %v", h, h.LastError)
		}
		var lost *store.ForgottenError
		if err := db.Flush(ctx); !errors.As(err, &lost) {
			t.Errorf("Flush says %v", err)
		}
		check(t, db.Flush(ctx))
		synctest.Wait()
		_, err = s.Get(ctx, "")
		want(t, err, kvstore.ErrFenced)
		check(t, other.Put(ctx, "", 2))
		check(t, other.Sync(ctx))
		closeDB(t, db)
		closeDB(t, b)
	})
}
