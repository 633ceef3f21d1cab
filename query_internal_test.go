package kvstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// listed is a value "a,b,c", which has each part as a term.
func listed(v string) []string { return strings.Split(v, ",") }

// firstOf is the first part, which may be empty.
func firstOf(v string) []string { return listed(v)[:1] }

// text is a codec of strings that is not the default one. What begins with "!" it does not encode.
type text struct{}

func (text) Append(dst []byte, v any) ([]byte, error) {
	if s := *v.(*string); !strings.HasPrefix(s, "!") {
		return append(dst, s...), nil
	}
	return dst, errors.New("it cannot be encoded")
}

func (text) Decode(src []byte, v any) error {
	*v.(*string) = string(src)
	return nil
}

// scan answers a query as nobody should: it looks at each of the sessions, and at no mark.
func scan(t *testing.T, db *DB[string], st store.Store, ids []string, key string, terms func(string) []string, overlay bool) (rows []Row[string]) {
	t.Helper()
	now := time.Now()
	for _, id := range ids {
		var v string
		found, here := false, false
		if s := db.sessions.load(id); s != nil && overlay {
			s.mu.Lock()
			if s.state == live && !s.vacant() {
				here = true
				c := s.version(key, db.absent)
				if c == nil && s.usable(anyLife) == nil {
					t.Errorf("the entry %q of %s is not in memory: this test expects it there", key, id)
				}
				if found = s.usable(anyLife) == nil && c != nil && c != db.absent && !c.expires.Past(now); found {
					v = c.val
				}
			}
			s.mu.Unlock()
		}
		if !here {
			snap, err := st.Load(context.Background(), id, key)
			if err != nil {
				t.Fatal(err)
			}
			if !snap.Header.Gone(now) && len(snap.Entries) == 1 && !snap.Entries[0].Expires.Past(now) {
				found, v = true, string(snap.Entries[0].Value)
			}
		}
		if !found {
			continue
		}
		all := []string{""}
		if terms != nil {
			all = terms(v)
			slices.Sort(all)
			all = slices.DeleteFunc(slices.Compact(all), func(term string) bool { return term == "" })
		}
		for _, term := range all {
			rows = append(rows, Row[string]{Session: id, Term: term, Value: v, Resident: here})
		}
	}
	slices.SortFunc(rows, func(a, b Row[string]) int {
		return cmp.Or(cmp.Compare(a.Term, b.Term), cmp.Compare(a.Session, b.Session))
	})
	return rows
}

// pages asks for all pages.
func pages[V any](t *testing.T, ask func(context.Context, Query[V]) (Answer[V], error), q Query[V]) (rows []Row[V]) {
	t.Helper()
	for n := 0; ; n++ {
		a, err := ask(context.Background(), q)
		if err != nil || n > 10_000 {
			t.Fatalf("page %d of %+v: %v", n, q, err)
		}
		if limit := cmp.Or(q.Limit, defaultLimit); len(a.Rows) > limit || a.Covered.Resident+a.Covered.Stored > limit {
			t.Fatalf("a page of %d has %d rows of %+v", limit, len(a.Rows), a.Covered)
		}
		rows = append(rows, a.Rows...)
		if a.Next == "" {
			return rows
		}
		q.After = a.Next
	}
}

func sameRows(t *testing.T, what string, got, want []Row[string]) {
	t.Helper()
	show := func(rows []Row[string]) string {
		var b strings.Builder
		for _, r := range rows {
			fmt.Fprintf(&b, " %q/%s=%s/%t", r.Term, r.Session, r.Value, r.Resident)
		}
		return b.String()
	}
	if g, w := show(got), show(want); g != w {
		t.Fatalf("%s:\ngot  %s\nwant %s", what, g, w)
	}
}

// Sessions are put, changed, expired, stolen, adopted, released, evicted and lost on several nodes, of which some is unsaved at any time; the store fails now and then. After
// each step queries on each node, by pages of any size, say what a look at each session says; and what is in the catalogue is what is in memory.
func TestQueriesAgainstAScan(t *testing.T) {
	for seed := range uint64(rounds(5)) {
		for _, faulty := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) { queriesAgainstAScan(t, seed, faulty) })
		}
	}
}

func rounds(n int) int {
	if testing.Short() {
		return max(n/10, 1)
	}
	return n
}

