package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// counting is a store that counts what is read of it.
type counting struct {
	*memory.Store
	values, keys, calls int
}

func (c *counting) Load(ctx context.Context, id string, keys ...string) (store.Snapshot, error) {
	s, err := c.Store.Load(ctx, id, keys...)
	c.values += len(s.Entries)
	c.calls++
	return s, err
}

func (c *counting) LoadRange(ctx context.Context, id string, r store.Range) (store.Page, error) {
	p, err := c.Store.LoadRange(ctx, id, r)
	c.calls++
	if r.KeysOnly {
		c.keys += len(p.Entries)
	} else {
		c.values += len(p.Entries)
	}
	return p, err
}

// stored returns a store in which a session "s", of nobody alive, has the keys, each with its number as its value.
func stored(t *testing.T, st store.Store, keys ...string) {
	t.Helper()
	db := openInts(t, st, brisk("former"))
	s, err := db.AdoptOrCreate(t.Context(), "s")
	check(t, err)
	for i, k := range keys {
		check(t, s.Put(t.Context(), k, i))
	}
	check(t, db.Close(t.Context()))
}

func children(t *testing.T, s *kvstore.Session[int], path string) (got []string) {
	t.Helper()
	cs, err := s.Children(t.Context(), path)
	check(t, err)
	for _, c := range cs {
		mark := ""
		if c.Entry {
			mark += "!"
		}
		if c.Below {
			mark += "/"
		}
		got = append(got, c.Path+mark)
	}
	return got
}

func walk(t *testing.T, s *kvstore.Session[int], path string) (got []string) {
	t.Helper()
	all, err := s.Walk(t.Context(), path)
	check(t, err)
	for k, v := range all {
		got = append(got, fmt.Sprint(k, "=", v))
	}
	return got
}

// TestChildren has the cases in which bytes decide: keys that begin with others, separators at the ends and in a row.
func TestChildren(t *testing.T) {
	keys := []string{"", "a", "a-b", "a/", "a//x", "a/b", "a/b/c", "a0", "/x", "//x/y", "/", "b/c/d", "\x01", "\xff/\xff"}
	st := memory.New()
	stored(t, st, keys...)
	for name, open := range map[string]store.Store{"ranges": st, "no ranges": bare{st}} {
		t.Run(name, func(t *testing.T) {
			db := openInts(t, open, brisk("b"))
			s, err := db.Adopt(t.Context(), "s")
			check(t, err)
			for path, want := range map[string][]string{
				"":    {"\x01!", "/!/", "/x!", "a!/", "a-b!", "a0!", "b/", "\xff/"},
				"a":   {"a/!/", "a/b!/"},
				"a/":  {"a//x!"},
				"a/b": {"a/b/c!"},
				"/":   {"//x/"},
				"//x": {"//x/y!"},
				"b":   {"b/c/"}, "b/c": {"b/c/d!"}, "\xff": {"\xff/\xff!"},
				"a-b": nil, "a/b/c": nil, "none": nil, "a0": nil,
			} {
				if got := children(t, s, path); !slices.Equal(got, want) {
					t.Errorf("Children(%q) = %q, want %q", path, got, want)
				}
			}
			if got, want := walk(t, s, "a"), []string{"a/=3", "a//x=4", "a/b=5", "a/b/c=6"}; !slices.Equal(got, want) {
				t.Errorf("Walk(a) = %q, want %q", got, want)
			}
			if got := walk(t, s, ""); len(got) != len(keys)-1 {
				t.Errorf("Walk of the root: %q", got)
			}
			check(t, db.Close(t.Context()))
		})
	}
}

