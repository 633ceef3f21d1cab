package kvstore

import (
	"time"
	"unsafe"

	"github.com/seed-6f1f505d/kvstore/store"
)

// expirer ends the resident sessions and entries whose time has come, as ordinary
// writes of their owner. Reads do not depend on it: they judge expiry themselves. It
// frees memory, and makes tombstones of sessions.
//
// Invariant: a live session or entry with an expiry t has one alarm, at or before t, or is about to get it from the goroutine
// that has just given it the expiry, or from the expirer, where it has just gone off. So an expiry that moves later costs nothing: the alarm goes
// off, and is set anew. What does not expire any more, or has left memory, has none.
type expirer[V any] struct {
	alarms[unsafe.Pointer, alarm[V]]
}

// alarm says what expires: an entry, or, if that is nil, the session as a whole: of which there are most.
type alarm[V any] struct {
	s  *session[V]
	of *keyed[V]
}

func (a alarm[V]) thing() unsafe.Pointer {
	if a.of != nil {
		return unsafe.Pointer(a.of.entry)
	}
	return unsafe.Pointer(a.s)
}

// arm sees to it that an alarm goes off at t or before, for the session, or the entry e of it, if that is not nil. Of one thing one goroutine does so at a
// time: the session's mu is held, or nobody else knows it.
func (x *expirer[V]) arm(s *session[V], key string, e *entry[V], t store.Time) {
	if e == nil {
		x.atLatest(unsafe.Pointer(s), t, func() alarm[V] { return alarm[V]{s: s} })
		return
	}
	x.atLatest(unsafe.Pointer(e), t, func() alarm[V] { return alarm[V]{s, &keyed[V]{key, e}} })
}

// expire is the goroutine of the expirer.
func (db *DB[V]) expire() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var buf [dueAtOnce]alarm[V]
	for db.ctx.Err() == nil {
		now := time.Now()
		some, wait := db.expirer.due(now, buf[:0])
		for _, a := range some {
			db.expireNow(a, now)
		}
		if clear(some); wait == 0 {
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-db.expirer.wake:
		case <-db.ctx.Done():
		}
	}
}

// expireNow ends what is due, or sets its alarm anew if its expiry has moved.
func (db *DB[V]) expireNow(a alarm[V], now time.Time) {
	s := a.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != live || s.has(deleted) {
		return
	}
	again := func(t store.Time) {
		if a.of != nil {
			db.expirer.arm(s, a.of.key, a.of.entry, t)
		} else {
			db.expirer.arm(s, "", nil, t)
		}
	}
	later := store.TimeOf(now.Add(time.Second))
	ch := &change[V]{cause: CauseExpire}
	var at store.Time
	if a.of == nil {
		at = store.Time(s.expires.Load())
		ch.del, ch.ending = true, true
	} else {
		key, e := a.of.key, a.of.entry
		if s.lookup(key) == e { // else it went with a life that has ended, or there is no such entry any more
			if c := e.cell.Load(); c != nil {
				at = c.expires
			}
		}
		e.armed = at != 0
		ch.writes = []write[V]{{key: key, cell: db.absent, cost: db.cost(key, db.absent)}}
	}
	switch {
	case at == 0:
		return
	case !at.Past(now):
		again(at)
		return
	case s.has(release): // it leaves, most likely; else its turn comes again
		again(later)
		return
	}
	if db.terms != nil {
		ch.marks.terms = db.reterms(s, ch)
	}
	// A few bytes. If there is no room even for them, what has expired can wait for its end: nobody sees it any more.
	need := db.need(s, ch)
	if !db.budget.try(need) {
		again(later)
		return
	}
	if !s.has(queued) && !db.lane(s).push(s, db.now()) {
		db.budget.release(need)
		return // closing; the store judges the expiry, too
	}
	if ch.marks.any() {
		if err := db.takeAliases(s, ch); err != nil { // too many names: it is in no index any more
			ch.marks.next = db.terms.without(s.marks(), ch.writes[0].key)
		}
	}
	db.change(s, ch)
}

// moveEnd sets the end of a session; 0 is never. Caller holds mu.
func (db *DB[V]) moveEnd(s *session[V], t store.Time) {
	switch was := store.Time(s.expires.Swap(int64(t))); {
	case t == 0 && was != 0:
		db.expirer.cancel(unsafe.Pointer(s))
	case t != 0 && (was == 0 || was > t):
		db.expirer.arm(s, "", nil, t)
	}
}

// arm sees to the alarm of an entry that expires at t; 0 is never. Caller holds the session's mu.
func (db *DB[V]) arm(s *session[V], key string, e *entry[V], t store.Time) {
	if t == 0 {
		return
	}
	if e.armed = true; key != "" {
		s.x.arms = true
	}
	db.expirer.arm(s, key, e, t)
}

// replace gives an entry that has an alarm, or is to get one, its new cell. Caller holds the session's mu.
func (db *DB[V]) replace(s *session[V], key string, e *entry[V], next *cell[V]) {
	var was store.Time
	if c := e.cell.Swap(next); c != nil && c.expires != 0 {
		was = c.expires
		db.tellEntry(s, key, c)
	}
	switch t := next.expires; {
	case t == 0:
		e.armed = false
		db.expirer.cancel(unsafe.Pointer(e))
	case !e.armed || was == 0 || was > t:
		db.arm(s, key, e, t)
	}
}

// disarm takes out the alarms of a session, and of all its entries. Caller holds mu.
func (db *DB[V]) disarm(s *session[V]) {
	if s.expires.Load() != 0 {
		db.expirer.cancel(unsafe.Pointer(s))
	}
	for _, e := range s.armed() {
		e.armed = false
		db.expirer.cancel(unsafe.Pointer(e))
	}
}

// armed yields the entries that have alarms. Caller holds mu.
func (s *session[V]) armed() func(yield func(string, *entry[V]) bool) {
	return func(yield func(string, *entry[V]) bool) {
		if s.main.armed && !yield("", &s.main) || s.x == nil || !s.x.arms {
			return
		}
		for key, e := range s.x.places() {
			if e.armed && !yield(key, e) {
				return
			}
		}
	}
}

// tellEntry tells of an entry that is about to go, or to be replaced, if its time has come. Caller holds the session's mu.
func (db *DB[V]) tellEntry(s *session[V], key string, c *cell[V]) {
	if c.expires.Past(time.Now()) {
		db.expired(Expired{Session: s.id(), Epoch: s.epoch, Key: key, Value: c.val, At: c.expires.Std()})
	}
}

// tellSession tells of a session whose life is about to end, if its time has come, and of its entries whose time has come before. Caller
// holds mu.
func (db *DB[V]) tellSession(s *session[V]) {
	for key, e := range s.armed() {
		if c := e.cell.Load(); c != nil && c.expires != 0 {
			db.tellEntry(s, key, c)
		}
	}
	if s.has(deleted) || !s.expired() {
		return
	}
	e := Expired{Session: s.id(), Epoch: s.epoch, Whole: true, At: store.Time(s.expires.Load()).Std()}
	if c := s.main.cell.Load(); c != nil && c != db.absent && (c.expires == 0 || !c.expires.Past(time.Now())) {
		e.Value = c.val
	}
	db.expired(e)
}
