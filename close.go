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

// closed is the state of Close.
type closed struct {
	begun atomic.Bool // no sync.Once: who waits for that, waits on a mutex, for which testing/synctest's time stands still
	done  chan struct{}
	err   error
	lanes sync.WaitGroup
}

// grace is what Close takes beyond its context to end what it has begun: to cut calls to the
// store off, and to tell it that this node is gone.
const grace = time.Second

// Close ends the DB. It takes no more changes, stores all that is unsaved, ends this node's lease, so that
// others can adopt its sessions at once, and joins every goroutine. If ctx is over before all is stored, what
// remains is handed to Hooks.Lost (a flush whose answer is missing may still have been applied), and
// Close returns an *UnsavedError. What the last flushes could not store, because it was rejected or fenced, is in
// the error, too. A second Close waits for the first and returns the same.
//
// It does not close the store. It returns within a few seconds after ctx is over; only a store that ignores its own
// context, or a hook that does not return, can leave a goroutine behind, and the error says so.
func (db *DB[V]) Close(ctx context.Context) error {
	if ctx == nil {
		ctx = context.Background()
	}
	if db.closed.begun.CompareAndSwap(false, true) {
		db.closed.err = db.close(ctx)
		close(db.closed.done)
		return db.closed.err
	}
	select {
	case <-db.closed.done:
		return db.closed.err
	case <-ctx.Done():
	}
	timer := time.NewTimer(5 * grace) // as long as the first may take when its own context is over
	defer timer.Stop()
	select {
	case <-db.closed.done:
		return db.closed.err
	case <-timer.C:
		return fmt.Errorf("kvstore: close: another Close has not ended yet: %w", ctx.Err())
	}
}

func (db *DB[V]) close(ctx context.Context) error {
	db.slow.Store(true)
	db.closing.Store(true)
	close(db.stopping)
	for _, l := range db.lanes {
		l.mu.Lock()
		l.draining, l.untold = true, nil
		l.mu.Unlock()
		l.rouse()
	}
	lanes := make(chan struct{})
	go func() { db.closed.lanes.Wait(); close(lanes) }()
	var ended, soft error
	select {
	case <-lanes:
		if err := db.harden(ctx); err != nil {
			soft = fmt.Errorf("kvstore: close: what was stored is not known to be durable: %w", err)
		}
	case <-ctx.Done():
		ended = ctx.Err()
	}

	// A renewal that is under way could arrive after the end of the lease, and be a new one: so it is let end.
	close(db.lease.quit)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-db.lease.idle:
	case <-timer.C:
	}

	// Now everything else: no call to the store is needed any more but the last.
	db.cancel()
	db.tasks.mu.Lock()
	db.tasks.over = true
	db.tasks.mu.Unlock()
	tasks := make(chan struct{})
	go func() { db.tasks.wg.Wait(); <-lanes; close(tasks) }()
	var stuck error
	timer.Reset(grace)
	select {
	case <-tasks:
	case <-timer.C:
		stuck = errDeaf
	}

	var refused error // what the last flushes could not store
	for _, l := range db.lanes {
		l.mu.Lock()
		refused = errors.Join(refused, l.untold)
		l.mu.Unlock()
	}
	left := db.remains(ended, stuck != nil)
	lease, deaf := db.endLease(context.WithoutCancel(ctx))
	if stuck == nil {
		stuck = deaf
	}
	if errors.Is(lease, store.ErrClosed) {
		lease = nil
	} else if lease != nil {
		lease = fmt.Errorf("kvstore: close: the lease was not ended and will run out: %w", lease)
	}
	db.lease.until.Store(db.now())
	untold, listeners := db.listeners.close(ctx)
	db.count.missed.Add(untold)
	hooks := db.notes.close(ctx)
	return errors.Join(left, refused, soft, stuck, lease, listeners, hooks)
}

// errDeaf is Close's on a store that ignores the end of a call's context.
var errDeaf = errors.New("kvstore: close: a call to the store does not return although its context is over")

// endLease tells the store that this node is gone. It does not wait for a store that ignores its context.
func (db *DB[V]) endLease(ctx context.Context) (lease, stuck error) {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	answer := make(chan error, 1)
	go func() {
		_, err := db.store.KeepAlive(ctx, db.node(), 0)
		answer <- err
	}()
	timer := time.NewTimer(2 * grace)
	defer timer.Stop()
	select {
	case err := <-answer:
		return err, nil
	case <-timer.C:
		return ctx.Err(), errDeaf
	}
}

// remains takes every session out of memory and hands over what is not stored. If a call to the
// store is stuck, its lane is abandoned: what is in flight counts as not stored.
func (db *DB[V]) remains(ended error, stuck bool) error {
	left := &UnsavedError{Err: ended}
	aloft := map[*session[V]]*flight[V]{}
	if stuck {
		for _, l := range db.lanes {
			l.mu.Lock()
			l.abandoned = true
			for k := range l.batches {
				flights := l.batches[k].aloft
				for i := range flights {
					aloft[flights[i].s] = &flights[i]
				}
			}
			l.mu.Unlock()
		}
	}
	for s := range db.residents() {
		s.mu.Lock()
		if s.state != live {
			s.mu.Unlock()
			continue
		}
		var l Lost
		var free int64
		unsaved := s.saved != s.ver
		if unsaved {
			f := aloft[s]
			if f != nil && f.ended {
				f = nil
			}
			l, free = db.unsaved(s, f)
			l.Cause = ErrClosed
			if f != nil {
				f.ended = true
			}
		}
		db.leave(s, shut, ErrClosed)
		s.mu.Unlock()
		db.budget.release(free)
		if unsaved && l.any() {
			left.Sessions++
			left.Entries += len(l.Entries)
			db.lost(l)
		}
	}
	for s, f := range aloft { // of sessions that left while it was under way
		s.mu.Lock()
		ended, why := f.ended, s.gone()
		f.ended = true
		s.mu.Unlock()
		if !ended {
			left.Sessions++
			left.Entries += len(f.items)
			db.discard(f, store.Result{}, why)
		}
	}
	db.sessions.clear()
	for _, l := range db.lanes { // nothing waits any more
		l.mu.Lock()
		l.since = 0
		l.held.Store(0)
		l.mu.Unlock()
	}
	if left.Sessions == 0 {
		return nil
	}
	if left.Err == nil {
		left.Err = ErrClosed
	}
	return left
}