// TestTreesLoadLittle: listing and deleting load keys, not values; what is known is not asked for again; a walk loads its own part only.
func TestTreesLoadLittle(t *testing.T) {
	st := &counting{Store: memory.New()}
	var keys []string
	for i := range 3000 {
		keys = append(keys, fmt.Sprintf("leg/%d/dialog", i), fmt.Sprintf("media/%d", i))
	}
	stored(t, st, keys...)
	db := openInts(t, st, brisk("b"))
	s, err := db.Adopt(t.Context(), "s")
	check(t, err)
	st.values, st.keys = 0, 0
	for range 2 {
		if got := children(t, s, "leg"); len(got) != 3000 {
			t.Fatalf("%d children", len(got))
		}
	}
	if got := children(t, s, "leg/17"); !slices.Equal(got, []string{"leg/17/dialog!"}) {
		t.Errorf("children of leg/17: %q", got)
	}
	if _, err := s.Get(t.Context(), "leg/none/dialog"); !errors.Is(err, kvstore.ErrNotFound) {
		t.Errorf("a key that is not there: %v", err)
	}
	if st.keys != 3000 || st.values != 0 {
		t.Errorf("read %d keys and %d values, want 3000 and 0", st.keys, st.values)
	}
	if n, err := s.DeleteTree(t.Context(), "leg"); n != 3000 || err != nil {
		t.Errorf("DeleteTree: %d, %v", n, err)
	}
	check(t, s.Sync(t.Context()))
	if st.keys != 3000 || st.values != 0 {
		t.Errorf("after DeleteTree %d keys and %d values were read, want 3000 and 0", st.keys, st.values)
	}
	if got := walk(t, s, "media"); len(got) != 3000 || st.values != 3000 {
		t.Errorf("Walk gives %d entries, %d values were read", len(got), st.values)
	}
	snap, err := st.Store.Load(t.Context(), "s")
	if check(t, err); len(snap.Entries) != 3000 {
		t.Errorf("%d entries are stored, want 3000", len(snap.Entries))
	}
}

func TestRename(t *testing.T) {
	st := memory.New()
	stored(t, st, "", "leg/1", "leg/1/dialog", "leg/1/media/audio", "leg/10", "leg/2/dialog")
	db := openInts(t, st, kvstore.Options{Node: "b", MaxDelay: time.Millisecond, DetectMutation: true})
	s, err := db.Adopt(t.Context(), "s")
	check(t, err)
	later := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	check(t, s.PutUntil(t.Context(), "leg/1/timer", 99, later))
	for name, c := range map[string]struct {
		from, to string
		want     error
	}{
		"onto what is there":        {"leg/1", "leg/10", kvstore.ErrExists},
		"onto what is below it":     {"leg/1", "leg/2", kvstore.ErrExists},
		"of what is not there":      {"leg/3", "leg/4", kvstore.ErrNotFound},
		"of the root":               {"", "x", kvstore.ErrInvalid},
		"to the root":               {"leg", "", kvstore.ErrInvalid},
		"to itself":                 {"leg/1", "leg/1", kvstore.ErrInvalid},
		"into itself":               {"leg", "leg/1/x", kvstore.ErrInvalid},
		"around itself":             {"leg/1/media", "leg/1", kvstore.ErrInvalid},
		"to a key that is too long": {"leg/1", strings.Repeat("k", store.MaxKey-8), kvstore.ErrTooLarge},
		"to one of the library's":   {"leg/1", "\x00q", kvstore.ErrInvalid},
	} {
		if n, err := s.Rename(t.Context(), c.from, c.to); n != 0 || !errors.Is(err, c.want) {
			t.Errorf("Rename %s: %d, %v; want %v", name, n, err, c.want)
		}
	}
	if n, err := s.Rename(t.Context(), "leg/1", "held/1"); n != 4 || err != nil {
		t.Fatalf("Rename: %d, %v", n, err)
	}
	check(t, db.Close(t.Context()))
	db = openInts(t, st, brisk("c"))
	s, err = db.Adopt(t.Context(), "s")
	check(t, err)
	if got, want := walk(t, s, ""), []string{"held/1=1", "held/1/dialog=2", "held/1/media/audio=3", "held/1/timer=99", "leg/10=4", "leg/2/dialog=5"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	snap, err := st.Load(t.Context(), "s", "held/1/timer")
	if check(t, err); len(snap.Entries) != 1 || snap.Entries[0].Expires != store.TimeOf(later) {
		t.Errorf("the expiry did not move with its entry: %+v", snap.Entries)
	}
	if db.Stats().Mutated != 0 {
		t.Error("a moved value is taken for a changed one")
	}
}

// TestTreesExpire: what has expired is in no list, also if its value was never loaded.
func TestTreesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		db := openInts(t, st, brisk("a"))
		s, err := db.AdoptOrCreate(t.Context(), "s")
		check(t, err)
		check(t, s.Put(t.Context(), "t/stays", 1))
		check(t, s.PutUntil(t.Context(), "t/goes", 2, time.Now().Add(time.Minute)))
		check(t, db.Close(t.Context()))
		db = openInts(t, st, brisk("b"))
		s, err = db.Adopt(t.Context(), "s")
		check(t, err)
		if got := children(t, s, "t"); !slices.Equal(got, []string{"t/goes!", "t/stays!"}) {
			t.Errorf("before: %q", got)
		}
		time.Sleep(time.Minute)
		if got := children(t, s, "t"); !slices.Equal(got, []string{"t/stays!"}) {
			t.Errorf("after: %q", got)
		}
		if n, err := s.DeleteTree(t.Context(), "t"); n != 1 || err != nil {
			t.Errorf("DeleteTree: %d, %v", n, err)
		}
		check(t, db.Close(t.Context()))
	})
}

