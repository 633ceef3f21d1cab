package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/puzpuzpuz/xsync/v4"
)

// This file measures what a session costs that nobody touches: memory, and the
// collector's time.

func memoryRows(*config) []spec {
	const about = "heap for each clean session of one entry, above its ID and value; "
	return []spec{
		{"memory/put", about + "made by DB.Put, flushed by itself", "B", "≤", 160},
		{"memory/create", about + "made by DB.Create, flushed by itself", "B", "≤", 160},
		{"memory/flush", about + "made by DB.Put, flushed by DB.Flush", "B", "≤", 160},
		{"memory/bare", "the same in a bare xsync map", "B", "", 0},
	}
}

func runMemory(r *runner) error {
	vals := make([][]byte, r.sessions)
	for i := range vals {
		vals[i] = make([]byte, valueSize)
	}
	for _, s := range memoryRows(r.config) {
		if !r.wants(s.name) {
			continue
		}
		var samples []float64
		for range min(r.rounds, 3) { // it is always the same, but for the map's growth
			before := heap()
			keep, done, err := build(s.name, vals)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			// The values were there before; the slice that names the value was not, and is part of it. The ID, too: one side keeps
			// the one that it was given, the other a copy.
			samples = append(samples, float64(heap()-before)/float64(len(vals))-24-idSize)
			runtime.KeepAlive(keep)
			if err := done(); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		r.report(s.name, samples, "")
	}
	runtime.KeepAlive(vals)
	return nil
}

// heap returns the bytes of all that is reachable.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first found to be finalized
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// build makes the sessions in the way of a row.
func build(row string, vals [][]byte) (keep any, done func() error, err error) {
	if row == "memory/bare" {
		m := xsync.NewMap[string, []byte]()
		for i, v := range vals {
			m.Store(idOf(i), v)
		}
		return m, func() error { return nil }, nil
	}
	ctx := context.Background()
	o := options()
	if row != "memory/flush" {
		o.MaxDelay = 50 * time.Millisecond
	}
	d, err := openDB(newDiscard(), o)
	if err != nil {
		return nil, nil, err
	}
	for i, v := range vals {
		id := idOf(i)
		if row == "memory/create" {
			_, err = d.Create(ctx, id)
		}
		if err == nil {
			err = d.Put(ctx, id, v)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if row == "memory/flush" {
		err = d.Flush(ctx)
	} else {
		waitClean(d)
	}
	return d, func() error { return closeDB(d) }, err
}

func gcRows(*config) []spec {
	const about = "processor time of one garbage collection with 5 × -sessions, clean, "
	return []spec{
		{"gc/put", about + "flushed by themselves; bare: an xsync map", "×", "≤", 1.3},
		{"gc/flush", about + "flushed by DB.Flush; bare: an xsync map", "×", "≤", 1.3},
	}
}

// runGC measures by turns: each side is built, collected a few times, and dropped before the next is built. How long the
// collector takes for the very same objects depends on where in memory they came to lie, and on who else uses the
// machine's memory: by a factor of three on a shared one.
func runGC(r *runner) error {
	n := 5 * r.sessions
	took := map[string]*collected{}
	for range min(r.rounds, 3) { // each takes a minute
		for _, side := range []string{"bare", "gc/put", "gc/flush"} {
			if side != "bare" && !r.wants(side) {
				continue
			}
			debug.FreeOSMemory()
			one, err := gcSide(side, n)
			if err != nil {
				return fmt.Errorf("%s: %w", side, err)
			}
			if took[side] == nil {
				took[side] = new(collected)
			}
			took[side].add(one)
		}
	}
	bare := took["bare"]
	for _, s := range gcRows(r.config) {
		if !r.wants(s.name) {
			continue
		}
		ours := took[s.name]
		var pairs []pair
		for i := range ours.runtime {
			pairs = append(pairs, pair{ours.runtime[i], bare.runtime[i]})
		}
		r.reportPairs(s.name, pairs, fmt.Sprintf("%d sessions; %s", n, ours.over(*bare)))
	}
	return nil
}

// gcSide builds n sessions and collects.
func gcSide(side string, n int) (collected, error) {
	if side == "bare" {
		m := xsync.NewMap[string, []byte]()
		for i := range n {
			m.Store(idOf(i), make([]byte, valueSize))
		}
		c := collections()
		runtime.KeepAlive(m)
		return c, nil
	}
	ctx, flush := context.Background(), side == "gc/flush"
	o := options()
	if !flush {
		o.MaxDelay = 50 * time.Millisecond
	}
	d, err := openDB(newDiscard(), o)
	if err != nil {
		return collected{}, err
	}
	for i := range n {
		if err := d.Put(ctx, idOf(i), make([]byte, valueSize)); err != nil {
			return collected{}, err
		}
		if flush && i%100_000 == 0 { // the queue need not hold them all
			if err := d.Flush(ctx); err != nil {
				return collected{}, err
			}
		}
	}
	if flush {
		err = d.Flush(ctx)
	} else {
		waitClean(d)
	}
	if err != nil {
		return collected{}, err
	}
	return collections(), closeDB(d)
}

// collected is the nanoseconds of processor time that each run of the collector took.
type collected struct {
	runtime []float64 // as package runtime estimates it: too much where others want the processors, too
	system  []float64 // as the system counted it, for the whole process, which does nothing else; empty if it does not tell
}

// over says what the ratio is by the system's account.
func (c collected) over(bare collected) string {
	if len(c.system) == 0 || len(bare.system) == 0 {
		return "no other account"
	}
	ours, theirs := median(c.system), median(bare.system)
	return fmt.Sprintf("by the system's account %s × (%s, %s)", number(ours/theirs), duration(ours), duration(theirs))
}

func (c *collected) add(d collected) {
	c.runtime = append(c.runtime, median(d.runtime))
	if len(d.system) > 0 {
		c.system = append(c.system, median(d.system))
	}
}

// collections runs the collector a few times.
func collections() (c collected) {
	sample := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
	spent := func() float64 {
		metrics.Read(sample)
		return sample[0].Value.Float64() * 1e9
	}
	runtime.GC() // sweeps what building left
	for range 3 {
		before := spent()
		began, ok := processTime()
		runtime.GC()
		ended, _ := processTime()
		c.runtime = append(c.runtime, spent()-before)
		if ok {
			c.system = append(c.system, ended-began)
		}
	}
	return c
}
