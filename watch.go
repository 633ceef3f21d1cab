package kvstore

import (
	"context"
	"iter"
)

// Filter chooses commits. The zero value chooses all.
type Filter struct {
	// Sessions is how the session's ID begins.
	Sessions string

	// Keys is how an entry's key begins. If it is not empty, only entries that were put under such keys are told, and commits that change some of them, or are
	// about a session as a whole.
	Keys string
}

// Watch yields what changes, from the call on, in the sessions on this node whose IDs begin with f.Sessions, under the keys that begin with f.Keys:
//
//	for c, err := range db.Watch(ctx, kvstore.Filter{Sessions: "call/", Keys: "leg/"}) {
//		if err != nil {
//			return err // ErrClosed
//		}
//		for _, ch := range c.Changes {
//			log.Printf("%s %s: %v, was %v", c.Session, ch.Key, ch.New.Value, ch.Old.Value)
//		}
//	}
//
// It tells what OnCommit tells. It runs on the goroutine that walks it; the DB waits for it as little, and what
// it missed is in Commit.Missed. Whoever reads the present state after the call, and then walks, has missed nothing in between.
//
// The walk ends when ctx is over; and when the DB is closed, after all that came before, with ErrClosed and, in a Commit that holds nothing else, Missed.
// It can be walked once. If it is not, its queue remains until ctx is over.
func (db *DB[V]) Watch(ctx context.Context, f Filter) iter.Seq2[Commit[V], error] {
	return db.commits(ctx, filter{Filter: f})
}

// Watch yields what changes, from the call on, in this session, under the keys that begin with prefix: see DB.Watch. It goes on after the session has left this
// node, or has ended, and yields what happens if it comes back: Commit.Cause tells.
func (h *Session[V]) Watch(ctx context.Context, prefix string) iter.Seq2[Commit[V], error] {
	return h.db.commits(ctx, filter{Filter{Sessions: h.ID(), Keys: prefix}, true})
}

// commits is Watch.
func (db *DB[V]) commits(ctx context.Context, f filter) iter.Seq2[Commit[V], error] {
	err := errNilContext
	l := newListener[V](f, db.opt.MaxBacklog)
	if ctx != nil {
		err = nil
		if db.closing.Load() || !db.listeners.add(l, nil) {
			err = ErrClosed
		}
	}
	if err != nil {
		return func(yield func(Commit[V], error) bool) { yield(Commit[V]{}, err) }
	}
	leave := func() { db.listeners.remove(l) }
	forget := context.AfterFunc(ctx, leave)
	return func(yield func(Commit[V], error) bool) {
		defer leave()
		defer forget()
		for ctx.Err() == nil {
			r, missed, over := l.next()
			switch {
			case r != nil:
				if !yield(db.commitOf(r, &l.filter, missed), nil) {
					return
				}
			case over:
				if db.closing.Load() {
					yield(Commit[V]{Missed: missed}, ErrClosed)
				}
				return
			default:
				l.wait(ctx.Done())
			}
		}
	}
}
