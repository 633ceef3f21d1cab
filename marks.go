package kvstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is marks: what a session is to be found by, whoever owns it, without a look at all sessions. A mark is an alias of the library's own. So it
// stands in the header, is written in the step that writes what it is about, comes with a claim, and goes with the session; and a store.Finder finds
// all that begin alike, in their order.
//
// Marks begin with a zero byte, which no alias of the application may, and then tell what they are:
//
//	0x00 'T' due(8) text(name) who     a timer that is armed; due is in milliseconds, big endian
//	0x00 'X' text(index) text(term) who   a term by which an index finds the session; see terms.go
//	0x00 'X' text(index) 0x00 0x00 who    it has none in that index
//
// text is the bytes of a string in a form that keeps their order, and of which none is the beginning of another: a zero byte becomes 0x00 0xFF, and
// 0x00 0x01 ends it (as in the tuple layer of FoundationDB). who makes it unlike any other session's: its ID, or, of a long one, the beginning and a hash.
//
// Several sessions may so have marks about the same thing, and no store ever has to refuse one.
const (
	markTimer = 'T'
	markTerm  = 'X'
)

const (
	whoWhole = 128 // the longest ID that stands in a mark as it is
	whoHead  = whoWhole - sha256.Size
)

// isMark reports whether an alias is the library's own.
func isMark(alias string) bool { return len(alias) > 0 && alias[0] == ownMark }

func appendText(b []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, 0)
		if i < 0 {
			return append(append(b, s...), 0, 1)
		}
		b = append(append(b, s[:i]...), 0, 0xFF)
		s = s[i+1:]
	}
}

// cutText is the inverse; rest is what follows.
func cutText(b []byte) (s string, rest []byte, ok bool) {
	var text []byte
	for {
		i := bytes.IndexByte(b, 0)
		if i < 0 || i+1 == len(b) {
			return "", nil, false
		}
		text = append(text, b[:i]...)
		switch b[i+1] {
		case 1:
			return string(text), b[i+2:], true
		case 0xFF:
			text, b = append(text, 0), b[i+2:]
		default:
			return "", nil, false
		}
	}
}

func appendWho(b []byte, id string) []byte {
	if len(id) <= whoWhole {
		return append(b, id...)
	}
	sum := sha256.Sum256([]byte(id))
	return append(append(b, id[:whoHead]...), sum[:]...)
}

// dueBefore is where the marks end of the timers that are due before t, and those begin of all others.
func dueBefore(t store.Time) string {
	return string(binary.BigEndian.AppendUint64([]byte{ownMark, markTimer}, uint64(max(t, 0))))
}

// timerMark is the mark of a session's timer.
func timerMark(id, name string, due store.Time) string {
	b := make([]byte, 0, 2+8+len(name)+2+min(len(id), whoWhole))
	b = binary.BigEndian.AppendUint64(append(b, ownMark, markTimer), uint64(due))
	return string(appendWho(appendText(b, name), id))
}

// parseTimer returns what the mark of a timer says; ok is false if it is of none.
func parseTimer(mark string) (name string, due store.Time, ok bool) {
	if len(mark) < 2+8+2 || mark[0] != ownMark || mark[1] != markTimer {
		return "", 0, false
	}
	name, _, ok = cutText([]byte(mark[10:]))
	return name, store.Time(binary.BigEndian.Uint64([]byte(mark[2:10]))), ok
}

// indexPrefix is how all marks of an index begin. What is behind them, and before those of any other index, is indexEnd of it.
func indexPrefix(index string) string {
	return string(appendText([]byte{ownMark, markTerm}, index))
}

// indexEnd is where the marks of an index end.
func indexEnd(prefix string) string { return prefix[:len(prefix)-1] + "\x02" }

// noTerm stands for the text of a term where there is none: no text begins so, and it is before them all.
const noTerm = "\x00\x00"

// termMark is the mark of a term that a session has in the index with that prefix.
func termMark(prefix, term, id string) string {
	b := make([]byte, 0, len(prefix)+len(term)+2+min(len(id), whoWhole))
	return string(appendWho(appendText(append(b, prefix...), term), id))
}

// nullMark is the mark of a session that has no term there.
func nullMark(prefix, id string) string {
	b := make([]byte, 0, len(prefix)+len(noTerm)+min(len(id), whoWhole))
	return string(appendWho(append(append(b, prefix...), noTerm...), id))
}

// isTermMark reports whether a mark is of an index.
func isTermMark(mark string) bool {
	return len(mark) > 1 && mark[0] == ownMark && mark[1] == markTerm
}

