package kvstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// What a caller can do wrong, and what he is told. Nothing here may panic, block, or leave anything behind.

// Every field of Options that is out of range is refused by an error that names it.
func TestOptionsAreChecked(t *testing.T) {
	type O = kvstore.Options
	cases := map[string][]O{
		"Node":         {{Node: strings.Repeat("n", 256)}},
		"Addr":         {{Addr: strings.Repeat("a", 1025)}},
		"Weight":       {{Weight: -1}, {Weight: 1001}},
		"Mode":         {{Mode: 2}},
		"MaxDelay":     {{MaxDelay: -1}, {MaxDelay: time.Microsecond}, {MaxDelay: 2 * time.Hour}},
		"MaxBuffer":    {{MaxBuffer: -1}, {MaxBuffer: 4095}},
		"MaxBacklog":   {{MaxBacklog: -1}},
		"Overflow":     {{Overflow: 3}},
		"MaxResident":  {{MaxResident: -1}},
		"MaxValue":     {{MaxValue: -1}},
		"Lease":        {{Lease: -1}, {Lease: time.Millisecond}, {Lease: 2 * time.Hour}},
		"StoreTimeout": {{StoreTimeout: -1}, {StoreTimeout: 1}},
		"RetryMin":     {{RetryMin: -1}, {RetryMin: 1}},
		"RetryMax":     {{RetryMax: -1}, {RetryMin: time.Second, RetryMax: time.Millisecond}},
		"LagAlarm":     {{LagAlarm: -1}, {LagAlarm: time.Millisecond}},
		"MaxBatch":     {{MaxBatch: -1}},
		"Flushers":     {{Flushers: -1}, {Flushers: 65}},
	}
	ctx := context.Background()
	for field, os := range cases {
		for _, o := range os {
			_, err := kvstore.Open[int](ctx, memory.New(), o)
			if !errors.Is(err, kvstore.ErrInvalid) || !strings.Contains(err.Error(), "Options."+field+" ") {
				t.Errorf("%s %+v: %v", field, o, err)
			}
		}
	}
	_, err := kvstore.Open[int](ctx, nil, kvstore.Options{})
	want(t, err, kvstore.ErrInvalid)
	closed := memory.New()
	check(t, closed.Close())
	_, err = kvstore.Open[int](ctx, closed, kvstore.Options{})
	want(t, err, store.ErrClosed)
	_, err = kvstore.Open[int](over(), memory.New(), kvstore.Options{})
	want(t, err, context.Canceled)
}

// verbs is every method of a DB and of a Session that takes an ID or a key, as one function each.
func verbs(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int], id, key string) (byID, byKey map[string]func() error) {
	byID = map[string]func() error{
		"DB.Get":           func() error { _, err := db.Get(ctx, id); return err },
		"DB.Put":           func() error { return db.Put(ctx, id, 1) },
		"DB.Delete":        func() error { return db.Delete(ctx, id) },
		"DB.Create":        func() error { _, err := db.Create(ctx, id); return err },
		"DB.Adopt":         func() error { _, err := db.Adopt(ctx, id, key); return err },
		"DB.AdoptOrCreate": func() error { _, err := db.AdoptOrCreate(ctx, id, key); return err },
		"DB.Steal":         func() error { _, err := db.Steal(ctx, id, key); return err },
		"DB.Session":       func() error { _, err := db.Session(ctx, id); return err },
		"DB.Release":       func() error { return db.Release(ctx, id) },
	}
	byKey = map[string]func() error{
		"Get":      func() error { _, err := s.Get(ctx, key); return err },
		"Put":      func() error { return s.Put(ctx, key, 1) },
		"PutUntil": func() error { return s.PutUntil(ctx, key, 1, time.Now().Add(time.Hour)) },
		"Delete":   func() error { return s.Delete(ctx, key) },
		"Tx.Get": func() error {
			return s.Update(ctx, func(tx *kvstore.Tx[int]) error { _, err := tx.Get(key); return err })
		},
		"Tx.Put":    func() error { return s.Update(ctx, func(tx *kvstore.Tx[int]) error { return tx.Put(key, 1) }) },
		"Tx.Delete": func() error { return s.Update(ctx, func(tx *kvstore.Tx[int]) error { return tx.Delete(key) }) },
	}
	return byID, byKey
}

