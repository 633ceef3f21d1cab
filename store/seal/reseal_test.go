package seal_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/seal"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// with returns the options with another ring.
func with(o seal.Options, keys ...seal.Key) seal.Options {
	o.Keys = keys
	return o
}

// reads checks that a session has these entries, for whoever has the ring of st.
func reads(t *testing.T, st store.Store, id string, kv ...string) store.Header {
	t.Helper()
	want := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		want[kv[i]] = kv[i+1]
	}
	snap, err := st.Load(t.Context(), id)
	if err != nil || !maps.Equal(values(snap.Entries), want) {
		t.Errorf("session %q has %q, %v; want %q", id, values(snap.Entries), err, want)
	}
	return snap.Header
}

func reseal(t *testing.T, st *seal.Store, want seal.Progress) {
	t.Helper()
	if got, err := st.Reseal(t.Context(), seal.ResealOptions{}); err != nil || got != want {
		t.Errorf("the pass has done %+v, %v; want %+v", got, err, want)
	}
}

// What nobody alive owns is rewritten, whole and without another change; the rest is told.
func TestReseal(t *testing.T) {
	for below, open := range inners {
		for name, o := range rings {
			t.Run(below+"/"+name, func(t *testing.T) {
				t.Parallel()
				inner := open(t)
				defer inner.Close()
				before, both, after := sealed(t, inner, with(o, one)), sealed(t, inner, with(o, one, two)), sealed(t, inner, with(o, two))
				dead, living := newOwner("dead"), newOwner("living")
				live(t, inner, living, time.Hour)
				hour := store.TimeOf(time.Now().Add(time.Hour))

				apply(t, before, store.Applied, store.Change{
					Session: "orphan", Owner: dead, Epoch: 4, Seq: 9, Create: true, Expires: hour, Aliases: []string{"alias", "another"}, Schema: 3,
					Puts: []store.Entry{{Value: []byte("main")}, {Key: "k", Value: []byte("v"), Expires: hour + 1}, {Key: "empty"}},
				})
				create(t, before, dead, "released", "k", "v")
				apply(t, both, store.Applied, store.Change{Session: "released", Owner: dead, Epoch: 1, Seq: 2, Release: true, Puts: []store.Entry{{Key: "l", Value: []byte("w")}}})
				create(t, before, living, "owned", "k", "v")
				create(t, both, living, "owned and new", "k", "v")
				create(t, both, dead, "new", "k", "v")
				create(t, before, dead, "deleted", "k", "v")
				apply(t, before, store.Applied, store.Change{Session: "deleted", Owner: dead, Epoch: 1, Seq: 2, Delete: true})
				apply(t, before, store.Applied, store.Change{Session: "expired", Owner: dead, Epoch: 1, Seq: 1, Create: true, Expires: 1, Puts: []store.Entry{{Key: "k"}}})
				untouched := map[string]store.Header{}
				for _, id := range []string{"owned", "owned and new", "new", "deleted", "expired"} {
					snap, _ := both.Load(t.Context(), id)
					untouched[id] = snap.Header
				}

				reseal(t, both, seal.Progress{Seen: 6, Resealed: 2, Entries: 4, Remaining: 1})

				h := reads(t, after, "orphan", "", "main", "k", "v", "empty", "")
				if h.Epoch != 5 || !h.Released || h.Expires != hour || h.Schema != 3 || !slices.Equal(h.Aliases, []string{"alias", "another"}) {
					t.Errorf("the orphan's header is %+v", h)
				}
				if snap, _ := after.Load(t.Context(), "orphan", "k"); len(snap.Entries) != 1 || snap.Entries[0].Expires != hour+1 {
					t.Errorf("the entry that ends at %v is %+v", hour+1, snap.Entries)
				}
				reads(t, after, "released", "k", "v", "l", "w")
				reads(t, after, "new", "k", "v")
				reads(t, both, "owned", "k", "v")
				for id, was := range untouched {
					if snap, _ := both.Load(t.Context(), id); fmt.Sprint(snap.Header) != fmt.Sprint(was) {
						t.Errorf("session %q was not to be touched: %+v, was %+v", id, snap.Header, was)
					}
				}
				apply(t, both, store.Fenced, store.Change{Session: "orphan", Owner: dead, Epoch: 4, Seq: 10})

				// Its owner leaves, and nothing remains.
				reseal(t, both, seal.Progress{Seen: 6, Remaining: 1})
				apply(t, both, store.Applied, store.Change{Session: "owned", Owner: living, Epoch: 1, Seq: 2, Release: true})
				reseal(t, both, seal.Progress{Seen: 6, Resealed: 1, Entries: 1})
				reads(t, after, "owned", "k", "v")
				reseal(t, both, seal.Progress{Seen: 6})
			})
		}
	}
}

