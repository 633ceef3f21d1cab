package nats

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/store"
)

// subjects returns how many there are, of those that match.
func (s *Store) subjects(t testing.TB, filter string) int {
	t.Helper()
	in, err := s.info(t.Context(), s.prefix+filter)
	if err != nil {
		t.Fatal(err)
	}
	return len(in.State.Subjects)
}

// A session that grows and shrinks, across the sizes at which it is in one message or in many, is what a map would be, for the store
// that has written it and for another one; and no page is left that it does not refer to.
func TestPages(t *testing.T) {
	srv := start(t, "")
	o := fresh()
	st, other := open(t, srv.url(), o), open(t, srv.url(), o)
	owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	c := store.Change{Session: "s", Owner: owner, Epoch: 1, Create: true}
	is := map[string]string{}
	paged := 0
	const rounds = 40
	for round := range rounds {
		c.Seq++
		c.Puts, c.Deletes, c.Wipe = nil, nil, rand.N(20) == 0
		if c.Wipe {
			clear(is)
		}
		shrink := rand.N(3) == 0
		sizes := []int{0, 10, 1000, 30_000, 100_000}
		puts := rand.N(20)
		switch round { // what comes by chance is both in one message and in pages, but not in each run
		case 0:
			sizes = sizes[:3]
		case rounds / 2:
			sizes, puts, shrink = sizes[4:], 40, false
		}
		for range puts {
			key := fmt.Sprint("key/", rand.N(60))
			if contains(&c, key) {
				continue
			}
			if _, there := is[key]; there && (shrink || rand.N(4) == 0) {
				c.Deletes = append(c.Deletes, key)
				delete(is, key)
				continue
			}
			value := bytes.Repeat([]byte{byte(rand.N(256))}, sizes[rand.N(len(sizes))])
			c.Puts = append(c.Puts, store.Entry{Key: key, Value: value})
			is[key] = string(value)
		}
		apply(t, st, c, store.Applied)
		if d := st.cache.document("s"); d != nil && len(d.pages) > 0 {
			paged++
		}
		for _, s := range []*Store{st, other} {
			snap, err := s.Load(t.Context(), "s")
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, e := range snap.Entries {
				got[e.Key] = string(e.Value)
			}
			if !maps.Equal(got, is) {
				t.Fatalf("after change %d there are %d entries, want %d", c.Seq, len(got), len(is))
			}
			for _, r := range []store.Range{{}, {Limit: 1}, {From: "key/3", To: "key/5", Limit: 3}, {From: "key/2", Limit: 10}, {To: "key/4", KeysOnly: true}, {From: "key/5", To: "key/1"}} {
				sameRange(t, s, r, is)
			}
			some, err := s.Load(t.Context(), "s", "key/7", "key/33", "none")
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range some.Entries {
				if v, ok := is[e.Key]; !ok || v != string(e.Value) {
					t.Fatalf("after change %d %q is another one", c.Seq, e.Key)
				}
			}
		}
		if rand.N(10) == 0 { // its document is replaced, and its pages stay
			claim, err := other.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: store.Owner{Node: "b", Incarnation: store.NewIncarnation()}, All: true})
			if err != nil || len(claim.Entries) != len(is) {
				t.Fatalf("a claim has %d entries of %d, %v", len(claim.Entries), len(is), err)
			}
			apply(t, st, c, store.Fenced)
			c.Owner, c.Epoch, c.Seq, c.Create = claim.Header.Owner, claim.Header.Epoch, 0, false
		}
	}
	if paged == 0 || paged == rounds {
		t.Errorf("the session was in pages %d times of %d", paged, rounds)
	}
	d, err := st.read(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	outage.Until(t, "only the pages in use are left", func() bool { return st.subjects(t, "p.>") == len(d.pages) })
	outage.Until(t, "only the owner is in the index", func() bool { return st.subjects(t, "i.>") == 1 })
	c.Seq++
	c.Puts, c.Deletes, c.Wipe, c.Delete = nil, nil, false, true
	apply(t, st, c, store.Applied)
	outage.Until(t, "nothing is left but the tombstone", func() bool { return st.subjects(t, ">") == 1 })
}

