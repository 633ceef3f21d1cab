package seal_test

import (
	"context"
	"errors"
	"iter"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/seal"
)

var (
	one   = seal.Key{ID: 1, Secret: [32]byte{1}}
	two   = seal.Key{ID: 2, Secret: [32]byte{2}}
	three = seal.Key{ID: 3, Secret: [32]byte{3}}

	nameKey = &[32]byte{42}
)

// sealed opens a store on inner.
func sealed(t testing.TB, inner store.Store, o seal.Options) *seal.Store {
	t.Helper()
	st, err := seal.New(inner, o)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// inners are the stores below.
var inners = map[string]func(t testing.TB) store.Store{
	"memory": func(testing.TB) store.Store { return memory.New() },
	"bolt": func(t testing.TB) store.Store {
		st, err := bolt.Open(filepath.Join(t.TempDir(), "db"), &bolt.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		return st
	},
}

// rings are the options of which all that is promised must hold.
var rings = map[string]seal.Options{
	"values":           {Keys: []seal.Key{one, two}},
	"values and names": {Keys: []seal.Key{one, two}, NameKey: nameKey},
}

func newOwner(name string) store.Owner {
	return store.Owner{Node: name, Incarnation: store.NewIncarnation()}
}

// create makes a session with entries (key, value, …), owned by o in epoch 1.
func create(t testing.TB, st store.Store, o store.Owner, id string, kv ...string) {
	t.Helper()
	c := store.Change{Session: id, Owner: o, Epoch: 1, Seq: 1, Create: true}
	for i := 0; i < len(kv); i += 2 {
		c.Puts = append(c.Puts, store.Entry{Key: kv[i], Value: []byte(kv[i+1])})
	}
	apply(t, st, store.Applied, c)
}

func apply(t testing.TB, st store.Store, want store.Outcome, c store.Change) store.Result {
	t.Helper()
	rs, err := st.Apply(t.Context(), []store.Change{c})
	if err != nil || rs[0].Outcome != want {
		t.Fatalf("a change of %.40q is %+v, %v; want %v", c.Session, rs, err, want)
	}
	return rs[0]
}

func claim(t testing.TB, st store.Store, o store.Owner, id string) store.Claim {
	t.Helper()
	c, err := st.Claim(t.Context(), store.ClaimRequest{Session: id, Owner: o, All: true})
	if err != nil || c.Outcome != store.Granted {
		t.Fatalf("the claim of %q is %+v, %v", id, c, err)
	}
	return c
}

// values returns the entries by their keys.
func values(es []store.Entry) map[string]string {
	m := map[string]string{}
	for _, e := range es {
		m[e.Key] = string(e.Value)
	}
	return m
}

// bent is an inner store that has its answers bent by others who can write to it: whoever owns the database, say.
type bent struct {
	store.Store
	mu     sync.Mutex
	entry  func(session string, e *store.Entry) // may change one that is read
	header func(h *store.Header) error          // may change one that is read, or be the error of it
	put    func(session, key string)            // hears what is written
}

func (b *bent) bend(session string, es []store.Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range es {
		if b.entry != nil {
			b.entry(session, &es[i])
		}
	}
}

func (b *bent) Load(ctx context.Context, id string, keys ...string) (store.Snapshot, error) {
	s, err := b.Store.Load(ctx, id, keys...)
	b.bend(id, s.Entries)
	return s, err
}

func (b *bent) LoadRange(ctx context.Context, id string, r store.Range) (store.Page, error) {
	p, err := b.Store.(store.Ranger).LoadRange(ctx, id, r)
	b.bend(id, p.Entries)
	return p, err
}

func (b *bent) Lookup(ctx context.Context, alias string) (store.Header, error) {
	h, err := b.Store.(store.Directory).Lookup(ctx, alias)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && h.Epoch > 0 && b.header != nil {
		err = b.header(&h)
	}
	return h, err
}

func (b *bent) Find(ctx context.Context, r store.AliasRange) (store.Found, error) {
	f, err := b.Store.(store.Finder).Find(ctx, r)
	b.mu.Lock()
	defer b.mu.Unlock()
	good := f.Aliases[:0]
	for _, n := range f.Aliases {
		if b.header != nil {
			if bad := b.header(&n.Header); bad != nil {
				err = errors.Join(err, bad)
				continue
			}
		}
		good = append(good, n)
	}
	f.Aliases = good
	return f, err
}

func (b *bent) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	c, err := b.Store.Claim(ctx, r)
	b.bend(r.Session, c.Entries)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && b.header != nil {
		err = b.header(&c.Header)
	}
	return c, err
}

func (b *bent) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	rs, err := b.Store.Apply(ctx, cs)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range cs {
		for j := range cs[i].Puts {
			if b.put != nil && err == nil && rs[i].Outcome == store.Applied {
				b.put(cs[i].Session, cs[i].Puts[j].Key)
			}
		}
	}
	return rs, err
}

func (b *bent) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		for h, err := range b.Store.Sessions(ctx, q) {
			b.mu.Lock()
			if err == nil && b.header != nil {
				err = b.header(&h)
			}
			b.mu.Unlock()
			if !yield(h, err) {
				return
			}
		}
	}
}

// live gives a node a lease.
func live(t testing.TB, st store.Store, o store.Owner, ttl time.Duration) {
	t.Helper()
	if _, err := st.KeepAlive(t.Context(), store.Node{Name: o.Node, Incarnation: o.Incarnation, Addr: "addr of " + o.Node}, ttl); err != nil {
		t.Fatal(err)
	}
}