// What was never sealed is, after a migration.
func TestResealPlain(t *testing.T) {
	inner := memory.New()
	create(t, inner, newOwner("a"), "s", "k", "v")
	st := sealed(t, inner, seal.Options{Keys: []seal.Key{one}, AcceptPlain: true})
	defer st.Close()
	reseal(t, st, seal.Progress{Seen: 1, Resealed: 1, Entries: 1})
	reads(t, sealed(t, inner, seal.Options{Keys: []seal.Key{one}}), "s", "k", "v")
	reseal(t, st, seal.Progress{Seen: 1})
}

// A pass that could not read or write all never says that it is done, and does what it can.
func TestResealFails(t *testing.T) {
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		bend  func(inner *bent)
		keys  []seal.Key
		want  seal.Progress
		error func(err error) bool
	}{
		"a damaged entry": {
			bend: func(b *bent) {
				b.entry = func(id string, e *store.Entry) {
					if id == "s" && e.Key == "bad" {
						e.Value[len(e.Value)-1] ^= 1
					}
				}
			},
			keys: []seal.Key{one, two},
			want: seal.Progress{Seen: 2, Resealed: 2, Entries: 2, Failed: 1},
			error: func(err error) bool {
				var c *store.CorruptError
				return errors.As(err, &c) && c.Session == "s" && c.Key == "bad"
			},
		},
		"a key that is not there": {
			bend:  func(b *bent) {},
			keys:  []seal.Key{three},
			want:  seal.Progress{Seen: 2, Failed: 2},
			error: func(err error) bool { return strings.Contains(err.Error(), "the key 1, which is not in the ring") },
		},
		"a damaged header": {
			bend: func(b *bent) {
				b.header = func(h *store.Header) error {
					if h.Session == "s" {
						return &store.CorruptError{Session: "s", Header: true}
					}
					return nil
				}
			},
			keys:  []seal.Key{one, two},
			want:  seal.Progress{Seen: 2, Resealed: 1, Entries: 1, Failed: 1},
			error: func(err error) bool { var c *store.CorruptError; return errors.As(err, &c) && c.Header },
		},
		"a walk that ends early": {
			bend:  func(b *bent) { b.header = func(h *store.Header) error { return boom } },
			keys:  []seal.Key{one, two},
			want:  seal.Progress{},
			error: func(err error) bool { return errors.Is(err, boom) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			inner := &bent{Store: memory.New()}
			defer inner.Close()
			before := sealed(t, inner, seal.Options{Keys: []seal.Key{one}})
			create(t, before, newOwner("a"), "s", "bad", "v", "good", "v")
			create(t, before, newOwner("a"), "t", "k", "v")
			c.bend(inner)
			st := sealed(t, inner, seal.Options{Keys: c.keys})
			if got, err := st.Reseal(t.Context(), seal.ResealOptions{}); got != c.want || err == nil || !c.error(err) {
				t.Errorf("the pass has done %+v, %v; want %+v", got, err, c.want)
			}
			inner.entry, inner.header = nil, nil
			reads(t, sealed(t, inner, seal.Options{Keys: []seal.Key{one, two}}), "s", "bad", "v", "good", "v")
		})
	}
	st := sealed(t, memory.New(), seal.Options{Keys: []seal.Key{one}})
	for _, o := range []seal.ResealOptions{{Lease: time.Second}, {Lease: -1, Node: store.Node{Name: "a"}}} {
		if _, err := st.Reseal(t.Context(), o); err == nil || !strings.Contains(err.Error(), "ResealOptions.Lease") {
			t.Errorf("%+v gives error %v", o, err)
		}
	}
	st.Close()
	if _, err := st.Reseal(t.Context(), seal.ResealOptions{}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after Close it gives error %v", err)
	}
}

// many makes a session of n entries.
func many(t *testing.T, st store.Store, n, size int) (kv []string) {
	for i := range n {
		kv = append(kv, fmt.Sprint("k", i), strings.Repeat(fmt.Sprint(i%10), size))
	}
	create(t, st, newOwner("a"), "s", kv...)
	return kv
}

