package kvstore

import (
	"errors"
	"slices"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file brings a session up to date with the store's answer to its flush.
//
//	applied, already   clean, where nothing changed since
//	undecided          merged back under what is newer, and sent again
//	fenced             the session leaves memory whole (adopt.go)
//	rejected           the entries to blame are handed over, the rest is sent again

// settle settles one flight. alone tells that a failure is this session's own
// and not that of the batch or of the store. It runs on the lane's goroutine.
func (l *lane[V]) settle(f *flight[V], r store.Result, alone bool) {
	db, s := l.db, f.s
	ref := db.refused(f, r)
	s.mu.Lock()
	if f.ended { // Close has handed it over
		s.mu.Unlock()
		return
	}
	s.unset(flying)
	f.ended = true
	if s.state != live {
		// It was fenced in mid-flight: what the store has not taken now, it never will.
		why := s.gone()
		s.mu.Unlock()
		db.discard(f, r, why)
		return
	}

	stored := r.Outcome == store.Applied || r.Outcome == store.Already
	var bad []string  // keys to be handed over
	var gone []string // aliases, likewise
	var why error
	for i := range f.items {
		if it := &f.items[i]; it.err != nil {
			bad, why = append(bad, it.key), it.err
		}
	}
	switch r.Outcome {
	case store.Undecided:
		s.setIf(blind, s.has(creating) && !f.unsent)
	case store.Fenced:
		switch {
		case f.change.Delete && s.has(deleted) && !r.Header.Exists():
			stored = true // it is gone, as it should be
		case db.reborn(s, r.Header):
		default:
			s.mu.Unlock()
			db.expel(s, f, &FencedError{Session: s.id(), Epoch: f.change.Epoch, By: r.Header})
			return
		}
	case store.Rejected:
		if ref != nil {
			why = ref.why
			gone = db.drop(s, f, ref.aliases)
			break
		}
		blamed := f.blamed(r)
		if blamed == nil {
			s.mu.Unlock()
			db.expel(s, f, &RejectedError{Session: s.id(), Err: r.Err})
			return
		}
		if why = r.Err; len(blamed) == len(f.items) && len(blamed) > 1 && len(r.Keys) == 0 {
			s.set(probing) // one of them: find out which
		} else {
			bad = append(bad, blamed...)
			s.unset(probing) // found: the others go together again
		}
	}

	free, merged, lost := db.land(f, stored, bad)
	if f.head && !stored && !s.has(head) {
		s.set(head) // and keeps the charge
	} else if f.head {
		free += headCost(s.id())
	}
	if len(gone) > 0 && !s.has(head) {
		s.set(head)
		db.budget.force(headCost(s.id()))
	}
	leaves := false
	if stored {
		db.tally(f)
		s.saved = max(s.saved, f.ver)
		if s.failed() > 0 {
			s.x.fails, s.x.due = 0, 0
		}
		if !f.void {
			s.unset(creating | blind)
			if s.x != nil {
				s.x.birth = 0
			}
			s.assign(tomb, s.has(tomb) && f.change.Delete)
			if f.change.Delete && !s.has(deleted) { // it has begun a new life meanwhile, which the store has not heard of
				s.unset(tomb)
				s.set(creating)
				s.epoch++
			}
		}
		if s.x != nil && f.changes() && f.life == s.life() {
			s.x.floor = f.change.Expires
		}
		if s.x != nil {
			s.x.waived = ""
		}
		done := s.saved == s.ver
		leaves = done && (s.has(deleted) || s.has(release) && f.change.Release)
	} else {
		s.setIf(wipe, f.change.Wipe && f.life == s.life())
	}
	switch {
	case leaves:
	case !stored && (merged || s.has(queued) || s.has(head) || s.has(wipe) || s.has(creating) || s.has(tomb)), f.upto > f.ver:
		// It was not stored, or was a part. The age of what is left is that of the whole, also if it is queued again.
		if s.since == 0 || f.since < s.since {
			s.since = f.since
		}
		l.again(s, alone && r.Outcome == store.Undecided || ref != nil && ref.passes)
	case !stored && !s.has(queued):
		s.saved = max(s.saved, f.ver) // all of it was handed over
	}

	if !leaves {
		db.disowned(s, bad)
	}
	var rejected error
	if len(lost)+len(gone) > 0 {
		rejected = &RejectedError{Session: s.id(), Keys: bad, Err: why}
		aliases, timers := told(gone)
		db.lost(Lost{Session: s.id(), Epoch: s.epoch, Cause: rejected, Entries: lost, Aliases: aliases, Timers: timers})
	}
	db.budget.release(free)
	if told := s.wake(f.upto, rejected); rejected != nil && !told {
		s.more().untold = rejected
	}
	s.less()
	if leaves {
		kind := ErrReleased
		if s.has(deleted) {
			kind = ErrNotFound
		}
		db.leave(s, departed, sessionError(s.id(), kind))
	}
	s.mu.Unlock()
	if leaves {
		db.out(s)
	}
}

// absentKept is the number of entries up to which a session that is not complete also remembers keys that do not exist.
const absentKept = 256

// land puts a flight's items where they belong after the answer: clean, if they did not
// change meanwhile; back under what is newer; or out of memory, if they are bad. It
// returns the bytes to be released and what is lost. Caller holds the session's mu.
func (db *DB[V]) land(f *flight[V], stored bool, bad []string) (free int64, merged bool, lost []LostEntry) {
	s := f.s
	for i := range f.items {
		it := &f.items[i]
		newer := it.e.dirty || f.life != s.life()
		isBad := slices.Contains(bad, it.key)
		if newer || isBad || stored {
			free += int64(it.charge)
		}
		switch {
		case newer:
		case isBad:
			lost = append(lost, db.lostEntry(it.key, it.cell))
			// The next read finds what the store has: it may be an older value.
			it.e.stored = it.stored
			s.more().forgotten++
			if it.e.cell.Store(nil); !it.stored || f.change.Wipe {
				it.e.cell.Store(db.absent)
			}
			db.reverts(s, nil, delta[V]{it.key, it.cell, it.e.cell.Load()})
		case !stored:
			it.e.charge = it.charge
			s.mark(it.key, it.e)
			merged = true
		case it.cell == db.absent:
			it.e.stored = false
			if it.key != "" && (s.sure(it.key) || s.x.beside(it.key) > absentKept) {
				// Nobody needs to be told that it is gone: who asks finds that in the session, if it is complete, or in the
				// store, which has it so from now on. What was loaded before must not bring it back.
				s.x.removePlace(it.key)
				if !s.has(complete) {
					s.x.forgotten++
				}
			}
		}
	}
	return free, merged, lost
}

// blamed returns the keys that a rejection may be about, all if the store names none; nil if it is
// about the session itself.
func (f *flight[V]) blamed(r store.Result) (keys []string) {
	var damaged *store.CorruptError
	if errors.As(r.Err, &damaged) && damaged.Header {
		return nil
	}
	for i := range f.items {
		if k := f.items[i].key; len(r.Keys) == 0 || slices.Contains(r.Keys, k) {
			keys = append(keys, k)
		}
	}
	return keys
}

// reborn decides what becomes of an optimistic creation that was refused because of a former life, which ended at
// h's epoch: it may be proposed again, above it, if no attempt so far was applied: the store has refused them all, or h is
// this node's own and from before the first. (If it changed the session in h's epoch before the first attempt, whichever that epoch
// was, an attempt that was applied would have one above it.) Else one may have been applied, and
// have been adopted and ended by others, and what is gone must not come back. Caller holds mu.
func (db *DB[V]) reborn(s *session[V], h store.Header) bool {
	if !s.has(creating) || !h.Gone(time.Now()) || h.Epoch < s.epoch {
		return false
	}
	own := h.HeldBy(db.self, s.epoch) || h.HeldBy(db.self, h.Epoch) && h.Seq > 0
	if s.has(blind) && !(own && h.Seq < s.x.birth) {
		return false
	}
	s.epoch = h.Epoch + 1
	return true
}

// headAgain has the header written again. Caller holds mu.
func (db *DB[V]) headAgain(s *session[V]) {
	s.ver++
	if !s.has(head) {
		s.set(head)
		db.budget.force(headCost(s.id()))
	}
	if !s.has(queued) {
		db.lane(s).push(s, db.now())
	}
}

// tally counts what was stored. Caller holds the session's mu.
func (db *DB[V]) tally(f *flight[V]) {
	if f.ver > f.s.saved {
		db.count.changes.Add(int64(f.ver - f.s.saved))
	}
	if f.void {
		return
	}
	db.count.stored.Add(1)
	db.count.puts.Add(int64(len(f.change.Puts)))
	db.count.deletes.Add(int64(len(f.change.Deletes)))
	n := 0
	for i := range f.change.Puts {
		n += len(f.change.Puts[i].Value)
	}
	db.count.bytes.Add(int64(n))
}
