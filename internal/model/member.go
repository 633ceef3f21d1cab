package model

import "github.com/seed-6f1f505d/kvstore/store"

// This file is the node: what commit.go, flush.go, settle.go and adopt.go do to one session, less values, bytes, budgets
// and time. Where a name is the same, so is what it stands for.

// create makes a session without asking the store, or revives one that was deleted here, and puts the first
// values.
func (w *world) create(n, s uint8) bool {
	l := &w.nodes[n].sessions[s]
	if l.live && (!l.deleted || l.release) || !l.live && w.nodes[n].asks[s].phase != idle || !w.transact(s) {
		return false
	}
	if !l.live {
		if r := &w.records[s]; w.nodes[n].astray && r.exists() && !r.released && r.owner == w.incarnation(n) {
			w.made[s]-- // it is here already: a claim whose answer was lost
			w.adopt(n, s, r.epoch, r.val)
			return true
		}
		*l = local{live: true, epoch: 1, creating: true, deleted: true}
	}
	w.end(n, s)
	l.deleted = false
	w.put(n, s)
	return true
}

func (w *world) write(n, s uint8) bool {
	l := &w.nodes[n].sessions[s]
	if !l.live || l.deleted || l.release || !w.transact(s) {
		return false
	}
	w.put(n, s)
	return true
}

// put writes both keys in one transaction.
func (w *world) put(n, s uint8) {
	l, tx := &w.nodes[n].sessions[s], w.made[s]
	l.ver++
	l.tx, l.val, l.dirty, l.queued = tx, pair{tx, tx}, [keys]bool{true, true}, true
}

func (w *world) del(n, s uint8) bool {
	l := &w.nodes[n].sessions[s]
	if !l.live || l.deleted || l.release || !w.transact(s) {
		return false
	}
	w.end(n, s)
	l.ver++
	l.tx, l.died, l.deleted, l.queued = w.made[s], w.made[s], true, true
	return true
}

// end ends the life of a session: what it had goes, and what is in flight is not merged back.
func (w *world) end(n, s uint8) {
	l := &w.nodes[n].sessions[s]
	l.val, l.dirty = pair{}, [keys]bool{}
	l.wipe, l.head = true, true
	if f := &w.nodes[n].flights[s]; f.phase != idle && !f.orphan {
		f.past = true
	}
}

// transact counts a transaction.
func (w *world) transact(s uint8) bool {
	if int(w.made[s]) == w.Transactions {
		return false
	}
	w.made[s]++
	return true
}

// handOver begins a release, keep takes it back.
func (w *world) handOver(n, s uint8) bool {
	l := &w.nodes[n].sessions[s]
	if !l.live || l.deleted || l.release || w.releases == 0 {
		return false
	}
	w.releases--
	l.release = true
	l.headAgain()
	return true
}

func (w *world) keep(n, s uint8) bool {
	l := &w.nodes[n].sessions[s]
	if !l.live || !l.release {
		return false
	}
	l.release = false
	l.headAgain()
	return true
}

func (l *local) headAgain() {
	l.ver++
	l.head, l.queued = true, true
}

// flush sends one batch, of the sessions in which.
func (w *world) flush(n uint8, which uint8) bool {
	for s := range w.Sessions {
		if w.nodes[n].flights[s].phase != idle {
			return false // one batch at a time
		}
		if l := &w.nodes[n].sessions[s]; which>>s&1 != 0 && !(l.live && l.queued) {
			return false
		}
	}
	for s := range w.Sessions {
		if which>>s&1 != 0 {
			w.collect(n, uint8(s))
		}
	}
	return true
}

