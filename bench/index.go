package main

import (
	"fmt"
	"hash/maphash"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/puzpuzpuz/xsync/v4"
)

// This file compares maps that a DB could find its sessions with. It uses xsync's; these rows say
// what that dependency buys: the ratio is another map's cost over xsync's, and above 1 xsync is the better one.

// object stands for a session. The index holds a pointer to it.
type object struct{ _ [128]byte }

// index is what a DB needs of a map.
type index interface {
	Load(id string) (*object, bool)
	Store(id string, o *object)
}

var candidates = []struct {
	name  string
	about string
	make  func() index
}{
	{"sharded", "256 Go maps, each under a sync.RWMutex", func() index { return newSharded() }},
	{"syncmap", "sync.Map", func() index { return new(syncMap) }},
}

func newXsync() index { return xsync.NewMap[string, *object]() }

func indexRows(c *config) (rows []spec) {
	for _, can := range candidates {
		row := func(name, about string) {
			rows = append(rows, spec{"index/" + name, can.about + ", " + about + "; bare: xsync", "×", "", 0})
		}
		for _, cpus := range c.cpus {
			for _, d := range distributions {
				row(fmt.Sprintf("load/%s/%s/%d", can.name, d, cpus), "Load")
			}
			row(fmt.Sprintf("insert/%s/%d", can.name, cpus), "Store of a new key, growth included")
			row(fmt.Sprintf("mixed/%s/zipf/%d", can.name, cpus), "15 of 16 Load, one Store")
		}
		row("memory/"+can.name, "heap for each key")
		row("gc/"+can.name, "processor time of one garbage collection, 5 × -sessions")
	}
	return rows
}

func runIndex(r *runner) error {
	for _, can := range candidates {
		if err := indexTimes(r, can.name, can.make); err != nil {
			return err
		}
		if err := indexHeap(r, can.name, can.make); err != nil {
			return err
		}
	}
	return nil
}

func indexTimes(r *runner, name string, newIndex func() index) error {
	if !slices.ContainsFunc(indexRows(r.config), func(s spec) bool {
		return r.wants(s.name) && strings.Contains(s.name, "/"+name+"/")
	}) {
		return nil
	}
	ids := makeIDs(r.sessions)
	obj := new(object)
	var full [2]index
	for i, make := range []func() index{newIndex, newXsync} {
		full[i] = make()
		for _, id := range ids {
			full[i].Store(id, obj)
		}
	}
	row := func(name string, cpus int, how string, f func(x index, id string, i int), x func(which int) index) error {
		if !r.wants(name) {
			return nil
		}
		var seq keys
		drawn := -1
		prepare := func(round int) error {
			if drawn != round {
				seq, drawn = r.draw(how, r.pick(2*r.sessions, r.sessions), r.sessions), round
			}
			return nil
		}
		turn := func(which int) func() (float64, error) {
			return func() (float64, error) {
				x := x(which)
				return parallel(cpus, seq.len(), func(from, to int) error {
					for i := from; i < to; i++ {
						f(x, seq.at(i), i)
					}
					return nil
				})
			}
		}
		pairs, err := r.alternate(name, prepare, turn(0), turn(1))
		if err == nil {
			r.reportPairs(name, pairs, "")
		}
		return err
	}
	stands := func(which int) index { return full[which] }
	empty := func(which int) index { return []func() index{newIndex, newXsync}[which]() }
	for _, cpus := range r.cpus {
		for _, d := range distributions {
			load := func(x index, id string, _ int) { x.Load(id) }
			if err := row(fmt.Sprintf("index/load/%s/%s/%d", name, d, cpus), cpus, d, load, stands); err != nil {
				return err
			}
		}
		insert := func(x index, id string, _ int) { x.Store(id, obj) }
		if err := row(fmt.Sprintf("index/insert/%s/%d", name, cpus), cpus, "shuffled", insert, empty); err != nil {
			return err
		}
		mixed := func(x index, id string, i int) {
			if i%16 == 0 {
				x.Store(id, obj)
			} else {
				x.Load(id)
			}
		}
		if err := row(fmt.Sprintf("index/mixed/%s/zipf/%d", name, cpus), cpus, "zipf", mixed, stands); err != nil {
			return err
		}
	}
	return nil
}

// indexHeap measures memory and the collector's time. It builds one index after the other.
func indexHeap(r *runner, name string, newIndex func() index) error {
	memory, gc := "index/memory/"+name, "index/gc/"+name
	if !r.wants(memory) && !r.wants(gc) {
		return nil
	}
	defer debug.SetGCPercent(debug.SetGCPercent(40))
	n := 5 * r.sessions
	var bytes [2]float64
	var times [2]collected
	for i, make := range []func() index{newIndex, newXsync} {
		debug.FreeOSMemory()
		before := heap()
		x, obj := make(), new(object)
		for j := range n {
			x.Store(idOf(j), obj)
		}
		bytes[i] = float64(heap()-before)/float64(n) - idSize
		times[i] = collections(r.rounds)
		runtime.KeepAlive(x)
	}
	var pairs []pair
	for i := range times[0].runtime {
		pairs = append(pairs, pair{times[0].runtime[i], times[1].runtime[i]})
	}
	r.reportPairs(gc, pairs, times[0].over(times[1]))
	res := r.report(memory, []float64{bytes[0] / bytes[1]}, "")
	res.Ours, res.Bare = number(bytes[0])+" B", number(bytes[1])+" B"
	return nil
}

// sharded is the usual map of a program that takes no dependency.
type sharded struct {
	seed   maphash.Seed
	shards [256]shard
}

type shard struct {
	mu sync.RWMutex
	m  map[string]*object
	_  [32]byte // a cache line each
}

func newSharded() *sharded {
	s := &sharded{seed: maphash.MakeSeed()}
	for i := range s.shards {
		s.shards[i].m = make(map[string]*object)
	}
	return s
}

func (s *sharded) of(id string) *shard {
	return &s.shards[maphash.String(s.seed, id)%uint64(len(s.shards))]
}

func (s *sharded) Load(id string) (*object, bool) {
	sh := s.of(id)
	sh.mu.RLock()
	o, ok := sh.m[id]
	sh.mu.RUnlock()
	return o, ok
}

func (s *sharded) Store(id string, o *object) {
	sh := s.of(id)
	sh.mu.Lock()
	sh.m[id] = o
	sh.mu.Unlock()
}

// syncMap gives sync.Map a type.
type syncMap struct{ m sync.Map }

func (s *syncMap) Load(id string) (*object, bool) {
	v, ok := s.m.Load(id)
	if !ok {
		return nil, false
	}
	return v.(*object), true
}

func (s *syncMap) Store(id string, o *object) { s.m.Store(id, o) }
