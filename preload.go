package kvstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Preload configures DB.Preload. The zero value brings in what this node had before it was restarted, with the main entries.
type Preload struct {
	// Share says which of the sessions that nobody alive owns come in. Zero: Former.
	Share Share

	// Match, if not nil, narrows the share down to the sessions for which it returns true. It is called with one header after the other, on a goroutine of
	// the preload, under no lock. It may keep the header. It delays the preload, and must not call Drain or Close.
	Match func(store.Header) bool

	// Keys names entries that come into memory, decoded, beside the main entry, in the same round trip. The others are loaded when they are
	// touched.
	Keys []string

	// Whole brings every entry. Keys is ignored.
	Whole bool

	// Rate is the most sessions brought in in a second. Zero: 10,000. It keeps the store free for the events that cannot wait.
	Rate int

	// InFlight bounds the memory that it takes beside what it brings in: it is the most sessions that the store is asked for and that have not come
	// yet. As many IDs again may be in hand. Zero: 1024.
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
	Former  Share = iota // those that this node had when it ran last: their owner on record has its name, and is another incarnation
	ByRing               // this node's share of all, by the Ring of all living nodes: as AdoptOrphans takes it
	Unowned              // all
)

func (s Share) String() string {
	return [...]string{"Former", "ByRing", "Unowned", "?"}[min(s, Unowned+1)]
}

// preloadTries is how often a question is asked that has no answer.
const preloadTries = 3

// errNoRoom ends a preload that has filled the memory.
var errNoRoom = errors.New("kvstore: as many sessions are in memory as Options.MaxResident allows")

// Preload begins to bring stored sessions into memory before any event asks for them: after a restart, say, so that the first event of each finds it there. It
// adopts them as Adopt does, many in a round trip where the store can do that (store.Claimer), and a few round trips at a time.
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
	w := &preload[V]{pacer: newPacer(db, p.Rate), Preload: p, job: job, size: 1, takers: min(takers, p.InFlight)}
	w.question = question{keys: p.Keys, whole: p.Whole}
	if c, ok := db.store.(store.Claimer); ok {
		w.claimer, w.size = c, min(batchOf(p.Rate), max(p.InFlight/w.takers, 1))
	} else {
		w.claimer = oneByOne{db.store}
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
		return bad("InFlight", p.InFlight, "0 for 1024, or more")
	case p.Every < 0 || p.Every > 0 && p.Every < time.Millisecond:
		return bad("Every", p.Every, "0 for 1s, or at least 1ms")
	}
	for _, k := range p.Keys {
		if len(k) > store.MaxKey {
			return p, fmt.Errorf("%w: Preload.Keys: key %.32q… has %d bytes, at most %d are allowed", ErrTooLarge, k, len(k), store.MaxKey)
		}
	}
	p.Rate, p.InFlight, p.Every = cmp.Or(p.Rate, 10_000), cmp.Or(p.InFlight, 4*claimBatch), cmp.Or(p.Every, time.Second)
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

// oneByOne is a store.Claimer that takes one claim at a time.
type oneByOne struct{ store.Store }

func (s oneByOne) ClaimAll(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	c, err := s.Claim(ctx, rs[0])
	return []store.Claim{c}, err
}

// preload is the work of one call of Preload.
type preload[V any] struct {
	*pacer[V]
	Preload
	question
	job    *Preloading
	size   int // of a question: size × takers ≤ InFlight
	takers int
	silent atomic.Int32 // questions in a row that were given up

	mu      sync.Mutex
	settled sync.Cond // aloft has become less
	aloft   int       // sessions that are asked for, if Options.MaxResident is set
	full    bool      // there was no room for all
}

// run is the goroutine of a preload. It ends early with end, which is the DB's.
func (w *preload[V]) run(ctx, end context.Context) {
	defer w.db.preloads.remove(w.job)
	defer w.job.stop(nil)
	defer context.AfterFunc(end, func() { w.job.stop(ErrClosed) })()
	over := make(chan struct{})
	var wg sync.WaitGroup
	if w.Progress != nil {
		wg.Go(func() { w.report(over) })
	}
	w.job.end(w.work(ctx))
	close(over)
	wg.Wait()
	if w.Progress != nil {
		w.db.notes.post(func() { w.Progress(w.job.Progress()) })
	}
}

