package kvstore_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// A node that was robbed and does not know it yet steals the session back: it must get what is stored, and
// not the copy that it still has.
func TestStealFromOneWhoStole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st := context.Background(), memory.New()
		open := func(node string) *kvstore.DB[string] {
			db, err := kvstore.Open[string](ctx, st, kvstore.Options{Node: node})
			if err != nil {
				t.Fatal(err)
			}
			return db
		}
		a, b := open("a"), open("b")
		if err := a.Put(ctx, "s", "a's"); err != nil {
			t.Fatal(err)
		}
		if err := a.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		stolen, err := b.Steal(ctx, "s")
		if err != nil {
			t.Fatal(err)
		}
		if err := stolen.Put(ctx, "", "b's"); err != nil {
			t.Fatal(err)
		}
		if err := stolen.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		back, err := a.Steal(ctx, "s")
		if err != nil {
			t.Fatal(err)
		}
		if v, err := back.Get(ctx, ""); v != "b's" || err != nil {
			t.Errorf("the session stolen back has %q, %v, want b's", v, err)
		}
		if e := back.Epoch(); e != stolen.Epoch()+1 {
			t.Errorf("its epoch is %d, want one more than %d", e, stolen.Epoch())
		}
		for _, db := range []*kvstore.DB[string]{a, b} {
			if err := db.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	})
}

// A check of the ownership that began before an optimistic creation was proposed again, above the
// tombstone of a former life, and ends after it, must not take the session for somebody else's.
func TestVerifiedWhileReborn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, st := context.Background(), memory.New()
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		former, err := kvstore.Open[string](ctx, st, kvstore.Options{})
		ok(err)
		ok(former.Put(ctx, "s", "former"))
		ok(former.Delete(ctx, "s"))
		ok(former.Close(ctx))

		faults := storetest.NewFaults(st)
		faults.Inject(storetest.Every(storetest.Fault{Delay: time.Second}, storetest.Load))
		db, err := kvstore.Open[string](ctx, faults, kvstore.Options{})
		ok(err)
		s, err := db.Create(ctx, "s")
		ok(err)
		ok(s.Put(ctx, "", "new"))
		_, err = db.Steal(ctx, "s") // asks, and the answer takes longer than the flush
		ok(err)
		if n := db.Stats().Fenced; n != 0 {
			t.Errorf("%d sessions were taken away by nobody", n)
		}
		if v, err := s.Get(ctx, ""); v != "new" || err != nil {
			t.Errorf("the session has %q, %v", v, err)
		}
		ok(db.Close(ctx))
	})
}

// An optimistic creation that is fenced while Steal asks the store has left: that the store has none, because the one
// that was first is deleted, too, does not make it a creation that is still to be stored.
func TestStealOfACreationFencedMeanwhile(t *testing.T) {
	ctx, mem := t.Context(), memory.New()
	former := openInts(t, mem, brisk("former"))
	st := &tap{Store: mem}
	o := brisk("b")
	o.MaxDelay = time.Hour
	db := openInts(t, st, o)
	_, err := db.Create(ctx, "s")
	check(t, err)
	st.load = func(ctx context.Context, id string, keys []string) (store.Snapshot, error) {
		st.load = nil
		check(t, former.Put(ctx, "s", 1))
		check(t, former.Flush(ctx))
		want(t, db.Flush(ctx), kvstore.ErrFenced)
		check(t, former.Delete(ctx, "s"))
		check(t, former.Flush(ctx))
		return mem.Load(ctx, id, keys...)
	}
	s, err := db.Steal(ctx, "s")
	if want(t, err, kvstore.ErrNotFound); err == nil {
		t.Logf("at epoch %d; Sync: %v", s.Epoch(), s.Sync(ctx))
	}
	check(t, db.Close(ctx))
	check(t, former.Close(ctx))
}

// A node that has released a session and makes it anew, without asking, may use the same epoch: what is on record is not its
// creation. Steal gets what is stored, as from any other.
func TestStealOfACreationAfterRelease(t *testing.T) {
	ctx, st := t.Context(), memory.New()
	o := brisk("a")
	o.MaxDelay = time.Hour
	var lost []kvstore.Lost
	o.Hooks.Lost = func(l kvstore.Lost) { lost = append(lost, l) }
	db := openInts(t, st, o)
	check(t, db.Put(ctx, "s", 1))
	check(t, db.Release(ctx, "s"))
	s, err := db.Create(ctx, "s")
	check(t, err)
	check(t, s.Put(ctx, "", 2))
	s, err = db.Steal(ctx, "s")
	check(t, err)
	if v, err := s.Get(ctx, ""); v != 1 || err != nil {
		t.Errorf("the session has %d, %v; want 1", v, err)
	}
	if e := s.Epoch(); e != 2 {
		t.Errorf("its epoch is %d, want 2", e)
	}
	check(t, s.Sync(ctx))
	check(t, db.Close(ctx))
	if len(lost) != 1 || !lost[0].Created || len(lost[0].Entries) != 1 || lost[0].Entries[0].Value != 2 {
		t.Errorf("of the creation is told: %+v", lost)
	}
}

// A creation that the store has, and whose flush has no answer yet, is this node's.
func TestStealOfACreationStoredMeanwhile(t *testing.T) {
	ctx, mem := t.Context(), memory.New()
	st := &tap{Store: mem}
	db := openInts(t, st, brisk("a"))
	asked := 0
	st.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
		rs, err := mem.Apply(ctx, cs)
		if asked++; asked == 1 {
			s, err := db.Steal(ctx, "s")
			if want(t, err, nil); err == nil && s.Epoch() != 1 {
				t.Errorf("it was taken from this node, at epoch %d", s.Epoch())
			}
		}
		return rs, err
	}
	s, err := db.Create(ctx, "s")
	check(t, err)
	check(t, s.Sync(ctx))
	if n := db.Stats().Fenced; asked != 1 || n != 0 {
		t.Errorf("%d flushes; %d sessions were taken away by nobody", asked, n)
	}
	check(t, db.Close(ctx))
}

// TestStealAboveTheHighestEpoch: no epoch can follow the highest. Nobody gets there by claims, so whoever wrote it did so on
// purpose, or the header is damaged; to ask for the session must end all the same, and at once.
func TestStealAboveTheHighestEpoch(t *testing.T) {
	for _, epoch := range []uint64{store.MaxEpoch, math.MaxUint64} {
		calls := 0
		st := &tap{Store: memory.New()}
		st.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
			if calls++; calls > 10 {
				return store.Claim{}, errors.New("asked again and again")
			}
			h := store.Header{Session: r.Session, Epoch: epoch, Owner: store.Owner{Node: "x", Incarnation: store.Incarnation{1}}}
			o, _, _ := r.Judge(h, false, time.Now())
			return store.Claim{Outcome: o, Header: h}, nil
		}
		db := openInts(t, st, kvstore.Options{})
		for _, ask := range []func(context.Context, string, ...string) (*kvstore.Session[int], error){db.Adopt, db.AdoptOrCreate, db.Steal} {
			_, err := ask(t.Context(), "s")
			var damaged *store.CorruptError
			if !errors.As(err, &damaged) || !damaged.Header || damaged.Session != "s" {
				t.Errorf("above epoch %d: %v, want a CorruptError", epoch, err)
			}
		}
		if calls > 6 {
			t.Errorf("%d claims", calls)
		}
		check(t, db.Close(t.Context()))
	}
}
