package kvstore

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// ID returns the session's ID.
func (h *Session[V]) ID() string { return h.cur.Load().s.id() }

// Epoch returns the number of this node's tenure. It may still rise once after an
// optimistic Create, until that is stored.
func (h *Session[V]) Epoch() uint64 {
	s := h.cur.Load().s
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// Lag returns how long the oldest change of the session has waited to be stored; 0 if all is
// stored. For what is in flight it is an upper bound.
func (h *Session[V]) Lag() time.Duration {
	s := h.cur.Load().s
	s.mu.Lock()
	defer s.mu.Unlock()
	since := s.since
	if s.has(flying) {
		since = h.db.lane(s).held.Load()
	}
	if since == 0 {
		return 0
	}
	return time.Duration(h.db.now() - since)
}

// do runs op on the resident session and the life of it that the handle is on. An evicted session is loaded again, and
// must be of the same tenure.
func (h *Session[V]) do(ctx context.Context, op func(s *session[V], life uint32) error) error {
	if ctx == nil {
		return errNilContext
	}
	for {
		on := h.cur.Load()
		s := on.s
		if h.db.closing.Load() {
			return ErrClosed
		}
		err := op(s, on.life)
		if !errors.Is(err, errEvicted) {
			return err
		}
		h.db.out(s)
		if s.outlived(on.life) {
			return sessionError(s.id(), ErrNotFound)
		}
		n, err := h.db.resident(ctx, s.id())
		if err != nil {
			return err
		}
		n.mu.Lock()
		old, epoch, creating := s.epoch, n.epoch, n.has(creating) // s is dead: its epoch does not change
		n.mu.Unlock()
		if creating || s.outlived(on.life) {
			return sessionError(s.id(), ErrNotFound) // it was deleted meanwhile, and is made anew: that has an epoch of its own
		}
		if epoch != old {
			return &FencedError{Session: s.id(), Epoch: old, By: store.Header{Session: s.id(), Epoch: epoch, Owner: h.db.self}}
		}
		h.cur.CompareAndSwap(on, &bond[V]{n, on.life})
	}
}

// Get returns an entry, loading it if it is not in memory.
//
//   - ErrNotFound: there is no such entry, or the session was deleted or has expired.
//   - ErrFenced, ErrReleased: the session is no longer here.
func (h *Session[V]) Get(ctx context.Context, key string) (v V, err error) {
	on := h.cur.Load()
	if key == "" && !h.db.slow.Load() {
		// If its life is not over now, it was not when the value was looked at.
		if c := h.db.glance(on.s.front); c != nil && on.s.life() == on.life {
			if h.db.sieve != nil {
				on.s.visit()
			}
			return c.val, nil
		}
	}
	if err := checkKey(on.s.id(), key); err != nil {
		return v, err
	}
	err = h.do(ctx, func(s *session[V], life uint32) error {
		c, err := h.db.read(ctx, s, life, key)
		if err == nil {
			v = c.val
		}
		return err
	})
	return v, err
}

// Put sets an entry, in memory at once and in the store within Options.MaxDelay. The entry
// does not expire by itself any more, if it did.
func (h *Session[V]) Put(ctx context.Context, key string, v V) error {
	return h.PutUntil(ctx, key, v, time.Time{})
}

// PutUntil sets an entry that is gone from the time at on; zero is never. To extend
// it, put it again.
func (h *Session[V]) PutUntil(ctx context.Context, key string, v V, at time.Time) error {
	c, err := h.db.newCell(h.ID(), key, v, at)
	if err != nil {
		return err
	}
	w := [1]write[V]{{key: key, cell: c}}
	return h.do(ctx, func(s *session[V], life uint32) error {
		return h.db.commit(ctx, s, &change[V]{writes: w[:], bound: true, life: life})
	})
}

// Delete deletes an entry. To delete one that does not exist is no error.
func (h *Session[V]) Delete(ctx context.Context, key string) error {
	if err := checkKey(h.ID(), key); err != nil {
		return err
	}
	w := [1]write[V]{{key: key, cell: h.db.absent}}
	return h.do(ctx, func(s *session[V], life uint32) error {
		return h.db.commit(ctx, s, &change[V]{writes: w[:], bound: true, life: life})
	})
}

// Expire sets the time from which the session is gone, with all its entries; zero is
// never. It is a change like any other. After its time it cannot be extended.
func (h *Session[V]) Expire(ctx context.Context, at time.Time) error {
	return h.do(ctx, func(s *session[V], life uint32) error {
		return h.db.commit(ctx, s, &change[V]{expire: true, expires: store.TimeOf(at), bound: true, life: life})
	})
}

// Expires returns the time that Expire set; zero is never.
func (h *Session[V]) Expires() time.Time {
	return store.Time(h.cur.Load().s.expires.Load()).Std()
}

// All returns the session's entries in the order of their keys, as they are at one moment, after loading
// those that are not in memory.
func (h *Session[V]) All(ctx context.Context) (iter.Seq2[string, V], error) {
	cells := map[string]*cell[V]{}
	err := h.do(ctx, func(s *session[V], life uint32) error {
		if err := h.db.serve(ctx, s); err != nil {
			return err
		}
		for {
			if err := h.db.fetchAll(ctx, s, life); err != nil {
				return err
			}
			if whole, err := s.collectAll(life, cells, h.db.absent); err != nil || whole {
				return err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return func(yield func(string, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(cells)) {
			if !yield(k, cells[k].val) {
				return
			}
		}
	}, nil
}

// collectAll fills cells with the application's entries. It reports whether all are known, and in memory.
func (s *session[V]) collectAll(life uint32, cells map[string]*cell[V], absent *cell[V]) (whole bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(life); err != nil {
		return false, err
	}
	whole = s.knows(allUser)
	now := time.Now()
	clear(cells)
	add := func(key string, e *entry[V]) {
		switch c := e.cell.Load(); {
		case c == nil:
			whole = false
		case c != absent && !c.expires.Past(now):
			cells[key] = c
		}
	}
	add("", &s.main)
	if s.x != nil {
		for k, e := range s.x.rest {
			add(k, e)
		}
	}
	return whole, nil
}

// Sync returns when everything that was written to the session before the call is
// stored. All who wait at the time share one round trip.
//
//   - ErrRejected: some of it will not be, or was not since a Sync last said so. Hooks.Lost has it, and the entry has the value
//     that the store has.
//   - ErrFenced: it will not be; Hooks.Lost has it.
//   - The context's error: it is not known yet; it stays in the buffer.
func (h *Session[V]) Sync(ctx context.Context) error {
	return h.do(ctx, func(s *session[V], life uint32) error {
		s.mu.Lock()
		state := s.state
		s.mu.Unlock()
		if state == evicted {
			return errEvicted // what was written since is elsewhere
		}
		return h.db.syncAll(ctx, s)
	})
}
