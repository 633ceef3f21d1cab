package model

import "fmt"

// Invariant is something that must hold in every state, or of every step.
type Invariant uint8

const (
	OneTenure         Invariant = iota + 1 // At most one tenure writes in an epoch.
	EpochGrows                             // The epoch of a new tenure is above all before it, also across delete and re-create.
	FormerOwnerFenced                      // After a claim was granted no write of a former owner lands.
	WholeTransactions                      // What is stored is the state after some prefix of its owner's transactions.
	SyncedStays                            // What was acknowledged as stored stays stored, and an adopter reads it.
	Accounted                              // A write is in memory, to be sent, or in the store, or reported lost, and that once.
	CleanIsStored                          // A session is clean only if the store has its latest state: saved = ver ⇒ stored = in memory.
	LostStaysLost                          // What was reported lost is not stored after that.
	TwinsIdle                              // A change that arrives once more changes nothing.
)

// Invariants returns all of them.
func Invariants() (all []Invariant) {
	for i := OneTenure; i <= TwinsIdle; i++ {
		all = append(all, i)
	}
	return all
}

func (i Invariant) String() string {
	return [...]string{
		"none", "one tenure in an epoch", "the epoch grows", "former owners are fenced", "whole transactions",
		"what is synced stays", "every write is accounted for", "clean is stored", "what is lost stays lost", "twins change nothing",
	}[i]
}

// violation is an invariant that does not hold, and how that showed.
type violation struct {
	invariant Invariant
	detail    string
}

// fail notes the first violation of a step.
func (w *world) fail(i Invariant, format string, args ...any) {
	if w.bad.invariant == 0 && (w.only == 0 || w.only == i) {
		w.bad = violation{i, fmt.Sprintf(format, args...)}
	}
}

// tenure notes that an epoch begins.
func (w *world) tenure(r *record, owner, epoch uint8) {
	switch {
	case epoch > r.high:
		r.high, r.holder = epoch, owner
	case epoch == r.high && owner != r.holder:
		w.fail(OneTenure, "epoch %d is node %s's and was node %s's", epoch, name(owner), name(r.holder))
	default:
		w.fail(EpochGrows, "a new tenure has epoch %d; there was epoch %d before", epoch, r.high)
	}
}

// observeGrant is called before a claim makes m's sender the owner; m has what it read. empty tells that a new life begins.
func (w *world) observeGrant(r *record, m *message, epoch uint8, empty bool) {
	w.tenure(r, m.owner, epoch)
	if empty {
		r.tx, r.floor, m.tx = 0, 0, 0
		return
	}
	if m.tx < r.floor {
		w.fail(SyncedStays, "v%d was acknowledged, and node %s adopts v%d", r.floor, name(m.owner), m.tx)
	}
	r.unseen |= above(m.tx, r.tx)
	r.floor = r.tx
}

// observeChange is called before a change is written.
func (w *world) observeChange(r *record, m *message) {
	mine := m.owner == r.holder && m.epoch == r.high
	switch {
	case mine:
	case m.create && (r.epoch == 0 || m.epoch > r.high):
		w.tenure(r, m.owner, m.epoch)
		r.tx, r.floor = 0, 0
		if r.landed.has(m.tx) {
			w.fail(SyncedStays, "v%d was stored in a life that is over, and comes back", m.tx)
		}
	case m.epoch == r.high:
		w.fail(OneTenure, "node %s writes in epoch %d, which is node %s's", name(m.owner), m.epoch, name(r.holder))
	default:
		w.fail(FormerOwnerFenced, "node %s writes in epoch %d, and epoch %d is granted to node %s", name(m.owner), m.epoch, r.high, name(r.holder))
	}
	if m.tx == 0 {
		return
	}
	if r.lost.has(m.tx) {
		w.fail(LostStaysLost, "v%d was reported lost, and is stored now", m.tx)
	}
	if m.tx < r.floor && !m.twin {
		w.fail(SyncedStays, "v%d was acknowledged, and v%d is stored over it", r.floor, m.tx)
	}
	r.unseen |= above(m.tx, r.tx)
	r.unseen &^= one(m.tx)
	r.landed |= one(m.tx)
	r.tx = m.tx
}

