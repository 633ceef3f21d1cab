package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// A checker watches over one guarantee. A violation names it.
type checker string

const (
	oneOwner   checker = "one owner at a time"
	endedEpoch checker = "no write by an ended epoch"
	whole      checker = "every stored state is that after some whole transaction of its owner"
	synced     checker = "synced is never lost"
	told       checker = "every unsaved write is in memory, stored, or was reported lost, once"
	lagBound   checker = "lag is bounded while the store is well"
	linear     checker = "a session's reads and writes are linear under its owner"
	leased     checker = "a strict node does not serve what another has adopted"
	bounded    checker = "the buffer keeps its bound"
	closes     checker = "Close leaves nothing behind"
	hooked     checker = "each change is told once, and adds up with the one before it"
)

// A Violation is what a checker found.
type Violation struct {
	Checker string
	What    string
	Step    int // after which; counted from 1
}

func (v *Violation) Error() string {
	return fmt.Sprintf("after step %d: broken: %s: %s", v.Step, v.Checker, v.What)
}

// tenure is what a session should be under one owner, as its clients know. There is one client per node and session,
// which asks for one thing after the other: so at most one change is in doubt, the last.
//
//	states[0] is what the owner found; states[i] what the i-th change made of it
//	low ≤ high: the last change that the store has had is one of those that states[low…high] tell apart
type tenure struct {
	n       *node
	id      string
	epoch   uint64 // 0: it was created here, and the store has not heard of it
	granted time.Time

	states    []state
	unsure    bool // whether the last state was ever in memory is not known
	low, high int  // -1: nothing is stored
	buried    bool // the store has a tombstone of it

	crowd *crowd // transactions that run at once

	seen map[string]bool // the values that the store had from this tenure
	own  map[string]bool // the values that were put in it

	stray *state // what the store has had, and was not made
}

// crowd are transactions on one session at once. Each raises a count in two entries.
type crowd struct {
	base state
	from int
	had  []state // what the store has had meanwhile
}

const crowdKey, crowdTwin = "crowd", "crowd twin"

// fits reports whether s is a state between two of the crowd's transactions.
func (w *crowd) fits(s state, now time.Time) bool {
	s, base := s.view(now), w.base.view(now)
	n, twin := s.cells[crowdKey], s.cells[crowdTwin]
	delete(s.cells, crowdKey)
	delete(s.cells, crowdTwin)
	delete(base.cells, crowdKey)
	delete(base.cells, crowdTwin)
	return s.equal(base) && n == twin && count(n.v) >= w.from
}

// count is the number that a crowd's value tells.
func count(v string) (n int) {
	fmt.Sscanf(v, "n%d.", &n)
	return n
}

func (t *tenure) last() state { return t.states[len(t.states)-1] }

// before is the state before the one in doubt.
func (t *tenure) before() state { return t.states[max(len(t.states)-2, 0)] }

// try adds a state that may come to be. settle says what became of it.
func (t *tenure) try(s state) {
	t.states = append(t.states, s)
	t.unsure = true
}

func (t *tenure) settle(made bool) {
	if t.unsure && !made {
		n := len(t.states) - 1
		s := t.states[n]
		t.states = t.states[:n]
		if t.high >= n { // the store has had it; or one before it that is the same
			t.high = t.low
			for i := max(t.low, 0); i < n; i++ {
				if t.states[i].same(s, time.Now()) {
					t.high = i
				}
			}
			if t.low >= n {
				t.stray, t.low, t.high = &s, n-1, n-1
			}
		}
	}
	t.unsure = false
}

// note finds which of its states the store has now; false if it is none.
func (t *tenure) note(s state, now time.Time) bool {
	for i := len(t.states) - 1; i >= max(t.low, 0); i-- {
		if t.states[i].same(s, now) {
			t.high = max(t.high, i)
			for j := max(t.low, 0); j <= i; j++ {
				if t.states[j].same(s, now) {
					t.low = j
					return true
				}
			}
		}
	}
	if t.crowd != nil && t.crowd.fits(s, now) {
		t.crowd.had = append(t.crowd.had, s)
		return true
	}
	return false
}

