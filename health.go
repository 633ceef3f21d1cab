package kvstore

import (
	"slices"
	"strings"
	"time"
)

// Health tells whether this node keeps its promises now, and if not, why.
type Health struct {
	Problems []Problem // in a fixed order; none: all is well

	Lag       time.Duration // age of the oldest change that is not stored; what a crash now would lose
	Buffered  int64         // bytes that are not stored
	LeaseLeft time.Duration // until other nodes may adopt this node's sessions; ≤ 0: now
	LastError error         // of the last call to the store; nil if it answered
}

// Problem is a reason for not being healthy.
type Problem string

const (
	StoreUnreachable Problem = "store unreachable" // the last call to it failed
	LeaseLate        Problem = "lease late"        // it should have been renewed by now
	LeaseOver        Problem = "lease over"        // others may adopt; with Options.Strict nothing is served
	LagHigh          Problem = "lag high"          // above Options.LagAlarm
	BufferFull       Problem = "buffer full"       // 90 % of Options.MaxBuffer and more: writes wait or fail
	Draining         Problem = "draining"          // Drain or Close was called
)

// OK reports whether there is no problem.
func (h Health) OK() bool { return len(h.Problems) == 0 }

// String returns the problems, or "ok".
func (h Health) String() string {
	if h.OK() {
		return "ok"
	}
	s := make([]string, len(h.Problems))
	for i, p := range h.Problems {
		s[i] = string(p)
	}
	return strings.Join(s, ", ")
}

func (h Health) same(o Health) bool { return slices.Equal(h.Problems, o.Problems) }

// Health returns the node's present health. It does no I/O.
func (db *DB[V]) Health() Health {
	now := db.now()
	h := Health{
		Lag:       db.lag(now),
		Buffered:  db.budget.used.Load(),
		LeaseLeft: time.Duration(db.lease.until.Load() - now),
	}
	db.lease.mu.Lock()
	h.LastError = db.lease.lastErr
	db.lease.mu.Unlock()
	add := func(is bool, p Problem) {
		if is {
			h.Problems = append(h.Problems, p)
		}
	}
	add(h.LastError != nil, StoreUnreachable)
	add(h.LeaseLeft <= 0, LeaseOver)
	add(h.LeaseLeft > 0 && h.LeaseLeft < db.opt.Lease/3, LeaseLate)
	add(h.Lag > db.opt.LagAlarm, LagHigh)
	add(h.Buffered >= db.opt.MaxBuffer/10*9, BufferFull)
	add(db.draining.Load() || db.closing.Load(), Draining)
	return h
}

// longestFlush returns how long the longest flush took, those under way counted with their age.
func (db *DB[V]) longestFlush(now int64) time.Duration {
	var longest int64
	for _, l := range db.lanes {
		longest = max(longest, l.longest.Load())
		if began := l.began.Load(); began != 0 {
			longest = max(longest, now-began)
		}
	}
	return time.Duration(longest)
}

// lag returns the age of the oldest change that is not stored.
func (db *DB[V]) lag(now int64) time.Duration {
	var lag int64
	for _, l := range db.lanes {
		if t := l.oldest(); t != 0 {
			lag = max(lag, now-t)
		}
	}
	return time.Duration(lag)
}