// sameRange reads a range of a session to its end, which must be what a map has.
func sameRange(t *testing.T, s *Store, asked store.Range, is map[string]string) {
	t.Helper()
	want := slices.DeleteFunc(slices.Sorted(maps.Keys(is)), func(key string) bool { return !asked.Has(key) })
	var got []string
	for r := asked; ; {
		p, err := s.LoadRange(t.Context(), "s", r)
		if err != nil || r.Limit > 0 && len(p.Entries) > r.Limit {
			t.Fatalf("LoadRange(%+v) gives %d entries, %v", r, len(p.Entries), err)
		}
		for _, e := range p.Entries {
			if got = append(got, e.Key); r.KeysOnly && e.Value != nil || !r.KeysOnly && string(e.Value) != is[e.Key] {
				t.Fatalf("LoadRange(%+v): the value of %q is another one", r, e.Key)
			}
		}
		if p.Next == "" {
			break
		}
		if p.Next <= r.From {
			t.Fatalf("LoadRange(%+v) goes on at %q", r, p.Next)
		}
		r.From = p.Next
	}
	if !slices.Equal(got, want) {
		t.Fatalf("LoadRange(%+v) gives %q, want %q", asked, got, want)
	}
}

// A page of a range reads the pages of the session that have some of it, as many as its limit may need, and no more than rangeBytes.
func TestPagesOfRange(t *testing.T) {
	c := content{{page: page{first: "b", size: 10}}, {page: page{first: "d", size: 20}}, {page: page{first: "f", size: rangeBytes}}, {page: page{first: "h", size: rangeBytes + 1}}, {page: page{first: "j", size: 1}}}
	for _, x := range []struct {
		r    store.Range
		want string // the first keys
		next string
	}{
		{store.Range{}, "bd", "f"},
		{store.Range{From: "a", To: "b"}, "", ""},
		{store.Range{From: "a", To: "b\x00"}, "b", ""},
		{store.Range{From: "c", To: "d"}, "b", ""},
		{store.Range{From: "d", To: "f"}, "d", ""},
		{store.Range{From: "c", Limit: 1}, "b", "d"},
		{store.Range{From: "e", Limit: 9}, "d", "f"},
		{store.Range{From: "f"}, "f", "h"},
		{store.Range{From: "h"}, "h", "j"},
		{store.Range{From: "z", Limit: 2}, "j", ""},
	} {
		some, next := c.within(x.r)
		got := ""
		for i := range some {
			got += some[i].first
		}
		if got != x.want || next != x.next {
			t.Errorf("%+v reads the pages %q, and then from %q; want %q, %q", x.r, got, next, x.want, x.next)
		}
	}
	one := content{{slots: []slot{{key: "k"}}, loaded: true}}
	if some, next := one.within(store.Range{From: "x", To: "y", Limit: 1}); len(some) != 1 || next != "" {
		t.Errorf("of a session without pages %d are read, and then from %q", len(some), next)
	}
}

func contains(c *store.Change, key string) bool {
	for _, e := range c.Puts {
		if e.Key == key {
			return true
		}
	}
	for _, k := range c.Deletes {
		if k == key {
			return true
		}
	}
	return false
}

