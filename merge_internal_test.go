package kvstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// Ranges of terms are what their bytes say, whatever is in them, and pages of any size put together are the same.
func TestTermRanges(t *testing.T) {
	ctx := context.Background()
	db := openTexts(t, memory.New(), "a", Index[string]{Name: "i", Terms: func(v string) []string { return []string{v} }},
		Index[string]{Name: "i\x00", Terms: func(v string) []string { return []string{"x"} }}, Index[string]{Name: "h", Terms: func(v string) []string { return []string{"x"} }})
	for n, term := range marked {
		ok(t, db.Put(ctx, fmt.Sprint("s", n), term), db.Put(ctx, fmt.Sprint("t", n), term))
	}
	terms := slices.DeleteFunc(slices.Clone(marked), func(s string) bool { return s == "" })
	check := func(q Query[string], in func(string) bool) {
		t.Helper()
		want := slices.Sorted(slices.Values(slices.DeleteFunc(slices.Clone(terms), func(s string) bool { return !in(s) })))
		for _, limit := range []int{1, 2, 3, 0} {
			q.Index, q.Limit = "i", limit
			for _, ask := range []func(context.Context, Query[string]) (Answer[string], error){db.Merged, db.Stored} {
				var got []string
				for i, r := range pages(t, ask, q) {
					if i%2 == 0 {
						got = append(got, r.Term)
					} else if r.Term != got[i/2] || r.Session[0] != 't' {
						t.Fatalf("%+v: row %d is %+v", q, i, r)
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%+v finds %q, want %q", q, got, want)
				}
			}
		}
	}
	ok(t, db.Flush(ctx))
	check(Query[string]{}, func(string) bool { return true })
	for _, a := range terms {
		check(Query[string]{Term: a}, func(s string) bool { return s == a })
		check(Query[string]{Prefix: a}, func(s string) bool { return strings.HasPrefix(s, a) })
		check(Query[string]{From: a}, func(s string) bool { return s >= a })
		for _, b := range terms {
			check(Query[string]{From: a, To: b}, func(s string) bool { return s >= a && s < b })
		}
	}
}

// What cannot be asked is told, and so is a declaration that cannot be right.
func TestQueriesInvalid(t *testing.T) {
	ctx := context.Background()
	mem := memory.New()
	i := Index[string]{Name: "i", Terms: listed}
	db := openTexts(t, mem, "a", i, Index[string]{Name: "j", Terms: listed})
	ok(t, db.Put(ctx, "s", "a,b"), db.Put(ctx, "t", "a"))
	cursor := func(q Query[string]) Cursor {
		q.Limit = 1
		a, err := db.Merged(ctx, q)
		if err != nil || a.Next == "" {
			t.Fatalf("%+v: no next page (error %v)", q, err)
		}
		return a.Next
	}
	for name, q := range map[string]Query[string]{
		"no such index":       {Index: "none"},
		"a term of no index":  {Term: "a"},
		"two ways":            {Index: "i", Term: "a", Prefix: "b"},
		"three":               {Index: "i", Term: "a", To: "b"},
		"Limit":               {Limit: -1},
		"no cursor":           {After: "x"},
		"a bad one":           {After: "!"},
		"one of an index":     {After: cursor(Query[string]{Index: "i"})},
		"one of none":         {Index: "i", After: cursor(Query[string]{})},
		"one of another":      {Index: "j", After: cursor(Query[string]{Index: "i"})},
		"one of another term": {Index: "i", Term: "b", After: cursor(Query[string]{Index: "i", Term: "a"})},
	} {
		for _, ask := range []func(context.Context, Query[string]) (Answer[string], error){db.Merged, db.Stored} {
			if _, err := ask(ctx, q); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for name, indexes := range map[string][]Index[string]{
		"no name": {{Terms: listed}}, "a long name": {{Name: strings.Repeat("n", 65), Terms: listed}}, "no Terms": {{Name: "i"}}, "twice": {i, i}, "a key": {{Name: "i", Key: "\x00k", Terms: listed}},
	} {
		if _, err := Open(ctx, mem, Options{Codec: text{}}, indexes...); !errors.Is(err, ErrInvalid) {
			t.Errorf("Open with %s: %v", name, err)
		}
	}
	for name, st := range map[string]store.Store{"no Finder": nameless{memory.New()}, "a Finder that says so": storetest.NewFaults(nameless{memory.New()})} {
		if _, err := Open(ctx, st, Options{Codec: text{}}, i); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: Open gives %v", name, err)
		}
	}
	plain := openTexts(t, mem, "plain")
	if _, err := plain.Reindex(ctx, Reindexing{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("Reindex without an index: %v", err)
	}
	if _, err := db.Reindex(ctx, Reindexing{Rate: -1}); !errors.Is(err, ErrInvalid) {
		t.Errorf("Reindex with a rate below 0: %v", err)
	}
}

// nameless is a store that keeps aliases in no order.
type nameless struct{ store.Store }

// What cannot be read is told, and the rest is there; if the store does not answer at all, there is nothing.
func TestQueriesOfAFailingStore(t *testing.T) {
	ctx := context.Background()
	line := storetest.NewFaults(memory.New())
	terms := func(v string) []string {
		if v == "panics" {
			panic("in Terms")
		}
		return []string{"a"}
	}
	plain := openTexts(t, line, "plain", Index[string]{Name: "i", Terms: func(string) []string { return []string{"a"} }})
	db := openTexts(t, line, "a", Index[string]{Name: "i", Terms: terms})
	for id, v := range map[string]string{"1": "v", "2": "panics", "3": "v", "4": "v"} {
		ok(t, plain.Put(ctx, id, v))
	}
	ok(t, plain.Flush(ctx))
	ok(t, db.Put(ctx, "5", "v"))
	down := errors.New("down")
	fail := func(kind storetest.Kind, session string) {
		line.Inject(func(c storetest.Call) storetest.Fault {
			if c.Kind == kind && (session == "" || c.Session == session) {
				return storetest.Fault{Fail: storetest.Before, Err: down}
			}
			return storetest.Fault{}
		})
	}
	for _, q := range []Query[string]{{Index: "i"}, {}} {
		line.Inject(nil)
		fail(storetest.Load, "3")
		a, err := db.Merged(ctx, q)
		if len(a.Rows) != 3 || !errors.Is(err, down) || !strings.Contains(err.Error(), `session "2"`) || !strings.Contains(err.Error(), `session "3"`) || strings.Contains(err.Error(), `session "4"`) {
			t.Errorf("%d rows, error %v; want 3, and what is wrong with 2 and 3", len(a.Rows), err)
		}
		if a.Covered.Resident != 1 || a.Covered.Stored != 4 {
			t.Errorf("covered is %+v", a.Covered)
		}
		fail(map[bool]storetest.Kind{true: storetest.Lookup, false: storetest.Sessions}[q.Index != ""], "")
		if a, err = db.Merged(ctx, q); !errors.Is(err, down) || len(a.Rows) > 0 {
			t.Errorf("%d rows, error %v; want none", len(a.Rows), err)
		}
		line.Inject(nil)
		over, cancel := context.WithCancel(ctx)
		cancel()
		if a, err = db.Merged(over, q); !errors.Is(err, context.Canceled) || len(a.Rows) > 0 {
			t.Errorf("%d rows, error %v; want none", len(a.Rows), err)
		}
	}
}

// Sessions keep one term for ever, and change another, while they are put, evicted, adopted, stolen, released and flushed by two nodes. Each query, a few rows at a
// time, has each of them once.
func TestMergeAgainstMutators(t *testing.T) {
	ctx := context.Background()
	mem := memory.New()
	index := Index[string]{Name: "i", Terms: listed}
	const sessions = 24
	var dbs []*DB[string]
	for i := range 2 {
		db, err := Open(ctx, mem, Options{Node: fmt.Sprint("n", i), Codec: text{}, MaxDelay: time.Millisecond, Lease: time.Hour, MaxResident: 6, Hooks: Hooks{Lost: func(Lost) {}}}, index)
		ok(t, err)
		defer db.Close(ctx)
		dbs = append(dbs, db)
	}
	id := func(n int) string { return fmt.Sprintf("s%02d", n) }
	value := func(n int) string { return fmt.Sprintf("keeps%02d,%d", n%5, rand.IntN(8)) }
	for n := range sessions {
		ok(t, dbs[n%2].Put(ctx, id(n), value(n)))
	}
	for _, db := range dbs { // all is stored: what a thief takes before it ever was has no term
		ok(t, db.Flush(ctx))
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(3, uint64(i)))
			db := dbs[i%2]
			for !stop.Load() {
				n := rnd.IntN(sessions)
				switch rnd.IntN(8) {
				case 0:
					_, _ = db.Steal(ctx, id(n))
				case 1:
					_ = db.Release(ctx, id(n))
				case 2:
					_, _ = db.Adopt(ctx, id(n))
				case 3:
					_, _ = db.Get(ctx, id(n))
				default:
					_ = db.Put(ctx, id(n), value(n))
				}
				dither(rnd)
			}
		})
	}
	together := func(i int) {
		db := dbs[i%2]
		for round := range rounds(150) {
			q := Query[string]{Index: "i", Prefix: "keeps", Limit: 1 + (round+i)%7}
			if round%5 == 4 {
				q = Query[string]{Limit: q.Limit}
			}
			ask := db.Merged
			if round%3 == 2 {
				ask = db.Stored
			}
			seen := map[string]int{}
			var last string
			for {
				a, err := ask(ctx, q)
				if err != nil {
					t.Errorf("round %d: %v", round, err)
					return
				}
				for _, r := range a.Rows {
					seen[r.Session]++
					if place := r.Term + "/" + r.Session; place <= last {
						t.Errorf("%s comes after %s", place, last)
					} else {
						last = place
					}
					if q.Index != "" && !slices.Contains(listed(r.Value), r.Term) {
						t.Errorf("%s is found by %q, and is %q", r.Session, r.Term, r.Value)
					}
				}
				if a.Next == "" {
					break
				}
				q.After = a.Next
				dither(rand.New(rand.NewPCG(1, uint64(round))))
			}
			for n := range sessions {
				if seen[id(n)] != 1 {
					t.Errorf("round %d, index %q, limit %d: %s is found %d times", round, q.Index, q.Limit, id(n), seen[id(n)])
				}
			}
		}
	}
	var askers sync.WaitGroup
	for i := range 2 {
		askers.Go(func() { together(i) })
	}
	askers.Wait()
	stop.Store(true)
	wg.Wait()
}

