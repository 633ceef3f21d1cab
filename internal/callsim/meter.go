package callsim

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// meter is a store that counts what nobody else sees: the calls of Apply that are under way, as a node is killed in the midst of
// one; the changes that the store refused; and how often the lease was over.
type meter struct {
	store.Store
	shared                   bool // see Node.Shared
	running, refused, lapses atomic.Int64
	joined                   atomic.Bool
}

// Apply implements store.Store.
func (m *meter) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	m.running.Add(1)
	defer m.running.Add(-1)
	rs, err := m.Store.Apply(ctx, changes)
	for i := range rs {
		if rs[i].Outcome == store.Fenced {
			m.refused.Add(1)
		}
	}
	return rs, m.away(err)
}

// Claim implements store.Store.
func (m *meter) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	c, err := m.Store.Claim(ctx, r)
	return c, m.away(err)
}

// Load implements store.Store.
func (m *meter) Load(ctx context.Context, session string, keys ...string) (store.Snapshot, error) {
	s, err := m.Store.Load(ctx, session, keys...)
	return s, m.away(err)
}

// KeepAlive implements store.Store.
func (m *meter) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
	ran, err := m.Store.KeepAlive(ctx, n, ttl)
	if err == nil && ttl > 0 && m.joined.Swap(true) && !ran { // the first one takes the lease
		m.lapses.Add(1)
	}
	return ran, m.away(err)
}

// Barrier has the store confirm what it can, if it is one that can do more than it acknowledges.
func (m *meter) Barrier(ctx context.Context) error { return m.away(barrier(ctx, m.Store)) }

func barrier(ctx context.Context, st store.Store) error {
	if b, ok := st.(store.Barrier); ok {
		return b.Barrier(ctx)
	}
	return nil
}

// awayError is that the store did not answer, which says nothing of what was asked for: ask again. An embedded store that
// fails is the node's own failure; one that others share may be away for a while.
type awayError struct{ error }

func (e awayError) Unwrap() error { return e.error }

func (m *meter) away(err error) error {
	var damaged *store.CorruptError
	if err == nil || !m.shared || errors.As(err, &damaged) {
		return err
	}
	return awayError{err}
}

// Lookup implements store.Directory, if the store does.
func (m *meter) Lookup(ctx context.Context, alias string) (store.Header, error) {
	if d, ok := m.Store.(store.Directory); ok {
		h, err := d.Lookup(ctx, alias)
		return h, m.away(err)
	}
	return store.Header{}, errors.ErrUnsupported
}

// Find implements store.Finder, if the store does.
func (m *meter) Find(ctx context.Context, r store.AliasRange) (store.Found, error) {
	if f, ok := m.Store.(store.Finder); ok {
		found, err := f.Find(ctx, r)
		return found, m.away(err)
	}
	return store.Found{}, errors.ErrUnsupported
}

// Writers implements store.Writers, if the store does.
func (m *meter) Writers() int {
	if w, ok := m.Store.(store.Writers); ok {
		return w.Writers()
	}
	return 4
}