// IDs and keys of any bytes are taken, up to their limit; beyond it, and an empty ID, are refused.
func TestNames(t *testing.T) {
	ctx := context.Background()
	mem := memory.New()
	db := openInts(t, mem, brisk("a"))
	s, err := db.AdoptOrCreate(ctx, "s")
	check(t, err)
	long := strings.Repeat("k", store.MaxKey+1)
	ids, _ := verbs(ctx, db, s, "", "")
	for name, f := range ids {
		if err := f(); !errors.Is(err, kvstore.ErrInvalid) {
			t.Errorf("%s of the empty ID: %v", name, err)
		}
	}
	ids, _ = verbs(ctx, db, s, strings.Repeat("s", store.MaxSession+1), "")
	for name, f := range ids {
		if err := f(); !errors.Is(err, kvstore.ErrTooLarge) {
			t.Errorf("%s of an ID that is too long: %v", name, err)
		}
	}
	ids, keys := verbs(ctx, db, s, "other", long)
	for name, f := range keys {
		if err := f(); !errors.Is(err, kvstore.ErrTooLarge) {
			t.Errorf("%s of a key that is too long: %v", name, err)
		}
	}
	for _, name := range []string{"DB.Adopt", "DB.AdoptOrCreate", "DB.Steal"} {
		if err := ids[name](); !errors.Is(err, kvstore.ErrTooLarge) {
			t.Errorf("%s with a key that is too long: %v", name, err)
		}
	}
	if n := db.Stats(); n.Resident != 1 || n.Buffered != 0 {
		t.Errorf("left behind: %+v", n)
	}

	for name, f := range func() map[string]func() error { _, keys := verbs(ctx, db, s, "other", "\x00a"); return keys }() {
		if err := f(); !errors.Is(err, kvstore.ErrInvalid) {
			t.Errorf("%s of a key of the library's: %v", name, err)
		}
	}
	odd := []string{"", "a\x00b", "\xff\xfe", "a/b", "/", "//", "\n", "Ω", long[1:]}
	for i, k := range odd {
		check(t, s.Put(ctx, k, i))
		id := k + "i"
		if len(id) > store.MaxSession {
			id = k
		}
		check(t, db.Put(ctx, id, i))
	}
	check(t, db.Close(ctx))
	db = openInts(t, mem, brisk("b"))
	s, err = db.Adopt(ctx, "s", odd[3:5]...)
	check(t, err)
	for i, k := range odd {
		if v, err := s.Get(ctx, k); err != nil || v != i {
			t.Errorf("key %.10q: %d, %v", k, v, err)
		}
	}
	all, err := s.All(ctx)
	check(t, err)
	if n := len(maps.Collect(all)); n != len(odd) {
		t.Errorf("All gives %d of %d keys", n, len(odd))
	}
	last := ""
	for k := range all {
		if k < last {
			t.Errorf("All gives %q after %q", k, last)
		}
		last = k
	}
	for range all {
		break // a walk may end early
	}
	check(t, db.Close(ctx))
}

func refuseNil[V any](t *testing.T, some V) {
	t.Helper()
	ctx := context.Background()
	db, err := kvstore.Open[V](ctx, memory.New(), kvstore.Options{})
	check(t, err)
	var none V
	want(t, db.Put(ctx, "s", none), kvstore.ErrInvalid)
	s, err := db.AdoptOrCreate(ctx, "s")
	check(t, err)
	want(t, s.Put(ctx, "k", none), kvstore.ErrInvalid)
	want(t, s.Update(ctx, func(tx *kvstore.Tx[V]) error { return tx.Put("k", none) }), kvstore.ErrInvalid)
	check(t, s.Put(ctx, "k", some))
	check(t, db.Close(ctx))
}

