package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// A store that refuses a change and does not say which entry is to blame.

// While the entry to blame is looked for, entries that change all the time do not keep the others from their turn.
func TestProbingIsFair(t *testing.T) {
	for _, hot := range [][]string{{""}, {"h1", "h2"}} {
		t.Run(strings.Join(hot, "+"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				mem := memory.New()
				var probes atomic.Int64
				line := &tap{Store: mem}
				line.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
					time.Sleep(10 * time.Millisecond)
					rs := make([]store.Result, len(cs))
					for i, c := range cs {
						if slices.ContainsFunc(c.Puts, func(e store.Entry) bool { return e.Key == "poison" }) {
							probes.Add(1)
							rs[i] = store.Result{Outcome: store.Rejected, Err: store.ErrTooLarge}
							continue
						}
						one, err := mem.Apply(ctx, cs[i:i+1])
						if err != nil {
							return nil, err
						}
						rs[i] = one[0]
					}
					return rs, nil
				}
				var lost atomic.Int64
				db := openInts(t, line, kvstore.Options{Node: "a", Hooks: kvstore.Hooks{Lost: func(kvstore.Lost) { lost.Add(1) }}})
				s, err := db.Create(ctx, "s")
				check(t, err)
				check(t, s.Sync(ctx))
				stop := make(chan struct{})
				done := make(chan struct{})
				go func() {
					defer close(done)
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						case <-time.After(time.Millisecond):
						}
						for _, k := range hot {
							s.Put(ctx, k, i)
						}
					}
				}()
				check(t, s.Put(ctx, "poison", 1))
				check(t, s.Put(ctx, "good", 2))
				time.Sleep(time.Second) // the poison is found in this time, if ever
				check(t, s.Put(ctx, "later", 3))
				short, cancel := context.WithTimeout(ctx, 10*time.Minute)
				defer cancel()
				err = s.Sync(short)
				_, m := ints(t, mem, "s")
				if !errors.Is(err, kvstore.ErrRejected) || m["good"] != 2 || m["later"] != 3 || lost.Load() != 1 {
					t.Errorf("after ten minutes: Sync gives %v, the store has good=%d later=%d, %d reported lost, %d attempts with the poison, lag %v", err, m["good"], m["later"], lost.Load(), probes.Load(), db.Stats().Lag)
				}
				close(stop)
				<-done
				check(t, db.Close(ctx))
			})
		})
	}
}

// Flush and the lag count what a probed session has left, also if it changes meanwhile.
func TestFlushWaitsForProbing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		line := &tap{Store: mem}
		line.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			time.Sleep(10 * time.Millisecond)
			rs := make([]store.Result, len(cs))
			for i, c := range cs {
				if slices.ContainsFunc(c.Puts, func(e store.Entry) bool { return e.Key == "poison" }) {
					rs[i] = store.Result{Outcome: store.Rejected, Err: store.ErrTooLarge}
					continue
				}
				one, err := mem.Apply(ctx, cs[i:i+1])
				if err != nil {
					return nil, err
				}
				rs[i] = one[0]
			}
			return rs, nil
		}
		db := openInts(t, line, kvstore.Options{Node: "a", MaxDelay: time.Second, Flushers: 1})
		defer db.Close(ctx)
		s, err := db.Create(ctx, "s")
		check(t, err)
		check(t, s.Sync(ctx))
		for i := range 20 {
			check(t, s.Put(ctx, fmt.Sprint("good", i), i))
		}
		check(t, s.Put(ctx, "poison", 1))
		start := time.Now()
		go func() {
			time.Sleep(15 * time.Millisecond) // the first part is in flight
			s.Put(ctx, "another", 1)
		}()
		err = db.Flush(ctx)
		took, lag, mine := time.Since(start), db.Stats().Lag, s.Lag()
		_, m := ints(t, mem, "s")
		if len(m) < 20 && (err == nil || errors.Is(err, kvstore.ErrRejected)) {
			t.Errorf("Flush returned after %v with %v, and %d of 20 sound entries that were put before it are stored; lag is said to be %v, the session's %v", took, err, len(m), lag, mine)
		}
	})
}
