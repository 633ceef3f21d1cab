package kvstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is queues in a session: of values, and of entries in the order in which they are to be taken.
//
// A queue is a row of entries, one for each item, named by their positions, and one entry that says where it begins and ends. So whatever is done at an end touches
// two entries, however long the queue is, and what is pushed and popped within a flush window is never written. An empty queue has no entries at all.
//
//	bounds   head tail        8 bytes each, big endian: the items have the positions head ≤ p < tail, modulo 2⁶⁴
//	item     position → value, or key

// queueStart is the position at which an empty queue begins: the middle.
const queueStart = math.MaxUint64/2 + 1

// ErrEmpty: there is nothing in the queue.
var ErrEmpty = errors.New("kvstore: the queue is empty")

// ends is a queue of either kind, as a transaction sees it.
type ends[V any] struct {
	tx           *Tx[V]
	name         string
	bounds, item byte  // kinds of its entries
	err          error // of the name
}

func (tx *Tx[V]) ends(name string, bounds, item byte) ends[V] {
	return ends[V]{tx, name, bounds, item, checkName(tx.s.id(), "queue", name)}
}

// at returns where the queue begins and ends.
func (q *ends[V]) at() (head, tail uint64, err error) {
	if q.err != nil {
		return 0, 0, q.err
	}
	if q.tx.over {
		return 0, 0, errOver
	}
	key := ownKey(q.bounds, q.name)
	c, err := q.tx.cell(key)
	if err != nil {
		return 0, 0, err
	}
	return boundsOf(q.tx.s.id(), key, c, q.tx.db.absent)
}

// boundsOf returns what the cell of a queue's bounds says.
func boundsOf[V any](id, key string, c, absent *cell[V]) (head, tail uint64, err error) {
	if c == absent {
		return queueStart, queueStart, nil
	}
	raw := rawOf(c)
	if len(raw) != 16 {
		return 0, 0, &store.CorruptError{Session: id, Key: key, Reason: fmt.Sprintf("the bounds of queue %q have %d bytes", key[2:], len(raw))}
	}
	return binary.BigEndian.Uint64(raw), binary.BigEndian.Uint64(raw[8:]), nil
}

// boundsCell is the inverse.
func boundsCell[V any](head, tail uint64, absent *cell[V]) *cell[V] {
	if head == tail {
		return absent
	}
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:], head)
	binary.BigEndian.PutUint64(raw[8:], tail)
	return newRaw[V](raw[:])
}

// move sets where the queue begins and ends.
func (q *ends[V]) move(head, tail uint64) {
	q.tx.set(ownKey(q.bounds, q.name), boundsCell(head, tail, q.tx.db.absent))
}

func (q *ends[V]) key(pos uint64) string { return itemKey(q.item, q.name, pos) }

func (q *ends[V]) push(c *cell[V], front bool) error {
	head, tail, err := q.at()
	if err != nil {
		return err
	}
	pos := tail
	if front {
		head--
		pos = head
	} else {
		tail++
	}
	q.tx.set(q.key(pos), c)
	q.move(head, tail)
	return nil
}

// queuePage is how many items are loaded at a time.
const queuePage = 64

// peek returns the item at an end, and its position. What is not there, because the store has refused it, is passed over.
func (q *ends[V]) peek(back bool) (c *cell[V], pos uint64, err error) {
	head, tail, err := q.at()
	if err != nil {
		return nil, 0, err
	}
	for ; head != tail; head, tail = next(head, tail, back) {
		pos = head
		if back {
			pos = tail - 1
		}
		if c, err = q.load(pos, tail-head, back); err != nil || c != q.tx.db.absent {
			return c, pos, err
		}
	}
	return nil, 0, errEmpty(q.tx.s.id(), q.name)
}

// next returns the bounds without the item at an end.
func next(head, tail uint64, back bool) (uint64, uint64) {
	if back {
		return head, tail - 1
	}
	return head + 1, tail
}

// load returns the item at pos, at an end of a queue of n. If it is not in memory, those behind it come along.
func (q *ends[V]) load(pos, n uint64, back bool) (*cell[V], error) {
	key, s := q.key(pos), q.tx.s
	s.mu.Lock()
	there := s.version(key, q.tx.db.absent) != nil
	s.mu.Unlock()
	if !there && q.tx.find(key) < 0 {
		if err := q.tx.db.gather(q.tx.ctx, s, q.tx.life, ahead(q.item, q.name, pos, n, back)); err != nil {
			return nil, q.tx.read(err)
		}
	}
	return q.tx.cell(key)
}

