package kvstore

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/seed-6f1f505d/kvstore/store"
)

// cell is one version of an entry's value. It is never changed once it is published, so
// that a reader needs no lock, and a pointer to it names the version.
type cell[V any] struct {
	val     V
	expires store.Time
}

// entry is a key's place in a resident session. Its cell is
//
//	nil          not in memory: ask the store
//	db.absent    known not to exist
//	else         the value
//
// The other fields are guarded by the session's mu.
type entry[V any] struct {
	cell   atomic.Pointer[cell[V]]
	charge int32 // bytes of the budget held for the dirty cell; 0 unless dirty
	dirty  bool  // changed since the last flush took it
	listed bool  // in extra.dirty; if dirty, it is
	stored bool  // the store may have this key
	armed  bool  // it may have an alarm; if not, it has none
}

// session is a session in memory: a cache line of what a change touches, beside the front. What few sessions need is in extra: a session of one
// entry takes 64 bytes, and 64 for its front with the ID.
//
// Locks, in the order in which they are taken: stripe.mu, session.mu, lane.mu. The sieve's, the
// expirer's, the clock's, the notifier's, the listeners' and the catalogue's are last, and nothing is taken under them. None is held
// across a call to the store, a channel, a codec or a function of the application.
type session[V any] struct {
	*front[V]

	mu    sync.Mutex
	epoch uint64
	x     *extra[V]

	// ver counts the changes; those up to saved are stored, superseded or were handed over.
	//
	//	saved ≤ ver;  clean ⇔ saved = ver
	ver, saved uint64

	since int64         // when the oldest change not yet taken by a flush was made (DB.now); 0 unless queued
	fate  atomic.Uint32 // bit 0: state is not live; the rest counts the lives that ended here; written under mu
	flags flags
	turn  uint8 // of the lane's queue in which it is; 0 if it is not in that
	state state
}

// flags are what is true of a session; under its mu.
type flags uint16

const (
	complete flags = 1 << iota // every key the store has is in memory: an unknown key does not exist
	creating                   // made here, and no flush is acknowledged yet
	blind                      // creating, and some attempt had no answer: it may have been applied
	tomb                       // the store may have our tombstone: the next change must create again
	head                       // the header changed: creation, deletion, expiry, release
	wipe                       // the entries on record are of a deleted life: they go first
	deleted                    // deleted here; not there for anyone, until revived or departed
	release                    // being handed over: takes no changes
	urged                      // in the lane's urgent ones
	queued                     // in a list of its lane, to be flushed; set if anything is to be flushed and not in flight
	flying                     // in a batch that the store has not answered
	probing                    // the store rejected it and did not say which entry: flush them one by one
	held                       // a handle on it was made: its lives count over an eviction
)

// has reports whether one of these is set.
func (s *session[V]) has(f flags) bool { return s.flags&f != 0 }

func (s *session[V]) set(f flags) { s.flags |= f }

func (s *session[V]) unset(f flags) { s.flags &^= f }

// setIf sets f if on, and else leaves it as it is.
func (s *session[V]) setIf(f flags, on bool) {
	if on {
		s.set(f)
	}
}

// assign makes f what on says.
func (s *session[V]) assign(f flags, on bool) {
	s.unset(f)
	s.setIf(f, on)
}

// sieved is a session of a DB with a sieve: all of them are, or none is.
type sieved[V any] struct {
	session[V]
	place   place[V]
	visited atomic.Bool // read or written since the sieve's hand passed
}

// sieved returns the session as what it is in a DB with a sieve.
func (s *session[V]) sieved() *sieved[V] { return (*sieved[V])(unsafe.Pointer(s)) }

// visit tells the sieve, which there is, that the session was used.
func (s *session[V]) visit() {
	if v := &s.sieved().visited; !v.Load() {
		v.Store(true)
	}
}

type state uint8

const (
	live state = iota
	evicted
	departed // released, fenced or deleted; gone says why
	shut     // the DB was closed
)

