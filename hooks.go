package kvstore

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Hooks tell the application what no call could return. All run one after the other, in the
// order of what happened, on one goroutine of the DB's own, under no lock: a slow hook
// delays other hooks and Close, nothing else. A hook may call every method of the
// DB except Close. A panic is caught, logged and counted in Stats.HookPanics.
type Hooks struct {
	// Lost hands over what will not be stored by this node, with its values: after a fence, a
	// rejection, or a Close that could not finish. It is called once for each such
	// change; what it does not report is in memory or stored. If neither it nor Options.Logger is set, slog.Default
	// is told that something was lost, without the values.
	Lost func(Lost)

	// Fenced tells that a session left memory because its ownership is over, whether or not
	// anything was unsaved (that comes to Lost, first).
	Fenced func(FencedError)

	// Health tells that Health().OK() or its problems have changed.
	Health func(Health)

	// OnExpired tells of each expiry of a session or an entry, once, after it has ended in the memory of the node that owned it, or, of a
	// session that nobody alive owned, after Sweep has ended it in the store.
	//
	// Once is a word of nodes that live. The end is stored within Options.MaxDelay, like any change: if the node dies before, or is fenced, another
	// one ends it, and tells of it once more. If it dies after, and before the hook ran, nobody tells; nor if a Sweep ends with an error of the store, which
	// may have done what it did not answer. Nor does anybody tell if AdoptOrCreate or Create was
	// faster than Sweep in making a session anew that nobody owned, or of entries that were not in memory when their time came.
	OnExpired func(Expired)
}

// Expired is what Hooks.OnExpired is given.
type Expired struct {
	Session string
	Epoch   uint64    // its last tenure
	Whole   bool      // the session has ended, with all its entries, of which nothing is told; else the entry
	Key     string    // of the entry
	Value   any       // the V of the entry, or of a session's main entry, shared with whoever read it; nil if it was not in memory
	At      time.Time // its end
}

// Lost is what Hooks.Lost is given.
type Lost struct {
	Session string
	Epoch   uint64
	Cause   error // a *FencedError, a *RejectedError, or matches ErrClosed

	// Entries are the unsaved ones. It may be empty: then the session's creation, deletion,
	// expiry, aliases or timers were all that was unsaved.
	Entries []LostEntry

	Aliases []string // that were taken from the session, because another one has them, or the store keeps none
	Timers  []string // likewise: the names of timers that will not fire

	Created bool // the session itself was never stored by this node, as far as it knows
	Deleted bool // that the session was deleted, or had expired, is unsaved. Entries are of a life that began after that

	head bool // the header had unsaved changes
}

// LostEntry is an entry that was not stored.
type LostEntry struct {
	Key     string    // of the entry; or the name of what Kind says
	Kind    EntryKind // what it is
	Value   any       // the V that was put, shared with whoever read it; nil if Deleted; of other kinds what they say
	Deleted bool      // the unsaved change was a delete
	Expires time.Time // zero: never
}

// notifier runs the hooks. Its queue has no bound of its own: it holds only what the
// bounded buffer held before.
type notifier struct {
	mu    sync.Mutex
	queue []func()
	wake  chan struct{} // capacity 1
	done  chan struct{}
	ended bool
	panic func(v any)
}

func newNotifier(onPanic func(any)) *notifier {
	n := &notifier{wake: make(chan struct{}, 1), done: make(chan struct{}), panic: onPanic}
	go n.run()
	return n
}

// post queues f. After close nothing is run any more.
func (n *notifier) post(f func()) {
	n.mu.Lock()
	n.queue = append(n.queue, f)
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// close returns when all that was posted has run, or soon after ctx is over. Called once.
func (n *notifier) close(ctx context.Context) error {
	n.mu.Lock()
	n.ended = true
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
	select {
	case <-n.done:
		return nil
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-n.done:
		return nil
	case <-timer.C:
		return errors.New("kvstore: close: a hook has not returned")
	}
}

func (n *notifier) run() {
	defer close(n.done)
	for {
		n.mu.Lock()
		queue, ended := n.queue, n.ended
		n.queue = nil
		n.mu.Unlock()
		for _, f := range queue {
			n.call(f)
		}
		if len(queue) > 0 {
			continue
		}
		if ended {
			return
		}
		<-n.wake
	}
}

func (n *notifier) call(f func()) {
	defer func() {
		if v := recover(); v != nil {
			n.panic(v)
		}
	}()
	f()
}

// lost counts what is not going to be stored and hands it over. The session's mu may be held.
func (db *DB[V]) lost(l Lost) {
	db.count.lost.Add(int64(len(l.Entries)))
	db.laneOf(l.Session).blame(l.Cause)
	log := db.log
	if db.opt.Hooks.Lost == nil && db.opt.unlogged {
		log = slog.Default().With("node", db.self.Node) // nobody would ever know
	}
	db.notes.post(func() {
		log.Warn("kvstore: not stored", "session", l.Session, "epoch", l.Epoch, "entries", len(l.Entries), "cause", l.Cause)
		if f := db.opt.Hooks.Lost; f != nil {
			f(l)
		}
	})
}

// fenced likewise.
func (db *DB[V]) fenced(e *FencedError) {
	db.count.fenced.Add(1)
	if f := db.opt.Hooks.Fenced; f != nil {
		db.notes.post(func() { f(*e) })
	}
}

// expired likewise.
func (db *DB[V]) expired(e Expired) {
	db.count.expired.Add(1)
	if f := db.opt.Hooks.OnExpired; f != nil && !isOwn(e.Key) {
		db.notes.post(func() { f(e) })
	}
}

// lostEntry describes the unsaved cell c of key.
func (db *DB[V]) lostEntry(key string, c *cell[V]) LostEntry {
	kind, name := kindOf(key)
	l := LostEntry{Key: name, Kind: kind, Deleted: c == db.absent}
	if l.Deleted {
		return l
	}
	l.Expires = store.Time(c.expires).Std()
	switch kind {
	case Plain, QueueItem, TimerPayload:
		l.Value = c.val
	case KeyQueueItem:
		l.Value = string(rawOf(c))
	case Counter:
		if raw := rawOf(c); len(raw) == 8 {
			l.Value = int64(binary.BigEndian.Uint64(raw))
		}
	case IdleTime:
		if d, err := parseIdle(rawOf(c)); err == nil {
			l.Value = d
		}
	}
	return l
}
