package pack

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

func owner() store.Owner { return store.Owner{Node: "a", Incarnation: store.NewIncarnation()} }

// put makes a session of these keys and values.
func put(t testing.TB, st store.Store, session string, kv ...string) {
	t.Helper()
	c := store.Change{Session: session, Owner: owner(), Epoch: 1, Seq: 1, Create: true}
	for i := 0; i < len(kv); i += 2 {
		c.Puts = append(c.Puts, store.Entry{Key: kv[i], Value: []byte(kv[i+1])})
	}
	rs, err := st.Apply(t.Context(), []store.Change{c})
	if err != nil || rs[0].Outcome != store.Applied {
		t.Fatalf("put of %q: %+v, %v", session, rs, err)
	}
}

func TestSample(t *testing.T) {
	ctx := t.Context()
	s := all(wrap(t, memory.New(), Options{}))
	want := map[string]bool{}
	for i := range 50 {
		a, b := fmt.Sprintf("main %d %s", i, strings.Repeat("x", 100)), fmt.Sprint("other ", i)
		put(t, s, fmt.Sprint("s", i), "", a, "k", b, "long", strings.Repeat("y", maxSample+1))
		want[a], want[b] = true, true
	}
	for _, n := range []int{1, 10, 100, 1000} {
		got, err := Sample(ctx, s, n)
		if err != nil || len(got) != min(n, len(want)) {
			t.Errorf("%d samples of %d values: %d, %v", n, len(want), len(got), err)
		}
		seen := map[string]bool{}
		for _, v := range got {
			if !want[string(v)] || seen[string(v)] {
				t.Errorf("a sample is %.40q, which is none of the values, or is there already", v)
			}
			seen[string(v)] = true
		}
	}
	if got, err := Sample(ctx, s, 0); err == nil {
		t.Errorf("no samples: %v, no error", got)
	}
	if got, err := Sample(ctx, memory.New(), 5); err != nil || len(got) != 0 {
		t.Errorf("of an empty store: %v, %v", got, err)
	}
}

// Each value has the same chance.
func TestReservoir(t *testing.T) {
	var counts [10]int
	for range 10000 {
		r := reservoir[int]{size: 3}
		for i := range counts {
			r.add(i)
		}
		slices.Sort(r.kept)
		if len(slices.Compact(r.kept)) != 3 {
			t.Fatalf("kept %v", r.kept)
		}
		for _, i := range r.kept {
			counts[i]++
		}
	}
	for i, n := range counts { // 3000 expected, with a deviation of 46
		if n < 2600 || n > 3400 {
			t.Errorf("item %d of %v is kept %d times of 10000, want about 3000", i, counts, n)
		}
	}
}

func TestSampleOfDamaged(t *testing.T) {
	ctx := t.Context()
	sp := &spoiler{Store: memory.New(), bad: map[[2]string]bool{}, headers: map[string]bool{}}
	s := all(wrap(t, sp, Options{}))
	put(t, s, "a", "", "value a", "bad", "value b", "worse", "value c")
	put(t, s, "b", "", "value d")
	put(t, s, "c", "", "value e")
	d := damaged{s, sp}
	d.Damage("a", "bad", false)
	d.Damage("a", "worse", false)
	d.Damage("c", "", true)
	got, err := Sample(ctx, s, 10)
	if err != nil || len(got) != 2 {
		t.Errorf("samples %q, %v; want the two sound ones", got, err)
	}
}

// walkFails is a store of which the walk ends early.
type walkFails struct{ store.Store }

func (w walkFails) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		for h := range w.Store.Sessions(ctx, q) {
			if !yield(h, nil) {
				return
			}
			break
		}
		yield(store.Header{}, storetest.ErrInjected)
	}
}

func TestSampleFails(t *testing.T) {
	mem := memory.New()
	put(t, mem, "a", "", "value")
	put(t, mem, "b", "", "value")
	if got, err := Sample(t.Context(), walkFails{mem}, 10); !errors.Is(err, storetest.ErrInjected) || len(got) != 1 {
		t.Errorf("the walk fails: %q, %v; want the error, and what there is", got, err)
	}
	f := storetest.NewFaults(mem)
	f.Inject(storetest.Every(storetest.Fault{Fail: storetest.Before}, storetest.Load))
	if _, err := Sample(t.Context(), f, 10); !errors.Is(err, storetest.ErrInjected) {
		t.Errorf("a Load fails: %v", err)
	}
}
