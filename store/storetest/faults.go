package storetest

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Faults is a store.Store that passes calls on to another one and makes them
// fail on command. Nothing fails until [Faults.Inject] or [Faults.Down] say so.
//
// It waits on package time and on contexts only, which makes it fit for a
// testing/synctest bubble. Of the optional powers of the store behind it,
// it has only those of a store.Ranger, a store.Directory and a store.Finder.
type Faults struct {
	inner store.Store
	quit  chan struct{}      // closed by Close
	ctx   context.Context    // that of calls applied late by themselves; over with quit
	stop  context.CancelFunc // ends ctx
	own   sync.WaitGroup     // calls that wait to be applied late

	mu      sync.Mutex // no call of inner is made under it
	rule    func(Call) Fault
	onApply func([]store.Change)
	down    bool
	closed  bool
	calls   [numKinds]int
	late    []*lateCall // in the order in which they were made
}

// NewFaults returns a Faults that passes on to inner, which its Close closes.
func NewFaults(inner store.Store) *Faults {
	ctx, stop := context.WithCancel(context.Background())
	return &Faults{inner: inner, quit: make(chan struct{}), ctx: ctx, stop: stop}
}

// Inject lets rule decide what happens to each call from now on; nil ends all
// faults. Rule is called for one call at a time, on its goroutine, and must
// not use the Faults. Calls that were made already keep their fault.
func (f *Faults) Inject(rule func(Call) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rule = rule
}

// Down makes every call fail with ErrInjected, unapplied, walks under way included, until
// it is called with false. What is to be applied late still is: it left before.
func (f *Faults) Down(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

// Calls returns how many calls of the kind were made, those that failed included.
func (f *Faults) Calls(k Kind) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[k]
}

// OnApply has fn called with the changes of each Apply that reaches the store
// behind, just before it does: repeated and late ones too, unapplied ones not. fn
// gets copies, on the caller's goroutine, maybe on many at once. Nil ends it.
func (f *Faults) OnApply(fn func([]store.Change)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onApply = fn
}

// begin decides on a call, and lets pass what precedes its being applied. An error is the call's answer.
func (f *Faults) begin(ctx context.Context, c Call) (Fault, error) {
	fault, err := f.decide(ctx, &c)
	if err != nil {
		return fault, err
	}
	if fault.Delay > 0 {
		timer := time.NewTimer(fault.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return fault, ctx.Err()
		case <-f.quit:
			return fault, store.ErrClosed
		}
	}
	if err := f.cut(); err != nil {
		return fault, err
	}
	switch {
	case fault.Fail == Late:
		f.postpone(&lateCall{c, fault})
	case fault.Fail == Before || fault.Fail == Never && fault.Hang:
	default:
		return fault, nil
	}
	return fault, f.failure(ctx, fault)
}

func (f *Faults) decide(ctx context.Context, c *Call) (fault Fault, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[c.Kind]++
	c.N = f.calls[c.Kind]
	switch {
	case ctx.Err() != nil:
		return fault, ctx.Err()
	case f.closed:
		return fault, store.ErrClosed
	case f.down:
		return fault, ErrInjected
	case f.rule != nil:
		fault = f.rule(*c)
	}
	return fault, nil
}

// cut gives the error of a connection that is down.
func (f *Faults) cut() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return ErrInjected
	}
	return nil
}

// end gives the error of a call that has been applied.
func (f *Faults) end(ctx context.Context, fault Fault) error {
	if fault.Fail != After {
		return nil
	}
	return f.failure(ctx, fault)
}

// failure gives the error of a call that fails, when its time has come.
func (f *Faults) failure(ctx context.Context, fault Fault) error {
	if fault.Hang {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.quit:
			return store.ErrClosed
		}
	}
	if fault.Err != nil {
		return fault.Err
	}
	return ErrInjected
}

// Sessions implements store.Store.
func (f *Faults) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		fault, err := f.begin(ctx, Call{Kind: Sessions, Query: q})
		if err != nil {
			yield(store.Header{}, err)
			return
		}
		var last error
		for h, err := range f.inner.Sessions(ctx, q) {
			last = err
			if cut := f.cut(); cut != nil {
				yield(store.Header{}, cut)
				return
			}
			if !yield(h, err) {
				return
			}
		}
		if err := f.end(ctx, fault); err != nil && last == nil { // else it has ended with an error
			yield(store.Header{}, err)
		}
	}
}

// Close ends calls that hang or are delayed, forgets those that were to be applied late, and closes the store behind.
func (f *Faults) Close() error {
	f.mu.Lock()
	if !f.closed {
		f.closed, f.late = true, nil
		close(f.quit)
		f.stop()
	}
	f.mu.Unlock()
	f.own.Wait()
	return f.inner.Close()
}

var (
	_ store.Store     = (*Faults)(nil)
	_ store.Directory = (*Faults)(nil)
	_ store.Finder    = (*Faults)(nil)
)
