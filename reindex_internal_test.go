package kvstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// openTexts opens a DB of texts, whose sessions are not flushed unless somebody waits.
func openTexts(t *testing.T, st store.Store, node string, indexes ...Index[string]) *DB[string] {
	t.Helper()
	db, err := Open(context.Background(), st, Options{Node: node, Codec: text{}, MaxDelay: time.Hour, Lease: time.Hour, Hooks: Hooks{Lost: func(Lost) {}}}, indexes...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close(context.Background()) })
	return db
}

func ok(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// found are the sessions that a query finds, by Merged, in their order.
func found(t *testing.T, db *DB[string], q Query[string]) string {
	t.Helper()
	var ids []string
	for _, r := range pages(t, db.Merged, q) {
		ids = append(ids, r.Session)
	}
	return strings.Join(ids, " ")
}

// marksOf are the names of a session in the store, readable.
func marksOf(t *testing.T, st store.Store, id string) string {
	t.Helper()
	snap, err := st.Load(context.Background(), id, "")
	ok(t, err)
	var all []string
	for _, a := range snap.Header.Aliases {
		index, term, null, isTerm := parseTerm(a)
		switch {
		case !isTerm:
			all = append(all, a)
		case null:
			all = append(all, index+":-")
		default:
			all = append(all, index+":"+term)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// What a session has in an index follows its entry: a session without a term says so, from its creation on, and one that has ended says nothing.
func TestTermsFollowTheEntry(t *testing.T) {
	ctx := context.Background()
	mem := memory.New()
	db := openTexts(t, mem, "a", Index[string]{Name: "i", Terms: listed}, Index[string]{Name: "j", Version: 2, Key: "k", Terms: firstOf})
	s, err := db.Create(ctx, "s")
	ok(t, err)
	flush := func(want string) {
		t.Helper()
		ok(t, db.Flush(ctx))
		if got := marksOf(t, mem, "s"); got != want {
			t.Errorf("the store has %q, want %q", got, want)
		}
	}
	flush("i/0:- j/2:-")
	ok(t, s.Put(ctx, "", "b,a,b,"))
	flush("i/0:a i/0:b j/2:-")
	ok(t, s.Put(ctx, "k", "x,y"), s.AddAlias(ctx, "alias", InMemory))
	flush("alias i/0:a i/0:b j/2:x")
	ok(t, s.Put(ctx, "other", "z"), s.Put(ctx, "", ",,"))
	flush("alias i/0:- j/2:x")
	_, err = s.Rename(ctx, "k", "l")
	ok(t, err)
	flush("alias i/0:- j/2:-")
	_, err = s.Rename(ctx, "l", "k")
	ok(t, err, s.Put(ctx, "", "c"))
	flush("alias i/0:c j/2:x")
	ok(t, s.Queue("q").PushBack(ctx, "not indexed"), s.After(ctx, "t", time.Hour, "nor this", InMemory), s.Cancel(ctx, "t", InMemory))
	flush("alias i/0:c j/2:x")
	ok(t, s.Delete(ctx, ""), s.Delete(ctx, "k"))
	flush("alias i/0:- j/2:-")
	ok(t, s.Put(ctx, "", "d"), db.Delete(ctx, "s"), db.Put(ctx, "s", "e"))
	flush("i/0:e j/2:-")
	ok(t, db.Delete(ctx, "s"))
	ok(t, db.Flush(ctx))
	if f, err := mem.Find(ctx, store.AliasRange{}); err != nil || len(f.Aliases) > 0 {
		t.Errorf("of a session that has ended there is %v (error %v)", f.Aliases, err)
	}
	s, err = db.AdoptOrCreate(ctx, "s")
	ok(t, err)
	flush("i/0:- j/2:-")
	// Its time has come, and nobody has ended it yet: a Put begins a new life, without the timers of the one before.
	ok(t, s.Put(ctx, "", "f"), s.Put(ctx, "k", "g"), s.After(ctx, "t", time.Hour, "h", InMemory))
	on := db.sessions.load("s")
	on.mu.Lock()
	on.expires.Store(1)
	on.mu.Unlock()
	ok(t, db.Put(ctx, "s", "i"))
	flush("i/0:i j/2:-")
}

// A Put that does not change the terms writes no header, and one that does, one.
func TestTermsUnchanged(t *testing.T) {
	ctx := context.Background()
	db := openTexts(t, memory.New(), "a", Index[string]{Name: "i", Terms: firstOf})
	ok(t, db.Put(ctx, "s", "a,1"), db.Flush(ctx))
	s := db.sessions.load("s")
	for _, c := range []struct {
		v    string
		head bool
	}{{"a,2", false}, {"a", false}, {"b", true}, {"b,2", true}} {
		ok(t, db.Put(ctx, "s", c.v))
		s.mu.Lock()
		if s.has(head) != c.head {
			t.Errorf("after a Put of %q the header is to be written: %t, want %t", c.v, s.has(head), c.head)
		}
		s.mu.Unlock()
	}
}

// A value whose terms cannot be kept is not put; one that is loaded can be read, and is in no index.
func TestTermsUnfit(t *testing.T) {
	ctx := context.Background()
	mem := memory.New()
	plain := openTexts(t, mem, "plain")
	long, many := strings.Repeat("x", 1020), strings.Repeat("a", 400)
	split := Index[string]{Name: "i", Terms: func(v string) []string {
		if strings.HasPrefix(v, "panic") {
			panic("in Terms")
		}
		if v == many {
			var ts []string
			for i := range v {
				ts = append(ts, fmt.Sprint(i))
			}
			return ts
		}
		return []string{v}
	}}
	for id, v := range map[string]string{"long": long, "many": many, "panic": "panic", "good": "good"} {
		ok(t, plain.Put(ctx, id, v))
	}
	ok(t, plain.Flush(ctx), plain.Close(ctx))
	db := openTexts(t, mem, "a", split)
	ok(t, db.Put(ctx, "s", "before"), db.Flush(ctx))
	for _, v := range []string{long, many, strings.Repeat("\x00", 600)} {
		if err := db.Put(ctx, "s", v); !errors.Is(err, ErrTooLarge) {
			t.Errorf("Put of %.10q…: %v", v, err)
		}
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a panic in Terms did not reach the caller of Put")
			}
		}()
		_ = db.Put(ctx, "s", "panic")
	}()
	if v, err := db.Get(ctx, "s"); v != "before" || err != nil || db.Stats().Buffered != 0 {
		t.Errorf("after what was refused there is %q (error %v), %d bytes buffered", v, err, db.Stats().Buffered)
	}
	r, err := db.Reindex(ctx, Reindexing{})
	if r.Failed != 3 || r.Marked != 1 || r.Indexed != 1 || r.Complete || err == nil {
		t.Errorf("Reindex: %+v, error %v; want 3 failed", r, err)
	}
	for _, id := range []string{"long", "many", "panic"} {
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("session %q", id)) {
			t.Errorf("the error does not name %s: %v", id, err)
		}
		h, err := db.Adopt(ctx, id)
		ok(t, err)
		if v, err := h.Get(ctx, ""); (id == "panic") != (err != nil) || err == nil && v != map[string]string{"long": long, "many": many}[id] {
			t.Errorf("%s is %.10q (error %v)", id, v, err)
		}
	}
	if got := found(t, db, Query[string]{Index: "i"}); got != "s good" {
		t.Errorf("found are %q", got)
	}
	full, err := db.Adopt(ctx, "s")
	ok(t, err, full.Update(ctx, func(tx *Tx[string]) error {
		for i := range store.MaxAliases - 1 {
			ok(t, tx.AddAlias(fmt.Sprint(i)))
		}
		return nil
	}))
	ok(t, db.Put(ctx, "s", "after")) // in the place of the other term
	if err := full.AddAlias(ctx, "more", InMemory); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one name more than there is room for: %v", err)
	}
}

