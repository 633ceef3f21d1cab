package kvstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file waits for the store: Sync, Flush, and the hand-overs Release and Drain.

// barrier is passed when everything that it counts is answered.
type barrier struct {
	left atomic.Int64
	done chan struct{} // closed when left is 0
	once sync.Once
	err  error // the first failure; read after done
}

func newBarrier() *barrier {
	b := &barrier{done: make(chan struct{})}
	b.left.Store(1) // its maker's own
	return b
}

// waiter waits for a session's changes up to ver.
type waiter struct {
	ver uint64
	b   *barrier
}

func (w waiter) finish(err error) { w.b.finish(err) }

// finish answers one of what the barrier counts. It never blocks.
func (b *barrier) finish(err error) {
	b.fail(err)
	if b.left.Add(-1) == 0 {
		close(b.done)
	}
}

// fail notes the first error that is not nil.
func (b *barrier) fail(err error) {
	if err != nil {
		b.once.Do(func() { b.err = err })
	}
}

func (b *barrier) wait(ctx context.Context) error {
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
	}
	select {
	case <-b.done: // it is known all the same
		return b.err
	default:
		return ctx.Err()
	}
}

// join has the barrier wait for the session's changes up to ver. Caller holds mu.
func (s *session[V]) join(b *barrier, ver uint64) {
	if s.saved >= ver {
		return
	}
	b.left.Add(1)
	if s.state != live {
		b.finish(s.gone())
		return
	}
	x := s.more()
	x.waiters = append(x.waiters, waiter{ver, b})
}

// wake answers those who wait for changes that are stored now, or, if something up to ver
// was rejected, for that. It reports whether anyone was told of the latter. Caller holds mu.
func (s *session[V]) wake(ver uint64, rejected error) (told bool) {
	if s.x == nil || len(s.x.waiters) == 0 {
		return false
	}
	kept := s.x.waiters[:0]
	for _, w := range s.x.waiters {
		switch {
		case rejected != nil && w.ver <= ver:
			w.finish(rejected)
			told = true
		case w.ver <= s.saved:
			w.finish(nil)
		default:
			kept = append(kept, w)
		}
	}
	clear(s.x.waiters[len(kept):])
	s.x.waiters = kept
	return told
}

// vigil is the wait for a session's changes.
type vigil struct {
	b     *barrier
	waits bool // not all is answered yet
	urge  bool // the lane is to be asked to flush it now
}

// ask begins to wait for the session's changes up to ver. Caller holds mu, and asks for a change of its own before it lets go of it: else the change may have
// been rejected, and others told, before anybody waits.
func (s *session[V]) ask(ver uint64) vigil {
	v := vigil{b: newBarrier()}
	s.join(v.b, ver)
	v.waits = v.b.left.Load() > 1
	v.urge = v.waits && s.has(queued) && !s.has(urged)
	s.setIf(urged, v.urge)
	return v
}

// sync waits until the session's changes up to ver are stored, and durable.
func (db *DB[V]) sync(ctx context.Context, s *session[V], ver uint64) error {
	s.mu.Lock()
	v := s.ask(ver)
	s.mu.Unlock()
	return db.abide(ctx, s, v)
}

// abide waits for what was asked, and until it is durable. No lock is held.
func (db *DB[V]) abide(ctx context.Context, s *session[V], v vigil) error {
	if v.urge {
		db.lane(s).urge(s)
	}
	v.b.finish(nil)
	if v.waits || v.b.err != nil {
		if err := v.b.wait(ctx); err != nil {
			return &unstoredError{s.id(), err}
		}
	}
	err := db.harden(ctx)
	var lost *store.ForgottenError
	if err == nil || errors.As(err, &lost) && !slices.Contains(lost.Sessions, s.id()) {
		return nil
	}
	return &unstoredError{s.id(), err}
}

// syncAll waits until all that the session has now is stored. If something was rejected since the last one said so, or is while it waits, it
// says so.
func (db *DB[V]) syncAll(ctx context.Context, s *session[V]) error {
	s.mu.Lock()
	untold := s.tellNow()
	v := s.ask(s.ver)
	s.mu.Unlock()
	if err := db.abide(ctx, s, v); err != nil {
		return err
	}
	if untold == nil && v.waits { // it may have been in flight, and what this has waited for came after it
		s.mu.Lock()
		untold = s.tellNow()
		s.mu.Unlock()
	}
	if untold == nil {
		return nil
	}
	return &unstoredError{s.id(), untold}
}

