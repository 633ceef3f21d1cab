package redis

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	client "github.com/redis/go-redis/v9"

	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// Two nodes race for an alias; without the script's look at who has it, the race finds two sessions that have it, and so it does if a late change takes it.
func TestRaceAliasesFindsFaults(t *testing.T) {
	srv := redisserver.Start(t)
	storetest.RaceAliases(t, open(t, patient(srv.URL()), fresh()), 10)
	sound := applyLua
	t.Cleanup(func() { applyLua = sound })
	for name, broken := range map[string]*strings.Replacer{
		"looks at nobody's": strings.NewReplacer("if ok and taken then", "if false then"),
		"takes those of zombies": strings.NewReplacer("verdict = judge(h, header, false, '')\n", "verdict = judge(h, header, false, '')\n"+
			"if verdict == 3 then for _, x in ipairs(names(named(header))) do call('HSET', aliases, x, sub(key, before)) end end\n"),
	} {
		t.Run(name, func(t *testing.T) {
			applyLua = broken.Replace(sound)
			if applyLua == sound {
				t.Fatal("the script is not broken")
			}
			st := open(t, srv.URL(), fresh())
			for round := range 200 { // whether one round does is a matter of luck
				if why, ok := storetest.Finds(func(r storetest.T) { storetest.RaceAliases(r, st, 2) }); ok {
					t.Logf("found in attempt %d: %s", round+1, why)
					return
				}
			}
			t.Error("the race does not find that")
		})
	}
}

// On a Cluster, too, a keyspace of one bucket keeps aliases; one of several says what would.
func TestAliasesAndBuckets(t *testing.T) {
	c := redisserver.StartCluster(t)
	o := fresh()
	o.Buckets = 1
	one := open(t, c.URL(), o)
	storetest.Compare(t, one, rand.Uint64(), 200)
	storetest.RaceAliases(t, open(t, patient(c.URL()), o), 2)

	for _, url := range []string{c.URL(), redisserver.Start(t).URL()} {
		o := fresh()
		o.Buckets = 2
		st := open(t, url, o)
		owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
		rs, err := st.Apply(t.Context(), []store.Change{{Session: "s", Owner: owner, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"x"}}})
		if err != nil || rs[0].Outcome != store.Rejected || !errors.Is(rs[0].Err, errors.ErrUnsupported) || !strings.Contains(fmt.Sprint(rs[0].Err), "Options.Buckets") {
			t.Errorf("in two buckets an alias is %+v, %v", rs, err)
		}
		if _, err := st.Lookup(t.Context(), "x"); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("in two buckets Lookup gives %v", err)
		}
		if _, err := st.Find(t.Context(), store.AliasRange{}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("in two buckets Find gives %v", err)
		}
	}
}

// The index may name a session that is not there, or does not list the alias: a script that failed in the middle leaves that. Then nobody has it.
func TestIndexHasMore(t *testing.T) {
	st := open(t, redisserver.Start(t).URL(), fresh())
	o := store.Owner{Node: strings.Repeat("n", 300), Incarnation: store.NewIncarnation()}
	apply(t, st, store.Change{Session: "other", Owner: o, Epoch: 1, Seq: 1, Create: true, Aliases: []string{strings.Repeat("y", 200), "z"}}, store.Applied)
	if err := st.client.HSet(t.Context(), st.buckets[0].aliases, "x", "other", "w", "none").Err(); err != nil {
		t.Fatal(err)
	}
	for _, alias := range []string{"w", "x"} {
		if h, err := st.Lookup(t.Context(), alias); err != nil || h.Epoch != 0 {
			t.Errorf("alias %s is that of %+v, %v", alias, h, err)
		}
	}
	if found, _ := findAll(t, st, 1); strings.Join(found, " ") != strings.Repeat("y", 200)+"=other z=other" {
		t.Errorf("found is %q", found)
	}
	apply(t, st, store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"w", "x"}}, store.Applied)
	apply(t, st, store.Change{Session: "other", Owner: o, Epoch: 1, Seq: 2}, store.Applied)
	if left, err := st.client.HGetAll(t.Context(), st.buckets[0].aliases).Result(); err != nil || len(left) != 2 || left["w"] != "s" || left["x"] != "s" {
		t.Errorf("the index is %q, %v", left, err)
	}

	// Of whom a damaged header is that has it, nobody takes it.
	if err := (damager{st}).Damage("s", "", true); err != nil {
		t.Fatal(err)
	}
	rs, err := st.Apply(t.Context(), []store.Change{
		{Session: "t", Owner: o, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"x"}}, {Session: "u", Owner: o, Epoch: 1, Seq: 1, Create: true}})
	if err != nil || rs[0].Outcome != store.Undecided || !strings.Contains(fmt.Sprint(rs[0].Err), `"s"`) || rs[1].Outcome != store.Applied {
		t.Errorf("of a damaged session's alias: %+v, %v", rs, err)
	}
	var damaged *store.CorruptError
	if _, err := st.Lookup(t.Context(), "x"); !errors.As(err, &damaged) || damaged.Session != "s" {
		t.Errorf("Lookup gives %v", err)
	}
	if f, err := st.Find(t.Context(), store.AliasRange{}); !errors.As(err, &damaged) || damaged.Session != "s" || len(f.Aliases) != 0 || f.Next != "" {
		t.Errorf("Find gives %+v, %v", f, err)
	}
}

