package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// TestFaultsIsAStore runs the contract on a Faults that was told nothing.
func TestFaultsIsAStore(t *testing.T) {
	t.Parallel()
	Run(t, func(t *testing.T) store.Store { return NewFaults(memory.New()) })
}

// bubble runs a test in virtual time, with a session "s" owned by a. That no goroutine is left, synctest sees to.
func bubble(t *testing.T, test func(t *testing.T, f *Faults, a *tenure)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := NewFaults(memory.New())
		k := &kit{t: t, st: f, ctx: t.Context(), says: "(preparation)"}
		a := k.own("s", "k", "v")
		test(t, f, a)
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

func value(t *testing.T, f *Faults) string {
	t.Helper()
	s, err := f.inner.Load(t.Context(), "s", "k")
	if err != nil || len(s.Entries) != 1 {
		t.Fatalf("Load gives %+v, %v", s, err)
	}
	return string(s.Entries[0].Value)
}

func put(t *testing.T, f *Faults, c store.Change) (store.Outcome, error) {
	t.Helper()
	rs, err := f.Apply(t.Context(), []store.Change{c})
	if err != nil {
		return 0, err
	}
	return rs[0].Outcome, nil
}

func TestFail(t *testing.T) {
	mine := errors.New("mine")
	for name, c := range map[string]struct {
		fault   Fault
		err     error
		outcome store.Outcome
		value   string
	}{
		"none":              {Fault{}, nil, store.Applied, "new"},
		"before":            {Fault{Fail: Before}, ErrInjected, 0, "v"},
		"before, with mine": {Fault{Fail: Before, Err: mine}, mine, 0, "v"},
		"after":             {Fault{Fail: After}, ErrInjected, 0, "new"},
		"late":              {Fault{Fail: Late}, ErrInjected, 0, "v"},
		"twice":             {Fault{Twice: true}, nil, store.Already, "new"},
		"twice, after":      {Fault{Twice: true, Fail: After}, ErrInjected, 0, "new"},
		"split":             {Fault{Split: func(int) bool { return true }}, nil, store.Undecided, "v"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *Faults, a *tenure) {
				f.Inject(First(1, c.fault, Apply))
				change := a.change("k", "new")
				outcome, err := put(t, f, change)
				if outcome != c.outcome || !errors.Is(err, c.err) {
					t.Errorf("Apply gives %v, %v; want %v, %v", outcome, err, c.outcome, c.err)
				}
				if got := value(t, f); got != c.value {
					t.Errorf("value is %q, want %q", got, c.value)
				}
				if outcome, err := put(t, f, change); err != nil || outcome != store.Applied && outcome != store.Already {
					t.Errorf("the repeated Apply gives %v, %v", outcome, err)
				}
			})
		})
	}
}

func TestDelayAndHang(t *testing.T) {
	for name, c := range map[string]struct {
		fault Fault
		err   error
		value string
		after time.Duration
	}{
		"delay":                   {Fault{Delay: time.Second}, nil, "new", time.Second},
		"delay beyond context":    {Fault{Delay: time.Hour}, context.DeadlineExceeded, "v", time.Minute},
		"delay, then fail":        {Fault{Delay: time.Second, Fail: Before}, ErrInjected, "v", time.Second},
		"hang":                    {Fault{Hang: true}, context.DeadlineExceeded, "v", time.Minute},
		"hang after it's applied": {Fault{Hang: true, Fail: After}, context.DeadlineExceeded, "new", time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *Faults, a *tenure) {
				f.Inject(Every(c.fault))
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began := time.Now() // virtual: exact
				_, err := f.Apply(ctx, []store.Change{a.change("k", "new")})
				if !errors.Is(err, c.err) || time.Since(began) != c.after {
					t.Errorf("Apply gives %v after %v, want %v after %v", err, time.Since(began), c.err, c.after)
				}
				if got := value(t, f); got != c.value {
					t.Errorf("value is %q, want %q", got, c.value)
				}
			})
		})
	}
}

func TestSplit(t *testing.T) {
	bubble(t, func(t *testing.T, f *Faults, a *tenure) {
		f.Inject(First(1, Fault{Split: func(i int) bool { return i%2 == 0 }}, Apply))
		cs := []store.Change{a.change("k", "new"), creating(unclaimed("b", 1).change()), unclaimed("c", 1).change(), unclaimed("d", 1).change()}
		rs, err := f.Apply(t.Context(), cs)
		if err != nil || len(rs) != 4 {
			t.Fatalf("Apply gives %+v, %v", rs, err)
		}
		want := []store.Outcome{store.Undecided, store.Applied, store.Undecided, store.Fenced}
		for i, r := range rs {
			if r.Outcome != want[i] || (r.Outcome == store.Undecided) != (r.Err != nil) {
				t.Errorf("result %d is %+v, want %v", i, r, want[i])
			}
		}
		if got := value(t, f); got != "v" {
			t.Errorf("value is %q: an undecided change was applied", got)
		}
	})
}

