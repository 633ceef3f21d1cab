package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"
)

// This file measures what it costs that sessions expire: memory for each, and the processor's time while nothing is due.

func expiryRows(*config) []spec {
	return []spec{
		{"expiry/armed", "heap for each expiry of a clean session, above the session", "B", "≤", 100},
		{"expiry/waiting", "processor time of a node with so many expiries of which none is due, its other goroutines included, of one core", "%", "≤", 1},
	}
}

func runExpiry(r *runner) error {
	ids := makeIDs(r.sessions)
	d, err := openDB(newDiscard(), options())
	if err != nil {
		return err
	}
	ctx := context.Background()
	for _, id := range ids {
		if err := d.Put(ctx, id, []byte(id)); err != nil {
			return err
		}
	}
	if err := d.Flush(ctx); err != nil {
		return err
	}
	before := heap()
	for i, id := range ids {
		s, err := d.Session(ctx, id)
		if err == nil {
			err = s.ExpireAfter(ctx, time.Hour+time.Duration(i*7919%3_600_000)*time.Millisecond) // any time of the hour after the next
		}
		if err != nil {
			return err
		}
	}
	if err := d.Flush(ctx); err != nil {
		return err
	}
	waitClean(d)
	if r.wants("expiry/armed") {
		r.report("expiry/armed", []float64{float64(heap()-before) / float64(len(ids))}, fmt.Sprintf("%d expiries", len(ids)))
	}
	if r.wants("expiry/waiting") {
		var samples []float64
		span := time.Duration(r.pick(5000, 200)) * time.Millisecond
		debug.FreeOSMemory() // what the loading left would be given back to the system bit by bit, in the time that is measured
		for range min(r.rounds, 3) {
			start := time.Now()
			cpu, ok := processTime()
			time.Sleep(span)
			after, _ := processTime()
			if !ok {
				return fmt.Errorf("expiry/waiting: this system does not tell the time that a process has used")
			}
			samples = append(samples, 100*(after-cpu)/float64(time.Since(start)))
		}
		r.report("expiry/waiting", samples, fmt.Sprintf("%d expiries", len(ids)))
	}
	runtime.KeepAlive(ids)
	return closeDB(d)
}
