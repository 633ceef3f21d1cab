package kvstore

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is queries: what is asked, and what the answer says. Merge.go finds it.

// Query says which sessions are asked for. Where there is an Index, one that was given to Open, it asks for those that have a term in it; Term, Prefix, or From and
// To, may say which. The zero value asks for all sessions that have a main entry.
type Query[V any] struct {
	Index string

	Term     string // this term
	Prefix   string // terms that begin so
	From, To string // terms with From ≤ term < To; an empty To is no bound

	// Where, if not nil, narrows it down to those for which it returns true, by the ID and the value of the entry that the index is about. It is called on the
	// caller's goroutine, under no lock. It does not save the page's reads: there may be fewer rows in one.
	Where func(id string, v V) bool

	// After is where the page begins: Answer.Next of the page before, for the same query. The zero value is the beginning.
	After Cursor

	// Limit is the most rows of a page. Zero: 100.
	Limit int
}

// Cursor is a place in the order of a query's rows: text, that can be kept, or handed to a client, and used by another node with the same declarations. It
// tells a session's ID, and a term, to whoever decodes it.
type Cursor string

// Row is a session that a query has found. In a range of terms a session has a row for each of its terms there.
type Row[V any] struct {
	Session  string
	Term     string // empty in a query without an index
	Value    V      // of the entry that the index is about, or the main entry. Shared with whoever has it: not to be changed
	Resident bool   // Value is from this node's memory; else it is what the store has
	Owner    string // the name of the node that owned the session when it was read; empty: it was released
}

// Answer is a page of what a query has found.
type Answer[V any] struct {
	Rows    []Row[V] // in the order of (term, session): of the bytes of the term, then those of the ID, its first 96 if it has more than 128
	Next    Cursor   // where the next page begins. Empty: this is the last. A page may have few rows, or none, and not be the last
	Covered Coverage
}

// Coverage says what an answer is about.
type Coverage struct {
	Resident int // sessions, or their terms, that this node's memory decided on, whether they are among the rows or not
	Stored   int // those that the store did

	// Indexed: every stored session is known to have been indexed when the last Reindex of this DB ended. As long as it is false a
	// session that was last written by a program that did not declare this Index, or another Version of it, may be missing. In a query without an index it is true.
	Indexed bool
}

// defaultLimit is the Limit of a Query that has none.
const defaultLimit = 100

// Resident yields the sessions in this node's memory whose main entry is there, and matches pred; nil: all; with those entries, in no order. It does no I/O. It
// covers neither what is on other nodes, nor what nobody owns, nor, with Options.MaxResident, what was evicted, nor a main entry that is still to be loaded.
//
// pred is called under no lock. What changes while it goes on may be yielded as it was or as it is; what is there throughout is yielded once. In strict mode
// nothing is yielded that could not be served at once.
func (db *DB[V]) Resident(pred func(id string, v V) bool) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for s := range db.residents() {
			if db.inTime() != nil {
				return
			}
			c := db.lookHere(s, "")
			if c == nil || pred != nil && !pred(s.id(), c.val) {
				continue
			}
			if !yield(s.id(), c.val) {
				return
			}
		}
	}
}

// lookHere returns an entry that can be served from memory, as it is; nil if there is none.
func (db *DB[V]) lookHere(s *session[V], key string) *cell[V] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.usable(anyLife) != nil || db.opt.Strict && (s.given() != nil || s.verified.Load() != db.lease.gen.Load()) {
		return nil
	}
	c := s.version(key, db.absent)
	if c == nil || c == db.absent || c.expires.Past(time.Now()) {
		return nil
	}
	return c
}

// Stored answers q from what the store has, of whoever's sessions, this node's too: without the changes that are not stored yet, anywhere. What has
// expired does not show. By an index it reads the rows of the page and no others; without one, all headers for each page: then choose a Limit that is not
// small.
//
//   - An error that names sessions: those rows are missing, as they cannot be read; the others, and Next, are there. Any other error comes with no rows.
//   - ErrInvalid: q cannot be right, or After is of another query.
func (db *DB[V]) Stored(ctx context.Context, q Query[V]) (Answer[V], error) {
	return db.query(ctx, q, false)
}

// Merged is Stored, with this node's sessions as they are in its memory: a change that was made here before the call shows, be it stored or
// not. What other nodes have changed shows when it is stored, within their MaxDelay. It is in the same order; what is in an entry that is not in
// memory is loaded.
//
// What has one term throughout all pages is in them once, whatever comes to this node, or leaves it, meanwhile. What changes its term while the pages
// are read shows where it was or where it is, in both or in neither.
func (db *DB[V]) Merged(ctx context.Context, q Query[V]) (Answer[V], error) {
	return db.query(ctx, q, true)
}

// search is a query that was checked.
type search[V any] struct {
	Query[V]
	index   *declared[V] // nil: none; then names are IDs, else marks
	at      int32        // of the index, in those of its key
	overlay bool         // memory counts

	from, to string // of the names that the page is about: from ≤ name < to; an empty to is no bound
}

const (
	cursorIndex = 'X' // a mark follows
	cursorAll   = 'S' // an ID
)

