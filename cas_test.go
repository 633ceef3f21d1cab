package kvstore_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

func TestCompareAndSwap(t *testing.T) {
	ctx := t.Context()
	st := memory.New()
	stored(t, st, "", "k")
	db := openInts(t, st, brisk("b"))
	s, err := db.Adopt(ctx, "s")
	check(t, err)
	_, none, err := s.GetVersion(ctx, "new")
	want(t, err, kvstore.ErrNotFound)
	if none != (kvstore.Version{}) {
		t.Error("an entry that is not there has a version")
	}
	v1, err := s.CompareAndSwap(ctx, "new", none, 1, kvstore.InMemory)
	check(t, err)
	_, err = s.CompareAndSwap(ctx, "new", none, 2, kvstore.InMemory)
	want(t, err, kvstore.ErrConflict)
	v2, err := s.CompareAndSwap(ctx, "new", v1, 2, kvstore.Stored)
	check(t, err)
	if _, got := ints(t, st, "s"); got["new"] != 2 {
		t.Errorf("acknowledged as stored, and the store has %v", got)
	}
	_, err = s.CompareAndSwap(ctx, "new", v1, 3, kvstore.InMemory)
	want(t, err, kvstore.ErrConflict)
	if v, ver, err := s.GetVersion(ctx, "new"); v != 2 || ver != v2 || err != nil {
		t.Errorf("%d, %v, %v", v, ver, err)
	}
	check(t, s.Put(ctx, "new", 2)) // the same value, another version
	_, err = s.CompareAndSwap(ctx, "new", v2, 3, kvstore.InMemory)
	want(t, err, kvstore.ErrConflict)
	check(t, s.Delete(ctx, "new"))
	_, err = s.CompareAndSwap(ctx, "new", none, 4, kvstore.InMemory)
	check(t, err)

	check(t, kvstore.CompareAndSwap(ctx, s, "k", 1, 10, kvstore.InMemory)) // not loaded before
	want(t, kvstore.CompareAndSwap(ctx, s, "k", 1, 11, kvstore.InMemory), kvstore.ErrConflict)
	want(t, kvstore.CompareAndSwap(ctx, s, "none", 0, 1, kvstore.InMemory), kvstore.ErrNotFound)
	want(t, kvstore.CompareAndSwap(ctx, s, "k", 10, 1, kvstore.Ack(9)), kvstore.ErrInvalid)
	if v, err := s.Get(ctx, "k"); v != 10 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	check(t, db.Close(ctx))
}

// TestVersionsEnd: a version of what has expired, or has left memory, is equal to none.
func TestVersionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		db := openInts(t, memory.New(), kvstore.Options{MaxResident: 1})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.PutUntil(ctx, "soon", 1, time.Now().Add(time.Second)))
		check(t, s.Put(ctx, "stays", 1))
		_, soon, err := s.GetVersion(ctx, "soon")
		check(t, err)
		_, stays, err := s.GetVersion(ctx, "stays")
		check(t, err)
		time.Sleep(2 * time.Second)
		_, err = s.CompareAndSwap(ctx, "soon", soon, 2, kvstore.InMemory)
		want(t, err, kvstore.ErrConflict)
		_, err = s.CompareAndSwap(ctx, "soon", kvstore.Version{}, 2, kvstore.InMemory)
		check(t, err)
		check(t, s.Sync(ctx))
		for id := range 4 {
			check(t, db.Put(ctx, string(rune('a'+id)), 1))
			check(t, db.Flush(ctx))
		}
		if db.Stats().Evicted == 0 {
			t.Fatal("nothing was evicted")
		}
		_, err = s.CompareAndSwap(ctx, "stays", stays, 2, kvstore.InMemory)
		want(t, err, kvstore.ErrConflict)
		check(t, db.Close(ctx))
	})
}

