package kvstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// lease is this node's proof of life, as far as this node can know.
//
// It is a hint to others (they may adopt when it is over) and, in strict mode, to
// this node (it stops serving before it is over). After a lapse others may have
// adopted sessions that lie here clean, and that no flush will ever be fenced for. So gen
// counts the lapses, and a session is known to be ours only if it was verified in this gen.
type lease struct {
	until atomic.Int64  // DB.now until which the lease runs at least: counted from before the last renewal was sent
	gen   atomic.Uint32 // lapses
	quit  chan struct{} // closed: it is not renewed any more
	idle  chan struct{} // closed when it is not, and no renewal is under way

	mu      sync.Mutex
	lastErr error // of the last call to the store; nil if it answered
	lastAt  int64
}

// heard notes whether the store answered.
func (db *DB[V]) heard(err error) {
	if errors.Is(err, context.Canceled) {
		return // the caller gave up: that says nothing of the store
	}
	db.lease.mu.Lock()
	db.lease.lastErr, db.lease.lastAt = err, db.now()
	db.lease.mu.Unlock()
}

func (db *DB[V]) node() store.Node {
	return store.Node{Name: db.self.Node, Incarnation: db.self.Incarnation, Addr: db.opt.Addr, Weight: db.opt.Weight}
}

// renew asks the store for another lease.
func (db *DB[V]) renew(ctx context.Context) error {
	sent := db.now()
	ran, err := db.store.KeepAlive(ctx, db.node(), db.opt.Lease)
	db.heard(err)
	if err != nil {
		return err
	}
	// The store knows best whether the lease ran, but may have answered an earlier attempt, whose answer was lost.
	if was := db.lease.until.Load(); was != 0 && (!ran || db.now() >= was) {
		db.lease.gen.Add(1)
		db.log.Warn("kvstore: the lease had been over; checking what was adopted meanwhile", "left", time.Duration(was-db.now()))
	}
	db.lease.until.Store(sent + int64(db.opt.Lease))
	return nil
}

// join takes the first lease, and ends those of this node's former incarnations: they never return.
func (db *DB[V]) join(ctx context.Context) error {
	if err := db.renew(ctx); err != nil {
		return fmt.Errorf("kvstore: open: the store does not take a lease: %w", err)
	}
	if db.opt.Node == "" {
		return nil
	}
	nodes, err := db.store.Nodes(ctx)
	if err != nil {
		return fmt.Errorf("kvstore: open: the store does not list its nodes: %w", err)
	}
	for _, n := range nodes {
		if n.Name == db.self.Node && n.Incarnation != db.self.Incarnation && n.Lease > 0 {
			db.log.Warn("kvstore: ending the lease of an earlier incarnation of this node", "incarnation", n.Incarnation)
			if _, err := db.store.KeepAlive(ctx, n, 0); err != nil {
				return fmt.Errorf("kvstore: open: the store does not end a lease: %w", err)
			}
		}
	}
	return nil
}

// keepAlive is the goroutine that renews the lease, and tells of changes in health.
func (db *DB[V]) keepAlive(ctx context.Context) {
	defer close(db.lease.idle)
	every := db.opt.Lease / 3
	timer := time.NewTimer(every)
	defer timer.Stop()
	var told Health
	told.LeaseLeft = 1
	audited := db.lease.gen.Load()
	failures := 0
	next := db.now() + int64(every)
	for {
		select {
		case <-ctx.Done():
			return
		case <-db.lease.quit:
			return
		case <-timer.C:
		}
		if db.now() >= next {
			call, cancel := context.WithTimeout(ctx, max(every, time.Millisecond))
			err := db.renew(call)
			cancel()
			if err == nil {
				failures = 0
				next = db.now() + int64(every)
			} else {
				failures++
				// Soon again: a lease that is not renewed costs every session.
				next = db.now() + int64(every)/8 + db.world.Rand(int64(every)/4+1)
				if failures == 1 {
					db.log.Warn("kvstore: the lease was not renewed", "error", err, "left", time.Duration(db.lease.until.Load()-db.now()))
				}
			}
		}
		if gen := db.lease.gen.Load(); gen != audited {
			audited = gen
			db.spawn(func(ctx context.Context) { db.audit(ctx, gen) })
		}
		if h := db.Health(); !h.same(told) {
			told = h
			if f := db.opt.Hooks.Health; f != nil {
				db.notes.post(func() { f(h) })
			}
		}
		timer.Reset(min(time.Duration(max(next-db.now(), 1)), every/4))
	}
}

