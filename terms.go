package kvstore

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/seed-6f1f505d/kvstore/internal/ordered"
	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is secondary indexes: what sessions are found by, of that which is in their values. (index.go is something else: the map of sessions by
// their IDs.)
//
// A function of the application makes terms of a value. A term is a mark of the session (marks.go): so it is stored in the step that stores the value,
// fenced, and adopted with the session, and a store.Finder finds the sessions that have it. The terms are found where a version of the entry is born, under
// no lock, and travel with it. A commit that gives the entry a version with other terms gives the session other marks:
//
//	a session's marks of an index = the terms of the version that its entry has in memory, if that is known
//
// A session without a term in an index has a mark that says so. So every session that a program with the declaration has written has marks of the
// index, and those of which Reindex has to see to are those that have none.
//
// An index that is declared with another Version is another index. A DB drops the marks of indexes that it does not declare when a session comes in: it
// does not keep them up to date, so they must not be found.

// Index declares a secondary index, at Open: by the terms that a value has, Stored and Merged find its session, without a look at the others.
type Index[V any] struct {
	// Name names the index in queries, and in the store. At most 64 bytes.
	Name string

	// Version is to be another one whenever Terms makes other terms of a value that is stored. What older versions have indexed is
	// found again after a Reindex.
	Version int

	// Key is the entry that the index is about. The zero value is the main entry.
	Key string

	// Terms returns what the session is to be found by: a user's name, say. Empty terms are left out, and those that come twice count once. It must be a
	// function of v and nothing else, and must not change v. It is called once for each value that is put or loaded, under no lock, on any goroutine, several at
	// a time. A panic reaches the caller of a Put, and nothing is changed; while a value is loaded it is an error, as if the value could not be decoded.
	//
	// A session may have some 250 terms, with what it has of aliases and timers; each has up to about 800 bytes, all together 32 KiB: ErrTooLarge, from
	// the Put. They are written with every change of the session.
	Terms func(v V) []string
}

// maxIndexName is the longest name of an index, so that something is left of a mark to its terms.
const maxIndexName = 64

// declared is an index of this DB.
type declared[V any] struct {
	Index[V]
	prefix string // of its marks: the name of it in the store is its name and its version
}

// catalogue is the indexes of a DB, and the resident sessions by their terms. A nil one has none.
type catalogue[V any] struct {
	all    []*declared[V]
	main   []*declared[V]            // those of the main entry
	others map[string][]*declared[V] // those of others, by key
	whole  atomic.Bool               // a Reindex has found all that is stored to be indexed

	// here leads from each term's mark of the live sessions in memory to the session. A session that has just come in is entered soon after it is in
	// the map: until then it has what it has in the store. Changed under that session's mu; nothing is taken under its own.
	mu   sync.Mutex
	here ordered.Map[*session[V]]
}

// newCatalogue returns nil if there are no indexes.
func newCatalogue[V any](indexes []Index[V]) (*catalogue[V], error) {
	if len(indexes) == 0 {
		return nil, nil
	}
	c := &catalogue[V]{others: make(map[string][]*declared[V])}
	bad := func(x Index[V], format string, args ...any) error {
		return fmt.Errorf("%w: index %.80q: %s", ErrInvalid, x.Name, fmt.Sprintf(format, args...))
	}
	for _, x := range indexes {
		switch {
		case x.Name == "" || len(x.Name) > maxIndexName:
			return nil, bad(x, "the name has %d bytes: want 1 to %d", len(x.Name), maxIndexName)
		case slices.ContainsFunc(c.all, func(d *declared[V]) bool { return d.Name == x.Name }):
			return nil, bad(x, "it is declared twice")
		case x.Terms == nil:
			return nil, bad(x, "Terms is nil")
		}
		if err := checkKey("", x.Key); err != nil {
			return nil, fmt.Errorf("index %q: %w", x.Name, err)
		}
		d := &declared[V]{x, indexPrefix(x.Name + "/" + strconv.Itoa(x.Version))}
		c.all = append(c.all, d)
		if x.Key == "" {
			c.main = append(c.main, d)
		} else {
			c.others[x.Key] = append(c.others[x.Key], d)
		}
	}
	byPrefix := func(a, b *declared[V]) int { return strings.Compare(a.prefix, b.prefix) }
	slices.SortFunc(c.main, byPrefix)
	for _, of := range c.others {
		slices.SortFunc(of, byPrefix)
	}
	if len(c.all) > store.MaxAliases/2 {
		return nil, fmt.Errorf("%w: %d indexes: at most %d are allowed", ErrTooLarge, len(c.all), store.MaxAliases/2)
	}
	return c, nil
}

// of returns the indexes that are about a key, in the order of their prefixes; nil if there are none.
func (c *catalogue[V]) of(key string) []*declared[V] {
	switch {
	case c == nil:
		return nil
	case key == "":
		return c.main
	}
	return c.others[key]
}

// indexOf returns the index that a mark is of; nil if it is of none that is declared.
func (c *catalogue[V]) indexOf(mark string) *declared[V] {
	if c == nil {
		return nil
	}
	for _, d := range c.all {
		if strings.HasPrefix(mark, d.prefix) {
			return d
		}
	}
	return nil
}

// finds reports whether queries find a session by a mark.
func (c *catalogue[V]) finds(mark string) bool {
	d := c.indexOf(mark)
	return d != nil && !strings.HasPrefix(mark[len(d.prefix):], noTerm)
}

// moved has a session found by the marks now, and not by those that it had and has not any more; both are sorted. Caller holds the session's mu.
func (c *catalogue[V]) moved(s *session[V], was, now []string) {
	if c == nil || len(was)+len(now) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(was)+len(now) > 0 {
		switch {
		case len(now) == 0 || len(was) > 0 && was[0] < now[0]:
			if holder, _ := c.here.Get(was[0]); holder == s {
				c.here.Delete(was[0])
			}
			was = was[1:]
		case len(was) == 0 || now[0] < was[0]:
			if c.finds(now[0]) {
				c.here.Set(now[0], s)
			}
			now = now[1:]
		default:
			was, now = was[1:], now[1:]
		}
	}
}

// indexed is the cell of an entry that indexes are about.
type indexed[V any] struct {
	summed[V]        // first, so that its cell is
	terms     *terms // of the value, never changed; shared with the version before it if they are the same
}

// terms are those of a version of an entry, in the order of the indexes and then of their texts, none twice.
type terms struct {
	all []term // in buf if they fit
	buf [2]term
}

// term is a term of a value, in the at-th of the indexes that are about its key.
type term struct {
	at    int32
	zeros bool // the text holds zero bytes
	text  string
}

// unmarkable is the at of what is no term: the terms are more, or longer, than any session could have. Only what was loaded has that.
const unmarkable = -1

// find sets the terms of a version of the session id; was is the version before it, if there is one in memory, or any other. It calls functions of
// the application: no lock is held.
func (c *indexed[V]) find(id, key string, of []*declared[V], was *indexed[V]) error {
	var buf [4]term
	all := buf[:0]
	for i, d := range of {
		from := len(all)
		for _, t := range d.Terms(c.cell.val) {
			if t == "" {
				continue
			}
			zeros := strings.IndexByte(t, 0) >= 0
			n := len(d.prefix) + len(t) + 2 + min(len(id), whoWhole)
			if zeros {
				n += strings.Count(t, "\x00") // each takes two bytes
			}
			if n > store.MaxAlias {
				return fmt.Errorf("%w: session %q, key %q: the term %.40q… of index %q has %d bytes, at most %d are left to it", ErrTooLarge, id, key, t, d.Name, len(t), store.MaxAlias-n+len(t))
			}
			all = append(all, term{int32(i), zeros, t})
		}
		if some := all[from:]; len(some) > 1 {
			slices.SortFunc(some, func(a, b term) int { return strings.Compare(a.text, b.text) })
			all = all[:from+len(slices.Compact(some))]
		}
	}
	if len(all) > store.MaxAliases {
		return fmt.Errorf("%w: session %q, key %q: it has %d index terms, at most %d are allowed", ErrTooLarge, id, key, len(all), store.MaxAliases)
	}
	if was != nil && slices.Equal(was.terms.all, all) {
		c.terms = was.terms
		return nil
	}
	c.terms = new(terms)
	c.terms.all = append(c.terms.buf[:0], all...)
	return nil
}

// decodeIndexed is decode of an entry that indexes are about. Terms that cannot be marks leave it readable, and in no index.
func (db *DB[V]) decodeIndexed(id string, e *store.Entry, of []*declared[V]) (_ *cell[V], err error) {
	c := new(indexed[V])
	c.cell.expires = e.Expires
	if err := db.decodeValue(e.Value, &c.cell.val); err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("kvstore: session %q, key %q: panic in the function of an index: %w", id, e.Key, panicError(p))
		}
	}()
	if c.find(id, e.Key, of, nil) != nil {
		c.terms = &terms{all: []term{{at: unmarkable}}}
	}
	return &c.cell, nil
}

