package kvstore_test

import (
	"errors"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// TestAllocations: what every call pays. A change that is handed to something that keeps a part of it, or that the compiler does not know, is
// allocated whole, by each Put: that is not seen in any result.
func TestAllocations(t *testing.T) {
	ctx := t.Context()
	db, err := kvstore.Open[[]byte](ctx, memory.New(), kvstore.Options{MaxDelay: time.Hour, Lease: time.Hour})
	check(t, err)
	defer db.Close(ctx)
	s, err := db.AdoptOrCreate(ctx, "s")
	check(t, err)
	v, q := make([]byte, 100), s.Queue("jobs")
	check(t, s.Put(ctx, "k", v))
	ver, err := s.CompareAndSwap(ctx, "cas", kvstore.Version{}, v, kvstore.InMemory)
	check(t, err)
	for _, c := range []struct {
		name string
		most float64
		call func() error
	}{
		{"DB.Get", 0, func() error { _, err := db.Get(ctx, "s"); return err }},
		{"DB.Put", 1, func() error { return db.Put(ctx, "s", v) }}, // the version
		{"Session.Put", 1, func() error { return s.Put(ctx, "k", v) }},
		{"CompareAndSwap", 1, func() error { ver, err = s.CompareAndSwap(ctx, "cas", ver, v, kvstore.InMemory); return err }},
		{"Add", 2, func() error { _, err := s.Add(ctx, "n", 1, kvstore.InMemory); return err }}, // and the key
		{"PushBack and PopFront", 4, func() error { // two keys, two versions
			if err := q.PushBack(ctx, v); err != nil {
				return err
			}
			_, err := q.PopFront(ctx)
			return err
		}},
	} {
		check(t, db.Put(ctx, "s", v))
		var failed error
		if n := testing.AllocsPerRun(200, func() {
			if err := c.call(); err != nil {
				failed = err
			}
		}); n > c.most || failed != nil {
			t.Errorf("%s allocates %v times, %v at most are expected; error %v", c.name, n, c.most, failed)
		}
	}
}

// A Get of a session that is resident asks nobody, wherever in the index it came to lie; and it finds the one that it is asked for, and none
// where there is none.
func TestGetTellsSessionsApart(t *testing.T) {
	ctx := t.Context()
	db, err := kvstore.Open[int](ctx, memory.New(), kvstore.Options{MaxDelay: time.Hour, Lease: time.Hour})
	check(t, err)
	defer db.Close(ctx)
	id := func(i int) string { return strconv.Itoa(i) + "/a session" }
	const n = 20_000
	for i := range n {
		check(t, db.Put(ctx, id(i), i))
	}
	for i := range 2 * n {
		switch v, err := db.Get(ctx, id(i)); {
		case i < n && (err != nil || v != i):
			t.Fatalf("%s is %d, %v; want %d", id(i), v, err, i)
		case i >= n && !errors.Is(err, kvstore.ErrNotResident):
			t.Fatalf("%s, which there is not, is %d, %v", id(i), v, err)
		}
	}
}

// Who closes a DB with millions of sessions may have no memory left for as many notes of it.
func TestCloseNeedsNoMemory(t *testing.T) {
	ctx := t.Context()
	db, err := kvstore.Open[[]byte](ctx, memory.New(), kvstore.Options{MaxDelay: time.Hour, Lease: time.Hour})
	check(t, err)
	const sessions = 20_000
	for i := range sessions {
		check(t, db.Put(ctx, strconv.Itoa(i), []byte("v")))
	}
	check(t, db.Flush(ctx))
	h, err := db.Session(ctx, "0")
	check(t, err)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	check(t, db.Close(ctx))
	runtime.ReadMemStats(&after)
	if n := float64(after.TotalAlloc-before.TotalAlloc) / sessions; n > 50 {
		t.Errorf("Close allocates %.0f bytes for each session", n)
	}
	if err := h.Put(ctx, "", []byte("w")); !errors.Is(err, kvstore.ErrClosed) {
		t.Errorf("a session after Close: %v", err)
	}
}