// TestTreesConflict: a transaction that has listed keys runs again if one of them went, or another came; not for a value.
func TestTreesConflict(t *testing.T) {
	for name, c := range map[string]struct {
		between func(s *kvstore.Session[int]) error
		runs    int
	}{
		"a key came":        {func(s *kvstore.Session[int]) error { return s.Put(context.Background(), "t/new", 1) }, 2},
		"a key went":        {func(s *kvstore.Session[int]) error { return s.Delete(context.Background(), "t/a") }, 2},
		"all keys went":     {func(s *kvstore.Session[int]) error { _, err := s.DeleteTree(context.Background(), "t"); return err }, 2},
		"a value changed":   {func(s *kvstore.Session[int]) error { return s.Put(context.Background(), "t/a", 7) }, 1},
		"the main one came": {func(s *kvstore.Session[int]) error { return s.Put(context.Background(), "", 7) }, 1},
		"nothing was there": {func(s *kvstore.Session[int]) error { return s.Delete(context.Background(), "t/none") }, 1},
		"it went, and came": {func(s *kvstore.Session[int]) error {
			return errors.Join(s.Delete(context.Background(), "t/a"), s.Sync(context.Background()), s.Put(context.Background(), "t/a", 0))
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			st := memory.New()
			stored(t, st, "t/a")
			db := openInts(t, st, brisk("b"))
			s, err := db.Adopt(t.Context(), "s")
			check(t, err)
			runs := 0
			check(t, s.Update(t.Context(), func(tx *kvstore.Tx[int]) error {
				runs++
				if _, err := tx.Children("t"); err != nil {
					return err
				}
				if runs == 1 {
					check(t, c.between(s))
				}
				return tx.Put("seen", runs)
			}))
			if runs != c.runs {
				t.Errorf("it ran %d times, want %d", runs, c.runs)
			}
		})
	}
}

// TestTreesInTx: a transaction sees its own writes in what it lists.
func TestTreesInTx(t *testing.T) {
	st := memory.New()
	stored(t, st, "t/a", "t/b")
	db := openInts(t, st, brisk("b"))
	s, err := db.Adopt(t.Context(), "s")
	check(t, err)
	check(t, s.Update(t.Context(), func(tx *kvstore.Tx[int]) error {
		check(t, tx.Delete("t/a"))
		check(t, tx.Put("t/c/d", 5))
		all, err := tx.Walk("t")
		check(t, err)
		if got := maps.Collect(all); !maps.Equal(got, map[string]int{"t/b": 1, "t/c/d": 5}) {
			t.Errorf("Walk: %v", got)
		}
		if n, err := tx.Rename("t/c", "t/a"); n != 1 || err != nil {
			t.Errorf("Rename: %d, %v", n, err)
		}
		cs, err := tx.Children("t")
		check(t, err)
		if want := []kvstore.Child{{Path: "t/a", Below: true}, {Path: "t/b", Entry: true}}; !slices.Equal(cs, want) {
			t.Errorf("Children: %+v, want %+v", cs, want)
		}
		return nil
	}))
	if got := walk(t, s, ""); !slices.Equal(got, []string{"t/a/d=5", "t/b=1"}) {
		t.Errorf("afterwards: %q", got)
	}
}

