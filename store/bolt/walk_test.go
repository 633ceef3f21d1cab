package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
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
	s.txid = 0
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

// TestNothingIsPassedBy has a leaf that bbolt takes for empty: it goes on with the next one. What stood there must not be
// missing from an answer that is no error.
func TestNothingIsPassedBy(t *testing.T) {
	empty := func(holds []byte, hit *bool) func(page []byte) {
		return func(page []byte) {
			if native.Uint16(page[8:]) == pageLeaf && bytes.Contains(page, holds) {
				native.PutUint16(page[10:], 0)
				*hit = true
			}
		}
	}
	walk := func(t *testing.T, s *Store, body func()) (seen int, last error) {
		for _, err := range s.Sessions(t.Context(), store.Query{}) {
			if body != nil {
				body()
				body = nil
			}
			if last = err; err == nil {
				seen++
			}
		}
		return seen, last
	}
	t.Run("by a walk", func(t *testing.T) {
		hit := false
		s := orchard(t, owner("a"), 300, nil, empty(appendPrefix(nil, "x100"), &hit))
		if seen, err := walk(t, s, nil); err == nil || seen < 50 || seen > 100 || !hit {
			t.Errorf("the walk ends with %v after %d of 300 sessions", err, seen)
		}
	})
	t.Run("where a walk goes on", func(t *testing.T) {
		hit := false
		s := orchard(t, owner("a"), walkPage+300, nil, func([]byte) {})
		seen, err := walk(t, s, func() {
			b, err := os.ReadFile(s.path)
			if err != nil {
				t.Fatal(err)
			}
			for page := range slices.Chunk(b, s.pageSize) {
				empty(appendPrefix(nil, fmt.Sprintf("x%03d", walkPage)), &hit)(page)
			}
			if f, err := os.OpenFile(s.path, os.O_WRONLY, 0); err != nil {
				t.Fatal(err)
			} else if _, err := f.WriteAt(b, 0); err != nil || f.Close() != nil {
				t.Fatal(err)
			}
		})
		if err == nil || seen != walkPage || !hit {
			t.Errorf("the walk ends with %v after %d of %d sessions, want %d", err, seen, walkPage+300, walkPage)
		}
	})
	t.Run("by a Load", func(t *testing.T) {
		path, o := temp(t), owner("a")
		s, err := Open(path, &Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		c := store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Create: true}
		for i := range 200 {
			c.Puts = append(c.Puts, entries(fmt.Sprintf("key-%03d", i), string(make([]byte, 100)))...)
		}
		apply(t, s, c, store.Applied)
		s.Close()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		hit := false
		for page := range slices.Chunk(b, os.Getpagesize()) {
			empty([]byte("key-100"), &hit)(page)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(path, &Options{NoSync: true}); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if snap, err := s.Load(t.Context(), "s"); err == nil || len(snap.Entries) < 50 || len(snap.Entries) > 100 || !hit {
			t.Errorf("Load gives %d entries of 200, and %v", len(snap.Entries), err)
		}
		if claim, err := s.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: owner("b"), All: true}); err == nil {
			t.Errorf("Claim gives %d entries of 200 and no error", len(claim.Entries))
		}
	})
}