func (w *world) collect(n, s uint8) {
	l, f := &w.nodes[n].sessions[s], &w.nodes[n].flights[s]
	*f = flight{phase: sent, ver: l.ver, head: l.head}
	m := message{kind: change, session: s, owner: w.incarnation(n), epoch: l.epoch, tx: l.tx}
	l.queued = false
	if l.tomb && !l.deleted && !l.creating && w.bug != SameEpochAfterDeath {
		w.nodes[n].seq++
		m.seq, m.tx, m.create, m.del = w.nodes[n].seq, l.died, true, true // as bury does
		f.ver, f.head, f.change = l.saved, false, m
		return
	}
	m.has, m.val = l.dirty, l.val
	for k := range m.val {
		if !m.has[k] {
			m.val[k] = 0
		}
	}
	switch {
	case w.bug == ReleaseUnflushed && l.release:
		m.has, m.val, m.tx = [keys]bool{}, pair{}, 0
	case w.bug == TornFlush && l.marked():
		m.has[1], m.val[1] = false, 0
		l.dirty[0], l.queued, f.ver = false, true, l.saved
	default:
		l.dirty = [keys]bool{}
	}
	l.head = false
	if w.bug == ReuseSeq && l.retry != 0 {
		m.seq = l.retry
	} else {
		w.nodes[n].seq++
		m.seq = w.nodes[n].seq
	}
	l.retry = 0
	if l.deleted && l.creating && !l.blind {
		f.void = true
	} else {
		l.tomb = l.tomb || l.deleted
	}
	m.create, m.wipe, m.del, m.release = l.creating || l.tomb, l.wipe, l.deleted, l.release
	if l.creating {
		if l.birth == 0 {
			l.birth = m.seq
		}
		m.birth = l.birth
		if w.bug == NoBirth {
			m.birth = 0
		}
	}
	l.wipe = false
	f.change = m
	if f.void || !(f.head || m.create || m.wipe || m.del || m.has[0] || m.has[1]) {
		if f.void {
			w.records[s].landed |= one(m.tx) // there is nothing that could be stored
		}
		f.phase, f.outcome = judged, store.Applied
	}
}

// deliver has the store do a node's part of a batch. With twin it arrives once more, some day.
func (w *world) deliver(n, s uint8, twin bool) bool {
	f := &w.nodes[n].flights[s]
	if f.phase != sent || twin && (w.twins == 0 || !w.room(1, w.Bounds)) {
		return false
	}
	o, done := w.apply(&f.change)
	if !done {
		return !twin
	}
	f.change.checked = false
	if twin {
		w.again(f.change, o)
	}
	f.phase, f.outcome = judged, o
	if o == store.Fenced {
		r := &w.records[s]
		f.epoch, f.seq, f.owner, f.exists = r.epoch, r.seq, r.owner, r.exists()
	}
	return true
}

// again leaves a message on its way that was delivered just now.
func (w *world) again(m message, o store.Outcome) {
	w.twins--
	m.checked, m.twin = false, o == store.Applied || o == store.Already
	w.leave(m)
}

// deliverLate has the store do a call for which nobody waits.
func (w *world) deliverLate(i uint8, twin bool) bool {
	m := w.late[i]
	if m.kind == none || twin && (w.twins == 0 || m.kind == claim) {
		return false
	}
	done, o := false, store.Undecided
	if m.kind == claim {
		_, done = w.grant(&m, false)
	} else {
		o, done = w.apply(&m)
	}
	if !done {
		w.late[i] = m
		w.sort()
		return !twin
	}
	w.late[i] = message{}
	w.sort()
	if twin {
		w.again(m, o)
	}
	return true
}

// answer brings the store's answer to a whole batch.
func (w *world) answer(n uint8) bool {
	any := false
	for s := range w.Sessions {
		switch w.nodes[n].flights[s].phase {
		case sent:
			return false
		case judged:
			any = true
		}
	}
	if any {
		w.settleAll(n)
	}
	return any
}

// timeout ends a batch without an answer, or, if partly, with one that says nothing of the parts that the store has not
// done. These may be done later.
func (w *world) timeout(n uint8, partly bool) bool {
	out, in := 0, 0
	for s := range w.Sessions {
		switch f := &w.nodes[n].flights[s]; {
		case f.phase == sent:
			out++
		case f.phase == judged && w.sentOff(f):
			in++
		}
	}
	if out+in == 0 || partly && (out == 0 || in == 0) || w.timeouts == 0 || !w.room(out, w.Bounds) {
		return false
	}
	w.timeouts--
	for s := range w.Sessions {
		f := &w.nodes[n].flights[s]
		if f.phase == sent {
			w.leave(f.change)
		}
		if f.phase == sent || f.phase == judged && !partly && w.sentOff(f) {
			f.phase, f.outcome = judged, store.Undecided
		}
	}
	w.settleAll(n)
	return true
}

