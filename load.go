package kvstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file loads entries as they are touched, each once however many ask.

// load is one question to the store for one entry, under way.
type load[V any] struct {
	done chan struct{} // closed when err is set, and the entry is in memory unless it was changed meanwhile
	err  error
}

// fetch returns the current version of an entry, absent included, loading it if need be. It also
// checks that the versions seen before still hold, in the same view, or returns errConflict.
func (db *DB[V]) fetch(ctx context.Context, s *session[V], life uint32, key string, seen []version[V]) (*cell[V], error) {
	for {
		s.mu.Lock()
		if err := s.usable(life); err != nil {
			s.mu.Unlock()
			return nil, err
		}
		for _, r := range seen {
			if s.version(r.key, db.absent) != r.cell {
				s.mu.Unlock()
				return nil, errConflict
			}
		}
		c := s.version(key, db.absent)
		if c != nil {
			s.mu.Unlock()
			return c, nil
		}
		if ctx == nil {
			s.mu.Unlock()
			return nil, errNilContext
		}
		x := s.more()
		l := x.loads[key]
		if l == nil {
			l = &load[V]{done: make(chan struct{})}
			if !db.spawn(func(ctx context.Context) { db.load(ctx, s, key, l) }) {
				s.mu.Unlock()
				return nil, ErrClosed
			}
			if x.loads == nil {
				x.loads = make(map[string]*load[V])
			}
			x.loads[key] = l
		}
		s.mu.Unlock()
		select {
		case <-l.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if l.err != nil {
			return nil, l.err
		}
	}
}

// load is the goroutine of a load.
func (db *DB[V]) load(ctx context.Context, s *session[V], key string, l *load[V]) {
	c, by, err := db.loadCell(ctx, s, key)
	db.count.loads.Add(1)
	s.mu.Lock()
	// A change of the key meanwhile took the load out: what it found is older.
	if s.state == live && s.x != nil && s.x.loads[key] == l {
		delete(s.x.loads, key)
		if err == nil {
			db.install(s, key, c)
		}
	}
	s.mu.Unlock()
	if l.err = err; err != nil && db.ctx.Err() != nil {
		l.err = ErrClosed // Close cut the call off
	}
	if by != nil {
		db.expel(s, nil, by)
	}
	close(l.done)
}

// install puts a loaded version in its place, unless there is a newer one. Caller holds mu.
func (db *DB[V]) install(s *session[V], key string, c *cell[V]) {
	e := s.at(key)
	if e.cell.Load() != nil {
		return
	}
	e.stored = c != db.absent
	e.cell.Store(c)
	db.expirer.arm(s, alarmKey[V]{key, e}, 0, c.expires)
}

// loadCell reads one entry from the store. If the session turns out to be somebody
// else's, by tells.
func (db *DB[V]) loadCell(ctx context.Context, s *session[V], key string) (c *cell[V], by *FencedError, err error) {
	snap, err := db.snapshot(ctx, s, key)
	if err != nil {
		errors.As(err, &by)
		return nil, by, err
	}
	for i := range snap.Entries {
		if snap.Entries[i].Key != key {
			continue
		}
		c, err := db.decode(&snap.Entries[i])
		if err != nil {
			return nil, nil, fmt.Errorf("kvstore: session %q, key %q: %w", s.id, key, err)
		}
		return c, nil, nil
	}
	return db.absent, nil, nil
}

// snapshot reads entries of a resident session, and checks that it is still ours: its error is a FencedError if not. Of a session that
// left memory meanwhile it cannot tell: then its error says why that left.
func (db *DB[V]) snapshot(ctx context.Context, s *session[V], keys ...string) (store.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, db.opt.StoreTimeout)
	defer cancel()
	s.mu.Lock()
	epoch, ours := s.epoch, s.creating
	s.mu.Unlock()
	gen := db.lease.gen.Load()
	snap, err := db.store.Load(ctx, s.id, keys...)
	if unread(err) == nil {
		db.heard(err)
	}
	if err != nil {
		return snap, fmt.Errorf("kvstore: session %q: load: %w", s.id, err)
	}
	h := snap.Header
	s.mu.Lock()
	moved := s.epoch != epoch
	held := h.HeldBy(db.self, epoch)
	if s.creating && !moved && (s.x == nil || s.x.birth == 0 || h.Seq < s.x.birth) {
		held = false // it is from before the first attempt to store it: a tenure of this node's that it has given up
	}
	if s.state != live {
		err = s.left() // before it was asked for, or meanwhile
	}
	s.mu.Unlock()
	if err != nil {
		return store.Snapshot{}, err
	}
	if held {
		s.verified.Store(gen)
		return snap, nil
	}
	if ours && !h.Exists() {
		s.verified.Store(gen)
		return store.Snapshot{}, nil // its creation is not stored yet
	}
	if moved {
		return db.snapshot(ctx, s, keys...) // its creation was proposed again meanwhile, above a former life
	}
	return store.Snapshot{}, &FencedError{Session: s.id, Epoch: epoch, By: h}
}

