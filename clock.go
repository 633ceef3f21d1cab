package kvstore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// clock makes the timers fire of the sessions that this node owns, in memory or evicted.
//
// Invariant: of a session whose marks have a timer, the earliest due at t, there is an alarm at t or before; or the session is being rung, after which it
// has one again. It is of the session's ID, so it outlasts an eviction: when it goes off the session is loaded. Alarms that are too many do no harm: whoever
// comes looks at the session.
type clock[V any] struct {
	alarms[string, wakeup]
	ringer atomic.Pointer[ringer[V]] // nil: nothing fires
	start  sync.Once                 // of the goroutine
	slots  chan struct{}             // one taken for each session that is being rung

	busy  sync.Mutex
	rung  map[string]*ring // sessions that are being rung
	fails map[string]int   // those of which a timer has failed, and how often in a row
}

// wakeup is the ID of a session of which a timer may be due.
type wakeup string

func (w wakeup) thing() string { return string(w) }

// ring is a session that is being rung.
type ring struct{ again bool } // its alarm went off meanwhile

// ringers is how many sessions are being rung at a time.
const ringers = 16

// begin starts the goroutine, if it does not run, and has it look at everything anew.
func (c *clock[V]) begin(db *DB[V]) {
	c.start.Do(func() {
		c.slots = make(chan struct{}, ringers)
		c.rung, c.fails = make(map[string]*ring), make(map[string]int)
		db.spawn(db.tick)
	})
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// timing sets the alarm of a session whose marks were others. Caller holds mu.
func (db *DB[V]) timing(s *session[V], was []string) {
	_, t := first(s.marks())
	if t != 0 {
		db.clock.at(t, wakeup(s.id()))
	} else if _, t := first(was); t != 0 {
		db.clock.cancel(s.id())
	}
}

// tick is the goroutine of the clock.
func (db *DB[V]) tick(ctx context.Context) {
	c := &db.clock
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var late []wakeup // went off, in that order: if there are more than can be rung, all wait alike
	for ctx.Err() == nil {
		wait := time.Hour
		for c.ringer.Load() != nil {
			if late, wait = c.due(time.Now(), late); wait > 0 {
				break
			}
		}
		if len(late) > 0 {
			if !db.ring(ctx, string(late[0])) { // there is nobody to do it any more: they wait for whoever comes
				for _, w := range late {
					c.at(store.TimeOf(time.Now()), w)
				}
				late = nil
			} else if late = late[1:]; len(late) == 0 {
				late = nil
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-c.wake:
		case <-ctx.Done():
		}
	}
}

// ring begins to ring a session, when there is a slot. It reports false if there will be none.
func (db *DB[V]) ring(ctx context.Context, id string) bool {
	c := &db.clock
	if c.ringer.Load() == nil {
		return false
	}
	c.busy.Lock()
	if r := c.rung[id]; r != nil {
		r.again = true
		c.busy.Unlock()
		return true
	}
	c.rung[id] = new(ring)
	c.busy.Unlock()
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	return db.spawn(func(ctx context.Context) {
		next, failed := db.fireDue(ctx, id)
		c.busy.Lock()
		if failed {
			c.fails[id] = min(c.fails[id]+1, 60)
			retry := store.TimeOf(time.Now().Add(time.Duration(db.backoff(c.fails[id]))))
			if next == 0 || retry < next {
				next = retry
			}
		} else {
			delete(c.fails, id)
		}
		if c.rung[id].again {
			next = store.TimeOf(time.Now())
		}
		delete(c.rung, id)
		c.busy.Unlock()
		if next != 0 {
			c.atLatest(id, next, func() wakeup { return wakeup(id) })
		}
		<-c.slots
	})
}

// fireDue has the timers of a session fire that are due, each once. It returns when the next of the others is due, 0 if there is none, and whether some of
// them are to fire again.
func (db *DB[V]) fireDue(ctx context.Context, id string) (next store.Time, failed bool) {
	h, err := db.Session(ctx, id)
	tried := map[Timer]bool{}
	for err == nil {
		r, now := db.clock.ringer.Load(), time.Now()
		if r == nil {
			return store.TimeOf(now), false
		}
		i, ts := 0, h.Timers()
		for i < len(ts) && tried[ts[i]] {
			i++
		}
		if i == len(ts) {
			return 0, failed
		}
		t := ts[i]
		if t.At.After(now) {
			return store.TimeOf(t.At), failed
		}
		tried[t] = true
		if err = db.fire(ctx, h, r, t); err != nil && !left(err) && ctx.Err() == nil {
			db.count.timerFails.Add(1)
			db.log.Warn("kvstore: a timer is to fire again", "session", id, "timer", t.Name, "cause", err)
			failed, err = true, nil
		}
	}
	return 0, !left(err) // else it is another's, or has ended; if it comes again it gets an alarm
}

// left reports whether err says that the session is not this node's, or has ended, or that this node is closed.
func left(err error) bool {
	for _, e := range []error{ErrClosed, ErrNotResident, ErrNotFound, ErrFenced} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