func dither(rnd *rand.Rand) {
	for range rnd.IntN(100) {
		runtime.Gosched()
	}
}

// Resident yields what is in memory, of that which is alive, and matches; and does no I/O.
func TestResident(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		line := storetest.NewFaults(memory.New())
		defer line.Close()
		db, err := Open[string](ctx, line, Options{Node: "a", Codec: text{}, Lease: time.Hour})
		ok(t, err)
		defer db.Close(ctx)
		for i := range 10 {
			ok(t, db.Put(ctx, fmt.Sprint("s", i), fmt.Sprint(i)))
		}
		s, err := db.Adopt(ctx, "s1")
		ok(t, err, s.ExpireAfter(ctx, time.Second), s.PutFor(ctx, "", "1", time.Hour))
		s, err = db.Adopt(ctx, "s2")
		ok(t, err, s.PutFor(ctx, "", "2", time.Second))
		_, err = db.Create(ctx, "empty")
		ok(t, err, db.Delete(ctx, "s3"), db.Flush(ctx), db.Release(ctx, "s4"))
		time.Sleep(time.Second)
		line.Down(true)
		got := map[string]string{}
		for id, v := range db.Resident(nil) {
			got[id] = v
		}
		want := map[string]string{"s0": "0", "s5": "5", "s6": "6", "s7": "7", "s8": "8", "s9": "9"}
		if !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		n := 0
		for id := range db.Resident(func(id, v string) bool { return v > "5" }) {
			if n++; id <= "s5" || n > 2 {
				t.Errorf("%s is the %d. that is yielded", id, n)
			}
			if n == 2 {
				break
			}
		}
		line.Down(false)
	})
}

