package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// open opens a file that is closed, and checked, when the test ends.
func open(t testing.TB, path string, o *Options) *Store {
	t.Helper()
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Check(context.Background()); err != nil && !errors.Is(err, store.ErrClosed) {
			t.Errorf("at the end Check gives: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func temp(t testing.TB) string { return filepath.Join(t.TempDir(), "sessions.db") }

func owner(name string) store.Owner {
	return store.Owner{Node: name, Incarnation: store.NewIncarnation()}
}

// apply applies one change.
func apply(t testing.TB, s *Store, c store.Change, want store.Outcome) store.Result {
	t.Helper()
	rs, err := s.Apply(t.Context(), []store.Change{c})
	if err != nil {
		t.Fatal(err)
	}
	if rs[0].Outcome != want {
		t.Fatalf("session %q: outcome %v (%v), want %v", c.Session, rs[0].Outcome, rs[0].Err, want)
	}
	return rs[0]
}

func entries(kv ...string) (es []store.Entry) {
	for i := 0; i < len(kv); i += 2 {
		es = append(es, store.Entry{Key: kv[i], Value: []byte(kv[i+1])})
	}
	return es
}

// damager lets the contract's suite damage records.
type damager struct{ *Store }

func (d damager) Damage(session, key string, header bool) error {
	d.txid = 0
	return d.db.Update(func(tx *bbolt.Tx) error {
		k := appendPrefix(nil, session)
		if !header {
			k = appendEntryKey(nil, k, key)
		}
		v := bytes.Clone(tx.Bucket(bucketSessions).Get(k))
		if len(v) == 0 {
			return fmt.Errorf("no record of session %q, key %q", session, key)
		}
		v[len(v)/2] ^= 1
		return tx.Bucket(bucketSessions).Put(k, v)
	})
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s, err := Open(temp(t), &Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		return damager{s}
	})
}

// TestContractSynced runs the suite with the default durability.
func TestContractSynced(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("the same suite, with fsync")
	}
	storetest.Run(t, func(t *testing.T) store.Store {
		s, err := Open(temp(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		return damager{s}
	})
}

// TestAgainstMemory does the same random operations on the reference store and on a file that
// is closed and opened between them, and wants the same answers.
func TestAgainstMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time stands still, so that expiries fall alike
		seed := uint64(time.Now().UnixNano()) ^ rand.Uint64()
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		path, ctx := temp(t), t.Context()
		model := memory.New()
		s := open(t, path, &Options{NoSync: true})
		owners := []store.Owner{owner("a"), owner("b"), owner("c")}
		sessions := []string{"s", "s\x00", "s\x00k", "a", "ab", "abc", string(bytes.Repeat([]byte{0xff}, 200))}
		keys := []string{"", "k", "\x00", "bc", "c", "leg/1", string(bytes.Repeat([]byte{1}, 1024))}
		aliases := []string{"x", "\x00", "s", string(bytes.Repeat([]byte{2}, store.MaxAlias))}
		sizes := []int{0, 1, 200, maxInline, maxInline + 1, 5000, 40000}
		value := func() []byte {
			return bytes.Repeat([]byte{byte(rng.IntN(256))}, sizes[rng.IntN(len(sizes))])
		}
		expiry := func() store.Time {
			if rng.IntN(4) > 0 {
				return 0
			}
			return store.TimeOf(time.Now().Add(time.Duration(rng.IntN(5)) * time.Second))
		}
		steps := 3000
		if testing.Short() {
			steps = 500
		}
		for step := range steps {
			id, o := sessions[rng.IntN(len(sessions))], owners[rng.IntN(len(owners))]
			same := func(what string, arg, got, want any, gotErr, wantErr error) {
				if wantErr != nil || gotErr != nil || !reflect.DeepEqual(normal(got), normal(want)) {
					t.Fatalf("step %d: %s of %q, %.5000v:\ngot  %+v, %v\nwant %+v, %v", step, what, id, arg, got, gotErr, want, wantErr)
				}
			}
			switch op := rng.IntN(20); {
			case op < 10:
				cur, _ := model.Load(ctx, id)
				c := store.Change{Session: id, Owner: o, Epoch: cur.Header.Epoch, Seq: cur.Header.Seq + 1}
				if rng.IntN(4) > 0 {
					c.Owner = cur.Header.Owner
				} else {
					c.Epoch += uint64(rng.IntN(2))
				}
				if c.Owner == (store.Owner{}) {
					c.Owner = o
				}
				c.Epoch = max(c.Epoch, 1)
				c.Create, c.Wipe, c.Delete = rng.IntN(3) == 0, rng.IntN(6) == 0, rng.IntN(8) == 0
				c.Expires, c.Schema, c.Release = expiry(), uint32(rng.IntN(2)), rng.IntN(8) == 0
				for _, i := range rng.Perm(len(aliases))[:rng.IntN(3)] {
					c.Aliases = append(c.Aliases, aliases[i])
				}
				if !c.Delete {
					for _, k := range keys {
						switch rng.IntN(4) {
						case 0:
							c.Puts = append(c.Puts, store.Entry{Key: k, Value: value(), Expires: expiry()})
						case 1:
							c.Deletes = append(c.Deletes, k)
						}
					}
					rng.Shuffle(len(c.Puts), func(i, j int) { c.Puts[i], c.Puts[j] = c.Puts[j], c.Puts[i] })
				}
				got, err := s.Apply(ctx, []store.Change{c})
				want, werr := model.Apply(ctx, []store.Change{c})
				same("Apply", c, got, want, err, werr)
			case op < 15:
				r := store.ClaimRequest{Session: id, Owner: o, Force: rng.IntN(2) == 0, Create: rng.IntN(2) == 0, All: rng.IntN(2) == 0, Keys: keys[:3]}
				got, err := s.Claim(ctx, r)
				want, werr := model.Claim(ctx, r)
				same("Claim", r, got, want, err, werr)
			case op < 17:
				alias := aliases[rng.IntN(len(aliases))]
				got, err := s.Lookup(ctx, alias)
				want, werr := model.Lookup(ctx, alias)
				same("Lookup", alias, got, want, err, werr)
				r := store.AliasRange{From: aliases[rng.IntN(len(aliases))], To: alias, Limit: rng.IntN(3)}
				found, err := s.Find(ctx, r)
				wanted, werr := model.Find(ctx, r)
				found.Next, wanted.Next = "", "" // one may see that the rest is gone
				same("Find", r, found, wanted, err, werr)
			case op < 18:
				some := keys[:rng.IntN(len(keys))]
				got, err := s.Load(ctx, id, some...)
				want, werr := model.Load(ctx, id, some...)
				same("Load", some, got, want, err, werr)
			case op == 18:
				ttl := time.Duration(rng.IntN(3)) * time.Second
				n := store.Node{Name: o.Node, Incarnation: o.Incarnation}
				got, err := s.KeepAlive(ctx, n, ttl)
				want, werr := model.KeepAlive(ctx, n, ttl)
				same("KeepAlive", n, got, want, err, werr)
				time.Sleep(time.Second)
			default:
				leases := s.leases
				if err := s.Check(ctx); err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
				s.Close()
				s = open(t, path, &Options{NoSync: true, Check: true})
				s.leases = leases // so that the two stay alike: TestLeasesDie is about this
			}
		}
	})
}

