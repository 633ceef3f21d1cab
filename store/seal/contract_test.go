package seal_test

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/seal"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// damager spoils what the inner store gives back, until it is written again.
type damager struct {
	*seal.Store
	inner   *bent
	hidden  func(session, key string) (string, string)
	entries map[[2]string]bool
}

func damageable(t *testing.T, inner store.Store, o seal.Options) *damager {
	d := &damager{inner: &bent{Store: inner}, entries: map[[2]string]bool{}}
	d.Store = sealed(t, d.inner, o)
	d.hidden = func(session, key string) (string, string) { return seal.Hide(d.Store, session, key) }
	d.inner.entry = func(session string, e *store.Entry) {
		if d.entries[[2]string{session, e.Key}] {
			e.Value[len(e.Value)/2] ^= 1
		}
	}
	d.inner.put = func(session, key string) { delete(d.entries, [2]string{session, key}) }
	return d
}

func (d *damager) Damage(session, key string, header bool) error {
	d.inner.mu.Lock()
	defer d.inner.mu.Unlock()
	id, k := d.hidden(session, key)
	if !header {
		d.entries[[2]string{id, k}] = true
		return nil
	}
	d.inner.header = func(h *store.Header) error {
		if h.Session == id {
			return &store.CorruptError{Session: id, Header: true, Reason: "for a test"}
		}
		return nil
	}
	return nil
}

// unlimited skips what a store with hidden names cannot hold: see TestLongNames.
func unlimited(t *testing.T, o seal.Options) {
	if o.NameKey != nil && (strings.HasSuffix(t.Name(), "/the_longest_session_ID_and_key") || strings.HasSuffix(t.Name(), "/the_most_and_the_longest_aliases")) {
		t.Skip("hidden names are longer by 16 bytes")
	}
}

// Sealed, a store keeps its contract.
func TestContract(t *testing.T) {
	for below, open := range inners {
		for name, o := range rings {
			if (below == "bolt") != (o.NameKey == nil) {
				continue // each of the stores behind, and each kind of ring, once: TestRace and TestReseal have the others
			}
			t.Run(below+"/"+name, func(t *testing.T) {
				t.Parallel()
				storetest.Run(t, func(t *testing.T) store.Store {
					unlimited(t, o)
					return damageable(t, open(t), o)
				})
			})
		}
	}
}

func TestRace(t *testing.T) {
	for below, open := range inners {
		for name, o := range rings {
			t.Run(below+"/"+name, func(t *testing.T) {
				t.Parallel()
				st := sealed(t, open(t), o)
				defer st.Close()
				storetest.Race(t, st, 10)
			})
		}
	}
}

// Whatever is asked of it, a sealed store answers as another does.
func TestAgainstMemory(t *testing.T) {
	for name, o := range rings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 5 {
				var st store.Store = sealed(t, memory.New(), o)
				if o.NameKey != nil {
					st = shorter{st}
				}
				storetest.Compare(t, st, rand.Uint64(), 500)
				st.Close()
			}
		})
	}
}

// shorter gives names of the greatest length, which are of one byte, repeated, a length that can be hidden.
type shorter struct{ store.Store }

func cut(name string) string {
	if len(name) == store.MaxKey {
		return name[:store.MaxKey-16]
	}
	return name
}

func cuts(names []string) (short []string) {
	for _, n := range names {
		short = append(short, cut(n))
	}
	return short
}

func grown(es []store.Entry) []store.Entry {
	for i := range es {
		if len(es[i].Key) == store.MaxKey-16 {
			es[i].Key += strings.Repeat(es[i].Key[:1], 16)
		}
	}
	return es
}

func regrow(h *store.Header) {
	for i, a := range h.Aliases {
		h.Aliases[i] = regrown(a)
	}
}

func regrown(name string) string {
	if len(name) == store.MaxKey-16 {
		name += strings.Repeat(name[:1], 16)
	}
	return name
}

func (s shorter) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		for h, err := range s.Store.Sessions(ctx, q) {
			regrow(&h)
			if !yield(h, err) {
				return
			}
		}
	}
}

func (s shorter) Lookup(ctx context.Context, alias string) (store.Header, error) {
	h, err := s.Store.(store.Directory).Lookup(ctx, cut(alias))
	regrow(&h)
	return h, err
}

func (s shorter) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	r.Session, r.Keys = cut(r.Session), cuts(r.Keys)
	c, err := s.Store.Claim(ctx, r)
	c.Entries = grown(c.Entries)
	regrow(&c.Header)
	return c, err
}