// TestTreesModel compares random operations on trees, on a session that is evicted, flushed and adopted in between, with a map, while the store's reads
// fail now and then.
func TestTreesModel(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { treeModel(t, rand.New(rand.NewPCG(seed, 5))) })
		})
	}
}

func treeModel(t *testing.T, rnd *rand.Rand) {
	ctx := context.Background()
	mem := memory.New()
	var inner store.Store = mem
	if rnd.IntN(3) == 0 {
		inner = bare{mem}
	}
	st := storetest.NewFaults(inner)
	delays := rand.New(rand.NewPCG(rnd.Uint64(), 6)) // the rule runs on other goroutines
	st.Inject(func(storetest.Call) storetest.Fault {
		return storetest.Fault{Delay: time.Duration(delays.IntN(3000)) * time.Microsecond}
	})
	opt := kvstore.Options{MaxDelay: 5 * time.Millisecond, MaxResident: rnd.IntN(2)}
	open := func() (*kvstore.DB[int], *kvstore.Session[int]) {
		db := openInts(t, st, opt)
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		return db, s
	}
	db, s := open()
	want := map[string]int{}
	elems := []string{"a", "b", "a0", "a-", "", "c"}
	path := func() string {
		var es []string
		for range 1 + rnd.IntN(3) {
			es = append(es, elems[rnd.IntN(len(elems))])
		}
		return strings.Join(es, "/")
	}
	under := func(p string) (keys []string) {
		for k := range want {
			if k != "" && (p == "" || strings.HasPrefix(k, p+"/")) {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		return keys
	}
	for step := range 400 {
		p, q := path(), path()
		switch rnd.IntN(10) {
		case 0, 1, 2:
			check(t, s.Put(ctx, p, step))
			want[p] = step
		case 3:
			check(t, s.Delete(ctx, p))
			delete(want, p)
		case 4:
			n, err := s.DeleteTree(ctx, p)
			check(t, err)
			keys := under(p)
			if _, ok := want[p]; ok && p != "" {
				keys = append(keys, p)
			}
			if _, ok := want[""]; ok && p == "" {
				keys = append(keys, "")
			}
			if n != len(keys) {
				t.Fatalf("step %d: DeleteTree(%q) = %d, want %d: %q", step, p, n, len(keys), keys)
			}
			for _, k := range keys {
				delete(want, k)
			}
		case 5:
			keys := under(p)
			if _, ok := want[p]; ok {
				keys = append(keys, p)
			}
			_, taken := want[q]
			taken = taken || len(under(q)) > 0
			in := p == q || strings.HasPrefix(p, q+"/") || strings.HasPrefix(q, p+"/") || p == "" || q == ""
			var wantErr error
			switch {
			case in:
				wantErr = kvstore.ErrInvalid
			case taken:
				wantErr = kvstore.ErrExists
			case len(keys) == 0:
				wantErr = kvstore.ErrNotFound
			}
			n, err := s.Rename(ctx, p, q)
			if !errors.Is(err, wantErr) || wantErr == nil && n != len(keys) {
				t.Fatalf("step %d: Rename(%q, %q) = %d, %v; want %d, %v", step, p, q, n, err, len(keys), wantErr)
			}
			if wantErr == nil {
				for _, k := range keys {
					want[q+k[len(p):]] = want[k]
					delete(want, k)
				}
			}
		case 6:
			if rnd.IntN(2) == 0 {
				p = ""
			}
			var got []string
			all, err := s.Walk(ctx, p)
			check(t, err)
			for k, v := range all {
				if got = append(got, k); want[k] != v {
					t.Fatalf("step %d: Walk(%q) yields %q = %d, want %d", step, p, k, v, want[k])
				}
			}
			if !slices.Equal(got, under(p)) {
				t.Fatalf("step %d: Walk(%q) yields %q, want %q", step, p, got, under(p))
			}
		case 7:
			v, err := s.Get(ctx, p)
			if w, ok := want[p]; ok != (err == nil) || v != w {
				t.Fatalf("step %d: Get(%q) = %d, %v; want %d, %t", step, p, v, err, w, ok)
			}
		case 8:
			if rnd.IntN(2) == 0 {
				check(t, s.Sync(ctx))
			}
			if opt.MaxResident > 0 { // another one drives it out of memory
				check(t, db.Put(ctx, fmt.Sprint("other", rnd.IntN(3)), step))
			}
		case 9:
			all, err := s.All(ctx)
			check(t, err)
			if got := maps.Collect(all); !maps.Equal(got, want) {
				t.Fatalf("step %d: All = %v, want %v", step, got, want)
			}
			if rnd.IntN(3) == 0 {
				check(t, db.Close(ctx))
				db, s = open()
			}
		}
	}
	check(t, db.Close(ctx))
}

func TestJoinKey(t *testing.T) {
	for want, elems := range map[string][]string{
		"": {}, "a": {"a"}, "a/b%2Fc": {"a", "b/c"}, "%": {""}, "%/%": {"", ""}, "%25": {"%"}, "%252F": {"%2F"},
		"%00a/\x00": {"\x00a", "\x00"}, "a\x00": {"a\x00"}, "%2F": {"/"},
	} {
		if got := kvstore.JoinKey(elems...); got != want {
			t.Errorf("JoinKey(%q) = %q, want %q", elems, got, want)
		}
	}
	for _, key := range []string{"/", "a/", "a//b", "%2", "%2f", "%zz", "a/%00", "\x00", "a%00", "%%", "a/b%"} {
		if elems, err := kvstore.SplitKey(key); !errors.Is(err, kvstore.ErrInvalid) {
			t.Errorf("SplitKey(%q) = %q, %v", key, elems, err)
		}
	}
}

// FuzzKey: JoinKey and SplitKey are each other's inverse, and a key is below another exactly if its list continues the other's.
func FuzzKey(f *testing.F) {
	f.Add("a\nb/c\n", "a")
	f.Add("\x00\n%\n", "\x00")
	f.Fuzz(func(t *testing.T, list, raw string) {
		var elems []string
		if list != "" {
			elems = strings.Split(list, "\n")
		}
		key := kvstore.JoinKey(elems...)
		if back, err := kvstore.SplitKey(key); err != nil || !slices.Equal(back, elems) {
			t.Fatalf("%q gives %q, which gives %q, %v", elems, key, back, err)
		}
		for n := range elems {
			if above := kvstore.JoinKey(elems[:n]...); n > 0 && !strings.HasPrefix(key, above+"/") {
				t.Fatalf("%q is not below %q", key, above)
			}
		}
		if elems, err := kvstore.SplitKey(raw); err == nil && kvstore.JoinKey(elems...) != raw {
			t.Fatalf("%q is read as %q, which is %q", raw, elems, kvstore.JoinKey(elems...))
		}
	})
}

// gated is a store that holds the answer to a LoadRange back.
type gated struct {
	*memory.Store
	read, pass chan struct{}
}

func (g *gated) LoadRange(ctx context.Context, id string, r store.Range) (store.Page, error) {
	p, err := g.Store.LoadRange(ctx, id, r)
	g.read <- struct{}{}
	<-g.pass
	return p, err
}

// TestListedWhileDeleted: a page that was read before a key was deleted, and forgotten, does not bring it back.
func TestListedWhileDeleted(t *testing.T) {
	st := &gated{memory.New(), make(chan struct{}), make(chan struct{})}
	keys := []string{"t/a", "t/b"}
	for i := range 300 {
		keys = append(keys, fmt.Sprint("u/", i))
	}
	stored(t, st.Store, keys...)
	db := openInts(t, st, brisk("b"))
	s, err := db.Adopt(t.Context(), "s", keys...)
	check(t, err)
	listed := make(chan []string)
	go func() { listed <- children(t, s, "t") }()
	<-st.read
	check(t, s.Delete(t.Context(), "t/a"))
	check(t, s.Sync(t.Context()))
	st.pass <- struct{}{}
	select {
	case <-st.read: // it asks again
		st.pass <- struct{}{}
	case got := <-listed:
		t.Fatalf("Children(t) = %q", got)
	}
	if got := <-listed; !slices.Equal(got, []string{"t/b!"}) {
		t.Errorf("Children(t) = %q", got)
	}
}
