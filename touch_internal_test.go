package kvstore

import (
	"bytes"
	"math"
	"testing"
	"time"
)

// Whatever the store returns as an idle time is one that can be written again as it is, or is refused.
func FuzzIdle(f *testing.F) {
	for _, d := range []time.Duration{1, time.Millisecond, time.Hour, math.MaxInt64} {
		f.Add(appendIdle(nil, d))
	}
	f.Add([]byte{})
	f.Add(make([]byte, 8))
	f.Add(bytes.Repeat([]byte{255}, 8))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := parseIdle(raw)
		if err != nil {
			if d != 0 {
				t.Errorf("%v, and %v", d, err)
			}
			return
		}
		if d <= 0 || !bytes.Equal(appendIdle(nil, d), raw) {
			t.Errorf("%x is %v, which is %x", raw, d, appendIdle(nil, d))
		}
	})
}

// An idle time is rounded up to whole milliseconds, never down.
func TestIdleIsRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		1: time.Millisecond, time.Millisecond: time.Millisecond, time.Millisecond + 1: 2 * time.Millisecond, time.Hour: time.Hour,
		math.MaxInt64: math.MaxInt64 / time.Millisecond * time.Millisecond, // there is nothing above
	} {
		if got, err := parseIdle(appendIdle(nil, d)); err != nil || got != want {
			t.Errorf("%v becomes %v (%v), want %v", d, got, err, want)
		}
	}
}