// A nil value is refused; an empty one is a value. Of which types values can be nil is TestNilOfEachKind.
func TestNilValues(t *testing.T) {
	refuseNil(t, map[string]int{})
	refuseNil(t, []byte{})
}

// A value over the limit is refused at once where its size is known, and else handed over when it is encoded, without
// harm to its neighbours.
func TestValuesOverTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		raw, err := kvstore.Open[[]byte](ctx, memory.New(), kvstore.Options{MaxValue: 100, Codec: rawCodec{}})
		check(t, err)
		want(t, raw.Put(ctx, "s", make([]byte, 101)), kvstore.ErrTooLarge)
		check(t, raw.Put(ctx, "s", make([]byte, 100)))
		check(t, raw.Close(ctx))
		text, err := kvstore.Open[string](ctx, memory.New(), kvstore.Options{MaxValue: 100})
		check(t, err)
		want(t, text.Put(ctx, "s", strings.Repeat("x", 101)), kvstore.ErrTooLarge)
		check(t, text.Close(ctx))

		mem := memory.New()
		var lost lostBy
		db, err := kvstore.Open[map[string]int](ctx, mem, kvstore.Options{MaxValue: 100, Hooks: lost.hooks()})
		check(t, err)
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "big", map[string]int{strings.Repeat("x", 200): 1}))
		check(t, s.Put(ctx, "small", map[string]int{"x": 1}))
		err = s.Sync(ctx)
		want(t, err, kvstore.ErrRejected)
		want(t, err, kvstore.ErrTooLarge)
		synctest.Wait()
		if len(lost) != 1 || len(lost[0].Entries) != 1 || lost[0].Entries[0].Key != "big" || !errors.Is(lost[0].Cause, kvstore.ErrTooLarge) {
			t.Errorf("lost: %+v", lost)
		}
		_, err = s.Get(ctx, "big")
		want(t, err, kvstore.ErrNotFound)
		check(t, s.Sync(ctx))
		snap, err := mem.Load(ctx, "s")
		check(t, err)
		if len(snap.Entries) != 1 || snap.Entries[0].Key != "small" {
			t.Errorf("stored: %+v", snap.Entries)
		}
		if n := db.Stats().Buffered; n != 0 {
			t.Errorf("%d bytes of the buffer are held", n)
		}
		check(t, db.Close(ctx))
	})
}

// rawCodec stores bytes as they are.
type rawCodec struct{}

func (rawCodec) Append(dst []byte, v any) ([]byte, error) { return append(dst, *v.(*[]byte)...), nil }
func (rawCodec) Decode(src []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(src)
	return nil
}

// moody is a codec that fails or panics for certain values.
type moody struct{}

const (
	failEncode = iota + 1000
	panicEncode
	failDecode
	panicDecode
)

func (moody) Append(dst []byte, v any) ([]byte, error) {
	switch *v.(*int) {
	case failEncode:
		return append(dst, "half"...), errors.New("cannot encode")
	case panicEncode:
		panic("encode")
	}
	return intCodec{}.Append(dst, v)
}

func (moody) Decode(src []byte, v any) error {
	err := intCodec{}.Decode(src, v)
	switch *v.(*int) {
	case failDecode:
		return errors.New("cannot decode")
	case panicDecode:
		panic("decode")
	}
	return err
}