// extra holds what a session of one clean entry does without.
type extra[V any] struct {
	rest    map[string]*entry[V]
	own     shelf[V]            // the library's own entries
	arms    bool                // some of these may have alarms
	dirty   []keyed[V]          // entries of rest and own that may be dirty, in the order of change
	idle    uint32              // how many of these have ceased to be, at most, since they were looked through
	loads   map[string]*load[V] // under way; a change of the key takes it out
	parts   map[part]*load[V]   // of spans, under way
	known   []known             // see span.go
	shape   uint64              // ver at the last change of the application's set of keys, or when this was made
	waiters []waiter
	aliases []string  // of the header; never changed, but replaced
	marks   []string  // likewise, the library's own; see marks.go
	schema  uint32    // of the header, if above Options.Schema
	probed  bool      // the last entry that was sent alone, by probing, was the main one
	birth   uint64    // if creating: the seq of the first attempt; 0 before
	regain  uint64    // the change that takes a release back: before it is saved, another node may have been granted the session
	gone    error     // why state is departed
	line    *lifeline // if held, and it was evicted at some time
	waived  string    // the alias of which a clash was taken for one that passes, though nothing was to be seen of that
	untold  error     // that something was rejected, and no Sync has said so

	floor store.Time // the session's end in the store is not before this, nor will be by what is in flight; 0: that is not known. See touch.go

	fails uint8 // attempts in a row that failed for this session alone
	due   int64 // if fails > 0: not to be tried again before (DB.now), however often it changes

	forgotten uint32 // counts the values that were handed over: a load before it is out of date
}

type keyed[V any] struct {
	key string
	*entry[V]
}

// newSession returns a session that is in no index yet.
func (db *DB[V]) newSession(id string, epoch uint64) *session[V] {
	if db.sieve == nil {
		return new(session[V]).begin(id, epoch)
	}
	s := new(sieved[V])
	s.place.s = &s.session
	return s.session.begin(id, epoch)
}

func (s *session[V]) begin(id string, epoch uint64) *session[V] {
	s.front, s.epoch = newFront[V](id), epoch
	s.front.session.Store(s)
	return s
}

func (s *session[V]) more() *extra[V] {
	if s.x == nil {
		s.x = &extra[V]{shape: s.ver}
	}
	return s.x
}

// dead reports whether the session has left memory.
func (s *session[V]) dead() bool { return s.fate.Load()&1 != 0 }

// life tells the lives of the session apart: it was deleted, or expired, and began anew. What is in flight of a former
// one is not merged back, and who has a handle on it does not write into this one. It stays when the session has left.
func (s *session[V]) life() uint32 { return s.fate.Load() >> 1 }

// failed returns how many attempts in a row failed for this session alone. Caller holds mu.
func (s *session[V]) failed() uint8 {
	if s.x == nil {
		return 0
	}
	return s.x.fails
}

// anyLife stands for the life that the session has now.
const anyLife = ^uint32(0)

// less gives up the extra if nothing is in it any more. Caller holds mu.
func (s *session[V]) less() {
	if x := s.x; x != nil && len(x.rest)+x.own.len()+len(x.parts)+len(x.known)+len(x.dirty)+len(x.loads)+len(x.waiters)+len(x.aliases)+len(x.marks) == 0 &&
		x.schema == 0 && x.gone == nil && x.untold == nil && x.birth == 0 && x.forgotten == 0 && x.fails == 0 && x.line == nil && x.regain <= s.saved {
		s.x = nil
	}
}

// lookup returns the key's place, nil if it has none. Caller holds mu.
func (s *session[V]) lookup(key string) *entry[V] {
	if key == "" {
		return &s.main
	}
	if s.x == nil {
		return nil
	}
	return s.x.place(key)
}

// at returns the key's place, and makes one if need be. Caller holds mu.
func (s *session[V]) at(key string) *entry[V] {
	if e := s.lookup(key); e != nil {
		return e
	}
	return s.newPlace(key)
}

// newPlace makes the place of a key that has none. Caller holds mu.
func (s *session[V]) newPlace(key string) *entry[V] {
	e := s.more().addPlace(key)
	e.stored = !s.sure(key)
	return e
}

// shape names the set of the application's keys, but for the main entry: it changes whenever one comes or goes. Caller holds mu.
//
// It is lost with the extra, and begins again as the number of the last change: above what it was, unless there was no change at all.
func (s *session[V]) shape() uint64 { return s.more().shape }