// A large session is rewritten by several changes, and can be read at each moment.
func TestResealInParts(t *testing.T) {
	for _, c := range []struct{ entries, size, changes int }{{600, 10, 3}, {256, 10, 1}, {5, 600_000, 5}, {20, 100_000, 2}} {
		inner := storetest.NewFaults(memory.New())
		kv := many(t, sealed(t, inner, seal.Options{Keys: []seal.Key{one}}), c.entries, c.size)
		st := sealed(t, inner, seal.Options{Keys: []seal.Key{one, two}})
		changes := 0
		inner.OnApply(func(cs []store.Change) {
			changes++
			if len(cs[0].Puts) > 256 || cs[0].Release != (changes == c.changes) {
				t.Errorf("change %d of %d has %d entries, and releases: %t", changes, c.changes, len(cs[0].Puts), cs[0].Release)
			}
			reads(t, st, "s", kv...)
		})
		reseal(t, st, seal.Progress{Seen: 1, Resealed: 1, Entries: c.entries})
		if changes != c.changes {
			t.Errorf("%d entries of %d bytes took %d changes, want %d", c.entries, c.size, changes, c.changes)
		}
		reads(t, sealed(t, inner, seal.Options{Keys: []seal.Key{two}}), "s", kv...)
		st.Close()
	}
}

// Cut off after any of its calls a pass has lost nothing, and anyone can adopt what it was at.
func TestResealCrashes(t *testing.T) {
	for n := range 4 {
		inner := storetest.NewFaults(memory.New())
		kv := many(t, sealed(t, inner, seal.Options{Keys: []seal.Key{one}}), 600, 10)
		st := sealed(t, inner, seal.Options{Keys: []seal.Key{one, two}})
		ctx, crash := context.WithCancel(t.Context())
		calls := 0
		inner.Inject(func(c storetest.Call) storetest.Fault {
			if c.Kind != storetest.Claim && c.Kind != storetest.Apply {
				return storetest.Fault{}
			}
			if calls++; calls <= n {
				return storetest.Fault{}
			}
			crash()
			return storetest.Fault{Fail: storetest.After}
		})
		if p, err := st.Reseal(ctx, seal.ResealOptions{}); !errors.Is(err, context.Canceled) || p.Failed != 1 {
			t.Errorf("cut off after %d calls it has done %+v, %v", n, p, err)
		}
		inner.Inject(nil)
		reads(t, st, "s", kv...)
		if c := claim(t, st, newOwner("b"), "s"); len(c.Entries) != 600 {
			t.Errorf("cut off after %d calls: adopted, it has %d entries", n, len(c.Entries))
		}
		if p, err := st.Reseal(t.Context(), seal.ResealOptions{}); err != nil || p.Failed+p.Remaining > 0 {
			t.Errorf("the next pass has done %+v, %v", p, err)
		}
		reads(t, sealed(t, inner, seal.Options{Keys: []seal.Key{two}}), "s", kv...)
		st.Close()
	}
}

// A change whose answer is lost is made again, and one that fails for long is an error.
func TestResealRepeats(t *testing.T) {
	for failures, ok := range map[int]bool{1: true, 3: true, 4: false} {
		synctest.Test(t, func(t *testing.T) {
			for _, fault := range []storetest.Fault{{Fail: storetest.After}, {Fail: storetest.Before}, {Split: func(int) bool { return true }}} {
				inner := storetest.NewFaults(memory.New())
				create(t, sealed(t, inner, seal.Options{Keys: []seal.Key{one}}), newOwner("a"), "s", "k", "v")
				st := sealed(t, inner, seal.Options{Keys: []seal.Key{one, two}})
				inner.Inject(storetest.First(failures, fault, storetest.Apply))
				p, err := st.Reseal(t.Context(), seal.ResealOptions{})
				if (err == nil) != ok || (p == seal.Progress{Seen: 1, Resealed: 1, Entries: 1}) != ok || (p == seal.Progress{Seen: 1, Failed: 1}) == ok {
					t.Errorf("with %d failures it has done %+v, %v", failures, p, err)
				}
				inner.Inject(nil)
				reads(t, st, "s", "k", "v")
				st.Close()
			}
		})
	}
}