// A codec that fails or panics costs the entry that it failed for, and nothing else.
func TestCodecFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		var lost lostBy
		db := openInts(t, mem, kvstore.Options{Codec: moody{}, Hooks: lost.hooks()})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		for _, v := range []int{failEncode, 1, panicEncode, 2, failDecode, panicDecode} {
			check(t, s.Put(ctx, fmt.Sprint(v), v))
		}
		want(t, s.Sync(ctx), kvstore.ErrRejected)
		synctest.Wait()
		if len(lost) != 1 || len(lost[0].Entries) != 2 || !errors.Is(lost[0].Cause, kvstore.ErrRejected) {
			t.Errorf("lost: %+v", lost)
		}
		if n := db.Stats(); n.Buffered != 0 || n.Lost != 2 || n.Puts != 4 {
			t.Errorf("stats: %+v", n)
		}
		closeDB(t, db)

		db = openInts(t, mem, kvstore.Options{Codec: moody{}})
		s, err = db.Adopt(ctx, "s", "1", fmt.Sprint(failDecode)) // a bad neighbour does not spoil the adoption
		check(t, err)
		for _, v := range []int{1, 2} {
			if got, err := s.Get(ctx, fmt.Sprint(v)); err != nil || got != v {
				t.Errorf("a good neighbour: %d, %v", got, err)
			}
		}
		for _, v := range []int{failDecode, panicDecode} {
			if _, err := s.Get(ctx, fmt.Sprint(v)); err == nil || errors.Is(err, kvstore.ErrNotFound) {
				t.Errorf("what cannot be decoded: %v", err)
			}
			if err := s.Update(ctx, func(tx *kvstore.Tx[int]) error { _, err := tx.Get(fmt.Sprint(v)); return err }); err == nil {
				t.Error("a transaction read what cannot be decoded")
			}
		}
		if _, err := s.All(ctx); err == nil {
			t.Error("All passes over what cannot be decoded")
		}
		check(t, s.Put(ctx, fmt.Sprint(failDecode), 7)) // it can be replaced
		check(t, s.Delete(ctx, fmt.Sprint(panicDecode)))
		if all, err := s.All(ctx); err != nil || len(maps.Collect(all)) != 3 {
			t.Errorf("after the repair: %v", err)
		}
		closeDB(t, db)
		if _, got := ints(t, mem, "s"); got[fmt.Sprint(failDecode)] != 7 || len(got) != 3 {
			t.Errorf("stored: %v", got)
		}
	})
}

// all is every exported method that can fail.
func everyMethod(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) map[string]func() error {
	m, byKey := verbs(ctx, db, s, "s", "k")
	maps.Copy(m, byKey)
	m["DB.Flush"] = func() error { return db.Flush(ctx) }
	m["DB.Drain"] = func() error { return db.Drain(ctx) }
	m["DB.AdoptOrphans"] = func() error { _, err := db.AdoptOrphans(ctx, kvstore.Takeover{}); return err }
	m["DB.Preload"] = func() error {
		p, err := db.Preload(ctx, kvstore.Preload{Share: kvstore.Unowned})
		if err == nil {
			_, err = p.Wait(context.Background())
		}
		return err
	}
	m["Expire"] = func() error { return s.Expire(ctx, time.Now().Add(time.Hour)) }
	m["All"] = func() error { _, err := s.All(ctx); return err }
	m["Sync"] = func() error { return s.Sync(ctx) }
	m["Update"] = func() error {
		return s.Update(ctx, func(tx *kvstore.Tx[int]) error { tx.Expire(time.Time{}); return nil })
	}
	return m
}

// After Close every method says so, and what only looks still answers.
func TestAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		db := openInts(t, mem, kvstore.Options{})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "", 1))
		check(t, s.Put(ctx, "k", 1))
		closeDB(t, db)
		for name, f := range everyMethod(ctx, db, s) {
			if err := f(); !errors.Is(err, kvstore.ErrClosed) {
				t.Errorf("%s after Close: %v", name, err)
			}
		}
		_, err = s.Get(ctx, "")
		want(t, err, kvstore.ErrClosed)
		if s.ID() != "s" || s.Epoch() != 1 || s.Lag() != 0 || !s.Expires().IsZero() {
			t.Errorf("the handle: %q, %d, %v", s.ID(), s.Epoch(), s.Lag())
		}
		if h := db.Health(); h.OK() || db.Stats().Resident != 0 {
			t.Errorf("health after Close: %v", h)
		}
		closeDB(t, db)
		if _, got := ints(t, mem, "s"); len(got) != 2 {
			t.Errorf("stored: %v", got)
		}
	})
}

