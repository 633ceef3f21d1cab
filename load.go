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
	many bool // it is about several entries, and err about some of them
}

// fetch returns the current version of an entry, absent included, loading it if need be. It also
// checks that what tx has seen before, if there is one, still holds, in the same view, or returns errConflict.
func (db *DB[V]) fetch(ctx context.Context, s *session[V], life uint32, key string, tx *Tx[V]) (*cell[V], error) {
	for {
		s.mu.Lock()
		if err := s.usable(life); err != nil {
			s.mu.Unlock()
			return nil, err
		}
		if err := tx.holds(); err != nil {
			s.mu.Unlock()
			return nil, err
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
			var err error
			if l, err = db.startLoad(s, []string{key}); err != nil {
				s.mu.Unlock()
				return nil, err
			}
		}
		s.mu.Unlock()
		select {
		case <-l.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if l.err != nil && !l.many {
			return nil, l.err
		}
	}
}

// startLoad begins to load entries that are not in memory, and that nobody loads. Caller holds the session's mu.
func (db *DB[V]) startLoad(s *session[V], keys []string) (*load[V], error) {
	x, l := s.more(), &load[V]{done: make(chan struct{}), many: len(keys) > 1}
	if !db.spawn(func(ctx context.Context) { db.load(ctx, s, keys, l) }) {
		return nil, ErrClosed
	}
	if x.loads == nil {
		x.loads = make(map[string]*load[V])
	}
	for _, key := range keys {
		x.loads[key] = l
	}
	return l, nil
}

// load is the goroutine of a load.
func (db *DB[V]) load(ctx context.Context, s *session[V], keys []string, l *load[V]) {
	cells, err := db.loadCells(ctx, s, keys)
	db.count.loads.Add(1)
	s.mu.Lock()
	for _, key := range keys {
		// A change of the key meanwhile took the load out: what it found is older.
		if s.state == live && s.x != nil && s.x.loads[key] == l {
			delete(s.x.loads, key)
			if c := cells[key]; c != nil {
				db.install(s, key, c)
			}
		}
	}
	db.remark(s)
	s.mu.Unlock()
	if l.err = err; err != nil && db.ctx.Err() != nil {
		l.err = ErrClosed // Close cut the call off
	}
	db.expelled(s, err)
	close(l.done)
}

// expelled takes a session out of memory if err says that it is somebody else's. It returns err.
func (db *DB[V]) expelled(s *session[V], err error) error {
	var by *FencedError
	if errors.As(err, &by) {
		db.expel(s, nil, by)
	}
	return err
}

// install puts a loaded version in its place, unless there is a newer one. Caller holds mu.
func (db *DB[V]) install(s *session[V], key string, c *cell[V]) {
	e := s.at(key)
	if e.cell.Load() != nil {
		return
	}
	e.stored = c != db.absent
	e.cell.Store(c)
	db.arm(s, key, e, c.expires)
}

// loadCells reads entries from the store. It returns those that it could read, absent for those that do not exist. Its error is about the
// others; a FencedError says that the session turned out to be somebody else's.
func (db *DB[V]) loadCells(ctx context.Context, s *session[V], keys []string) (map[string]*cell[V], error) {
	var snap store.Snapshot
	var damage error
	none, err := db.ours(ctx, s, func(ctx context.Context) (h store.Header, err error) {
		snap, err = db.store.Load(ctx, s.id(), keys...)
		if unread(err) != nil {
			damage, err = err, nil
		}
		return snap.Header, err
	})
	if err != nil {
		return nil, err
	}
	if none {
		snap.Entries, damage = nil, nil
	}
	cells := make(map[string]*cell[V], len(keys))
	for _, key := range keys {
		cells[key] = db.absent
	}
	if damage != nil {
		for _, key := range unread(damage) {
			delete(cells, key)
		}
		damage = fmt.Errorf("kvstore: session %q: load: %w", s.id(), damage)
	}
	for i := range snap.Entries {
		e := &snap.Entries[i]
		if cells[e.Key] == nil {
			continue // nobody has asked for it
		}
		c, err := db.decode(s.id(), e)
		if err != nil {
			delete(cells, e.Key)
			damage = errors.Join(damage, fmt.Errorf("kvstore: session %q, key %q: %w", s.id(), e.Key, err))
			continue
		}
		cells[e.Key] = c
	}
	return cells, damage
}

// ours has something of a resident session read, and checks that it is still ours: its error is a FencedError if not. Of a session that
// left memory meanwhile it cannot tell: then its error says why that left. It reports none if the session's creation is not stored yet: then
// what was read is of a former one.
func (db *DB[V]) ours(ctx context.Context, s *session[V], read func(context.Context) (store.Header, error)) (none bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, db.opt.StoreTimeout)
	defer cancel()
	for {
		s.mu.Lock()
		epoch, ours := s.epoch, s.has(creating)
		s.mu.Unlock()
		gen := db.lease.gen.Load()
		h, err := read(ctx)
		if unread(err) == nil {
			db.heard(err)
		}
		if err != nil {
			return false, fmt.Errorf("kvstore: session %q: load: %w", s.id(), err)
		}
		s.mu.Lock()
		moved := s.epoch != epoch
		held := h.HeldBy(db.self, epoch)
		if s.has(creating) && !moved && (s.x == nil || s.x.birth == 0 || h.Seq < s.x.birth) {
			held = false // it is from before the first attempt to store it: a tenure of this node's that it has given up
		}
		if s.state != live {
			err = s.left() // before it was asked for, or meanwhile
		}
		s.mu.Unlock()
		switch {
		case err != nil:
			return false, err
		case held:
			s.verified.Store(gen)
			return false, nil
		case ours && !h.Exists():
			s.verified.Store(gen)
			return true, nil // its creation is not stored yet
		case !moved: // else its creation was proposed again meanwhile, above a former life
			return false, &FencedError{Session: s.id(), Epoch: epoch, By: h}
		}
	}
}

