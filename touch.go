package kvstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is ends that are told in durations: from now on, once; or from the last touch on.
//
//	idle time → 8 bytes, big endian: milliseconds, above 0
//
// A touch moves the session's end in memory. Most need no write: that the owner lives is enough to keep others from a session whose
// stored end is past (store.Store: gone). The stored end is for the time after the owner's death, and follows behind:
//
//	touched end − idle/lagPart ≤ floor ≤ stored end
//
// So a session that is touched for ever is written lagPart times in its idle time, and whoever adopts it finds at least idle − idle/lagPart left from its
// last touch on, less the time since.
const lagPart = 10

// idleKey is of the entry that has the idle time.
var idleKey = ownKey(kindIdle, "")

// parseIdle is the inverse of appendIdle.
func parseIdle(raw []byte) (time.Duration, error) {
	if len(raw) != 8 {
		return 0, fmt.Errorf("the idle time has %d bytes", len(raw))
	}
	ms := binary.BigEndian.Uint64(raw)
	if ms == 0 || ms > math.MaxInt64/uint64(time.Millisecond) {
		return 0, fmt.Errorf("the idle time is %d ms", ms)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// appendIdle appends the stored form of d, which is above 0, in whole milliseconds, rounded up where that can be.
func appendIdle(dst []byte, d time.Duration) []byte {
	ms := uint64(d / time.Millisecond)
	if d%time.Millisecond != 0 && ms < math.MaxInt64/uint64(time.Millisecond) {
		ms++
	}
	return binary.BigEndian.AppendUint64(dst, ms)
}

// slide decides what becomes of a touch. Caller holds mu.
func (s *session[V]) slide(ch *change[V], now time.Time) {
	ch.end, ch.expire, ch.expires = 0, false, 0
	was, end := store.Time(s.expires.Load()), store.TimeOf(now.Add(ch.touch))
	if was == 0 || end <= was {
		return
	}
	lag := store.Time(ch.touch.Milliseconds() / lagPart)
	ch.end = end
	if s.has(head) || s.x == nil || s.x.floor == 0 || s.x.floor < end-lag { // if the header is to be written anyway, Sync waits for this, too
		ch.expire, ch.expires = true, end
	}
}

// waits reports whether there is nothing to be written for a change, which is a touch and no more.
func (ch *change[V]) waits() bool {
	return ch.touch != 0 && !ch.expire && len(ch.writes) == 0 && !ch.aliases.any() && !ch.marks.any()
}

// sinks notes that a flush is on its way by which the session ends at t in the store; 0 is never.
func (x *extra[V]) sinks(t store.Time) {
	if t != 0 {
		x.floor = min(x.floor, t)
	}
}

// behind reports whether the session, which is clean, ends later in memory than in the store. Caller holds mu.
func (s *session[V]) behind() bool {
	return s.x != nil && s.x.floor != 0 && s.x.floor != store.Time(s.expires.Load())
}

// fromNow returns the time that is d from now.
func fromNow(id, what string, d time.Duration) (time.Time, error) {
	if d <= 0 {
		return time.Time{}, fmt.Errorf("%w: session %q: %s after %v: want a time above 0", ErrInvalid, id, what, d)
	}
	return time.Now().Add(d), nil
}

// PutFor sets an entry that is gone d from now on, by the wall clock: PutUntil of that time. ErrInvalid if d is not above 0.
func (tx *Tx[V]) PutFor(key string, v V, d time.Duration) error {
	if tx.over {
		return errOver
	}
	at, err := fromNow(tx.s.id(), "an entry that expires", d)
	if err != nil {
		return err
	}
	return tx.PutUntil(key, v, at)
}

// ExpireAfter sets the time from which the session is gone to d from now, by the wall clock: Expire of that time. ErrInvalid if d is not above 0.
func (tx *Tx[V]) ExpireAfter(d time.Duration) error {
	if tx.over {
		return errOver
	}
	at, err := fromNow(tx.s.id(), "to expire", d)
	if err != nil {
		return err
	}
	tx.Expire(at)
	return nil
}

// ExpireIdle gives the session an idle time, in whole milliseconds, rounded up: it is gone when it was not touched for so long, from now on. The idle time is
// stored with the session, so that it is its next owner's, too. Zero takes it away, and leaves the end where it is. ErrInvalid if d is below 0.
func (tx *Tx[V]) ExpireIdle(d time.Duration) error {
	switch {
	case tx.over:
		return errOver
	case d < 0:
		return fmt.Errorf("%w: session %q: an idle time of %v: want 0 for none, or more", ErrInvalid, tx.s.id(), d)
	case d == 0:
		tx.set(idleKey, tx.db.absent)
		return nil
	}
	tx.set(idleKey, newRaw[V](appendIdle(nil, d)))
	return tx.ExpireAfter(d)
}

// Touch moves the session's end to its idle time from now, unless that is before the end it has, or it has none. Reads and writes are no touches:
// what is to be one calls Touch in its Update. ErrInvalid if ExpireIdle gave the session no idle time.
//
// In memory the end moves at once. It is written with whatever else of the session is, but is a change of its own only when the end in the
// store would be behind by more than a tenth of the idle time, and, like any change, once in Options.MaxDelay. Until then Sync does not wait for it, and
// its loss is not told to Hooks.Lost. So
//
//   - while the owner lives, the session ends one idle time after its last touch, and nobody else ends it before;
//   - Release and Drain hand over that end;
//   - if the owner dies, or is closed, the session lives on for at least nine tenths of its idle time from its last touch on, of those that are older than
//     Options.MaxDelay and a flush, and may be adopted, and touched, until then.
func (tx *Tx[V]) Touch() error {
	if tx.over {
		return errOver
	}
	idle, err := tx.idle()
	if err != nil {
		return err
	}
	if idle == 0 {
		return fmt.Errorf("%w: Touch of session %q, which has no idle time: see ExpireIdle", ErrInvalid, tx.s.id())
	}
	if !tx.expire {
		tx.touch = idle
	} else if tx.until != 0 {
		tx.until = max(tx.until, store.TimeOf(time.Now().Add(idle)))
	}
	return nil
}

// idle returns the session's idle time; 0 if it has none.
func (tx *Tx[V]) idle() (time.Duration, error) {
	c, err := tx.cell(idleKey)
	if err != nil || c == tx.db.absent {
		return 0, err
	}
	d, err := parseIdle(rawOf(c))
	if err != nil {
		return 0, &store.CorruptError{Session: tx.s.id(), Key: idleKey, Reason: err.Error()}
	}
	return d, nil
}

// PutFor sets an entry that is gone d from now on, by the wall clock: PutUntil of that time. ErrInvalid if d is not above 0.
func (h *Session[V]) PutFor(ctx context.Context, key string, v V, d time.Duration) error {
	at, err := fromNow(h.ID(), "an entry that expires", d)
	if err != nil {
		return err
	}
	return h.PutUntil(ctx, key, v, at)
}

// ExpireAfter sets the time from which the session is gone to d from now, by the wall clock: Expire of that time. ErrInvalid if d is not above 0.
func (h *Session[V]) ExpireAfter(ctx context.Context, d time.Duration) error {
	at, err := fromNow(h.ID(), "to expire", d)
	if err != nil {
		return err
	}
	return h.Expire(ctx, at)
}

// ExpireIdle gives the session an idle time, as Tx.ExpireIdle does: it is gone when it was not touched for so long.
func (h *Session[V]) ExpireIdle(ctx context.Context, d time.Duration) error {
	return h.Update(ctx, func(tx *Tx[V]) error { return tx.ExpireIdle(d) })
}

// Touch moves the session's end to its idle time from now, as Tx.Touch does, which says when that is stored.
func (h *Session[V]) Touch(ctx context.Context) error {
	return h.Update(ctx, func(tx *Tx[V]) error { return tx.Touch() })
}
