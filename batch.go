package kvstore

import (
	"fmt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is what a flush brings: what changed is collected under each session's lock, and encoded
// under none.

// batch is what one call to the store brings. Its buffers are used again: Apply keeps nothing of them.
type batch[V any] struct {
	flights []flight[V]
	items   []item[V]
	changes []store.Change
	sent    []int // changes[i] is of flights[sent[i]]
	puts    []store.Entry
	deletes []string
	arena   []byte // the encoded values

	results []store.Result // the answer: of changes
	alone   bool           // a failure in it is the session's own

	aloft []flight[V] // flights, as Close sees them until the store has answered; under the lane's mu
}

// flight is one session's part of a batch.
type flight[V any] struct {
	s      *session[V]
	items  []item[V]
	ver    uint64 // the session's changes up to here are stored, if it is
	upto   uint64 // it has entries of changes up to here; above ver if it is a part, by probing
	since  int64
	life   uint32
	change store.Change // without Puts and Deletes until finish
	puts   int          // how many of the batch's are its own
	head   bool         // the header changed: its charge is held here
	void   bool         // there is nothing to tell the store
	unsent bool         // the store has not been told: it was taken back

	deletes int
	ended   bool // settled, or handed over by Close; under the session's mu
}

// item is a dirty entry that was taken.
type item[V any] struct {
	key    string
	e      *entry[V]
	cell   *cell[V]
	charge int32 // held here until the store has answered
	stored bool  // the store may have had the key before
	same   bool  // the store has this very value: there is nothing to write
	err    error // it cannot be encoded
}

func (b *batch[V]) reset() {
	clear(b.flights)
	clear(b.items)
	clear(b.changes)
	clear(b.puts)
	clear(b.deletes)
	b.flights, b.items, b.changes, b.sent = b.flights[:0], b.items[:0], b.changes[:0], b.sent[:0]
	b.puts, b.deletes = b.puts[:0], b.deletes[:0]
	b.results, b.alone = nil, false
	if cap(b.arena) > 2*batchBytes {
		b.arena = nil
	}
	b.arena = b.arena[:0]
}

// collect takes what is dirty in s, between two of its transactions. It reports false if there is
// nothing to take. Caller holds s.mu.
func (b *batch[V]) collect(db *DB[V], s *session[V]) bool {
	s.unset(queued)
	since := s.since
	s.since = 0
	if s.state != live {
		return false
	}
	f := flight[V]{s: s, ver: s.ver, upto: s.ver, since: since, life: s.life(), head: s.has(head)}
	first := len(b.items)
	if s.has(tomb) && !s.has(deleted) && !s.has(creating) {
		b.bury(db, f)
		return true
	}
	// Probing takes one entry at a time, in the order in which they became dirty; the main one, which has no place in it, every
	// other time: none that changes all the time keeps another from its turn.
	mainWaits := s.has(probing) && s.x != nil && s.x.probed && len(s.x.dirty) > 0
	if s.main.dirty && !mainWaits {
		b.take(db, "", &s.main)
	}
	whole := !s.main.dirty
	if x := s.x; x != nil {
		x.probed = s.has(probing) && len(b.items) > first
		n := 0
		for ; n < len(x.dirty) && !(s.has(probing) && len(b.items) > first); n++ {
			d := x.dirty[n]
			d.listed = false
			if d.dirty {
				b.take(db, d.key, d.entry)
			}
		}
		left := copy(x.dirty, x.dirty[n:])
		clear(x.dirty[left:])
		x.dirty = x.dirty[:left]
		whole = whole && left == 0
	}
	if whole {
		s.unset(probing | head)
	} else {
		f.ver, f.head = s.saved, false // the header goes with the last part
	}
	f.items = b.items[first:len(b.items):len(b.items)]

	// The number is assigned under the lock under which the changes were made: no flush
	// with a lower one can hold a newer value. It counts for the whole DB, so that a session
	// that is deleted, leaves, and is created again goes on above its tombstone.
	seq := db.seq.Add(1)
	s.set(flying)
	if s.has(deleted) && s.has(creating) && !s.has(blind) {
		f.void = true // made and deleted before the store heard of it
	} else {
		s.setIf(tomb, s.has(deleted))
	}
	f.change = store.Change{
		Session: s.id(), Owner: db.self, Epoch: s.epoch, Seq: seq,
		Create: s.has(creating) || s.has(tomb), Wipe: s.has(wipe), Delete: s.has(deleted), Release: s.has(release) && whole,
		Expires: store.Time(s.expires.Load()),
	}
	f.change.Schema = db.opt.Schema
	if s.x != nil {
		s.x.sinks(f.change.Expires)
		f.change.Aliases, f.change.Schema = s.x.names(), max(s.x.schema, db.opt.Schema)
	}
	if s.has(creating) {
		if x := s.more(); x.birth == 0 {
			x.birth = seq
		}
		f.change.Birth = s.x.birth
	}
	s.unset(wipe)
	b.flights = append(b.flights, f)
	return true
}

// bury sends a session's deletion once more, alone: it is not known to be stored, and the session has begun a new life. That
// needs an epoch above the tombstone's. In the same one nobody could tell a creation by another node, which saw the
// tombstone and is late, from one that came after the new life. Caller holds the session's mu.
func (b *batch[V]) bury(db *DB[V], f flight[V]) {
	s := f.s
	f.ver, f.head = s.saved, false
	f.change = store.Change{Session: s.id(), Owner: db.self, Epoch: s.epoch, Seq: db.seq.Add(1), Create: true, Delete: true}
	s.set(flying)
	b.flights = append(b.flights, f)
}

// take moves a dirty entry into the batch. Caller holds the session's mu.
func (b *batch[V]) take(db *DB[V], key string, e *entry[V]) {
	b.items = append(b.items, item[V]{key: key, e: e, cell: e.cell.Load(), charge: e.charge, stored: e.stored, same: unchanged(key, e.cell.Load(), db.absent)})
	e.dirty, e.charge, e.stored = false, 0, true
}

// encode makes the bytes of a flight's items. No lock is held.
func (b *batch[V]) encode(db *DB[V], f *flight[V]) {
	for i := range f.items {
		it := &f.items[i]
		if it.cell == db.absent {
			b.deletes = append(b.deletes, it.key)
			f.deletes++
			continue
		}
		if it.same {
			continue
		}
		start := len(b.arena)
		b.arena, it.err = db.append(b.arena, it.key, it.cell)
		value := b.arena[start:len(b.arena):len(b.arena)]
		if it.err == nil {
			it.err = db.fits(value)
		}
		if it.err != nil {
			b.arena = b.arena[:start]
			if db.terms.of(it.key) != nil { // or others would find the session by what is not stored
				f.change.Aliases = db.terms.without(f.change.Aliases, it.key)
			}
			continue
		}
		if db.opt.DetectMutation && !isRaw(it.key) {
			db.checkSum(f.s.id(), it.key, it.cell, value)
		}
		b.puts = append(b.puts, store.Entry{Key: it.key, Value: value, Expires: it.cell.expires})
		f.puts++
	}
}

// fits returns an error if an encoded value is too large.
func (db *DB[V]) fits(value []byte) error {
	if n := len(value) - db.prefix; n > db.opt.MaxValue {
		return fmt.Errorf("%w: %d bytes encoded, Options.MaxValue is %d", ErrTooLarge, n, db.opt.MaxValue)
	}
	return nil
}

// finish gives a flight its entries, the first of those that are left, and returns the others'.
func (f *flight[V]) finish(puts []store.Entry, deletes []string) ([]store.Entry, []string) {
	f.change.Puts = puts[:f.puts:f.puts]
	f.change.Deletes = deletes[:f.deletes:f.deletes]
	return puts[f.puts:], deletes[f.deletes:]
}

// ends reports whether a life that the store may have on record ends with the flight. Caller holds the session's mu.
func (f *flight[V]) ends() bool { return f.change.Wipe && (f.change.Birth == 0 || f.s.has(blind)) }

// begins reports whether the store has a life on record, which has ended since, if the flight gets there. Caller holds the session's mu.
func (f *flight[V]) begins() bool {
	return f.change.Create && !f.change.Delete && !f.void && f.life != f.s.life()
}

// changes reports whether the store has anything to do for the flight.
func (f *flight[V]) changes() bool {
	c := &f.change
	return !f.void && (f.head || c.Create || c.Wipe || c.Delete || len(c.Puts) > 0 || len(c.Deletes) > 0)
}
