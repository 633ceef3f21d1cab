package sim

import (
	"flag"
	"strings"
	"testing"
)

var (
	seed  = flag.Uint64("seed", 0, "the only seed to be run; 0: as many as -histories says")
	steps = flag.Int("steps", 500, "steps of a history")
	many  = flag.Int("histories", 200, "histories")
	first = flag.Uint64("first", 1, "the first of their seeds")
)

// tell fails the test with the shortest story that breaks what p breaks.
func tell(t *testing.T, p Plan, v *Violation) {
	t.Helper()
	p, v = Shrink(t, p, v, 300)
	var story strings.Builder
	again := Run(t, p, &story, nil)
	t.Errorf("seed %d: %v\n%v%s", p.Seed, v, p, story.String())
	if again == nil {
		t.Errorf("it did not happen again")
	}
}

func TestSim(t *testing.T) {
	var counts Counts
	from, n := *first, *many
	if *seed != 0 {
		from, n = *seed, 1
	}
	for i := range uint64(n) {
		p := New(from+i, *steps)
		if v := Run(t, p, nil, &counts); v != nil {
			tell(t, p, v)
			break
		}
	}
	t.Log(counts)
}