// In strict mode what a query finds in memory is what may be served: it is verified first, or the query fails.
func TestQueriesInStrictMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		line := storetest.NewFaults(memory.New())
		defer line.Close()
		db, err := Open(ctx, line, Options{Node: "a", Codec: text{}, Lease: time.Second, Strict: true}, Index[string]{Name: "i", Terms: listed})
		ok(t, err)
		defer db.Close(ctx)
		ok(t, db.Put(ctx, "s", "a"))
		if a, err := db.Merged(ctx, Query[string]{Index: "i"}); err != nil || len(a.Rows) != 1 || !a.Rows[0].Resident {
			t.Errorf("before it is stored: %+v (error %v)", a.Rows, err)
		}
		ok(t, db.Flush(ctx))
		line.Down(true)
		time.Sleep(2 * time.Second)
		if _, err := db.Merged(ctx, Query[string]{Index: "i"}); !errors.Is(err, ErrSuspended) {
			t.Errorf("Merged gives %v", err)
		}
		for id := range db.Resident(nil) {
			t.Errorf("%s is yielded", id)
		}
		line.Down(false)
		other := openTexts(t, line, "b", Index[string]{Name: "i", Terms: listed})
		ok(t, other.Put(ctx, "s", "b"), other.Flush(ctx))
		time.Sleep(2 * time.Second)
		a, err := db.Merged(ctx, Query[string]{Index: "i"})
		if err != nil || len(a.Rows) != 1 || a.Rows[0].Term != "b" || a.Rows[0].Resident || a.Rows[0].Owner != "b" {
			t.Errorf("%+v (error %v)", a.Rows, err)
		}
		ok(t, other.Close(ctx))
	})
}

// between is a store that does something just before a page is read, or after.
type between struct {
	*memory.Store
	before, after func()
}

