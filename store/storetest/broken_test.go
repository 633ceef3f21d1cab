package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// broken is a store of which one thing is wrong: each way is one that somebody's system was built in.
type broken struct {
	store.Store
	claim func(ctx context.Context, r store.ClaimRequest) (store.Claim, error)
	apply func(ctx context.Context, c store.Change) store.Result
	load  func(ctx context.Context, s store.Snapshot) (store.Snapshot, error)
	walk  func(q store.Query, inner iter.Seq2[store.Header, error]) iter.Seq2[store.Header, error]
	close func() error

	unchecked bool // malformed changes are Applied
	backwards bool // changes are applied in the order of their sessions, the last one first
}

func (b *broken) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	if b.claim == nil || r.Check() != nil || ctx.Err() != nil {
		return b.Store.Claim(ctx, r)
	}
	return b.claim(ctx, r)
}

func (b *broken) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	switch {
	case ctx.Err() != nil:
	case b.unchecked:
		rs, err := b.Store.Apply(ctx, cs)
		for i := range rs {
			if errors.Is(rs[i].Err, store.ErrInvalid) {
				rs[i] = store.Result{Outcome: store.Applied}
			}
		}
		return rs, err
	case b.backwards:
		cs = slices.Clone(cs)
		slices.Reverse(cs)
		rs, err := b.Store.Apply(ctx, cs)
		slices.Reverse(rs)
		return rs, err
	}
	if b.apply == nil || ctx.Err() != nil {
		return b.Store.Apply(ctx, cs)
	}
	rs := make([]store.Result, len(cs))
	for i, c := range cs {
		if _, err := c.Check(); err != nil {
			rs[i] = b.inner(ctx, c)
			continue
		}
		rs[i] = b.apply(ctx, c)
	}
	return rs, nil
}

func (b *broken) Load(ctx context.Context, id string, keys ...string) (store.Snapshot, error) {
	s, err := b.Store.Load(ctx, id, keys...)
	if b.load == nil || err != nil {
		return s, err
	}
	return b.load(ctx, s)
}

func (b *broken) Lookup(ctx context.Context, alias string) (store.Header, error) {
	return b.Store.(store.Directory).Lookup(ctx, alias)
}

func (b *broken) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	if b.walk == nil {
		return b.Store.Sessions(ctx, q)
	}
	return b.walk(q, b.Store.Sessions(ctx, q))
}

func (b *broken) Close() error {
	if b.close == nil {
		return b.Store.Close()
	}
	return b.close()
}

// inner applies one change properly.
func (b *broken) inner(ctx context.Context, c store.Change) store.Result {
	rs, err := b.Store.Apply(ctx, []store.Change{c})
	if err != nil {
		return store.Result{Err: err}
	}
	return rs[0]
}

func (b *broken) header(ctx context.Context, id string) store.Header {
	s, _ := b.Store.Load(ctx, id)
	return s.Header
}

// overwrite applies a change in the name of whoever has the session.
func (b *broken) overwrite(ctx context.Context, c store.Change) store.Result {
	for {
		h := b.header(ctx, c.Session)
		if h.Epoch == 0 {
			return b.inner(ctx, c)
		}
		c.Owner, c.Epoch, c.Seq, c.Birth = h.Owner, h.Epoch, h.Seq+1, 0
		if r := b.inner(ctx, c); r.Outcome != store.Fenced && r.Outcome != store.Already || h.Deleted {
			return r
		}
	}
}

func newBroken(spoil func(b *broken)) *broken {
	b := &broken{Store: memory.New()}
	spoil(b)
	return b
}

func (b *broken) unfenced(these func(c store.Change) bool) {
	b.apply = func(ctx context.Context, c store.Change) store.Result {
		if r := b.inner(ctx, c); r.Outcome != store.Fenced || !these(c) {
			return r
		}
		return b.overwrite(ctx, c)
	}
}

// puts lets only those puts of a change through that keep says.
func (b *broken) puts(keep func(h store.Header, e *store.Entry) bool) {
	b.apply = func(ctx context.Context, c store.Change) store.Result {
		h := b.header(ctx, c.Session)
		c.Puts = slices.DeleteFunc(slices.Clone(c.Puts), func(e store.Entry) bool { return !keep(h, &e) })
		return b.inner(ctx, c)
	}
}

func (b *broken) expiry(stored func(store.Time) store.Time) {
	b.apply = func(ctx context.Context, c store.Change) store.Result {
		c.Expires, c.Puts = stored(c.Expires), slices.Clone(c.Puts)
		for i := range c.Puts {
			c.Puts[i].Expires = stored(c.Puts[i].Expires)
		}
		return b.inner(ctx, c)
	}
}

// reborn gives each life of a session a name of its own below, and so forgets the former one's epoch.
func reborn(b *broken) {
	r := &lives{Store: b.Store, of: map[string]int{}}
	b.Store = r
	b.apply = func(ctx context.Context, c store.Change) store.Result {
		res := b.inner(ctx, c)
		if res.Outcome == store.Applied && c.Delete {
			r.of[c.Session]++
		}
		return res
	}
}

type lives struct {
	store.Store
	of map[string]int
}

func (l *lives) name(id string) string { return fmt.Sprint(id, "#", l.of[id]) }
func (l *lives) real(h store.Header) store.Header {
	h.Session, _, _ = strings.Cut(h.Session, "#")
	return h
}

func (l *lives) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	r.Session = l.name(r.Session)
	c, err := l.Store.Claim(ctx, r)
	c.Header = l.real(c.Header)
	return c, err
}

func (l *lives) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	cs = slices.Clone(cs)
	for i := range cs {
		cs[i].Session = l.name(cs[i].Session)
	}
	rs, err := l.Store.Apply(ctx, cs)
	for i := range rs {
		rs[i].Header = l.real(rs[i].Header)
	}
	return rs, err
}

func (l *lives) Load(ctx context.Context, id string, keys ...string) (store.Snapshot, error) {
	s, err := l.Store.Load(ctx, l.name(id), keys...)
	s.Header = l.real(s.Header)
	return s, err
}

func (l *lives) Lookup(ctx context.Context, alias string) (store.Header, error) {
	h, err := l.Store.(store.Directory).Lookup(ctx, alias)
	return l.real(h), err
}

func (l *lives) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		for h, err := range l.Store.Sessions(ctx, q) {
			if !yield(l.real(h), err) {
				return
			}
		}
	}
}