// termsOf returns the terms of a version of a key that indexes are about.
func (db *DB[V]) termsOf(c *cell[V]) []term {
	if c == db.absent {
		return nil
	}
	return (*indexed[V])(unsafe.Pointer(c)).terms.all
}

// before returns the version that an entry has which indexes are about, if that can be told at no cost: it only saves room.
func (db *DB[V]) before(id, key string) *indexed[V] {
	if key != "" {
		return nil
	}
	f := db.sessions.front(id)
	if f == nil {
		return nil
	}
	c := f.main.cell.Load()
	if c == nil || c == db.absent {
		return nil
	}
	return (*indexed[V])(unsafe.Pointer(c))
}

// same reports whether marks, which are a session's and sorted, say of the indexes exactly that it has these terms.
func same[V any](of []*declared[V], marks []string, terms []term) bool {
	for i, d := range of {
		for len(marks) > 0 && !strings.HasPrefix(marks[0], d.prefix) { // of timers, and of other keys
			if marks[0] > d.prefix {
				return false
			}
			marks = marks[1:]
		}
		if len(marks) == 0 {
			return false
		}
		if len(terms) == 0 || terms[0].at != int32(i) {
			if !strings.HasPrefix(marks[0][len(d.prefix):], noTerm) {
				return false
			}
			marks = marks[1:]
		}
		for len(terms) > 0 && terms[0].at == int32(i) {
			if len(marks) == 0 || !strings.HasPrefix(marks[0], d.prefix) || !terms[0].stands(marks[0][len(d.prefix):]) {
				return false
			}
			marks, terms = marks[1:], terms[1:]
		}
		if len(marks) > 0 && strings.HasPrefix(marks[0], d.prefix) {
			return false
		}
	}
	return len(terms) == 0 // else they cannot be marks
}

