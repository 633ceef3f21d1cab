package kvstore

import (
	"sync"
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
	mu     sync.Mutex
	wheel  wheel[alarm[V]]
	places map[unsafe.Pointer]uint32 // thing → its alarm in the wheel
	most   int                       // alarms that there were at once since the wheel was made
	until  store.Time                // the goroutine looks no later than then; an alarm before has to wake it
	wake   chan struct{}             // capacity 1
}

// alarm says what expires: an entry, or, if that is nil, the session as a whole: of which there are most.
type alarm[V any] struct {
	s  *session[V]
	of *keyed[V]
}

func (a *alarm[V]) thing() unsafe.Pointer {
	if a.of != nil {
		return unsafe.Pointer(a.of.entry)
	}
	return unsafe.Pointer(a.s)
}

// arm sees to it that an alarm goes off at t or before, for the session, or the entry e of it, if that is not nil. The session's mu may be held.
func (x *expirer[V]) arm(s *session[V], key string, e *entry[V], t store.Time) {
	thing := unsafe.Pointer(s)
	if e != nil {
		thing = unsafe.Pointer(e)
	}
	x.mu.Lock()
	i, ok := x.places[thing]
	switch {
	case ok && x.wheel.at(i) <= t:
		x.mu.Unlock()
		return
	case ok:
		x.wheel.move(i, t)
	default:
		if x.places == nil {
			x.places = make(map[unsafe.Pointer]uint32)
		}
		a := alarm[V]{s: s}
		if e != nil {
			a.of = &keyed[V]{key, e}
		}
		x.places[thing] = x.wheel.insert(t, a)
		x.most = max(x.most, x.wheel.n)
	}
	first := t < x.until
	if first {
		x.until = t
	}
	x.mu.Unlock()
	if first {
		select {
		case x.wake <- struct{}{}:
		default:
		}
	}
}

// cancel takes the alarm of a session or an entry out, if there is one. The session's mu may be held.
func (x *expirer[V]) cancel(thing unsafe.Pointer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i, ok := x.places[thing]
	if !ok {
		return
	}
	delete(x.places, thing)
	x.wheel.remove(i)
	if x.wheel.n < x.most/4 && x.most > 4096 {
		x.renew(x.wheel.now) // neither a wheel nor a map gets smaller
	}
}

// renew makes a wheel of the alarms that there are, which begins at now. Caller holds mu.
func (x *expirer[V]) renew(now store.Time) {
	old := x.wheel
	x.wheel, x.places, x.most = wheel[alarm[V]]{now: now}, make(map[unsafe.Pointer]uint32, old.n), old.n
	for t, a := range old.all() {
		x.places[a.thing()] = x.wheel.insert(t, a)
	}
}

const (
	dueAtOnce   = 64          // alarms that are taken out under one lock
	stepsAtOnce = 1024        // and steps of the wheel that are made
	lookAgain   = time.Minute // a wall clock that jumps is noticed within that
	jump        = time.Second // one that goes back by less is waited for
)

// due appends alarms that have gone off to some, or else returns how long until there may be one.
func (x *expirer[V]) due(now time.Time, some []alarm[V]) (_ []alarm[V], wait time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	t := store.Time(now.UnixMilli())
	if t < x.wheel.now-store.Time(jump.Milliseconds()) {
		x.renew(t)
	}
	steps, next := stepsAtOnce, t
	for range dueAtOnce {
		a, ok, at := x.wheel.pop(t, &steps)
		if !ok {
			next = at
			break
		}
		delete(x.places, a.thing())
		some = append(some, a)
	}
	x.until = 0 // it is awake
	if len(some) > 0 || next <= t && steps == 0 {
		return some, 0
	}
	wait = lookAgain
	if left := next - t; left < store.Time(lookAgain.Milliseconds()) {
		wait = max(next.Std().Sub(now), time.Millisecond)
	}
	x.until = t + store.Time(wait.Milliseconds()) + 1
	return nil, wait
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
	if s.state != live || s.deleted {
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
		ch.writes = []write[V]{{key, db.absent, db.cost(key, db.absent)}}
	}
	switch {
	case at == 0:
		return
	case !at.Past(now):
		again(at)
		return
	case s.release: // it leaves, most likely; else its turn comes again
		again(later)
		return
	}
	// A few bytes. If there is no room even for them, what has expired can wait for its end: nobody sees it any more.
	need := db.need(s, ch)
	if !db.budget.try(need) {
		again(later)
		return
	}
	if !s.queued && !db.lane(s).push(s, db.now()) {
		db.budget.release(need)
		return // closing; the store judges the expiry, too
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
		for _, places := range []map[string]*entry[V]{s.x.rest, s.x.own} {
			for key, e := range places {
				if e.armed && !yield(key, e) {
					return
				}
			}
		}
	}
}

// tellEntry tells of an entry that is about to go, or to be replaced, if its time has come. Caller holds the session's mu.
func (db *DB[V]) tellEntry(s *session[V], key string, c *cell[V]) {
	if c.expires.Past(time.Now()) {
		db.expired(Expired{Session: s.id, Epoch: s.epoch, Key: key, Value: c.val, At: c.expires.Std()})
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
	if s.deleted || !s.expired() {
		return
	}
	e := Expired{Session: s.id, Epoch: s.epoch, Whole: true, At: store.Time(s.expires.Load()).Std()}
	if c := s.main.cell.Load(); c != nil && c != db.absent && (c.expires == 0 || !c.expires.Past(time.Now())) {
		e.Value = c.val
	}
	db.expired(e)
}
