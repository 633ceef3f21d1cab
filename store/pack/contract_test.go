package pack

import (
	"context"
	"errors"
	"iter"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

func wrap(t testing.TB, inner store.Store, o Options) *Store {
	t.Helper()
	s, err := New(inner, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func openBolt(t testing.TB, path string) store.Store {
	t.Helper()
	s, err := bolt.Open(path, &bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// all makes s pack whatever has a byte, be it for a loss.
func all(s *Store) *Store {
	s.coder.minSize, s.coder.minGain = 1, -1e9
	return s
}

// bare is a store without optional powers.
type bare struct{ store.Store }

// Lookup is there all the same: a store that keeps aliases has it.
func (b bare) Lookup(ctx context.Context, alias string) (store.Header, error) {
	return b.Store.(store.Directory).Lookup(ctx, alias)
}

func TestContract(t *testing.T) {
	dictionary := dictionaryOf(t, 512)
	for name, open := range map[string]func(t *testing.T) store.Store{
		"memory, all packed, damaged": func(t *testing.T) store.Store {
			sp := &spoiler{Store: memory.New(), bad: map[[2]string]bool{}, headers: map[string]bool{}}
			return damaged{all(wrap(t, sp, Options{Dictionaries: [][]byte{dictionary}})), sp}
		},
		"bolt, all packed": func(t *testing.T) store.Store {
			return all(wrap(t, openBolt(t, filepath.Join(t.TempDir(), "db")), Options{Dictionaries: [][]byte{dictionary}}))
		},
		"without powers": func(t *testing.T) store.Store { return wrap(t, bare{memory.New()}, Options{}) },
		"twice":          func(t *testing.T) store.Store { return all(wrap(t, all(wrap(t, memory.New(), Options{})), Options{})) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, open)
		})
	}
}

// Whatever is asked of it, it answers as the store behind it does.
func TestAgainstMemory(t *testing.T) {
	for range 5 {
		s := all(wrap(t, memory.New(), Options{}))
		storetest.Compare(t, s, rand.Uint64(), 500)
	}
}

// spoiler is a store that damages what it has, as storetest asks it to. What it gives out for a damaged entry is a record that is cut.
type spoiler struct {
	store.Store
	mu      sync.Mutex
	bad     map[[2]string]bool // session, key
	headers map[string]bool    // sessions
}

type damaged struct {
	*Store
	sp *spoiler
}

func (d damaged) Damage(session, key string, header bool) error {
	d.sp.mu.Lock()
	defer d.sp.mu.Unlock()
	if header {
		d.sp.headers[session] = true
	} else {
		d.sp.bad[[2]string{session, key}] = true
	}
	return nil
}

func (sp *spoiler) spoil(session string, es []store.Entry) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for i := range es {
		if sp.bad[[2]string{session, es[i].Key}] {
			es[i].Value = es[i].Value[:len(es[i].Value)-1]
		}
	}
}

func (sp *spoiler) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	sp.mu.Lock()
	for _, c := range cs {
		for _, e := range c.Puts {
			delete(sp.bad, [2]string{c.Session, e.Key})
		}
	}
	sp.mu.Unlock()
	return sp.Store.Apply(ctx, cs)
}

func (sp *spoiler) Load(ctx context.Context, session string, keys ...string) (store.Snapshot, error) {
	s, err := sp.Store.Load(ctx, session, keys...)
	sp.spoil(session, s.Entries)
	return s, err
}

func (sp *spoiler) LoadRange(ctx context.Context, session string, r store.Range) (store.Page, error) {
	p, err := sp.Store.(store.Ranger).LoadRange(ctx, session, r)
	sp.spoil(session, p.Entries)
	return p, err
}

func (sp *spoiler) Lookup(ctx context.Context, alias string) (store.Header, error) {
	return sp.Store.(store.Directory).Lookup(ctx, alias)
}

func (sp *spoiler) Find(ctx context.Context, r store.AliasRange) (store.Found, error) {
	f, err := sp.Store.(store.Finder).Find(ctx, r)
	sp.mu.Lock()
	defer sp.mu.Unlock()
	f.Aliases = slices.DeleteFunc(f.Aliases, func(n store.Named) bool {
		if sp.headers[n.Header.Session] {
			err = errors.Join(err, &store.CorruptError{Session: n.Header.Session, Header: true, Reason: "spoiled"})
			return true
		}
		return false
	})
	return f, err
}

func (sp *spoiler) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	sp.mu.Lock()
	bad := sp.headers[r.Session]
	sp.mu.Unlock()
	if bad {
		return store.Claim{}, &store.CorruptError{Session: r.Session, Header: true, Reason: "spoiled"}
	}
	c, err := sp.Store.Claim(ctx, r)
	sp.spoil(r.Session, c.Entries)
	return c, err
}

