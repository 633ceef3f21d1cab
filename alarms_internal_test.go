package kvstore

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// An entry that is put with and without an expiry by turns, as a timer is, holds no
// memory for it.
func TestAlarmsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db, err := Open[int](ctx, memory.New(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := db.Create(ctx, "s")
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Hour)
		for i := range 10_000 {
			if err := s.PutUntil(ctx, "timer", i, at); err != nil {
				t.Fatal(err)
			}
			if err := s.Put(ctx, "timer", i); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.PutUntil(ctx, "timer", 0, at); err != nil {
			t.Fatal(err)
		}
		db.expirer.mu.Lock()
		n := db.expirer.wheel.n
		db.expirer.mu.Unlock()
		if n != 1 {
			t.Errorf("one timer holds %d alarms", n)
		}
		time.Sleep(time.Until(at) + time.Millisecond)
		synctest.Wait()
		if db.Stats().Expired != 1 {
			t.Errorf("%d things expired, want the timer, once", db.Stats().Expired)
		}
		if err := db.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// Entries that expire, and are deleted before, leave no alarms behind.
func TestAlarmsOfTheDeleted(t *testing.T) {
	ctx := context.Background()
	db, err := Open[string](ctx, memory.New(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)
	s, _ := db.Create(ctx, "s")
	for i := range 50_000 {
		k := fmt.Sprintf("timer/%d", i)
		s.PutUntil(ctx, k, "x", time.Now().Add(time.Hour))
		s.Delete(ctx, k)
	}
	db.Flush(ctx)
	db.expirer.mu.Lock()
	n := db.expirer.wheel.n
	db.expirer.mu.Unlock()
	if n != 0 {
		t.Errorf("nothing expires any more, and there are %d alarms, for an hour", n)
	}
}