// parseTerm returns what the mark of an index says; null: that the session has no term there. ok is false if it is of none.
func parseTerm(mark string) (index, term string, null, ok bool) {
	if !isTermMark(mark) {
		return "", "", false, false
	}
	index, rest, ok := cutText([]byte(mark[2:]))
	if !ok {
		return "", "", false, false
	}
	if bytes.HasPrefix(rest, []byte(noTerm)) {
		return index, "", true, true
	}
	term, _, ok = cutText(rest)
	return index, term, false, ok
}

// marking is what a commit does to a session's marks.
type marking struct {
	timers []arming
	terms  bool     // the terms of indexes are others after it: set under the session's mu, by reterms
	next   []string // the marks that the session has after it, found by takeAliases
}

// arming sets a timer, or, if due is 0, takes it away.
type arming struct {
	name string
	due  store.Time
}

func (m *marking) any() bool { return len(m.timers) > 0 || m.terms }

// of returns, in a new list, the marks that session id has after it, but for terms.
func (m *marking) of(id string, was []string) []string {
	next := slices.DeleteFunc(slices.Clone(was), func(mark string) bool {
		name, _, ok := parseTimer(mark)
		return ok && slices.ContainsFunc(m.timers, func(a arming) bool { return a.name == name })
	})
	for _, a := range m.timers {
		if a.due != 0 {
			next = append(next, timerMark(id, a.name, a.due))
		}
	}
	slices.Sort(next)
	return next
}

// limitNames returns an error if a session cannot have so many aliases and marks.
func limitNames(id string, aliases, marks []string) error {
	size := 0
	for _, a := range aliases {
		size += len(a)
	}
	for _, m := range marks {
		if size += len(m); len(m) > store.MaxAlias {
			return fmt.Errorf("%w: session %q: the mark %.40q… has %d bytes, at most %d are allowed", ErrTooLarge, id, m, len(m), store.MaxAlias)
		}
	}
	n := len(aliases) + len(marks)
	if n <= store.MaxAliases && size <= store.MaxAliasBytes {
		return nil
	}
	what := "aliases"
	if len(marks) > 0 {
		what = "aliases, timers and index terms"
	}
	return fmt.Errorf("%w: session %q would have %d %s with %d bytes, at most %d with %d are allowed", ErrTooLarge, id, n, what, size, store.MaxAliases, store.MaxAliasBytes)
}

// setMarks gives a session its marks, which are sorted, sets its alarm by them, and has it found by its terms. Caller holds mu.
func (db *DB[V]) setMarks(s *session[V], next []string) {
	was := s.x.marks
	s.x.marks = slices.Clone(next) // a copy: see setAliases
	db.timing(s, was)
	db.terms.moved(s, was, s.x.marks)
}

// unmark takes all marks from a session. Caller holds mu.
func (db *DB[V]) unmark(s *session[V]) {
	if s.x == nil || len(s.x.marks) == 0 {
		return
	}
	was := s.x.marks
	s.x.marks = nil
	db.timing(s, was)
	db.terms.moved(s, was, nil)
}

// names returns the aliases that the header of a session is to have: those of the application, and the marks. Caller holds mu.
func (x *extra[V]) names() []string {
	if len(x.marks) == 0 {
		return x.aliases
	}
	return append(append(make([]string, 0, len(x.aliases)+len(x.marks)), x.aliases...), x.marks...)
}

// setNames is the inverse: it takes what stood in a header. Marks of indexes that this DB does not declare stay behind: whatever it writes of the session
// next, it writes without them, as it does not know whether they are still right; and if it writes nothing they are.
func (x *extra[V]) setNames(all []string, c *catalogue[V]) {
	x.aliases = slices.DeleteFunc(slices.Clone(all), isMark)
	x.marks = slices.DeleteFunc(slices.Clone(all), func(a string) bool { return !isMark(a) || isTermMark(a) && c.indexOf(a) == nil })
	slices.Sort(x.marks)
}

// told returns, of names that a header has lost, the aliases of the application and the names of timers.
func told(gone []string) (aliases, timers []string) {
	for _, a := range gone {
		if name, _, ok := parseTimer(a); ok {
			timers = append(timers, name)
		} else if !isMark(a) {
			aliases = append(aliases, a)
		}
	}
	return aliases, timers
}

// finder returns the store's power to find marks. The error wraps errors.ErrUnsupported if it has none.
func (db *DB[V]) finder(what string) (store.Finder, error) {
	f, ok := db.store.(store.Finder)
	if !ok {
		return nil, fmt.Errorf("kvstore: %s: the store keeps no aliases in order: %w", what, errors.ErrUnsupported)
	}
	return f, nil
}