// sentOff reports whether a flight was a call to the store at all.
func (w *world) sentOff(f *flight) bool {
	m := &f.change
	return !f.void && (f.head || m.create || m.wipe || m.del || m.has[0] || m.has[1])
}

func (w *world) settleAll(n uint8) {
	for s := range w.Sessions {
		if w.nodes[n].flights[s].phase == judged {
			w.settle(n, uint8(s))
		}
	}
}

// settle brings a session up to date with the answer to its flight.
func (w *world) settle(n, s uint8) {
	l, slot := &w.nodes[n].sessions[s], &w.nodes[n].flights[s]
	f := *slot
	*slot = flight{}
	if f.orphan {
		w.discard(n, s, &f)
		return
	}
	stored := f.outcome == store.Applied || f.outcome == store.Already
	switch f.outcome {
	case store.Undecided:
		l.blind = l.blind || l.creating
		if w.bug == ReuseSeq {
			l.retry = f.change.seq
		}
	case store.Fenced:
		switch {
		case f.change.del && l.deleted && !f.exists:
			stored = true // it is gone, as it should be
			w.records[s].landed |= one(f.change.tx)
		case w.reborn(n, l, &f):
		default:
			w.expel(n, s, &f)
			return
		}
	}
	merged := false
	for k := range f.change.has {
		switch {
		case !f.change.has[k]:
		case stored && w.bug == ClearDirty:
			l.dirty[k] = false
		case !stored && !l.dirty[k] && !f.past:
			l.dirty[k], merged = true, true
		}
	}
	l.head = l.head || f.head && !stored
	leaves := false
	if stored {
		l.saved = max(l.saved, f.ver)
		if w.bug == CountAll {
			l.saved = l.ver
		}
		if !f.void {
			l.creating, l.blind, l.birth = false, false, 0
			l.tomb = l.tomb && f.change.del
			if f.change.del && !l.deleted && w.bug != SameEpochAfterDeath {
				l.tomb, l.creating, l.epoch = false, true, l.epoch+1
			}
		}
		w.acknowledge(n, &f)
		leaves = l.saved == l.ver && (l.deleted || l.release && f.change.release)
	} else {
		l.wipe = l.wipe || f.change.wipe && !f.past
	}
	switch {
	case leaves:
		w.departed(n, s, l.tx)
		*l = local{}
	case !stored && (merged || l.queued || l.head || l.wipe || l.creating || l.tomb), stored && l.saved < l.ver && !l.queued:
		l.queued = true
	case !stored:
		l.saved = max(l.saved, f.ver)
	}
}

// reborn decides what becomes of a creation that was refused because of a former life.
func (w *world) reborn(n uint8, l *local, f *flight) bool {
	if !l.creating || f.exists || f.epoch < l.epoch {
		return false
	}
	if w.bug != BlindRebirth && l.blind && !(f.owner == w.incarnation(n) && (f.epoch == l.epoch || f.seq > 0) && f.seq < l.birth) {
		return false
	}
	l.epoch = f.epoch + 1
	return true
}

// expel takes a session out of memory whole and reports what was unsaved: in the flight f, if there is one, and since.
func (w *world) expel(n, s uint8, f *flight) {
	l, tx := &w.nodes[n].sessions[s], set(0)
	for k := range l.val {
		switch {
		case l.dirty[k]:
			tx |= one(l.val[k])
		case f != nil && f.change.has[k] && !f.past:
			tx |= one(f.change.val[k])
		}
	}
	if l.deleted {
		tx |= one(l.tx)
	}
	if w.bug != SilentExpel {
		w.report(n, s, tx)
	}
	last := l.tx
	if air := &w.nodes[n].flights[s]; f == nil && air.phase != idle {
		air.orphan, air.told, air.newer = true, l.dirty, air.change.tx != l.tx
		if !air.newer {
			last = 0 // it is to be reported, or not, when the answer is there
		}
	}
	w.departed(n, s, last)
	*l = local{}
}

