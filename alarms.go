package kvstore

import (
	"sync"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// alarms is a wheel that many goroutines set, and of which one waits for what goes off. A thing has one alarm at most. Nothing is taken under its lock; a
// session's may be held.
type alarms[K comparable, T interface{ thing() K }] struct {
	mu     sync.Mutex
	wheel  wheel[T]
	places map[K]uint32  // thing → its alarm in the wheel
	most   int           // alarms that there were at once since the wheel was made
	until  store.Time    // the goroutine looks no later than then; an alarm before has to wake it
	wake   chan struct{} // capacity 1
}

// atLatest sees to it that the thing's alarm goes off at t or before. If it has none, what makes it; that calls nothing.
func (x *alarms[K, T]) atLatest(thing K, t store.Time, what func() T) {
	x.mu.Lock()
	if i, ok := x.places[thing]; !ok {
		x.insert(thing, t, what())
	} else if x.wheel.at(i) > t {
		x.wheel.move(i, t)
	} else {
		x.mu.Unlock()
		return
	}
	x.rouse(t)
}

// at sets the thing's alarm to t.
func (x *alarms[K, T]) at(t store.Time, what T) {
	x.mu.Lock()
	if i, ok := x.places[what.thing()]; ok {
		x.wheel.move(i, t)
	} else {
		x.insert(what.thing(), t, what)
	}
	x.rouse(t)
}

// insert sets an alarm of a thing that has none. Caller holds mu.
func (x *alarms[K, T]) insert(thing K, t store.Time, what T) {
	if x.places == nil {
		x.places = make(map[K]uint32)
	}
	x.places[thing] = x.wheel.insert(t, what)
	x.most = max(x.most, x.wheel.n)
}

// rouse wakes the goroutine if it would sleep beyond t. Caller holds mu, which this unlocks.
func (x *alarms[K, T]) rouse(t store.Time) {
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

// cancel takes the alarm of a thing out, if it has one.
func (x *alarms[K, T]) cancel(thing K) {
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
func (x *alarms[K, T]) renew(now store.Time) {
	old := x.wheel
	x.wheel, x.places, x.most = wheel[T]{now: now}, make(map[K]uint32, old.n), old.n
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
func (x *alarms[K, T]) due(now time.Time, some []T) (_ []T, wait time.Duration) {
	had := len(some)
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
	if len(some) > had || next <= t && steps == 0 {
		return some, 0
	}
	wait = lookAgain
	if left := next - t; left < store.Time(lookAgain.Milliseconds()) {
		wait = max(next.Std().Sub(now), time.Millisecond)
	}
	x.until = t + store.Time(wait.Milliseconds()) + 1
	return some, wait
}
