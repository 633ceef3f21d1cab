package nats

import (
	"context"
	"sync"
	"time"
)

// clock knows the server's time between two bounds. What the server says was true when it was said: after the question went out, and before the
// answer was there.
type clock struct {
	mu    sync.Mutex
	asked time.Time // of the local clock, when the latest bounds were learned
	low   time.Duration
	high  time.Duration // the server's clock is ahead of the local one by low at least and by high at most
}

// clockAge is how old bounds may be that decide anything. Clocks drift, and are set.
const clockAge = 10 * time.Second

// learn takes note of what the server's clock showed between two moments of the local one.
func (c *clock) learn(shown, sent, arrived time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	low, high := shown.Sub(arrived), shown.Sub(sent)
	if arrived.Sub(c.asked) < clockAge && low <= c.high && high >= c.low { // else a clock was set, or another server answers
		low, high = max(low, c.low), min(high, c.high)
	}
	c.low, c.high, c.asked = low, high, arrived
}

// bounds returns what the server's clock shows, at least and at most.
func (c *clock) bounds() (low, high time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	return now.Add(c.low), now.Add(c.high)
}

func (c *clock) old() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.asked) > clockAge
}

// now returns what the server's clock shows at least: what is past then is past.
func (s *Store) now(ctx context.Context) (time.Time, error) {
	if s.clock.old() {
		if _, err := s.info(ctx, ""); err != nil {
			return time.Time{}, err
		}
	}
	low, _ := s.clock.bounds()
	return low, nil
}
