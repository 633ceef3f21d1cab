package ordered

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestAgainstAMap makes random changes, in maps of several sizes, and compares with a map that is sorted.
func TestAgainstAMap(t *testing.T) {
	for _, size := range []int{1, 10, most, 3 * most, 40 * most} {
		rnd := rand.New(rand.NewPCG(1, uint64(size)))
		var m Map[int]
		want := map[string]int{}
		for step := range 6 * size {
			key := fmt.Sprint(rnd.IntN(size))
			grows := (step/(2*size))%2 == 0 // and shrinks by turns
			switch _, had := want[key]; {
			case rnd.IntN(4) > 0 == grows:
				m.Set(key, step)
				want[key] = step
			case m.Delete(key) != had:
				t.Fatalf("size %d: Delete(%q) says %t", size, key, !had)
			default:
				delete(want, key)
			}
			if step%(size/8+1) == 0 {
				same(t, &m, want, fmt.Sprint(rnd.IntN(size)))
			}
		}
		for key := range maps.Clone(want) {
			m.Delete(key)
			delete(want, key)
		}
		same(t, &m, want, "")
		if len(m.leaves) > 0 {
			t.Fatalf("an empty map has %d leaves", len(m.leaves))
		}
	}
}

func same(t *testing.T, m *Map[int], want map[string]int, from string) {
	t.Helper()
	var keys []string
	for key := range want {
		if key >= from {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	var got []string
	for key, v := range m.From(from) {
		got = append(got, key)
		if g, ok := m.Get(key); v != want[key] || !ok || g != v {
			t.Fatalf("key %q has %d, and by Get %d, %t; want %d", key, v, g, ok, want[key])
		}
	}
	if !slices.Equal(got, keys) || m.Len() != len(want) {
		t.Fatalf("from %q there are %d keys of %d, want %d of %d", from, len(got), m.Len(), len(keys), len(want))
	}
	if _, ok := m.Get("none"); ok {
		t.Fatal("there is a key that nobody has set")
	}
	for i, l := range m.leaves {
		if len(l.keys) == 0 || len(l.keys) > most || m.firsts[i] != l.keys[0] {
			t.Fatalf("leaf %d of %d has %d keys, and its first is not %q", i, len(m.leaves), len(l.keys), m.firsts[i])
		}
		if i > 0 && len(l.keys)+len(m.leaves[i-1].keys) < 2 {
			t.Fatalf("leaves %d and %d are all but empty", i-1, i)
		}
	}
}

// TestFull sees that keys which come in order fill the leaves.
func TestFull(t *testing.T) {
	var m Map[int]
	for i := range 100 * most {
		m.Set(fmt.Sprintf("%08d", i), i)
	}
	if len(m.leaves) > 101 {
		t.Fatalf("%d leaves of %d keys for %d", len(m.leaves), most, m.Len())
	}
}

func BenchmarkSet(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var m Map[int]
			rnd := rand.New(rand.NewPCG(1, 2))
			keys := make([]string, n)
			for i := range keys {
				keys[i] = fmt.Sprintf("%016x", rnd.Uint64())
				m.Set(keys[i], i)
			}
			for i := 0; b.Loop(); i = (i + 1) % n {
				m.Delete(keys[i])
				m.Set(keys[i], i)
			}
		})
	}
}