// normal makes answers comparable: an empty value may be nil, and an outcome is what counts, not an error's text.
func normal(x any) any {
	trim := func(es []store.Entry) []store.Entry {
		es = slices.Clone(es)
		for i := range es {
			es[i].Value = append([]byte{}, es[i].Value...)
		}
		return es
	}
	switch x := x.(type) {
	case store.Claim:
		x.Entries = trim(x.Entries)
		return x
	case store.Snapshot:
		x.Entries = trim(x.Entries)
		return x
	}
	return x
}

func TestLeasesDie(t *testing.T) {
	path := temp(t)
	a, b := owner("a"), owner("b")
	s := open(t, path, nil)
	if _, err := s.KeepAlive(t.Context(), store.Node{Name: "a", Incarnation: a.Incarnation}, time.Hour); err != nil {
		t.Fatal(err)
	}
	apply(t, s, store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 1, Create: true, Puts: entries("", "v")}, store.Applied)
	r := store.ClaimRequest{Session: "s", Owner: b, All: true}
	if c, err := s.Claim(t.Context(), r); err != nil || c.Outcome != store.Held || c.Holder.Name != "a" {
		t.Fatalf("while its owner lives, a claim gives %+v, %v; want Held", c, err)
	}
	s.Close()
	s = open(t, path, nil)
	if ns, err := s.Nodes(t.Context()); err != nil || len(ns) != 0 {
		t.Fatalf("after opening anew there are nodes %v, %v", ns, err)
	}
	c, err := s.Claim(t.Context(), r)
	if err != nil || c.Outcome != store.Granted || c.Header.Epoch != 2 || len(c.Entries) != 1 {
		t.Fatalf("after opening anew, a claim gives %+v, %v; want Granted", c, err)
	}
}

