package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// Timers that set themselves anew go on, whatever the store does, and nodes that die: each firing finds the state that the one before has left, none is early, and at the
// end each session has one timer, which says what the session has counted. So no arm is lost, and none is doubled.
func TestFaultsTimers(t *testing.T) {
	for _, f := range linefaults {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { timersAmongFaults(t, f.Fault) })
		})
	}
}

func timersAmongFaults(t *testing.T, fault storetest.Fault) {
	ctx := context.Background()
	st := memory.New()
	rnd := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex // of rnd
	calm := false
	opt := kvstore.Options{MaxDelay: 20 * time.Millisecond, Lease: time.Second, StoreTimeout: time.Second, RetryMax: 200 * time.Millisecond,
		Hooks: kvstore.Hooks{Lost: func(kvstore.Lost) {}}}
	ring := func(ctx context.Context, tx *kvstore.Tx[int], f kvstore.Firing[int]) error {
		n, err := tx.Add("fired", 1)
		if err != nil {
			return err
		}
		if int(n) != f.Payload || time.Now().Before(f.At) {
			t.Errorf("%s, epoch %d: firing %d at %v finds %d counted, %v late", f.Session, f.Epoch, f.Payload, f.At, n, time.Since(f.At))
		}
		return tx.After("t", 50*time.Millisecond, f.Payload+1)
	}
	type member struct {
		db *kvstore.DB[int]
		f  *storetest.Faults
	}
	open := func(name string) member {
		f := storetest.NewFaults(st)
		o := opt
		o.Node = name
		db := openInts(t, f, o)
		onTimer(t, db, ring)
		f.Inject(func(storetest.Call) storetest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if calm || rnd.IntN(4) > 0 {
				return storetest.Fault{}
			}
			return fault
		})
		return member{db, f}
	}
	ms := []member{open("n0"), open("n1"), open("n2")}
	const sessions = 6
	for i := range sessions {
		for {
			s, err := ms[i%3].db.AdoptOrCreate(ctx, fmt.Sprint("s", i))
			if err == nil && len(s.Timers()) == 0 {
				err = s.After(ctx, "t", 50*time.Millisecond, 1, kvstore.InMemory)
			}
			if err == nil {
				err = s.Sync(ctx)
			}
			if err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	for round := range 3 {
		time.Sleep(5 * time.Second)
		i := round % 3
		ms[i].f.Inject(func(storetest.Call) storetest.Fault { return storetest.Fault{Fail: storetest.Before} })
		ms[i].db.Close(over())  // it dies
		ms[i].f.ReplayLate(ctx) // what was on its way arrives now
		ms[i] = open(fmt.Sprint("n", i, ".", round))
	}
	mu.Lock()
	calm = true
	mu.Unlock()
	time.Sleep(15 * time.Second)
	var fired, before int64
	for _, m := range ms {
		before += m.db.Stats().Fired
	}
	time.Sleep(5 * time.Second)
	for _, m := range ms {
		fired += m.db.Stats().Fired
	}
	if per := (fired - before) / sessions; per < 80 || per > 101 { // a firing, and the next one 50 ms after it
		t.Errorf("with the store well, each session's timer fires %d times in 5 s, want 100, or a few less", per)
	}
	for _, m := range ms {
		closeDB(t, m.db)
	}
	db := openInts(t, st, kvstore.Options{Node: "judge"})
	defer closeDB(t, db)
	for i := range sessions {
		s, err := db.Adopt(ctx, fmt.Sprint("s", i))
		check(t, err)
		check(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error {
			n, err := tx.Counter("fired")
			_, next, err2 := tx.Timer("t")
			if err := errors.Join(err, err2); err != nil || next != int(n)+1 || n < 200 || len(s.Timers()) != 1 {
				t.Errorf("s%d has counted %d, and timer %d is next, of %v (error %v)", i, n, next, s.Timers(), err)
			}
			return nil
		}))
	}
}
