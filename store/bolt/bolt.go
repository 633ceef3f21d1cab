package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Store is an open file. It implements [store.Store]; use [Open].
//
// Locks, in the order in which they are taken: closeMu, turn, beginMu, then one of the small ones
// (callsMu, queueMu, leaseMu, brokenMu), which are held for a few instructions and never across I/O.
type Store struct {
	path     string
	opt      Options
	db       *bbolt.DB
	file     *os.File // bbolt's own, for reads around the map
	place    place    // where it is found
	pageSize int
	metas    []byte // the two meta pages, in a map of our own; nil where there is none

	// calls counts the calls that work. Close waits until there are none, and lets none begin.
	callsMu sync.Mutex
	calls   int
	closing atomic.Bool   // set under callsMu
	idle    chan struct{} // closed when closing and calls = 0

	closeMu sync.Mutex // the first Close closes, the others wait for it
	closed  bool

	// turn holds one token: its holder is the only writer. A channel and not a mutex, because
	// a call that waits for its turn also waits for its context, and for another to do its work.
	turn    chan struct{}
	queueMu sync.Mutex
	queue   []*call // what the next holder of turn commits

	// Under turn.
	shared    int       // calls of the last transaction, or more if those before it had more
	nextGrave time.Time // no tombstone is due before; zero: unknown
	gravesOff bool      // damage is met where tombstones are, or collect runs: leave them alone
	arena     arena     // for the records of the transaction that runs
	txid      int       // of the last commit, as it must be found; 0: unknown

	leaseMu sync.Mutex
	leases  map[store.Incarnation]lease

	beginMu sync.Mutex     // held while bbolt begins a transaction: see transact
	ends    sync.WaitGroup // of reading transactions that end beside their call

	brokenMu sync.Mutex
	broken   error         // set once: bbolt cannot be called any more
	breaks   chan struct{} // closed when broken is set
	stopped  error         // set once: bbolt can be read, unless its map is gone, but not written
}

// enter begins a call. If it gives no error, leave must follow.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.callsMu.Lock()
	defer s.callsMu.Unlock()
	if s.closing.Load() {
		return store.ErrClosed
	}
	s.calls++
	return nil
}

// leave ends a call.
func (s *Store) leave() {
	s.callsMu.Lock()
	defer s.callsMu.Unlock()
	s.calls--
	if s.calls == 0 && s.closing.Load() {
		close(s.idle)
	}
}

// Close waits for the calls that run, walks between two pages excepted, and closes the file. Later calls
// give [store.ErrClosed]; Close itself may be called again, and then does nothing. Of a Store that cannot be used any more,
// because of damage where transactions begin, it closes the file without waiting: calls may be stuck for ever.
func (s *Store) Close() error {
	s.closeMu.Lock()
	defer s.closeMu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.callsMu.Lock()
	s.closing.Store(true)
	if s.calls == 0 {
		close(s.idle)
	}
	s.callsMu.Unlock()
	select {
	case <-s.idle:
	case <-s.breaks:
	}
	if s.brokenBy() != nil {
		// bbolt's locks may be held for ever by a transaction that did not end: its Close would wait for them.
		return s.wrap(s.file.Close())
	}
	s.ends.Wait()
	var err error
	if s.metas != nil {
		err = unmapMetas(s.metas)
	}
	if s.opt.NoSync {
		err = errors.Join(err, s.db.Sync())
	}
	return s.wrap(errors.Join(err, s.db.Close()))
}

// wrap says which file an error is about.
func (s *Store) wrap(err error) error { return wrap(s.path, err) }

func wrap(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store/bolt: file %s: %w", path, err)
}

// Writers implements [store.Writers]: bbolt has one writer at a time.
func (s *Store) Writers() int { return 1 }

var (
	_ store.Store     = (*Store)(nil)
	_ store.Writers   = (*Store)(nil)
	_ store.Claimer   = (*Store)(nil)
	_ io.Closer       = (*Store)(nil)
	_ store.Directory = (*Store)(nil)
	_ store.Finder    = (*Store)(nil)
	_ store.Ranger    = (*Store)(nil)
)
