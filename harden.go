package kvstore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file has what is stored made durable, where a store acknowledges sooner than that: store.Barrier.

// hardening shares barriers between those who wait for one. A barrier that was begun before a change was acknowledged says
// nothing of it: whoever comes while one is under way waits for the next.
type hardening struct {
	store store.Barrier // nil: what is acknowledged is as durable as it gets
	acks  atomic.Uint64 // calls of Apply that were acknowledged
	sure  atomic.Uint64 // of these the first so many are durable

	mu   sync.Mutex
	runs bool   // there is a goroutine that sees to it
	next *round // the barrier after the one under way; nil: nobody waits for it
}

// round is one barrier.
type round struct {
	done chan struct{} // closed when err is set
	err  error
}

// harden waits until all that the store has acknowledged is durable. It is tried until it is, or ctx is over, or something is known to be lost.
func (db *DB[V]) harden(ctx context.Context) error {
	h := &db.hard
	if h.store == nil || h.sure.Load() >= h.acks.Load() {
		return nil
	}
	h.mu.Lock()
	if h.next == nil {
		h.next = &round{done: make(chan struct{})}
	}
	r := h.next
	if !h.runs {
		if h.runs = db.spawn(db.rounds); !h.runs {
			h.next = nil
			h.mu.Unlock()
			return ErrClosed
		}
	}
	h.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rounds makes barriers until nobody waits for one.
func (db *DB[V]) rounds(ctx context.Context) {
	h := &db.hard
	for {
		h.mu.Lock()
		r := h.next
		h.next, h.runs = nil, r != nil
		h.mu.Unlock()
		if r == nil {
			return
		}
		acks := h.acks.Load()
		if r.err = db.barrier(ctx); r.err == nil {
			h.sure.Store(acks)
		}
		close(r.done)
	}
}

// barrier makes one, however often that has to be tried. Its error is ErrClosed, or that something is lost.
func (db *DB[V]) barrier(ctx context.Context) error {
	for failed := 0; ; failed++ {
		call, cancel := context.WithTimeout(ctx, db.opt.StoreTimeout)
		err := db.hard.store.Barrier(call)
		cancel()
		var lost *store.ForgottenError
		if errors.As(err, &lost) {
			db.heard(nil) // it is an answer
		} else {
			db.heard(err)
		}
		switch {
		case err == nil:
			return nil
		case lost != nil:
			db.log.Error("kvstore: what was stored is lost", "error", err)
			for _, id := range lost.Sessions {
				l := db.laneOf(id)
				l.mu.Lock()
				if l.untold == nil {
					l.untold = err // the next Flush tells, or Close
				}
				l.mu.Unlock()
				if s := db.sessions.load(id); s != nil {
					db.spawn(func(ctx context.Context) { db.verify(ctx, s) })
				}
			}
			return err
		}
		if ctx.Err() != nil {
			return ErrClosed
		}
		db.log.Warn("kvstore: the store does not say that what it has is durable", "error", err)
		timer := time.NewTimer(time.Duration(db.backoff(failed)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ErrClosed
		}
	}
}