func (s shorter) Load(ctx context.Context, id string, keys ...string) (store.Snapshot, error) {
	snap, err := s.Store.Load(ctx, cut(id), cuts(keys)...)
	snap.Entries = grown(snap.Entries)
	regrow(&snap.Header)
	return snap, err
}

func (s shorter) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	short := make([]store.Change, len(cs))
	for i, c := range cs {
		c.Session, c.Deletes, c.Aliases = cut(c.Session), cuts(c.Deletes), cuts(c.Aliases)
		c.Puts = append([]store.Entry(nil), c.Puts...)
		for j := range c.Puts {
			c.Puts[j].Key = cut(c.Puts[j].Key)
		}
		short[i] = c
	}
	rs, err := s.Store.Apply(ctx, short)
	for i := range rs {
		regrow(&rs[i].Header)
		var clash *store.AliasError
		if errors.As(rs[i].Err, &clash) {
			rs[i].Err = &store.AliasError{Alias: regrown(clash.Alias), Session: regrown(clash.Session), Holder: regrown(clash.Holder)}
		}
	}
	return rs, err
}

// What the inner store cannot do the sealed one cannot, and says so as the contract has it.
func TestPowers(t *testing.T) {
	bare := sealed(t, struct{ store.Store }{memory.New()}, seal.Options{Keys: []seal.Key{one}})
	defer bare.Close()
	if n := bare.Writers(); n != 0 {
		t.Errorf("%d writers of a store that does not say", n)
	}
	if err := bare.Barrier(t.Context()); err != nil {
		t.Errorf("Barrier gives error %v where there is none", err)
	}
	if err := bare.WatchNodes(t.Context(), func() {}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("WatchNodes gives error %v, want ErrUnsupported", err)
	}
	if _, err := bare.Find(t.Context(), store.AliasRange{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Find gives error %v, want ErrUnsupported", err)
	}
	hidden := sealed(t, memory.New(), seal.Options{Keys: []seal.Key{one}, NameKey: nameKey})
	defer hidden.Close()
	if f, err := hidden.Find(t.Context(), store.AliasRange{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("of hidden aliases Find gives %+v, %v, want ErrUnsupported", f, err)
	}
	a := newOwner("a")
	create(t, bare, a, "s", "k", "v")
	cs, err := bare.ClaimAll(t.Context(), []store.ClaimRequest{{Session: "s", Owner: a, All: true}, {Session: "none", Owner: a}})
	if err != nil || cs[0].Outcome != store.Granted || values(cs[0].Entries)["k"] != "v" || cs[1].Outcome != store.NotFound {
		t.Errorf("ClaimAll gives %+v, %v", cs, err)
	}

	able := &powers{Store: memory.New(), lost: &store.ForgottenError{}}
	st := sealed(t, able, seal.Options{Keys: []seal.Key{one}, NameKey: nameKey})
	id, _ := seal.Hide(st, "b", "")
	id2, _ := seal.Hide(st, "a", "")
	able.lost.Sessions = []string{id, id2}
	if st.Writers() != 7 {
		t.Errorf("%d writers", st.Writers())
	}
	var lost *store.ForgottenError
	if err := st.Barrier(t.Context()); !errors.As(err, &lost) || len(lost.Sessions) != 2 || lost.Sessions[0] != "a" || lost.Sessions[1] != "b" {
		t.Errorf("Barrier gives error %v, want one of the sessions a and b", err)
	}
	if cs, err := st.ClaimAll(t.Context(), []store.ClaimRequest{{Session: "s", Owner: a, Create: true}}); err != nil || !cs[0].Created || able.asked != 1 {
		t.Errorf("ClaimAll gives %+v, %v, the inner store was asked %d times", cs, err, able.asked)
	}
	able.answers = -1
	if cs, err := st.ClaimAll(t.Context(), []store.ClaimRequest{{Session: "s", Owner: a}}); err == nil {
		t.Errorf("ClaimAll gives %+v of no answer", cs)
	}
	st.Close()
	if err := st.Barrier(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Barrier after Close gives error %v", err)
	}
}

// powers is a store with all of them.
type powers struct {
	*memory.Store
	lost           *store.ForgottenError
	asked, answers int
}

func (p *powers) Writers() int                  { return 7 }
func (p *powers) Barrier(context.Context) error { return p.lost }
func (p *powers) ClaimAll(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	p.asked++
	cs, err := p.Store.ClaimAll(ctx, rs)
	return cs[:len(cs)+p.answers], err
}