// TestCompareAndSwapRace: of all who name one version one succeeds, so that nothing that was added is lost.
func TestCompareAndSwapRace(t *testing.T) {
	ctx := t.Context()
	db := openInts(t, memory.New(), brisk("a"))
	s, err := db.AdoptOrCreate(ctx, "s")
	check(t, err)
	check(t, s.Put(ctx, "n", 0))
	var failed atomic.Int64
	together(8, func(i int) {
		for range 50 {
			for {
				v, ver, err := s.GetVersion(ctx, "n")
				check(t, err)
				if i%2 == 0 {
					_, err = s.CompareAndSwap(ctx, "n", ver, v+1, kvstore.InMemory)
				} else {
					err = kvstore.CompareAndSwap(ctx, s, "n", v, v+1, kvstore.InMemory)
				}
				if err == nil {
					break
				}
				want(t, err, kvstore.ErrConflict)
				failed.Add(1)
			}
		}
	})
	if v, err := s.Get(ctx, "n"); v != 400 || err != nil {
		t.Errorf("%d, %v after 400 additions; %d had to be repeated", v, err, failed.Load())
	}
	check(t, db.Close(ctx))
}

// TestAcks: what was acknowledged as stored is there when the node is gone without a word; what was acknowledged as in memory need not be. An
// acknowledgement that does not come is an error, and the change is in memory.
func TestAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem := memory.New()
		st := storetest.NewFaults(mem)
		db := openInts(t, st, kvstore.Options{MaxDelay: time.Second})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		_, err = s.CompareAndSwap(ctx, "stored", kvstore.Version{}, 1, kvstore.Stored)
		check(t, err)
		_, err = s.Add(ctx, "n", 1, kvstore.Stored)
		check(t, err)
		_, err = s.CompareAndSwap(ctx, "memory", kvstore.Version{}, 1, kvstore.InMemory)
		check(t, err)
		snap, err := mem.Load(ctx, "s")
		check(t, err)
		if len(snap.Entries) != 2 || snap.Entries[1].Key != "stored" {
			t.Errorf("stored: %+v", snap.Entries)
		}
		st.Down(true)
		short, cancel := context.WithTimeout(ctx, time.Second)
		n, err := s.Add(short, "n", 1, kvstore.Stored)
		cancel()
		want(t, err, context.DeadlineExceeded)
		if n != 2 {
			t.Errorf("counter %d in memory", n)
		}
		st.Down(false)
		time.Sleep(10 * time.Second)
		if n, err := s.Counter(ctx, "n"); n != 2 || err != nil {
			t.Errorf("counter %d, %v", n, err)
		}
		_, err = mem.Claim(ctx, store.ClaimRequest{Session: "s", Owner: store.Owner{Node: "thief", Incarnation: store.NewIncarnation()}, Force: true})
		check(t, err)
		_, err = s.Add(ctx, "n", 1, kvstore.Stored)
		want(t, err, kvstore.ErrFenced)
		db.Close(ctx)
	})
}

// meddler is a value of which a test is told, by the goroutine that is about to write it, before it has the session's lock.
type meddler int

// meddle is called when the next one is written.
var meddle func()

func (m meddler) MemSize() int {
	if f := meddle; f != nil {
		meddle = nil
		f()
	}
	return 8
}

// TestCompareAndSwapMeets: a change that comes between the comparison and the swap is seen.
func TestCompareAndSwapMeets(t *testing.T) {
	ctx := t.Context()
	db, err := kvstore.Open[meddler](ctx, memory.New(), kvstore.Options{Codec: meddlerCodec{}})
	check(t, err)
	defer db.Close(ctx)
	s, err := db.AdoptOrCreate(ctx, "s")
	check(t, err)
	check(t, s.Put(ctx, "k", 1))
	_, ver, err := s.GetVersion(ctx, "k")
	check(t, err)
	between := func() { check(t, s.Put(ctx, "k", 2)) }
	meddle = between
	_, err = s.CompareAndSwap(ctx, "k", ver, 3, kvstore.InMemory)
	want(t, err, kvstore.ErrConflict)
	meddle = between
	check(t, kvstore.CompareAndSwap(ctx, s, "k", 2, 4, kvstore.InMemory)) // what it meets equals what it replaces
	if v, err := s.Get(ctx, "k"); v != 4 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
}

type meddlerCodec struct{}

func (meddlerCodec) Append(dst []byte, v any) ([]byte, error) {
	return intCodec{}.Append(dst, (*int)(v.(*meddler)))
}

func (meddlerCodec) Decode(src []byte, v any) error {
	return intCodec{}.Decode(src, (*int)(v.(*meddler)))
}
