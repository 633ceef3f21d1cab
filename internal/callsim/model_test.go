package callsim

import (
	"maps"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// ending returns a call that ends, or one that does not.
func ending(m Model, ends bool) int {
	for i := 0; ; i++ {
		if (m.End(i) > 0) == ends {
			return i
		}
	}
}

func TestModelGivesEveryCallALife(t *testing.T) {
	m := Model{Seed: 7, Sync: 100}
	ends, synced, events := 0, 0, 0
	for i := range 500 {
		last := uint64(40)
		if end := m.End(i); end > 0 {
			last = end
			ends++
		}
		for n := uint64(1); n <= last; n++ {
			s := m.State(i, n)
			if got := s[Dialog].N; got != n {
				t.Fatalf("call %d after %d events: its dialog has number %d", i, n, got)
			}
			if first, second := m.Event(i, n), m.Event(i, n); first != second {
				t.Fatalf("call %d: event %d is not always the same", i, n)
			}
			events++
			if m.Synced(i, n) {
				synced++
			}
		}
		if m.End(i) > 0 {
			if s := m.State(i, last); len(s) != 1 || s[Dialog].State != ended {
				t.Fatalf("call %d after its end: %+v", i, s)
			}
		}
	}
	if ends < 15 || ends > 60 {
		t.Errorf("%d of 500 calls end, one in sixteen is meant", ends)
	}
	if share := float64(synced) / float64(events); share < 0.08 || share > 0.12 {
		t.Errorf("%.3f of the events are synced, 0.1 is meant", share)
	}
	if maps.Equal(m.State(1, 5), m.State(2, 5)) || maps.Equal(m.State(1, 5), Model{Seed: 8}.State(1, 5)) {
		t.Error("two calls, or two seeds, give the same call")
	}
}

func TestCallsThatAreAlwaysSyncedLeaveLanesAlone(t *testing.T) {
	const calls = 10_000
	for share, most := range map[int]int{0: 0, 1: 1, 20: 1, 240: 1, 490: 2, 740: 3, 1000: 4} {
		m := Model{Sync: share}
		lanes, always := map[uint64]bool{}, 0
		for i := range calls {
			if m.Always(i) {
				lanes[xxhash.Sum64String(m.ID(i))%4] = true
				always++
			}
		}
		if got, want := always*1000/calls, share; got < want*9/10 || got > want*11/10+1 {
			t.Errorf("%d of 1000 calls are always synced, %d are meant", got, want)
		}
		if len(lanes) != most {
			t.Errorf("%d of 1000 calls are in %d of 4 lanes, want %d", share, len(lanes), most)
		}
	}
}

func TestJudgeSeesWhatIsWrong(t *testing.T) {
	m := Model{Seed: 3}
	i := ending(m, false)
	const sent = 12
	for n := uint64(0); n <= sent; n++ {
		check := func(what string, want verdict, change func(s map[string]Part)) {
			t.Helper()
			s := m.State(i, n)
			change(s)
			if got, why := m.judge(i, s, sent); got != want {
				t.Errorf("after event %d, %s: verdict %d (%s), want %d", n, what, got, why, want)
			}
		}
		check("as it should be", whole, func(map[string]Part) {})
		if n < 2 {
			continue
		}
		for key := range m.State(i, n) {
			check("missing "+name(key), torn, func(s map[string]Part) { delete(s, key) })
			check("wrong sum in "+name(key), corrupt, func(s map[string]Part) { p := s[key]; p.Sum++; s[key] = p })
			check("wrong state in "+name(key), corrupt, func(s map[string]Part) { p := s[key]; p.State = "x"; s[key] = p })
		}
		check("an unknown entry", corrupt, func(s map[string]Part) { s["leg/3"] = s[Leg1] })
		old := m.State(i, n-1)
		for key, p := range m.State(i, n) {
			was, ok := old[key]
			if !ok || was == p || key == Dialog {
				continue
			}
			check("older "+name(key), torn, func(s map[string]Part) { s[key] = was })
		}
		if next := m.State(i, n+1); n < sent && next[Leg2] != m.State(i, n)[Leg2] {
			check("newer leg/2", torn, func(s map[string]Part) { s[Leg2] = next[Leg2] })
		}
		for key, p := range old {
			if _, ok := m.State(i, n)[key]; !ok {
				check(name(key)+" that was deleted", torn, func(s map[string]Part) { s[key] = p })
			}
		}
	}
	if v, _ := m.judge(i, m.State(i, 9), 8); v != corrupt {
		t.Error("an event that was never sent is not noticed")
	}
	if v, _ := m.judge(i, map[string]Part{}, 0); v != whole {
		t.Error("a call that was created, and has had no event, is whole")
	}
}

func TestEventsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, c := range []struct {
		in   []Kind
		then Kind
	}{
		{nil, Media},
		{[]Kind{Invite}, Invite},
		{[]Kind{Invite}, Hold},
		{[]Kind{Invite, Answer, Hold}, Hold},
		{[]Kind{Invite, Bye}, Media},
		{nil, "dance"},
	} {
		s := table{}
		for k, kind := range c.in {
			if err := (Event{N: uint64(k + 1), Kind: kind}).apply(s); err != nil {
				t.Fatalf("%v: %v", c.in, err)
			}
		}
		before := maps.Clone(s)
		err := Event{N: 9, Kind: c.then}.apply(s)
		if _, ok := err.(refusal); !ok {
			t.Errorf("%q after %v: error %v, want a refusal", c.then, c.in, err)
		}
		if !maps.Equal(s, before) {
			t.Errorf("%q after %v: it was refused, and changed the call", c.then, c.in)
		}
	}
}
