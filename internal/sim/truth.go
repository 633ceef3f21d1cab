package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// truth is the store behind all lines, and what became of each session in it. It sees each call at the instant in which the
// store decides it, whoever hears of the answer, and judges what was decided by rules of its own.
type truth struct {
	c  *cluster
	st store.Store

	mu sync.Mutex // a call and the look at what it did are one step
}

func (tr *truth) header(id string) store.Header {
	snap, err := tr.st.Load(context.Background(), id)
	if err != nil {
		panic(err) // the reference store does not fail
	}
	return snap.Header
}

// look returns what the store has of a session now.
func (tr *truth) look(id string) (store.Header, state) {
	snap, err := tr.st.Load(context.Background(), id)
	if err != nil {
		panic(err)
	}
	s := state{exists: snap.Header.Exists(), expires: snap.Header.Expires, cells: map[string]cell{}}
	if s.exists {
		for _, e := range snap.Entries {
			s.cells[e.Key] = cell{string(e.Value), e.Expires}
		}
		for _, a := range snap.Header.Aliases {
			s.cells[markKey+a] = cell{v: isMarked}
		}
	}
	return snap.Header, s
}

func (tr *truth) claim(r store.ClaimRequest) (store.Claim, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	before := tr.header(r.Session)
	c, err := tr.st.Claim(context.Background(), r)
	if tr.c.plan.Setup.Sabotage == "two owners" && c.Outcome == store.Held { // granted, and not written
		c.Outcome, c.Header.Owner, c.Header.Epoch = store.Granted, r.Owner, c.Header.Epoch+1
	}
	if err != nil || c.Outcome != store.Granted {
		return c, err
	}
	after, s := tr.look(r.Session)
	switch same := after.HeldBy(r.Owner, before.Epoch); {
	case after.Owner.Incarnation != r.Owner.Incarnation || c.Header.Epoch != after.Epoch:
		tr.c.fail(oneOwner, "a claim of %s by %s was granted, and the store has %v", r.Session, r.Owner.Node, after)
	case after.Epoch < before.Epoch || after.Epoch == before.Epoch && !same:
		tr.c.fail(oneOwner, "a claim of %s by %s was granted epoch %d over epoch %d", r.Session, r.Owner.Node, after.Epoch, before.Epoch)
	}
	tr.c.granted(r, before, after, c.Created, s)
	return c, nil
}

func (tr *truth) apply(changes []store.Change) ([]store.Result, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	results := make([]store.Result, len(changes))
	for i, ch := range changes {
		before := tr.header(ch.Session)
		rs, err := tr.decide(ch)
		if err != nil {
			return nil, err
		}
		results[i] = rs[0]
		after, s := tr.look(ch.Session)
		if rs[0].Outcome != store.Applied {
			if rs[0].Outcome == store.Fenced {
				tr.c.count.fenced.Add(1)
			}
			if after.Epoch != before.Epoch || after.Seq != before.Seq {
				tr.c.fail(endedEpoch, "change %d of epoch %d of %s was %v, and changed the store from %v to %v", ch.Seq, ch.Epoch, ch.Session, rs[0].Outcome, before, after)
			}
			continue
		}
		mine := before.HeldBy(ch.Owner, ch.Epoch)
		switch {
		case mine && before.Seq >= ch.Seq:
			tr.c.fail(endedEpoch, "change %d of epoch %d of %s was applied after change %d", ch.Seq, ch.Epoch, ch.Session, before.Seq)
		case !mine && !(ch.Create && ch.Epoch > before.Epoch && before.Gone(time.Now())):
			tr.c.fail(endedEpoch, "change %d of epoch %d of %s by %s was applied over epoch %d of %s", ch.Seq, ch.Epoch, ch.Session,
				ch.Owner.Node, before.Epoch, before.Owner.Node)
		}
		tr.c.stored(ch, mine, s)
	}
	return results, nil
}