// After the Version of an index has changed, its sessions are found as they are indexed: by Reindex, in shares, with progress; or as they come in.
func TestReindex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		v1 := Index[string]{Name: "i", Version: 1, Terms: firstOf}
		v2 := Index[string]{Name: "i", Version: 2, Terms: listed}
		old := openTexts(t, mem, "old", v1)
		for i := range 300 {
			ok(t, old.Put(ctx, fmt.Sprintf("s%03d", i), fmt.Sprintf("a,b%d", i%3)))
		}
		ok(t, old.Flush(ctx))
		// A rolling deploy: the old node lives, and has 100; the others it has handed over.
		for i := 100; i < 300; i++ {
			ok(t, old.Release(ctx, fmt.Sprintf("s%03d", i)))
		}
		n1, n2 := openTexts(t, mem, "n1", v2), openTexts(t, mem, "n2", v2)
		a, err := n1.Merged(ctx, Query[string]{Index: "i", Term: "b0"})
		if err != nil || len(a.Rows) > 0 || a.Covered.Indexed {
			t.Errorf("before anything is indexed: %+v (error %v)", a, err)
		}
		var told []Reindexed
		r1, err := n1.Reindex(ctx, Reindexing{Rate: 100, Count: true, Progress: func(r Reindexed) { told = append(told, r) }})
		ok(t, err)
		if r1.Seen != 300 || r1.Total != 300 || r1.Remaining != 100 || r1.Marked+r1.Others != 200 || r1.Marked == 0 || r1.Others == 0 || r1.Complete || r1.Took < time.Duration(r1.Marked-20)*10*time.Millisecond {
			t.Errorf("the first node's pass: %+v", r1)
		}
		if len(told) == 0 || told[len(told)-1] != r1 || r1.Rate <= 0 {
			t.Errorf("told was %+v", told)
		}
		r2, err := n2.Reindex(ctx, Reindexing{All: true}) // the old node's share, too
		ok(t, err)
		if r2.Indexed != r1.Marked || r2.Marked != r1.Others || r2.Others != 0 || r2.Remaining != 100 || r2.Complete {
			t.Errorf("the second node's pass: %+v", r2)
		}
		if n1.Stats().Resident+n2.Stats().Resident+n1.sessions.size() != 0 {
			t.Errorf("%d and %d sessions are resident after Reindex", n1.Stats().Resident, n2.Stats().Resident)
		}
		if got := len(pages(t, n1.Merged, Query[string]{Index: "i", Term: "b0"})); got != 66 && got != 67 {
			t.Errorf("%d are found, want a third of 200", got)
		}
		if got := marksOf(t, mem, "s200"); got != "i/1:a i/2:a i/2:b2" {
			t.Errorf("a session has the marks %q: what an old node needs is to stay", got)
		}
		if got := len(pages(t, old.Merged, Query[string]{Index: "i", Term: "a"})); got != 300 {
			t.Errorf("the old node finds %d, want 300", got)
		}
		if got := found(t, n1, Query[string]{Index: "i", Term: "b0", Limit: 7, Where: func(id, _ string) bool { return id < "s105" }}); got != "s102" {
			t.Errorf("found are %q", got)
		}
		// One comes in before the pass, with unsaved changes, one is put by the old node and comes in then.
		ok(t, n1.Put(ctx, "s150", "new"), old.Put(ctx, "s050", "x,y"), old.Close(ctx))
		_, err = n1.Adopt(ctx, "s050")
		ok(t, err)
		if got := found(t, n1, Query[string]{Index: "i", From: "c"}); got != "s150 s050 s050" {
			t.Errorf("found are %q", got)
		}
		r3, err := n1.Reindex(ctx, Reindexing{All: true, Drop: true})
		ok(t, err)
		if r3.Seen != 300 || r3.Marked != 300 || r3.Indexed != 0 || !r3.Complete || r3.Left != 0 {
			t.Errorf("the last pass: %+v", r3)
		}
		if got := marksOf(t, mem, "s200") + "; " + marksOf(t, mem, "s050"); got != "i/2:a i/2:b2; i/2:x i/2:y" {
			t.Errorf("sessions have the marks %q", got)
		}
		a, err = n1.Merged(ctx, Query[string]{Index: "i", Term: "b0", Limit: 1000})
		if err != nil || len(a.Rows) != 99 || !a.Covered.Indexed || a.Next != "" { // but for 150
			t.Errorf("%d rows, %+v, %q (error %v)", len(a.Rows), a.Covered, a.Next, err)
		}
		if r, err := n2.Reindex(ctx, Reindexing{}); err != nil || r.Indexed != 300 || !r.Complete {
			t.Errorf("the second node finds %+v (error %v)", r, err)
		}
	})
}

