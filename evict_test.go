package kvstore_test

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"weak"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// A scan of many sessions that are touched once does not drive out those that are touched again and again.
func TestEvictionResistsScans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		const limit, hot, scanned = 100, 40, 3000
		o := brisk("a")
		o.MaxResident = limit
		db := openInts(t, memory.New(), o)
		defer db.Close(ctx)
		touch := func(i int) {
			_, err := db.Get(ctx, fmt.Sprint("hot", i))
			check(t, err)
		}
		for i := range hot {
			check(t, db.Put(ctx, fmt.Sprint("hot", i), i))
		}
		check(t, db.Flush(ctx))
		for i := range hot {
			touch(i)
		}
		before := db.Stats()
		for i := range scanned {
			check(t, db.Put(ctx, fmt.Sprint("scanned", i), i))
			if i%10 == 9 {
				check(t, db.Flush(ctx))
				synctest.Wait() // for the eviction, which keeps pace
				for i := range hot {
					touch(i)
				}
			}
		}
		s := db.Stats().Sub(before)
		// The hand's first round finds all touched and spares none; first in, first out loads 1,680 again.
		if s.Reloaded > 2*hot {
			t.Errorf("%d hot sessions were loaded again %d times during a scan", hot, s.Reloaded)
		}
		if s.Resident > 2*limit || s.Evicted < scanned-2*limit {
			t.Errorf("%d sessions are resident, %d were evicted; the limit is %d", s.Resident, s.Evicted, limit)
		}
		for i := range scanned { // what was evicted is owned, and there
			if v, err := db.Get(ctx, fmt.Sprint("scanned", i)); v != i || err != nil {
				t.Fatalf("scanned%d is %d, %v", i, v, err)
			}
		}
	})
}

// A DB that was closed is garbage when nobody has it, whatever it evicted, and whoever had a handle on that.
func TestClosedIsGarbage(t *testing.T) {
	var gone weak.Pointer[kvstore.DB[int]]
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		o := brisk("a")
		o.MaxResident = 2
		db := openInts(t, memory.New(), o)
		gone = weak.Make(db)
		var handles []*kvstore.Session[int]
		for i := range 50 {
			s, err := db.AdoptOrCreate(ctx, fmt.Sprint(i))
			check(t, err)
			check(t, s.Put(ctx, "", i))
			check(t, db.Flush(ctx))
			handles = append(handles, s)
		}
		for i, s := range handles {
			if v, err := s.Get(ctx, ""); v != i || err != nil {
				t.Errorf("%d reads as %d, %v", i, v, err)
			}
		}
		check(t, db.Close(ctx))
	})
	runtime.GC()
	if gone.Value() != nil {
		t.Error("something holds it")
	}
}
