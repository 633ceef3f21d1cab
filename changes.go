package kvstore

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is what others are told of a change: before it is made, by BeforeCommit (veto.go), and after, by OnCommit and Watch (listen.go, watch.go).

// Commit is what one transaction does, or how a session came or left. What it holds is shared, with all who are told and with whoever reads the values:
// nobody may change it.
type Commit[V any] struct {
	Session string
	Epoch   uint64 // this node's tenure; that of an optimistic Create may still rise once
	Life    uint32 // tells apart the lives that the session has had here in the tenure: it was deleted, or expired, and began anew
	Cause   Cause

	// Whole: it is about the session as a whole, which began, ended, came or left: nothing that was known of its entries before holds any more.
	Whole bool

	// Changes are those of entries, each key once. If the session began with this commit, they are all that is in it; if it ended, came or left there
	// are none.
	Changes []EntryChange[V]

	Expires        time.Time // the session's expiry from now on; zero: never
	AddedAliases   []string
	RemovedAliases []string

	// Missed is the number of commits before this one that the listener would have been told of, and was not, since its queue was full.
	Missed int64
}

// EntryChange is what a commit does to an entry.
type EntryChange[V any] struct {
	Key   string    // of the entry; or the name of what Kind says
	Kind  EntryKind // what it is
	Cause Cause     // CausePut, CauseDelete, CauseExpire or CauseReject

	Old Content[V] // what was in memory
	New Content[V]
}

// Content is what is known of an entry at a moment.
type Content[V any] struct {
	Unknown bool      // it is not in memory: only the store knows whether there is something. Nothing is loaded to tell
	Exists  bool      // there is something; if Expires is past, nobody has seen it since
	Value   V         // of a Plain entry and a QueueItem: the one that was put
	Number  int64     // of a Counter
	Ref     string    // of a KeyQueueItem: the entry's key
	Expires time.Time // zero: never
}

// Cause says why something changed.
type Cause uint8

// Of an EntryChange only the second to fifth.
const (
	CauseUpdate  Cause = iota + 1 // the application has changed entries, the expiry or the aliases, in one transaction
	CausePut                      // an entry was put
	CauseDelete                   // the application has deleted it: an entry; or, Whole, the session with all that was in it
	CauseExpire                   // its time came: an entry's; or, Whole, the session's
	CauseReject                   // the store has refused entries or aliases for good: an entry is what the store has, again. Whole: the session, which has left
	CauseCreate                   // the session was made here, or began a new life: it is empty but for Changes
	CauseAdopt                    // it came from the store, claimed; in the epoch that it had, if it was evicted before anything was changed in that
	CauseReload                   // it came from the store, and was this node's: nothing has changed, but for entries whose time has come
	CauseEvict                    // it left memory, and remains this node's: nothing has changed
	CauseRelease                  // it was handed over
	CauseFence                    // another node has it
)

func (c Cause) String() string {
	return [...]string{"none", "update", "put", "delete", "expire", "reject", "create", "adopt", "reload", "evict", "release", "fence"}[min(c, CauseFence)]
}

// record is a commit as the data path takes it down: versions, which are never changed. What is told of it is made of that elsewhere.
type record[V any] struct {
	session  string
	epoch    uint64
	life     uint32
	cause    Cause
	whole    bool
	expires  store.Time
	was, now []string // aliases
	deltas   []delta[V]
	cost     int64 // bytes that it keeps in memory: values count where they are new
}

// delta is a change of an entry: from one version to another. nil is none that is in memory.
type delta[V any] struct {
	key      string
	old, new *cell[V]
}

// record takes down what ch is going to do, aliases being those that the session is going to have. Caller holds mu.
func (db *DB[V]) record(s *session[V], ch *change[V], aliases []string) *record[V] {
	r := &record[V]{session: s.id(), epoch: s.epoch, life: s.life(), cause: ch.cause, whole: ch.ending, cost: headCost(s.id())}
	switch {
	case r.cause != 0:
	case ch.del:
		r.cause = CauseDelete
	case ch.ending:
		r.cause = CauseCreate
	default:
		r.cause = CauseUpdate
	}
	if s.x != nil {
		r.was = s.x.aliases
	}
	switch {
	case ch.aliases.any():
		r.now = slices.Clone(aliases) // see setAliases
	case !ch.ending:
		r.now = r.was
	}
	switch {
	case ch.expire:
		r.expires = ch.expires
	case !ch.ending:
		r.expires = store.Time(s.expires.Load())
	}
	if len(ch.writes) > 0 {
		r.deltas = make([]delta[V], len(ch.writes))
	}
	for i, w := range ch.writes {
		old := db.absent
		if !ch.ending {
			old = s.version(w.key, db.absent)
		}
		r.deltas[i] = delta[V]{w.key, old, w.cell}
		r.cost += int64(w.cost)
	}
	return r
}

