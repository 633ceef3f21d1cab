package bolt

import (
	"context"
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
// Locks, in the order in which they are taken: gate, turn, then one of the small ones
// (queueMu, leaseMu, brokenMu), which are held for a few instructions and never across I/O.
type Store struct {
	path string
	opt  Options
	db   *bbolt.DB
	file *os.File // bbolt's own, for reads around the map

	// gate is held for reading by every call while it works, and for writing by
	// Close: so Close waits for the calls that run. closing is set first, so that none begins.
	gate    sync.RWMutex
	closing atomic.Bool
	closed  bool // under gate

	// turn holds one token: its holder is the only writer. A channel and not a mutex, because
	// a call that waits for its turn also waits for its context, and for another to do its work.
	turn    chan struct{}
	queueMu sync.Mutex
	queue   []*call // what the next holder of turn commits

	// Under turn.
	nextGrave time.Time // no tombstone is due before; zero: unknown
	gravesOff bool      // damage is met where tombstones are, or collect runs: leave them alone
	arena     arena     // for the records of the transaction that runs

	leaseMu sync.Mutex
	leases  map[store.Incarnation]lease

	brokenMu sync.Mutex
	broken   error // set once: bbolt cannot be called any more
	unsynced error // set once: bbolt can be read, but not written
}

// enter begins a call. If it gives no error, s.gate.RUnlock must follow.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closing.Load() {
		return store.ErrClosed
	}
	s.gate.RLock()
	if s.closed {
		s.gate.RUnlock()
		return store.ErrClosed
	}
	return nil
}

// Close waits for the calls that run, walks between two pages excepted, and closes the file. Later calls
// give [store.ErrClosed]; Close itself may be called again, and then does nothing.
func (s *Store) Close() error {
	s.closing.Store(true)
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.brokenBy() != nil {
		// bbolt's locks may be held for ever by a transaction that did not end: its Close would wait for them.
		return s.wrap(s.file.Close())
	}
	var err error
	if s.opt.NoSync {
		err = s.db.Sync()
	}
	if cerr := s.db.Close(); err == nil {
		err = cerr
	}
	return s.wrap(err)
}

// wrap says which file an error is about.
func (s *Store) wrap(err error) error { return wrap(s.path, err) }

func wrap(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store/bolt: file %s: %w", path, err)
}

var (
	_ store.Store = (*Store)(nil)
	_ io.Closer   = (*Store)(nil)
)
