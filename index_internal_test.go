package kvstore

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"unsafe"
)

// testIndex is an index of some IDs.
type testIndex struct {
	index[int]
	ids []string
}

// newTestIndex returns an index, and n IDs for it. If narrow, they nearly all collide: they are of two shards, of two tags, and of
// every eighth group.
func newTestIndex(n int, narrow bool) *testIndex {
	x := new(testIndex)
	x.init()
	for i := 0; len(x.ids) < n; i++ {
		id := strconv.Itoa(i)
		if h := x.hash(id); narrow && (h>>25 != 0x55 || tagOf(h)>>1 != 0x55 || h&7 != 5) {
			continue
		}
		x.ids = append(x.ids, id)
	}
	return x
}

func newTestSession(id string) *session[int] { return new(session[int]).begin(id, 1) }

func (x *testIndex) load(id string) *session[int] {
	s := x.index.load(id)
	if f := x.search(x.hash(id), id); f.whole() != s {
		panic("the first way and the second lead to different sessions")
	}
	return s
}

// checkIndex compares the index with a plain map, in every way in which it can be asked.
func checkIndex(t *testing.T, x *testIndex, want map[string]*session[int]) {
	t.Helper()
	if n := x.size(); n != len(want) {
		t.Fatalf("size is %d, want %d", n, len(want))
	}
	for _, id := range x.ids {
		if got := x.load(id); got != want[id] {
			t.Fatalf("load(%q) = %p, want %p", id, got, want[id])
		}
	}
	met := map[*session[int]]int{}
	for s := range x.all() {
		met[s]++
	}
	for id, s := range want {
		if met[s] != 1 {
			t.Fatalf("a walk met %q %d times", id, met[s])
		}
	}
	if len(met) != len(want) {
		t.Fatalf("a walk met %d sessions, want %d", len(met), len(want))
	}
}

// Random operations against a plain map; with all hashes, and with so few that nearly all collide: the same
// shard, the same tag, the same groups.
func TestIndexAgainstMap(t *testing.T) {
	for _, c := range []struct {
		name     string
		universe int
		narrow   bool
	}{{"spread", 20_000, false}, {"colliding", 400, true}} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(7, uint64(c.universe)))
			x := newTestIndex(c.universe, c.narrow)
			want := map[string]*session[int]{}
			for step := range 4 * c.universe {
				// It grows, shrinks, and grows again, with many that come and go.
				full := (step/c.universe)%2 == 0
				id := x.ids[rng.IntN(c.universe)]
				if grow := rng.IntN(4) > 0; grow == full {
					s := newTestSession(id)
					got, was := x.insert(s), want[id]
					if was == nil {
						want[id] = s
						was = s
					}
					if got != was {
						t.Fatalf("step %d: insert(%q) = %p, want %p", step, id, got, was)
					}
				} else if s := want[id]; s != nil {
					x.remove(s)
					x.remove(s) // it is not there any more
					delete(want, id)
				}
				if step%(c.universe/2) == 0 {
					checkIndex(t, x, want)
				}
			}
			for id := range want {
				x.remove(newTestSession(id)) // another session of that ID
			}
			checkIndex(t, x, want)
			for _, s := range want {
				x.remove(s)
			}
			checkIndex(t, x, nil)
			for i := range x.shards {
				if x.shards[i].table.Load() != x.none {
					t.Fatal("an empty index holds tables")
				}
			}
			x.insert(newTestSession(x.ids[0]))
			x.clear()
			checkIndex(t, x, nil)
		})
	}
}

// Sessions that stay are found at every moment, by everyone, and met once by every walk, while others come and go so
// that every shard is built anew again and again. What a goroutine inserts it finds, and what it removes it does not.
func TestIndexRace(t *testing.T) {
	const stay, writers, readers, rounds, batch = 500, 3, 2, 60, 400
	x := newTestIndex(0, false)
	stays := make([]*session[int], stay)
	for i := range stays {
		stays[i] = newTestSession(fmt.Sprint("stay-", i))
		x.insert(stays[i])
	}
	stop := make(chan struct{})
	var reading, writing sync.WaitGroup
	for range readers {
		reading.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, s := range stays {
					if x.load(s.id()) != s {
						t.Errorf("%q is not found", s.id())
						return
					}
				}
				met := map[*session[int]]int{}
				for s := range x.all() {
					met[s]++
				}
				for _, s := range stays {
					if met[s] != 1 {
						t.Errorf("a walk met %q %d times", s.id(), met[s])
						return
					}
				}
			}
		})
	}
	var others sync.Map // what several writers fight for: exactly one insert of each wins
	for w := range writers {
		writing.Go(func() {
			for r := range rounds {
				own := make([]*session[int], batch)
				for i := range own {
					own[i] = newTestSession(fmt.Sprint(w, "-", r, "-", i))
					if x.insert(own[i]) != own[i] || x.load(own[i].id()) != own[i] {
						t.Errorf("%q was inserted, and is not found", own[i].id())
						return
					}
				}
				shared := newTestSession(fmt.Sprint("shared-", r))
				if x.insert(shared) == shared {
					if _, twice := others.LoadOrStore(r, true); twice {
						t.Errorf("%q was inserted twice", shared.id())
					}
				}
				for _, s := range own {
					x.remove(s)
					if x.load(s.id()) != nil {
						t.Errorf("%q was removed, and is found", s.id())
						return
					}
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	reading.Wait()
	if n := x.size(); n != stay+rounds {
		t.Errorf("%d sessions are left, not %d", n, stay+rounds)
	}
}

// The layout is what makes it fast: a group and a shard are a cache line each, and what a read touches
// of a session is small.
func TestIndexLayout(t *testing.T) {
	var s session[int]
	for _, c := range []struct {
		what      string
		got, want uintptr
	}{
		{"a group", unsafe.Sizeof(group[int]{}), 64},
		{"a shard", unsafe.Sizeof(shard[int]{}), 64},
		{"a session", unsafe.Sizeof(s), 64},
		{"its front", unsafe.Sizeof(front[int]{}), 40},
		{"its front with an ID of 26 bytes", unsafe.Sizeof(fronted[int, [24]byte]{}), 64},
	} {
		if c.got != c.want {
			t.Errorf("%s takes %d bytes, want %d", c.what, c.got, c.want)
		}
	}
}
