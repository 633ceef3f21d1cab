package kvstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// This file asks the application before a change is made.
//
// A judge sees what the change would replace, and runs under no lock. So what he has seen is compared with what is there when the lock is taken again for
// the change; if that has moved he is asked again: optimistic, as Update is.

// ErrRefused: a function given to BeforeCommit has refused the change. It wraps that function's error.
var ErrRefused = errors.New("kvstore: refused")

// BeforeCommit has f asked before each change that the application makes in a session of this node: by Put, Delete, Update, Expire, CompareAndSwap, queues,
// counters, aliases and Create. An error refuses the whole change: nothing is changed, and the caller gets the error, wrapped in ErrRefused. What is not a change of
// the application's is not asked for: the end of what has expired, eviction, release, adoption, a fence. Nor is f asked
// when AdoptOrCreate, or Put, makes a session that the store does not have: if such a Put is refused, the session is there, and empty.
//
// f is given what the change would do, with the very values that it would replace: if one of them changes before the change is made, f is asked again. Those
// that are not in memory are Content.Unknown; none is loaded. A change that f has approved may still fail, as it would without f.
//
// It runs on the goroutine and with the context of the caller, under no lock, several calls at a time. It may read; if it changes the session in question, the
// change conflicts with itself, for ever. If there are several, each is asked, in the order of their registration, until one refuses. A panic reaches the caller, and nothing is changed. stop ends
// it: for changes that are made after it returns f is not asked, though calls may be under way.
//
// ErrInvalid: f is nil. ErrClosed.
func (db *DB[V]) BeforeCommit(f func(ctx context.Context, c Commit[V]) error) (stop func(), err error) {
	if f == nil {
		return nil, fmt.Errorf("%w: BeforeCommit with a nil function", ErrInvalid)
	}
	if db.closing.Load() {
		return nil, ErrClosed
	}
	j := &judge[V]{f}
	db.judges.replace(func(all []*judge[V]) []*judge[V] { return append(all, j) })
	return func() {
		db.judges.replace(func(all []*judge[V]) []*judge[V] {
			return slices.DeleteFunc(all, func(o *judge[V]) bool { return o == j })
		})
	}, nil
}

type judge[V any] struct {
	f func(context.Context, Commit[V]) error
}

// judges are all who are asked.
type judges[V any] struct {
	all atomic.Pointer[[]*judge[V]] // never changed, but replaced; nil: none
	mu  sync.Mutex                  // of replace
}

// replace sets the judges to what f makes of a copy of them.
func (js *judges[V]) replace(f func([]*judge[V]) []*judge[V]) {
	js.mu.Lock()
	defer js.mu.Unlock()
	var all []*judge[V]
	if was := js.all.Load(); was != nil {
		all = slices.Clone(*was)
	}
	if all = f(all); len(all) == 0 {
		js.all.Store(nil)
	} else {
		js.all.Store(&all)
	}
}

// plea is a change as it was put before the judges.
type plea[V any] struct {
	judges *[]*judge[V]
	record *record[V]
	times  int // that the change was
}

// errUnjudged: the change is to be put before the judges. It never leaves commit.
var errUnjudged = errors.New("kvstore: not judged")

// judged returns errUnjudged if ch, as it would be made now, is to be put before the judges. Caller holds mu, and has admitted it.
func (db *DB[V]) judged(s *session[V], ch *change[V]) error {
	js := db.judges.all.Load()
	if js == nil {
		return nil
	}
	var aliases []string
	if ch.aliases.any() {
		aliases = ch.aliases.of(s.more().aliases)
	}
	p := &plea[V]{judges: js, record: db.record(s, ch, aliases)}
	if was := ch.plea; was != nil {
		if was.judges == js && was.record.sameAs(p.record, db.absent) {
			return nil
		}
		p.times = was.times
	}
	ch.plea = p
	return errUnjudged
}

// judge puts a change before the judges, after judged has said so, and returns why it is refused, or cannot be made. No lock is held.
func (db *DB[V]) judge(ctx context.Context, p *plea[V]) error {
	if p.times++; p.times > 1 { // what they have seen was not what is there
		if err := ctx.Err(); err != nil {
			return err
		}
		db.count.conflicts.Add(1)
		if err := db.standBack(ctx, p.record.session, p.times-1); err != nil {
			return err
		}
	}
	c := db.commitOf(p.record, &filter{}, 0)
	for _, j := range *p.judges {
		if err := j.f(ctx, c); err != nil {
			return fmt.Errorf("%w: session %q: %w", ErrRefused, p.record.session, err)
		}
	}
	return nil
}
