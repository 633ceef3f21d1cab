package kvstore

import (
	"slices"
	"testing"
)

// TestListenersAreReplaced: who comes and goes makes a new list. Who is telling has the old one in hand, under no lock.
func TestListenersAreReplaced(t *testing.T) {
	var ls listeners[int]
	var all []*listener[int]
	for range 3 {
		l := newListener[int](filter{}, 1<<20)
		if !ls.add(l, nil) {
			t.Fatal("it is closed")
		}
		all = append(all, l)
	}
	old := *ls.all.Load()
	ls.remove(all[0])
	if !slices.Equal(old, all) {
		t.Error("who was there when it went is not asked")
	}
	if now := *ls.all.Load(); !slices.Equal(now, all[1:]) {
		t.Errorf("%d are left, or others", len(now))
	}
	ls.add(all[0], nil)
	if !slices.Equal(old, all) {
		t.Error("who was there when it came is not asked")
	}
}