// findAll returns all aliases and their sessions, read so many at a time, and in how many pages.
func findAll(t *testing.T, st *Store, limit int) (all []string, pages int) {
	t.Helper()
	for r := (store.AliasRange{Limit: limit}); ; {
		f, err := st.Find(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, n := range f.Aliases {
			all = append(all, n.Alias+"="+n.Header.Session)
		}
		if r.From = f.Next; f.Next == "" {
			return all, pages
		}
	}
}

// sameOrder checks that the set of aliases is what the hash is.
func sameOrder(t *testing.T, st *Store) {
	t.Helper()
	b := &st.buckets[0]
	hash, err1 := st.client.HKeys(t.Context(), b.aliases).Result()
	set, err2 := st.client.ZRange(t.Context(), b.order, 0, -1).Result()
	if slices.Sort(hash); err1 != nil || err2 != nil || !slices.Equal(hash, set) {
		t.Errorf("the hash of aliases has %d: %.500q; and the set %d: %.500q (errors %v, %v)", len(hash), hash, len(set), set, err1, err2)
	}
}

// Whatever changes the hash of aliases changes the set in the same step.
func TestOrderFollows(t *testing.T) {
	srv := redisserver.Start(t)
	for range 3 {
		st := open(t, srv.URL(), fresh())
		storetest.Compare(t, struct {
			store.Store
			store.Directory
			store.Claimer
		}{st, st, st}, rand.Uint64(), 1000) // without Find, which would repair the set
		sameOrder(t, st)
	}
}

// What programs wrote that do not know the set is found all the same, before they are gone and after that; and what a script left that failed in the middle does no harm.
func TestOrderIsRepaired(t *testing.T) {
	srv := redisserver.Start(t)
	kept := fresh()
	sound := applyLua
	t.Cleanup(func() { applyLua = sound })
	applyLua = strings.NewReplacer("call('ZADD', order, 0, alias)", "", "call('ZREM', order, alias)", "").Replace(sound)
	before := open(t, srv.URL(), kept)
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	name := func(i int) string { return fmt.Sprintf("%05d", i) }
	session := func(i int) string { return fmt.Sprint("s", i) }
	const n = 3*orderPage + 1
	var cs []store.Change
	for i := range n {
		cs = append(cs, store.Change{Session: session(i), Owner: o, Epoch: 1, Seq: 1, Create: true, Aliases: []string{name(i)}})
	}
	rs, err := before.Apply(t.Context(), cs)
	if err != nil || slices.ContainsFunc(rs, func(r store.Result) bool { return r.Outcome != store.Applied }) {
		t.Fatal(err, rs)
	}
	b := before.buckets[0]
	if n := before.client.Exists(t.Context(), b.order).Val(); n != 0 {
		t.Fatal("there is a set already")
	}
	applyLua = sound
	st := open(t, srv.URL(), kept)
	want := make([]string, n)
	for i := range want {
		want[i] = name(i) + "=" + session(i)
	}
	check := func(what string) {
		t.Helper()
		if got, _ := findAll(t, st, 0); !slices.Equal(got, want) {
			t.Errorf("%s: %d aliases are found, want %d", what, len(got), len(want))
		}
	}
	apply(t, st, store.Change{Session: session(0), Owner: o, Epoch: 1, Seq: 2, Aliases: []string{name(0), name(1) + "+"}}, store.Applied)
	want = slices.Insert(want, 2, name(1)+"+="+session(0))
	check("of programs from before there was a set")
	sameOrder(t, st)

	apply(t, before, store.Change{Session: session(0), Owner: o, Epoch: 1, Seq: 3, Aliases: []string{name(0), name(1) + "+", name(1) + "-"}}, store.Applied)
	want = slices.Insert(want, 3, name(1)+"-="+session(0))
	check("one that they add while there is a set")
	apply(t, before, store.Change{Session: session(0), Owner: o, Epoch: 1, Seq: 4, Aliases: []string{name(0), name(1) + "-"}}, store.Applied)
	want = slices.Delete(want, 2, 3)
	check("one that they take away")
	sameOrder(t, st)
	st.client.ZAdd(t.Context(), b.order, client.Z{Member: name(2) + "+"})
	st.client.HDel(t.Context(), b.aliases, name(3))
	want = slices.Delete(want, 4, 5)
	check("what only the set has")
	sameOrder(t, st)
	st.client.ZRem(t.Context(), b.order, name(5))
	st.client.ZAdd(t.Context(), b.order, client.Z{Member: name(2) + "+"})
	apply(t, st, store.Change{Session: session(9), Owner: o, Epoch: 1, Seq: 2, Delete: true}, store.Applied)
	want = slices.DeleteFunc(want, func(s string) bool { return s == name(9)+"="+session(9) })
	if got, _ := findAll(t, st, 0); len(got) != len(want)-1 { // as many, and others: see alias.go
		t.Errorf("%d aliases are found, want %d", len(got), len(want)-1)
	}
	st.client.ZAdd(t.Context(), b.order, client.Z{Member: name(4) + "+"})
	check("after a time in which the numbers were the same")
}

// A page looks at no more aliases than it may have, though nothing of them is found.
func TestFindPage(t *testing.T) {
	st := open(t, redisserver.Start(t).URL(), fresh())
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	var cs []store.Change
	for i := range 2 * findPage {
		cs = append(cs, store.Change{Session: fmt.Sprint("s", i), Owner: o, Epoch: 1, Seq: 1, Create: true, Aliases: []string{fmt.Sprintf("%05d", i)}, Expires: 1})
	}
	cs = append(cs, store.Change{Session: "t", Owner: o, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"t", "u"}})
	if _, err := st.Apply(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int]int{0: 3, findPage: 3, 1 << 40: 3, 100: 6} {
		if all, pages := findAll(t, st, limit); fmt.Sprint(all) != "[t=t u=t]" || pages != want {
			t.Errorf("limit %d: %q on %d pages, want %d", limit, all, pages, want)
		}
	}
}
