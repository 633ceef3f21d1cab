package bolt

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// fill makes n sessions, all but every tenth with an entry besides the main one.
func fill(t testing.TB, s *Store, o store.Owner, n int) {
	t.Helper()
	cs := make([]store.Change, n)
	for i := range cs {
		cs[i] = store.Change{Session: fmt.Sprintf("s%05d", i), Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: entries("", "v")}
		if i%10 > 0 {
			cs[i].Puts = entries("", "v", "k", "v")
		}
	}
	rs, err := s.Apply(t.Context(), cs)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rs {
		if r.Outcome != store.Applied {
			t.Fatalf("%+v", r)
		}
	}
}

// TestWritesWhileWalking changes, deletes and makes sessions from within a walk of several pages.
func TestWritesWhileWalking(t *testing.T) {
	s := open(t, temp(t), &Options{NoSync: true})
	o := owner("a")
	const n = 2*walkPage + 100
	fill(t, s, o, n)
	seen := map[string]int{}
	for h, err := range s.Sessions(t.Context(), store.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[h.Session]++
		if len(seen)%50 != 0 {
			continue
		}
		apply(t, s, store.Change{Session: h.Session, Owner: o, Epoch: 1, Seq: 2, Delete: true}, store.Applied)
		apply(t, s, store.Change{Session: "new" + h.Session, Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: entries("k", string(make([]byte, 5000)))}, store.Applied)
	}
	for i := range n {
		if id := fmt.Sprintf("s%05d", i); seen[id] != 1 {
			t.Errorf("%s was seen %d times", id, seen[id])
		}
	}
}

func TestWalkStops(t *testing.T) {
	s := open(t, temp(t), &Options{NoSync: true})
	fill(t, s, owner("a"), 2*walkPage)
	for _, c := range []struct {
		stop func(cancel func())
		want error
	}{
		{func(cancel func()) { cancel() }, context.Canceled},
		{func(func()) { s.Close() }, store.ErrClosed}, // does not wait for the walk that calls it
	} {
		ctx, cancel := context.WithCancel(t.Context())
		n, last := 0, error(nil)
		seen := map[string]bool{}
		for h, err := range s.Sessions(ctx, store.Query{}) {
			if n++; n == 1 {
				c.stop(cancel)
			}
			if last = err; err == nil && seen[h.Session] {
				t.Fatalf("%s is yielded twice", h.Session)
			}
			seen[h.Session] = true
		}
		cancel()
		if !errors.Is(last, c.want) {
			t.Errorf("the walk ends with %v after %d, want %v", last, n, c.want)
		}
	}
}

// TestWalkPassesDamage damages headers in every way that leaves the pages whole.
func TestWalkPassesDamage(t *testing.T) {
	path := temp(t)
	s, err := Open(path, &Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	o := owner("a")
	fill(t, s, o, 100)
	err = s.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketSessions)
		return errors.Join(
			b.Put(appendPrefix(nil, "s00011"), []byte("nonsense")),
			b.Put(appendPrefix(nil, "s00022"), b.Get(appendPrefix(nil, "s00023"))), // whole, but another's
			b.Delete(appendPrefix(nil, "s00033")),
			b.Put([]byte{0x80}, []byte("no key")),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	bad := map[string]bool{"s00011": true, "s00022": true, "s00033": true, "\x80": true}
	good := 0
	for h, err := range s.Sessions(t.Context(), store.Query{Owner: o.Incarnation}) {
		var corrupt *store.CorruptError
		switch {
		case err == nil && !bad[h.Session]:
			good++
		case errors.As(err, &corrupt) && corrupt.Header && bad[corrupt.Session]:
			delete(bad, corrupt.Session)
		default:
			t.Errorf("the walk gives %+v, %v", h, err)
		}
	}
	if good != 97 || len(bad) != 0 {
		t.Errorf("the walk has %d good ones, and did not find %v", good, bad)
	}
	for _, id := range []string{"s00011", "s00022", "s00033"} {
		var corrupt *store.CorruptError
		snap, err := s.Load(t.Context(), id)
		if !errors.As(err, &corrupt) || !corrupt.Header || len(snap.Entries) != 1 {
			t.Errorf("Load of %s gives %+v, %v; want its entry beside the error", id, snap, err)
		}
		r := apply(t, s, store.Change{Session: id, Owner: o, Epoch: 5, Seq: 2, Create: true}, store.Rejected)
		if !errors.As(r.Err, &corrupt) {
			t.Errorf("a change of %s is rejected with %v", id, r.Err)
		}
		if _, err := s.Claim(t.Context(), store.ClaimRequest{Session: id, Owner: o, Force: true, Create: true}); !errors.As(err, &corrupt) {
			t.Errorf("a claim of %s gives %v", id, err)
		}
	}
	apply(t, s, store.Change{Session: "s00044", Owner: o, Epoch: 1, Seq: 2}, store.Applied)
	err = s.Check(t.Context())
	for _, want := range []string{`"s00011"`, `"s00022"`, `"s00033"`, "key 80"} {
		if err == nil || !containsText(err, want) {
			t.Errorf("Check does not name %s: %v", want, err)
		}
	}
}
