package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
)

// This file does not measure time: it counts what the store was asked to write, and compares it with
// what it should have been.

func coalesceRows(*config) []spec {
	return []spec{
		{"coalesce/exact", "entries written, over distinct keys changed in each window, summed; each window ends with DB.Flush", "×", "≤", 1},
		{"coalesce/timed", "entries written, over keys × windows; windows end by themselves, every MaxDelay", "×", "≤", 1},
	}
}

// counter counts the entries that it is given.
type counter struct {
	discard
	puts atomic.Int64
}

func (c *counter) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	for i := range changes {
		c.puts.Add(int64(len(changes[i].Puts)))
	}
	return c.discard.Apply(ctx, changes)
}

var entryKeys = []string{"", "leg/1", "leg/2", "timer"}

func runCoalesce(r *runner) error {
	for _, row := range []struct {
		name string
		run  func(r *runner) error
	}{{"coalesce/exact", coalesceExact}, {"coalesce/timed", coalesceTimed}} {
		if !r.wants(row.name) {
			continue
		}
		if err := row.run(r); err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
	}
	return nil
}

// open makes a DB on c with some sessions, and returns a func that puts under key i of the four that each session has.
func (c *counter) open(o kvstore.Options, sessions int) (*db, func(i int) error, error) {
	ctx := context.Background()
	d, err := openDB(c, o)
	if err != nil {
		return nil, nil, err
	}
	handles := make([]*kvstore.Session[[]byte], sessions)
	for i := range handles {
		if handles[i], err = d.AdoptOrCreate(ctx, idOf(i)); err != nil {
			return nil, nil, err
		}
	}
	return d, func(i int) error {
		return handles[i/len(entryKeys)].Put(ctx, entryKeys[i%len(entryKeys)], valueOf(i))
	}, nil
}

func coalesceExact(r *runner) error {
	sessions, windows := r.pick(10_000, 500), r.pick(20, 5)
	distinct := sessions * len(entryKeys)
	c := &counter{discard: newDiscard()}
	d, put, err := c.open(options(), sessions)
	if err != nil {
		return err
	}
	rng := newRand(40)
	bound, changes := 0, 0
	for range windows {
		touched := map[int]bool{}
		for range 3 * distinct {
			i := rng.IntN(distinct)
			touched[i] = true
			changes++
			if err := put(i); err != nil {
				return err
			}
		}
		if err := d.Flush(context.Background()); err != nil {
			return err
		}
		bound += len(touched)
	}
	r.report("coalesce/exact", []float64{float64(c.puts.Load()) / float64(bound)},
		fmt.Sprintf("%d puts, %d written, %d distinct keys in their windows", changes, c.puts.Load(), bound))
	return closeDB(d)
}

func coalesceTimed(r *runner) error {
	const distinct = 400
	o := options()
	o.MaxDelay = 20 * time.Millisecond
	length := time.Duration(r.pick(3000, 200)) * time.Millisecond
	var samples []float64
	var note string
	for range r.rounds {
		c := &counter{discard: newDiscard()}
		d, put, err := c.open(o, distinct/len(entryKeys))
		if err != nil {
			return err
		}
		start := time.Now()
		changes := 0
		for ; time.Since(start) < length; changes++ {
			if err := put(changes % distinct); err != nil {
				return err
			}
		}
		if err := d.Flush(context.Background()); err != nil {
			return err
		}
		// A window ends MaxDelay after its first change; Flush ends one more.
		windows := int((time.Since(start)+o.MaxDelay-1)/o.MaxDelay) + 1
		samples = append(samples, float64(c.puts.Load())/float64(distinct*windows))
		note = fmt.Sprintf("%d puts, %d written, at most %d keys × %d windows", changes, c.puts.Load(), distinct, windows)
		if err := closeDB(d); err != nil {
			return err
		}
	}
	r.report("coalesce/timed", samples, note)
	return nil
}
