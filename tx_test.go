package kvstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// A transaction of which one value cannot be encoded is refused whole, before anything of it is made.
func TestTransactionThatCannotBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem := memory.New()
		lost := 0
		db := openInts(t, mem, kvstore.Options{Node: "a", Codec: slowCodec{}, Hooks: kvstore.Hooks{Lost: func(kvstore.Lost) { lost++ }}})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		move := func(debit, credit int) error {
			return s.Update(ctx, func(tx *kvstore.Tx[int]) error {
				return errors.Join(tx.Put("debit", debit), tx.Put("credit", credit), tx.Delete("none"))
			})
		}
		check(t, move(1, 1))
		err = move(2, bad)
		var rejected *kvstore.RejectedError
		if !errors.As(err, &rejected) || len(rejected.Keys) != 1 || rejected.Keys[0] != "credit" {
			t.Errorf("the error is %v", err)
		}
		if v, _ := s.Get(ctx, "debit"); v != 1 {
			t.Errorf("half of it is in memory: debit is %d", v)
		}
		check(t, db.Close(ctx))
		if _, m := ints(t, mem, "s"); m["debit"] != 1 || m["credit"] != 1 || lost != 0 {
			t.Errorf("the store has %v, %d were lost", m, lost)
		}
	})
}

// One value is too large, which shows only when it is encoded.
func TestTransactionThatIsTooLarge(t *testing.T) {
	ctx := t.Context()
	db, err := kvstore.Open[map[string]int](ctx, memory.New(), kvstore.Options{MaxValue: 100})
	check(t, err)
	defer db.Close(ctx)
	s, err := db.Create(ctx, "s")
	check(t, err)
	err = s.Update(ctx, func(tx *kvstore.Tx[map[string]int]) error {
		return errors.Join(tx.Put("a", map[string]int{"small": 1}), tx.Put("b", map[string]int{strings.Repeat("x", 200): 1}))
	})
	want(t, err, kvstore.ErrTooLarge)
	want(t, err, kvstore.ErrRejected)
	if _, err := s.Get(ctx, "a"); !errors.Is(err, kvstore.ErrNotFound) {
		t.Errorf("half of it is there: %v", err)
	}
}

// A transaction that is kept beyond its function does not pretend to write.
func TestTransactionIsOver(t *testing.T) {
	ctx := t.Context()
	db := openInts(t, memory.New(), brisk("a"))
	defer db.Close(ctx)
	s, err := db.Create(ctx, "s")
	check(t, err)
	var kept *kvstore.Tx[int]
	check(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error { kept = tx; return tx.Put("k", 1) }))
	_, err = kept.Get("k")
	want(t, err, kvstore.ErrInvalid)
	want(t, kept.Put("k", 2), kvstore.ErrInvalid)
	want(t, kept.Delete("k"), kvstore.ErrInvalid)
	want(t, s.Update(ctx, nil), kvstore.ErrInvalid)
	if v, err := s.Get(ctx, "k"); v != 1 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
}

// A transaction whose function changes the session by the handle conflicts with itself. It waits between its runs,
// and ends with its context.
func TestTransactionAgainstItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openInts(t, memory.New(), brisk("a"))
		defer db.Close(t.Context())
		s, err := db.Create(t.Context(), "s")
		check(t, err)
		check(t, s.Put(t.Context(), "k", 0))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		runs := 0
		err = s.Update(ctx, func(tx *kvstore.Tx[int]) error {
			runs++
			v, err := tx.Get("k")
			return errors.Join(err, s.Put(ctx, "k", v+1), tx.Put("other", v))
		})
		want(t, err, context.DeadlineExceeded)
		if runs > 10_000 {
			t.Errorf("it ran %d times in ten seconds", runs)
		}
	})
}

// A nil context is an error wherever one is asked for, unless nothing had to be waited for.
func TestNilContext(t *testing.T) {
	var none context.Context
	db := openInts(t, memory.New(), brisk("a"))
	ctx := t.Context()
	check(t, db.Put(ctx, "s", 1))
	check(t, db.Release(ctx, "s"))
	s, err := db.Adopt(ctx, "s")
	check(t, err)
	_, err = kvstore.Open[int](none, memory.New(), kvstore.Options{})
	want(t, err, kvstore.ErrInvalid)
	_, err = db.Get(none, "other")
	want(t, err, kvstore.ErrNotResident)
	_, err = db.Adopt(none, "other")
	want(t, err, kvstore.ErrInvalid)
	_, err = db.Create(none, "other")
	want(t, err, kvstore.ErrInvalid)
	_, err = s.Get(none, "key")
	want(t, err, kvstore.ErrInvalid)
	_, err = s.All(none)
	want(t, err, kvstore.ErrInvalid)
	_, err = db.AdoptOrphans(none, kvstore.Takeover{})
	want(t, err, kvstore.ErrInvalid)
	for _, err := range []error{
		db.Put(none, "s", 1), db.Put(none, "other", 1), db.Delete(none, "s"), db.Flush(none), db.Release(none, "s"), db.Drain(none),
		s.Put(none, "k", 1), s.Delete(none, "k"), s.Expire(none, time.Now()), s.Sync(none),
		s.Update(none, func(*kvstore.Tx[int]) error { return nil }),
	} {
		want(t, err, kvstore.ErrInvalid)
	}
	check(t, db.Close(none))
}
