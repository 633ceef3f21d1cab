package callsim

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Model knows what happens to every call, and so what each must look like.
type Model struct {
	Seed uint64
	Sync int // of 1000 events (Synced) or calls (Always), how many are to wait until they are stored

	Inside bool // calls have what inside.go says
}

// ID returns the name of call i.
func (m Model) ID(i int) string { return fmt.Sprintf("c%05d", i) }

func (m Model) hash(i int, n, what uint64) uint64 {
	return mix(mix(mix(m.Seed^what<<56)+uint64(i)) + n)
}

// What a hash is drawn for.
const (
	forValue = iota + 1
	forEnd
	forSync
	forParties
	forOrder
)

// cycle is what happens to a call once it has been answered.
var cycle = [...]Kind{Media, Hold, Resume, Refresh, Tone}

// Event returns the n-th event of call i, from 1.
func (m Model) Event(i int, n uint64) Event {
	e := Event{N: n, Value: uint32(m.hash(i, n, forValue))}
	switch {
	case n == m.End(i):
		e.Kind = Bye
	case n == 1:
		e.Kind = Invite
		p := m.hash(i, 0, forParties)
		e.From = fmt.Sprintf("sip:+4930%07d@example.net", p%10_000_000)
		e.To = fmt.Sprintf("sip:+4940%07d@example.org", p>>32%10_000_000)
	case n == 2:
		e.Kind = Ringing
	case n == 3:
		e.Kind = Answer
	default:
		e.Kind = cycle[(n-4)%uint64(len(cycle))]
	}
	return e
}

// End returns the number of the event that ends call i, 0 if none does. One call in sixteen ends.
func (m Model) End(i int) uint64 {
	if h := m.hash(i, 0, forEnd); h%16 == 0 {
		return 4 + h>>32%8
	}
	return 0
}

// Synced reports whether the n-th event of call i is to wait until it is stored.
func (m Model) Synced(i int, n uint64) bool {
	return m.hash(i, n, forSync)%1000 < uint64(m.Sync)
}

// Always reports whether call i is of those whose every event is to wait, when the others' never do.
//
// A DB flushes by lanes: a session's is the hash of its ID, modulo their number. A Sync
// may flush more of its lane than it waits for, and so hide how long changes wait by themselves.
// In the order of the reversed hash the calls of a lane are neighbours, however many lanes there are (if it is
// a power of 2). So the first of them share as few lanes as can be: of four lanes one, up to a quarter of the calls.
func (m Model) Always(i int) bool {
	place, _ := bits.Mul64(bits.Reverse64(xxhash.Sum64String(m.ID(i))), 1000)
	return place < uint64(m.Sync)
}

// State returns the entries of call i after its first n events.
func (m Model) State(i int, n uint64) map[string]Part {
	s, t := m.blank(i)
	for k := uint64(1); k <= n; k++ {
		if err := m.Event(i, k).apply(s); err != nil {
			panic(fmt.Sprintf("callsim: the model is wrong: call %d, event %d: %v", i, k, err))
		}
	}
	return t
}

// blank returns call i before its first event, and where its entries will be.
func (m Model) blank(i int) (entries, table) {
	t := table{}
	if m.Inside {
		return &furnished{table: t, id: m.ID(i)}, t
	}
	return t, t
}

// table is a call in a map.
type table map[string]Part

func (t table) get(key string) (Part, error) { return t[key], nil }
func (t table) put(key string, p Part) error { t[key] = p; return nil }
func (t table) remove(key string) error      { delete(t, key); return nil }

// verdict is what is wrong with a state.
type verdict uint8

const (
	whole   verdict = iota
	torn            // each entry is as it once was, but not all at the same time
	corrupt         // an entry is as it never was
	landed          // an entry was written by a tenure that was over
)

// unmarked returns the entries without their marks.
func unmarked(found map[string]Part) map[string]Part {
	plain := make(map[string]Part, len(found))
	for key, p := range found {
		p.By = ""
		plain[key] = p
	}
	return plain
}

// Judge compares the entries of call i with what they must be after the event whose number the
// dialog has. sent is the number of the last event that was ever sent. It returns what is wrong, in words.
func (m Model) judge(i int, found map[string]Part, sent uint64) (verdict, string) {
	found = unmarked(found)
	n := found[Dialog].N
	if n > sent {
		return corrupt, fmt.Sprintf("it has seen event %d, and only %d were sent", n, sent)
	}
	want := m.State(i, n)
	if maps.Equal(found, want) {
		return whole, ""
	}
	v := torn
	var why []string
	history := m.history(i, sent)
	keys := slices.AppendSeq(slices.Collect(maps.Keys(want)), maps.Keys(found))
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		f, isFound := found[key]
		w, isWanted := want[key]
		switch {
		case isFound && !slices.Contains(history[key], f):
			v = corrupt
			why = append(why, fmt.Sprintf("%s is %+v, as it never was", name(key), f))
		case isFound && !isWanted:
			why = append(why, fmt.Sprintf("%s is there, of event %d", name(key), f.N))
		case !isFound && isWanted:
			why = append(why, fmt.Sprintf("%s is missing, of event %d", name(key), w.N))
		case f != w:
			why = append(why, fmt.Sprintf("%s is of event %d, not of %d", name(key), f.N, w.N))
		}
	}
	return v, fmt.Sprintf("after event %d: %s", n, strings.Join(why, "; "))
}

// history returns, for each key, all that the entry ever was up to event n.
func (m Model) history(i int, n uint64) map[string][]Part {
	h := map[string][]Part{}
	s, t := m.blank(i)
	for k := uint64(1); k <= n; k++ {
		if err := m.Event(i, k).apply(s); err != nil {
			break // what was sent by hand after the end
		}
		for key, p := range t {
			if ps := h[key]; len(ps) == 0 || ps[len(ps)-1] != p {
				h[key] = append(ps, p)
			}
		}
	}
	return h
}

func name(key string) string {
	if key == Dialog {
		return "dialog"
	}
	return key
}
