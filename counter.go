package kvstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is counters: numbers in a session, beside its values.
//
//	counter → 8 bytes, big endian, two's complement. One that is 0 has no entry.

// ErrOverflow: a counter would leave the range of an int64. It was not changed.
var ErrOverflow = errors.New("kvstore: counter overflow")

// Ack is what is awaited of a change before it is acknowledged.
type Ack uint8

const (
	// InMemory: the change is made, and every call on this node that begins after it sees it (linearizable among the callers of the session's owner). It is
	// stored within Options.MaxDelay, like any other; until then a crash of this node loses it, though it was acknowledged.
	InMemory Ack = iota

	// Stored: likewise, and it is stored. It is in the state that any later owner adopts. An error means what it means for Sync: the
	// change was made in memory, and is fenced, rejected, or not known to be stored.
	Stored
)

// Counter returns the value of a counter; 0 for one that nobody has added to. Counters have names of their own, apart from keys.
func (tx *Tx[V]) Counter(name string) (int64, error) {
	if tx.over {
		return 0, errOver
	}
	if err := checkName(tx.s.id(), "counter", name); err != nil {
		return 0, err
	}
	key := ownKey(kindCounter, name)
	c, err := tx.cell(key)
	if err != nil {
		return 0, err
	}
	return counted(tx.s.id(), key, c, tx.db.absent)
}

// counted returns what a counter's cell says.
func counted[V any](id, key string, c, absent *cell[V]) (int64, error) {
	if c == absent {
		return 0, nil
	}
	raw := rawOf(c)
	if len(raw) != 8 {
		return 0, &store.CorruptError{Session: id, Key: key, Reason: fmt.Sprintf("the counter %q has %d bytes", key[2:], len(raw))}
	}
	return int64(binary.BigEndian.Uint64(raw)), nil
}

// plus returns the cell of a counter that was was, with delta added.
func plus[V any](id, key string, was, delta int64, absent *cell[V]) (int64, *cell[V], error) {
	sum := was + delta
	if (was^sum)&(delta^sum) < 0 {
		return was, nil, fmt.Errorf("%w: session %q, counter %q: %d%+d", ErrOverflow, id, key[2:], was, delta)
	}
	if sum == 0 {
		return 0, absent, nil
	}
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], uint64(sum))
	return sum, newRaw[V](raw[:]), nil
}

// Add adds delta to a counter, and returns its new value. ErrOverflow if there is no such.
func (tx *Tx[V]) Add(name string, delta int64) (int64, error) {
	was, err := tx.Counter(name)
	if err != nil {
		return 0, err
	}
	key := ownKey(kindCounter, name)
	sum, c, err := plus(tx.s.id(), key, was, delta, tx.db.absent)
	if err == nil && delta != 0 {
		tx.set(key, c)
	}
	return sum, err
}

// Counter returns the value of a counter; 0 for one that nobody has added to. Counters have names of their own, apart from keys.
func (h *Session[V]) Counter(ctx context.Context, name string) (n int64, err error) {
	err = h.Update(ctx, func(tx *Tx[V]) (err error) {
		n, err = tx.Counter(name)
		return err
	})
	return n, err
}

// Add adds delta to a counter, and returns its new value; ack says when. ErrOverflow if there is no such: then nothing is changed.
func (h *Session[V]) Add(ctx context.Context, name string, delta int64, ack Ack) (int64, error) {
	if err := checkName(h.ID(), "counter", name); err != nil {
		return 0, err
	}
	var w [stepWrites]write[V]
	st := step[V]{kind: stepAdd, key: ownKey(kindCounter, name), delta: delta}
	err := h.stepping(ctx, ack, &st, w[:0])
	return st.sum, err
}

// add is Tx.Add as a step, on the counter's cell.
func (st *step[V]) add(db *DB[V], s *session[V], ch *change[V], place *entry[V], c *cell[V]) error {
	was, err := counted(s.id(), st.key, c, db.absent)
	if err != nil {
		return err
	}
	if st.sum, c, err = plus(s.id(), st.key, was, st.delta, db.absent); err != nil {
		return err
	}
	ch.writes = ch.writes[:1]
	ch.writes[0] = write[V]{st.key, c, db.cost(st.key, c), place}
	return nil
}