func TestDown(t *testing.T) {
	bubble(t, func(t *testing.T, f *Faults, a *tenure) {
		f.Down(true)
		for _, call := range everyMethod(a) {
			if err := call.do(t.Context(), f); !errors.Is(err, ErrInjected) {
				t.Errorf("%s gives error %v", call.name, err)
			}
		}
		f.Down(false)
		for _, call := range everyMethod(a) {
			if err := call.do(t.Context(), f); err != nil {
				t.Errorf("%s gives error %v", call.name, err)
			}
		}
		n := 0
		var last error
		for _, last = range f.Sessions(t.Context(), store.Query{}) {
			n++
			f.Down(true)
		}
		if n != 2 || !errors.Is(last, ErrInjected) {
			t.Errorf("a walk cut off has %d pairs, the last with error %v", n, last)
		}
	})
}

func TestFailedWalk(t *testing.T) {
	bubble(t, func(t *testing.T, f *Faults, a *tenure) {
		f.Inject(Every(Fault{Fail: After}, Sessions))
		var ids []string
		var last error
		for h, err := range f.Sessions(t.Context(), store.Query{}) {
			ids, last = append(ids, h.Session), err
		}
		if len(ids) != 2 || ids[0] != "s" || !errors.Is(last, ErrInjected) {
			t.Errorf("the walk has %q and ends with error %v", ids, last)
		}
	})
}

// TestFailedWalkEndsOnce: an error is the last pair of a walk that fails by itself, too.
func TestFailedWalkEndsOnce(t *testing.T) {
	bubble(t, func(t *testing.T, f *Faults, a *tenure) {
		f.Inject(Every(Fault{Fail: After}, Sessions))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var errs []error
		k := &kit{t: t, st: f, ctx: t.Context(), says: "(preparation)"}
		k.own("another")
		for _, err := range f.Sessions(ctx, store.Query{}) {
			if cancel(); err != nil {
				errs = append(errs, err)
			}
		}
		if len(errs) != 1 {
			t.Errorf("the walk ends with errors %v", errs)
		}
	})
}

func TestRulesAndCounts(t *testing.T) {
	bubble(t, func(t *testing.T, f *Faults, a *tenure) {
		claims, applies, loads := f.Calls(Claim), f.Calls(Apply), f.Calls(Load)
		var reached []store.Change
		f.OnApply(func(cs []store.Change) { reached = append(reached, cs...) })
		f.Inject(func(c Call) Fault {
			switch {
			case c.Kind == Apply && c.N == applies+2:
				return Fault{Fail: Before}
			case c.Kind == Load && c.Session == "s":
				return Fault{Fail: Before}
			case c.Kind == Claim && c.Claim.Force:
				return Fault{Twice: true}
			}
			return Fault{}
		})
		for i := range 3 {
			if _, err := put(t, f, a.change("k", "new")); (err != nil) != (i == 1) {
				t.Errorf("Apply %d gives error %v", i, err)
			}
		}
		if _, err := f.Load(t.Context(), "other"); err != nil {
			t.Error(err)
		}
		if _, err := f.Load(t.Context(), "s"); !errors.Is(err, ErrInjected) {
			t.Errorf("Load gives error %v", err)
		}
		if len(reached) != 2 || reached[0].Seq != 2 || reached[1].Seq != 4 {
			t.Errorf("the store was reached by %+v, want changes 2 and 4", reached)
		}
		c, err := f.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: newOwner("b"), Force: true})
		if err != nil || c.Outcome != store.Granted || c.Header.Epoch != a.epoch+1 {
			t.Errorf("Claim gives %+v, %v", c, err)
		}
		if f.Calls(Claim) != claims+1 || f.Calls(Apply) != applies+3 || f.Calls(Load) != loads+2 || f.Calls(Nodes) != 0 {
			t.Errorf("calls are %v", f.calls)
		}
	})
}

// TestCloseEndsAll leaves calls hanging, delayed and postponed. That Close joins what is its own, synctest proves.
func TestCloseEndsAll(t *testing.T) {
	bubble(t, func(t *testing.T, f *Faults, a *tenure) {
		var wg sync.WaitGroup
		for _, fault := range []Fault{{Hang: true}, {Delay: time.Hour}, {Fail: Late, Late: time.Hour, Hang: true}} {
			f.Inject(Every(fault))
			c := a.change("k", "new")
			wg.Go(func() {
				if _, err := put(t, f, c); !errors.Is(err, store.ErrClosed) {
					t.Errorf("Apply gives error %v, want ErrClosed", err)
				}
			})
			synctest.Wait()
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if rs := f.ReplayLate(t.Context()); len(rs) != 0 {
			t.Errorf("replayed after Close: %+v", rs)
		}
	})
}

// TestFaultsConcurrently is for the race detector: calls of all kinds while faults come and go.
func TestFaultsConcurrently(t *testing.T) {
	bubble(t, func(t *testing.T, f *Faults, a *tenure) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				z := unclaimed("s", 1)
				for range 20 {
					for _, call := range everyMethod(z) {
						ctx, cancel := context.WithTimeout(t.Context(), time.Second)
						call.do(ctx, f)
						cancel()
					}
				}
			})
		}
		for i := range 60 {
			f.Inject(Every([]Fault{{Fail: Late, Late: time.Second}, {Hang: true}, {Delay: time.Millisecond}, {Fail: After, Twice: true}}[i%4]))
			f.Down(i%7 == 0)
			f.OnApply(func([]store.Change) {})
			f.Calls(Apply)
			f.ReplayLate(t.Context())
			time.Sleep(300 * time.Millisecond) // virtual
		}
		f.Inject(nil)
		wg.Wait()
	})
}