// stands reports whether a mark, of which rest follows the prefix, is of the term.
func (t *term) stands(rest string) bool {
	if t.zeros {
		var buf [64]byte
		return strings.HasPrefix(rest, string(appendText(buf[:0], t.text)))
	}
	n := len(t.text)
	return len(rest) >= n+2 && rest[:n] == t.text && rest[n] == 0 && rest[n+1] == 1
}

// remarked returns, in a new list, marks with those of the indexes replaced by those of terms. Of terms that cannot be marks there are none.
func remarked[V any](id string, of []*declared[V], marks []string, terms []term) []string {
	next := slices.DeleteFunc(slices.Clone(marks), func(m string) bool {
		return slices.ContainsFunc(of, func(d *declared[V]) bool { return strings.HasPrefix(m, d.prefix) })
	})
	if len(terms) > 0 && terms[0].at == unmarkable {
		return next
	}
	for i, d := range of {
		if len(terms) == 0 || terms[0].at != int32(i) {
			next = append(next, nullMark(d.prefix, id))
		}
		for ; len(terms) > 0 && terms[0].at == int32(i); terms = terms[1:] {
			next = append(next, termMark(d.prefix, terms[0].text, id))
		}
	}
	slices.Sort(next)
	return next
}

// without returns, in a new list, marks but for those of the indexes that are about a key.
func (c *catalogue[V]) without(marks []string, key string) []string {
	return remarked("", c.of(key), marks, []term{{at: unmarkable}})
}