// pop takes the item at an end out.
func (q *ends[V]) pop(back bool) (*cell[V], error) {
	head, tail, err := q.at()
	if err != nil {
		return nil, err
	}
	c, pos, err := q.peek(back)
	if err != nil {
		if head != tail && errors.Is(err, ErrEmpty) {
			q.move(head, head)
		}
		return nil, err
	}
	if back {
		tail = pos
	} else {
		head = pos + 1
	}
	q.tx.set(q.key(pos), q.tx.db.absent)
	q.move(head, tail)
	return c, nil
}

// remove takes n items out at an end without reading them, or as many as there are.
func (q *ends[V]) remove(n int, back bool) (int, error) {
	head, tail, err := q.at()
	if err != nil {
		return 0, err
	}
	if n < 0 {
		return 0, fmt.Errorf("%w: session %q, queue %q: remove of %d items", ErrInvalid, q.tx.s.id(), q.name, n)
	}
	n = int(min(uint64(n), tail-head))
	for range n {
		pos := head
		if back {
			pos = tail - 1
		}
		q.tx.set(q.key(pos), q.tx.db.absent)
		head, tail = next(head, tail, back)
	}
	if n > 0 {
		q.move(head, tail)
	}
	return n, nil
}

func (q *ends[V]) len() (int, error) {
	head, tail, err := q.at()
	return int(tail - head), err
}

// TxQueue is a queue of values in a transaction. Its methods are those of [Queue].
type TxQueue[V any] struct{ ends[V] }

// Queue returns the session's queue of that name. A queue that nobody has pushed to is empty; queues have names of their own, apart from keys.
func (tx *Tx[V]) Queue(name string) *TxQueue[V] {
	return &TxQueue[V]{tx.ends(name, kindBounds, kindItem)}
}

// PushBack adds v at the end.
func (q *TxQueue[V]) PushBack(v V) error { return q.pushValue(v, false) }

// PushFront adds v at the beginning.
func (q *TxQueue[V]) PushFront(v V) error { return q.pushValue(v, true) }

func (q *TxQueue[V]) pushValue(v V, front bool) error {
	if q.err != nil {
		return q.err
	}
	c, err := q.tx.db.newItem(q.tx.s.id(), v)
	if err != nil {
		return fmt.Errorf("queue %q: %w", q.name, err)
	}
	return q.push(c, front)
}

// PopFront takes the first value out. ErrEmpty if there is none.
func (q *TxQueue[V]) PopFront() (V, error) { return q.popValue(false) }

// PopBack takes the last value out. ErrEmpty if there is none.
func (q *TxQueue[V]) PopBack() (V, error) { return q.popValue(true) }

func (q *TxQueue[V]) popValue(back bool) (v V, err error) {
	c, err := q.pop(back)
	if err != nil {
		return v, err
	}
	return c.val, nil
}

// Front returns the first value. ErrEmpty if there is none.
func (q *TxQueue[V]) Front() (V, error) { return q.peekValue(false) }

// Back returns the last value. ErrEmpty if there is none.
func (q *TxQueue[V]) Back() (V, error) { return q.peekValue(true) }

func (q *TxQueue[V]) peekValue(back bool) (v V, err error) {
	c, _, err := q.peek(back)
	if err != nil {
		return v, err
	}
	return c.val, nil
}

// Len returns the number of values.
func (q *TxQueue[V]) Len() (int, error) { return q.len() }

// RemoveFront takes the first n values out, or all if there are fewer, without loading them, and returns how many.
func (q *TxQueue[V]) RemoveFront(n int) (int, error) { return q.remove(n, false) }

// RemoveBack likewise takes out the last ones.
func (q *TxQueue[V]) RemoveBack(n int) (int, error) { return q.remove(n, true) }

