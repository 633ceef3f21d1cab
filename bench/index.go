package main

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"github.com/puzpuzpuz/xsync/v4"
)

// This file compares the DB's own index with maps that it could find its sessions with instead. The
// ratio is a Load of such a map, and from there the way that a Get goes on (session, cell, value), over a whole Get of the DB: above
// 1 the DB's own is the faster one, though it also asks whether it may serve, and the other does not.

// object stands for a session: the map holds a pointer to it, and it points to the version of its value.
type object struct {
	id   string
	cell *[]byte
	_    [104]byte
}

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
	{"xsync", "xsync.Map", func() index { return xsync.NewMap[string, *object]() }},
	{"sharded", "256 Go maps, each under a sync.RWMutex", func() index { return newSharded() }},
	{"syncmap", "sync.Map", func() index { return new(syncMap) }},
}

func indexRows(c *config) (rows []spec) {
	for _, can := range candidates {
		for _, cpus := range c.cpus {
			for _, d := range distributions {
				rows = append(rows, spec{fmt.Sprintf("index/%s/%s/%d", can.name, d, cpus),
					"a Get by way of " + can.about + "; bare: DB.Get", "×", "", 0})
			}
		}
	}
	return rows
}

func runIndex(r *runner) error {
	d, err := openDB(newDiscard(), options())
	if err != nil {
		return err
	}
	ids := makeIDs(r.sessions)
	if err := fill(d, ids); err != nil {
		return err
	}
	for _, can := range candidates {
		prefix := "index/" + can.name + "/"
		if !slices.ContainsFunc(indexRows(r.config), func(s spec) bool { return strings.HasPrefix(s.name, prefix) && r.wants(s.name) }) {
			continue
		}
		x := can.make()
		for i, id := range ids {
			v := valueOf(i)
			x.Store(id, &object{id: id, cell: &v})
		}
		h := &hot{runner: r, d: d, ops: r.pick(2*r.sessions, r.sessions)}
		through := func(seq keys) func(from, to int) error {
			return func(from, to int) error {
				for i := from; i < to; i++ {
					o, ok := x.Load(seq.at(i))
					if !ok || len(*o.cell) != valueSize {
						return fmt.Errorf("%s is not there", seq.at(i))
					}
				}
				return nil
			}
		}
		for _, d := range distributions {
			if err := h.compare("index/"+can.name, d, nil, through, h.get); err != nil {
				return err
			}
		}
	}
	return closeDB(d)
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
