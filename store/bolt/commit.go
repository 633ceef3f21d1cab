package bolt

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is group commit. A commit costs two syncs of the disk, whatever it holds. So callers put their
// work into a queue, and whoever gets the turn to write takes all that is queued into
// one transaction. The others find their work done. No goroutine of our own is needed.

// call is one Apply or Claim in the queue.
type call struct {
	items []item
	keys  []byte        // where the items' keys are, if there are many
	err   error         // of the transaction: every item's outcome is unknown
	done  chan struct{} // closed when items and err are final
}

// callPool holds the memory of Applies that are over.
var callPool = sync.Pool{New: func() any { return new(call) }}

// free gives the memory of a call back. Nobody refers to it: its transaction is over, or it was never in one.
func (c *call) free() {
	if cap(c.items) > 1<<14 {
		return
	}
	clear(c.items)
	*c = call{items: c.items[:0], keys: c.keys[:0]}
	callPool.Put(c)
}

// item is one change or one claim. It is decided and written for itself.
type item struct {
	key []byte // of the session's header record
	n   int    // its place among the items of a transaction

	change *store.Change
	result *store.Result

	claim  *store.ClaimRequest
	answer *store.Claim

	err error // of this item alone
}

// errNothing ends a transaction that has nothing to write: it is rolled back, and no sync is paid for.
var errNothing = errors.New("nothing to write")

// commit does c's work in a transaction, with others'. A context that ends while c still
// waits for its turn takes c out of the queue: nothing of it was done.
func (s *Store) commit(ctx context.Context, c *call) error {
	c.done = make(chan struct{})
	s.queueMu.Lock()
	s.queue = append(s.queue, c)
	s.queueMu.Unlock()
	select {
	case s.turn <- struct{}{}:
		s.run(s.take()) // c is among them, unless it is done
		<-s.turn
	case <-c.done:
	case <-ctx.Done():
		if s.unqueue(c) {
			return ctx.Err()
		}
		<-c.done // another call has it in its transaction already
	case <-s.breaks:
		if s.unqueue(c) {
			return s.brokenBy() // the turn may never be given back
		}
		<-c.done
	}
	return c.err
}

// take takes all out of the queue. The caller holds s.turn.
//
// If several were answered a moment ago they go first, as long as some of them come back: then they share this transaction, where
// otherwise one half of the callers would always wait for the other's. Who is alone waits for nobody.
func (s *Store) take() (calls []*call) {
	for n := 0; ; {
		s.queueMu.Lock()
		if calls = s.queue; len(calls) <= n || s.shared <= 1 {
			s.queue = nil
			s.queueMu.Unlock()
			s.shared = max(len(calls), s.shared/2)
			return calls
		}
		n = len(calls)
		s.queueMu.Unlock()
		runtime.Gosched()
	}
}

// unqueue takes c out of the queue, if it is still there.
func (s *Store) unqueue(c *call) bool {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	i := slices.Index(s.queue, c)
	if i >= 0 {
		s.queue = slices.Delete(s.queue, i, i+1)
	}
	return i >= 0
}

// run commits the work of calls. The caller holds s.turn.
func (s *Store) run(calls []*call) {
	var items []*item
	for _, c := range calls {
		for i := range c.items {
			c.items[i].n = len(items)
			items = append(items, &c.items[i])
		}
	}
	if len(items) > 0 {
		// In the order of their keys, bbolt visits each page once. Those of one session keep theirs.
		slices.SortFunc(items, func(a, b *item) int { return cmp.Or(bytes.Compare(a.key, b.key), a.n-b.n) })
		err := s.transaction(items)
		if isFault(err) && len(items) > 1 {
			err = nil
			s.split(items)
		}
		for _, c := range calls {
			c.err = err
		}
	}
	for _, c := range calls {
		close(c.done)
	}
}

// split commits items in transactions of their own, after one for all of them met damage: a damaged
// page stops the transaction that touches it, but it must not stop the
// changes that do not, nor stop them again with every retry. Halving finds k bad ones of n in O(k log n) commits.
func (s *Store) split(items []*item) {
	for _, half := range [][]*item{items[:len(items)/2], items[len(items)/2:]} {
		err := s.transaction(half)
		if isFault(err) && len(half) > 1 {
			s.split(half)
			continue
		}
		for _, it := range half {
			it.fail(err)
		}
	}
}

// transaction commits items in one transaction. An error means that the outcome of all is unknown.
func (s *Store) transaction(items []*item) error {
	before := s.gravesOff
	err := s.attempt(items)
	if isFault(err) && s.gravesOff && !before {
		// It may be the tombstones' own pages, or those that merge with them, and then no commit would ever work again.
		if err = s.attempt(items); isFault(err) {
			s.gravesOff = false // it was not them
		} else {
			s.log(slog.LevelWarn, "store/bolt: damage met: tombstones are not removed any more")
		}
	}
	return err
}

// attempt is transaction, once.
func (s *Store) attempt(items []*item) error {
	collected := false
	err := s.update(func(tx *bbolt.Tx) error {
		b, err := s.newBatch(tx)
		if err != nil {
			return err
		}
		tx.DB().MaxSize = limit(tx, items, 0)
		for _, it := range items {
			if err := b.do(it); err != nil {
				return err
			}
		}
		if !b.dirty {
			return errNothing
		}
		collected, err = b.collect(tx, items)
		return err
	})
	if err == errNothing {
		return nil // and no record was made
	}
	if isFault(err) {
		s.arena = arena{} // who knows what bbolt still refers to
	} else {
		s.arena.reset()
		s.gravesOff = s.gravesOff && !collected
	}
	if err != nil {
		s.nextGrave = time.Time{} // what was learnt in the transaction may not be so
	}
	return err
}

// limit returns the size in bytes beyond which items can have no reason to grow the file. A damaged length on a page that is rewritten would
// have bbolt copy up to 2 GiB of whatever lies behind it: with a limit it gives up.
//
// What is sound is rewritten at most once, and only on the pages that hold a record to be written and those
// that merge with them. Zero is no limit.
func limit(tx *bbolt.Tx, items []*item, graves int) int {
	if runtime.GOOS == "windows" {
		return 0 // bbolt compares the size of the map there, which doubles
	}
	records := int64(2 * graves) // each has a record in either bucket
	size := 2*tx.Size() + 64<<20 // what bbolt grows ahead, its list of free pages
	for _, it := range items {
		size += 256 << 10 // the pages from the root to a record, and those that split
		records += 2      // the header's; with a wipe, the leaf on which the entries end
		if it.change != nil {
			records += int64(len(it.change.Puts) + len(it.change.Deletes))
			for _, a := range it.change.Aliases {
				size += 4 * int64(len(a)+16<<10)
			}
			records += int64(len(it.change.Aliases))
			for i := range it.change.Puts {
				size += 4 * int64(len(it.change.Puts[i].Value)+16<<10)
			}
		}
	}
	size = min(size, size-tx.Size()+2*maxPageBytes*records)
	return int(min(size, math.MaxInt))
}

// fail gives the item the error of a transaction that was its own.
func (it *item) fail(err error) {
	switch {
	case err == nil:
	case it.change != nil:
		*it.result = store.Result{Outcome: store.Undecided, Err: err}
	default:
		it.err = err
	}
}
