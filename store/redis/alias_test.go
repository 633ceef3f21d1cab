package redis

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// Two nodes race for an alias; without the script's look at who has it, the race finds two sessions that have it, and so it does if a late change takes it.
func TestRaceAliasesFindsFaults(t *testing.T) {
	srv := redisserver.Start(t)
	storetest.RaceAliases(t, open(t, srv.URL(), fresh()), 10)
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
			r := recorder{t, make(chan string, 1)}
			for round := range 200 { // whether one round does is a matter of luck
				storetest.RaceAliases(r, st, 2)
				select {
				case why := <-r.failures:
					t.Logf("found in attempt %d: %s", round+1, why)
					return
				default:
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
	storetest.RaceAliases(t, open(t, c.URL(), o), 2)

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
}
