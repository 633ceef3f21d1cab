package storetest

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// held is a store behind a path: while that hangs a flush waits, and is carried out at the end, even if its caller has given up.
type held struct {
	store.Store
	drops bool // it is not carried out

	mu    sync.Mutex
	hangs bool
	late  []func()
}

func (h *held) Hang(bool) {
	h.mu.Lock()
	h.hangs = true
	h.mu.Unlock()
}

func (h *held) Heal() {
	h.mu.Lock()
	late := h.late
	h.hangs, h.late = false, nil
	h.mu.Unlock()
	for _, do := range late {
		do()
	}
}

func (h *held) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	h.mu.Lock()
	if !h.hangs {
		h.mu.Unlock()
		return h.Store.Apply(ctx, cs)
	}
	if !h.drops {
		h.late = append(h.late, func() { h.Store.Apply(context.WithoutCancel(ctx), cs) })
	}
	h.mu.Unlock()
	<-ctx.Done()
	return nil, ctx.Err()
}

// What arrives late is fenced by a sound store, found where it is not, and a path on which nothing arrives shows nothing.
func TestLateArrival(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*broken)
		drops bool
		finds string
	}{
		{"sound", func(*broken) {}, false, ""},
		{"no fence", func(b *broken) { b.apply = b.overwrite }, false, "entries are"},
		{"writes the half", func(b *broken) { b.puts(func(_ store.Header, e *store.Entry) bool { return e.Key != "l" }) }, false, "entries are"},
		{"nothing arrives", func(*broken) {}, true, "shows nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroken(c.spoil)
				through := &held{Store: b, drops: c.drops}
				r := record(func(t T) { LateArrival(t, b, through, through) })
				switch {
				case c.finds == "" && len(r.failures) > 0:
					t.Errorf("a sound store fails with %q", r.failures)
				case c.finds != "" && (len(r.failures) == 0 || !strings.HasPrefix(r.failures[0], saysNoneArrives) || !strings.Contains(r.failures[0], c.finds)):
					t.Errorf("it fails with %q, want its sentence and %q", r.failures, c.finds)
				}
			})
		})
	}
}

// lagging is a replica that answers, and is one write behind.
type lagging struct {
	store.Store
	of    *behind
	loads bool // by Load
}

// behind is a store, and what it was before its last change.
type behind struct {
	store.Store
	last map[string]store.Snapshot
}

func (b *behind) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	for i := range cs {
		b.last[cs[i].Session], _ = b.Store.Load(ctx, cs[i].Session)
	}
	return b.Store.Apply(ctx, cs)
}

func (l lagging) Load(ctx context.Context, id string, keys ...string) (store.Snapshot, error) {
	if l.loads {
		s := l.of.last[id]
		return store.Snapshot{Header: s.Header, Entries: only(s.Entries, keys)}, nil
	}
	return l.of.Load(ctx, id, keys...)
}

func (l lagging) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	c, err := l.of.Claim(ctx, r)
	if !l.loads {
		c.Entries = l.of.last[r.Session].Entries
	}
	return c, err
}

func only(es []store.Entry, keys []string) (some []store.Entry) {
	for _, e := range es {
		for _, k := range keys {
			if e.Key == k {
				some = append(some, e)
			}
		}
	}
	return some
}

func TestPinned(t *testing.T) {
	mem := memory.New()
	if r := record(func(t T) { Pinned(t, mem, mem, mem) }); len(r.failures) > 0 {
		t.Errorf("a sound store fails with %q", r.failures)
	}
	for _, loads := range []bool{true, false} {
		b := &behind{memory.New(), map[string]store.Snapshot{}}
		lags := lagging{b, b, loads}
		if r := record(func(t T) { Pinned(t, b, lags, lags) }); len(r.failures) == 0 {
			t.Errorf("replicas that lag behind, by Load: %t, are not found out", loads)
		}
	}
}
