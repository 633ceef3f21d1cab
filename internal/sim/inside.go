package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-6f1f505d/kvstore"
)

// This file is what a session holds beside values under keys: a counter, a queue, a tree of keys, a timer. A state has them as the store does, in the library's own entries, so that
// what an owner stored, and what another one found, is judged like all else; and what the header lists of a timer, as one entry more.

const (
	counterKey = "\x00cn"
	endsKey    = "\x00qq"
	itemsKey   = "\x00iq" // and a position
	firstItem  = 1 << 63
	timerKey   = "\x00Tt"
	markKey    = "\x00alias " // and the alias
	isMarked   = "marked"
)

// ownKeyOf returns by what an entry that was lost is told: its key, for an item without its position.
func ownKeyOf(e kvstore.LostEntry) string {
	switch e.Kind {
	case kvstore.Counter:
		return "\x00c" + e.Key
	case kvstore.QueueEnds:
		return "\x00q" + e.Key
	case kvstore.QueueItem:
		return "\x00i" + e.Key
	case kvstore.TimerPayload:
		return "\x00T" + e.Key
	case kvstore.IdleTime:
		return idleKey
	}
	return e.Key
}

// toldAs is the same of a key in a state.
func toldAs(key string) string {
	if len(key) > len(itemsKey) && key[:len(itemsKey)] == itemsKey {
		return itemsKey
	}
	return key
}

// wasTold reports whether a value of t's, which the store has never had, was reported. Caller holds mu.
func (t *tenure) wasTold(key, v string) bool {
	if isMark(key) {
		return true // with the timer's payload
	}
	at := t.id + "/" + toldAs(key)
	if key == counterKey || key == endsKey || key == idleKey { // their values come again
		return t.n.told[at]+t.n.wiped[at] > 0 || t.high >= 0 && t.states[t.high].cells[key].v == v
	}
	return t.n.told[at+"="+v] > 0
}

// user is the state without the library's own entries.
func (s state) user() state {
	s.cells = maps.Clone(s.cells)
	maps.DeleteFunc(s.cells, func(k string, _ cell) bool { return len(k) > 0 && k[0] == 0 })
	return s
}

func (s state) counter() int64 {
	if v := s.cells[counterKey].v; v != "" {
		return int64(binary.BigEndian.Uint64([]byte(v)))
	}
	return 0
}

func (s state) ends() (head, tail uint64) {
	if v := s.cells[endsKey].v; v != "" {
		return binary.BigEndian.Uint64([]byte(v)), binary.BigEndian.Uint64([]byte(v[8:]))
	}
	return firstItem, firstItem
}

func isMark(key string) bool { return strings.HasPrefix(key, markKey) }

// markAt returns the key of the mark of a session's timer.
func markAt(id string, at time.Time) string {
	return markKey + string(binary.BigEndian.AppendUint64([]byte("\x00T"), uint64(at.UnixMilli()))) + "t\x00\x01" + id
}

// unmarked returns what takes the marks of a timer away.
func (s state) unmarked() map[string]cell {
	writes := map[string]cell{}
	for k := range s.cells {
		if isMark(k) {
			writes[k] = cell{}
		}
	}
	return writes
}

func itemAt(pos uint64) string { return itemsKey + string(binary.BigEndian.AppendUint64(nil, pos)) }

func endsCell(head, tail uint64) cell {
	if head == tail {
		return cell{}
	}
	return cell{v: string(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, head), tail))}
}

// certain returns what the session is, if it exists, and whether a change of it was made can always be told.
func (d *desk) certain(t *tenure) (was state, ok bool) {
	c := d.n.c
	if o := c.plan.Setup.Options; o.Mode != kvstore.WriteBehind || o.Overflow == kvstore.Through {
		return was, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	was = t.last().view(time.Now())
	return was, was.exists
}

// inside serves a request about them.
func (d *desk) inside(ctx context.Context, t *tenure, s Step, v string) error {
	c := d.n.c
	was, ok := d.certain(t)
	if !ok || was.expires != 0 {
		return nil
	}
	head, tail := was.ends()
	wrong := func(what string, got any) {
		c.fail(linear, "node %s: %s in epoch %d: %s gives %v; the session is %v", d.n.name, d.id, t.epoch, what, got, was)
	}
	switch s.Verb {
	case Count:
		delta := int64(s.N%5) - 2
		sum := was.counter() + delta
		w := cell{}
		if sum != 0 {
			w.v = string(binary.BigEndian.AppendUint64(nil, uint64(sum)))
		}
		return d.change(ctx, t, map[string]cell{counterKey: w}, func() error {
			got, err := d.h.Add(ctx, "n", delta, kvstore.InMemory)
			if err == nil && got != sum {
				wrong("Add", got)
			}
			return err
		})
	case Push:
		return d.change(ctx, t, map[string]cell{itemAt(tail): {v: v}, endsKey: endsCell(head, tail+1)}, func() error {
			return d.h.Queue("q").PushBack(ctx, v)
		})
	case Pop:
		if head == tail {
			if got, err := d.h.Queue("q").PopFront(ctx); err == nil {
				wrong("PopFront", got)
			} else if !errors.Is(err, kvstore.ErrEmpty) {
				d.moved(err)
			}
			return nil
		}
		return d.change(ctx, t, map[string]cell{itemAt(head): {}, endsKey: endsCell(head+1, tail)}, func() error {
			got, err := d.h.Queue("q").PopFront(ctx)
			if err == nil && got != was.cells[itemAt(head)].v || errors.Is(err, kvstore.ErrEmpty) {
				wrong("PopFront", got)
			}
			return err
		})
	case Arm:
		at := time.Now().Add(time.Hour + time.Duration(s.N%1000)*time.Second).Truncate(time.Millisecond)
		writes := was.unmarked()
		writes[timerKey], writes[markAt(d.id, at)] = cell{v: v}, cell{v: isMarked}
		return d.change(ctx, t, writes, func() error { return d.h.At(ctx, "t", at, v, kvstore.InMemory) })
	case Disarm:
		writes := was.unmarked()
		writes[timerKey] = cell{}
		return d.change(ctx, t, writes, func() error { return d.h.Cancel(ctx, "t", kvstore.InMemory) })
	default: // Fell
		writes := map[string]cell{}
		for _, k := range slices.Sorted(maps.Keys(was.user().cells)) {
			writes[k] = cell{}
		}
		return d.change(ctx, t, writes, func() error {
			_, err := d.h.DeleteTree(ctx, "")
			return err
		})
	}
}
