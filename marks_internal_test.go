package kvstore

import (
	"cmp"
	"strings"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
)

// marked are names of which some are the beginning of others, or hold what ends a text.
var marked = []string{"", "\x00", "\x00\x00", "\x00\x01", "\x00\x01a", "\x00\xff", "\x01", "a", "a\x00", "a\x00\x01", "a\x00b", "a\x01", "ab", "b", "\xff", "\xff\x00", "\xff\xff"}

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

// FuzzMark reads marks that another version may have written, or nobody: what is taken for a timer's is what timerMark would make of it.
func FuzzMark(f *testing.F) {
	for _, name := range marked {
		f.Add(timerMark("id", name, 1000))
	}
	f.Add("")
	f.Add("\x00T1234567\x00\x01")
	f.Add("\x00T12345678\x00\x02\x00\x01")
	f.Fuzz(func(t *testing.T, mark string) {
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
