package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Claim implements store.Store.
func (f *Faults) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	c := Call{Kind: Claim, Claim: r}
	c.Claim.Keys = slices.Clone(r.Keys)
	return pass(f, ctx, c, func(Fault) (store.Claim, error) { return f.inner.Claim(ctx, r) })
}

// Apply implements store.Store.
func (f *Faults) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	return pass(f, ctx, Call{Kind: Apply, Changes: cloneChanges(changes)}, func(fault Fault) ([]store.Result, error) {
		return f.apply(ctx, fault, changes)
	})
}

// apply applies those of the changes that the fault lets pass.
func (f *Faults) apply(ctx context.Context, fault Fault, changes []store.Change) ([]store.Result, error) {
	if fault.Split == nil {
		return f.applyAll(ctx, changes)
	}
	results := make([]store.Result, len(changes))
	var part []store.Change
	var places []int
	for i, c := range changes {
		if fault.Split(i) {
			results[i].Err = ErrInjected
			continue
		}
		part, places = append(part, c), append(places, i)
	}
	rs, err := f.applyAll(ctx, part)
	if err != nil {
		return nil, err
	}
	for i, place := range places {
		results[place] = rs[i]
	}
	return results, nil
}

func (f *Faults) applyAll(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	f.mu.Lock()
	observe := f.onApply
	f.mu.Unlock()
	if observe != nil {
		observe(cloneChanges(changes))
	}
	return f.inner.Apply(ctx, changes)
}

// Load implements store.Store.
func (f *Faults) Load(ctx context.Context, session string, keys ...string) (store.Snapshot, error) {
	c := Call{Kind: Load, Session: session, Keys: slices.Clone(keys)}
	return pass(f, ctx, c, func(Fault) (store.Snapshot, error) { return f.inner.Load(ctx, session, keys...) })
}

// LoadRange implements store.Ranger, if the store behind does. It counts as a Load of the key where it begins.
func (f *Faults) LoadRange(ctx context.Context, session string, r store.Range) (store.Page, error) {
	ranger, ok := f.inner.(store.Ranger)
	if !ok {
		return store.Page{}, fmt.Errorf("storetest: the store behind reads no ranges: %w", errors.ErrUnsupported)
	}
	c := Call{Kind: Load, Session: session, Keys: []string{r.From}}
	return pass(f, ctx, c, func(Fault) (store.Page, error) { return ranger.LoadRange(ctx, session, r) })
}

// Lookup implements store.Directory, if the store behind does.
func (f *Faults) Lookup(ctx context.Context, alias string) (store.Header, error) {
	return pass(f, ctx, Call{Kind: Lookup, Alias: alias}, func(Fault) (store.Header, error) {
		d, ok := f.inner.(store.Directory)
		if !ok {
			return store.Header{}, fmt.Errorf("storetest: the store behind is no store.Directory: %w", errors.ErrUnsupported)
		}
		return d.Lookup(ctx, alias)
	})
}

// Find implements store.Finder, if the store behind does. It counts as a Lookup of the alias where it begins.
func (f *Faults) Find(ctx context.Context, r store.AliasRange) (store.Found, error) {
	return pass(f, ctx, Call{Kind: Lookup, Alias: r.From}, func(Fault) (store.Found, error) {
		d, ok := f.inner.(store.Finder)
		if !ok {
			return store.Found{}, fmt.Errorf("storetest: the store behind is no store.Finder: %w", errors.ErrUnsupported)
		}
		return d.Find(ctx, r)
	})
}

// KeepAlive implements store.Store.
func (f *Faults) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
	return pass(f, ctx, Call{Kind: KeepAlive, Node: n, TTL: ttl}, func(Fault) (bool, error) {
		return f.inner.KeepAlive(ctx, n, ttl)
	})
}

// Nodes implements store.Store.
func (f *Faults) Nodes(ctx context.Context) ([]store.Node, error) {
	return pass(f, ctx, Call{Kind: Nodes}, func(Fault) ([]store.Node, error) { return f.inner.Nodes(ctx) })
}

// pass makes a call of the store behind, between the faults that come before it and after it. What
// the store itself answers with an error, as Load may, is passed on beside it.
func pass[R any](f *Faults, ctx context.Context, c Call, do func(Fault) (R, error)) (answer R, err error) {
	fault, err := f.begin(ctx, c)
	if err != nil {
		return answer, err
	}
	answer, err = reach(fault, do)
	if lost := f.end(ctx, fault); lost != nil {
		var none R
		return none, lost
	}
	return answer, err
}

// reach makes a call of the store behind, or makes it twice.
func reach[R any](fault Fault, do func(Fault) (R, error)) (R, error) {
	answer, err := do(fault)
	if fault.Twice {
		answer, err = do(fault)
	}
	return answer, err
}

// lateCall is a call that failed, and what is still to happen to it.
type lateCall struct {
	Call
	fault Fault
}

// Replay is a call that was applied long after it failed, and what became of it.
type Replay struct {
	Call    Call
	Claim   store.Claim    // Claim
	Results []store.Result // Apply
	Err     error
}

// ReplayLate applies all calls that failed Late and were not applied yet, in the order in which
// they were made, and returns what nobody waits for any more.
func (f *Faults) ReplayLate(ctx context.Context) []Replay {
	f.mu.Lock()
	late := f.late
	f.late = nil
	f.mu.Unlock()
	rs := make([]Replay, len(late))
	for i, c := range late {
		rs[i] = f.replay(ctx, c)
	}
	return rs
}

func (f *Faults) replay(ctx context.Context, c *lateCall) Replay {
	r := Replay{Call: c.Call}
	switch c.Kind {
	case Claim:
		r.Claim, r.Err = reach(c.fault, func(Fault) (store.Claim, error) { return f.inner.Claim(ctx, c.Claim) })
	case Apply:
		r.Results, r.Err = reach(c.fault, func(fault Fault) ([]store.Result, error) { return f.apply(ctx, fault, c.Changes) })
	case KeepAlive:
		_, r.Err = reach(c.fault, func(Fault) (bool, error) { return f.inner.KeepAlive(ctx, c.Node, c.TTL) })
	}
	return r
}

// postpone keeps a call for later, unless it only reads.
func (f *Faults) postpone(c *lateCall) {
	if c.Kind != Claim && c.Kind != Apply && c.Kind != KeepAlive {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.late = append(f.late, c)
	if c.fault.Late <= 0 {
		return
	}
	f.own.Go(func() {
		timer := time.NewTimer(c.fault.Late)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-f.quit:
			return
		}
		f.mu.Lock()
		i := slices.Index(f.late, c) // -1 if ReplayLate was first
		if i >= 0 {
			f.late = slices.Delete(f.late, i, i+1)
		}
		f.mu.Unlock()
		if i >= 0 {
			f.replay(f.ctx, c)
		}
	})
}

// cloneChanges copies all that a caller may change after its call.
func cloneChanges(cs []store.Change) []store.Change {
	cs = slices.Clone(cs)
	for i := range cs {
		c := &cs[i]
		c.Puts = slices.Clone(c.Puts)
		for j := range c.Puts {
			c.Puts[j].Value = slices.Clone(c.Puts[j].Value)
		}
		c.Deletes, c.Aliases = slices.Clone(c.Deletes), slices.Clone(c.Aliases)
	}
	return cs
}
