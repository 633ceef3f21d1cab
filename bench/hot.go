package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/puzpuzpuz/xsync/v4"
)

// This file measures the paths that every event of a program takes: a Get and a Put of a resident
// session, against Load and Store of the map that the program had before.
//
// Rounds are shorter than the time until the collector runs (the heap is large, and was
// just collected). What the garbage of either side costs is in the rows gc/.

var distributions = []string{"uniform", "zipf"}

func hotRows(c *config) (rows []spec) {
	for _, cpus := range c.cpus {
		for _, d := range distributions {
			rows = append(rows,
				spec{rowOf("get", d, cpus), "DB.Get of a resident session; bare: xsync Load", "×", "≤", 1.2},
				spec{rowOf("put-dirty", d, cpus), "DB.Put on a session that is dirty; bare: xsync Store", "×", "≤", 1.1})
		}
		rows = append(rows,
			spec{rowOf("put-clean", "shuffled", cpus), "DB.Put on a clean session, each once; bare: xsync Store", "×", "≤", 1.6},
			spec{rowOf("put-behind", "zipf", cpus), "DB.Put while what it puts is encoded and flushed every 100 ms, on the same processors; bare: xsync Store", "×", "", 0})
	}
	return append(rows, spec{"get-allocs", "allocations of a resident Get", "allocs/op", "≤", 0})
}

func rowOf(what, how string, cpus int) string { return fmt.Sprintf("%s/%s/%d", what, how, cpus) }

// hot is a DB and a bare map with the same sessions.
type hot struct {
	*runner
	d   *db
	m   *xsync.Map[string, []byte]
	ops int // of a round
}

func runHot(r *runner) error {
	h := &hot{runner: r, m: xsync.NewMap[string, []byte](), ops: r.pick(2*r.sessions, r.sessions)}
	ids := makeIDs(r.sessions)
	for i, id := range ids {
		h.m.Store(id, valueOf(i))
	}

	o := options()
	var err error
	if h.d, err = openDB(newDiscard(), o); err != nil {
		return err
	}
	if err := fill(h.d, ids); err != nil {
		return err
	}
	for _, row := range []func() error{h.allocs, h.gets, h.cleanPuts, h.dirtyPuts} {
		if err := row(); err != nil {
			return err
		}
	}
	if err := closeDB(h.d); err != nil {
		return err
	}
	h.d = nil
	if !slices.ContainsFunc(r.cpus, func(cpus int) bool { return r.wants(rowOf("put-behind", "zipf", cpus)) }) {
		return nil
	}

	o.MaxDelay = 100 * time.Millisecond
	if h.d, err = openDB(newDiscard(), o); err != nil {
		return err
	}
	if err := h.behind(ids); err != nil {
		return err
	}
	return closeDB(h.d)
}

func (h *hot) get(seq keys) func(from, to int) error {
	return func(from, to int) error {
		ctx := context.Background()
		for i := from; i < to; i++ {
			if _, err := h.d.Get(ctx, seq.at(i)); err != nil {
				return err
			}
		}
		return nil
	}
}

func (h *hot) load(seq keys) func(from, to int) error {
	return func(from, to int) error {
		for i := from; i < to; i++ {
			if _, ok := h.m.Load(seq.at(i)); !ok {
				return fmt.Errorf("%s is not there", seq.at(i))
			}
		}
		return nil
	}
}

func (h *hot) put(seq keys) func(from, to int) error {
	return func(from, to int) error {
		ctx := context.Background()
		for i := from; i < to; i++ {
			if err := h.d.Put(ctx, seq.at(i), valueOf(i)); err != nil {
				return err
			}
		}
		return nil
	}
}

func (h *hot) store(seq keys) func(from, to int) error {
	return func(from, to int) error {
		for i := from; i < to; i++ {
			h.m.Store(seq.at(i), valueOf(i))
		}
		return nil
	}
}

// compare measures a row of each number of processors. before, if any, is not timed.
func (h *hot) compare(what, how string, before func() error, ours, bare func(seq keys) func(from, to int) error) error {
	for _, cpus := range h.cpus {
		name := rowOf(what, how, cpus)
		if !h.wants(name) {
			continue
		}
		var seq keys
		drawn := -1
		prepare := func(round int) error {
			if drawn != round {
				seq, drawn = h.draw(how, h.ops, h.sessions), round
			}
			if before == nil {
				return nil
			}
			return before()
		}
		pairs, err := h.alternate(name, prepare,
			func() (float64, error) { return parallel(cpus, seq.len(), ours(seq)) },
			func() (float64, error) { return parallel(cpus, seq.len(), bare(seq)) })
		if err != nil {
			return err
		}
		h.reportPairs(name, pairs, "")
	}
	return nil
}

func (h *hot) gets() error {
	for _, d := range distributions {
		if err := h.compare("get", d, nil, h.get, h.load); err != nil {
			return err
		}
	}
	return nil
}

func (h *hot) cleanPuts() error {
	return h.compare("put-clean", "shuffled", h.flush, h.put, h.store)
}

func (h *hot) flush() error { return h.d.Flush(context.Background()) }

func (h *hot) dirtyPuts() error {
	if err := h.put(h.draw("shuffled", 0, h.sessions))(0, h.sessions); err != nil { // now all are dirty, and stay it
		return err
	}
	for _, d := range distributions {
		if err := h.compare("put-dirty", d, nil, h.put, h.store); err != nil {
			return err
		}
	}
	return nil
}

func (h *hot) behind(ids []string) error {
	if err := fill(h.d, ids); err != nil {
		return err
	}
	// The flush before a turn is that of the last window: it is not to disturb the bare map.
	return h.compare("put-behind", "zipf", h.flush, h.put, h.store)
}

// allocs counts. Whatever else the process allocates meanwhile can only add: the least of the
// rounds is the answer.
func (h *hot) allocs() error {
	const name = "get-allocs"
	if !h.wants(name) {
		return nil
	}
	seq := h.draw("zipf", h.ops, h.sessions)
	least := uint64(1 << 62)
	for range max(h.rounds, 3) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := h.get(seq)(0, seq.len()); err != nil {
			return err
		}
		runtime.ReadMemStats(&after)
		least = min(least, after.Mallocs-before.Mallocs)
	}
	h.report(name, []float64{float64(least) / float64(seq.len())}, fmt.Sprintf("%d allocations in %d Gets", least, seq.len()))
	return nil
}