func (sp *spoiler) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	sp.mu.Lock()
	bad := maps.Clone(sp.headers)
	sp.mu.Unlock()
	return func(yield func(store.Header, error) bool) {
		for h, err := range sp.Store.Sessions(ctx, q) {
			if bad[h.Session] {
				h, err = store.Header{}, &store.CorruptError{Session: h.Session, Header: true, Reason: "spoiled"}
			}
			if !yield(h, err) {
				return
			}
		}
	}
}

func TestRace(t *testing.T) {
	t.Parallel()
	storetest.Race(t, all(wrap(t, memory.New(), Options{})), 20)
	storetest.Race(t, all(wrap(t, openBolt(t, filepath.Join(t.TempDir(), "db")), Options{Dictionaries: [][]byte{dictionaryOf(t, 512)}})), 10)
}

// powers is a store that has them all, and says so.
type powers struct {
	store.Store
	barrier error
}

func (powers) Writers() int                    { return 7 }
func (p powers) Barrier(context.Context) error { return p.barrier }
func (powers) WatchNodes(_ context.Context, changed func()) error {
	changed()
	return store.ErrClosed
}
func (powers) ClaimAll(context.Context, []store.ClaimRequest) ([]store.Claim, error) {
	return []store.Claim{{Outcome: store.Held}}, nil
}

func TestPowers(t *testing.T) {
	ctx := t.Context()
	boom := errors.New("boom")
	s := wrap(t, powers{memory.New(), boom}, Options{})
	if n := s.Writers(); n != 7 {
		t.Errorf("Writers is %d, want that of the store behind, 7", n)
	}
	if err := s.Barrier(ctx); !errors.Is(err, boom) {
		t.Errorf("Barrier gives %v, want that of the store behind", err)
	}
	var called bool
	if err := s.WatchNodes(ctx, func() { called = true }); !errors.Is(err, store.ErrClosed) || !called {
		t.Errorf("WatchNodes gives %v, called: %t; want that of the store behind", err, called)
	}
	if cs, err := s.ClaimAll(ctx, make([]store.ClaimRequest, 1)); err != nil || cs[0].Outcome != store.Held {
		t.Errorf("ClaimAll gives %v, %v; want that of the store behind", cs, err)
	}

	s = wrap(t, bare{memory.New()}, Options{})
	if n := s.Writers(); n != 4 {
		t.Errorf("without the power Writers is %d, want 4", n)
	}
	if err := s.Barrier(ctx); err != nil {
		t.Errorf("without the power Barrier gives %v", err)
	}
	if err := s.WatchNodes(ctx, func() {}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("without the power WatchNodes gives %v, want ErrUnsupported", err)
	}
	if _, err := s.Find(ctx, store.AliasRange{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("without the power Find gives %v, want ErrUnsupported", err)
	}
	over, stop := context.WithCancel(ctx)
	stop()
	if err := s.Barrier(over); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is over Barrier gives %v", err)
	}
}