// decide has the store decide one change, unless it is sabotaged.
func (tr *truth) decide(ch store.Change) ([]store.Result, error) {
	switch before := tr.header(ch.Session); tr.c.plan.Setup.Sabotage {
	case "no fence": // the epoch is not looked at
		if before.Exists() && !before.HeldBy(ch.Owner, ch.Epoch) {
			ch.Owner, ch.Epoch, ch.Seq = before.Owner, before.Epoch, before.Seq+1
		}
	case "no seq": // a late twin is done again
		if before.Exists() && before.HeldBy(ch.Owner, ch.Epoch) && ch.Seq <= before.Seq {
			ch.Seq = before.Seq + 1
		}
	case "torn": // one of several entries is forgotten
		if len(ch.Puts) > 1 {
			ch.Puts = ch.Puts[1:]
		}
	case "forgotten": // acknowledged, and not done
		if len(ch.Puts) == 1 && before.HeldBy(ch.Owner, ch.Epoch) {
			return []store.Result{{Outcome: store.Applied}}, nil
		}
	case "forgotten end": // likewise, where nothing but the end has changed
		if len(ch.Puts)+len(ch.Deletes) == 0 && !ch.Create && !ch.Delete && !ch.Release && ch.Expires > before.Expires && before.HeldBy(ch.Owner, ch.Epoch) {
			return []store.Result{{Outcome: store.Applied}}, nil
		}
	}
	return tr.st.Apply(context.Background(), []store.Change{ch})
}

func (tr *truth) load(id string, keys []string) (store.Snapshot, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	snap, err := tr.st.Load(context.Background(), id, keys...)
	if tr.c.plan.Setup.Sabotage == "stale load" {
		snap.Entries = nil
	}
	return snap, err
}

func (tr *truth) live(n store.Node, ttl time.Duration) (bool, error) {
	if tr.c.plan.Setup.Sabotage == "no lease" { // the store says so, and does not keep it
		return true, nil
	}
	return tr.st.KeepAlive(context.Background(), n, ttl)
}

// lapse ends the leases of a node's incarnations, as if the store's clock had run ahead. No node knows.
func (tr *truth) lapse(node string) {
	ns, _ := tr.st.Nodes(context.Background())
	for _, n := range ns {
		if n.Name == node {
			tr.st.KeepAlive(context.Background(), n, 0)
		}
	}
}

// cell is an entry's value, and when it expires.
type cell struct {
	v     string
	until store.Time
}

// state is a session at one time. It is never changed: with and born make another.
type state struct {
	exists  bool
	cells   map[string]cell
	expires store.Time
	at      time.Time // when the owner had it in memory

	open time.Duration // not 0: the end may be at most this long after now; see tenure.ends
	slid time.Duration // not 0: a touch has made it of the state before, and this is the idle time
}

// view is the state as one sees it at now: without what has expired.
func (s state) view(now time.Time) state {
	if !s.exists || s.expires.Past(now) {
		return state{}
	}
	v := state{exists: true, expires: s.expires, cells: map[string]cell{}}
	for k, c := range s.cells {
		if !c.until.Past(now) {
			v.cells[k] = c
		}
	}
	return v
}

func (s state) equal(o state) bool {
	return s.exists == o.exists && s.expires == o.expires && maps.Equal(s.cells, o.cells)
}

// same reports whether one cannot tell s and o apart at now.
func (s state) same(o state, now time.Time) bool { return s.view(now).equal(o.view(now)) }

// with is the state after writes; a cell with no value deletes. An absent session is born by it.
func (s state) with(writes map[string]cell, now time.Time) state {
	n := s.view(now)
	n.exists, n.at = true, now
	n.cells = maps.Clone(n.cells)
	if n.cells == nil {
		n.cells = map[string]cell{}
	}
	for k, c := range writes {
		if c.v == "" {
			delete(n.cells, k)
		} else {
			n.cells[k] = c
		}
	}
	return n
}

func (s state) String() string {
	if !s.exists {
		return "absent"
	}
	str := "{"
	for _, k := range slices.Sorted(maps.Keys(s.cells)) {
		str += fmt.Sprintf("%q:%s", k, strings.TrimRight(s.cells[k].v, "~"))
		if u := s.cells[k].until; u != 0 {
			str += fmt.Sprintf(" until %v", u.Std().Format("05.000"))
		}
		str += " "
	}
	if s.expires != 0 {
		str += fmt.Sprintf("expires %v", s.expires.Std().Format("05.000"))
	}
	return str + "}"
}