// A context that is over ends whatever would wait, and changes nothing. What needs no waiting may succeed.
func TestCancelledContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		seed := openInts(t, mem, kvstore.Options{})
		s, err := seed.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "k", 1))
		check(t, s.Put(ctx, "l", 1))
		closeDB(t, seed)

		j := newJournal(mem)
		db := openInts(t, j, kvstore.Options{MaxDelay: time.Hour, LagAlarm: time.Hour})
		// None of these has anything in memory: all would ask the store.
		for _, name := range []string{"DB.Put", "DB.Delete", "DB.Adopt", "DB.AdoptOrCreate", "DB.Steal", "DB.AdoptOrphans", "DB.Preload"} {
			if err := everyMethod(over(), db, nil)[name](); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if db.Stats().Resident != 0 {
			t.Error("something came in")
		}
		s, err = db.Adopt(ctx, "s")
		check(t, err)
		load := j.load
		j.load = func(ctx context.Context, id string, keys []string) (store.Snapshot, error) {
			time.Sleep(time.Millisecond) // nothing comes in without a wait
			return load(ctx, id, keys)
		}
		j.set(func(j *journal) { j.takes = time.Millisecond })
		waits := everyMethod(over(), db, s)
		for _, name := range []string{"Get", "Tx.Get", "All"} {
			if err := waits[name](); !errors.Is(err, context.Canceled) {
				t.Errorf("%s of what must be loaded: %v", name, err)
			}
		}
		time.Sleep(time.Second)
		check(t, s.Put(ctx, "k", 2))
		for _, name := range []string{"Sync", "DB.Flush", "DB.Release"} {
			if err := waits[name](); !errors.Is(err, context.Canceled) {
				t.Errorf("%s of what is unsaved: %v", name, err)
			}
		}
		if v, err := s.Get(ctx, "k"); err != nil || v != 2 {
			t.Errorf("after a release that was given up: %d, %v", v, err)
		}
		check(t, s.Put(ctx, "k", 3))
		want(t, waits["DB.Drain"](), context.Canceled)
		check(t, s.Put(ctx, "k", 4))
		check(t, s.Sync(ctx))
		if h, got := ints(t, mem, "s"); h.Released || got["k"] != 4 {
			t.Errorf("stored: %+v, %v", h, got)
		}
		closeDB(t, db)
	})
}

// The store is closed underneath: nothing hangs or panics, and what is unsaved is handed over.
func TestStoreClosedUnderneath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		var lost lostBy
		db := openInts(t, mem, kvstore.Options{Hooks: lost.hooks()})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "k", 1))
		check(t, mem.Close())
		_, err = db.Adopt(ctx, "other")
		want(t, err, store.ErrClosed)
		if v, err := s.Get(ctx, "k"); err != nil || v != 1 {
			t.Errorf("memory still serves: %d, %v", v, err)
		}
		check(t, s.Put(ctx, "k", 2))
		time.Sleep(time.Minute)
		if h := db.Health(); !errors.Is(h.LastError, store.ErrClosed) || h.OK() {
			t.Errorf("health: %v, %v", h, h.LastError)
		}
		limit, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		var unsaved *kvstore.UnsavedError
		if err := db.Close(limit); !errors.As(err, &unsaved) || unsaved.Entries != 1 {
			t.Errorf("close: %v", err)
		}
		if len(lost) != 1 || len(lost[0].Entries) != 1 || lost[0].Entries[0].Value != 2 {
			t.Errorf("lost: %+v", lost)
		}
	})
}