// discard settles a flight whose session left memory meanwhile.
func (w *world) discard(n, s uint8, f *flight) {
	if f.void {
		return
	}
	if f.outcome == store.Applied || f.outcome == store.Already {
		return
	}
	var tx set
	for k := range f.change.has {
		if f.change.has[k] && !f.told[k] && !f.past {
			tx |= one(f.change.val[k])
		}
	}
	if f.change.del && w.bug == DeleteToldTwice {
		tx |= one(f.change.tx) // expel has told it: the session was deleted
	}
	w.report(n, s, tx)
	if !f.newer {
		w.departed(n, s, f.change.tx)
	}
}

// audit reads the header of a session in memory. If it is another's, the session leaves.
func (w *world) audit(n, s uint8) bool {
	r, l := &w.records[s], &w.nodes[n].sessions[s]
	if !l.live || r.epoch == l.epoch && r.owner == w.incarnation(n) || l.creating && !r.exists() {
		return false
	}
	w.expel(n, s, nil)
	return true
}

// claim asks for a session, and makes it if there is none.
func (w *world) claim(n, s uint8) bool {
	a := &w.nodes[n].asks[s]
	if w.nodes[n].sessions[s].live || a.phase != idle || w.claims[s] == 0 {
		return false
	}
	w.claims[s]--
	*a = ask{phase: sent, claim: message{kind: claim, session: s, owner: w.incarnation(n), create: true}}
	return true
}

// deliverClaim has the store do it. runs tells that the owner's lease runs.
func (w *world) deliverClaim(n, s uint8, runs bool) bool {
	a := &w.nodes[n].asks[s]
	if a.phase != sent {
		return false
	}
	if runs {
		// Refused, the claim changes nothing; it matters only to who steals.
		r := &w.records[s]
		if w.steals == 0 || a.claim.force || !r.exists() || r.released || r.owner == w.incarnation(n) {
			return false
		}
	}
	o, done := w.grant(&a.claim, runs)
	if done {
		a.phase, a.outcome = judged, o
	}
	return true
}

// hear brings the answer to a claim. Refused, with steal the claim is made again, with force, and of one epoch.
func (w *world) hear(n, s uint8, steal bool) bool {
	a := &w.nodes[n].asks[s]
	if a.phase != judged || steal && (a.outcome == store.Granted || w.steals == 0) {
		return false
	}
	m := a.claim
	granted := a.outcome == store.Granted
	*a = ask{}
	switch {
	case steal:
		w.steals--
		*a = ask{phase: sent, claim: message{kind: claim, session: s, owner: m.owner, force: true, epoch: m.epoch + 1}}
	case granted:
		w.adopt(n, s, m.epoch, m.val)
	}
	return true
}

// adopt makes a resident session of what the store returned.
func (w *world) adopt(n, s, epoch uint8, val pair) {
	w.nodes[n].sessions[s] = local{live: true, epoch: epoch, val: val}
}

// giveUp ends a claim without an answer.
func (w *world) giveUp(n, s uint8) bool {
	a := &w.nodes[n].asks[s]
	if a.phase == idle || w.timeouts == 0 || a.phase == sent && !w.room(1, w.Bounds) {
		return false
	}
	w.timeouts--
	if a.phase == sent {
		w.leave(a.claim)
	}
	*a = ask{}
	w.nodes[n].astray = true
	return true
}

// crash kills a node and starts it again, as a new incarnation. What it had in memory is gone; what it had sent may arrive.
func (w *world) crash(n uint8) bool {
	if w.crashes == 0 || n >= w.nodesUsed {
		return false
	}
	w.crashes--
	old := w.nodes[n]
	for s := range w.Sessions {
		if f := &old.flights[s]; f.phase == sent && w.room(1, w.Bounds) {
			w.leave(f.change)
		}
		if a := &old.asks[s]; a.phase == sent && w.room(1, w.Bounds) {
			w.leave(a.claim)
		}
	}
	w.nodes[n] = node{gen: old.gen + 1}
	return true
}