// holds reports whether the store has had the i-th state or a later one, or one that cannot be told from these: what was made
// and unmade between two flushes is not written.
func (t *tenure) holds(i int, now time.Time) bool {
	if t.high >= i {
		return true
	}
	var has state
	if t.high >= 0 {
		has = t.states[t.high]
	}
	return slices.ContainsFunc(t.states[i:], func(s state) bool { return s.same(has, now) }) || t.lags(i, now)
}

// ranOut reports whether what was put last in an entry expired in memory, and was reported lost.
func (t *tenure) ranOut(key string, now time.Time) bool {
	for i := len(t.states) - 1; i > max(t.high, 0); i-- {
		if c, there := t.states[i].cells[key]; there {
			return c.until.Past(now) && t.n.told[t.id+"/"+key+"="+c.v] > 0
		}
	}
	return false
}

// grant is a claim that the store has granted.
type grant struct {
	t      *tenure
	at     time.Time
	forced bool

	created bool
}

type tenureKey struct {
	of    store.Incarnation
	id    string
	epoch uint64
}

// granted hears of each claim that was granted, at the instant.
func (c *cluster) granted(r store.ClaimRequest, before, after store.Header, created bool, s state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := tenureKey{r.Owner.Incarnation, r.Session, after.Epoch}
	n := c.byIncarnation[r.Owner.Incarnation]
	d := n.desk(r.Session)
	if t := c.tenures[k]; t != nil {
		d.tries(t) // its answer was lost, or came too late
		return
	}
	now := time.Now()
	s.at = now
	t := &tenure{n: n, id: r.Session, epoch: after.Epoch, granted: now, states: []state{s}, seen: map[string]bool{}, own: map[string]bool{}}
	c.tenures[k] = t
	c.grants[r.Session] = append(c.grants[r.Session], grant{t, now, r.Force, created})
	if before.Exists() && before.Owner.Incarnation != r.Owner.Incarnation {
		c.count.handOffs.Add(1)
	}
	c.logf("        the store grants %s to %s: epoch %d over %d, %v", r.Session, r.Owner.Node, after.Epoch, before.Epoch, s)
	d.t = t
	d.tries(t)
}

// stored hears of each change that was applied, at the instant. mine tells that the store had this tenure before.
func (c *cluster) stored(ch store.Change, mine bool, s state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := tenureKey{ch.Owner.Incarnation, ch.Session, ch.Epoch}
	t := c.tenures[k]
	now := time.Now()
	n := c.byIncarnation[ch.Owner.Incarnation]
	c.logf("        the store takes change %d of epoch %d of %s from %s: %v", ch.Seq, ch.Epoch, ch.Session, ch.Owner.Node, s)
	if t == nil {
		d := n.desk(ch.Session)
		if t = d.next(ch.Epoch); t == nil {
			t = d.fresh
		}
		if t == nil && ch.Delete { // a sweep: truth has seen that the session was gone
			t = &tenure{n: n, id: ch.Session, states: []state{{}}, low: -1, high: -1, seen: map[string]bool{}, own: map[string]bool{}}
			d = nil
		}
		if t == nil {
			c.failLocked(endedEpoch, "change %d of epoch %d of %s by %s was applied, and that tenure never began", ch.Seq, ch.Epoch, ch.Session, ch.Owner.Node)
			return
		}
		if d != nil {
			d.fresh, d.t = nil, t
		}
		t.epoch, t.granted = ch.Epoch, now
		c.tenures[k] = t
		c.grants[ch.Session] = append(c.grants[ch.Session], grant{t, now, false, true})
	}
	for _, e := range ch.Puts {
		t.seen[string(e.Value)] = true
	}
	t.buried = !s.exists
	if !t.note(s, now) && !((n.desk(ch.Session).late(t, s, now) || t.ends(s.expires, now)) && t.note(s, now)) {
		c.failLocked(whole, "node %s, %s in epoch %d: the store has %v; since what it had before, the session was %v", n.name, ch.Session, ch.Epoch, s, t.states[max(t.low, 0):])
	}
}