// report is the goroutine that has Progress called.
func (w *preload[V]) report(over <-chan struct{}) {
	tick := time.NewTicker(w.Every)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		if w.job.told.CompareAndSwap(false, true) { // else a slow one has calls pile up
			w.db.notes.post(func() {
				defer w.job.told.Store(false)
				w.Progress(w.job.Progress())
			})
		}
	}
}

// work walks, and has takers bring in what it finds. It returns why it ended before its end.
func (w *preload[V]) work(ctx context.Context) error {
	ring, alive, err := w.db.survivors(ctx)
	if err != nil {
		return w.cause(ctx, err)
	}
	mine := func(h *store.Header) bool {
		switch {
		case !w.db.orphaned(h, alive):
			return false
		case w.Share == Former && h.Owner.Node != w.db.self.Node: // that of this incarnation is one whose claim had no answer
			return false
		case w.Share == ByRing && h.Owner != w.db.self && ring.Owner(h.Session) != w.db.self.Node:
			return false
		}
		return w.Match == nil || w.Match(*h)
	}
	if w.Count {
		n := 0
		if err := w.walk(ctx, mine, func(string, error) { n++ }); err != nil {
			return w.cause(ctx, err)
		}
		w.job.count(n)
	}
	ids := make(chan []string)
	var wg sync.WaitGroup
	for range w.takers {
		wg.Go(func() {
			for some := range ids {
				if err := w.take(ctx, some); err != nil {
					w.job.stop(err)
				}
			}
		})
	}
	var some []string
	give := func() {
		select {
		case ids <- some:
		case <-ctx.Done():
		}
		some = make([]string, 0, w.size)
	}
	err = w.walk(ctx, mine, func(id string, damage error) {
		w.job.meet()
		if damage != nil {
			w.job.fail(id, damage)
			return
		}
		if some = append(some, id); len(some) >= w.size {
			give()
		}
	})
	if len(some) > 0 {
		give()
	}
	close(ids)
	if err == nil {
		w.job.complete()
	}
	wg.Wait()
	return w.cause(ctx, err)
}

// cause returns why the work ended: what ended ctx comes first, as it fails everything else.
func (w *preload[V]) cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// walk calls f for every session that is mine, and for every header that is damaged: whose that is, nobody can tell.
func (w *preload[V]) walk(ctx context.Context, mine func(*store.Header) bool, f func(id string, damage error)) error {
	for h, err := range w.db.store.Sessions(ctx, store.Query{}) {
		var damaged *store.CorruptError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &damaged):
			f(damaged.Session, err) // the walk goes on
		case err != nil:
			return fmt.Errorf("the walk of the store's sessions ended before its end: %w", err)
		case mine(&h):
			f(h.Session, nil)
		}
	}
	return nil
}

// take brings some sessions in, when it is their turn. Its error ends the preload.
func (w *preload[V]) take(ctx context.Context, ids []string) error {
	var here Preloaded
	var partly []string
	ids = slices.DeleteFunc(ids, func(id string) bool {
		s := w.db.sessions.load(id)
		switch {
		case s == nil:
			return false
		case w.has(s):
			here.Here++
		default:
			partly = append(partly, id)
		}
		return true
	})
	w.job.add(here)
	if len(ids)+len(partly) == 0 {
		return nil
	}
	if err := w.turn(ctx, len(ids)+len(partly)); err != nil {
		return err
	}
	for _, id := range partly {
		if err := w.judge(ctx, id, w.fill(ctx, id), Preloaded{Here: 1}); err != nil {
			return err
		}
	}
	return w.takeIn(ctx, ids)
}

// takeIn brings in sessions that are not here.
func (w *preload[V]) takeIn(ctx context.Context, ids []string) error {
	for try := 1; len(ids) > 0; try++ {
		if err := w.db.admits(); err != nil {
			return err
		}
		n := w.admit(len(ids))
		mute, why, err := w.ask(ctx, ids[:n])
		w.settle(n)
		if err != nil {
			return err
		}
		if len(mute) < n {
			w.silent.Store(0)
		}
		full := n < len(ids)
		if try < preloadTries && !full {
			if ids = mute; len(mute) > 0 {
				err = sleep(ctx, time.Duration(w.db.backoff(try)))
			}
			if err != nil {
				return err
			}
			continue
		}
		for i, id := range mute {
			w.job.fail(id, why[i])
		}
		switch {
		case full:
			return errNoRoom
		case len(mute) == n && int(w.silent.Add(1)) >= w.takers:
			return fmt.Errorf("the store does not answer: %w", why[0])
		}
		return nil
	}
	return nil
}

