package kvstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Preloaded is what a preload has done so far. Every session that is done with is in one of five numbers:
//
//	Done() = Adopted + Here + Others + Gone + Failed ≤ Total
type Preloaded struct {
	// Total is how many sessions are to come in. Until Complete it is a lower bound: what the walk of the store has met so far, or what
	// Preload.Count has counted, whichever is more.
	Total int

	// Complete says that the walk has seen everything: Total will not change any more. It stays false if the preload ended before.
	Complete bool

	Adopted int // by this preload
	Here    int // brought in by an event after the walk had met it
	Others  int // adopted by other nodes meanwhile
	Gone    int // deleted or expired meanwhile
	Failed  int // could not be brought in, or not with all the entries that were asked for: a *PreloadError names them

	// Full says that it stopped before its end because Options.MaxResident sessions are in memory. That is no error: the others stay in the
	// store, where an event finds them.
	Full bool

	// Took is the time since it began; once it is over, the time it took.
	Took time.Duration

	// Rate is how many sessions were done with in a second, over the last 5 to 10 s in which any was; or since it began, if that is
	// less, or it is over.
	Rate float64

	// Left is an estimate of the time that is left: (Total − Done()) / Rate. So it is as much a lower bound as Total is, and does not know
	// what demand will hold up. Zero: it is over. Negative: unknown, as nothing is done yet.
	Left time.Duration
}

// Done returns how many sessions are done with, whatever became of them.
func (p Preloaded) Done() int { return p.Adopted + p.Here + p.Others + p.Gone + p.Failed }

// PreloadError says what a preload has not brought in, and why.
type PreloadError struct {
	// Failed is how many sessions failed (Preloaded.Failed).
	Failed int

	// Missing are the first 100 of them, with the reason: a *store.CorruptError, an error of the codec or of the store.
	Missing map[string]error

	// Err is why the preload ended before its end: the context's error, ErrClosed, ErrDraining, ErrSuspended, or that the store did not answer.
	// What it had not met by then is not in Failed. Nil: it went through to the end.
	Err error
}

// missingMax bounds PreloadError.Missing.
const missingMax = 100

func (e *PreloadError) Error() string {
	var b strings.Builder
	b.WriteString("kvstore: preload: ")
	if e.Err != nil {
		fmt.Fprintf(&b, "it is not complete: %v", e.Err)
	}
	if e.Failed == 0 {
		return b.String()
	}
	if e.Err != nil {
		b.WriteString("; ")
	}
	fmt.Fprintf(&b, "%d sessions could not be brought in", e.Failed)
	for i, id := range slices.Sorted(maps.Keys(e.Missing)) {
		if i == 3 {
			b.WriteString("; …")
			break
		}
		fmt.Fprintf(&b, "; %q: %v", id, e.Missing[id])
	}
	return b.String()
}

// Unwrap returns Err, and why each of Missing is.
func (e *PreloadError) Unwrap() []error {
	var all []error
	if e.Err != nil {
		all = append(all, e.Err)
	}
	for _, id := range slices.Sorted(maps.Keys(e.Missing)) {
		all = append(all, e.Missing[id])
	}
	return all
}

// Preloading is a preload that was begun. Its methods may be called concurrently, also after its end, and after that of the DB.
type Preloading struct {
	stop  context.CancelCauseFunc
	clock func() int64
	done  chan struct{} // closed when it is over, and nothing below changes any more
	err   error         // read after done

	told atomic.Bool // Preload.Progress is posted, and has not returned

	mu      sync.Mutex
	is      Preloaded // but for what follows from the time
	counted int       // by Preload.Count
	found   int       // by the walk
	began   int64
	ended   int64   // 0: not yet
	marks   [2]mark // marks[0] is where the rate is counted from
	missing map[string]error
}

// mark is a moment of a preload.
type mark struct {
	at   int64
	done int
}

// markEvery is the time from one mark to the next.
const markEvery = int64(5 * time.Second)