// A session that is evicted, and whose header lacks marks, is indexed where it is, and remains this node's.
func TestReindexEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		db, err := Open(ctx, mem, Options{Node: "a", Codec: text{}, Lease: time.Hour, MaxResident: 2}, Index[string]{Name: "i", Terms: listed}, Index[string]{Name: "k", Key: "k", Terms: listed})
		ok(t, err)
		defer db.Close(ctx)
		var hs []*Session[string]
		for i := range 6 {
			h, err := db.AdoptOrCreate(ctx, fmt.Sprint("s", i))
			ok(t, err, h.Put(ctx, "", fmt.Sprint("m", i)), h.Put(ctx, "k", fmt.Sprint("k", i)), h.Sync(ctx))
			hs = append(hs, h)
		}
		synctest.Wait()
		// As if a program without the declaration had written them.
		for i := range 6 {
			snap, err := mem.Load(ctx, fmt.Sprint("s", i))
			ok(t, err)
			h := snap.Header
			if rs, err := mem.Apply(ctx, []store.Change{{Session: h.Session, Owner: h.Owner, Epoch: h.Epoch, Seq: h.Seq, Expires: h.Expires}}); err != nil || rs[0].Outcome != store.Already {
				t.Fatal(rs, err)
			}
			if rs, err := mem.Apply(ctx, []store.Change{{Session: h.Session, Owner: h.Owner, Epoch: h.Epoch, Seq: db.seq.Add(1), Expires: h.Expires}}); err != nil || rs[0].Outcome != store.Applied {
				t.Fatal(rs, err)
			}
		}
		r, err := db.Reindex(ctx, Reindexing{})
		if err != nil || r.Marked != 6 || !r.Complete {
			t.Errorf("%+v (error %v)", r, err)
		}
		for i, h := range hs {
			if got, want := marksOf(t, mem, h.ID()), fmt.Sprintf("i/0:m%d k/0:k%d", i, i); got != want {
				t.Errorf("the store has %q, want %q", got, want)
			}
			if v, err := h.Get(ctx, "k"); err != nil || v != fmt.Sprint("k", i) {
				t.Errorf("%q (error %v)", v, err)
			}
			ok(t, h.Put(ctx, "k", "x"), h.Sync(ctx))
		}
		if got := found(t, db, Query[string]{Index: "k"}); got != "s0 s1 s2 s3 s4 s5" {
			t.Errorf("found are %q", got)
		}
	})
}