// sleep returns when d has passed, or ctx is over.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// admit returns how many of n sessions there is room for, and keeps that until settle. It waits while that depends on what others have asked
// for. Once there was too little, there is none any more, when all that was asked for has come.
func (w *preload[V]) admit(n int) int {
	if w.db.sieve == nil {
		return n
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		room := w.db.opt.MaxResident - w.db.sessions.size() - w.aloft
		switch {
		case w.full && w.aloft == 0:
			return 0
		case !w.full && room >= n:
			w.aloft += n
			return n
		case w.aloft == 0:
			w.full = true
			w.aloft = max(room, 0)
			return w.aloft
		}
		w.settled.Wait()
	}
}

func (w *preload[V]) settle(n int) {
	if w.db.sieve == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.aloft -= n
	w.settled.Broadcast()
}

// ask asks for sessions and counts what became of them. It returns those of which nothing is known, as the store did not answer, and why; or what
// ends the preload.
func (w *preload[V]) ask(ctx context.Context, ids []string) (mute []string, why []error, fatal error) {
	if len(ids) == 0 {
		return nil, nil, nil
	}
	adopted := 0
	for i, err := range w.db.bringAll(ctx, w.question, ids) {
		if err == nil {
			if err = w.fill(ctx, ids[i]); err == nil {
				adopted++
				continue
			}
		} else if w.unanswered(ctx, err) {
			mute, why = append(mute, ids[i]), append(why, err)
			continue
		}
		fatal = cmp.Or(fatal, w.judge(ctx, ids[i], err, Preloaded{}))
	}
	w.job.add(Preloaded{Adopted: adopted})
	return mute, why, fatal
}

// unanswered reports whether an error of bringAll says nothing of the session.
func (w *preload[V]) unanswered(ctx context.Context, err error) bool {
	var damaged *store.CorruptError
	for _, known := range []error{ErrNotFound, ErrOwned, ErrReleased, ErrFenced, ErrClosed, ErrDraining} {
		if errors.Is(err, known) {
			return false
		}
	}
	return ctx.Err() == nil && !errors.As(err, &damaged)
}

// judge counts what became of a session: as well, if there is no error. It returns the error if that ends the preload.
func (w *preload[V]) judge(ctx context.Context, id string, err error, well Preloaded) error {
	switch {
	case err == nil:
		w.job.add(well)
	case errors.Is(err, ErrNotFound):
		w.job.add(Preloaded{Gone: 1})
	case errors.Is(err, ErrOwned), errors.Is(err, ErrReleased), errors.Is(err, ErrFenced):
		w.job.add(Preloaded{Others: 1})
	case ctx.Err() != nil, errors.Is(err, ErrClosed), errors.Is(err, ErrDraining):
		return err
	default:
		w.job.fail(id, err)
	}
	return nil
}

// has reports whether all of the session is in memory that is to be.
func (w *preload[V]) has(s *session[V]) bool {
	if s.main.cell.Load() == nil {
		return false
	}
	if !w.whole && len(w.keys) == 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range w.keys {
		if s.version(k, w.db.absent) == nil {
			return false
		}
	}
	return !w.whole || s.complete
}

// fill brings in what did not come with a session: it was brought in by somebody else, or is damaged.
func (w *preload[V]) fill(ctx context.Context, id string) error {
	for {
		s := w.db.sessions.load(id)
		if s == nil || w.has(s) {
			return nil // or it has left again
		}
		var err error
		if w.whole {
			err = w.db.fetchAll(ctx, s, anyLife)
		}
		for _, k := range append([]string{""}, w.keys...) {
			if err == nil {
				_, err = w.db.fetch(ctx, s, anyLife, k, nil)
			}
		}
		switch {
		case err == nil:
			return nil
		case w.db.retry(s, err), errors.Is(err, errConflict):
		default:
			return err
		}
	}
}
