package callsim

import (
	"strings"
	"testing"
	"time"
)

// ledgerAt returns a ledger with a call whose events up to acked were answered, the n-th
// after n seconds, and that up to synced were stored.
func ledgerAt(ends bool, acked, synced uint64, inFlight bool) (*Ledger, *record) {
	m := Model{Seed: 5}
	i := ending(m, ends)
	l := NewLedger(m, i+1)
	r := &l.calls[i]
	for n := uint64(1); n <= acked; n++ {
		r.begin(n)
		l.ack(r, m.Event(i, n), n <= synced)
		r.acks[n-1] = time.Duration(n) * time.Second
	}
	if inFlight {
		r.begin(acked + 1)
	}
	return l, r
}

func TestTakeoverCountsWhatAKillCost(t *testing.T) {
	const died = 20 * time.Second
	end := Model{Seed: 5}.End(ending(Model{Seed: 5}, true))
	for _, c := range []struct {
		name          string
		ends          bool
		acked, synced uint64
		inFlight      bool

		n     uint64 // what is found
		found bool
		died  time.Duration

		want Findings
		on   uint64 // where the call goes on from
		over bool
	}{
		{name: "nothing lost", acked: 9, synced: 3, n: 9, found: true, died: died, on: 9},
		{name: "the event in flight was stored", acked: 9, inFlight: true, n: 10, found: true, died: died, on: 9},
		{name: "unsynced events lost", acked: 9, synced: 3, n: 6, found: true, died: died,
			want: Findings{Lost: 3, WorstLoss: 13 * time.Second}, on: 6},
		{name: "a call that was never synced lost", acked: 2, died: died,
			want: Findings{Lost: 2, WorstLoss: 19 * time.Second}, on: 0},
		{name: "synced events lost", acked: 9, synced: 8, n: 5, found: true, died: died,
			want: Findings{Lost: 4, WorstLoss: 14 * time.Second, SyncedLost: 3}, on: 5},
		{name: "a synced call lost", acked: 9, synced: 1, died: died,
			want: Findings{Lost: 9, WorstLoss: 19 * time.Second, SyncedLost: 1, CallsLost: 1}, on: 0},
		{name: "back while its node lived", acked: 9, n: 8, found: true, died: -1, want: Findings{Regressed: 1}, on: 8},
		{name: "never begun", died: died},
		{name: "over, and gone", ends: true, acked: end, synced: end, died: died, on: end, over: true},
		{name: "its end was in flight, and it is gone", ends: true, acked: end - 1, inFlight: true, died: died, on: end - 1, over: true},
		{name: "over, and back", ends: true, acked: end, n: end - 1, found: true, died: died,
			want: Findings{Lost: 1, WorstLoss: died - time.Duration(end)*time.Second}, on: end - 1},
		{name: "over, synced, and back", ends: true, acked: end, synced: end, n: end, found: true, died: died,
			want: Findings{Lost: 1, WorstLoss: died - time.Duration(end)*time.Second, SyncedLost: 1}, on: end - 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, r := ledgerAt(c.ends, c.acked, c.synced, c.inFlight)
			l.takeover(r, c.n, c.found, c.died)
			got := l.Findings()
			broken := got.SyncedLost+got.CallsLost+got.Regressed > 0
			if got.Broken() != broken || broken != (len(got.Problems) > 0) {
				t.Errorf("broken %v, with problems %q", got.Broken(), got.Problems)
			}
			got.Problems = nil
			if got.Lost != c.want.Lost || got.WorstLoss != c.want.WorstLoss || got.SyncedLost != c.want.SyncedLost ||
				got.CallsLost != c.want.CallsLost || got.Regressed != c.want.Regressed {
				t.Errorf("found %+v, want %+v", got, c.want)
			}
			if r.acked != c.on || r.over != c.over || len(r.acks) != int(c.on) || r.synced > r.acked {
				t.Errorf("goes on at %d (synced %d, %d times, over %v), want %d, over %v", r.acked, r.synced, len(r.acks), r.over, c.on, c.over)
			}
		})
	}
}