func (b *between) Find(ctx context.Context, r store.AliasRange) (store.Found, error) {
	b.before()
	defer b.after()
	return b.Store.Find(ctx, r)
}

// Whatever a session does between the two pages, or after them, it is found once: it is stored and leaves, comes in, comes in and changes, is stolen.
func TestMergeOrder(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		start func(here, other *DB[string]) error
		does  func(here, other *DB[string]) error
	}{
		"leaves": {
			func(here, other *DB[string]) error { return here.Put(ctx, "s", "a,1") },
			func(here, other *DB[string]) error { return here.Release(ctx, "s") },
		},
		"leaves for another": {
			func(here, other *DB[string]) error { return here.Put(ctx, "s", "a,1") },
			func(here, other *DB[string]) error {
				return errors.Join(here.Release(ctx, "s"), other.Put(ctx, "s", "a,2"))
			},
		},
		"comes": {
			func(here, other *DB[string]) error {
				return errors.Join(other.Put(ctx, "s", "a,1"), other.Release(ctx, "s"))
			},
			func(here, other *DB[string]) error { _, err := here.Adopt(ctx, "s"); return err },
		},
		"comes, and changes": {
			func(here, other *DB[string]) error {
				return errors.Join(other.Put(ctx, "s", "a,1"), other.Release(ctx, "s"))
			},
			func(here, other *DB[string]) error { return here.Put(ctx, "s", "a,2") },
		},
		"is stolen": {
			func(here, other *DB[string]) error {
				return errors.Join(here.Put(ctx, "s", "a,1"), here.Flush(ctx))
			},
			func(here, other *DB[string]) error {
				_, err := other.Steal(ctx, "s")
				return errors.Join(err, other.Put(ctx, "s", "a,2"), other.Flush(ctx))
			},
		},
	} {
		for _, after := range []bool{false, true} {
			var once sync.Once
			hook := func() {}
			does := func() { once.Do(hook) }
			b := &between{Store: memory.New(), before: does, after: func() {}}
			if after {
				b.before, b.after = b.after, b.before
			}
			index := Index[string]{Name: "i", Terms: listed}
			here, other := openTexts(t, b, "here", index), openTexts(t, b, "other", index)
			ok(t, c.start(here, other))
			once = sync.Once{} // Open has asked, too
			hook = func() { ok(t, c.does(here, other)) }
			if got := found(t, here, Query[string]{Index: "i", Term: "a"}); got != "s" {
				t.Errorf("a session %s (after the page of the store: %t): found are %q", name, after, got)
			}
		}
	}
}

// A mark alone makes no row: memory decides whether a session that is here has it, and the value, wherever it is, whether it has the term.
func TestMarksDecide(t *testing.T) {
	ctx := context.Background()
	mem := memory.New()
	index := Index[string]{Name: "i", Terms: listed}
	db := openTexts(t, mem, "a", index)
	ok(t, db.Put(ctx, "here", "a,b"), db.Put(ctx, "gone", "a,b"), db.Put(ctx, "dead", "a"), db.Flush(ctx), db.Release(ctx, "gone"))
	ok(t, db.Put(ctx, "here", "b"), db.Delete(ctx, "dead")) // the store has the mark of a still
	snap, err := mem.Load(ctx, "gone", "")
	ok(t, err)
	h := snap.Header
	if rs, err := mem.Apply(ctx, []store.Change{{ // as by a program that got it wrong
		Session: "gone", Owner: h.Owner, Epoch: h.Epoch, Seq: h.Seq + 1, Release: true, Aliases: h.Aliases, Puts: []store.Entry{{Value: []byte("b")}},
	}}); err != nil || rs[0].Outcome != store.Applied {
		t.Fatal(rs, err)
	}
	a, err := db.Merged(ctx, Query[string]{Index: "i", Term: "a"})
	if err != nil || len(a.Rows) > 0 || a.Covered.Resident != 2 || a.Covered.Stored != 1 {
		t.Errorf("found are %+v of %+v (error %v)", a.Rows, a.Covered, err)
	}
	if got := found(t, db, Query[string]{Index: "i", Term: "b"}); got != "gone here" {
		t.Errorf("found are %q", got)
	}
	// A row of memory is decided on by its marks, before an entry is loaded: so without the mark it is none, whatever its value.
	s := db.sessions.load("here")
	s.mu.Lock()
	db.setMarks(s, db.terms.without(s.marks(), ""))
	s.mu.Unlock()
	if a, err := db.Merged(ctx, Query[string]{Index: "i", Term: "b"}); err != nil || len(a.Rows) != 1 || a.Rows[0].Session != "gone" {
		t.Errorf("found are %+v (error %v)", a.Rows, err)
	}
}
