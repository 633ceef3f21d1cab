package kvstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// This file is those who are told of what happened, and the queue between each of them and the data path.
//
//	commit, under the session's mu ──▶ listener.queue ──▶ its goroutine: OnCommit's function
//	                                        │        └──▶ or whoever walks Watch
//	                                        └── full: the commit is counted, and not told
//
// A record is put into the queues under the mu of its session, so a session's records are there in the order of its commits.

// OnCommit has f told of each change of the sessions on this node that is made after it returns: of each transaction, once, with what its entries were and are,
// and of each session that comes or leaves. It is told when that is in memory; it may not be stored yet, and what Hooks.Lost gets later was told here, too.
//
// The commits of one session come in their order. f runs on a goroutine of its own, under no lock, one call at a time; it may call every method of the
// DB except Close. Nothing waits for it: what is still to be told waits in a queue of Options.MaxBacklog, and if that is full a commit is not told at all, but
// counted, in Stats.Missed and in Commit.Missed of the next that is. A panic in f is caught, logged and counted in Stats.HookPanics.
//
// stop ends it: no call of f begins any more; one may be under way. Close ends it, too, when all that waits in the queue has been told, or, what is left being
// counted as missed, when its context is over; what Close itself takes out of memory is not told.
//
// ErrInvalid: f is nil. ErrClosed.
func (db *DB[V]) OnCommit(f func(Commit[V])) (stop func(), err error) {
	if f == nil {
		return nil, fmt.Errorf("%w: OnCommit with a nil function", ErrInvalid)
	}
	l := newListener[V](filter{}, db.opt.MaxBacklog)
	if db.closing.Load() || !db.listeners.add(l, func() { db.deliver(l, f) }) {
		return nil, ErrClosed
	}
	return func() { db.listeners.remove(l) }, nil
}

// deliver is the goroutine of a listener of OnCommit.
func (db *DB[V]) deliver(l *listener[V], f func(Commit[V])) {
	for {
		r, missed, over := l.next()
		switch {
		case r != nil:
			db.notes.call(func() { f(db.commitOf(r, &l.filter, missed)) })
		case over:
			return
		default:
			l.wait(nil)
		}
	}
}

// tell puts a record into the queues of those who want it. Caller holds the session's mu, or nobody else knows the session.
func (db *DB[V]) tell(r *record[V]) {
	ls := db.listeners.all.Load()
	if ls == nil {
		return
	}
	for _, l := range *ls {
		if r.wanted(&l.filter) && !l.post(r) {
			db.count.missed.Add(1)
		}
	}
}

// came tells of a session that nobody else knows yet: from the store.
func (db *DB[V]) came(s *session[V], why Cause) {
	if !db.listeners.hear(s.id()) {
		return
	}
	r := db.record(s, &change[V]{cause: why}, nil)
	if r.whole = why != CauseReload; r.whole {
		r.was = nil
	}
	db.tell(r)
}

// departs tells of a session that is about to leave memory, in the given state. Caller holds mu.
func (db *DB[V]) departs(s *session[V], st state, why error) {
	if !db.listeners.hear(s.id()) {
		return
	}
	ch := change[V]{}
	switch why.(type) {
	case *FencedError:
		ch.cause = CauseFence
	case *RejectedError:
		ch.cause = CauseReject
	}
	switch {
	case st == evicted:
		ch.cause = CauseEvict
	case errors.Is(why, ErrReleased):
		ch.cause = CauseRelease
	}
	if ch.cause == 0 {
		return // its end has been told, or it never began, or the DB is closed
	}
	r := db.record(s, &ch, nil)
	r.whole = ch.cause != CauseEvict
	db.tell(r)
}

// reverts tells of entries, or of aliases, those there were, that the store has refused. Caller holds mu, and has taken them back.
func (db *DB[V]) reverts(s *session[V], aliases []string, ds ...delta[V]) {
	if !db.listeners.hear(s.id()) {
		return
	}
	r := db.record(s, &change[V]{cause: CauseReject}, nil)
	if r.deltas = ds; len(ds) == 0 {
		r.was = aliases
	}
	for _, d := range ds {
		r.cost += int64(dirtyOverhead + len(d.key))
	}
	db.tell(r)
}

// listeners are all who are told. Lock order: a session's mu may be held, and nothing is taken under theirs.
type listeners[V any] struct {
	all atomic.Pointer[[]*listener[V]] // never changed, but replaced; nil: nobody listens, and nothing is taken down

	mu     sync.Mutex
	closed bool
	runs   sync.WaitGroup // the goroutines, which close joins
}

