package kvstore

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// Close and a lane that it does not wait for meet at places of a few instructions, which are played by hand here.

// given returns a DB with one dirty session, and counts the entries that are reported lost.
func given(t *testing.T) (db *DB[string], s *session[string], lost func() int) {
	t.Helper()
	n := 0
	db, err := Open[string](t.Context(), memory.New(), Options{
		Node: "a", MaxDelay: time.Hour, Flushers: 1, Hooks: Hooks{Lost: func(l Lost) { n += len(l.Entries) }},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Put(t.Context(), "s", "v"); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return db, db.sessions.load("s"), func() int { synctest.Wait(); return n }
}

// A lane that finds itself given up after it has collected a session puts back what it has, and Close finds it there.
func TestCollectedAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, s, lost := given(t)
		l := db.lane(s)
		l.mu.Lock()
		l.abandoned, l.kicked = true, true
		l.mu.Unlock()
		if wait, _ := l.take(); wait != 0 {
			t.Fatalf("the lane has nothing to flush for %v", time.Duration(wait))
		}
		l.flush(t.Context())
		err := db.remains(nil, true)
		var left *UnsavedError
		if !errors.As(err, &left) || left.Entries != 1 || lost() != 1 {
			t.Errorf("%v; %d entries were reported lost, not 1", err, lost())
		}
		db.Close(context.Background())
	})
}

// An answer for what Close has handed over changes nothing.
func TestAnsweredAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, s, lost := given(t)
		l := db.lane(s)
		b := new(batch[string])
		s.mu.Lock()
		b.collect(db, s)
		s.mu.Unlock()
		f := &b.flights[0]
		f.items[0].err = errors.New("cannot be encoded")
		l.mu.Lock()
		l.batches[0].aloft = b.flights
		l.mu.Unlock()
		db.remains(nil, true)
		if lost() != 1 {
			t.Fatalf("%d entries were reported lost, not 1", lost())
		}
		held := db.Stats().Buffered
		l.settle(f, store.Result{Outcome: store.Applied}, false)
		if n := db.Stats().Buffered; lost() != 1 || n != held {
			t.Errorf("%d entries were reported lost, not 1; %d bytes of the buffer are held, before it was %d", lost(), n, held)
		}
		db.Close(context.Background())
	})
}
