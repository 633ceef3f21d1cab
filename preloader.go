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

// This file is the work of Preload: a walk of the headers, and takers that ask the store for what it finds.
//
//	Sessions ──walk: whose? which?──▶ some IDs ──take: is it their turn?──▶ bringAll ──fill──▶ in memory
//
// The walk waits until a taker is free. So whatever the number of sessions, what is held beside them is size × (takers + 1) IDs.

// mostTakers is the most questions of a preload at a time.
const mostTakers = 64

// preloadTries is how often a question is asked that has no answer.
const preloadTries = 3

// preloadSilence is how many questions in a row are given up until the store is taken for one that does not answer.
const preloadSilence = 16

// errNoRoom ends a preload that has filled the memory.
var errNoRoom = errors.New("kvstore: as many sessions are in memory as Options.MaxResident allows")

// oneByOne is a store.Claimer that takes one claim at a time.
type oneByOne struct{ store.Store }

func (s oneByOne) ClaimAll(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	c, err := s.Claim(ctx, rs[0])
	return []store.Claim{c}, err
}

// preloader does the work of one call of Preload.
type preloader[V any] struct {
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
func (w *preloader[V]) run(ctx, end context.Context) {
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
func (w *preloader[V]) report(over <-chan struct{}) {
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
func (w *preloader[V]) work(ctx context.Context) error {
	ring, alive, err := w.db.survivors(ctx)
	if err != nil {
		return w.cause(ctx, err)
	}
	mine := func(h *store.Header) bool {
		switch {
		case !w.db.orphaned(h, alive):
			return false
		case h.Owner == w.db.self && !h.Released: // a claim had no answer
		case w.Share == Former && (h.Owner.Node != w.db.self.Node || h.Owner == w.db.self):
			return false // what was just released is not to be taken back
		case w.Share == ByRing && ring.Owner(h.Session) != w.db.self.Node:
			return false
		}
		return w.matches(h)
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

// matches asks Match. If that panics, that ends the preload, and not the program: no caller is on this goroutine.
func (w *preloader[V]) matches(h *store.Header) (yes bool) {
	if w.Match == nil {
		return true
	}
	defer func() {
		if p := recover(); p != nil {
			yes = false
			w.job.stop(fmt.Errorf("panic in Preload.Match: %w", panicError(p)))
		}
	}()
	return w.Match(*h)
}

// cause returns why the work ended: what ended ctx comes first, as it fails everything else.
func (w *preloader[V]) cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// walk calls f for every session that is mine, and for every header that is damaged: whose that is, nobody can tell.
func (w *preloader[V]) walk(ctx context.Context, mine func(*store.Header) bool, f func(id string, damage error)) error {
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
func (w *preloader[V]) take(ctx context.Context, ids []string) error {
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
func (w *preloader[V]) takeIn(ctx context.Context, ids []string) error {
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
		case len(mute) == n && w.silent.Add(1) >= preloadSilence:
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
func (w *preloader[V]) admit(n int) int {
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

func (w *preloader[V]) settle(n int) {
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
func (w *preloader[V]) ask(ctx context.Context, ids []string) (mute []string, why []error, fatal error) {
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
func (w *preloader[V]) unanswered(ctx context.Context, err error) bool {
	var damaged *store.CorruptError
	for _, known := range []error{ErrNotFound, ErrOwned, ErrReleased, ErrFenced, ErrClosed, ErrDraining} {
		if errors.Is(err, known) {
			return false
		}
	}
	return ctx.Err() == nil && !errors.As(err, &damaged)
}

// judge counts what became of a session: as well, if there is no error. It returns the error if that ends the preload.
func (w *preloader[V]) judge(ctx context.Context, id string, err error, well Preloaded) error {
	switch {
	case err == nil:
		w.job.add(well)
	case errors.Is(err, ErrNotFound):
		w.job.add(Preloaded{Gone: 1})
	case errors.Is(err, ErrOwned), errors.Is(err, ErrReleased), errors.Is(err, ErrFenced), errors.Is(err, ErrSchema):
		w.job.add(Preloaded{Others: 1})
	case ctx.Err() != nil, errors.Is(err, ErrClosed), errors.Is(err, ErrDraining):
		return err
	default:
		w.job.fail(id, err)
	}
	return nil
}

// has reports whether all of the session is in memory that is to be.
func (w *preloader[V]) has(s *session[V]) bool {
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
	if !w.whole || !s.knows(allUser) {
		return !w.whole
	}
	if s.x != nil {
		for _, e := range s.x.rest {
			if e.cell.Load() == nil {
				return false
			}
		}
	}
	return true
}

// fill brings in what did not come with a session: it was brought in by somebody else, or is damaged.
func (w *preloader[V]) fill(ctx context.Context, id string) error {
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