// tellNow returns what was rejected and nobody was told of, who is told now. Caller holds mu.
func (s *session[V]) tellNow() (untold error) {
	if s.x != nil {
		untold, s.x.untold = s.x.untold, nil
		s.less()
	}
	return untold
}

// unstoredError is of a change that was made, but is not known to be stored. To make it again
// would be wrong: it is in memory, or was handed over.
type unstoredError struct {
	session string
	err     error
}

func (e *unstoredError) Error() string {
	if errors.Is(e.err, ErrRejected) || errors.Is(e.err, ErrFenced) {
		return e.err.Error() // it is known, and names the session
	}
	return fmt.Sprintf("kvstore: session %q: not known to be stored: %v", e.session, e.err)
}

func (e *unstoredError) Unwrap() error { return e.err }

// Flush returns when everything that was written to the DB before the call is stored, as durably as the store can. Its error is the first
// reason for which something was handed over instead: it was rejected, since the last Flush, or fenced while this one
// waited; or it is the context's.
func (db *DB[V]) Flush(ctx context.Context) error {
	if ctx == nil {
		return errNilContext
	}
	if db.closing.Load() {
		return ErrClosed
	}
	b := newBarrier()
	now := db.now()
	for _, l := range db.lanes {
		l.watch(b, now)
	}
	b.finish(nil)
	if err := b.wait(ctx); err != nil {
		return fmt.Errorf("kvstore: flush: %w", err)
	}
	if err := db.harden(ctx); err != nil {
		return fmt.Errorf("kvstore: flush: what is stored is not known to be durable: %w", err)
	}
	return nil
}

// watcher waits until all that changed in a lane up to a time is stored. No session is touched for it.
type watcher struct {
	upto int64
	b    *barrier
}

// watch has the barrier wait for the lane's changes up to now.
func (l *lane[V]) watch(b *barrier, now int64) {
	l.mu.Lock()
	b.fail(l.untold)
	l.untold = nil
	switch t := l.eldest(); {
	case t == 0 || t > now:
	case l.ended:
		b.fail(ErrClosed)
	default:
		b.left.Add(1)
		l.watchers = append(l.watchers, watcher{now, b})
		l.kicked = len(l.queue) > 0
	}
	l.mu.Unlock()
	l.rouse()
}

// report answers the watchers for whom all is stored.
func (l *lane[V]) report() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.watchers) == 0 {
		return
	}
	t := l.eldest()
	l.watchers = slices.DeleteFunc(l.watchers, func(w watcher) bool {
		done := t == 0 || t > w.upto
		if done {
			w.b.finish(nil)
		}
		return done
	})
}

// blame tells the watchers that something was handed over. If there is none, the next one is told of a rejection, which no
// call has told of; and Close of everything.
func (l *lane[V]) blame(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.watchers) == 0 && l.untold == nil && (l.draining || errors.Is(err, ErrRejected)) {
		l.untold = err
	}
	for _, w := range l.watchers {
		w.b.fail(err)
	}
}

// end answers all watchers, when the lane has stopped.
func (l *lane[V]) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	t := l.eldest()
	for _, w := range l.watchers {
		if t != 0 && t <= w.upto {
			w.b.fail(ErrClosed)
		}
		w.b.finish(nil)
	}
	l.watchers = nil
}

// Release hands a session over: it flushes what is unsaved and gives the ownership up in the
// same step, so that any node can adopt it at once. Once Release is called, writes to the session fail with ErrReleased,
// and after it the session is not resident. If ctx is over first, the session stays here, as it was.
func (db *DB[V]) Release(ctx context.Context, id string) error {
	if ctx == nil {
		return errNilContext
	}
	for {
		s, err := db.resident(ctx, id)
		if err != nil {
			return err
		}
		b := newBarrier()
		if err := db.handOver(s, b); err != nil {
			if db.retry(s, err) {
				continue
			}
			return err
		}
		b.finish(nil)
		db.lane(s).kick()
		if err := b.wait(ctx); err != nil {
			if !db.keep(s) {
				db.out(s)
				return nil // it was done just now
			}
			return err
		}
		s.mu.Lock()
		left := s.state != live
		s.mu.Unlock()
		if left {
			db.out(s)
			return nil
		}
		// Another caller gave the hand-over up, and this one did not.
	}
}

// handOver begins a session's release. The barrier waits for its end.
func (db *DB[V]) handOver(s *session[V], b *barrier) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(anyLife); err != nil {
		return err
	}
	if !s.has(release) {
		if !s.has(queued) && !db.lane(s).push(s, db.now()) {
			return ErrClosed
		}
		s.set(release)
		db.headAgain(s)
	}
	s.join(b, s.ver)
	return nil
}