// crowd has all sessions evicted that were there before: it brings in more of them than may stay. The lane evicts when
// it has answered Flush, so the next one must not come before that: the hand would find others there.
func crowd(ctx context.Context, t *testing.T, db *kvstore.DB[int]) {
	synctest.Wait()
	for i := range 5 {
		check(t, db.Put(ctx, fmt.Sprint(i), i))
		check(t, db.Flush(ctx))
		synctest.Wait()
	}
}

// A handle outlives its session: it says what became of it, or, if it was only evicted, brings it back.
func TestHandlesOfWhatIsGone(t *testing.T) {
	type DB = *kvstore.DB[int]
	cases := map[string]struct {
		end  func(ctx context.Context, t *testing.T, mem store.Store, db DB)
		want []error
	}{
		"fenced": {
			func(ctx context.Context, t *testing.T, mem store.Store, db DB) {
				check(t, db.Put(ctx, "s", 9))
				steal(t, mem, "s")
				want(t, db.Flush(ctx), kvstore.ErrFenced)
			},
			[]error{kvstore.ErrFenced},
		},
		"released": {
			func(ctx context.Context, t *testing.T, mem store.Store, db DB) { check(t, db.Release(ctx, "s")) },
			[]error{kvstore.ErrReleased},
		},
		"deleted": {
			func(ctx context.Context, t *testing.T, mem store.Store, db DB) { check(t, db.Delete(ctx, "s")) },
			[]error{kvstore.ErrNotFound},
		},
		"deleted and stored": {
			func(ctx context.Context, t *testing.T, mem store.Store, db DB) {
				check(t, db.Delete(ctx, "s"))
				check(t, db.Flush(ctx))
			},
			[]error{kvstore.ErrNotFound},
		},
		"expired": {
			func(ctx context.Context, t *testing.T, mem store.Store, db DB) {
				s, err := db.Session(ctx, "s")
				check(t, err)
				check(t, s.Expire(ctx, time.Now().Add(time.Second)))
				time.Sleep(time.Minute)
			},
			[]error{kvstore.ErrNotFound},
		},
		"evicted": {
			func(ctx context.Context, t *testing.T, mem store.Store, db DB) {
				crowd(ctx, t, db)
				if db.Stats().Evicted == 0 {
					t.Error("nothing was evicted")
				}
			},
			[]error{nil},
		},
		"evicted and taken": {
			func(ctx context.Context, t *testing.T, mem store.Store, db DB) {
				crowd(ctx, t, db)
				steal(t, mem, "s")
			},
			[]error{kvstore.ErrNotResident, kvstore.ErrFenced},
		},
		"adopted anew": {
			func(ctx context.Context, t *testing.T, mem store.Store, db DB) {
				check(t, db.Release(ctx, "s"))
				_, err := db.Adopt(ctx, "s")
				check(t, err)
			},
			[]error{kvstore.ErrReleased}, // of another tenure: get a new handle
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				mem := memory.New()
				db := openInts(t, mem, kvstore.Options{MaxResident: 2})
				s, err := db.AdoptOrCreate(ctx, "s")
				check(t, err)
				check(t, s.Put(ctx, "", 1))
				check(t, s.Put(ctx, "k", 1))
				check(t, s.Sync(ctx))
				c.end(ctx, t, mem, db)
				_, byKey := verbs(ctx, db, s, "s", "k")
				byKey["Expire"] = func() error { return s.Expire(ctx, time.Time{}) }
				byKey["All"] = func() error { _, err := s.All(ctx); return err }
				byKey["Get main"] = func() error { _, err := s.Get(ctx, ""); return err }
				for _, verb := range []string{"Get", "Get main", "Tx.Get", "All", "Put", "PutUntil", "Tx.Put", "Delete", "Expire"} {
					if err := byKey[verb](); !isOne(err, c.want) {
						t.Errorf("%s on a session that is %s: %v", verb, name, err)
					}
				}
				// Sync is about what was written: there is nothing left to wait for, or it says why not.
				want(t, s.Sync(ctx), append(c.want, nil)...)
				if s.ID() != "s" || s.Epoch() == 0 {
					t.Error("the handle forgot its session")
				}
				closeDB(t, db)
			})
		})
	}
}

