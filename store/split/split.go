package split

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Store implements [store.Store]. Use [New].
type Store struct {
	owners, data store.Store
	closed       atomic.Bool

	mu   sync.Mutex
	lost []string // sessions of which a Barrier has still to tell that changes were forgotten
}

// New returns a store on two others, which belong to it from then on: Close closes both.
func New(owners, data store.Store) *Store { return &Store{owners: owners, data: data} }

// KeepAlive implements [store.Store]. Claims are decided by the lease in owners; the one in data says whether the owner of a
// session that has expired may have extended it.
func (s *Store) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (ran bool, err error) {
	var inOwners, inData bool
	err = both(
		func() (err error) { inOwners, err = s.owners.KeepAlive(ctx, n, ttl); return },
		func() (err error) { inData, err = s.data.KeepAlive(ctx, n, ttl); return })
	return inOwners && inData && err == nil, err
}

// Nodes implements [store.Store].
func (s *Store) Nodes(ctx context.Context) ([]store.Node, error) {
	ns, err := s.owners.Nodes(ctx)
	return ns, inOwners(err)
}

// WatchNodes implements [store.Watcher], if owners does.
func (s *Store) WatchNodes(ctx context.Context, changed func()) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	w, ok := s.owners.(store.Watcher)
	if !ok {
		return fmt.Errorf("store/split: the owners' store does not watch: %w", errors.ErrUnsupported)
	}
	return inOwners(w.WatchNodes(ctx, changed))
}

// Lookup implements [store.Directory], if data does. The alias is looked up in data, and the owner of what is found in owners.
func (s *Store) Lookup(ctx context.Context, alias string) (store.Header, error) {
	if err := s.usable(ctx); err != nil {
		return store.Header{}, err
	}
	d, ok := s.data.(store.Directory)
	if !ok {
		return store.Header{}, inData(fmt.Errorf("it looks no aliases up: %w", errors.ErrUnsupported))
	}
	h, err := d.Lookup(ctx, alias)
	if err != nil || !h.Exists() {
		return h, inData(err)
	}
	owned, err := s.owner(ctx, h.Session)
	return merge(owned, h), err
}

// ownersAtOnce is how many sessions' owners a Find asks for at a time.
const ownersAtOnce = 16

// Find implements [store.Finder], if data does. What is found in data is read there; then owners is asked for the owner of each session, once, several at a time.
// Of a session whose owner could not be read nothing is found, and the error says so.
func (s *Store) Find(ctx context.Context, r store.AliasRange) (store.Found, error) {
	if err := s.usable(ctx); err != nil {
		return store.Found{}, err
	}
	d, ok := s.data.(store.Finder)
	if !ok {
		return store.Found{}, inData(fmt.Errorf("it finds no aliases: %w", errors.ErrUnsupported))
	}
	f, err := d.Find(ctx, r)
	err = inData(err)
	places := map[string]int{} // of sessions in the two that follow
	var ids []string
	for _, n := range f.Aliases {
		if _, ok := places[n.Header.Session]; !ok {
			places[n.Header.Session] = len(ids)
			ids = append(ids, n.Header.Session)
		}
	}
	owned, errs := make([]store.Header, len(ids)), make([]error, len(ids))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(ownersAtOnce, len(ids)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(ids)); i = next.Add(1) - 1 {
				owned[i], errs[i] = s.owner(ctx, ids[i])
			}
		})
	}
	wg.Wait()
	found := f.Aliases[:0]
	for _, n := range f.Aliases {
		if i := places[n.Header.Session]; errs[i] == nil {
			n.Header = merge(owned[i], n.Header)
			found = append(found, n)
		}
	}
	f.Aliases = found
	return f, errors.Join(append(errs, err)...)
}

// owner returns the header that owners has of a session.
func (s *Store) owner(ctx context.Context, session string) (store.Header, error) {
	snap, err := s.owners.Load(ctx, session, probe)
	if err != nil && snap.Header.Epoch > 0 {
		err = nil // the header is sound
	}
	return snap.Header, inOwners(err)
}

// Sessions implements [store.Store]. It is a walk of data.
func (s *Store) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return s.data.Sessions(ctx, q)
}

// Barrier implements [store.Barrier]: of the two stores, those are asked that have one. What one has forgotten is told when both have nothing else to
// say: after that error all other changes are durable, in both.
func (s *Store) Barrier(ctx context.Context) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	of := func(st store.Store) func() error {
		b, ok := st.(store.Barrier)
		if !ok {
			return func() error { return nil }
		}
		return func() error {
			err := b.Barrier(ctx)
			var lost *store.ForgottenError
			if !errors.As(err, &lost) {
				return err
			}
			s.mu.Lock()
			s.lost = append(s.lost, lost.Sessions...)
			s.mu.Unlock()
			return nil
		}
	}
	if err := both(of(s.owners), of(s.data)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lost) == 0 {
		return nil
	}
	slices.Sort(s.lost)
	lost := &store.ForgottenError{Sessions: slices.Compact(s.lost)}
	s.lost = nil
	return lost
}

// Close implements [store.Store].
func (s *Store) Close() error {
	s.closed.Store(true)
	return both(s.owners.Close, s.data.Close)
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

// probe names an entry, so that a Load of it reads little more than the header.
const probe = "\x00"

// Load implements [store.Store]. Entries are those of data. If owners has a later tenure than data, the header is that one's.
func (s *Store) Load(ctx context.Context, session string, keys ...string) (store.Snapshot, error) {
	var snap, owned store.Snapshot
	err := both(
		func() (err error) { owned, err = s.owners.Load(ctx, session, probe); return },
		func() (err error) { snap, err = s.data.Load(ctx, session, keys...); return })
	snap.Header = merge(owned.Header, snap.Header)
	return snap, err
}

// LoadRange implements [store.Ranger], if data does.
func (s *Store) LoadRange(ctx context.Context, session string, r store.Range) (store.Page, error) {
	if err := s.usable(ctx); err != nil {
		return store.Page{}, err
	}
	ranger, ok := s.data.(store.Ranger)
	if !ok {
		return store.Page{}, fmt.Errorf("store/split: the data's store reads no ranges: %w", errors.ErrUnsupported)
	}
	var owned store.Snapshot
	var page store.Page
	err := both(
		func() (err error) { owned, err = s.owners.Load(ctx, session, probe); return },
		func() (err error) { page, err = ranger.LoadRange(ctx, session, r); return })
	page.Header = merge(owned.Header, page.Header)
	return page, err
}

// merge returns the header that both make together: owners has none but the tenure.
func merge(owned, data store.Header) store.Header {
	if owned.Epoch <= data.Epoch || owned.Deleted {
		return data
	}
	data.Owner, data.Epoch, data.Seq, data.Released = owned.Owner, owned.Epoch, 0, false
	return data
}

// both runs two calls at once.
func both(owners, data func() error) error {
	var wg sync.WaitGroup
	var first error
	wg.Go(func() { first = owners() })
	second := data()
	wg.Wait()
	if errors.Is(first, store.ErrClosed) && errors.Is(second, store.ErrClosed) {
		return store.ErrClosed
	}
	return errors.Join(inOwners(first), inData(second))
}

func inOwners(err error) error { return in("owners", err) }
func inData(err error) error   { return in("data", err) }

func in(part string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store/split: %s: %w", part, err)
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Barrier   = (*Store)(nil)
	_ store.Directory = (*Store)(nil)
	_ store.Finder    = (*Store)(nil)
	_ store.Watcher   = (*Store)(nil)
	_ store.Ranger    = (*Store)(nil)
)
