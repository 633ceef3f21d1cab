package model

import (
	"flag"
	"strings"
	"testing"
	"unsafe"
)

var deep = flag.Bool("deep", false, "explore the deep shapes, too: minutes, and some gigabytes")

// slow skips what is one goroutine's work and takes twenty times as long under the race detector.
func slow(t *testing.T) {
	if raceEnabled {
		t.Skip("run without the race detector")
	}
}

// TestSound explores the protocol as it is.
func TestSound(t *testing.T) {
	slow(t)
	for _, s := range Shapes() {
		t.Run(s.Name, func(t *testing.T) {
			if s.Deep && !*deep {
				t.Skip("deep")
			}
			t.Parallel()
			r := Explore(s.Bounds, 0, 0)
			t.Logf("%d states, %d transitions, depth %d", r.States, r.Transitions, r.Depth)
			if r.Violated != 0 {
				t.Errorf("violated: %v\n%s", r.Violated, strings.Join(r.Story, "\n"))
			}
			if r.States < 50_000 {
				t.Errorf("there are only %d states: something cannot happen any more", r.States)
			}
		})
	}
}

// TestBugs makes each mistake, and wants it found.
func TestBugs(t *testing.T) {
	slow(t)
	type plant struct {
		bug    Bug
		breaks Invariant
	}
	plants := []plant{
		{CheckThenWrite, LostStaysLost},
		{CheckThenWrite, OneTenure},
		{NoTombstone, OneTenure},
		{NoTombstone, SyncedStays},
		{NoSeq, SyncedStays},
	}
	for _, b := range Bugs() {
		plants = append(plants, plant{b, b.Breaks()})
	}
	broken := map[Invariant]bool{}
	for _, p := range plants {
		broken[p.breaks] = true
		t.Run(p.bug.String()+"/"+p.breaks.String(), func(t *testing.T) {
			t.Parallel()
			r := Explore(shape(t, p.bug.Shape()), p.bug, p.breaks)
			if r.Violated != p.breaks {
				t.Fatalf("not found in %d states", r.States)
			}
			t.Logf("%d steps\n%s", r.Depth, strings.Join(r.Story, "\n"))
			if len(r.Story) != r.Depth+1 {
				t.Errorf("the story has %d lines for %d steps", len(r.Story), r.Depth)
			}
		})
	}
	for _, i := range Invariants() {
		if !broken[i] {
			t.Errorf("no bug breaks %q: nothing shows that it can fail", i)
		}
	}
}

func shape(t *testing.T, name string) Bounds {
	t.Helper()
	for _, s := range Shapes() {
		if s.Name == name {
			return s.Bounds
		}
	}
	t.Fatalf("there is no shape %q", name)
	return Bounds{}
}

// TestStepsAllHappen wants every action to be possible in some state of the shapes.
func TestStepsAllHappen(t *testing.T) {
	happened := map[action]bool{}
	for _, b := range []Bounds{
		{Nodes: 2, Sessions: 1, Transactions: 1, Claims: 2, Steals: 1, Releases: 1, Timeouts: 1, Late: 1, Twins: 1, Crashes: 1},
		{Nodes: 1, Sessions: 2, Transactions: 2, Claims: 0, Timeouts: 1, Late: 2, Twins: 1},
	} {
		known, level := map[State]bool{}, []State{begin(&b)}
		for depth := 0; depth < 8; depth++ {
			var next []State
			for _, s := range level {
				for _, st := range steps(&b) {
					w := world{State: s, Bounds: &b}
					if w.step(st); w.State == s {
						continue
					}
					happened[st.action] = true
					if !known[w.State] {
						known[w.State] = true
						next = append(next, w.State)
					}
				}
			}
			level = next
		}
	}
	for a := range actions {
		if !happened[a] {
			t.Errorf("action %d never happens", a)
		}
	}
}

// TestRanks: numbers keep their order, and zero.
func TestRanks(t *testing.T) {
	var n numbers
	values := []uint8{9, 0, 3, 9, 62}
	for i := range values {
		n.add(&values[i])
	}
	for i := range values {
		n.rank(&values[i])
	}
	if got := [5]uint8(values); got != [5]uint8{2, 0, 1, 2, 3} {
		t.Errorf("ranks are %v", got)
	}
}

// TestCanonical: states that differ by numbers alone become one, and those that differ in more do not.
func TestCanonical(t *testing.T) {
	b := Bounds{Nodes: 2, Sessions: 1, Transactions: 8}
	at := func(old, last, seq uint8) State {
		s := begin(&b)
		s.records[0] = record{epoch: 1, owner: 1, seq: seq, tx: old, val: pair{old, old}, landed: one(old)}
		s.nodes[0].seq = seq + 1
		s.nodes[0].sessions[0] = local{live: true, epoch: 1, tx: last, val: pair{last, last}}
		s.canonical(&b)
		return s
	}
	if at(1, 2, 1) != at(3, 7, 5) {
		t.Error("equal states differ")
	}
	if at(1, 2, 1) == at(2, 2, 1) {
		t.Error("a state in which the store has the last value equals one in which it has an older one")
	}
}

// TestStateIsPlain: a state without padding is hashed by all its bytes, and by nothing else.
func TestStateIsPlain(t *testing.T) {
	if a := unsafe.Alignof(State{}); a != 1 {
		t.Errorf("a State has fields of %d bytes: all must be of one", a)
	}
}