// fetchAll brings every entry of the session into memory: it is complete then. Of all who want that, one asks the store.
func (db *DB[V]) fetchAll(ctx context.Context, s *session[V], life uint32) error {
	s.mu.Lock()
	if err := s.usable(life); err != nil || s.complete {
		s.mu.Unlock()
		return err
	}
	x := s.more()
	l := x.whole
	if l == nil {
		l = &load[V]{done: make(chan struct{})}
		if !db.spawn(func(ctx context.Context) {
			l.err = db.loadAll(ctx, s)
			if l.err != nil && db.ctx.Err() != nil {
				l.err = ErrClosed // Close cut the call off
			}
			s.mu.Lock()
			if s.x != nil && s.x.whole == l {
				s.x.whole = nil
			}
			s.mu.Unlock()
			close(l.done)
		}) {
			s.mu.Unlock()
			return ErrClosed
		}
		x.whole = l
	}
	s.mu.Unlock()
	select {
	case <-l.done:
		return l.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// loadAll is the call of the store for it.
func (db *DB[V]) loadAll(ctx context.Context, s *session[V]) error {
	s.mu.Lock()
	err, done, forgotten := s.usable(anyLife), s.complete, s.more().forgotten
	s.mu.Unlock()
	if err != nil || done {
		return err
	}
	snap, err := db.snapshot(ctx, s)
	if err != nil {
		var by *FencedError
		if errors.As(err, &by) {
			db.expel(s, nil, by)
		}
		return err
	}
	cells := make([]*cell[V], len(snap.Entries))
	bad := make(map[string]error)
	for i := range snap.Entries {
		if cells[i], err = db.decode(&snap.Entries[i]); err != nil {
			bad[snap.Entries[i].Key] = err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(anyLife); err != nil || s.complete {
		return err
	}
	if s.more().forgotten != forgotten {
		return errConflict // a value that was newer than the snapshot was forgotten
	}
	for key, err := range bad {
		if s.version(key, db.absent) == nil { // else it was replaced
			return fmt.Errorf("kvstore: session %q, key %q: %w", s.id, key, err)
		}
	}
	for i := range snap.Entries {
		if cells[i] != nil {
			db.install(s, snap.Entries[i].Key, cells[i])
		}
	}
	s.complete = true
	if s.main.cell.Load() == nil {
		s.main.stored = false
		s.main.cell.Store(db.absent)
	}
	if s.x == nil {
		return nil
	}
	// In a complete session what has no place does not exist.
	s.x.loads = nil
	for key, e := range s.x.rest {
		switch c := e.cell.Load(); {
		case c == nil:
			delete(s.x.rest, key)
		case c == db.absent && !e.dirty && !s.flying:
			delete(s.x.rest, key)
		}
	}
	return nil
}
