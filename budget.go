package kvstore

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// budget bounds the bytes that are not stored yet. Whoever makes something dirty holds
// its cost until it is stored or handed over.
//
//	0 ≤ used;  used ≤ max, but for the few bytes of force
//
// It holds at every instant, for whoever reads used: nothing is added first and checked after.
//
// Waiters are served in the order in which they came, so that a large one is not
// starved by small ones; while one waits, nobody passes it.
type budget struct {
	max  int64
	used atomic.Int64

	waiting atomic.Int64 // len(queue), to be read without mu
	mu      sync.Mutex
	queue   list.List // of *applicant
}

type applicant struct {
	n     int64
	ready chan struct{} // closed when n is held
}

// try takes n bytes if they are free. A negative n gives bytes back.
func (b *budget) try(n int64) bool {
	if n <= 0 {
		b.release(-n)
		return true
	}
	if b.waiting.Load() > 0 {
		return false
	}
	return b.fits(n)
}

// fits takes n bytes if they are free.
func (b *budget) fits(n int64) bool {
	for {
		used := b.used.Load()
		if used+n > b.max {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

// force takes n bytes, free or not.
func (b *budget) force(n int64) {
	if n > 0 {
		b.used.Add(n)
	} else {
		b.release(-n)
	}
}

// release gives n bytes back.
func (b *budget) release(n int64) {
	if n == 0 {
		return
	}
	b.used.Add(-n)
	if b.waiting.Load() > 0 {
		b.mu.Lock()
		b.serve()
		b.mu.Unlock()
	}
}

// serve gives the first waiters what they wait for. Caller holds mu.
func (b *budget) serve() {
	for e := b.queue.Front(); e != nil; e = b.queue.Front() {
		a := e.Value.(*applicant)
		if !b.fits(a.n) {
			return
		}
		b.queue.Remove(e)
		b.waiting.Add(-1)
		close(a.ready)
	}
}

// acquire takes n bytes, waiting for them until ctx is over or stop is closed. n is at most max.
func (b *budget) acquire(ctx context.Context, stop <-chan struct{}, n int64) error {
	b.mu.Lock()
	a := &applicant{n, make(chan struct{})}
	e := b.queue.PushBack(a)
	b.waiting.Add(1)
	b.serve()
	b.mu.Unlock()
	var err error
	select {
	case <-a.ready:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-stop:
		err = ErrClosed
	}
	b.mu.Lock()
	select {
	case <-a.ready: // served meanwhile
		b.used.Add(-n)
	default:
		b.queue.Remove(e)
		b.waiting.Add(-1)
	}
	b.serve()
	b.mu.Unlock()
	return err
}

// await gets room for a write, as Options.Overflow says. It returns with the room held, or an error.
func (db *DB[V]) await(ctx context.Context, id string, n int64) error {
	if n > db.budget.max {
		return fmt.Errorf("%w: session %q: a write of %d bytes does not fit into Options.MaxBuffer of %d", ErrTooLarge, id, n, db.budget.max)
	}
	for _, l := range db.lanes {
		l.kick()
	}
	if db.opt.Overflow == Reject {
		return fmt.Errorf("%w: session %q: %d bytes are unsaved", ErrFull, id, db.budget.used.Load())
	}
	if err := db.budget.acquire(ctx, db.stopping, n); err != nil {
		return fmt.Errorf("kvstore: session %q: waiting for room in the buffer: %w", id, err)
	}
	return nil
}