// Queue is a double-ended queue of values in a session: first in, first out, or last in, first out, as its ends are used. Each operation is a
// transaction of its own, whose cost does not depend on the length; to do several at once, or together with changes of entries, use Session.Update and
// Tx.Queue. After an adoption values are loaded as they are needed, 64 at a time. What is pushed and popped again within
// one flush window is never written to the store.
//
// Concurrent operations are done one after the other. Errors are those of Session.Update.
type Queue[V any] struct {
	h      *Session[V]
	name   string
	bounds string // the key of where it begins and ends
	item   string // the key of an item, as long as any
}

// Queue returns the session's queue of that name. A queue that nobody has pushed to is empty; queues have names of their own, apart from keys.
func (h *Session[V]) Queue(name string) *Queue[V] {
	return &Queue[V]{h, name, ownKey(kindBounds, name), itemKey(kindItem, name, 0)}
}

// Name returns the queue's name.
func (q *Queue[V]) Name() string { return q.name }

// pop is Update for a pop. What was found to be gone on the way is taken out, too, if there is nothing else.
func (h *Session[V]) pop(ctx context.Context, f func(tx *Tx[V]) error) error {
	var empty error
	err := h.Update(ctx, func(tx *Tx[V]) error {
		empty = nil
		err := f(tx)
		if errors.Is(err, ErrEmpty) {
			empty, err = err, nil
		}
		return err
	})
	if err == nil {
		err = empty
	}
	return err
}

// push is Tx.Queue's push as a step.
func (q *Queue[V]) push(ctx context.Context, v V, front bool) error {
	db, id := q.h.db, q.h.ID()
	if err := checkName(id, "queue", q.name); err != nil {
		return err
	}
	c, err := db.newItem(id, v)
	if err != nil {
		return fmt.Errorf("queue %q: %w", q.name, err)
	}
	if err := db.encodable(id, q.item, c); err != nil { // or its place in the queue would be stored without it
		return err
	}
	var w [stepWrites]write[V]
	st := step[V]{kind: stepPush, front: front, key: q.bounds, name: q.name, cell: c, cost: db.cost(q.item, c)}
	return q.h.stepping(ctx, InMemory, &st, w[:0])
}

// push is that of a queue which has these ends.
func (st *step[V]) push(db *DB[V], ch *change[V], place *entry[V], head, tail uint64) error {
	pos := tail
	if st.front {
		head--
		pos = head
	} else {
		tail++
	}
	ch.writes = ch.writes[:2]
	ch.writes[0] = write[V]{key: itemKey(kindItem, st.name, pos), cell: st.cell, cost: st.cost}
	st.move(db, ch, place, head, tail)
	return nil
}

// move is the second of two writes: it sets where the queue begins and ends.
func (st *step[V]) move(db *DB[V], ch *change[V], place *entry[V], head, tail uint64) {
	b := boundsCell(head, tail, db.absent)
	ch.writes[1] = write[V]{st.key, b, db.cost(st.key, b), place}
}

// popAt is Tx.Queue's pop as a step.
func (q *Queue[V]) popAt(ctx context.Context, front bool) (v V, err error) {
	if err := checkName(q.h.ID(), "queue", q.name); err != nil {
		return v, err
	}
	var w [stepWrites]write[V]
	st := step[V]{kind: stepPop, front: front, key: q.bounds, name: q.name}
	if err = q.h.stepping(ctx, InMemory, &st, w[:0]); err == nil && st.cell == q.h.db.absent {
		err = errEmpty(q.h.ID(), q.name)
	}
	if err != nil {
		return v, err
	}
	return st.cell.val, nil
}

func errEmpty(id, name string) error {
	return fmt.Errorf("%w: session %q, queue %q", ErrEmpty, id, name)
}

// pop is that of a queue which has these ends.
func (st *step[V]) pop(db *DB[V], s *session[V], ch *change[V], place *entry[V], head, tail uint64) error {
	if head == tail {
		return errEmpty(s.id(), st.name)
	}
	ch.writes = ch.writes[:2]
	for st.cell = db.absent; head != tail && st.cell == db.absent; head, tail = next(head, tail, !st.front) { // what is not there is passed over
		pos := head
		if !st.front {
			pos = tail - 1
		}
		key := itemKey(kindItem, st.name, pos)
		var item *entry[V]
		if item, st.cell = s.see(key, db.absent); st.cell == nil {
			return st.lack(ahead(kindItem, st.name, pos, tail-head, !st.front)...)
		}
		ch.writes[0] = write[V]{key, db.absent, db.cost(key, db.absent), item}
	}
	st.move(db, ch, place, head, tail)
	return nil
}