func newPreloading(stop context.CancelCauseFunc, clock func() int64) *Preloading {
	now := clock()
	p := &Preloading{stop: stop, clock: clock, done: make(chan struct{}), began: now, missing: map[string]error{}}
	p.marks = [2]mark{{at: now}, {at: now}}
	return p
}

// Progress returns what was done until now. It waits for nothing, and does no I/O.
func (p *Preloading) Progress() Preloaded {
	p.mu.Lock()
	defer p.mu.Unlock()
	is, now, from := p.is, p.clock(), p.marks[0]
	if p.ended != 0 {
		now, from = p.ended, mark{at: p.began}
	}
	is.Took = time.Duration(now - p.began)
	if now > from.at {
		is.Rate = float64(is.Done()-from.done) / time.Duration(now-from.at).Seconds()
	}
	switch left := float64(is.Total - is.Done()); {
	case p.ended != 0:
	case is.Rate == 0:
		is.Left = -1
	default:
		is.Left = time.Duration(min(left/is.Rate*float64(time.Second), float64(1<<62)))
	}
	return is
}

// Wait returns when the preload is over. Its error is nil if all came in that was to, but for what is held by others, is gone, or finds the
// memory full; else a *PreloadError. If ctx is over first, it returns what was done until now and the context's error, and the
// preload goes on.
func (p *Preloading) Wait(ctx context.Context) (Preloaded, error) {
	if ctx == nil {
		return p.Progress(), errNilContext
	}
	select {
	case <-p.done:
		return p.Progress(), p.err
	default:
	}
	select {
	case <-p.done:
		return p.Progress(), p.err
	case <-ctx.Done():
		return p.Progress(), ctx.Err()
	}
}

// add counts sessions that are done with.
func (p *Preloading) add(n Preloaded) {
	if n.Done() == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.clock(); now-p.marks[1].at >= markEvery {
		p.marks = [2]mark{p.marks[1], {now, p.is.Done()}}
	}
	p.is.Adopted += n.Adopted
	p.is.Here += n.Here
	p.is.Others += n.Others
	p.is.Gone += n.Gone
	p.is.Failed += n.Failed
}

// meet counts a session of the share that the walk has met.
func (p *Preloading) meet() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found++
	p.is.Total = max(p.found, p.counted)
}

// count says how many there are.
func (p *Preloading) count(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counted = n
	p.is.Total = max(p.found, p.counted)
}

// complete says that the walk is over, and has met all.
func (p *Preloading) complete() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.is.Total, p.is.Complete = p.found, true
}

// fail counts a session that could not be brought in.
func (p *Preloading) fail(id string, why error) {
	p.add(Preloaded{Failed: 1})
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.missing) < missingMax {
		p.missing[id] = why
	}
}

// end ends it: why is the reason if that came before its end.
func (p *Preloading) end(why error) {
	p.mu.Lock()
	p.ended = p.clock()
	if p.is.Complete && p.is.Done() == p.is.Total {
		why = nil // that came when all was done
	}
	if p.is.Full = errors.Is(why, errNoRoom); p.is.Full {
		why = nil
	}
	if why != nil || p.is.Failed > 0 {
		p.err = &PreloadError{Failed: p.is.Failed, Missing: p.missing, Err: why}
	}
	p.mu.Unlock()
	close(p.done)
}

// preloads are those under way.
type preloads struct {
	mu  sync.Mutex
	all map[*Preloading]struct{}
}

func (ps *preloads) add(p *Preloading) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.all == nil {
		ps.all = map[*Preloading]struct{}{}
	}
	ps.all[p] = struct{}{}
}

func (ps *preloads) remove(p *Preloading) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.all, p)
}

// end ends them all, and returns when they are over or ctx is.
func (ps *preloads) end(ctx context.Context, why error) error {
	ps.mu.Lock()
	all := slices.Collect(maps.Keys(ps.all))
	ps.mu.Unlock()
	for _, p := range all {
		p.stop(why)
	}
	for _, p := range all {
		select {
		case <-p.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