// cursor returns the place of a name.
func (q *search[V]) cursor(name string) Cursor {
	kind := byte(cursorAll)
	if q.index != nil {
		kind = cursorIndex
	}
	return Cursor(base64.RawURLEncoding.EncodeToString(append([]byte{kind}, name...)))
}

// place is the inverse.
func (q *search[V]) place(c Cursor) (name string, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(string(c))
	if err != nil || len(b) == 0 || (b[0] == cursorIndex) != (q.index != nil) || b[0] != cursorIndex && b[0] != cursorAll {
		return "", false
	}
	return string(b[1:]), true
}

// resolve checks a query.
func (db *DB[V]) resolve(q Query[V], overlay bool) (*search[V], error) {
	bad := func(format string, args ...any) (*search[V], error) {
		return nil, fmt.Errorf("%w: query: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	s := &search[V]{Query: q, overlay: overlay}
	ways := 0
	for _, set := range []bool{q.Term != "", q.Prefix != "", q.From != "" || q.To != ""} {
		if set {
			ways++
		}
	}
	switch {
	case q.Limit < 0:
		return bad("Limit is %d: 0 for %d, or more", q.Limit, defaultLimit)
	case ways > 1:
		return bad("want one of Term, Prefix, and From and To, or none")
	case q.Index == "" && ways > 0:
		return bad("terms of no Index")
	}
	if q.Limit == 0 {
		s.Limit = defaultLimit
	}
	if q.Index != "" {
		if db.terms != nil {
			for _, d := range db.terms.all {
				if d.Name == q.Index {
					s.index = d
				}
			}
		}
		if s.index == nil {
			return bad("the index %.80q was not given to Open", q.Index)
		}
		for i, d := range db.terms.of(s.index.Key) {
			if d == s.index {
				s.at = int32(i)
			}
		}
		s.bounds()
	}
	if q.After == "" {
		return s, nil
	}
	name, ok := s.place(q.After)
	if !ok || name < s.from || s.to != "" && name >= s.to {
		return bad("After is not a cursor of this query")
	}
	s.from = name
	return s, nil
}

// bounds sets the range of the marks of the terms that are asked for. Terms stand in marks as texts, which are in their order.
func (q *search[V]) bounds() {
	prefix := q.index.prefix
	text := func(t string) string { return prefix + string(appendText(nil, t)) }
	q.from, q.to = text(""), indexEnd(prefix) // all, but for those that say that there is no term
	switch {
	case q.Term != "":
		q.from = text(q.Term)
		q.to = q.from[:len(q.from)-1] + "\x02"
	case q.Prefix != "":
		open := text(q.Prefix)
		q.from = open[:len(open)-2] // without what ends the text
		q.to = min(q.to, after(q.from))
	default:
		q.from = text(q.From)
		if q.To != "" {
			q.to = text(q.To)
		}
	}
}

// after returns the least string above all that begin with s, which is not all 0xFF.
func after(s string) string {
	b := []byte(s)
	for b[len(b)-1] == 0xFF {
		b = b[:len(b)-1]
	}
	b[len(b)-1]++
	return string(b)
}

// key returns the entry that the query is about.
func (q *search[V]) key() string {
	if q.index == nil {
		return ""
	}
	return q.index.Key
}

// query answers q.
func (db *DB[V]) query(ctx context.Context, q Query[V], overlay bool) (a Answer[V], err error) {
	if ctx == nil {
		return a, errNilContext
	}
	if db.closing.Load() {
		return a, ErrClosed
	}
	if overlay {
		if err := db.inTime(); err != nil {
			return a, err
		}
	}
	s, err := db.resolve(q, overlay)
	if err != nil {
		return a, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	unhook := context.AfterFunc(db.ctx, func() { stop(ErrClosed) })
	defer unhook()
	indexed := s.index == nil || db.terms.whole.Load()
	cs, next, damaged, err := db.candidates(ctx, s)
	if err == nil {
		db.decideAll(ctx, s, cs)
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		return Answer[V]{}, fmt.Errorf("kvstore: query: %w", err)
	}
	for i := range cs {
		c := &cs[i]
		if c.resident {
			a.Covered.Resident++
		} else {
			a.Covered.Stored++
		}
		if c.err != nil {
			damaged = append(damaged, c.err)
		}
		if c.cell == nil || s.Where != nil && !s.Where(c.id, c.cell.val) {
			continue
		}
		a.Rows = append(a.Rows, Row[V]{c.id, c.term, c.cell.val, c.resident, c.owner})
	}
	a.Covered.Indexed = indexed
	if next != "" {
		a.Next = s.cursor(next)
	}
	if err := errors.Join(damaged...); err != nil {
		return a, fmt.Errorf("kvstore: query: some rows cannot be read: %w", err)
	}
	return a, nil
}

// damagedOnly reports whether err says no more than that records are damaged: what was read beside them is good.
func damagedOnly(err error) bool {
	var c *store.CorruptError
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range j.Unwrap() {
			if !damagedOnly(e) {
				return false
			}
		}
		return true
	}
	return errors.As(err, &c)
}
