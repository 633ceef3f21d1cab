package kvstore

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

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