// sameAs reports whether a record of the same writes is the same.
func (r *record[V]) sameAs(o *record[V], absent *cell[V]) bool {
	return r.epoch == o.epoch && r.life == o.life && r.cause == o.cause && r.whole == o.whole && r.expires == o.expires &&
		slices.Equal(r.was, o.was) && slices.Equal(r.now, o.now) && slices.EqualFunc(r.deltas, o.deltas, func(a, b delta[V]) bool { return a.sameAs(b, absent) })
}

// sameAs reports whether two deltas are the same. A step makes raw cells anew each time that it is taken: what is in them counts.
func (d delta[V]) sameAs(o delta[V], absent *cell[V]) bool {
	if d == o {
		return true
	}
	return d.key == o.key && d.old == o.old && isRaw(d.key) && d.new != absent && o.new != absent && bytes.Equal(rawOf(d.new), rawOf(o.new))
}

// commitOf makes of a record what is told, of the keys that the filter lets through.
func (db *DB[V]) commitOf(r *record[V], f *filter, missed int64) Commit[V] {
	c := Commit[V]{
		Session: r.session, Epoch: r.epoch, Life: r.life, Cause: r.cause, Whole: r.whole, Expires: r.expires.Std(), Missed: missed,
		AddedAliases: without(r.now, r.was), RemovedAliases: without(r.was, r.now),
	}
	for i := range r.deltas {
		d := &r.deltas[i]
		if !f.hasKey(d.key) {
			continue
		}
		kind, name := kindOf(d.key)
		cause := CausePut
		switch {
		case r.cause == CauseExpire || r.cause == CauseReject:
			cause = r.cause
		case d.new == db.absent:
			cause = CauseDelete
		}
		if c.Changes == nil {
			c.Changes = make([]EntryChange[V], 0, len(r.deltas)-i)
		}
		c.Changes = append(c.Changes, EntryChange[V]{Key: name, Kind: kind, Cause: cause, Old: db.content(d.key, d.old), New: db.content(d.key, d.new)})
	}
	return c
}

// without returns what of a is not in b.
func without(a, b []string) (rest []string) {
	for _, s := range a {
		if !slices.Contains(b, s) {
			rest = append(rest, s)
		}
	}
	return rest
}

// content describes a version of a key.
func (db *DB[V]) content(key string, c *cell[V]) (is Content[V]) {
	if c == nil || c == db.absent {
		is.Unknown = c == nil
		return is
	}
	is.Exists, is.Expires = true, c.expires.Std()
	switch kind, _ := kindOf(key); kind {
	case Plain, QueueItem:
		is.Value = c.val
	case KeyQueueItem:
		is.Ref = string(rawOf(c))
	case Counter:
		if raw := rawOf(c); len(raw) == 8 {
			is.Number = int64(binary.BigEndian.Uint64(raw))
		}
	}
	return is
}

// filter chooses what is told. The zero value chooses all.
type filter struct {
	Filter
	one bool // Sessions is an ID, not how it begins
}

// wanted reports whether the filter lets a record through.
func (r *record[V]) wanted(f *filter) bool {
	if !f.hasSession(r.session) {
		return false
	}
	return f.Keys == "" || r.whole || slices.ContainsFunc(r.deltas, func(d delta[V]) bool { return f.hasKey(d.key) })
}

func (f *filter) hasSession(id string) bool {
	return strings.HasPrefix(id, f.Sessions) && (!f.one || id == f.Sessions)
}

func (f *filter) hasKey(key string) bool {
	return f.Keys == "" || !isOwn(key) && strings.HasPrefix(key, f.Keys)
}