// reterms reports whether the session has other marks of indexes after ch. Caller holds mu, and has admitted ch.
func (db *DB[V]) reterms(s *session[V], ch *change[V]) bool {
	switch {
	case ch.del:
		return false // all marks go
	case ch.ending:
		return true
	}
	for i := range ch.writes {
		w := &ch.writes[i]
		of := db.terms.of(w.key)
		if of == nil {
			continue
		}
		if was := s.version(w.key, db.absent); was != nil && was != db.absent && w.cell != db.absent &&
			(*indexed[V])(unsafe.Pointer(was)).terms == (*indexed[V])(unsafe.Pointer(w.cell)).terms {
			continue // what the marks say of the one they say of the other
		}
		if !same(of, s.marks(), db.termsOf(w.cell)) {
			return true
		}
	}
	return false
}

// termed returns, of marks that the session is to have, those that it has after ch, of which reterms holds. Caller holds mu.
func (db *DB[V]) termed(s *session[V], ch *change[V], marks []string) []string {
	if ch.ending {
		marks = remarked(s.id(), db.terms.all, marks, nil) // the new life is empty
	}
	for i := range ch.writes {
		w := &ch.writes[i]
		if of := db.terms.of(w.key); of != nil {
			marks = remarked(s.id(), of, marks, db.termsOf(w.cell))
		}
	}
	return marks
}

// fitting returns, of the marks that a session has, those that it should have by what is in memory of it, and whether they are others. If they
// would be too many, it is in no index of which they are not right. Caller holds mu.
func (db *DB[V]) fitting(s *session[V]) (next []string, others bool) {
	marks := s.marks()
	next = marks
	var stale []string
	look := func(key string, of []*declared[V]) {
		c := s.version(key, db.absent)
		if len(of) == 0 || c == nil {
			return
		}
		if terms := db.termsOf(c); !same(of, marks, terms) {
			next, stale = remarked(s.id(), of, next, terms), append(stale, key)
		}
	}
	look("", db.terms.main)
	for key, of := range db.terms.others {
		look(key, of)
	}
	if len(stale) == 0 {
		return marks, false
	}
	var aliases []string
	if s.x != nil {
		aliases = s.x.aliases
	}
	if limitNames(s.id(), aliases, next) != nil {
		next = marks
		for _, key := range stale {
			next = db.terms.without(next, key)
		}
	}
	return next, !slices.Equal(next, marks)
}

// remark sees to it that a session, of which something has come into memory, has the marks of that: another program may have written it, that declares
// other indexes, or none. Caller holds mu.
func (db *DB[V]) remark(s *session[V]) {
	if db.terms == nil || s.has(release) || s.usable(anyLife) != nil {
		return
	}
	if next, others := db.fitting(s); others {
		db.remarkAs(s, next)
	}
}

// remarkAs gives a session marks, and has them written. Caller holds mu.
func (db *DB[V]) remarkAs(s *session[V], next []string) {
	if !s.has(queued) && !db.lane(s).push(s, db.now()) {
		return // closing
	}
	s.more()
	db.setMarks(s, next)
	db.headAgain(s)
}

// disowned sees to the marks of a session of which the store did not take some entries: they say what it would have if it had. What it has is unknown, or
// that it has none. Caller holds mu.
func (db *DB[V]) disowned(s *session[V], keys []string) {
	if db.terms == nil {
		return
	}
	for _, key := range keys {
		if db.terms.of(key) == nil || s.version(key, db.absent) != nil {
			continue
		}
		if next := db.terms.without(s.marks(), key); !slices.Equal(next, s.marks()) {
			db.remarkAs(s, next)
		}
		if s.more().loads[key] == nil {
			_, _ = db.startLoad(s, []string{key}) // or it is closing; whoever loads it next gives the session its marks
		}
	}
	db.remark(s)
}