func isOne(err error, kinds []error) bool {
	for _, k := range kinds {
		if err == nil && k == nil || k != nil && errors.Is(err, k) {
			return true
		}
	}
	return false
}

// A transaction that fails or panics writes nothing and holds nothing.
func TestUpdateThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		db := openInts(t, mem, kvstore.Options{})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "k", 1))
		check(t, s.Sync(ctx))
		boom := errors.New("boom")
		for _, mode := range []string{"error", "panic"} {
			func() {
				defer func() {
					if v := recover(); (v != nil) != (mode == "panic") {
						t.Errorf("recovered %v", v)
					}
				}()
				err := s.Update(ctx, func(tx *kvstore.Tx[int]) error {
					if err := errors.Join(tx.Put("k", 2), tx.Put("new", 2), tx.Delete("k")); err != nil {
						return err
					}
					tx.Expire(time.Now().Add(time.Second))
					if _, err := tx.Get("k"); !errors.Is(err, kvstore.ErrNotFound) {
						t.Errorf("a transaction does not see its own delete: %v", err)
					}
					if v, err := tx.Get("new"); err != nil || v != 2 {
						t.Errorf("a transaction does not see its own put: %d, %v", v, err)
					}
					if mode == "panic" {
						panic(boom)
					}
					return fmt.Errorf("wrapped: %w", boom)
				})
				want(t, err, boom)
			}()
			if n := db.Stats(); n.Buffered != 0 {
				t.Errorf("%d bytes are held", n.Buffered)
			}
			check(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error {
				v, err := tx.Get("k")
				if err != nil || v != 1 {
					t.Errorf("k is %d, %v", v, err)
				}
				return tx.Put("k", 1)
			}))
			check(t, s.Sync(ctx))
			h, got := ints(t, mem, "s")
			if len(got) != 1 || got["k"] != 1 || h.Expires != 0 || !s.Expires().IsZero() {
				t.Errorf("stored: %+v, %v", h, got)
			}
		}
		// A transaction that fits nowhere is refused whole.
		tiny, err := kvstore.Open[int](ctx, mem, kvstore.Options{MaxBuffer: 4 << 10})
		check(t, err)
		s, err = tiny.AdoptOrCreate(ctx, "tiny")
		check(t, err)
		want(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error {
			for i := range 100 {
				if err := tx.Put(fmt.Sprint(i), i); err != nil {
					return err
				}
			}
			return nil
		}), kvstore.ErrTooLarge)
		if all, err := s.All(ctx); err != nil || len(maps.Collect(all)) != 0 || tiny.Stats().Buffered != 0 {
			t.Errorf("half of it is there: %v", err)
		}
		closeDB(t, tiny)
		closeDB(t, db)
	})
}

// DetectMutation finds a value that was changed after it was put, and no other.
func TestDetectMutation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db, err := kvstore.Open[map[string]int](ctx, memory.New(), kvstore.Options{DetectMutation: true})
		check(t, err)
		v := map[string]int{"a": 1}
		for i := range 10 {
			check(t, db.Put(ctx, fmt.Sprint(i), map[string]int{"x": i, "y": i, "z": i}))
		}
		check(t, db.Put(ctx, "s", v))
		check(t, db.Flush(ctx))
		if n := db.Stats().Mutated; n != 0 {
			t.Errorf("%d values were changed, it says", n)
		}
		check(t, db.Put(ctx, "s", v))
		v["a"] = 2
		check(t, db.Flush(ctx))
		if n := db.Stats().Mutated; n != 1 {
			t.Errorf("one value was changed in place, found: %d", n)
		}
		check(t, db.Close(ctx))
	})
}
