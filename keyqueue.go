package kvstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// TxKeyQueue is a queue of entries in a transaction. Its methods are those of [KeyQueue].
type TxKeyQueue[V any] struct{ ends[V] }

// KeyQueue returns the session's queue of entries of that name. A queue that nobody has pushed to is empty.
func (tx *Tx[V]) KeyQueue(name string) *TxKeyQueue[V] {
	return &TxKeyQueue[V]{tx.ends(name, kindKeyBounds, kindKey)}
}

// PushBack puts v under key, and key at the end of the queue.
func (q *TxKeyQueue[V]) PushBack(key string, v V) error { return q.pushEntry(key, v, false) }

// PushFront puts v under key, and key at the beginning of the queue.
func (q *TxKeyQueue[V]) PushFront(key string, v V) error { return q.pushEntry(key, v, true) }

func (q *TxKeyQueue[V]) pushEntry(key string, v V, front bool) error {
	if q.err != nil {
		return q.err
	}
	c, err := q.tx.db.newCell(q.tx.s.id(), key, v, time.Time{})
	if err != nil {
		return err
	}
	if err := q.push(newRaw[V]([]byte(key)), front); err != nil {
		return err
	}
	q.tx.set(key, c)
	return nil
}

// PopFront takes the first key out, deletes its entry, and returns both. ErrEmpty if there is none.
func (q *TxKeyQueue[V]) PopFront() (key string, v V, err error) { return q.popEntry(false) }

// PopBack takes the last key out, deletes its entry, and returns both. ErrEmpty if there is none.
func (q *TxKeyQueue[V]) PopBack() (key string, v V, err error) { return q.popEntry(true) }

func (q *TxKeyQueue[V]) popEntry(back bool) (key string, v V, err error) {
	for {
		c, err := q.pop(back)
		if err != nil {
			return "", v, err
		}
		key = string(rawOf(c))
		if checkKey(q.tx.s.id(), key) != nil {
			return "", v, &store.CorruptError{Session: q.tx.s.id(), Key: key, Reason: fmt.Sprintf("queue %q has it as an item", q.name)}
		}
		v, err := q.tx.Get(key)
		if errors.Is(err, ErrNotFound) {
			continue // it was deleted, or popped already, or has expired
		}
		if err == nil {
			err = q.tx.Delete(key)
		}
		return key, v, err
	}
}

// Len returns the number of keys in the queue, those included whose entries are gone.
func (q *TxKeyQueue[V]) Len() (int, error) { return q.len() }

// RemoveFront takes the first n keys out, or all if there are fewer, and returns how many. Their entries stay.
func (q *TxKeyQueue[V]) RemoveFront(n int) (int, error) { return q.remove(n, false) }

// RemoveBack likewise takes out the last ones.
func (q *TxKeyQueue[V]) RemoveBack(n int) (int, error) { return q.remove(n, true) }

// KeyQueue is a double-ended queue of entries: ordinary ones, which can be read and changed by their keys while they wait, and go when their
// turn comes (K2HASH calls it a key queue). A key whose entry was deleted in another way is passed over when its turn comes; one that was pushed
// twice is popped once, at its first place, with its latest value. All else is as for [Queue].
type KeyQueue[V any] struct {
	h    *Session[V]
	name string
}

// KeyQueue returns the session's queue of entries of that name. A queue that nobody has pushed to is empty. It has nothing to do with the Queue of
// the same name.
func (h *Session[V]) KeyQueue(name string) *KeyQueue[V] { return &KeyQueue[V]{h, name} }

// Name returns the queue's name.
func (q *KeyQueue[V]) Name() string { return q.name }

// PushBack puts v under key, and key at the end of the queue.
func (q *KeyQueue[V]) PushBack(ctx context.Context, key string, v V) error {
	return q.h.Update(ctx, func(tx *Tx[V]) error { return tx.KeyQueue(q.name).PushBack(key, v) })
}

// PushFront puts v under key, and key at the beginning of the queue.
func (q *KeyQueue[V]) PushFront(ctx context.Context, key string, v V) error {
	return q.h.Update(ctx, func(tx *Tx[V]) error { return tx.KeyQueue(q.name).PushFront(key, v) })
}

// PopFront takes the first key out, deletes its entry, and returns both. ErrEmpty if there is none.
func (q *KeyQueue[V]) PopFront(ctx context.Context) (key string, v V, err error) {
	err = q.h.pop(ctx, func(tx *Tx[V]) (err error) {
		key, v, err = tx.KeyQueue(q.name).PopFront()
		return err
	})
	return key, v, err
}

// PopBack takes the last key out, deletes its entry, and returns both. ErrEmpty if there is none.
func (q *KeyQueue[V]) PopBack(ctx context.Context) (key string, v V, err error) {
	err = q.h.pop(ctx, func(tx *Tx[V]) (err error) {
		key, v, err = tx.KeyQueue(q.name).PopBack()
		return err
	})
	return key, v, err
}

// Len returns the number of keys in the queue, those included whose entries are gone.
func (q *KeyQueue[V]) Len(ctx context.Context) (n int, err error) {
	err = q.h.Update(ctx, func(tx *Tx[V]) (err error) {
		n, err = tx.KeyQueue(q.name).Len()
		return err
	})
	return n, err
}

// RemoveFront takes the first n keys out, or all if there are fewer, and returns how many. Their entries stay.
func (q *KeyQueue[V]) RemoveFront(ctx context.Context, n int) (removed int, err error) {
	err = q.h.Update(ctx, func(tx *Tx[V]) (err error) {
		removed, err = tx.KeyQueue(q.name).RemoveFront(n)
		return err
	})
	return removed, err
}

// RemoveBack likewise takes out the last ones.
func (q *KeyQueue[V]) RemoveBack(ctx context.Context, n int) (removed int, err error) {
	err = q.h.Update(ctx, func(tx *Tx[V]) (err error) {
		removed, err = tx.KeyQueue(q.name).RemoveBack(n)
		return err
	})
	return removed, err
}
