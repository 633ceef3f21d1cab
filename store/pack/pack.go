package pack

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Store implements [store.Store]. Use [New].
//
// It has the optional powers of a store as far as the store behind it has them: without them it says what a DB assumes of a store that has none.
type Store struct {
	inner  store.Store
	coder  *coder
	closed atomic.Bool
	once   sync.Once // of Close
}

// New returns a store that packs the values on their way to inner, and unpacks them on their way back. Inner belongs to it from then on: Close closes
// it. An error is about the Options, and names the field.
func New(inner store.Store, o Options) (*Store, error) {
	if inner == nil {
		return nil, errors.New("store/pack: there is no store to wrap")
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c, err := newCoder(o)
	if err != nil {
		return nil, err
	}
	return &Store{inner: inner, coder: c}, nil
}

// Apply implements [store.Store].
func (s *Store) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	b := batches.Get().(*batch)
	defer b.done()
	if err := b.pack(ctx, s.coder, changes); err != nil {
		return nil, err
	}
	return s.inner.Apply(ctx, b.changes)
}

// Load implements [store.Store].
func (s *Store) Load(ctx context.Context, session string, keys ...string) (store.Snapshot, error) {
	snap, err := s.inner.Load(ctx, session, keys...)
	u := unpacker{coder: s.coder}
	defer u.done()
	var errs []error
	if err != nil {
		errs = []error{err}
	}
	snap.Entries, errs, err = u.entries(ctx, session, snap.Entries, errs)
	if err != nil {
		return store.Snapshot{}, err
	}
	if len(errs) == 1 {
		return snap, errs[0]
	}
	return snap, errors.Join(errs...)
}

// LoadRange implements [store.Ranger], if the store behind does.
func (s *Store) LoadRange(ctx context.Context, session string, r store.Range) (store.Page, error) {
	ranger, ok := s.inner.(store.Ranger)
	if !ok {
		if err := s.usable(ctx); err != nil {
			return store.Page{}, err
		}
		return store.Page{}, fmt.Errorf("store/pack: the store behind reads no ranges: %w", errors.ErrUnsupported)
	}
	p, err := ranger.LoadRange(ctx, session, r)
	if r.KeysOnly {
		return p, err
	}
	u := unpacker{coder: s.coder}
	defer u.done()
	var errs []error
	if err != nil {
		errs = []error{err}
	}
	p.Entries, errs, err = u.entries(ctx, session, p.Entries, errs)
	if err != nil {
		return store.Page{}, err
	}
	if len(errs) == 1 {
		return p, errs[0]
	}
	return p, errors.Join(errs...)
}

// Lookup implements [store.Directory], if the store behind does.
func (s *Store) Lookup(ctx context.Context, alias string) (store.Header, error) {
	if d, ok := s.inner.(store.Directory); ok {
		return d.Lookup(ctx, alias)
	}
	if err := s.usable(ctx); err != nil {
		return store.Header{}, err
	}
	return store.Header{}, fmt.Errorf("store/pack: the store behind looks no aliases up: %w", errors.ErrUnsupported)
}

// Find implements [store.Finder], if the store behind does.
func (s *Store) Find(ctx context.Context, r store.AliasRange) (store.Found, error) {
	if f, ok := s.inner.(store.Finder); ok {
		return f.Find(ctx, r)
	}
	if err := s.usable(ctx); err != nil {
		return store.Found{}, err
	}
	return store.Found{}, fmt.Errorf("store/pack: the store behind finds no aliases: %w", errors.ErrUnsupported)
}

// Claim implements [store.Store].
func (s *Store) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	c, err := s.inner.Claim(ctx, r)
	if err != nil {
		return c, err
	}
	u := unpacker{coder: s.coder}
	defer u.done()
	if err := u.claim(ctx, r.Session, &c); err != nil {
		return store.Claim{}, err
	}
	return c, nil
}

// ClaimAll implements [store.Claimer]. If the store behind does not, it makes the claims one by one, some at a time.
func (s *Store) ClaimAll(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	all, ok := s.inner.(store.Claimer)
	if !ok {
		return s.claimEach(ctx, rs)
	}
	cs, err := all.ClaimAll(ctx, rs)
	if err != nil {
		return cs, err
	}
	u := unpacker{coder: s.coder}
	defer u.done()
	for i := range cs[:min(len(cs), len(rs))] {
		if err := u.claim(ctx, rs[i].Session, &cs[i]); err != nil {
			return nil, err
		}
	}
	return cs, nil
}

// atOnce is how many claims are made at a time for a store that takes them one by one.
const atOnce = 16

func (s *Store) claimEach(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if err := store.CheckClaims(rs); err != nil {
		return nil, err
	}
	cs := make([]store.Claim, len(rs))
	places := make(chan int)
	var wg sync.WaitGroup
	for range min(atOnce, len(rs)) {
		wg.Go(func() {
			for i := range places {
				c, err := s.Claim(ctx, rs[i])
				if err != nil {
					c = store.Claim{Err: err}
				}
				cs[i] = c
			}
		})
	}
	for i := range rs {
		places <- i
	}
	close(places)
	wg.Wait()
	return cs, nil
}

// Sessions implements [store.Store].
func (s *Store) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return s.inner.Sessions(ctx, q)
}

// KeepAlive implements [store.Store].
func (s *Store) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (ran bool, err error) {
	return s.inner.KeepAlive(ctx, n, ttl)
}

// Nodes implements [store.Store].
func (s *Store) Nodes(ctx context.Context) ([]store.Node, error) { return s.inner.Nodes(ctx) }

// Writers implements [store.Writers]. It is 4 if the store behind does not: what a DB takes then.
func (s *Store) Writers() int {
	if w, ok := s.inner.(store.Writers); ok {
		return w.Writers()
	}
	return 4
}

// Barrier implements [store.Barrier]. Without one of the store behind, what is acknowledged is as durable as it gets.
func (s *Store) Barrier(ctx context.Context) error {
	if b, ok := s.inner.(store.Barrier); ok {
		return b.Barrier(ctx)
	}
	return s.usable(ctx)
}

// WatchNodes implements [store.Watcher], if the store behind does.
func (s *Store) WatchNodes(ctx context.Context, changed func()) error {
	if w, ok := s.inner.(store.Watcher); ok {
		return w.WatchNodes(ctx, changed)
	}
	if err := s.usable(ctx); err != nil {
		return err
	}
	return fmt.Errorf("store/pack: the store behind does not watch: %w", errors.ErrUnsupported)
}

// Close implements [store.Store]. It waits for what is being packed or unpacked, and frees the memory for that.
func (s *Store) Close() error {
	s.closed.Store(true)
	err := s.inner.Close()
	s.once.Do(s.coder.close)
	return err
}

// usable is for what does not ask the store behind first.
func (s *Store) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed.Load() {
		return store.ErrClosed
	}
	return nil
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
