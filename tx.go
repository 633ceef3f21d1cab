package kvstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Tx is a transaction on one session: what it reads is one consistent state, and its writes are applied and stored
// together, or not at all. It is used by the
// function given to Update, on one goroutine, until that returns.
type Tx[V any] struct {
	db     *DB[V]
	ctx    context.Context
	s      *session[V]
	life   uint32
	reads  []version[V]
	writes []write[V]
	at     map[string]int // key → writes, when there are many
	expire bool
	until  store.Time
	over   bool  // the function has returned
	stale  error // errConflict or errEvicted, of a read: whatever the function returns, it runs again
}

// Update runs f and then makes its writes, all at once, unless f returns an error, which Update returns.
//
// f may run more than once: if another change came between its reads and its
// writes it runs again on the new state (optimistic concurrency control; Kung and
// Robinson, 1981). So it must have no effects but through its Tx: if it changes the session in another way, it conflicts
// with itself, for ever. It runs on the
// caller's goroutine, under no lock. A panic in it reaches the caller, and nothing is written.
//
// Where there are several writes, each value is encoded before any of them is made, and thrown away: one that cannot be
// encoded is ErrRejected, or ErrTooLarge, and none is made. (A value that is put alone, and cannot be encoded, shows at the
// flush.)
func (h *Session[V]) Update(ctx context.Context, f func(tx *Tx[V]) error) error {
	if f == nil {
		return fmt.Errorf("%w: Update of session %q with a nil function", ErrInvalid, h.ID())
	}
	return h.do(ctx, func(s *session[V], life uint32) error {
		for conflicts := 1; ; conflicts++ {
			if err := h.db.serve(ctx, s); err != nil {
				return err
			}
			tx := Tx[V]{db: h.db, ctx: ctx, s: s, life: life}
			err := f(&tx)
			tx.over = true
			switch {
			case tx.stale != nil:
				err = tx.stale
			case err == nil:
				err = tx.commit()
			}
			if !errors.Is(err, errConflict) {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			h.db.count.conflicts.Add(1)
			if err := h.db.standBack(ctx, s.id, conflicts); err != nil {
				return err
			}
		}
	})
}

// patience is the number of conflicts in a row after which a transaction waits before it runs again.
const patience = 16

// standBack waits after so many conflicts in a row: a moment, lest two never get out of each other's way.
func (db *DB[V]) standBack(ctx context.Context, id string, conflicts int) error {
	if conflicts < patience {
		return nil
	}
	if conflicts == 100*patience {
		db.log.Warn("kvstore: a transaction conflicts again and again; does its function change the session without its Tx?", "session", id, "runs", conflicts)
	}
	timer := time.NewTimer(time.Duration(db.world.Rand(int64(min(conflicts, 100*patience)) * int64(10*time.Microsecond))))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-db.stopping:
		return ErrClosed
	}
}

// errOver is of a transaction that is used after its function has returned.
var errOver = fmt.Errorf("%w: the transaction is over: Update's function has returned", ErrInvalid)

func (tx *Tx[V]) commit() error {
	if len(tx.writes) == 0 && !tx.expire {
		return tx.db.inTime() // the reads were consistent when the last was made
	}
	if err := tx.encodable(); err != nil {
		return err
	}
	return tx.db.commit(tx.ctx, tx.s, &change[V]{
		reads: tx.reads, writes: tx.writes, expire: tx.expire, expires: tx.until,
		bound: true, life: tx.life,
	})
}

// encodable returns why some of the writes could not be stored. A flush would hand that one over, and store the others: half of
// the transaction. One write alone cannot be torn, and is not worth the time.
func (tx *Tx[V]) encodable() error {
	if len(tx.writes) < 2 || tx.db.exact && tx.db.opt.Codec == Codec(Msgpack{}) { // a string or []byte: newCell has looked at its length
		return nil
	}
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	for i := range tx.writes {
		w := &tx.writes[i]
		if w.cell == tx.db.absent {
			continue
		}
		b, err := tx.db.append((*buf)[:0], w.key, w.cell)
		if err == nil {
			err = tx.db.fits(b)
		}
		if err != nil {
			return &RejectedError{Session: tx.s.id, Keys: []string{w.key}, Err: err}
		}
		if cap(b) <= 64<<10 {
			*buf = b
		}
	}
	return nil
}

// scratch holds buffers for what is encoded and thrown away.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// find returns the index in writes of a key; -1 if it has none.
func (tx *Tx[V]) find(key string) int {
	if tx.at != nil {
		if i, ok := tx.at[key]; ok {
			return i
		}
		return -1
	}
	for i := range tx.writes {
		if tx.writes[i].key == key {
			return i
		}
	}
	return -1
}

// Get returns an entry as this transaction sees it: its own writes included. An entry that
// is not in memory is loaded.
func (tx *Tx[V]) Get(key string) (v V, err error) {
	if tx.over {
		return v, errOver
	}
	if err := checkKey(tx.s.id, key); err != nil {
		return v, err
	}
	var c *cell[V]
	if i := tx.find(key); i >= 0 {
		c = tx.writes[i].cell
	} else if c, err = tx.db.fetch(tx.ctx, tx.s, tx.life, key, tx.reads); err != nil {
		if err == errConflict || err == errEvicted {
			tx.stale = err
		}
		return v, err
	} else if !slices.ContainsFunc(tx.reads, func(r version[V]) bool { return r.key == key }) {
		tx.reads = append(tx.reads, version[V]{key, c})
	}
	if c == tx.db.absent || c.expires.Past(time.Now()) {
		return v, keyError(tx.s.id, key, ErrNotFound)
	}
	return c.val, nil
}

// Put sets an entry that does not expire by itself.
func (tx *Tx[V]) Put(key string, v V) error { return tx.PutUntil(key, v, time.Time{}) }

// PutUntil sets an entry that is gone from the time at on; zero is never.
func (tx *Tx[V]) PutUntil(key string, v V, at time.Time) error {
	if tx.over {
		return errOver
	}
	c, err := tx.db.newCell(tx.s.id, key, v, at)
	if err != nil {
		return err
	}
	tx.set(key, c)
	return nil
}

// Delete deletes an entry. To delete one that does not exist is no error.
func (tx *Tx[V]) Delete(key string) error {
	if tx.over {
		return errOver
	}
	if err := checkKey(tx.s.id, key); err != nil {
		return err
	}
	tx.set(key, tx.db.absent)
	return nil
}

// Expire sets the time from which the session is gone; zero is never.
func (tx *Tx[V]) Expire(at time.Time) { tx.expire, tx.until = true, store.TimeOf(at) }

func (tx *Tx[V]) set(key string, c *cell[V]) {
	if i := tx.find(key); i >= 0 {
		tx.writes[i].cell = c
		return
	}
	tx.writes = append(tx.writes, write[V]{key: key, cell: c})
	switch {
	case tx.at != nil:
		tx.at[key] = len(tx.writes) - 1
	case len(tx.writes) > 8:
		tx.at = make(map[string]int, 16)
		for i := range tx.writes {
			tx.at[tx.writes[i].key] = i
		}
	}
}
