package sim

import (
	"slices"
	"testing"
	"time"
)

// Shrink returns a plan with as few steps of p as it finds that break the same guarantee (delta debugging; Zeller and
// Hildebrandt, 2002), and what it breaks. It takes at most so many runs. v is what p breaks.
func Shrink(t *testing.T, p Plan, v *Violation, runs int) (Plan, *Violation) {
	p.Steps = p.Steps[:min(v.Step, len(p.Steps))]
	fails := func(steps []Step) *Violation {
		q := p
		q.Steps = steps
		if w := Run(t, q, nil, nil); w != nil && w.Checker == v.Checker {
			return w
		}
		return nil
	}
	for size := (len(p.Steps) + 1) / 2; size > 0 && runs > 0; {
		shrunk := false
		for at := 0; at < len(p.Steps) && runs > 0; runs-- {
			end := min(at+size, len(p.Steps))
			steps := slices.Concat(p.Steps[:at], p.Steps[end:])
			if end < len(p.Steps) { // the time that passed stays
				steps[at].After += elapsed(p.Steps[at:end])
			}
			if w := fails(steps); w != nil {
				p.Steps, v, shrunk = steps, w, true
				continue
			}
			at = end
		}
		if !shrunk || size > 1 {
			size /= 2
		}
	}
	return p, v
}

func elapsed(steps []Step) (d time.Duration) {
	for _, s := range steps {
		d += s.After
	}
	return d
}
