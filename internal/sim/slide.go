package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is sessions that end when they are not touched. Where the end comes to be depends on the instant of the change, which is not known before the call
// has returned; and an end that a touch moves needs not be stored at once.

const (
	idleKey = "\x00t"
	lagPart = 10 // a stored end is behind by at most such a part of the idle time
)

// idle is the session's idle time; 0 if it has none.
func (s state) idle() time.Duration {
	if v := s.cells[idleKey].v; v != "" {
		return time.Duration(binary.BigEndian.Uint64([]byte(v))) * time.Millisecond
	}
	return 0
}

// slide serves a request about that.
func (d *desk) slide(ctx context.Context, t *tenure, s Step) error {
	c := d.n.c
	was, ok := d.certain(t)
	if !ok {
		return nil
	}
	idle, writes, do := was.idle(), map[string]cell{}, func() error { return d.h.Touch(ctx) }
	if s.Verb == Idle {
		idle = time.Duration(500+s.N%4000) * time.Millisecond
		writes[idleKey] = cell{v: string(binary.BigEndian.AppendUint64(nil, uint64(idle.Milliseconds())))}
		do = func() error { return d.h.ExpireIdle(ctx, idle) }
	}
	if idle == 0 {
		err := do()
		if err == nil {
			c.fail(linear, "node %s: %s in epoch %d is touched, and has no idle time: %v", d.n.name, d.id, t.epoch, was)
		}
		if !errors.Is(err, kvstore.ErrInvalid) {
			d.moved(err)
		}
		return nil
	}
	c.mu.Lock()
	for _, w := range writes {
		t.own[w.v] = true
	}
	c.mu.Unlock()
	err := d.make(ctx, t, func(was state, now time.Time) state {
		n := was.with(writes, now)
		end := store.TimeOf(now.Add(idle))
		switch {
		case s.Verb == Idle:
			n.expires, n.open = end, idle
		case was.expires != 0:
			n.expires, n.open, n.slid = max(end, was.expires), idle, idle
		}
		return n
	}, do)
	if err == nil {
		c.count.touches.Add(1)
		at := store.TimeOf(d.h.Expires())
		c.mu.Lock()
		defer c.mu.Unlock()
		if t.last().open != 0 && !t.ends(at, time.Now()) {
			c.failLocked(linear, "node %s: %s in epoch %d, with an idle time of %v, ends at %v; it is %v", d.n.name, d.id, t.epoch, idle, at.Std(), t.last())
		}
	}
	return err
}

// ends settles where the end of the last state has come to be: at a time that its change may have given it. Caller holds mu.
func (t *tenure) ends(at store.Time, now time.Time) bool {
	last := &t.states[len(t.states)-1]
	if last.open == 0 || at < last.expires || at > max(last.expires, store.TimeOf(now.Add(last.open))) {
		return false
	}
	last.expires, last.open = at, 0
	return true
}

// lags reports whether all of the i-th state that the store need not have is where a touch has moved the end.
func (t *tenure) lags(i int, now time.Time) bool {
	if s := t.states[i]; i == 0 || s.slid == 0 || t.high < 0 || t.states[t.high].expires < s.expires-store.Time(s.slid.Milliseconds()/lagPart) {
		return false
	}
	return t.holds(i-1, now)
}
