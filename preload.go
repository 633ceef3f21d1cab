package kvstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Preload configures DB.Preload. The zero value brings in what this node had before it was restarted, with the main entries.
type Preload struct {
	// Share says which of the sessions that nobody alive owns come in. Zero: Former.
	Share Share

	// Match, if not nil, narrows the share down to the sessions for which it returns true. It is called with one header after the other, on a goroutine of
	// the preload, under no lock. It may keep the header. It delays the preload, and must not call Drain or Close. A panic ends the preload.
	Match func(store.Header) bool

	// Keys names entries that come into memory, decoded, beside the main entry, in the same round trip. The others are loaded when they are
	// touched.
	Keys []string

	// Whole brings every entry. Keys is ignored.
	Whole bool

	// Rate is the most sessions brought in in a second. Zero: 10,000. It keeps the store free for the events that cannot wait.
	Rate int

	// InFlight bounds the memory that it takes beside what it brings in, and how much it asks of the store at once: it is the most sessions that the
	// store is asked for and that have not come yet. As many IDs again may be in hand. Zero: four questions at a time, which is at most 1024
	// sessions of a store.Claimer, and four of another. More is faster where the store is far, or commits many at once sooner, up to 64
	// questions at a time.
	InFlight int

	// Count walks the headers once before anything is brought in, so that Preloaded.Total is known from then on. It costs a walk.
	Count bool

	// Progress, if not nil, is called every so often, and once more when the preload is over. It is a hook: on the goroutine and under the
	// rules of Options.Hooks, and so under no lock. While a call has not returned, there is no other.
	Progress func(Preloaded)

	// Every is the least time between two calls of Progress, the last one excepted. Zero: 1 s. At least 1 ms.
	Every time.Duration
}

// Share says which sessions a Preload brings in, of those that are stored and that nobody alive owns.
type Share uint8

const (
	Former  Share = iota // those that this node had before it was restarted: their owner on record has its name, and is another incarnation
	ByRing               // this node's share of all, by the Ring of all living nodes: as AdoptOrphans takes it
	Unowned              // all
)

func (s Share) String() string {
	return [...]string{"Former", "ByRing", "Unowned", "?"}[min(s, Unowned+1)]
}

// Preload begins to bring stored sessions into memory before any event asks for them: after a restart, say, so that the first event of
// each finds it there. It adopts them as Adopt does, many in a round trip where the store can do that (store.Claimer), and a few round trips at a time.
//
// It works in the background of demand, as AdoptOrphans does: it is limited in rate, stands back while Adopt or Get wait for the store, and an
// event that asks for a session does not wait for those before it. (One that is in a question under way comes with the answer to that.)
// The walk waits for what it has found to come in, so it never holds more than a few hundred IDs. It does not bring in more than
// Options.MaxResident allows, nor has anything evicted for it: it stops there, and Preloaded.Full says so. (What events bring in beside it may have it
// evict.)
//
// A session that fails does not stop the others. A question that has no answer is repeated, and if the store goes on not to answer, the preload
// ends. Called again, it goes on where it was, since what is in memory is not met any more.
//
// It ends early when ctx is over, with Drain, which waits for that, and with Close, which does, too. A question that is under way then may still
// bring its sessions in, which nothing counts.
//
//   - ErrInvalid: p cannot be right. Share is Former, say, and Options.Node empty: then no earlier name of this node is known.
//   - ErrDraining, ErrSuspended, ErrClosed: it takes nothing in.
func (db *DB[V]) Preload(ctx context.Context, p Preload) (*Preloading, error) {
	if ctx == nil {
		return nil, errNilContext
	}
	if err := db.admits(); err != nil {
		return nil, err
	}
	p, err := p.resolve(db.opt.Node)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	job := newPreloading(stop, db.now)
	w := &preloader[V]{pacer: newPacer(db, p.Rate), Preload: p, job: job, size: 1}
	w.question = question{claimer: oneByOne{db.store}, keys: p.Keys, whole: p.Whole}
	if c, ok := db.store.(store.Claimer); ok {
		w.claimer, w.size = c, batchOf(p.Rate)
	}
	if w.takers = takers; p.InFlight > 0 {
		w.size = min(w.size, max(p.InFlight/takers, 1))
		w.takers = min(p.InFlight/w.size, mostTakers)
	}
	w.settled.L = &w.mu
	db.preloads.add(job)
	// Drain sees the job, or the job sees Drain.
	if err := db.admits(); err != nil || !db.spawn(func(end context.Context) { w.run(ctx, end) }) {
		job.end(cmp.Or(err, ErrClosed))
		stop(nil)
		db.preloads.remove(job)
		return nil, cmp.Or(err, ErrClosed)
	}
	return job, nil
}

// resolve returns p with its defaults filled in, or an error that names a field.
func (p Preload) resolve(node string) (Preload, error) {
	bad := func(field string, value any, want string) (Preload, error) {
		return p, fmt.Errorf("%w: Preload.%s is %v: %s", ErrInvalid, field, value, want)
	}
	switch {
	case p.Share > Unowned:
		return bad("Share", uint8(p.Share), "Former, ByRing or Unowned")
	case p.Share == Former && node == "":
		return bad("Share", p.Share, "a node whose Options.Node is empty has a new name each time, and finds nothing of what it had")
	case p.Rate < 0:
		return bad("Rate", p.Rate, "0 for 10000, or more")
	case p.InFlight < 0:
		return bad("InFlight", p.InFlight, "0 for four questions at a time, or more")
	case p.Every < 0 || p.Every > 0 && p.Every < time.Millisecond:
		return bad("Every", p.Every, "0 for 1s, or at least 1ms")
	}
	for _, k := range p.Keys {
		if len(k) > store.MaxKey {
			return p, fmt.Errorf("%w: Preload.Keys: key %.32q… has %d bytes, at most %d are allowed", ErrTooLarge, k, len(k), store.MaxKey)
		}
	}
	p.Rate, p.Every = cmp.Or(p.Rate, 10_000), cmp.Or(p.Every, time.Second)
	p.Keys = slices.Compact(slices.Sorted(slices.Values(p.Keys)))
	p.Keys = slices.DeleteFunc(p.Keys, func(k string) bool { return k == "" || p.Whole }) // the main entry comes anyway
	return p, nil
}

// admits returns why no session may come in that nobody asked for.
func (db *DB[V]) admits() error {
	if err := db.inTime(); err != nil {
		return err
	}
	if db.draining.Load() {
		return ErrDraining
	}
	return nil
}