// ahead returns the keys of the items from pos on, at an end of a queue of n: as many as are loaded at a time.
func ahead(kind byte, name string, pos, n uint64, back bool) []string {
	keys := make([]string, 0, queuePage)
	for i := range min(n, queuePage) {
		if back {
			i = -i
		}
		keys = append(keys, itemKey(kind, name, pos+i))
	}
	return keys
}

// PushBack adds v at the end.
func (q *Queue[V]) PushBack(ctx context.Context, v V) error {
	return q.push(ctx, v, false)
}

// PushFront adds v at the beginning.
func (q *Queue[V]) PushFront(ctx context.Context, v V) error { return q.push(ctx, v, true) }

// PopFront takes the first value out. ErrEmpty if there is none.
func (q *Queue[V]) PopFront(ctx context.Context) (V, error) { return q.popAt(ctx, true) }

// PopBack takes the last value out. ErrEmpty if there is none.
func (q *Queue[V]) PopBack(ctx context.Context) (V, error) { return q.popAt(ctx, false) }

// Front returns the first value. ErrEmpty if there is none.
func (q *Queue[V]) Front(ctx context.Context) (v V, err error) {
	err = q.h.Update(ctx, func(tx *Tx[V]) (err error) {
		v, err = tx.Queue(q.name).Front()
		return err
	})
	return v, err
}

// Back returns the last value. ErrEmpty if there is none.
func (q *Queue[V]) Back(ctx context.Context) (v V, err error) {
	err = q.h.Update(ctx, func(tx *Tx[V]) (err error) {
		v, err = tx.Queue(q.name).Back()
		return err
	})
	return v, err
}

// Len returns the number of values.
func (q *Queue[V]) Len(ctx context.Context) (n int, err error) {
	err = q.h.Update(ctx, func(tx *Tx[V]) (err error) {
		n, err = tx.Queue(q.name).Len()
		return err
	})
	return n, err
}

// RemoveFront takes the first n values out, or all if there are fewer, without loading them, and returns how many. It is one transaction: n
// values are to fit into Options.MaxBuffer as deletions.
func (q *Queue[V]) RemoveFront(ctx context.Context, n int) (removed int, err error) {
	err = q.h.Update(ctx, func(tx *Tx[V]) (err error) {
		removed, err = tx.Queue(q.name).RemoveFront(n)
		return err
	})
	return removed, err
}

// RemoveBack likewise takes out the last ones.
func (q *Queue[V]) RemoveBack(ctx context.Context, n int) (removed int, err error) {
	err = q.h.Update(ctx, func(tx *Tx[V]) (err error) {
		removed, err = tx.Queue(q.name).RemoveBack(n)
		return err
	})
	return removed, err
}

// All yields the values from the first to the last, without taking them out, 64 at a time: those that were there when it began and
// still are when their turn comes. An error is the last pair.
func (q *Queue[V]) All(ctx context.Context) iter.Seq2[V, error] {
	return func(yield func(V, error) bool) {
		var zero V
		var pos, tail uint64
		begun := false
		for {
			var cells []*cell[V]
			err := q.h.Update(ctx, func(tx *Tx[V]) error {
				tq := tx.Queue(q.name)
				head, end, err := tq.at()
				if err != nil {
					return err
				}
				from := pos
				if !begun {
					from, tail = head, end
				} else if head-from < math.MaxUint64/2 && head != from { // what is before it has been popped
					from = head
				}
				n := uint64(0)
				if left, still := tail-from, end-from; left <= math.MaxUint64/2 && still <= math.MaxUint64/2 {
					n = min(left, still, queuePage)
				}
				keys := make([]string, n)
				for i := range keys {
					keys[i] = tq.key(from + uint64(i))
				}
				if cells, err = tx.cells(keys); err == nil {
					pos, begun = from+n, true
				}
				return err
			})
			if err != nil {
				yield(zero, err)
				return
			}
			if len(cells) == 0 {
				return
			}
			for _, c := range cells {
				if c != q.h.db.absent && !yield(c.val, nil) {
					return
				}
			}
		}
	}
}