// hear reports whether anybody may want to be told of a session.
func (ls *listeners[V]) hear(session string) bool {
	all := ls.all.Load()
	return all != nil && heard(*all, session)
}

func heard[V any](all []*listener[V], session string) bool {
	for _, l := range all {
		if l.filter.hasSession(session) {
			return true
		}
	}
	return false
}

// add has l told from now on, and runs run, if there is one, on a goroutine. It reports false after close.
func (ls *listeners[V]) add(l *listener[V], run func()) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed {
		return false
	}
	var all []*listener[V]
	if was := ls.all.Load(); was != nil {
		all = slices.Clone(*was)
	}
	all = append(all, l)
	ls.all.Store(&all)
	if run != nil {
		ls.runs.Go(run)
	}
	return true
}

// remove ends l at once.
func (ls *listeners[V]) remove(l *listener[V]) {
	l.end(true)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	was := ls.all.Load()
	if was == nil {
		return
	}
	all := slices.DeleteFunc(slices.Clone(*was), func(o *listener[V]) bool { return o == l })
	if len(all) == 0 {
		ls.all.Store(nil)
	} else {
		ls.all.Store(&all)
	}
}

// close ends all listeners, and returns when each has been told what is in its queue, or soon after ctx is over. It returns how many commits were left.
func (ls *listeners[V]) close(ctx context.Context) (left int64, err error) {
	ls.mu.Lock()
	ls.closed = true
	var all []*listener[V]
	if was := ls.all.Swap(nil); was != nil {
		all = *was
	}
	ls.mu.Unlock()
	for _, l := range all {
		l.end(false)
	}
	done := make(chan struct{})
	go func() { ls.runs.Wait(); close(done) }()
	select {
	case <-done:
		return 0, nil
	case <-ctx.Done():
	}
	for _, l := range all {
		left += l.end(true)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
		return left, nil
	case <-timer.C:
		return left, errors.New("kvstore: close: a listener of OnCommit has not returned")
	}
}

// listener is somebody who is told, and what waits for him.
//
// Invariant: held ≤ max, but for one record that is alone in the queue.
type listener[V any] struct {
	filter filter
	max    int64
	wake   chan struct{} // capacity 1: there is something in the queue
	ended  chan struct{} // closed when nothing comes any more

	mu     sync.Mutex
	queue  []waiting[V] // from head on
	head   int
	held   int64 // bytes
	missed int64 // since the last record was put in
	last   bool  // nothing is put in any more
}

// waiting is a record in a queue, and how many before it are not.
type waiting[V any] struct {
	r      *record[V]
	missed int64
}

func newListener[V any](f filter, limit int64) *listener[V] {
	return &listener[V]{filter: f, max: limit, wake: make(chan struct{}, 1), ended: make(chan struct{})}
}

// post puts a record into the queue. It reports false if that is full.
func (l *listener[V]) post(r *record[V]) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last {
		return true
	}
	if l.held > 0 && l.held+r.cost > l.max {
		l.missed++
		return false
	}
	if l.head > len(l.queue)/2 {
		n := copy(l.queue, l.queue[l.head:])
		clear(l.queue[n:])
		l.queue, l.head = l.queue[:n], 0
	}
	l.queue = append(l.queue, waiting[V]{r, l.missed})
	l.held += r.cost
	l.missed = 0
	select { // it never waits
	case l.wake <- struct{}{}:
	default:
	}
	return true
}

// next takes the first record out; nil if there is none, and then over says whether none will come.
func (l *listener[V]) next() (r *record[V], missed int64, over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head == len(l.queue) {
		return nil, l.missed, l.last
	}
	q := l.queue[l.head]
	l.queue[l.head] = waiting[V]{}
	l.head++
	l.held -= q.r.cost
	return q.r, q.missed, false
}

// wait returns when there may be something in the queue, or nothing comes any more, or done is closed.
func (l *listener[V]) wait(done <-chan struct{}) {
	select {
	case <-l.wake:
	case <-l.ended:
	case <-done:
	}
}

// end lets nothing in any more, and, at once, nothing out. It returns how many records were thrown away.
func (l *listener[V]) end(atOnce bool) (left int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.last {
		l.last = true
		close(l.ended)
	}
	if atOnce {
		left = int64(len(l.queue) - l.head)
		l.queue, l.head, l.held = nil, 0, 0
	}
	return left
}