// An entry that the inner store refuses is told, and the others are rewritten.
func TestResealRejected(t *testing.T) {
	inner := &picky{Store: memory.New()}
	create(t, sealed(t, inner, seal.Options{Keys: []seal.Key{one}}), newOwner("a"), "s", "k", "v", "large", "v", "z", "v")
	inner.refused = "large"
	st := sealed(t, inner, seal.Options{Keys: []seal.Key{one, two}})
	defer st.Close()
	p, err := st.Reseal(t.Context(), seal.ResealOptions{})
	if want := (seal.Progress{Seen: 1, Resealed: 1, Entries: 2, Failed: 1}); p != want || !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("it has done %+v, %v; want %+v", p, err, want)
	}
	if h := reads(t, st, "s", "k", "v", "large", "v", "z", "v"); !h.Released {
		t.Errorf("the header is %+v, and not released", h)
	}
}

// picky is an inner store for which one entry is too large.
type picky struct {
	store.Store
	refused string
}

func (p *picky) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	for _, e := range cs[0].Puts {
		if e.Key == p.refused {
			return []store.Result{{Outcome: store.Rejected, Err: store.ErrTooLarge, Keys: []string{e.Key}}}, nil
		}
	}
	return p.Store.Apply(ctx, cs)
}

// Somebody adopts a session while it is rewritten: nothing of what he has written is touched.
func TestResealIsFenced(t *testing.T) {
	inner := storetest.NewFaults(memory.New())
	kv := many(t, sealed(t, inner, seal.Options{Keys: []seal.Key{one}}), 600, 10)
	st := sealed(t, inner, seal.Options{Keys: []seal.Key{one, two}})
	defer st.Close()
	b := newOwner("b")
	calls := 0
	inner.OnApply(func(cs []store.Change) {
		if calls++; calls == 2 { // the pass's second
			c := claim(t, st, b, "s")
			apply(t, st, store.Applied, store.Change{Session: "s", Owner: b, Epoch: c.Header.Epoch, Seq: 1, Puts: []store.Entry{{Key: "k599", Value: []byte("newer")}}, Deletes: []string{"k598"}})
		}
	})
	reseal(t, st, seal.Progress{Seen: 1, Resealed: 1, Entries: 256, Remaining: 1})
	kv = kv[:2*598]
	if h := reads(t, st, "s", append(kv, "k599", "newer")...); h.Owner != b || h.Released {
		t.Errorf("the header is %+v, want b's", h)
	}
}

// The owner writes once more between the moment that a session is looked at and its claim: that is what is rewritten.
func TestResealReadsWhatItClaims(t *testing.T) {
	inner := &interposed{Store: memory.New()}
	before, a := sealed(t, inner, seal.Options{Keys: []seal.Key{one}}), newOwner("a")
	create(t, before, a, "s", "k", "v", "l", "w")
	st := sealed(t, inner, seal.Options{Keys: []seal.Key{one, two}})
	defer st.Close()
	inner.before = func() {
		apply(t, before, store.Applied, store.Change{
			Session: "s", Owner: a, Epoch: 1, Seq: 2, Puts: []store.Entry{{Key: "k", Value: []byte("newer")}, {Key: "m", Value: []byte("x")}}, Deletes: []string{"l"},
		})
	}
	reseal(t, st, seal.Progress{Seen: 1, Resealed: 1, Entries: 2})
	reads(t, st, "s", "k", "newer", "m", "x")
}

// Owners adopt, write and release sessions while passes run, one after the other. Each finds what was acknowledged last, and after them
// all is sealed with the last key.
func TestResealRace(t *testing.T) {
	for below, open := range inners {
		for name, o := range rings {
			t.Run(below+"/"+name, func(t *testing.T) {
				t.Parallel()
				inner := open(t)
				defer inner.Close()
				before, both := sealed(t, inner, with(o, one)), sealed(t, inner, with(o, one, two))
				const sessions, rounds = 4, 40
				for i := range sessions {
					create(t, before, newOwner("first"), fmt.Sprint("s", i), "n", "0", "other", "v")
				}
				var owners sync.WaitGroup
				for i := range sessions {
					owners.Go(func() { adoptions(t, both, before, fmt.Sprint("s", i), rounds) })
				}
				ctx, cancel := context.WithCancel(t.Context())
				passes, total := 0, 0
				var passing sync.WaitGroup
				passing.Go(func() {
					for ctx.Err() == nil {
						p, err := both.Reseal(ctx, seal.ResealOptions{})
						if err != nil && ctx.Err() == nil {
							t.Errorf("pass %d: %+v, %v", passes, p, err)
						}
						passes++
						total += p.Entries
					}
				})
				owners.Wait()
				cancel()
				passing.Wait()
				if p, err := both.Reseal(t.Context(), seal.ResealOptions{}); err != nil || p.Remaining+p.Failed > 0 {
					t.Errorf("the last pass has done %+v, %v", p, err)
				}
				after := sealed(t, inner, with(o, two))
				for i := range sessions {
					reads(t, after, fmt.Sprint("s", i), "n", fmt.Sprint(rounds), "other", "v")
				}
				t.Logf("%d passes rewrote %d entries", passes, total)
			})
		}
	}
}