// What is stored for a document that was never written is removed once it cannot be written any more, and not before.
func TestSweep(t *testing.T) {
	srv := start(t, "")
	st := open(t, srv.url(), fresh())
	owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	large := []store.Entry{{Key: "a", Value: make([]byte, 200_000)}, {Key: "b", Value: make([]byte, 200_000)}}
	c := store.Change{Session: "s", Owner: owner, Epoch: 1, Seq: 1, Create: true, Puts: large}
	apply(t, st, c, store.Applied)
	d, err := st.read(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}

	// A node dies after it has stored pages, and a message in the index, and before it writes the document.
	dead := store.NewIncarnation()
	next := &job{session: "s", doc: d, next: &document{header: store.Header{Session: "s", Epoch: 2, Owner: store.Owner{Incarnation: dead}}},
		content: content{{loaded: true}}.change(ops(&c))}
	if err := st.stageAll(t.Context(), []*job{next}); err != nil || next.err != nil {
		t.Fatal(err, next.err)
	}
	clean := func() {
		t.Helper()
		if err := st.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		stale, err := st.stale(t.Context(), []claimed{{dead, "s"}})
		if err != nil || st.remove(t.Context(), stale) != nil {
			t.Fatal(err)
		}
	}
	clean()
	if pages, index := st.subjects(t, "p.>"), st.subjects(t, "i.>"); pages != 4 || index != 2 {
		t.Errorf("while the document may still come there are %d pages and %d messages in the index, want 4 and 2", pages, index)
	}
	for range st.Sessions(t.Context(), store.Query{Owner: dead}) {
		t.Error("a walk shows what may still come")
	}
	c.Seq++
	c.Puts = []store.Entry{{Key: "c"}}
	apply(t, st, c, store.Applied) // now it is too late for it
	clean()
	if d, err = st.read(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	outage.Until(t, "the rest is gone", func() bool { return st.subjects(t, "p.>") == len(d.pages) && st.subjects(t, "i.>") == 1 })
	snap, err := st.Load(t.Context(), "s")
	if err != nil || len(snap.Entries) != 3 {
		t.Errorf("after a sweep there are %d entries, %v", len(snap.Entries), err)
	}
	n := 0
	for _, err := range st.Sessions(t.Context(), store.Query{Owner: owner.Incarnation}) {
		if n++; err != nil {
			t.Error(err)
		}
	}
	if n != 1 {
		t.Errorf("after a sweep the owner has %d sessions", n)
	}
}

// A page that is damaged, or gone, is told by name, and the others stay readable.
func TestDamagedPage(t *testing.T) {
	srv := start(t, "")
	o := fresh()
	st := open(t, srv.url(), o)
	owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	c := store.Change{Session: "s", Owner: owner, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{
		{Key: "a", Value: make([]byte, 100_000)}, {Key: "b", Value: make([]byte, 100_000)}, {Key: "c", Value: make([]byte, 100_000)}}}
	apply(t, st, c, store.Applied)
	d, err := st.read(t.Context(), "s")
	if err != nil || len(d.pages) != 3 {
		t.Fatalf("%d pages, %v", len(d.pages), err)
	}
	if err := st.ask(t.Context(), st.drop(d.pages[1].seq)); err != nil {
		t.Fatal(err)
	}
	st = open(t, srv.url(), o)
	var corrupt *store.CorruptError
	if snap, err := st.Load(t.Context(), "s"); !errors.As(err, &corrupt) || corrupt.Key != "b" || len(snap.Entries) != 2 {
		t.Errorf("Load gives %d entries, %v", len(snap.Entries), err)
	}
	if p, err := st.LoadRange(t.Context(), "s", store.Range{From: "a", Limit: 3}); !errors.As(err, &corrupt) || corrupt.Key != "b" || len(p.Entries) != 2 || p.Header.Epoch != 1 {
		t.Errorf("LoadRange gives %d entries, %v", len(p.Entries), err)
	}
	if p, err := st.LoadRange(t.Context(), "s", store.Range{From: "c"}); err != nil || len(p.Entries) != 1 {
		t.Errorf("LoadRange of another part gives %d entries, %v", len(p.Entries), err)
	}
	if snap, err := st.Load(t.Context(), "s", "a", "c"); err != nil || len(snap.Entries) != 2 {
		t.Errorf("Load of the others gives %d entries, %v", len(snap.Entries), err)
	}
	next := store.Owner{Node: "b", Incarnation: store.NewIncarnation()}
	if got, err := st.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: next, Keys: []string{"a", "b"}}); err != nil || len(got.Entries) != 1 || fmt.Sprint(got.Unread) != "[b]" {
		t.Errorf("Claim gives %d entries, unread %q, %v", len(got.Entries), got.Unread, err)
	}
	put := store.Change{Session: "s", Owner: next, Epoch: 2, Seq: 1, Puts: []store.Entry{{Key: "a"}}}
	apply(t, st, put, store.Applied)
	put.Seq, put.Puts[0].Key = 2, "bb" // in the page that is gone
	if rs, err := st.Apply(t.Context(), []store.Change{put}); !errors.As(err, &corrupt) {
		t.Errorf("Apply gives %+v, %v", rs, err)
	}
	put.Seq, put.Wipe = 3, true
	apply(t, st, put, store.Applied)
	if snap, err := st.Load(t.Context(), "s"); err != nil || len(snap.Entries) != 1 {
		t.Errorf("after a wipe Load gives %d entries, %v", len(snap.Entries), err)
	}
}

// A tombstone ends by itself, and the session may be made again.
func TestTombstoneEnds(t *testing.T) {
	srv := start(t, "")
	o := fresh()
	o.TombstoneRetention = time.Second
	st := open(t, srv.url(), o)
	c := store.Change{Session: "s", Owner: store.Owner{Incarnation: store.NewIncarnation()}, Epoch: 5, Seq: 1, Create: true, Delete: true}
	apply(t, st, c, store.Applied)
	outage.Until(t, "the tombstone is gone", func() bool {
		snap, err := st.Load(t.Context(), "s")
		if err != nil {
			t.Fatal(err)
		}
		return snap.Header.Epoch == 0
	})
	c.Epoch, c.Delete = 1, false
	apply(t, st, c, store.Applied)
}
