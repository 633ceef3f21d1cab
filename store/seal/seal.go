package seal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Store implements [store.Store] on another one. Use [New].
type Store struct {
	inner  store.Store
	ring   *ring
	names  *names
	plain  bool
	closed atomic.Bool

	places  sync.Pool // of *place
	batches sync.Pool // of *batch
}

// New returns a store that keeps in inner what it has sealed. Inner belongs to it from then on: Close closes it. The error names the
// option that is wrong; inner is still the caller's then.
func New(inner store.Store, o Options) (*Store, error) {
	if inner == nil {
		return nil, errors.New("store/seal: there is no store to keep things in: inner is nil")
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	r, err := newRing(o.Keys)
	if err != nil {
		return nil, err
	}
	n, err := newNames(o.NameKey)
	if err != nil {
		return nil, fmt.Errorf("store/seal: no keys could be derived from Options.NameKey: %w", err)
	}
	s := &Store{inner: inner, ring: r, names: n, plain: o.AcceptPlain}
	s.places.New = func() any { return new(place) }
	s.batches.New = func() any { return new(batch) }
	return s, nil
}

func (s *Store) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed.Load() {
		return store.ErrClosed
	}
	return nil
}

// enter returns a place of the session, for leave.
func (s *Store) enter(session string) *place {
	p := s.places.Get().(*place)
	p.enter(session)
	return p
}

func (s *Store) leave(p *place) {
	p.last = nil
	s.places.Put(p)
}

// KeepAlive implements [store.Store]. All of n is stored as it is.
func (s *Store) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (ran bool, err error) {
	return s.inner.KeepAlive(ctx, n, ttl)
}

// Nodes implements [store.Store].
func (s *Store) Nodes(ctx context.Context) ([]store.Node, error) { return s.inner.Nodes(ctx) }

// Close implements [store.Store]. It closes the inner store.
func (s *Store) Close() error {
	s.closed.Store(true)
	return s.inner.Close()
}

// Writers implements [store.Writers]: it is the inner store's number, or 0 if that does not say.
func (s *Store) Writers() int {
	if w, ok := s.inner.(store.Writers); ok {
		return w.Writers()
	}
	return 0
}

// Barrier implements [store.Barrier]. If the inner store has none there is nothing to wait for.
func (s *Store) Barrier(ctx context.Context) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	b, ok := s.inner.(store.Barrier)
	if !ok {
		return nil
	}
	return s.told(b.Barrier(ctx))
}

// WatchNodes implements [store.Watcher], if the inner store does.
func (s *Store) WatchNodes(ctx context.Context, changed func()) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	w, ok := s.inner.(store.Watcher)
	if !ok {
		return fmt.Errorf("store/seal: the inner store does not watch: %w", errors.ErrUnsupported)
	}
	return w.WatchNodes(ctx, changed)
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Writers = (*Store)(nil)
	_ store.Claimer = (*Store)(nil)
	_ store.Barrier = (*Store)(nil)
	_ store.Watcher = (*Store)(nil)

	_ store.Ranger    = (*Store)(nil)
	_ store.Directory = (*Store)(nil)
	_ store.Finder    = (*Store)(nil)
)
