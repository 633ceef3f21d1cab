package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Each checker notices what it is there for: the cluster is sabotaged in one way, and histories run until one breaks.
func TestCheckersNotice(t *testing.T) {
	for _, c := range []struct {
		sabotage string
		by       checker
	}{
		{"two owners", oneOwner},
		{"no fence", endedEpoch},
		{"no seq", endedEpoch},
		{"torn", whole},
		{"forgotten", synced},
		{"untold", told},
		{"told twice", told},
		{"slow", lagBound},
		{"stale load", linear},
		{"no lease", leased},
		{"no bound", bounded},
		{"deaf", closes},
		{"untold commit", hooked},
		{"forgotten end", synced},
	} {
		t.Run(c.sabotage, func(t *testing.T) {
			const most = 300
			var first *Violation
			for seed := range uint64(most) {
				p := New(seed+1, 300)
				p.Setup.Sabotage = c.sabotage
				v := Run(t, p, nil, nil)
				if v == nil {
					continue
				}
				if v.Checker == string(c.by) {
					t.Logf("seed %d: %v", p.Seed, v)
					return
				}
				if first == nil {
					first = v
				}
			}
			t.Errorf("%d histories, and %q was not noticed; instead: %v", most, c.by, first)
		})
	}
}

// lines are those of a story. What happens at one instant is in no order.
func lines(story string) []string {
	ls := strings.Split(story, "\n")
	instant := func(l string) string { return l[:min(len(l), 12)] }
	for i := 0; i < len(ls); {
		end := i + 1
		for end < len(ls) && instant(ls[end]) == instant(ls[i]) {
			end++
		}
		slices.Sort(ls[i:end])
		i = end
	}
	return ls
}

// A seed is a history: run again, it is the same, to the nanosecond. Only the scheduler interferes: it takes a goroutine off that
// has run for 10 ms of real time, so that on a machine with other work two that woke at one instant may change places. So a history
// may need more than one attempt to come again. One in which a map's order, or chance, had a say would not come at all.
func TestSeedsReplay(t *testing.T) {
	if raceEnabled {
		t.Skip("only one goroutine at a time runs in an order that is always the same")
	}
	const attempts = 10
	more := 0
	for seed := range uint64(60) {
		p := New(seed+1, 300)
		play := func() []string {
			var story strings.Builder
			Run(t, p, &story, nil)
			return lines(story.String())
		}
		first, differs := play(), ""
		for range attempts {
			again := play()
			if slices.Equal(first, again) {
				differs = ""
				break
			}
			more++
			i := 0
			for i < min(len(first), len(again)) && first[i] == again[i] {
				i++
			}
			differs = fmt.Sprintf("%d lines and %d; from line %d on:\n%.300q\n%.300q", len(first), len(again), i, first[i:min(i+1, len(first))], again[i:min(i+1, len(again))])
		}
		if differs != "" {
			t.Errorf("seed %d: in %d attempts the same did not come again: %s", p.Seed, attempts, differs)
		}
	}
	t.Logf("%d attempts more were needed", more)
}

// Shrinking keeps what is broken, and little else.
func TestShrink(t *testing.T) {
	p := New(1, 300)
	p.Setup.Sabotage = "untold"
	v := Run(t, p, nil, nil)
	for v == nil {
		p = New(p.Seed+1, 300)
		p.Setup.Sabotage = "untold"
		v = Run(t, p, nil, nil)
	}
	q, w := Shrink(t, p, v, 400)
	if again := Run(t, q, nil, nil); again == nil || *again != *w || w.Checker != v.Checker || len(q.Steps) > 20 {
		t.Errorf("of %d steps %d are left, which break %v, said to be %v:\n%v", len(p.Steps), len(q.Steps), again, w, q)
	}
}
