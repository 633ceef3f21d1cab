package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// Expiry, in virtual time.

// An entry's expiry is absolute, and judged by each read to the millisecond, in memory and in the store.
func TestEntryExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		j := newJournal(memory.New())
		db := openInts(t, j, kvstore.Options{})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		here := func(key string) bool {
			t.Helper()
			_, err := s.Get(ctx, key)
			want(t, err, nil, kvstore.ErrNotFound)
			all, aerr := s.All(ctx)
			check(t, aerr)
			found := false
			for k := range all {
				found = found || k == key
			}
			uerr := s.Update(ctx, func(tx *kvstore.Tx[int]) error { _, err := tx.Get(key); return err })
			if key == "" {
				_, derr := db.Get(ctx, "s")
				if (derr == nil) != (err == nil) {
					t.Errorf("DB.Get and Session.Get differ: %v, %v", derr, err)
				}
			}
			if found != (err == nil) || (uerr == nil) != (err == nil) {
				t.Errorf("key %q: Get says %v, All %v, Update %v", key, err, found, uerr)
			}
			return err == nil
		}
		start := time.Now()
		check(t, s.PutUntil(ctx, "", 1, start.Add(300*time.Millisecond+100*time.Microsecond)))
		check(t, s.PutUntil(ctx, "a", 1, start.Add(time.Second)))
		check(t, s.PutUntil(ctx, "b", 1, start.Add(time.Second)))
		check(t, s.PutUntil(ctx, "c", 1, start.Add(time.Second)))
		check(t, s.PutUntil(ctx, "past", 1, start.Add(-time.Second)))
		check(t, s.PutUntil(ctx, "far", 1, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)))
		check(t, s.PutUntil(ctx, "farther", 1, time.Unix(math.MaxInt64/2, 0)))
		if here("past") {
			t.Error("an expiry that is past is judged as none")
		}
		time.Sleep(300*time.Millisecond + 50*time.Microsecond)
		if !here("") {
			t.Error("an entry ended before its time, which is not a whole millisecond")
		}
		time.Sleep(time.Millisecond)
		if here("") {
			t.Error("an entry is there after its time")
		}
		check(t, s.Put(ctx, "a", 2))                                      // clears its expiry
		check(t, s.PutUntil(ctx, "c", 2, time.Now().Add(10*time.Second))) // moves its own, and nobody else's
		time.Sleep(time.Until(start.Add(time.Second)) - time.Millisecond)
		if !here("b") {
			t.Error("an entry ended 1 ms before its time")
		}
		time.Sleep(time.Millisecond)
		for key, alive := range map[string]bool{"a": true, "b": false, "c": true, "far": true, "farther": true} {
			if here(key) != alive {
				t.Errorf("key %q is there: %v", key, !alive)
			}
		}
		// The sweep frees memory, and the store is told by an ordinary write.
		time.Sleep(time.Second)
		if n := db.Stats().Expired; n != 3 { // "", past, b
			t.Errorf("%d entries expired", n)
		}
		_, stored := ints(t, j, "s")
		if len(stored) != 4 {
			t.Errorf("the store has %v", stored)
		}
		time.Sleep(10 * time.Second)
		if here("c") {
			t.Error("an expiry that was moved never comes")
		}
		// Another node judges the same.
		check(t, s.PutUntil(ctx, "d", 1, time.Now().Add(time.Minute)))
		closeDB(t, db)
		time.Sleep(time.Minute)
		db = openInts(t, j, kvstore.Options{})
		s, err = db.Adopt(ctx, "s", "d")
		check(t, err)
		if here("d") || !here("far") || !here("farther") || !here("a") {
			t.Error("an adopter sees other entries")
		}
		closeDB(t, db)
	})
}

// A session's expiry ends it with everything in it, everywhere; what is made after it is new.
func TestSessionExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		j := newJournal(mem)
		db := openInts(t, j, kvstore.Options{Node: "a"})
		b := openInts(t, mem, kvstore.Options{Node: "b"})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "", 1))
		check(t, s.Put(ctx, "k", 1))
		check(t, s.Sync(ctx))
		j.take()

		// A sliding touch costs one header a window, however often.
		start := time.Now()
		for time.Since(start) < time.Second {
			check(t, s.Expire(ctx, time.Now().Add(time.Second)))
			time.Sleep(7 * time.Millisecond)
		}
		calls := j.take()
		if puts, deletes := written(calls); len(calls) > 10 || puts+deletes > 0 {
			t.Errorf("touched for 1 s: %d writes, of %d entries", len(calls), puts+deletes)
		}
		end := s.Expires()
		if left := time.Until(end); left < 990*time.Millisecond || left > time.Second {
			t.Errorf("it expires in %v", left)
		}
		time.Sleep(time.Until(end) - time.Millisecond)
		if v, err := db.Get(ctx, "s"); err != nil || v != 1 {
			t.Errorf("1 ms before its end: %d, %v", v, err)
		}
		epoch := s.Epoch()
		time.Sleep(time.Millisecond)
		_, err = db.Get(ctx, "s")
		want(t, err, kvstore.ErrNotFound, kvstore.ErrNotResident)
		_, err = s.Get(ctx, "k")
		want(t, err, kvstore.ErrNotFound)
		want(t, s.Put(ctx, "k", 2), kvstore.ErrNotFound)
		want(t, s.Expire(ctx, time.Now().Add(time.Hour)), kvstore.ErrNotFound) // it is too late
		_, err = db.Adopt(ctx, "s")
		want(t, err, kvstore.ErrNotFound)
		time.Sleep(time.Second) // swept, here and in the store
		if n := db.Stats(); n.Resident != 0 || n.Expired != 1 || n.Buffered != 0 {
			t.Errorf("after its end: %+v", n)
		}
		h, stored := ints(t, mem, "s")
		if !h.Deleted || h.Epoch != epoch || len(stored) != 0 {
			t.Errorf("what is left of it: %+v, %v", h, stored)
		}
		_, err = b.Adopt(ctx, "s")
		want(t, err, kvstore.ErrNotFound)
		s, err = b.Create(ctx, "s")
		check(t, err)
		check(t, s.Sync(ctx))
		if s.Epoch() <= epoch {
			t.Errorf("the new life has epoch %d, the old one had %d", s.Epoch(), epoch)
		}
		if all, err := s.All(ctx); err != nil {
			t.Error(err)
		} else {
			for k, v := range all {
				t.Errorf("the new life begins with %q: %d", k, v)
			}
		}

		// Its owner dies with it: nobody adopts what has expired, and a new life is above the old.
		check(t, db.Put(ctx, "orphan", 1))
		so, err := db.Session(ctx, "orphan")
		check(t, err)
		check(t, so.Expire(ctx, time.Now().Add(time.Minute)))
		check(t, db.Flush(ctx))
		was := so.Epoch()
		j.set(func(j *journal) { j.cut = true })
		db.Close(over())
		time.Sleep(2 * time.Minute)
		_, err = b.Adopt(ctx, "orphan")
		want(t, err, kvstore.ErrNotFound)
		got, err := b.AdoptOrphans(ctx, kvstore.Takeover{All: true})
		if err != nil || got.Adopted+got.Seen != 0 {
			t.Errorf("orphans: %+v, %v", got, err)
		}
		s, err = b.AdoptOrCreate(ctx, "orphan")
		check(t, err)
		if _, err := s.Get(ctx, ""); !errors.Is(err, kvstore.ErrNotFound) || s.Epoch() <= was || !s.Expires().IsZero() {
			t.Errorf("the new life: %v, epoch %d after %d, expires %v", err, s.Epoch(), was, s.Expires())
		}
		closeDB(t, b)
	})
}

