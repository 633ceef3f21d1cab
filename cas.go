package kvstore

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unsafe"
)

// This file is compare-and-swap of entries.

// ErrConflict: the entry is not what the call was to replace. It was not changed.
var ErrConflict = errors.New("kvstore: conflict")

// Version names one value that an entry has, as this node has it in memory: two reads gave equal versions exactly if the entry did not change in
// between. The zero Version is that of an entry that does not exist.
//
// A Version is good until the value changes or leaves this node's memory, by an eviction or a hand-over: after that it is equal to none, though the
// value may be the same, and who compares reads anew. It is never equal by accident: it keeps in memory what it names.
type Version struct{ cell unsafe.Pointer }

func (db *DB[V]) versionOf(c *cell[V]) Version {
	if c == db.absent || c.expires != 0 && c.expires.Past(time.Now()) {
		return Version{}
	}
	return Version{unsafe.Pointer(c)}
}

// GetVersion is Get, and returns the entry's version beside its value. If there is no entry, it is ErrNotFound with the zero Version, which CompareAndSwap
// takes, too.
func (h *Session[V]) GetVersion(ctx context.Context, key string) (v V, ver Version, err error) {
	if err := checkKey(h.ID(), key); err != nil {
		return v, ver, err
	}
	err = h.do(ctx, func(s *session[V], life uint32) error {
		c, err := h.db.read(ctx, s, life, key)
		if err == nil {
			v, ver = c.val, Version{unsafe.Pointer(c)}
		}
		return err
	})
	return v, ver, err
}

// CompareAndSwap puts v under key if the entry still has the version old, the zero one if there is to be none, and returns its new version. The new entry does not
// expire by itself. ErrConflict if it has another one: then nothing is changed. What its return means, ack says; at any time, of all calls that name one version at
// most one succeeds.
func (h *Session[V]) CompareAndSwap(ctx context.Context, key string, old Version, v V, ack Ack) (ver Version, err error) {
	next, err := h.db.newCell(h.ID(), key, v, time.Time{})
	if err != nil {
		return ver, err
	}
	st, w := step[V]{kind: stepSwap, key: key, old: old}, [1]write[V]{{key: key, cell: next}}
	if err := h.stepping(ctx, ack, &st, w[:]); err != nil {
		return ver, err
	}
	return Version{unsafe.Pointer(next)}, nil
}

// CompareAndSwap puts new under key of a session if the entry's value equals old. ErrConflict if it does not, ErrNotFound if there is no entry: then
// nothing is changed. Unlike that of a [Version], such a comparison means the same on every node. All else is as for Session.CompareAndSwap.
func CompareAndSwap[V comparable](ctx context.Context, h *Session[V], key string, old, new V, ack Ack) error {
	for {
		v, ver, err := h.GetVersion(ctx, key)
		if err != nil {
			return err
		}
		if v != old { // under no lock: it may panic, if V is an interface
			return keyError(h.ID(), key, ErrConflict)
		}
		if _, err = h.CompareAndSwap(ctx, key, ver, new, ack); !errors.Is(err, ErrConflict) || errors.Is(err, ErrRefused) {
			return err
		}
	}
}

func errAck(id string, ack Ack) error {
	return fmt.Errorf("%w: session %q: acknowledgement %d: InMemory or Stored", ErrInvalid, id, ack)
}