// snapshot reads entries of a resident session, as ours does.
func (db *DB[V]) snapshot(ctx context.Context, s *session[V], keys ...string) (snap store.Snapshot, err error) {
	none, err := db.ours(ctx, s, func(ctx context.Context) (h store.Header, err error) {
		snap, err = db.store.Load(ctx, s.id(), keys...)
		return snap.Header, err
	})
	if none {
		return store.Snapshot{}, err
	}
	return snap, err
}

// loadAll brings every entry of the session into memory: it is complete then.
func (db *DB[V]) loadAll(ctx context.Context, s *session[V]) error {
	s.mu.Lock()
	err, done, forgotten := s.usable(anyLife), s.has(complete), s.more().forgotten
	s.mu.Unlock()
	if err != nil || done {
		return err
	}
	snap, err := db.snapshot(ctx, s)
	if err != nil {
		return db.expelled(s, err)
	}
	cells := make([]*cell[V], len(snap.Entries))
	bad := make(map[string]error)
	for i := range snap.Entries {
		if cells[i], err = db.decode(s.id(), &snap.Entries[i]); err != nil {
			bad[snap.Entries[i].Key] = err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(anyLife); err != nil || s.has(complete) {
		return err
	}
	if s.more().forgotten != forgotten {
		return errConflict // a value that was newer than the snapshot was forgotten
	}
	for key, err := range bad {
		if s.version(key, db.absent) == nil { // else it was replaced
			return fmt.Errorf("kvstore: session %q, key %q: %w", s.id(), key, err)
		}
	}
	for i := range snap.Entries {
		if cells[i] != nil {
			db.install(s, snap.Entries[i].Key, cells[i])
		}
	}
	s.set(complete)
	if s.main.cell.Load() == nil {
		s.main.stored = false
		s.main.cell.Store(db.absent)
	}
	db.remark(s)
	if s.x == nil {
		return nil
	}
	// In a complete session what has no place does not exist.
	s.x.loads, s.x.known = nil, nil
	for key, e := range s.x.places() {
		switch c := e.cell.Load(); {
		case c == nil:
			s.x.removePlace(key)
		case c == db.absent && !e.dirty && !s.has(flying):
			s.x.removePlace(key)
		}
	}
	return nil
}
