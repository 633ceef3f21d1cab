package kvstore

import (
	"context"
	"errors"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is the one way by which anything in a session changes: commit. Puts, deletes,
// transactions, expiry, session deletes all pass here, and are all or nothing.

// change is what a commit does.
type change[V any] struct {
	reads  []version[V] // must still hold, or errConflict
	tree   bool         // likewise the set of the application's keys
	shape  uint64       // if tree
	writes []write[V]   // no key twice

	expire  bool       // set the session's expiry
	expires store.Time // to this; 0 is never

	touch time.Duration // move the session's end to so long from now, if that is later
	end   store.Time    // if touch: decided by admit: the end in memory becomes this; 0: it stays. expire, if the header is to be written

	bound bool   // only in this life of the session, or ErrNotFound
	life  uint32 // if bound

	del    bool // delete the session; no writes
	revive bool // a deleted or expired session begins a new life, instead of ErrNotFound
	birth  bool // and if it has a life already, that is ErrExists

	aliases aliasing // and the session's aliases; no ending
	marks   marking  // and its marks; likewise

	step *step[V] // if there is one, it finds the writes, or whether they are to be made

	stored bool // wait until it is

	cause Cause    // for those who are told, if it is not what follows from the above
	plea  *plea[V] // as it was put before the judges last; nil: it was not

	ending bool // decided by admit: the life that the session has now ends
}

// version is a key and the cell that was seen there, or absent.
type version[V any] struct {
	key  string
	cell *cell[V]
}

// write gives key a new cell; absent deletes it.
type write[V any] struct {
	key   string
	cell  *cell[V]
	cost  int32     // set by commit
	place *entry[V] // of the key, nil if it has none: set by need, or by the step that has looked there; good until mu is let go of
}

// errConflict: a read of the transaction is out of date; run it again.
var errConflict = errors.New("kvstore: conflict")

// errMissing: a step needs entries that are not in memory. It never leaves the session's methods.
var errMissing = errors.New("kvstore: not in memory")

// errUnverified: the lease lapsed a moment ago. It never leaves commit.
var errUnverified = errors.New("kvstore: not verified")

// Every dirty entry holds this of the budget beside its key and value, and so
// does a dirty header beside the ID.
const dirtyOverhead = 64

func (db *DB[V]) cost(key string, c *cell[V]) int32 {
	n := dirtyOverhead + len(key)
	if c != db.absent {
		n += db.weigh(key, c)
	}
	return int32(min(n, 1<<31-1))
}

func headCost(id string) int64 { return int64(dirtyOverhead + len(id)) }

// commit makes the change, if serving is allowed, waiting for room in the buffer as Options.Overflow says.
// On an error nothing was changed.
func (db *DB[V]) commit(ctx context.Context, s *session[V], ch *change[V]) error {
	if ctx == nil {
		return errNilContext
	}
	if err := db.serve(ctx, s); err != nil {
		return err
	}
	for i := range ch.writes { // of a step's there may be none yet
		ch.writes[i].cost = db.cost(ch.writes[i].key, ch.writes[i].cell)
	}
	var room int64 // reserved for this commit
	var waited bool
	for {
		s.mu.Lock()
		if err := db.admit(s, ch); err != nil {
			s.mu.Unlock()
			db.budget.release(room)
			room = 0
			switch err {
			case errUnverified:
				err = db.serve(ctx, s)
			case errUnjudged:
				err = db.judge(ctx, ch.plea)
			default:
				return err
			}
			if err == nil {
				continue
			}
			return err
		}
		if db.terms != nil {
			ch.marks.terms = db.reterms(s, ch)
		}
		if ch.waits() {
			if ch.end != 0 {
				s.expires.Store(int64(ch.end)) // its alarm goes off before, and is set anew then
			}
			if db.sieve != nil {
				s.visit()
			}
			s.mu.Unlock()
			db.budget.release(room)
			return nil
		}
		need := db.need(s, ch)
		if need > room && !db.budget.try(need-room) {
			s.mu.Unlock()
			db.budget.release(room)
			room = 0
			if err := db.await(ctx, s.id(), need); err != nil {
				return err
			}
			room, waited = need, true
			continue
		}
		room = max(room, need)
		if err := db.takeAliases(s, ch); err != nil {
			s.mu.Unlock()
			db.budget.release(room)
			return err
		}
		if !s.has(queued) && !db.lane(s).push(s, db.now()) {
			s.mu.Unlock()
			db.budget.release(room)
			return ErrClosed
		}
		db.change(s, ch)
		var stored vigil
		if ch.stored || db.opt.Mode == WriteThrough || waited && db.opt.Overflow == Through {
			stored = s.ask(s.ver)
		}
		s.mu.Unlock()
		db.budget.release(room - need)
		if waited && db.budget.waiting.Load() > 0 {
			db.lane(s).kick() // others wait for what this holds
		}
		if stored.b != nil {
			return db.abide(ctx, s, stored)
		}
		return nil
	}
}

// admit returns why ch cannot be done now. Caller holds mu.
func (db *DB[V]) admit(s *session[V], ch *change[V]) error {
	if err := db.inTime(); err != nil { // time may have passed since serve
		return err
	}
	if db.opt.Strict {
		if err := s.given(); err != nil {
			return err
		}
	}
	if db.opt.Strict && s.verified.Load() != db.lease.gen.Load() {
		return errUnverified
	}
	ch.ending = ch.del
	life := anyLife
	if ch.bound {
		life = ch.life
	}
	if err := s.usable(life); err != nil {
		if !ch.revive || s.state != live || s.vacant() && !ch.birth {
			return err
		}
		ch.ending = true
	} else if ch.birth {
		return sessionError(s.id(), ErrExists)
	}
	if s.has(release) {
		return sessionError(s.id(), ErrReleased)
	}
	if err := s.unchanged(ch.reads, ch.tree, ch.shape, db.absent); err != nil {
		return err
	}
	if ch.step != nil {
		if err := ch.step.take(db, s, ch); err != nil {
			return err
		}
	}
	if err := db.judged(s, ch); err != nil {
		return err
	}
	if ch.touch != 0 { // last: where it moves the end depends on the moment
		s.slide(ch, time.Now())
	}
	return nil
}

// need returns how much of the budget the session holds after ch, less what it holds now. Caller holds mu.
func (db *DB[V]) need(s *session[V], ch *change[V]) int64 {
	var n int64
	if ch.ending {
		n -= s.charges()
	}
	if (ch.expire || ch.ending || ch.aliases.any() || ch.marks.any()) && !s.has(head) {
		n += headCost(s.id())
	}
	for i := range ch.writes {
		w := &ch.writes[i]
		if ch.step == nil || w.place == nil { // a step has looked just now
			w.place = s.lookup(w.key)
		}
		e := w.place
		stored := !s.sure(w.key)
		if e != nil {
			stored = e.stored
		}
		if !ch.ending && e != nil {
			n -= int64(e.charge)
		}
		if w.cell != db.absent || stored && !ch.ending {
			n += int64(w.cost)
		}
	}
	return n
}

// charges returns what the session's dirty entries hold of the budget. Caller holds mu.
func (s *session[V]) charges() int64 {
	n := int64(s.main.charge)
	if s.x != nil {
		for _, d := range s.x.dirty {
			n += int64(d.charge)
		}
	}
	return n
}

// change does ch. Caller holds mu, has asked need since it took it, has the room, and has the session queued.
func (db *DB[V]) change(s *session[V], ch *change[V]) {
	var r *record[V]
	if db.listeners.hear(s.id()) {
		r = db.record(s, ch, ch.aliases.add)
	}
	s.ver++
	if ch.ending {
		db.tellSession(s)
		db.end(s)
		s.assign(deleted, ch.del)
	}
	if ch.expire {
		s.set(head)
		db.moveEnd(s, ch.expires)
	} else if ch.end != 0 {
		s.expires.Store(int64(ch.end))
	}
	if ch.aliases.any() {
		s.set(head)
		db.setAliases(s, ch.aliases.add)
	}
	if ch.marks.any() {
		s.set(head)
		db.setMarks(s, ch.marks.next)
	}
	for i := range ch.writes {
		if ch.ending {
			ch.writes[i].place = nil // they went with the life that ended
		}
		db.set(s, &ch.writes[i])
	}
	if db.sieve != nil {
		s.visit()
	}
	if r != nil {
		if ch.ending && !ch.del {
			r.life = s.life() // the one that began
		}
		db.tell(r)
	}
}

// set gives an entry its new cell. Caller holds mu, and has the room; w.place is that of now.
func (db *DB[V]) set(s *session[V], w *write[V]) {
	e := w.place
	switch {
	case e != nil:
	case w.key == "":
		e = &s.main
	default:
		e = s.newPlace(w.key)
	}
	if s.x != nil && s.x.loads != nil {
		delete(s.x.loads, w.key) // what it finds is older than this
	}
	if w.key != "" && !isOwn(w.key) && s.reshapes(w.key, e, w.cell, db.absent) {
		s.x.shape = s.ver
	}
	if w.cell != db.absent && isRaw(w.key) {
		s.follow(e, w.cell, db.absent)
	}
	if w.cell.expires != 0 || e.armed {
		db.replace(s, w.key, e, w.cell)
	} else {
		e.cell.Store(w.cell) // the old cell need not be touched: it is not in the cache
	}
	if w.cell == db.absent && !e.stored {
		// Made and deleted between two flushes: nothing is to be written.
		e.charge, e.dirty = 0, false
		if w.key != "" && s.sure(w.key) {
			s.x.removePlace(w.key)
			s.x.unlist()
		}
		return
	}
	e.charge = w.cost
	s.mark(w.key, e)
}

// mark makes an entry dirty. Caller holds mu, and has the session queued.
func (s *session[V]) mark(key string, e *entry[V]) {
	e.dirty = true
	if key != "" && !e.listed {
		e.listed = true
		s.x.dirty = append(s.x.dirty, keyed[V]{key, e})
	}
}

// unlist is told that an entry of the dirty ones is none any more. Its place among them is paid for by nothing, and so is not to outlive it by much: it goes
// at once if it is the last, and else as soon as a half of the places may be such. Caller holds mu.
func (x *extra[V]) unlist() {
	d := x.dirty
	for len(d) > 0 && !d[len(d)-1].dirty {
		d[len(d)-1].listed = false
		d[len(d)-1] = keyed[V]{}
		d = d[:len(d)-1]
	}
	if x.idle++; len(d) == 0 {
		x.idle = 0
	} else if int(x.idle) > len(d)/2+16 {
		x.idle = 0
		kept := d[:0]
		for _, k := range d {
			if k.dirty {
				kept = append(kept, k)
			} else {
				k.listed = false
			}
		}
		clear(d[len(kept):])
		d = kept
	}
	x.dirty = d
}

// end empties the session: all its entries go, in memory at once and in the store with
// the next flush. Caller holds mu, and accounts for the charges.
func (db *DB[V]) end(s *session[V]) {
	db.disarm(s)
	db.unmark(s)
	s.main.cell.Store(db.absent)
	s.main.charge, s.main.dirty, s.main.stored = 0, false, false
	if s.x != nil {
		for _, d := range s.x.dirty {
			d.charge, d.dirty = 0, false
		}
		db.names.leave(s, s.x.aliases...)
		s.x.rest, s.x.own, s.x.dirty, s.x.loads, s.x.parts, s.x.known, s.x.aliases = nil, shelf[V]{}, nil, nil, nil, nil, nil
	}
	if !s.has(deleted) || s.ver > 1 { // else it is the beginning of the first life
		s.fate.Add(2) // before anything of the next life is there
		if s.x != nil && s.x.line != nil {
			s.x.line.life.Store(s.life())
		}
	}
	s.expires.Store(0)
	if s.x != nil {
		s.x.floor = 0
	}
	s.set(complete | wipe | head)
}
