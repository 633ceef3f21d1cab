package storetest

import (
	"slices"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store/memory"
)

func TestCompareFindsNoFaultInMemory(t *testing.T) {
	t.Parallel()
	if r := record(func(t T) { Compare(t, memory.New(), 1, 2000) }); len(r.failures) > 0 {
		t.Errorf("the comparison fails: %q", r.failures)
	}
}

// TestCompareFindsFaults shows that it finds whatever is wrong in what a store decides.
func TestCompareFindsFaults(t *testing.T) {
	beside := []string{ // what it is not about: races, fractions of a millisecond, malformed calls, large numbers, Close
		"grants without comparing", "expiry in nanoseconds", "a walk that fails yields its last page twice", "checks nothing", "numbers are floats", "closing twice fails",
	}
	for _, b := range brokenStores {
		if slices.Contains(beside, b.name) {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			st := newBroken(b.make)
			defer st.Store.Close()
			if r := record(func(t T) { Compare(t, st, 2, 4000) }); len(r.failures) == 0 {
				t.Error("the comparison finds nothing")
			}
		})
	}
	for _, b := range brokenAliases {
		if len(b.cases) == 0 { // nothing is wrong, or all that is are races
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			st := newRegister(b.make)
			defer st.Store.Close()
			if r := record(func(t T) { Compare(t, st, 2, 4000) }); len(r.failures) == 0 {
				t.Error("the comparison finds nothing")
			}
		})
	}
}
