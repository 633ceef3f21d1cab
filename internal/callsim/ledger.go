package callsim

import (
	"fmt"
	"sync"
	"time"
)

// Ledger is what the network was promised, call by call, and what was found to be broken.
type Ledger struct {
	model Model
	start time.Time
	calls []record

	mu     sync.Mutex
	found  Findings
	seized map[int]int // calls that went back when another node adopted them from one that lived, by that one
}

// record is one call in the ledger. It belongs to one goroutine at a time.
//
//	synced ≤ acked ≤ sent ≤ acked+1
type record struct {
	i      int
	id     string
	sent   uint64          // the last event that was sent, answered or not
	acked  uint64          // the last that was answered
	synced uint64          // the last that was answered after it was stored
	acks   []time.Duration // acks[n-1] is when event n was answered, since the ledger's start
	over   bool            // the call's end was answered
	node   int             // who answered last
	wrong  verdict         // the first that was not whole

	tenures []tenure // who was heard of as its owner
	struck  bool     // it was adopted while its node was suspended
}

// Findings is what a Ledger found. All but the losses within the lag must be zero.
type Findings struct {
	Lost      int           // events that were answered, not synced, and lost in a kill
	WorstLoss time.Duration // the age of the oldest of them, when the node died

	SyncedLost    int // events that were answered after they were stored, and lost
	CallsLost     int // calls that were ever synced, and are gone
	Torn          int // calls with entries of different events
	Corrupt       int // calls with entries that never were so
	Regressed     int // calls that went back although their node lived
	CleanExitLost int // calls that are not exactly as answered after a clean exit
	ZombieLanded  int // calls in which a late write shows, of a tenure that was over

	Problems []string // the first few, in words
}

// Broken reports whether a guarantee was broken, other than the bound of the loss.
func (f *Findings) Broken() bool {
	return f.SyncedLost+f.CallsLost+f.Torn+f.Corrupt+f.Regressed+f.CleanExitLost+f.ZombieLanded > 0
}

// maxProblems bounds what is told in words: the first ones matter.
const maxProblems = 20

// NewLedger returns the ledger of a number of calls that have not begun.
func NewLedger(m Model, calls int) *Ledger {
	l := &Ledger{model: m, start: time.Now(), calls: make([]record, calls), seized: map[int]int{}}
	for i := range l.calls {
		l.calls[i].i, l.calls[i].id = i, m.ID(i)
	}
	return l
}

// Findings returns what was found so far.
func (l *Ledger) Findings() Findings {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.found
	f.Problems = append([]string(nil), f.Problems...)
	return f
}

// Now returns the ledger's time.
func (l *Ledger) now() time.Duration { return time.Since(l.start) }

// note counts a finding, and says it.
func (l *Ledger) note(count *int, n int, r *record, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*count += n
	if len(l.found.Problems) < maxProblems {
		l.found.Problems = append(l.found.Problems, fmt.Sprintf("call %s: ", r.id)+fmt.Sprintf(format, args...))
	}
}

// begin notes that event n is about to be sent.
func (r *record) begin(n uint64) { r.sent = max(r.sent, n) }

// ack notes that event n was answered.
func (l *Ledger) ack(r *record, ev Event, synced bool) {
	r.acked = ev.N
	r.acks = append(r.acks[:ev.N-1], l.now())
	if synced {
		r.synced = ev.N
	}
	r.over = ev.Kind == Bye
}

// inspect looks for what no state of a call may ever show. A call counts once, as what it was found to be
// first: the events after that build on it, and the sums of a call that was torn end as they never were.
func (l *Ledger) inspect(r *record, found map[string]Part, where string) {
	if r.wrong != whole {
		return
	}
	if why := r.late(found); why != "" {
		l.land(r, where, why)
		return
	}
	v, why := l.model.judge(r.i, found, r.sent)
	r.wrong = v
	switch v {
	case torn:
		l.note(&l.found.Torn, 1, r, "torn, %s: %s", where, why)
	case corrupt:
		l.note(&l.found.Corrupt, 1, r, "corrupt, %s: %s", where, why)
	}
}

// takeover judges how far a call had come that another node took over, and goes on from there. found is
// false if there was no call. died is when its node was killed or suspended, or says that it lives: see lives.
func (l *Ledger) takeover(r *record, n uint64, found bool, died time.Duration) {
	end := l.model.End(r.i)
	ending := end > 0 && r.sent >= end // its end was sent: to be gone is right
	back := r.acked                    // the last event that is not lost
	undone := r.over && found          // it was over, and is back
	switch {
	case !found && ending:
		r.over = true
	case !found:
		if r.synced > 0 {
			l.note(&l.found.CallsLost, 1, r, "gone: it was synced at event %d of %d", r.synced, r.acked)
		}
		back = 0
	case undone:
		back = min(n, end-1)
	default:
		back = min(n, r.acked)
	}
	if back == r.acked {
		return
	}
	if back < r.synced {
		l.note(&l.found.SyncedLost, int(r.synced-back), r, "back at event %d: %d was synced", back, r.synced)
	}
	switch died {
	case lives:
		l.note(&l.found.Regressed, 1, r, "back at event %d of %d, and nobody had died", back, r.acked)
	case adopted:
		l.mu.Lock()
		l.seized[r.node]++
		l.mu.Unlock()
	default:
		l.mu.Lock()
		l.found.Lost += int(r.acked - back)
		l.found.WorstLoss = max(l.found.WorstLoss, died-r.acks[back])
		l.mu.Unlock()
	}
	r.acked, r.acks = back, r.acks[:back]
	r.synced = min(r.synced, back)
	r.over = false
}

// What takeover is told instead of a time.
const (
	lives   time.Duration = -1 // nobody died
	adopted time.Duration = -2 // nobody died, as far as is known, but another node adopted the call: see Excuse
)

// Excuse judges the calls that went back when others adopted them from node i, which lived: if its lease had been over, by the
// store's word, it was slow or cut off, and what it had not stored is lost as in a kill. Else nobody had a right to
// adopt them. It returns how many calls those were.
func (l *Ledger) Excuse(i int, lapsed bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.seized[i]
	if n > 0 && !lapsed {
		l.found.Regressed += n
		l.found.Problems = append(l.found.Problems, fmt.Sprintf("%d calls went back: others adopted them from a node whose lease ran", n))
	}
	return n
}

// exactly judges a call that must be just as it was answered: nothing was lost, nothing is under way.
func (l *Ledger) exactly(r *record, found map[string]Part, exists bool, count *int, where string) {
	if !exists {
		if !r.over && r.acked > 0 {
			l.note(count, 1, r, "gone, %s: it was at event %d", where, r.acked)
		}
		return
	}
	l.inspect(r, found, where)
	switch n := found[Dialog].N; {
	case r.over:
		l.note(count, 1, r, "there, %s, at event %d: it was over", where, n)
	case n != r.acked:
		l.note(count, 1, r, "at event %d, %s: it was at %d", n, where, r.acked)
	}
}

// Live returns how many calls have begun and not ended.
func (l *Ledger) Live() (n int) {
	for i := range l.calls {
		if r := &l.calls[i]; r.acked > 0 && !r.over {
			n++
		}
	}
	return n
}