// adoptions adopts a session again and again, each time as another incarnation. It counts in it, and checks that no count is lost. Every
// other one still seals with the old key, so that there is something to do.
func adoptions(t *testing.T, both, before store.Store, id string, rounds int) {
	for n := 0; n < rounds; {
		st := []store.Store{both, before}[n%2]
		me := newOwner("owner")
		c, err := both.Claim(t.Context(), store.ClaimRequest{Session: id, Owner: me, All: true})
		if err != nil || c.Outcome != store.Granted {
			t.Errorf("session %s: a claim gives %+v, %v", id, c, err)
			return
		}
		if got := values(c.Entries); got["n"] != fmt.Sprint(n) || got["other"] != "v" {
			t.Errorf("session %s: adopted with %q, want n = %d", id, got, n)
			return
		}
		rs, err := st.Apply(t.Context(), []store.Change{{
			Session: id, Owner: me, Epoch: c.Header.Epoch, Seq: 1, Release: n%3 == 0,
			Puts: []store.Entry{{Key: "n", Value: []byte(fmt.Sprint(n + 1))}},
		}})
		switch {
		case err != nil:
			t.Errorf("session %s: %v", id, err)
			return
		case rs[0].Outcome == store.Applied:
			n++
		case rs[0].Outcome != store.Fenced: // by a pass: it has claimed the session since
			t.Errorf("session %s: %+v", id, rs[0])
			return
		}
	}
}

// With a lease, an adoption has to wait for the few round trips of a rewriting, and learns of whom; the lease lasts as long as the pass, and no longer.
func TestResealLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memory.New()
		inner := storetest.NewFaults(mem)
		many(t, sealed(t, inner, seal.Options{Keys: []seal.Key{one}}), 600, 10)
		st := sealed(t, inner, seal.Options{Keys: []seal.Key{one, two}})
		defer st.Close()
		inner.Inject(storetest.Every(storetest.Fault{Delay: 10 * time.Second}, storetest.Apply))
		tries := 0
		inner.OnApply(func([]store.Change) {
			tries++
			c, err := st.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: newOwner("b")})
			if err != nil || c.Outcome != store.Held || c.Holder.Name != "me" || c.Holder.Addr != "10.0.0.1:1" {
				t.Errorf("adoption %d gives %+v, %v", tries, c, err)
			}
		})
		p, err := st.Reseal(t.Context(), seal.ResealOptions{Lease: 3 * time.Second, Node: store.Node{Name: "me", Addr: "10.0.0.1:1"}})
		if want := (seal.Progress{Seen: 1, Resealed: 1, Entries: 600}); err != nil || p != want || tries != 3 {
			t.Errorf("it has done %+v, %v, with %d adoptions tried", p, err, tries)
		}
		nodes, err := mem.Nodes(t.Context())
		if err != nil || slices.ContainsFunc(nodes, func(n store.Node) bool { return n.Lease > 0 }) {
			t.Errorf("after it there are %+v, %v", nodes, err)
		}
	})
}

// Progress is told after each session, and without a lease no node is to be seen.
func TestResealProgress(t *testing.T) {
	inner := memory.New()
	before := sealed(t, inner, seal.Options{Keys: []seal.Key{one}})
	for i := range 3 {
		create(t, before, newOwner("a"), fmt.Sprint("s", i), "k", "v")
	}
	st := sealed(t, inner, seal.Options{Keys: []seal.Key{one, two}})
	defer st.Close()
	var told []seal.Progress
	last, err := st.Reseal(t.Context(), seal.ResealOptions{Progress: func(p seal.Progress) {
		told = append(told, p)
		if ns, err := st.Nodes(t.Context()); err != nil || len(ns) > 0 {
			t.Errorf("nodes are %+v, %v", ns, err)
		}
	}})
	want := []seal.Progress{{Seen: 1, Resealed: 1, Entries: 1}, {Seen: 2, Resealed: 2, Entries: 2}, {Seen: 3, Resealed: 3, Entries: 3}}
	if err != nil || !slices.Equal(told, want) || last != want[2] {
		t.Errorf("told %+v, returned %+v, %v", told, last, err)
	}
}
