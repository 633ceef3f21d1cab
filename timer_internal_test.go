package kvstore

import (
	"context"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// A timer that is set anew, or cancelled, between the look at it and its firing does not fire: what was looked at is over.
func TestTimerMovesBeforeItFires(t *testing.T) {
	ctx := context.Background()
	db, err := Open[int](ctx, memory.New(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)
	s, err := db.Create(ctx, "s")
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	r := &ringer[int]{func(context.Context, *Tx[int], Firing[int]) error { calls++; return nil }}
	set := func(at time.Time) Timer {
		if err := s.At(ctx, "t", at, 1, InMemory); err != nil {
			t.Fatal(err)
		}
		return s.Timers()[0]
	}
	start := time.Now().Add(-time.Hour)
	old := set(start)
	set(start.Add(time.Minute))
	if err := db.fire(ctx, s, r, old); err != nil || calls > 0 || len(s.Timers()) != 1 {
		t.Errorf("a timer that was set anew: error %v, %d calls, %v are set", err, calls, s.Timers())
	}
	old = set(start)
	if err := db.fire(ctx, s, r, old); err != nil || calls != 1 || len(s.Timers()) != 0 {
		t.Errorf("a timer that is set: error %v, %d calls, %v are set", err, calls, s.Timers())
	}
	if err := db.fire(ctx, s, r, old); err != nil || calls != 1 {
		t.Errorf("a timer that has fired: error %v, %d calls", err, calls)
	}
}

// An alarm that goes off while its session is being rung has it looked at again.
func TestAlarmWhileRung(t *testing.T) {
	ctx := context.Background()
	db, err := Open[int](ctx, memory.New(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)
	if _, err := db.OnTimer(func(context.Context, *Tx[int], Firing[int]) error { return nil }); err != nil {
		t.Fatal(err)
	}
	r := new(ring)
	db.clock.busy.Lock()
	db.clock.rung["s"] = r
	db.clock.busy.Unlock()
	if !db.ring(ctx, "s") {
		t.Error("nobody is there to ring")
	}
	db.clock.busy.Lock()
	defer db.clock.busy.Unlock()
	if !r.again {
		t.Error("the alarm is lost")
	}
	delete(db.clock.rung, "s")
}