// acknowledge notes that the application is told that tx is stored.
func (w *world) acknowledge(n uint8, f *flight) {
	m := &f.change
	r := &w.records[m.session]
	switch {
	case m.tx == 0 || f.void:
	case !r.landed.has(m.tx):
		w.fail(SyncedStays, "node %s acknowledges v%d, which was never stored", letter(n), m.tx)
	case r.unseen.has(m.tx):
		w.fail(SyncedStays, "node %s acknowledges v%d, which is not stored any more", letter(n), m.tx)
	case m.owner == r.holder && m.epoch == r.high:
		r.floor = max(r.floor, m.tx)
	}
}

// report notes that the application is told that transactions are lost.
func (w *world) report(n, s uint8, txs set) {
	r := &w.records[s]
	if r.lost&txs != 0 {
		w.fail(Accounted, "node %s reports %s lost once more", letter(n), txs&r.lost)
	}
	r.lost |= txs
}

// departed checks that a transaction of which the node keeps nothing is not gone silently.
func (w *world) departed(n, s, tx uint8) {
	if r := &w.records[s]; tx != 0 && !r.landed.has(tx) && !r.lost.has(tx) {
		w.fail(Accounted, "node %s forgets v%d, which is neither stored nor reported lost", letter(n), tx)
	}
}

// inspect checks a state, and forgets what no one can ask about any more.
func (w *world) inspect() {
	for s := range w.Sessions {
		r := &w.records[s]
		whole := pair{r.tx, r.tx}
		if r.deleted || r.epoch == 0 {
			whole = pair{}
		}
		if r.val != whole {
			w.fail(WholeTransactions, "the store has v%d and v%d; it should be v%d", r.val[0], r.val[1], whole[0])
		}
		var known set
		for n := range w.Nodes {
			known |= w.inspectLocal(uint8(n), uint8(s))
		}
		for i := range w.late {
			if m := &w.late[i]; m.kind == change && int(m.session) == s {
				known |= one(m.tx)
			}
		}
		r.landed &= known
		r.unseen &= known
		r.lost &= known
	}
}

// inspectLocal checks a session in a node's memory. It returns the transactions that the node knows.
func (w *world) inspectLocal(n, s uint8) (known set) {
	r, l, f := &w.records[s], &w.nodes[n].sessions[s], &w.nodes[n].flights[s]
	if f.phase != idle {
		known |= one(f.change.tx)
	}
	if !l.live {
		return known
	}
	flying := f.phase != idle && !f.orphan
	if l.tx != 0 && !r.landed.has(l.tx) {
		kept := l.deleted && (l.head || flying && f.change.del)
		if !l.deleted {
			kept = true
			for k := range l.val {
				kept = kept && (l.dirty[k] || flying && f.change.has[k] && f.change.val[k] == l.val[k])
			}
		}
		if !kept {
			w.fail(Accounted, "node %s has v%d neither stored nor marked to be sent", letter(n), l.tx)
		}
	}
	if l.saved < l.ver && !l.queued && !flying {
		w.fail(Accounted, "node %s has something unsaved, and it is in no queue", letter(n))
	}
	// Only differences of these numbers matter.
	l.ver -= l.saved
	if flying {
		f.ver -= l.saved
	} else {
		f.ver = 0
	}
	l.saved = 0
	if l.ver == 0 {
		current := r.epoch == l.epoch && r.owner == w.incarnation(n)
		if l.marked() || current && (r.val != l.val || r.deleted != l.deleted || r.released) {
			w.fail(CleanIsStored, "node %s has v%d as clean, and the store has v%d", letter(n), l.val[0], r.val[0])
		}
		l.tx = 0 // it is accounted for
	}
	return known | one(l.tx)
}
