package storetest

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

func TestReplayLate(t *testing.T) {
	bubble(t, func(t *testing.T, f *Faults, a *tenure) {
		f.Inject(First(2, Fault{Fail: Late}, Apply))
		first, second := a.change("k", "first"), a.change("k", "second")
		for _, c := range []store.Change{first, second} {
			if _, err := put(t, f, c); !errors.Is(err, ErrInjected) {
				t.Fatalf("Apply gives %v", err)
			}
		}
		copy(first.Puts[0].Value, "XXXXX") // the caller's: what was sent is a copy
		rs := f.ReplayLate(t.Context())
		if len(rs) != 2 || rs[0].Results[0].Outcome != store.Applied || rs[1].Results[0].Outcome != store.Applied {
			t.Fatalf("replays are %+v, want 2 applied", rs)
		}
		if got := string(rs[0].Call.Changes[0].Puts[0].Value); got != "first" || value(t, f) != "second" {
			t.Errorf("replayed are %q, then %q", got, value(t, f))
		}
		if rs := f.ReplayLate(t.Context()); len(rs) != 0 {
			t.Errorf("replayed again: %+v", rs)
		}
	})
}

func TestLateByItself(t *testing.T) {
	bubble(t, func(t *testing.T, f *Faults, a *tenure) {
		f.Inject(First(1, Fault{Fail: Late, Late: time.Minute}, Apply))
		if _, err := put(t, f, a.change("k", "late")); !errors.Is(err, ErrInjected) {
			t.Fatalf("Apply gives %v", err)
		}
		f.Down(true) // it is on its way already
		time.Sleep(time.Minute - 1)
		synctest.Wait()
		if got := value(t, f); got != "v" {
			t.Errorf("value is %q before its time", got)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got := value(t, f); got != "late" {
			t.Errorf("value is %q, want late", got)
		}
		if rs := f.ReplayLate(t.Context()); len(rs) != 0 {
			t.Errorf("replayed again: %+v", rs)
		}
	})
}

func TestLateClaimIsAZombie(t *testing.T) {
	bubble(t, func(t *testing.T, f *Faults, a *tenure) {
		f.Inject(Every(Fault{Fail: Late}, Claim, KeepAlive, Load))
		r := store.ClaimRequest{Session: "s", Owner: newOwner("late"), Force: true}
		_, err1 := f.Claim(t.Context(), r)
		_, err2 := f.KeepAlive(t.Context(), store.Node{Name: "late", Incarnation: r.Owner.Incarnation}, time.Hour)
		_, err3 := f.Load(t.Context(), "s")
		if !errors.Is(err1, ErrInjected) || !errors.Is(err2, ErrInjected) || !errors.Is(err3, ErrInjected) {
			t.Fatalf("errors are %v, %v, %v", err1, err2, err3)
		}
		rs := f.ReplayLate(t.Context())
		if len(rs) != 2 || rs[0].Claim.Outcome != store.Granted || rs[1].Err != nil {
			t.Fatalf("replays are %+v, want a granted claim and a lease", rs)
		}
		if o, err := put(t, f, a.change("k", "zombie")); err != nil || o != store.Fenced {
			t.Errorf("the former owner's change is %v, %v", o, err)
		}
	})
}

// TestLateWithOtherParts: what says how a call is applied holds for one that is applied late.
func TestLateWithOtherParts(t *testing.T) {
	for name, c := range map[string]struct {
		fault   Fault
		reached int
		outcome store.Outcome
		value   string
	}{
		"twice":           {Fault{Twice: true}, 2, store.Already, "new"},
		"split":           {Fault{Split: func(i int) bool { return i == 0 }}, 1, store.Undecided, "v"},
		"the others":      {Fault{Split: func(i int) bool { return i == 1 }}, 1, store.Applied, "new"},
		"twice and split": {Fault{Twice: true, Split: func(i int) bool { return i == 1 }}, 2, store.Already, "new"},
	} {
		for _, by := range []time.Duration{0, time.Second} { // by ReplayLate, by itself
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T, f *Faults, a *tenure) {
					reached := 0
					f.OnApply(func([]store.Change) { reached++ })
					c.fault.Fail, c.fault.Late = Late, by
					f.Inject(First(1, c.fault, Apply))
					cs := []store.Change{a.change("k", "new"), creating(unclaimed("other", 1).change())}
					if _, err := f.Apply(t.Context(), cs); !errors.Is(err, ErrInjected) {
						t.Fatalf("Apply gives %v", err)
					}
					if by > 0 {
						time.Sleep(by)
						synctest.Wait()
					} else if rs := f.ReplayLate(t.Context()); len(rs) != 1 || rs[0].Results[0].Outcome != c.outcome {
						t.Errorf("replays are %+v, want one with %v", rs, c.outcome)
					}
					if got := value(t, f); got != c.value || reached != c.reached {
						t.Errorf("value is %q after %d calls of the store, want %q after %d", got, reached, c.value, c.reached)
					}
				})
			})
		}
	}
}

// TestDownDuringDelay: Down makes every call fail with ErrInjected, unapplied.
func TestDownDuringDelay(t *testing.T) {
	for _, fail := range []Failure{Never, Before, After, Late} {
		bubble(t, func(t *testing.T, f *Faults, a *tenure) {
			f.Inject(Every(Fault{Delay: time.Second, Fail: fail, Err: errors.New("another")}, Apply))
			time.AfterFunc(time.Second/2, func() { f.Down(true) })
			_, err := put(t, f, a.change("k", "new"))
			f.Down(false)
			if rs := f.ReplayLate(t.Context()); !errors.Is(err, ErrInjected) || len(rs) != 0 || value(t, f) != "v" {
				t.Errorf("failure %d: error %v, %d calls are applied later, and the value is %q", fail, err, len(rs), value(t, f))
			}
		})
	}
}