func queriesAgainstAScan(t *testing.T, seed uint64, faulty bool) {
	ctx := context.Background()
	rnd := rand.New(rand.NewPCG(7, seed))
	mem := memory.New()
	line := storetest.NewFaults(mem)
	defer line.Close()
	indexes := []Index[string]{{Name: "first", Terms: firstOf}, {Name: "all", Version: 3, Terms: listed}, {Name: "k", Key: "k", Terms: firstOf}}
	rejected := make([]atomic.Bool, 3)
	open := func(i int) *DB[string] {
		o := Options{Node: fmt.Sprint("n", i), Codec: text{}, MaxDelay: time.Hour, Lease: time.Hour}
		o.Hooks.Lost = func(l Lost) { rejected[i].Store(rejected[i].Load() || errors.Is(l.Cause, ErrRejected)) }
		o.DetectMutation = i == 1
		if i == 2 {
			o.MaxResident = 3
		}
		db, err := Open(ctx, line, o, indexes...)
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	dbs := make([]*DB[string], 3)
	for i := range dbs {
		dbs[i] = open(i)
	}
	defer func() {
		for _, db := range dbs {
			db.Close(ctx)
		}
	}()
	var ids []string
	for i := range 8 {
		ids = append(ids, fmt.Sprint("s", i))
	}
	value := func() string {
		parts := make([]string, 1+rnd.IntN(3))
		for i := range parts {
			parts[i] = []string{"", "a", "b", "c", "a\x00", "\xff"}[rnd.IntN(6)]
		}
		return strings.Join(parts, ",")
	}
	for step := range 120 {
		i := rnd.IntN(len(dbs))
		db, id := dbs[i], ids[rnd.IntN(len(ids))]
		if faulty && rnd.IntN(4) == 0 {
			kind := []storetest.Failure{storetest.Before, storetest.After, storetest.Late}[rnd.IntN(3)]
			line.Inject(func(c storetest.Call) storetest.Fault {
				if c.Kind == storetest.Apply || c.Kind == storetest.Load {
					return storetest.Fault{Fail: kind}
				}
				return storetest.Fault{}
			})
		}
		s, _ := db.Adopt(ctx, id)
		op := rnd.IntN(17)
		what := fmt.Sprintf("seed %d, step %d: op %d on n%d, %s", seed, step, op, i, id)
		in := func(f func() error) {
			if s != nil {
				_ = f() // the oracle is what is there, whatever that says
			}
		}
		switch op {
		case 0, 1, 2, 3:
			_ = db.Put(ctx, id, value())
		case 4:
			_ = db.Delete(ctx, id)
		case 5:
			in(func() error { return s.Delete(ctx, "") })
		case 6:
			in(func() error { return s.PutFor(ctx, "", value(), time.Duration(1+rnd.IntN(3))*time.Second) })
		case 7:
			in(func() error { return s.ExpireAfter(ctx, time.Duration(1+rnd.IntN(3))*time.Second) })
		case 8:
			in(func() error {
				return s.Update(ctx, func(tx *Tx[string]) error {
					return errors.Join(tx.Put("", value()), tx.Put("k", value()), tx.After("t", time.Hour, value()), tx.AddAlias("alias of "+id))
				})
			})
		case 9:
			in(func() error {
				_, ver, err := s.GetVersion(ctx, "")
				if err == nil {
					_, err = s.CompareAndSwap(ctx, "", ver, value(), InMemory)
				}
				return err
			})
		case 10:
			_, _ = db.Steal(ctx, id)
		case 11:
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			_ = db.Release(ctx, id)
			cancel()
		case 12:
			if !faulty { // else it may be told when the session is handed over: then it is in no index for a while
				in(func() error { return s.Put(ctx, []string{"", "k"}[rnd.IntN(2)], "!"+value()) })
				_ = db.Flush(ctx)
			}
		case 13:
			time.Sleep(time.Second)
		case 14:
			if rnd.IntN(4) == 0 { // it dies, and comes back as another
				ctx, cancel := context.WithCancel(ctx)
				cancel()
				db.Close(ctx)
				dbs[i] = open(i)
			}
		case 15:
			_, _ = db.Create(ctx, id)
		case 16:
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			_, _ = db.Reindex(ctx, Reindexing{All: true, Drop: true})
			cancel()
		}
		if rnd.IntN(3) == 0 {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			_ = dbs[i].Flush(ctx)
			cancel()
		}
		line.Inject(nil)
		if faulty && rnd.IntN(2) == 0 {
			line.ReplayLate(ctx)
		}
		synctest.Wait()
		for n, db := range dbs {
			if rejected[n].Swap(false) { // its session has the marks of what it has, as soon as that is loaded and stored
				_ = db.Flush(ctx)
				synctest.Wait()
			}
		}
		for n, db := range dbs {
			inCatalogue(t, what, db)
			q := Query[string]{Index: []string{"first", "all", ""}[rnd.IntN(3)], Limit: 1 + rnd.IntN(5)}
			terms := map[string]func(string) []string{"first": firstOf, "all": listed}[q.Index]
			for _, overlay := range []bool{true, false} {
				ask := db.Stored
				if overlay {
					ask = db.Merged
				}
				sameRows(t, fmt.Sprintf("%s: n%d by %q, overlay %t", what, n, q.Index, overlay), pages(t, ask, q), scan(t, db, mem, ids, "", terms, overlay))
			}
		}
	}
}

// inCatalogue sees that the catalogue has the terms' marks of the live sessions, and nothing else; and that marks say what values have.
func inCatalogue(t *testing.T, what string, db *DB[string]) {
	t.Helper()
	want := map[string]*session[string]{}
	for s := range db.sessions.all() {
		s.mu.Lock()
		if s.state == live {
			for _, m := range s.marks() {
				if db.terms.finds(m) {
					want[m] = s
				}
			}
			if !slices.IsSorted(s.marks()) {
				t.Errorf("%s: the marks of %s are not in order: %q", what, s.id(), s.marks())
			}
			if s.usable(anyLife) == nil {
				if _, others := db.fitting(s); others {
					t.Errorf("%s: session %s has the marks %q, which its entries do not", what, s.id(), s.marks())
				}
			}
		}
		s.mu.Unlock()
	}
	db.terms.mu.Lock()
	defer db.terms.mu.Unlock()
	for m, s := range db.terms.here.From("") {
		if want[m] != s {
			t.Errorf("%s: the catalogue has %q, of %s", what, m, s.id())
		}
	}
	if got := db.terms.here.Len(); got != len(want) {
		t.Errorf("%s: the catalogue has %d marks, want %d", what, got, len(want))
	}
}
