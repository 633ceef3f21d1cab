package storetest

import (
	"strings"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// find returns a case by its group and name.
func find(t *testing.T, path string) (rule, testcase) {
	t.Helper()
	group, name, _ := strings.Cut(path, "/")
	for _, g := range contract {
		for _, r := range g.rules {
			for _, c := range r.cases {
				if g.name == group && c.name == name {
					return r, c
				}
			}
		}
	}
	t.Fatalf("there is no case %q", path)
	return rule{}, testcase{}
}

// TestRunFindsFaults shows that the cases are able to fail, and say why.
func TestRunFindsFaults(t *testing.T) {
	for _, b := range brokenStores {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			for _, path := range b.cases {
				rule, c := find(t, path)
				st := newBroken(b.make)
				r := record(func(t T) { rule.check(t, st, c) })
				st.Store.Close()
				if len(r.failures) == 0 {
					t.Errorf("case %q takes the store for sound", path)
				}
				for _, f := range r.failures {
					if !strings.HasPrefix(f, rule.says) {
						t.Errorf("case %q fails with %q, want its sentence first", path, f)
					}
				}
			}
		})
	}
}

// TestRaceFindsFaults shows that the race finds what a case in one goroutine cannot.
func TestRaceFindsFaults(t *testing.T) {
	for _, b := range brokenStores {
		if b.race == "" {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			st := newBroken(b.make)
			defer st.Store.Close()
			for round := range 500 { // whether one round does is a matter of luck
				r := record(func(t T) { Race(t, st, 2) })
				for _, f := range r.failures {
					if strings.HasPrefix(f, b.race) {
						t.Logf("found in attempt %d: %s", round+1, f)
						return
					}
				}
			}
			t.Errorf("the race does not find that this is broken: %s", b.race)
		})
	}
}

func TestRaceFindsNoFaultInMemory(t *testing.T) {
	t.Parallel()
	if r := record(func(t T) { Race(t, memory.New(), 10) }); len(r.failures) > 0 {
		t.Errorf("the race fails: %q", r.failures)
	}
}

func TestDamageIsSkipped(t *testing.T) {
	rule, c := find(t, "Damage/a header")
	r := record(func(t T) { rule.check(t, memory.New(), c) })
	if r.skipped == "" || len(r.failures) > 0 {
		t.Errorf("case is skipped with %q and failures %q, want skipped", r.skipped, r.failures)
	}
}

var _ store.Store = (*broken)(nil)

// TestFinds: what ends f is a failure like any other, and what f passes or skips is none.
func TestFinds(t *testing.T) {
	for _, c := range []struct {
		f    func(t T)
		want string
	}{
		{func(t T) { t.Helper() }, ""},
		{func(t T) { t.Skipf("not here") }, ""},
		{func(t T) { t.Errorf("bad %d", 1); t.Errorf("bad %d", 2) }, "bad 1"},
		{func(t T) { t.Fatalf("worse %d", 1); t.Errorf("never reached") }, "worse 1"},
	} {
		if why, ok := Finds(c.f); why != c.want || ok != (c.want != "") {
			t.Errorf("%q, %v; want %q", why, ok, c.want)
		}
	}
}