// Whoever asks for a session that is being indexed waits, and gets it.
func TestReindexAgainstDemand(t *testing.T) {
	ctx := context.Background()
	mem := memory.New()
	plain := openTexts(t, mem, "plain")
	const n = 200
	for i := range n {
		ok(t, plain.Put(ctx, fmt.Sprint("s", i), "old"))
	}
	ok(t, plain.Flush(ctx), plain.Close(ctx))
	dbs := []*DB[string]{openTexts(t, mem, "a", Index[string]{Name: "i", Terms: listed}), openTexts(t, mem, "b", Index[string]{Name: "i", Terms: listed})}
	done := make(chan error)
	for _, db := range dbs {
		go func() {
			_, err := db.Reindex(ctx, Reindexing{All: true, Rate: 1_000_000})
			done <- err
		}()
	}
	taken := map[string]bool{}
	for i := 0; i < n; i += 2 {
		id := fmt.Sprint("s", i)
		err := dbs[i/2%2].Put(ctx, id, "new")
		for errors.Is(err, ErrOwned) { // the other one is just indexing it
			err = dbs[i/2%2].Put(ctx, id, "new")
		}
		ok(t, err)
		taken[id] = true
	}
	ok(t, <-done, <-done)
	for i, db := range dbs {
		ok(t, db.Flush(ctx))
		for id := range taken {
			if s := db.sessions.load(id); s != nil && s.dead() {
				t.Errorf("n%d: %s has left", i, id)
			}
		}
	}
	ok(t, dbs[0].Close(ctx))
	db := openTexts(t, mem, "c", Index[string]{Name: "i", Terms: listed})
	for {
		r, err := db.Reindex(ctx, Reindexing{All: true, Rate: 1_000_000})
		ok(t, err)
		if r.Remaining == 0 && r.Others == 0 {
			break
		}
		t.Logf("%+v", r)
		ok(t, dbs[1].Flush(ctx))
	}
	a, err := db.Stored(ctx, Query[string]{Index: "i", Term: "new", Limit: n})
	if b, err2 := db.Stored(ctx, Query[string]{Index: "i", Term: "old", Limit: n}); err != nil || err2 != nil || len(a.Rows) != n/2 || len(b.Rows) != n/2 || !a.Covered.Indexed {
		t.Errorf("found are %d and %d (errors %v, %v), want %d each", len(a.Rows), len(b.Rows), err, err2, n/2)
	}
}

