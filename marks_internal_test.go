package kvstore

import (
	"cmp"
	"strings"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
)

// marked are names of which some are the beginning of others, or hold what ends a text.
var marked = []string{"", "\x00", "\x00\x00", "\x00\x01", "\x00\x01a", "\x00\xff", "\x01", "a", "a\x00", "a\x00\x01", "a\x00b", "a\x01", "a\xfe", "a\xfeb", "a\xff", "a\xffb", "ab", "b", "\xff", "\xff\x00", "\xff\xff"}

// The marks of timers stand in the order of their times, then of their names, and say what they are of.
func TestTimerMarks(t *testing.T) {
	dues := []store.Time{1, 2, 255, 256, 1 << 32, 1<<63 - 1}
	type timer struct {
		due  store.Time
		name string
	}
	var all []timer
	for _, due := range dues {
		for _, name := range marked {
			all = append(all, timer{due, name})
		}
	}
	for _, a := range all {
		m := timerMark("id", a.name, a.due)
		if name, due, ok := parseTimer(m); !ok || name != a.name || due != a.due || !isMark(m) {
			t.Errorf("the mark of %+v says %q at %d (%t)", a, name, due, ok)
		}
		if in := m >= dueBefore(a.due) && (a.due == 1<<63-1 || m < dueBefore(a.due+1)); !in || m < dueBefore(0) {
			t.Errorf("the mark of %+v is not between those that are due before and after", a)
		}
		for _, b := range all {
			want := cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.name, b.name))
			if got := cmp.Compare(m, timerMark("id", b.name, b.due)); got != want {
				t.Errorf("the marks of %+v and %+v compare as %d, want %d", a, b, got, want)
			}
		}
	}
}

// No two sessions have one mark, however long and alike their IDs, and none is too long for what is left to a name.
func TestMarksOfSessions(t *testing.T) {
	long := strings.Repeat("x", store.MaxSession-1)
	seen := map[string]string{}
	for _, id := range []string{"a", "b", "ab", "\x00", "\x00\x01", long[:whoWhole], long[:whoWhole+1], long, long + "y", long + "z", long[:whoHead]} {
		for _, name := range marked {
			m := timerMark(id, name, 7)
			if other, twice := seen[m]; twice {
				t.Errorf("sessions %.40q and %.40q have one mark", id, other)
			}
			seen[m] = id
			if got, _, ok := parseTimer(m); !ok || got != name {
				t.Errorf("session %.40q: the mark of %q says %q", id, name, got)
			}
		}
		if m := timerMark(id, strings.Repeat("n", 800), 7); len(m) > store.MaxAlias {
			t.Errorf("session of %d bytes: a mark has %d", len(id), len(m))
		}
	}
}

// The marks of an index stand in the order of its terms, before which come those of sessions without one, and apart from those of any other index.
func TestTermMarks(t *testing.T) {
	type mark struct {
		index, term string
		null        bool
	}
	var all []mark
	for _, index := range marked {
		all = append(all, mark{index, "", true})
		for _, term := range marked {
			all = append(all, mark{index: index, term: term})
		}
	}
	of := func(m mark) string {
		if m.null {
			return nullMark(indexPrefix(m.index), "id")
		}
		return termMark(indexPrefix(m.index), m.term, "id")
	}
	rank := func(m mark) int { return map[bool]int{true: 0, false: 1}[m.null] }
	for _, a := range all {
		m, prefix := of(a), indexPrefix(a.index)
		if index, term, null, ok := parseTerm(m); !ok || index != a.index || term != a.term || null != a.null || !isMark(m) || !isTermMark(m) {
			t.Errorf("the mark of %+v says %q, %q, %t (%t)", a, index, term, null, ok)
		}
		if _, _, ok := parseTimer(m); ok {
			t.Errorf("the mark of %+v is taken for a timer's", a)
		}
		for _, b := range all {
			want := cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(rank(a), rank(b)), cmp.Compare(a.term, b.term))
			if got := cmp.Compare(m, of(b)); got != want {
				t.Errorf("the marks of %+v and %+v compare as %d, want %d", a, b, got, want)
			}
			if in := of(b) >= prefix && of(b) < indexEnd(prefix); in != (a.index == b.index) {
				t.Errorf("the mark of %+v among those of index %q: %t", b, a.index, in)
			}
			if !a.null && b == (mark{index: a.index, term: b.term}) && says(m[len(prefix):], b.term) != (a.term == b.term) {
				t.Errorf("the mark of %+v says %q: %t", a, b.term, a.term != b.term)
			}
		}
	}
}

// says reports whether a mark, without the prefix, is of a term.
func says(rest, text string) bool {
	return (&term{text: text, zeros: strings.Contains(text, "\x00")}).stands(rest)
}

// FuzzMark reads marks that another version may have written, or nobody: what is taken for a timer's, or an index's, is what timerMark or termMark would make
// of it.
func FuzzMark(f *testing.F) {
	for _, name := range marked {
		f.Add(timerMark("id", name, 1000))
	}
	for _, term := range marked {
		f.Add(termMark(indexPrefix("i/1"), term, "id"))
		f.Add(nullMark(indexPrefix(term), "id"))
	}
	f.Add("")
	f.Add("\x00T1234567\x00\x01")
	f.Add("\x00T12345678\x00\x02\x00\x01")
	f.Fuzz(func(t *testing.T, mark string) {
		if index, term, null, ok := parseTerm(mark); ok {
			want := termMark(indexPrefix(index), term, "")
			if null {
				want = nullMark(indexPrefix(index), "")
			}
			if !strings.HasPrefix(mark, want) || !null && !says(mark[len(indexPrefix(index)):], term) {
				t.Errorf("%q is taken for term %q (%t) of index %q, whose marks begin with %q", mark, term, null, index, want)
			}
		}
		name, due, ok := parseTimer(mark)
		if !ok {
			return
		}
		want := timerMark("", name, due)
		if !strings.HasPrefix(mark, want) {
			t.Errorf("%q is taken for timer %q at %d, whose marks begin with %q", mark, name, due, want)
		}
	})
}
