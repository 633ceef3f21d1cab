package kvstore

import (
	"context"
	"errors"
	"slices"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is what is known of the keys that a session has in the store, beyond those that have a place in memory.
//
// Invariant: every key of a known span that the store may have has a place. So a key of it without a place does not exist. A place whose
// cell is nil says that the key exists, and that its value is still to be loaded.
//
// Of a span that had something damaged in it only the first half is so: it may be the key that is damaged, and the place then is that of what it has
// become. The store is asked for a key of it that has no place, and says what it finds.

// span is the keys with from ≤ key < to; an empty to is no bound.
type span struct{ from, to string }

// allUser is the application's keys but for the empty one.
var allUser = span{from: userKeys}

// below returns the span of what is below a path, the path itself not included.
func below(path string) span {
	if path == "" {
		return allUser
	}
	return span{path + "/", path + "0"} // '0' follows '/'
}

func (sp span) has(key string) bool { return key >= sp.from && (sp.to == "" || key < sp.to) }

func (sp span) covers(o span) bool {
	return sp.from <= o.from && (sp.to == "" || o.to != "" && o.to <= sp.to)
}

// known is a span of which the store has told the keys.
type known struct {
	span
	doubtful bool // some could not be read
}

// maxSpans is how many spans a session knows; beyond that it forgets the oldest, and asks again.
const maxSpans = 16

// learned adds a span. Caller holds mu.
func (s *session[V]) learned(sp known) {
	x := s.more()
	x.known = slices.DeleteFunc(x.known, func(k known) bool { return sp.covers(k.span) })
	if len(x.known) >= maxSpans {
		x.known = slices.Delete(x.known, 0, 1)
	}
	x.known = append(x.known, sp)
}

// knows reports whether every key of the span that the store has, and could read, has a place. Caller holds mu.
func (s *session[V]) knows(sp span) bool {
	return s.has(complete) || s.x != nil && slices.ContainsFunc(s.x.known, func(k known) bool { return k.covers(sp) })
}

// sure reports whether the key, if it has no place, does not exist. Caller holds mu.
func (s *session[V]) sure(key string) bool {
	return s.has(complete) || s.x != nil && len(s.x.known) > 0 && slices.ContainsFunc(s.x.known, func(k known) bool { return k.has(key) && !k.doubtful })
}

// doubts reports whether a key that the store has not told of may exist all the same.
func (s *session[V]) doubts(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lookup(key) == nil && !s.sure(key)
}

// part names a question to the store for a span, under way.
type part struct {
	span
	values bool
}

// learn returns when the span is known: of all who want that, one asks the store. With values these are brought into memory, too,
// but for those that cannot be read: whoever asks for them is told.
func (db *DB[V]) learn(ctx context.Context, s *session[V], life uint32, sp span, values bool) error {
	for {
		s.mu.Lock()
		if err := s.usable(life); err != nil || s.knows(sp) {
			s.mu.Unlock()
			return err
		}
		if ctx == nil {
			s.mu.Unlock()
			return errNilContext
		}
		x, p := s.more(), part{sp, values}
		l := x.parts[p]
		if l == nil {
			l = &load[V]{done: make(chan struct{})}
			if !db.spawn(func(ctx context.Context) {
				l.err = db.readSpan(ctx, s, p)
				if l.err != nil && db.ctx.Err() != nil {
					l.err = ErrClosed // Close cut the call off
				}
				s.mu.Lock()
				if s.x != nil && s.x.parts[p] == l {
					delete(s.x.parts, p)
				}
				s.mu.Unlock()
				close(l.done)
			}) {
				s.mu.Unlock()
				return ErrClosed
			}
			if x.parts == nil {
				x.parts = make(map[part]*load[V])
			}
			x.parts[p] = l
		}
		s.mu.Unlock()
		select {
		case <-l.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if l.err != nil && l.err != errConflict {
			return l.err
		}
	}
}

// rangePage is how many entries are read at a time.
const rangePage = 1024

// readSpan asks the store for a span, page by page.
func (db *DB[V]) readSpan(ctx context.Context, s *session[V], p part) error {
	ranger, ok := db.store.(store.Ranger)
	if !ok || db.rangeless.Load() {
		return db.loadAll(ctx, s)
	}
	doubtful := false
	for from := p.from; ; {
		s.mu.Lock()
		err, done, forgotten := s.usable(anyLife), s.knows(p.span), s.more().forgotten
		life := s.life()
		s.mu.Unlock()
		if err != nil || done {
			return err
		}
		var page store.Page
		var damaged []string
		none, err := db.ours(ctx, s, func(ctx context.Context) (store.Header, error) {
			var err error
			page, err = ranger.LoadRange(ctx, s.id(), store.Range{From: from, To: p.to, KeysOnly: !p.values, Limit: rangePage})
			if damaged = unread(err); damaged != nil {
				err = nil
			}
			return page.Header, err
		})
		if errors.Is(err, errors.ErrUnsupported) {
			db.rangeless.Store(true)
			return db.loadAll(ctx, s)
		}
		if err != nil {
			return db.expelled(s, err)
		}
		if none {
			page, damaged = store.Page{}, nil
		}
		var cells []*cell[V]
		for i := range page.Entries {
			var c *cell[V]
			if p.values {
				if c, err = db.decode(s.id(), &page.Entries[i]); err != nil {
					c = nil
				}
			}
			cells = append(cells, c)
		}
		var ending []string // what expires has to be in memory: who lists keys looks at the time
		s.mu.Lock()
		if err := s.usable(life); err != nil {
			s.mu.Unlock()
			return err
		}
		if s.more().forgotten != forgotten { // something that was newer than the page may have left memory
			s.mu.Unlock()
			continue
		}
		for i := range page.Entries {
			e := &page.Entries[i]
			if cells[i] != nil {
				db.install(s, e.Key, cells[i])
				continue
			}
			s.found(e.Key)
			if e.Expires != 0 {
				ending = append(ending, e.Key)
			}
		}
		for _, key := range damaged {
			s.found(key)
			doubtful = true
		}
		if page.Next == "" {
			s.learned(known{p.span, doubtful})
		}
		db.remark(s)
		s.mu.Unlock()
		db.count.loads.Add(1)
		if err := db.gather(ctx, s, life, ending); err != nil || page.Next == "" {
			return err
		}
		from = page.Next
	}
}

// fetchAll brings every entry of the application's into memory. It returns the first error of one that cannot be read.
func (db *DB[V]) fetchAll(ctx context.Context, s *session[V], life uint32) error {
	for {
		err := db.learn(ctx, s, life, allUser, true)
		var missing []string
		if err == nil {
			missing, err = s.missing(life)
		}
		if err == nil && len(missing) == 0 {
			return nil
		}
		if err == nil {
			err = db.gather(ctx, s, life, missing)
		}
		for _, key := range missing {
			if err == nil {
				_, err = db.fetch(ctx, s, life, key, nil)
			}
		}
		if err != nil && !errors.Is(err, errConflict) {
			return err
		}
	}
}

// missing returns the application's keys whose values are not in memory, of those that are known.
func (s *session[V]) missing(life uint32) (keys []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(life); err != nil {
		return nil, err
	}
	if s.main.cell.Load() == nil {
		keys = append(keys, "")
	}
	if s.x != nil {
		for key, e := range s.x.rest {
			if e.cell.Load() == nil {
				keys = append(keys, key)
			}
		}
	}
	return keys, nil
}

// found makes a place for a key that the store has, if there is none. Caller holds mu.
func (s *session[V]) found(key string) {
	if s.lookup(key) == nil {
		s.at(key).stored = true
	}
}

// gatherBatch is how many entries are asked for in one call.
const gatherBatch = 256

// gather brings the entries of keys into memory, many in one call to the store. What cannot be read is left: whoever asks for it is told.
func (db *DB[V]) gather(ctx context.Context, s *session[V], life uint32, keys []string) error {
	for len(keys) > 0 {
		batch := keys[:min(gatherBatch, len(keys))]
		keys = keys[len(batch):]
		s.mu.Lock()
		if err := s.usable(life); err != nil {
			s.mu.Unlock()
			return err
		}
		var wait []*load[V]
		var missing []string
		for _, key := range batch {
			if s.version(key, db.absent) != nil {
				continue
			}
			if l := s.more().loads[key]; l == nil {
				missing = append(missing, key)
			} else if !slices.Contains(wait, l) {
				wait = append(wait, l)
			}
		}
		if len(missing) > 0 {
			l, err := db.startLoad(s, missing)
			if err != nil {
				s.mu.Unlock()
				return err
			}
			wait = append(wait, l)
		}
		s.mu.Unlock()
		for _, l := range wait {
			select {
			case <-l.done:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}