// A program that does not declare an index drops its marks with its first write, so that nothing is found by what is not so any more; whoever declares it
// and adopts the session next, writes them again.
func TestUndeclared(t *testing.T) {
	ctx := context.Background()
	mem := memory.New()
	i := Index[string]{Name: "i", Terms: listed}
	db, plain := openTexts(t, mem, "a", i), openTexts(t, mem, "plain")
	for _, id := range []string{"read", "written"} {
		ok(t, db.Put(ctx, id, "a"), db.Flush(ctx), db.Release(ctx, id))
		_, err := plain.Adopt(ctx, id)
		ok(t, err)
	}
	ok(t, plain.Put(ctx, "written", "b"), plain.Flush(ctx))
	if got := marksOf(t, mem, "read") + ", " + marksOf(t, mem, "written"); got != "i/0:a, " {
		t.Errorf("the store has %q", got)
	}
	if got := found(t, db, Query[string]{Index: "i"}); got != "read" {
		t.Errorf("found are %q", got)
	}
	if r, err := db.Reindex(ctx, Reindexing{}); err != nil || r.Remaining != 1 || r.Complete {
		t.Errorf("%+v (error %v)", r, err)
	}
	ok(t, plain.Close(ctx))
	_, err := db.Adopt(ctx, "written")
	ok(t, err)
	if got := found(t, db, Query[string]{Index: "i"}); got != "read written" {
		t.Errorf("found are %q", got)
	}
	ok(t, db.Flush(ctx))
	if got := marksOf(t, mem, "written"); got != "i/0:b" {
		t.Errorf("the store has %q", got)
	}
}

// A value that the store refuses, or that cannot be encoded, leaves the session where it was in its indexes, or in none that can be told; never under
// what is not stored.
func TestTermsOfTheRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		refuse := &refuser{Store: mem}
		db := openTexts(t, refuse, "a", Index[string]{Name: "i", Terms: listed})
		for _, bad := range []string{"!cannot be encoded", "refused"} {
			for _, had := range []string{"", "a"} {
				s, err := db.AdoptOrCreate(ctx, "s")
				ok(t, err)
				if had != "" {
					ok(t, s.Put(ctx, "", had), s.Sync(ctx))
				}
				ok(t, s.Put(ctx, "other", "x"), s.Put(ctx, "", bad))
				if err := s.Sync(ctx); !errors.Is(err, ErrRejected) {
					t.Errorf("%q after %q: %v", bad, had, err)
				}
				if got := marksOf(t, mem, "s"); strings.Contains(got, bad) {
					t.Errorf("%q after %q: the store has the marks %q", bad, had, got)
				}
				synctest.Wait()
				ok(t, s.Sync(ctx))
				want := map[string]string{"": "i/0:-", "a": "i/0:a"}[had]
				if got := marksOf(t, mem, "s"); got != want {
					t.Errorf("%q after %q: the store has the marks %q, want %q", bad, had, got, want)
				}
				if got := found(t, db, Query[string]{Index: "i"}); got != map[string]string{"": "", "a": "s"}[had] {
					t.Errorf("%q after %q: found are %q", bad, had, got)
				}
				ok(t, db.Delete(ctx, "s"))
				if err := db.Flush(ctx); err != nil && !errors.Is(err, ErrRejected) { // the Flush that tells of it, if no other has
					t.Fatal(err)
				}
			}
		}
		s, err := db.AdoptOrCreate(ctx, "s")
		ok(t, err, s.Put(ctx, "", "a"), s.Sync(ctx), s.Put(ctx, "", "!"))
		if err := db.Release(ctx, "s"); err != nil && !errors.Is(err, ErrRejected) {
			t.Fatal(err)
		}
		if got := marksOf(t, mem, "s"); got != "" {
			t.Errorf("released with what cannot be encoded it has the marks %q", got)
		}
	})
}

// refuser is a store that refuses a value.
type refuser struct{ *memory.Store }

func (r *refuser) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	rs := make([]store.Result, len(cs))
	for i := range cs {
		for _, e := range cs[i].Puts {
			if string(e.Value) == "refused" {
				rs[i] = store.Result{Outcome: store.Rejected, Err: errors.New("refused"), Keys: []string{e.Key}}
			}
		}
		if rs[i].Outcome == store.Rejected {
			continue
		}
		one, err := r.Store.Apply(ctx, cs[i:i+1])
		if err != nil {
			return nil, err
		}
		rs[i] = one[0]
	}
	return rs, nil
}
