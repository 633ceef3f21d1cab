package store

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestTimeOf(t *testing.T) {
	for name, c := range map[string]struct {
		t    time.Time
		want Time
	}{
		"never":                       {time.Time{}, 0},
		"the epoch":                   {time.Unix(0, 0), 1},
		"before the epoch":            {time.Date(1903, 1, 1, 0, 0, 0, 0, time.UTC), 1},
		"far before the epoch":        {time.Unix(-1<<55, 0), 1},
		"as far as can be":            {time.Unix(math.MinInt64, 0), 1},
		"a nanosecond before it":      {time.Unix(0, -1), 1},
		"a nanosecond before 1 ms":    {time.Unix(0, 999_999), 1},
		"1 ms":                        {time.Unix(0, 1_000_000), 1},
		"a nanosecond after 1 ms":     {time.Unix(0, 1_000_001), 2},
		"the end of a second":         {time.Unix(7, 999_999_999), 8000},
		"2262, where nanoseconds end": {time.Date(2262, 4, 11, 23, 47, 16, 854_775_808, time.UTC), 9_223_372_036_855},
		"9999":                        {time.Date(9999, 12, 31, 23, 59, 59, 999_000_000, time.UTC), 253_402_300_799_999},
		"the last one":                {time.Unix(math.MaxInt64/1000-1, 0), math.MaxInt64/1000*1000 - 1000},
		"beyond":                      {time.Unix(math.MaxInt64/1000, 0), math.MaxInt64},
		"far beyond":                  {time.Unix(math.MaxInt64/1000+1, 0), math.MaxInt64},
	} {
		if got := TimeOf(c.t); got != c.want {
			t.Errorf("%s: TimeOf(%v) = %d, want %d", name, c.t, got, c.want)
		}
	}
}

// TestTimeEndsNothingEarly: an instant that has not come is not past, and one millisecond after it is.
func TestTimeEndsNothingEarly(t *testing.T) {
	base := time.Date(2026, 3, 29, 0, 59, 59, 998_000_000, time.UTC)
	for ns := time.Duration(0); ns < 3*time.Millisecond; ns += 12_347 * time.Nanosecond {
		at := base.Add(ns)
		x := TimeOf(at)
		if x.Past(at.Add(-1)) {
			t.Errorf("TimeOf(%v) is past a nanosecond early", at)
		}
		if !x.Past(at.Add(time.Millisecond)) {
			t.Errorf("TimeOf(%v) is not past a millisecond late", at)
		}
		if back := x.Std(); back.Before(at) || back.Sub(at) >= time.Millisecond || TimeOf(back) != x {
			t.Errorf("TimeOf(%v).Std() = %v", at, back)
		}
	}
}

func TestTimePast(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		t    Time
		want bool
	}{
		"never":      {0, false},
		"first":      {1, true},
		"just now":   {TimeOf(now), true},
		"1 ms ahead": {TimeOf(now) + 1, false},
		"3000":       {TimeOf(time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)), false},
		"last":       {math.MaxInt64, false},
	} {
		if got := c.t.Past(now); got != c.want {
			t.Errorf("%s: Past is %v, want %v", name, got, c.want)
		}
	}
	if !Time(0).Std().IsZero() {
		t.Errorf("never is %v, want the zero time", Time(0).Std())
	}
}

func TestIncarnation(t *testing.T) {
	a, b := NewIncarnation(), NewIncarnation()
	if a == b || a == (Incarnation{}) {
		t.Errorf("new incarnations are %v and %v", a, b)
	}
	if back, err := ParseIncarnation(a.String()); err != nil || back != a {
		t.Errorf("ParseIncarnation(%q) = %v, %v", a, back, err)
	}
	for _, s := range []string{"", "00", strings.Repeat("0", 31), strings.Repeat("0", 33), strings.Repeat("0", 31) + "g", strings.Repeat("é", 16)} {
		if i, err := ParseIncarnation(s); err == nil || i != (Incarnation{}) {
			t.Errorf("ParseIncarnation(%q) = %v, %v, want nobody and an error", s, i, err)
		}
	}
}

// FuzzParseIncarnation: what is accepted is a value's one text, but for the letters' case.
func FuzzParseIncarnation(f *testing.F) {
	f.Add("000102030405060708090a0b0c0d0e0f")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		i, err := ParseIncarnation(s)
		switch {
		case err != nil && i != Incarnation{}:
			t.Errorf("ParseIncarnation(%q) = %v beside an error", s, i)
		case err == nil && i.String() != strings.ToLower(s):
			t.Errorf("ParseIncarnation(%q).String() = %q", s, i)
		}
	})
}
