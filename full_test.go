package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// The buffer's bound, from its edges.

// Whoever waits for room has it as soon as the store answers, and not when MaxDelay is over.
func TestWaiterIsServedByAFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		line := storetest.NewFaults(mem)
		db, err := kvstore.Open[string](ctx, line, kvstore.Options{Node: "a", MaxBuffer: 4096, MaxDelay: time.Hour})
		check(t, err)
		defer db.Close(ctx)
		for _, id := range []string{"x", "y", "z"} {
			_, err := db.AdoptOrCreate(ctx, id)
			check(t, err)
		}
		line.Inject(storetest.First(1, storetest.Fault{Delay: time.Second}, storetest.Apply))
		check(t, db.Put(ctx, "x", string(make([]byte, 3500))))
		go db.Put(ctx, "y", string(make([]byte, 1500)))
		synctest.Wait()
		start := time.Now()
		check(t, db.Put(ctx, "z", string(make([]byte, 3500))))
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("the store answers within a second, and a Put waited %v for room", d)
		}
	})
}

// Of a buffer that is full, and rejects, something is flushed.
func TestRejectFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db := openInts(t, memory.New(), kvstore.Options{Node: "a", MaxBuffer: 4096, MaxDelay: time.Hour, Overflow: kvstore.Reject})
		defer db.Close(ctx)
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		for i := 0; err == nil; i++ {
			err = s.Put(ctx, fmt.Sprint(i), i)
		}
		want(t, err, kvstore.ErrFull)
		time.Sleep(30 * time.Minute)
		if err := s.Put(ctx, "k", 1); err != nil {
			t.Errorf("half an hour later: %v", err)
		}
	})
}

// What expires during an outage keeps the bound of the buffer, too.
func TestExpiryKeepsTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		line := storetest.NewFaults(mem)
		a := openInts(t, line, kvstore.Options{Node: "a", MaxBuffer: 4096})
		defer a.Close(ctx)
		for i := range 1000 {
			s, err := a.Create(ctx, fmt.Sprint("s", i))
			check(t, err)
			check(t, s.Expire(ctx, time.Now().Add(10*time.Second)))
		}
		check(t, a.Flush(ctx))
		line.Down(true)
		time.Sleep(20 * time.Second)
		if n := a.Stats().Buffered; n > 2*4096 {
			t.Errorf("MaxBuffer is 4096, and %d bytes are held", n)
		}
		line.Down(false)
		time.Sleep(time.Minute)
	})
}

// A key that is put and deleted by turns holds no memory that the buffer does not count.
func TestPutAndDeleteHoldNothing(t *testing.T) {
	ctx := context.Background()
	mem := memory.New()
	line := storetest.NewFaults(mem)
	db := openInts(t, line, kvstore.Options{Node: "a", MaxBuffer: 1 << 20, StoreTimeout: time.Minute, Lease: time.Hour})
	defer db.Close(over())
	s, err := db.Create(ctx, "s")
	check(t, err)
	check(t, s.Sync(ctx))
	line.Inject(storetest.Every(storetest.Fault{Fail: storetest.Before, Hang: true}, storetest.Apply))
	check(t, s.Put(ctx, "x", 1))
	time.Sleep(200 * time.Millisecond)
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	const n = 500_000
	for range n {
		check(t, s.Put(ctx, "k", 1))
		check(t, s.Delete(ctx, "k"))
	}
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("%d puts and deletes of one key: the heap has grown by %d MiB; MaxBuffer is 1 MiB, Buffered %d bytes", n, grown>>20, db.Stats().Buffered)
	}
	runtime.KeepAlive(s)
}

// Keys that came and went are not remembered for ever.
func TestDeletedKeysAreForgotten(t *testing.T) {
	ctx := context.Background()
	mem := memory.New()
	db := openInts(t, mem, kvstore.Options{Node: "a", Lease: time.Hour})
	defer db.Close(ctx)
	check(t, db.Put(ctx, "s", 1))
	check(t, db.Release(ctx, "s"))
	s, err := db.Adopt(ctx, "s")
	check(t, err)
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	const n = 100_000
	for i := range n {
		k := fmt.Sprintf("timer/%08d", i)
		check(t, s.Put(ctx, k, 1))
		check(t, s.Delete(ctx, k))
		if i%1000 == 0 {
			check(t, s.Sync(ctx))
		}
	}
	check(t, s.Sync(ctx))
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("%d keys came and went in an adopted session: the heap has grown by %d MiB for good", n, grown>>20)
	}
	runtime.KeepAlive(s)
}

// A full buffer does what Options.Overflow says, and nothing that was refused is there.
func TestFullBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		j := newJournal(mem)
		db := openInts(t, j, kvstore.Options{MaxBuffer: 4 << 10, Overflow: kvstore.Reject})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		j.set(func(j *journal) { j.down = errDown })
		n := 0
		for ; ; n++ {
			if err = s.Put(ctx, fmt.Sprint(n), n); err != nil {
				break
			}
		}
		want(t, err, kvstore.ErrFull)
		if _, err := s.Get(ctx, fmt.Sprint(n)); !errors.Is(err, kvstore.ErrNotFound) || n < 10 {
			t.Errorf("after %d: %v", n, err)
		}
		synctest.Wait()               // the flush that the refusal has asked for is over: what it held is dirty again
		check(t, s.Put(ctx, "1", -1)) // what is dirty already needs no more room
		j.set(func(j *journal) { j.down = nil })
		check(t, s.Sync(ctx))
		check(t, s.Put(ctx, fmt.Sprint(n), n))
		closeDB(t, db)
		if _, got := ints(t, mem, "s"); len(got) != n+1 || got["1"] != -1 {
			t.Errorf("stored: %d of %d", len(got), n+1)
		}

		// Block: until the context is over, or there is room.
		db = openInts(t, j, kvstore.Options{MaxBuffer: 4 << 10})
		s, err = db.AdoptOrCreate(ctx, "blocked")
		check(t, err)
		j.set(func(j *journal) { j.down = errDown })
		limit, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		start := time.Now()
		for n = 0; err == nil; n++ {
			err = s.Put(limit, fmt.Sprint(n), n)
		}
		want(t, err, context.DeadlineExceeded)
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("it waited %v", d)
		}
		go func() {
			time.Sleep(time.Minute)
			j.set(func(j *journal) { j.down = nil })
		}()
		check(t, s.Put(ctx, "late", 1))
		closeDB(t, db)
		if _, got := ints(t, mem, "blocked"); got["late"] != 1 || len(got) != n {
			t.Errorf("stored: %d", len(got))
		}
	})
}
