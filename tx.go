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
	seen   map[string]bool // the keys of reads, when there are many
	tree   bool            // keys were listed
	shape  uint64          // if tree: of the session, then
	writes []write[V]
	at     map[string]int // key → writes, when there are many
	expire bool
	until  store.Time
	touch  time.Duration // if not 0: the session's idle time

	aliases aliasing
	marks   marking

	over  bool  // the function has returned
	stale error // errConflict or errEvicted, of a read: whatever the function returns, it runs again
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
	return h.update(ctx, InMemory, f)
}

// update is Update, acknowledged as ack says.
func (h *Session[V]) update(ctx context.Context, ack Ack, f func(tx *Tx[V]) error) error {
	if ack > Stored {
		return errAck(h.ID(), ack)
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
				err = tx.commit(ack)
			}
			if !errors.Is(err, errConflict) {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			h.db.count.conflicts.Add(1)
			if err := h.db.standBack(ctx, s.id(), conflicts); err != nil {
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

func (tx *Tx[V]) commit(ack Ack) error {
	if len(tx.writes) == 0 && !tx.expire && tx.touch == 0 && !tx.aliases.any() && !tx.marks.any() {
		if err := tx.db.inTime(); err != nil || ack != Stored { // the reads were consistent when the last was made
			return err
		}
		return tx.db.syncAll(tx.ctx, tx.s) // what it has read is stored
	}
	if err := tx.encodable(); err != nil {
		return err
	}
	return tx.db.commit(tx.ctx, tx.s, &change[V]{
		reads: tx.reads, tree: tx.tree, shape: tx.shape, writes: tx.writes, expire: tx.expire, expires: tx.until, touch: tx.touch,
		aliases: tx.aliases, marks: tx.marks, bound: true, life: tx.life, stored: ack == Stored,
	})
}

// encodable returns why some of the writes could not be stored. A flush would hand that one over, and store the others: half of
// the transaction. One write alone cannot be torn, and is not worth the time.
func (tx *Tx[V]) encodable() error {
	if len(tx.writes) < 2 {
		return nil
	}
	for i := range tx.writes {
		if w := &tx.writes[i]; w.cell != tx.db.absent {
			if err := tx.db.encodable(tx.s.id(), w.key, w.cell); err != nil {
				return err
			}
		}
	}
	return nil
}

// encodable returns why a cell could not be stored.
func (db *DB[V]) encodable(id, key string, c *cell[V]) error {
	if isRaw(key) || db.exact && db.opt.Codec == Codec(Msgpack{}) { // a string or []byte: newCell has looked at its length
		return nil
	}
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	b, err := db.append((*buf)[:0], key, c)
	if err == nil {
		err = db.fits(b)
	}
	if err != nil {
		return &RejectedError{Session: id, Keys: []string{key}, Err: err}
	}
	if cap(b) <= 64<<10 {
		*buf = b
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
	if err := tx.usable(key); err != nil {
		return v, err
	}
	c, err := tx.cell(key)
	if err != nil {
		return v, err
	}
	if c == tx.db.absent || c.expires.Past(time.Now()) {
		return v, keyError(tx.s.id(), key, ErrNotFound)
	}
	return c.val, nil
}

// usable returns why the transaction, or one of the keys, cannot be used.
func (tx *Tx[V]) usable(keys ...string) error {
	if tx.over {
		return errOver
	}
	for _, key := range keys {
		if err := checkKey(tx.s.id(), key); err != nil {
			return err
		}
	}
	return nil
}

// cell returns what the transaction sees of an entry, absent included.
func (tx *Tx[V]) cell(key string) (*cell[V], error) {
	if i := tx.find(key); i >= 0 {
		return tx.writes[i].cell, nil
	}
	c, err := tx.db.fetch(tx.ctx, tx.s, tx.life, key, tx)
	if err != nil {
		return nil, tx.read(err)
	}
	tx.saw(key, c)
	return c, nil
}

// cells is cell for many, loaded together.
func (tx *Tx[V]) cells(keys []string) ([]*cell[V], error) {
	var others []string
	for _, key := range keys {
		if tx.find(key) < 0 {
			others = append(others, key)
		}
	}
	if err := tx.db.gather(tx.ctx, tx.s, tx.life, others); err != nil {
		return nil, tx.read(err)
	}
	cells, err := tx.lookAll(keys)
	if err != nil {
		return nil, tx.read(err)
	}
	for i, c := range cells {
		if c == nil { // it left memory again, or cannot be read
			if cells[i], err = tx.cell(keys[i]); err != nil {
				return nil, err
			}
		}
	}
	return cells, nil
}

// lookAll returns what is in memory of entries, nil for what is not.
func (tx *Tx[V]) lookAll(keys []string) ([]*cell[V], error) {
	s, cells := tx.s, make([]*cell[V], len(keys))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(tx.life); err != nil {
		return nil, err
	}
	if err := tx.holds(); err != nil {
		return nil, err
	}
	for i, key := range keys {
		if j := tx.find(key); j >= 0 {
			cells[i] = tx.writes[j].cell
		} else if cells[i] = s.version(key, tx.db.absent); cells[i] != nil {
			tx.saw(key, cells[i])
		}
	}
	return cells, nil
}

// holds returns errConflict if something that the transaction has seen is no longer so. Caller holds the session's mu. Without a transaction nothing
// was seen.
func (tx *Tx[V]) holds() error {
	if tx == nil {
		return nil
	}
	return tx.s.unchanged(tx.reads, tx.tree, tx.shape, tx.db.absent)
}

// unchanged returns errConflict if a version is out of date, or, with tree, the set of keys. Caller holds mu.
func (s *session[V]) unchanged(reads []version[V], tree bool, shape uint64, absent *cell[V]) error {
	for _, r := range reads {
		if s.version(r.key, absent) != r.cell {
			return errConflict
		}
	}
	if tree && s.shape() != shape {
		return errConflict
	}
	return nil
}

// saw remembers what was read.
func (tx *Tx[V]) saw(key string, c *cell[V]) {
	if tx.seen != nil {
		if tx.seen[key] {
			return
		}
		tx.seen[key] = true
	} else if slices.ContainsFunc(tx.reads, func(r version[V]) bool { return r.key == key }) {
		return
	}
	tx.reads = append(tx.reads, version[V]{key, c})
	if tx.seen == nil && len(tx.reads) > 8 {
		tx.seen = make(map[string]bool, 16)
		for _, r := range tx.reads {
			tx.seen[r.key] = true
		}
	}
}

// read is the end of a read that failed with err: if that is because something moved, the function runs again, whatever it returns.
func (tx *Tx[V]) read(err error) error {
	if err == errConflict || err == errEvicted {
		tx.stale = err
	}
	return err
}

// Put sets an entry that does not expire by itself.
func (tx *Tx[V]) Put(key string, v V) error { return tx.PutUntil(key, v, time.Time{}) }

// PutUntil sets an entry that is gone from the time at on; zero is never.
func (tx *Tx[V]) PutUntil(key string, v V, at time.Time) error {
	if tx.over {
		return errOver
	}
	c, err := tx.db.newCell(tx.s.id(), key, v, at)
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
	if err := checkKey(tx.s.id(), key); err != nil {
		return err
	}
	tx.set(key, tx.db.absent)
	return nil
}

// Expire sets the time from which the session is gone; zero is never.
func (tx *Tx[V]) Expire(at time.Time) { tx.expire, tx.until, tx.touch = true, store.TimeOf(at), 0 }

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