// audit is the goroutine that, after a lapse, finds the sessions that others adopted
// meanwhile, and takes them out of memory. It ends when all are known to be ours in gen, or another lapse came.
func (db *DB[V]) audit(ctx context.Context, gen uint32) {
	for failures := 1; ctx.Err() == nil && db.lease.gen.Load() == gen; failures++ {
		err := db.auditOnce(ctx, gen)
		if err == nil {
			db.log.Info("kvstore: all sessions that are here are ours")
			return
		}
		timer := time.NewTimer(time.Duration(db.backoff(failures)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

func (db *DB[V]) auditOnce(ctx context.Context, gen uint32) error {
	for h, err := range db.store.Sessions(ctx, store.Query{Owner: db.self.Incarnation}) {
		var damaged *store.CorruptError
		if errors.As(err, &damaged) {
			continue
		}
		if err != nil {
			return err
		}
		if s := db.sessions.load(h.Session); s != nil {
			s.mu.Lock()
			if s.epoch == h.Epoch {
				s.verified.Store(gen)
			}
			s.mu.Unlock()
		}
	}
	// The rest is somebody else's, or was not there to be walked: ask for each. One that cannot be read does not keep
	// the others from being asked for.
	var failed error
	for s := range db.residents() {
		if s.verified.Load() == gen || s.dead() {
			continue
		}
		if err := db.verify(ctx, s); err != nil && !s.dead() {
			var damaged *store.CorruptError
			if !errors.As(err, &damaged) {
				return err
			}
			failed = err
		}
	}
	return failed
}

// verify asks the store whether the session is ours, and takes it out of memory if not.
func (db *DB[V]) verify(ctx context.Context, s *session[V]) error {
	_, err := db.snapshot(ctx, s, "")
	if unread(errors.Unwrap(err)) != nil {
		err = nil // its header could be read
	}
	var by *FencedError
	if errors.As(err, &by) {
		db.expel(s, nil, by)
	}
	return err
}

// inTime returns ErrSuspended if Options.Strict forbids to serve now: the lease may be over before the
// answer is used.
func (db *DB[V]) inTime() error {
	if db.closing.Load() {
		return ErrClosed
	}
	if db.opt.Strict && db.now() > db.lease.until.Load()-int64(db.opt.Lease)/10 {
		return ErrSuspended
	}
	return nil
}

// serve returns why the session may not be served, in strict mode after asking the store
// if the lease lapsed since it was last known to be ours.
func (db *DB[V]) serve(ctx context.Context, s *session[V]) error {
	if !db.slow.Load() {
		return nil
	}
	if err := db.inTime(); err != nil {
		return err
	}
	if !db.opt.Strict {
		return nil
	}
	s.mu.Lock()
	err := s.given()
	s.mu.Unlock()
	if err != nil || s.verified.Load() == db.lease.gen.Load() {
		return err
	}
	if err := db.verify(ctx, s); err != nil {
		return err
	}
	return db.inTime()
}

// given returns why the session may be another node's already, however well the lease is: it is being released, or was, and
// that it was taken back is not stored yet; or it has left. Caller holds mu.
func (s *session[V]) given() error {
	switch {
	case s.state != live:
		return s.left() // the store is not to be asked about it
	case s.has(release):
		return sessionError(s.id(), ErrReleased)
	case s.x != nil && s.x.regain > s.saved:
		return sessionError(s.id(), ErrSuspended)
	}
	return nil
}
