package kvstore

import (
	"container/heap"
	"sync"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// expirer ends the resident sessions and entries whose time has come, as ordinary
// writes of their owner. Reads do not depend on it: they judge expiry themselves. It
// frees memory, and makes tombstones of sessions.
//
// Invariant: a live session or entry with an expiry t has an alarm at or before t, or is about to get it from the goroutine
// that has just given it the expiry. So an expiry that moves later costs nothing: the alarm goes off, and is set anew.
type expirer[V any] struct {
	mu     sync.Mutex
	alarms alarms[V]
	swept  int           // alarms that were left by the last sweep
	wake   chan struct{} // capacity 1: the first alarm moved
}

type alarm[V any] struct {
	at   store.Time
	s    *session[V]
	what alarmKey[V]
}

// alarmKey says what expires: an entry, or, if e is nil, the session as a whole.
type alarmKey[V any] struct {
	key string
	e   *entry[V]
}

// over reports whether what the alarm is for does not expire any more, so that nobody needs it.
func (a *alarm[V]) over() bool {
	if a.s.dead() {
		return true
	}
	if a.what.e == nil {
		return a.s.expires.Load() == 0
	}
	c := a.what.e.cell.Load()
	return c == nil || c.expires == 0
}

// arm sets an alarm for what expired at was (0: never) and now does at t. The
// session's mu may be held.
func (x *expirer[V]) arm(s *session[V], what alarmKey[V], was, t store.Time) {
	if t == 0 || was != 0 && was <= t {
		return
	}
	x.mu.Lock()
	if len(x.alarms) > 2*x.swept+1024 {
		x.sweep()
	}
	heap.Push(&x.alarms, alarm[V]{t, s, what})
	first := x.alarms[0].at == t
	x.mu.Unlock()
	if first {
		select {
		case x.wake <- struct{}{}:
		default:
		}
	}
}

// sweep drops the alarms for what does not expire any more, and of those for the same thing all but
// the first: it will be set anew when it goes off. So there are at most twice as many alarms as things that
// expire, and a few. Caller holds mu.
func (x *expirer[V]) sweep() {
	type thing struct {
		s    *session[V]
		what alarmKey[V]
	}
	at := make(map[thing]int, len(x.alarms)/2)
	kept := x.alarms[:0]
	for _, a := range x.alarms {
		if a.over() {
			continue
		}
		k := thing{a.s, a.what}
		if i, ok := at[k]; ok {
			kept[i].at = min(kept[i].at, a.at)
			continue
		}
		at[k] = len(kept)
		kept = append(kept, a)
	}
	clear(x.alarms[len(kept):])
	x.alarms = kept
	heap.Init(&x.alarms)
	x.swept = len(kept)
}

// due returns an alarm that went off, or else how long until the first one.
func (x *expirer[V]) due(now time.Time) (a alarm[V], ok bool, wait time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.alarms) == 0 {
		return a, false, time.Hour
	}
	if !x.alarms[0].at.Past(now) {
		// A wall clock that jumps is noticed within the minute.
		return a, false, min(max(x.alarms[0].at.Std().Sub(now), time.Millisecond), time.Minute)
	}
	return heap.Pop(&x.alarms).(alarm[V]), true, 0
}

// expire is the goroutine of the expirer.
func (db *DB[V]) expire() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		a, ok, wait := db.expirer.due(now)
		if ok {
			db.expireNow(a.s, a.what, now)
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-db.expirer.wake:
		case <-db.ctx.Done():
			return
		}
	}
}

// expireNow ends what is due, or sets its alarm anew if its expiry has moved.
func (db *DB[V]) expireNow(s *session[V], what alarmKey[V], now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != live || s.deleted {
		return
	}
	if s.release { // it leaves, most likely; else its turn comes again
		db.expirer.arm(s, what, 0, store.TimeOf(now.Add(time.Second)))
		return
	}
	ch := &change[V]{}
	var at store.Time
	if what.e == nil {
		at = store.Time(s.expires.Load())
		ch.del, ch.ending = true, true
	} else {
		if c := s.version(what.key, db.absent); c != nil {
			at = c.expires
		}
		ch.writes = []write[V]{{what.key, db.absent, db.cost(what.key, db.absent)}}
	}
	if !at.Past(now) {
		db.expirer.arm(s, what, 0, at)
		return
	}
	// A few bytes. If there is no room even for them, what has expired can wait for its end: nobody sees it any more.
	need := db.need(s, ch)
	if !db.budget.try(need) {
		db.expirer.arm(s, what, 0, store.TimeOf(now.Add(time.Second)))
		return
	}
	if !s.queued && !db.lane(s).push(s, db.now()) {
		db.budget.release(need)
		return // closing; the store judges the expiry, too
	}
	db.change(s, ch)
	db.count.expired.Add(1)
}

// alarms is a heap, by time.
type alarms[V any] []alarm[V]

func (h alarms[V]) Len() int           { return len(h) }
func (h alarms[V]) Less(i, j int) bool { return h[i].at < h[j].at }
func (h alarms[V]) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *alarms[V]) Push(a any)        { *h = append(*h, a.(alarm[V])) }
func (h *alarms[V]) Pop() any {
	old := *h
	a := old[len(old)-1]
	old[len(old)-1] = alarm[V]{}
	*h = old[:len(old)-1]
	return a
}
