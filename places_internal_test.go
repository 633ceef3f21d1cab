package kvstore

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestShelf compares it with a map. Positions run over both ends of their range; names are short, empty, and look like others' beginnings.
func TestShelf(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		var sh shelf[int]
		model := map[string]*entry[int]{}
		key := func() string {
			pos := []uint64{0, 1 << 63, ^uint64(0) - 5, 77}[rnd.IntN(4)] + rnd.Uint64N(20)
			name := []string{"", "a", "ab", "12345678", "1234567"}[rnd.IntN(5)]
			switch rnd.IntN(10) {
			case 0:
				return ownKey(kindBounds, name)
			case 1:
				return ownKey(kindKeyBounds, name)
			case 2:
				return ownKey(kindItem, name) // no item, if that is too short for one
			case 3:
				return ownKey(kindCounter, name)
			case 4:
				return []string{"\x00", ownKey(kindIdle, "")}[rnd.IntN(2)]
			case 5, 6:
				return itemKey(kindKey, name, pos)
			}
			return itemKey(kindItem, name, pos)
		}
		stays := rnd.IntN(3) // how much of what is there when it is met again
		for range 3000 {
			k := key()
			e := sh.get(k)
			if e != model[k] {
				t.Fatalf("seed %d: %q has the place %p, want %p", seed, k, e, model[k])
			}
			if rnd.IntN(300) == 0 { // a queue is emptied, and begins anew elsewhere
				for k := range sh.all() {
					if sp := spotOf(k); sp.item && sp.name == "a" {
						sh.remove(k)
						delete(model, k)
					}
				}
				e = sh.get(k)
			}
			switch {
			case e == nil:
				if e = sh.add(k); e.cell.Load() != nil || e.dirty || e.stored || e.charge != 0 {
					t.Fatalf("seed %d: the new place of %q is %+v", seed, k, e)
				}
				model[k] = e
				e.cell.Store(&cell[int]{val: len(model)})
				e.dirty, e.stored, e.charge = true, true, 7
			case rnd.IntN(3) >= stays:
				sh.remove(k)
				delete(model, k)
				sh.remove(k)
			}
			if sh.len() != len(model) {
				t.Fatalf("seed %d: %d places, want %d", seed, sh.len(), len(model))
			}
		}
		for _, rows := range sh.rows {
			for name, r := range rows {
				for _, p := range r.pages {
					if p.there == 0 && len(r.pages) > 1 {
						t.Fatalf("seed %d: a page of %q is empty, and stays beside others", seed, name)
					}
				}
			}
		}
		if got := maps.Collect(sh.all()); !maps.Equal(got, model) {
			t.Fatalf("seed %d: all are %v, want %v", seed, got, model)
		}
		for k := range sh.all() { // all may go on the way
			sh.remove(k)
		}
		if sh.len() != 0 || len(sh.byKey) != 0 || len(sh.rows[0])+len(sh.rows[1]) > keptRows {
			t.Fatalf("seed %d: %d places are left, %d rows", seed, sh.len(), len(sh.rows[0])+len(sh.rows[1]))
		}
		for _, rows := range sh.rows {
			for name, r := range rows {
				if len(r.pages) > 1 {
					t.Fatalf("seed %d: %d pages of %q are left", seed, len(r.pages), name)
				}
			}
		}
	}
}

// TestShelfIsSmall: what a long queue leaves behind when it is gone, and what many queues do.
func TestShelfIsSmall(t *testing.T) {
	var sh shelf[int]
	for i := range uint64(100_000) {
		sh.add(itemKey(kindItem, "q", i))
		if i >= 10 {
			sh.remove(itemKey(kindItem, "q", i-10))
		}
	}
	if n := len(sh.rows[0]["q"].pages); n > 3 {
		t.Errorf("%d pages for ten items", n)
	}
	for i := range 1000 {
		name := fmt.Sprint("job-", i)
		for _, k := range []string{ownKey(kindBounds, name), itemKey(kindItem, name, 1<<63)} {
			sh.add(k)
		}
	}
	for k := range sh.all() {
		if strings.HasPrefix(k[2:], "job-") {
			sh.remove(k)
		}
	}
	if len(sh.rows[0]) > keptRows {
		t.Errorf("%d rows for one queue that is not empty", len(sh.rows[0]))
	}
}
