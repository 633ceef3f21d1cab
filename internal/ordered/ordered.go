// Package ordered is a map that keeps its keys in order.
package ordered

import (
	"iter"
	"slices"
	"sort"
)

// Map maps strings to values, and yields them in the order of the keys as bytes. The zero Map is empty. It is not for concurrent use.
//
// It is a B+ tree of two levels: a list of leaves, each a sorted list. With n keys a change costs a search among n/most leaves and one in a leaf, and moves
// at most a leaf's keys; one in most/2 of them moves the list of leaves, too. With a million keys that is some hundred nanoseconds.
type Map[V any] struct {
	leaves []*leaf[V] // none is empty
	firsts []string   // the first key of each: what a search looks at lies together
	n      int
}

type leaf[V any] struct {
	keys []string
	vals []V
}

// most is how many keys a leaf holds; then it is split.
const most = 128

// Len returns the number of keys.
func (m *Map[V]) Len() int { return m.n }

// leaf returns the index of the leaf where key is, if it is anywhere, or belongs; of none if the map is empty.
func (m *Map[V]) leaf(key string) int {
	i := sort.Search(len(m.firsts), func(i int) bool { return m.firsts[i] > key })
	return max(i-1, 0)
}

// Get returns the value of a key.
func (m *Map[V]) Get(key string) (v V, ok bool) {
	if m.n == 0 {
		return v, false
	}
	l := m.leaves[m.leaf(key)]
	if i, ok := slices.BinarySearch(l.keys, key); ok {
		return l.vals[i], true
	}
	return v, false
}

// Set gives a key its value.
func (m *Map[V]) Set(key string, v V) {
	if m.n == 0 {
		m.leaves, m.firsts, m.n = []*leaf[V]{{keys: []string{key}, vals: []V{v}}}, []string{key}, 1
		return
	}
	at := m.leaf(key)
	l := m.leaves[at]
	i, ok := slices.BinarySearch(l.keys, key)
	if ok {
		l.vals[i] = v
		return
	}
	l.keys, l.vals = slices.Insert(l.keys, i, key), slices.Insert(l.vals, i, v)
	m.firsts[at] = l.keys[0]
	if m.n++; len(l.keys) <= most {
		return
	}
	half := len(l.keys) / 2
	if at == len(m.leaves)-1 && i == len(l.keys)-1 {
		half = len(l.keys) - 1 // keys that come in their order fill the leaves
	}
	r := &leaf[V]{keys: slices.Clone(l.keys[half:]), vals: slices.Clone(l.vals[half:])}
	clear(l.keys[half:])
	clear(l.vals[half:])
	l.keys, l.vals = l.keys[:half], l.vals[:half]
	m.leaves, m.firsts = slices.Insert(m.leaves, at+1, r), slices.Insert(m.firsts, at+1, r.keys[0])
}

// Delete takes a key out. It reports whether it was there.
func (m *Map[V]) Delete(key string) bool {
	if m.n == 0 {
		return false
	}
	at := m.leaf(key)
	l := m.leaves[at]
	i, ok := slices.BinarySearch(l.keys, key)
	if !ok {
		return false
	}
	m.n--
	l.keys, l.vals = slices.Delete(l.keys, i, i+1), slices.Delete(l.vals, i, i+1)
	if len(l.keys) == 0 {
		m.leaves, m.firsts = slices.Delete(m.leaves, at, at+1), slices.Delete(m.firsts, at, at+1)
		return true
	}
	m.firsts[at] = l.keys[0]
	// Two neighbours that fit into half a leaf become one: so the list of leaves shrinks with the map, and one that grows again is not split at once.
	if at+1 < len(m.leaves) {
		if r := m.leaves[at+1]; len(l.keys)+len(r.keys) <= most/2 {
			l.keys, l.vals = append(l.keys, r.keys...), append(l.vals, r.vals...)
			m.leaves, m.firsts = slices.Delete(m.leaves, at+1, at+2), slices.Delete(m.firsts, at+1, at+2)
		}
	}
	return true
}

// From yields the keys that are at least from, with their values, in order. The map is not to be changed meanwhile.
func (m *Map[V]) From(from string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		if m.n == 0 {
			return
		}
		at := m.leaf(from)
		i, _ := slices.BinarySearch(m.leaves[at].keys, from)
		for ; at < len(m.leaves); at, i = at+1, 0 {
			for l := m.leaves[at]; i < len(l.keys); i++ {
				if !yield(l.keys[i], l.vals[i]) {
					return
				}
			}
		}
	}
}