// keep takes a release back that was not done in time. It reports false if it is done.
func (db *DB[V]) keep(s *session[V]) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == live && s.has(release) {
		s.unset(release)
		db.headAgain(s) // the store may have it as released, or be about to
		s.more().regain = s.ver
		db.remark(s) // it was not while it was to go
	}
	return s.state == live || !errors.Is(s.gone(), ErrReleased)
}

// Drain hands every session over and takes in no new ones, while the DB goes on answering (Adopt tells where
// a session lives now, in an OwnedError): for a rolling deploy, before Close. If ctx is over first, what was
// not handed over yet stays here.
func (db *DB[V]) Drain(ctx context.Context) (err error) {
	if ctx == nil {
		return errNilContext
	}
	db.draining.Store(true)
	if err := db.preloads.end(ctx, ErrDraining); err != nil {
		return fmt.Errorf("kvstore: drain: a preload has not ended: %w", err)
	}
	sealed := false
	defer func() {
		if sealed && err != nil {
			db.sealed.Add(-1)
		}
	}()
	for {
		if db.closing.Load() {
			return ErrClosed
		}
		b := newBarrier()
		var leaving []*session[V]
		for s := range db.residents() {
			db.vacate(s) // whoever is making it finds that the node drains
			s.mu.Lock()
			if s.state != live {
				s.mu.Unlock()
				db.out(s)
				continue
			}
			deleted := s.usable(anyLife) != nil
			if deleted {
				s.join(b, s.ver)
			}
			s.mu.Unlock()
			if deleted {
				leaving = append(leaving, s)
			} else if db.handOver(s, b) == nil {
				leaving = append(leaving, s)
			}
		}
		for _, l := range db.lanes {
			l.kick()
		}
		idle := b.left.Load() == 1
		b.finish(nil)
		if err := b.wait(ctx); err != nil && ctx.Err() != nil {
			for _, s := range leaving {
				db.keep(s)
			}
			return fmt.Errorf("kvstore: drain: %w", err)
		}
		// In this order: an answer makes a session.
		switch here := db.asking() + db.sessions.size(); {
		case db.closing.Load(): // it takes out of memory what was not handed over, too
			return ErrClosed
		case here == 0 && db.sieve == nil && !db.astray.Load():
			return nil
		case here == 0 && sealed:
			return db.releaseEvicted(ctx)
		case here == 0:
			// What is released behind the sessions' backs must not be loaded again meanwhile. Look
			// once more for what was loaded until now.
			db.sealed.Add(1)
			sealed = true
			continue
		case !idle:
			continue
		}
		// Nobody can be waited for: sessions on their way in, or expired ones on their way out.
		timer := time.NewTimer(time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("kvstore: drain: %w", ctx.Err())
		}
	}
}

// asking returns how many questions for sessions are under way.
func (db *DB[V]) asking() (n int) {
	for i := range db.stripes {
		st := &db.stripes[i]
		st.mu.Lock()
		n += len(st.calls)
		st.mu.Unlock()
	}
	return n
}

// releaseEvicted releases what is owned and not in memory.
func (db *DB[V]) releaseEvicted(ctx context.Context) error {
	var changes []store.Change
	release := func() error {
		if len(changes) == 0 {
			return nil
		}
		rs, err := db.apply(ctx, changes)
		changes = changes[:0]
		for i := range rs {
			if rs[i].Outcome == store.Undecided {
				err = cmp.Or(err, rs[i].Err, errors.New("the store did not decide on a release"))
			}
		}
		return err
	}
	var damaged []error
	for h, err := range db.store.Sessions(ctx, store.Query{Owner: db.self.Incarnation}) {
		var c *store.CorruptError
		if errors.As(err, &c) {
			damaged = append(damaged, err) // it does not keep the others from being released
			continue
		}
		if err != nil {
			return fmt.Errorf("kvstore: drain: %w", err)
		}
		if h.Released {
			continue
		}
		changes = append(changes, store.Change{Session: h.Session, Owner: db.self, Epoch: h.Epoch, Seq: db.seq.Add(1),
			Release: true, Expires: h.Expires, Aliases: h.Aliases, Schema: h.Schema})
		if len(changes) == db.opt.MaxBatch {
			if err := release(); err != nil {
				return fmt.Errorf("kvstore: drain: %w", err)
			}
		}
	}
	if err := errors.Join(append(damaged, release())...); err != nil {
		return fmt.Errorf("kvstore: drain: %w", err)
	}
	return nil
}
