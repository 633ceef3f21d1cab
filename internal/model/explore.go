package model

import "hash/maphash"

// Result is what an exploration found.
type Result struct {
	States      int // different ones that were reached
	Transitions int // steps that were made, also to states that were known
	Depth       int // steps of the shortest way to the last state

	Violated Invariant // 0 if all hold
	Story    []string  // the shortest way to the violation: one line for each step, and one for what is wrong
}

// fingerprint names a state. Two that differ have the same one with a probability of 2^-128: a billion states have some
// collision, and then one state is not looked at, with less than 2^-68. The seeds are new in each run.
type fingerprint [2]uint64

type seeds [2]maphash.Seed

func (p seeds) of(s *State) fingerprint {
	return fingerprint{maphash.Comparable(p[0], *s), maphash.Comparable(p[1], *s)}
}

// link is how a state was first reached.
type link struct {
	from int32
	step Step
}

// Explore visits all states that can be reached within the bounds, those that are nearest to the beginning first, until an
// invariant does not hold: only, or, if that is 0, any.
func Explore(b Bounds, bug Bug, only Invariant) Result {
	var (
		seeds = seeds{maphash.MakeSeed(), maphash.MakeSeed()}
		known = map[fingerprint]struct{}{}
		links []link
		all   = steps(&b)
		r     Result
	)
	type reached struct {
		State
		index int32
	}
	var level, next []reached
	visit := func(s *State, from int32, st Step) {
		s.canonical(&b)
		p := seeds.of(s)
		if _, ok := known[p]; ok {
			return
		}
		known[p] = struct{}{}
		next = append(next, reached{*s, int32(len(links))})
		links = append(links, link{from, st})
	}
	first := begin(&b)
	visit(&first, -1, Step{})
	for r.Depth = 0; ; r.Depth++ {
		level, next = next, level[:0]
		for i := range level {
			w := world{State: level[i].State, Bounds: &b, bug: bug, only: only}
			for _, st := range all {
				if !w.step(st) {
					continue
				}
				r.Transitions++
				if w.bad.invariant != 0 {
					r.States, r.Depth = len(links), r.Depth+1
					r.Violated, r.Story = w.bad.invariant, tell(&b, bug, only, way(links, level[i].index, st))
					return r
				}
				visit(&w.State, level[i].index, st)
				w.State = level[i].State
			}
		}
		if len(next) == 0 {
			r.States = len(links)
			return r
		}
	}
}

// begin returns the state in which nothing has happened.
func begin(b *Bounds) (s State) {
	for i := range b.Sessions {
		s.claims[i] = uint8(b.Claims)
	}
	s.steals, s.releases, s.timeouts = uint8(b.Steals), uint8(b.Releases), uint8(b.Timeouts)
	s.twins, s.crashes = uint8(b.Twins), uint8(b.Crashes)
	return s
}

// way returns the steps to the state at index, and then last.
func way(links []link, index int32, last Step) (w []Step) {
	if index > 0 {
		w = way(links, links[index].from, links[index].step)
	}
	return append(w, last)
}