// A resident session that expired is revived by Put as a new one, even before it was swept.
func TestRevivedAfterExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		db := openInts(t, mem, kvstore.Options{MaxDelay: time.Minute, LagAlarm: time.Minute})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "old", 1))
		check(t, s.Expire(ctx, time.Now().Add(time.Second)))
		check(t, s.Sync(ctx))
		time.Sleep(time.Second) // the sweeper and this are free to run in any order
		check(t, db.Put(ctx, "s", 2))
		check(t, db.Flush(ctx))
		s, err = db.Session(ctx, "s")
		check(t, err)
		_, err = s.Get(ctx, "old")
		want(t, err, kvstore.ErrNotFound)
		h, stored := ints(t, mem, "s")
		if len(stored) != 1 || stored[""] != 2 || h.Expires != 0 || h.Deleted {
			t.Errorf("the new life is stored as %+v, %v", h, stored)
		}
		time.Sleep(time.Hour)
		if v, err := s.Get(ctx, ""); err != nil || v != 2 {
			t.Errorf("the new life ended with the old one's expiry: %d, %v", v, err)
		}
		closeDB(t, db)
	})
}

// What expires during a hand-over that is then given up is swept all the same.
func TestExpiryDuringAReleaseGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		j := newJournal(mem)
		db := openInts(t, j, kvstore.Options{})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "stays", 1))
		check(t, s.PutUntil(ctx, "goes", 1, time.Now().Add(10*time.Second)))
		whole, err := db.AdoptOrCreate(ctx, "whole")
		check(t, err)
		check(t, whole.Expire(ctx, time.Now().Add(20*time.Second)))
		check(t, db.Flush(ctx))
		j.set(func(j *journal) { j.down = errDown })
		limit, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		go func() {
			// No sweeper has been there: the reader judges.
			time.Sleep(12 * time.Second)
			_, err := s.Get(ctx, "goes")
			want(t, err, kvstore.ErrNotFound)
			want(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error { _, err := tx.Get("goes"); return err }), kvstore.ErrNotFound)
			if all, err := s.All(ctx); err != nil || !maps.Equal(maps.Collect(all), map[string]int{"stays": 1}) {
				t.Errorf("All gives what has expired: %v", err)
			}
		}()
		want(t, db.Drain(limit), context.DeadlineExceeded)
		j.set(func(j *journal) { j.down = nil })
		time.Sleep(time.Minute)
		if _, got := ints(t, mem, "s"); !maps.Equal(got, map[string]int{"stays": 1}) {
			t.Errorf("stored: %v", got)
		}
		if h, _ := ints(t, mem, "whole"); !h.Deleted || db.Stats().Resident != 1 {
			t.Errorf("the session is %+v", h)
		}
		if n := db.Stats().Expired; n != 2 {
			t.Errorf("%d were swept", n)
		}
		closeDB(t, db)
	})
}

// While Close waits for a slow flush, what expires elsewhere is left to the store: it is no
// change that could come too late.
func TestExpiryDuringClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		j := newJournal(memory.New())
		db := openInts(t, j, kvstore.Options{StoreTimeout: time.Minute, Hooks: kvstore.Hooks{
			Lost: func(l kvstore.Lost) { t.Errorf("lost: %+v", l) },
		}})
		for i := range 16 { // some on each lane
			s, err := db.AdoptOrCreate(ctx, fmt.Sprint(i))
			check(t, err)
			check(t, s.PutUntil(ctx, "brief", 1, time.Now().Add(5*time.Second)))
		}
		check(t, db.Flush(ctx))
		check(t, db.Put(ctx, "busy", 1))
		j.set(func(j *journal) { j.takes = 10 * time.Second })
		closeDB(t, db)
		if _, got := ints(t, j, "busy"); got[""] != 1 {
			t.Errorf("stored: %v", got)
		}
	})
}