// reshapes reports whether a key comes or goes, or may do so, if its place e gets a new cell. Caller holds mu.
func (s *session[V]) reshapes(key string, e *entry[V], next, absent *cell[V]) bool {
	switch was := e.cell.Load(); {
	case was != nil:
		return (was == absent) != (next == absent)
	case s.sure(key):
		return e.stored != (next != absent)
	}
	return true // the store may have it
}

// version returns what a reader of key sees now: the cell, or absent; nil if
// it must be loaded. Caller holds mu.
func (s *session[V]) version(key string, absent *cell[V]) *cell[V] {
	_, c := s.see(key, absent)
	return c
}

// see is version, and returns the key's place beside it, nil if it has none. Caller holds mu.
func (s *session[V]) see(key string, absent *cell[V]) (*entry[V], *cell[V]) {
	if e := s.lookup(key); e != nil {
		return e, e.cell.Load()
	}
	if s.sure(key) {
		return nil, absent
	}
	return nil, nil
}

// clean reports whether nothing of the session is unsaved or under way. Caller holds mu.
func (s *session[V]) clean() bool {
	return s.saved == s.ver && !s.has(queued) && !s.has(flying) && !s.has(head) &&
		(s.x == nil || len(s.x.waiters) == 0 && len(s.x.loads) == 0 && len(s.x.parts) == 0)
}

// gone returns why a session that left memory is no longer here. Caller holds mu.
func (s *session[V]) gone() error {
	if s.x != nil && s.x.gone != nil {
		return s.x.gone
	}
	if s.state == shut {
		return ErrClosed
	}
	return sessionError(s.id(), ErrNotResident)
}

// left returns why a session is not in memory. What the store has on record says nothing of that: the epoch may have moved
// in an object that came after this one, for a new life here, or for another tenure of this node. Caller holds mu, and
// has seen that it is not live.
func (s *session[V]) left() error {
	if s.state == evicted {
		return errEvicted
	}
	return s.gone()
}

// errEvicted sends its receiver to look the session up again. It is never
// returned to the application.
var errEvicted = fmt.Errorf("%w: evicted", ErrNotResident)

// errVacant likewise, after the place has been taken away.
var errVacant = fmt.Errorf("%w: not made yet", ErrNotResident)

// usable returns why the session cannot be used in the given life, or in any: it left, is deleted or has
// expired. Caller holds mu.
func (s *session[V]) usable(life uint32) error {
	if s.state != live {
		return s.left()
	}
	switch {
	case s.vacant():
		return errVacant
	case s.has(deleted), s.expired(), life != anyLife && life != s.life():
		return sessionError(s.id(), ErrNotFound)
	}
	return nil
}

// vacant reports whether the session is only a place for one that Create is about to make: it says nothing of what the
// store has. Caller holds mu.
func (s *session[V]) vacant() bool { return s.has(deleted) && s.has(creating) && s.ver == 0 }

func (s *session[V]) expired() bool {
	t := s.expires.Load()
	return t != 0 && store.Time(t).Past(time.Now())
}

// leave takes everything out of the session's memory, in the given state. Caller
// holds mu, and has seen to what is unsaved; after it, out must be called without mu.
func (db *DB[V]) leave(s *session[V], st state, why error) {
	db.departs(s, st, why)
	s.state = st
	s.fate.Or(1)
	db.disarm(s)
	s.main.cell.Store(nil)
	if st != evicted { // whose timers go on
		db.unmark(s)
	} else {
		db.terms.moved(s, s.marks(), nil)
	}
	x := s.x
	s.x = nil
	if x != nil {
		db.names.leave(s, x.aliases...)
		for _, w := range x.waiters {
			w.finish(why)
		}
	}
	if why != nil && st != shut { // Close is no time to ask for memory
		s.more().gone = why
	}
}

// residents yields the sessions in memory, in no order; in a simulation in that of their IDs.
func (db *DB[V]) residents() iter.Seq[*session[V]] {
	all := db.sessions.all()
	if db.world == nil {
		return all
	}
	return slices.Values(slices.SortedFunc(all, func(a, b *session[V]) int { return strings.Compare(a.id(), b.id()) }))
}

// out removes a session that has left from the map, so that it can come in again. Caller holds no lock.
func (db *DB[V]) out(s *session[V]) {
	db.sessions.remove(s)
	if db.sieve != nil {
		db.sieve.remove(s)
	}
}