func TestExactlyAcceptsOneStateOnly(t *testing.T) {
	for _, c := range []struct {
		name   string
		ends   bool
		exists bool
		state  func(m Model, r *record) map[string]Part
		want   func(f Findings) int
	}{
		{"as answered", false, true, func(m Model, r *record) map[string]Part { return m.State(r.i, 9) }, nil},
		{"over, and gone", true, false, nil, nil},
		{"an event short", false, true, func(m Model, r *record) map[string]Part { return m.State(r.i, 8) },
			func(f Findings) int { return f.CleanExitLost }},
		{"gone", false, false, nil, func(f Findings) int { return f.CleanExitLost }},
		{"over, and there", true, true, func(m Model, r *record) map[string]Part { return m.State(r.i, 2) },
			func(f Findings) int { return f.CleanExitLost }},
		{"torn", false, true, func(m Model, r *record) map[string]Part {
			s := m.State(r.i, 9)
			s[Leg1] = m.State(r.i, 3)[Leg1]
			return s
		}, func(f Findings) int { return f.Torn }},
		{"corrupt", false, true, func(m Model, r *record) map[string]Part {
			s := m.State(r.i, 9)
			s[Leg1] = Part{N: 9}
			return s
		}, func(f Findings) int { return f.Corrupt }},
	} {
		t.Run(c.name, func(t *testing.T) {
			acked := uint64(9)
			if c.ends {
				m := Model{Seed: 5}
				acked = m.End(ending(m, true))
			}
			l, r := ledgerAt(c.ends, acked, 0, false)
			var s map[string]Part
			if c.state != nil {
				s = c.state(l.model, r)
			}
			l.exactly(r, s, c.exists, &l.found.CleanExitLost, "here")
			f := l.Findings()
			if f.Broken() != (c.want != nil) {
				t.Fatalf("found %+v", f)
			}
			if c.want != nil && (c.want(f) != 1 || len(f.Problems) != 1 || !strings.Contains(f.Problems[0], r.id)) {
				t.Errorf("found %+v", f)
			}
		})
	}
}

func TestACallIsWrongInOneWay(t *testing.T) {
	l, r := ledgerAt(false, 9, 0, false)
	s := l.model.State(r.i, 9)
	s[Leg1] = l.model.State(r.i, 3)[Leg1]
	l.inspect(r, s, "here")
	for n := uint64(10); n <= 20; n++ { // it goes on from there
		ev := l.model.Event(r.i, n)
		if err := ev.apply(table(s)); err != nil {
			t.Fatal(err)
		}
		r.begin(n)
		l.ack(r, ev, false)
	}
	if v, _ := l.model.judge(r.i, s, r.sent); v != corrupt {
		t.Fatalf("verdict %d: this proves nothing", v)
	}
	l.inspect(r, s, "there")
	if f := l.Findings(); f.Torn != 1 || f.Corrupt != 0 || len(f.Problems) != 1 {
		t.Errorf("a call that was torn, and went on: %+v", f)
	}
}

func TestReport(t *testing.T) {
	r := Report{LongestFlushMS: 50}
	table := func() string {
		var b strings.Builder
		if err := r.Print(&b); err != nil {
			t.Error(err)
		}
		return b.String()
	}
	r.Judge(Findings{Lost: 3, WorstLoss: 90 * time.Millisecond}, 100*time.Millisecond)
	if !r.OK || !r.WithinBound || r.LagBoundMS != 150 || r.EventsLost != 3 {
		t.Errorf("a loss within the bound: %+v", r)
	}
	r.Judge(Findings{Lost: 3, WorstLoss: 900 * time.Millisecond}, 100*time.Millisecond)
	if !r.OK || r.WithinBound || !strings.Contains(table(), "ABOVE THE LAG BOUND") {
		t.Errorf("a loss above the bound is a warning: %+v", r)
	}
	r.Judge(Findings{Lost: 3, WorstLoss: 1100 * time.Millisecond}, 100*time.Millisecond)
	if r.OK || len(r.Problems) != 1 || !strings.Contains(table(), "BROKEN: worst loss") {
		t.Errorf("a loss far above the bound is a broken guarantee: %+v", r)
	}
	r.Judge(Findings{Torn: 1, Problems: []string{"call c1: torn"}}, 100*time.Millisecond)
	if r.OK || !strings.Contains(table(), "MUST BE 0") || !strings.Contains(table(), "BROKEN: call c1: torn") {
		t.Errorf("a torn call is not reported:\n%s", table())
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := Group(n); got != want {
			t.Errorf("Group(%d) = %q, want %q", n, got, want)
		}
	}
	if got := rank([]time.Duration{1e6, 2e6, 3e6, 4e6}, 50); got != 2 {
		t.Errorf("median of 1…4 ms is %v", got)
	}
}
