package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// While the store has a batch, the lane gathers the next one.

// gate is a store whose Apply waits until it is told what to answer.
type gate struct {
	tap
	calls  [][]string // the sessions of each call
	answer chan error // nil: do it
}

func newGate() *gate {
	g := &gate{tap: tap{Store: memory.New()}, answer: make(chan error)}
	g.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
		var ids []string
		for _, c := range cs {
			ids = append(ids, c.Session)
		}
		g.calls = append(g.calls, ids)
		select {
		case err := <-g.answer:
			if err != nil {
				return nil, err
			}
			return g.Store.Apply(ctx, cs)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return g
}

// all lets every call pass from now on.
func (g *gate) all() {
	synctest.Wait()
	g.apply = nil
	close(g.answer)
}

// counted is a codec that counts what it encodes.
type counted struct {
	intCodec
	n *atomic.Int64
}

func (c counted) Append(dst []byte, v any) ([]byte, error) {
	c.n.Add(1)
	return c.intCodec.Append(dst, v)
}

// ahead opens a DB whose lane has sent its first batch of eight, and has as many sessions more.
func ahead(t *testing.T, hooks kvstore.Hooks) (g *gate, db *kvstore.DB[int], ss []*kvstore.Session[int], encoded *atomic.Int64) {
	g, encoded = newGate(), new(atomic.Int64)
	o := brisk("a")
	o.Flushers, o.MaxDelay, o.MaxBatch, o.StoreTimeout, o.Codec, o.Hooks = 1, time.Minute, 8, time.Hour, counted{n: encoded}, hooks
	db = openInts(t, g, o)
	ss = dirtySessions(t, db, 24)
	time.Sleep(time.Minute)
	synctest.Wait()
	return g, db, ss, encoded
}

// The next batch is encoded while the store has the first one, but for the room of those that someone will wait for: they are not a batch later for it.
func TestGathersAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, db, ss, encoded := ahead(t, kvstore.Hooks{})
		if n := encoded.Load(); n != 14 {
			t.Errorf("%d values were encoded while the store had the first batch, want 8 and 6", n)
		}
		late, err := db.Create(t.Context(), "late")
		check(t, err)
		check(t, late.Put(t.Context(), "", 1))
		told := make(chan error, 1)
		go func() { told <- late.Sync(t.Context()) }()
		synctest.Wait()
		g.answer <- nil
		synctest.Wait()
		if len(g.calls) != 2 || len(g.calls[1]) != 8 || !slices.Contains(g.calls[1], "late") {
			t.Errorf("the second call is not of eight, with the one that is waited for: %q", g.calls)
		}
		// What changes after it was gathered is not lost with the answer to it.
		check(t, ss[len(ss)-1].Put(t.Context(), "", 1000))
		for i := range ss {
			check(t, ss[i].Put(t.Context(), "", 1000+i))
		}
		g.all()
		check(t, <-told)
		check(t, db.Flush(t.Context()))
		for i := range ss {
			if _, m := ints(t, g.Store, fmt.Sprint("s", i)); m[""] != 1000+i {
				t.Errorf("session %d has %v", i, m)
			}
		}
		if s := db.Stats(); s.Buffered != 0 || s.Lag != 0 {
			t.Errorf("%d bytes are left, lag %v", s.Buffered, s.Lag)
		}
		check(t, db.Close(t.Context()))
	})
}

// After a failure the next call is half of the one that failed, as if nothing had been gathered; and what was gathered, and not sent, counts as never proposed: a creation among it is
// made again above a former life, which the store has ended.
func TestGatheredBeforeAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, db, ss, _ := ahead(t, kvstore.Hooks{})
		failed := g.calls[0]
		var waiting []string // gathered next
		for i := range ss {
			if id := ss[i].ID(); !slices.Contains(failed, id) {
				waiting = append(waiting, id)
			}
		}
		slices.Sort(waiting)
		other := store.Owner{Node: "other", Incarnation: store.NewIncarnation()}
		for _, id := range waiting {
			for seq, end := range []bool{false, true} {
				rs, err := g.Store.Apply(t.Context(), []store.Change{{Session: id, Owner: other, Epoch: 7, Seq: uint64(seq + 1), Create: !end, Delete: end}})
				check(t, err)
				if rs[0].Outcome != store.Applied {
					t.Fatalf("%+v", rs[0])
				}
			}
		}
		g.answer <- errors.New("the line is cut")
		time.Sleep(time.Second)
		synctest.Wait()
		if len(g.calls) != 2 || !slices.Equal(g.calls[1], failed[:4]) {
			t.Fatalf("after a failure of %q the calls are %q", failed, g.calls[1:])
		}
		g.all()
		check(t, db.Flush(t.Context()))
		for i := range ss {
			h, m := ints(t, g.Store, ss[i].ID())
			if m[""] != i || (h.Epoch > 7) != slices.Contains(waiting, ss[i].ID()) {
				t.Errorf("session %s has %v, header %+v", ss[i].ID(), m, h)
			}
		}
		if s := db.Stats(); s.Buffered != 0 || s.Lag != 0 || s.Fenced != 0 || s.Lost != 0 {
			t.Errorf("%+v", s)
		}
		check(t, db.Close(t.Context()))
	})
}

// Close hands over each session once that is not stored, whether the store listens to its context, answers all the same (also that it rejects one), or does not return: those that it has,
// those that were gathered, and those that were not.
func TestCloseWithABatchGathered(t *testing.T) {
	for _, c := range []struct {
		how  string
		left int
	}{{"obeys", 24}, {"answers", 16}, {"rejects", 16}, {"deaf", 24}} {
		t.Run(c.how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l losses
				g, db, ss, _ := ahead(t, kvstore.Hooks{Lost: l.hook})
				g.all()
				check(t, db.Flush(t.Context()))
				wake := make(chan struct{})
				defer func() { close(wake); synctest.Wait() }()
				g.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
					if c.how == "deaf" {
						<-wake
					}
					if <-ctx.Done(); c.how == "obeys" {
						return nil, ctx.Err()
					}
					if c.how == "rejects" { // one of them
						rs, err := g.Store.Apply(context.WithoutCancel(ctx), cs[1:])
						return append([]store.Result{{Outcome: store.Rejected, Err: errors.New("not this one")}}, rs...), err
					}
					return g.Store.Apply(context.WithoutCancel(ctx), cs)
				}
				for i := range ss {
					check(t, ss[i].Put(t.Context(), "", 100+i))
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				var left *kvstore.UnsavedError
				if err := db.Close(over()); !errors.As(err, &left) || left.Sessions != c.left || left.Entries != c.left {
					t.Errorf("%v, want %d", err, c.left)
				}
				for i := range ss {
					_, m := ints(t, g.Store, ss[i].ID())
					if n := l.count(ss[i].ID(), ""); n != 1 && m[""] != 100+i || n > 1 {
						t.Errorf("session %s was reported lost %d times, and has %v", ss[i].ID(), n, m)
					}
				}
			})
		})
	}
}