// TestValuesDoNotAlias changes all that went in and came out, and grows the file until its map must have moved.
func TestValuesDoNotAlias(t *testing.T) {
	s := open(t, temp(t), &Options{NoSync: true})
	o := owner("a")
	big := bytes.Repeat([]byte("b"), 5000)
	in := store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"alias"},
		Puts: []store.Entry{{Key: "", Value: []byte("main")}, {Key: "k", Value: []byte("value")}, {Key: "big", Value: bytes.Clone(big)}}}
	apply(t, s, in, store.Applied)
	for _, e := range in.Puts {
		clear(e.Value)
	}
	in.Aliases[0] = "x"
	want := []store.Entry{{Key: "", Value: []byte("main")}, {Key: "big", Value: big}, {Key: "k", Value: []byte("value")}}
	load := func() store.Snapshot {
		snap, err := s.Load(t.Context(), "s")
		if err != nil || !reflect.DeepEqual(snap.Entries, want) || snap.Header.Aliases[0] != "alias" {
			t.Fatalf("Load gives %+v, %v", snap, err)
		}
		return snap
	}
	kept, spoilt := load(), load()
	for _, e := range spoilt.Entries {
		clear(e.Value)
	}
	spoilt.Header.Aliases[0] = "x"
	c, err := s.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: o, All: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		apply(t, s, store.Change{Session: fmt.Sprint(i), Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{{Value: big}}}, store.Applied)
	}
	load()
	if !reflect.DeepEqual(kept.Entries, want) || !reflect.DeepEqual(c.Entries, want) {
		t.Fatal("what Load and Claim returned was changed by later writes")
	}
	s.Close() // takes the map away
	if !reflect.DeepEqual(kept.Entries, want) || kept.Header.Owner.Node != "a" {
		t.Fatal("what Load returned was changed by Close")
	}
}

func TestTooLarge(t *testing.T) {
	s := open(t, temp(t), &Options{NoSync: true})
	o := owner("a")
	c := store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Create: true,
		Puts: []store.Entry{{Key: "good", Value: []byte("v")}, {Key: "bad", Value: make([]byte, maxValue+1)}}}
	other := store.Change{Session: "other", Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: entries("", "v")}
	long := store.Change{Session: "long", Owner: owner(string(make([]byte, maxHeader+1))), Epoch: 1, Seq: 1, Create: true}
	rs, err := s.Apply(t.Context(), []store.Change{c, other, long})
	if err != nil {
		t.Fatal(err)
	}
	if rs[0].Outcome != store.Rejected || !errors.Is(rs[0].Err, store.ErrTooLarge) || !slices.Equal(rs[0].Keys, []string{"bad"}) {
		t.Errorf("a value too large: %+v", rs[0])
	}
	if rs[2].Outcome != store.Rejected || !errors.Is(rs[2].Err, store.ErrTooLarge) {
		t.Errorf("a header too large: %+v", rs[2])
	}
	if rs[1].Outcome != store.Applied {
		t.Errorf("another change of the same call: %+v", rs[1])
	}
	if testing.Short() || raceEnabled {
		return
	}
	c.Puts[1].Value = c.Puts[1].Value[:maxValue]
	apply(t, s, c, store.Applied)
	if snap, err := s.Load(t.Context(), "s", "bad"); err != nil || len(snap.Entries) != 1 || len(snap.Entries[0].Value) != maxValue {
		t.Errorf("the largest value: %d entries, %v", len(snap.Entries), err)
	}
}

// TestClosesWhileUsed closes under load: every call works or says that the store is closed.
func TestClosesWhileUsed(t *testing.T) {
	for range 20 {
		s, err := Open(temp(t), &Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		o := owner("a")
		var wg sync.WaitGroup
		begun := make(chan struct{}, 8)
		for g := range 4 {
			wg.Go(func() {
				for seq := uint64(1); ; seq++ {
					rs, err := s.Apply(t.Context(), []store.Change{{Session: fmt.Sprint(g), Owner: o, Epoch: 1, Seq: seq, Create: true, Puts: entries("k", "v")}})
					if err == nil && rs[0].Outcome != store.Applied {
						t.Errorf("Apply gives %+v", rs[0])
					}
					if err == nil {
						_, err = s.Load(t.Context(), fmt.Sprint(g))
					}
					if err == nil {
						for _, werr := range s.Sessions(t.Context(), store.Query{}) {
							err = werr
						}
					}
					if seq == 1 {
						begun <- struct{}{}
					}
					if errors.Is(err, store.ErrClosed) {
						return
					}
					if err != nil {
						t.Errorf("a call gives %v", err)
						return
					}
				}
			})
		}
		for range 4 {
			<-begun
		}
		var closes sync.WaitGroup
		for range 2 {
			closes.Go(func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close gives %v", err)
				}
			})
		}
		closes.Wait()
		wg.Wait()
		if err := s.Check(context.Background()); !errors.Is(err, store.ErrClosed) {
			t.Errorf("Check after Close gives %v", err)
		}
	}
}
