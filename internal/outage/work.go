// Package outage shows what a real store's outages do to a DB that works on it: the harness of the adapters' failure tests.
package outage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
)

// ints is a codec that leaves the store's values readable.
type ints struct{}

func (ints) Append(dst []byte, v any) ([]byte, error) {
	return strconv.AppendInt(dst, int64(*v.(*int)), 10), nil
}

func (ints) Decode(src []byte, v any) (err error) {
	*v.(*int), err = strconv.Atoi(string(src))
	return err
}

// Work is a node under load: writers count in sessions of their own, in two entries at once, and wait until each count is stored.
type Work struct {
	db     *kvstore.DB[int]
	synced [Sessions]atomic.Int64 // the highest count that Sync has returned for
	syncs  atomic.Int64
	ill    atomic.Bool // what Health told last is that the store cannot be reached
	lost   atomic.Int64
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// Sessions is how many there are, each with a writer.
const Sessions = 16

func name(i int) string { return fmt.Sprint("session-", i) }

// Start opens a DB named "a" on st and has it work.
func Start(t testing.TB, st store.Store) *Work {
	t.Helper()
	w := new(Work)
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	db, err := kvstore.Open[int](ctx, st, kvstore.Options{
		Node: "a", Codec: ints{}, MaxDelay: 5 * time.Millisecond, StoreTimeout: 500 * time.Millisecond, Lease: time.Second,
		Hooks: kvstore.Hooks{
			Lost: func(kvstore.Lost) { w.lost.Add(1) },
			Health: func(h kvstore.Health) {
				w.ill.Store(slices.Contains(h.Problems, kvstore.StoreUnreachable))
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.db = db
	t.Cleanup(w.die)
	for i := range Sessions {
		var s *kvstore.Session[int]
		Until(t, "a session is there", func() (ok bool) { // StoreTimeout is short, for a machine that has much to do
			if s, err = db.AdoptOrCreate(ctx, name(i)); err != nil {
				t.Log(err)
			}
			return err == nil
		})
		w.wg.Go(func() {
			for n := 1; ctx.Err() == nil; n++ {
				err := s.Update(ctx, func(tx *kvstore.Tx[int]) error { return errors.Join(tx.Put("", n), tx.Put("again", n)) })
				if err != nil {
					if ctx.Err() == nil {
						t.Errorf("Update: %v", err)
					}
					return
				}
				if err := s.Sync(ctx); err == nil {
					w.synced[i].Store(int64(n))
					w.syncs.Add(1)
				} else if ctx.Err() == nil {
					t.Errorf("Sync: %v", err)
					return
				}
			}
		})
	}
	return w
}

// DB returns the DB that works.
func (w *Work) DB() *kvstore.DB[int] { return w.db }

// Lost returns how many losses were reported.
func (w *Work) Lost() int64 { return w.lost.Load() }

// Until waits for something that must come.
func Until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain waited for this: %s", what)
		}
	}
}

// Progress waits until so many more changes are known to be stored.
func (w *Work) Progress(t testing.TB, n int64) {
	t.Helper()
	from := w.syncs.Load()
	Until(t, "changes are stored", func() bool { return w.syncs.Load() >= from+n })
}

// Endure has something befall the store, waits until Health tells, ends it, and waits until all is well again.
func (w *Work) Endure(t testing.TB, befall, end func()) {
	t.Helper()
	w.Progress(t, 200)
	befall()
	Until(t, "Health tells that there is no answer", w.ill.Load)
	end()
	// It tells of changes: what befalls the store before this one is told is none.
	Until(t, "Health tells that all is well again", func() bool { return !w.ill.Load() && w.db.Health().LastError == nil })
}

// die ends the work, and the DB without a last flush.
func (w *Work) die() {
	w.stop()
	w.wg.Wait()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	w.db.Close(now)
}

// End lets the node die, has another one adopt its sessions, and compares what that finds with what was known to be stored:
// nothing of it is lost, nothing is torn, and no epoch is another than it must be.
func (w *Work) End(t testing.TB, st store.Store) {
	t.Helper()
	w.die()
	ctx := context.Background()
	db, err := kvstore.Open[int](ctx, st, kvstore.Options{Node: "b", Codec: ints{}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)
	for i := range Sessions {
		s, err := db.Adopt(ctx, name(i), "again")
		if err != nil {
			t.Errorf("%s: %v", name(i), err)
			continue
		}
		a, err := s.Get(ctx, "")
		b, err2 := s.Get(ctx, "again")
		if want := int(w.synced[i].Load()); err != nil || err2 != nil || a < want || a != b || s.Epoch() != 2 {
			t.Errorf("%s is %d, %d in epoch %d (%v, %v); known to be stored was %d in epoch 1", name(i), a, b, s.Epoch(), err, err2, want)
		}
	}
	t.Logf("%d changes were known to be stored", w.syncs.Load())
}
