package main

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// This file measures what is done inside a session beside a Session.Put of an entry that is there, on the same sessions: all are resident, and dirty.

func insideRows(*config) []spec {
	return []spec{
		{"queue", "Queue.PushBack and PopFront of a value; bare: Session.Put", "×", "≤", 2},
		{"queue/long", "likewise, with a thousand values in each queue", "×", "≤", 2},
		{"cas", "Session.CompareAndSwap with the version of the last one; bare: Session.Put", "×", "≤", 1.3},
		{"counter", "Session.Add; bare: Session.Put", "×", "", 0},
	}
}

func runInside(r *runner) error {
	for _, s := range insideRows(r.config) {
		if r.wants(s.name) {
			if err := runInsideRow(r, s.name); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

func runInsideRow(r *runner, name string) error {
	sessions, ops := r.pick(1000, 10), r.pick(400_000, 1000)
	ctx := context.Background()
	d, err := openDB(discard{memory.New()}, options())
	if err != nil {
		return err
	}
	value, err := encodedValue(valueOf(0))
	if err != nil {
		return err
	}
	handles := make([]*kvstore.Session[[]byte], sessions)
	queues := make([]*kvstore.Queue[[]byte], sessions)
	versions := make([]kvstore.Version, sessions)
	for i := range handles {
		if handles[i], err = d.Create(ctx, fmt.Sprintf("session-%d", i)); err != nil {
			return err
		}
		queues[i] = handles[i].Queue("jobs")
		for range map[bool]int{true: r.pick(1000, 10)}[name == "queue/long"] {
			if err := queues[i].PushBack(ctx, value); err != nil {
				return err
			}
		}
		if err := handles[i].Put(ctx, "k", value); err != nil {
			return err
		}
		if versions[i], err = handles[i].CompareAndSwap(ctx, "cas", kvstore.Version{}, value, kvstore.InMemory); err != nil {
			return err
		}
	}
	timed := func(op func(i int) error) func() (float64, error) {
		return func() (float64, error) {
			start := time.Now()
			for n := range ops {
				if err := op(n % sessions); err != nil {
					return 0, err
				}
			}
			return float64(time.Since(start)) / float64(ops), nil
		}
	}
	ours := map[string]func(i int) error{
		"queue": func(i int) error {
			if err := queues[i].PushBack(ctx, value); err != nil {
				return err
			}
			_, err := queues[i].PopFront(ctx)
			return err
		},
		"cas": func(i int) (err error) {
			versions[i], err = handles[i].CompareAndSwap(ctx, "cas", versions[i], value, kvstore.InMemory)
			return err
		},
		"counter": func(i int) error {
			_, err := handles[i].Add(ctx, "n", 1, kvstore.InMemory)
			return err
		},
	}
	ours["queue/long"] = ours["queue"]
	pairs, err := r.alternate(name, nil, timed(ours[name]), timed(func(i int) error { return handles[i].Put(ctx, "k", value) }))
	if err != nil {
		return err
	}
	r.reportPairs(name, pairs, fmt.Sprintf("%d sessions", sessions))
	return closeDB(d)
}
