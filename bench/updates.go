package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
)

// This file measures how many updates a second a program makes that are not lost: with the DB those that it takes while its lag stays within lagBound, and
// those that are stored when they return; and with what programs do without it, a transaction for each. On either side many goroutines do so at a time, as a
// server has them.

const (
	updaters = 64
	lagBound = 100 * time.Millisecond
)

func updateRows(*config) []spec {
	const bare = "; bare: bbolt, an Update of as many bytes for each"
	return []spec{
		{"updates/bbolt", fmt.Sprintf("DB.Put by %d goroutines, zipf, stored in bbolt with a lag of at most %v", updaters, lagBound) + bare, "× rate", "≥", 100},
		{"sync/bbolt", fmt.Sprintf("Session.Put and Sync by %d goroutines, zipf", updaters) + bare, "× rate", "≥", 10},
	}
}

func runUpdates(r *runner) error {
	for _, s := range updateRows(r.config) {
		if r.wants(s.name) {
			if err := runUpdatesRow(r, s.name); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

func runUpdatesRow(r *runner, name string) error {
	n, length := r.pick(min(200_000, r.sessions), 2000), time.Duration(r.pick(2000, 50))*time.Millisecond
	dir, remove, err := r.tempDir()
	if err != nil {
		return err
	}
	defer remove()
	ids := makeIDs(n)
	b, err := openBare(file(dir, "bare"), false)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := bareRecords(b, n, append(slices.Clone(values[0]), make([]byte, 40)...)); err != nil {
		return err
	}
	seq := r.draw("zipf", 1<<20, n)
	bareOne := func(i int) error {
		return b.Update(func(tx *bbolt.Tx) error {
			return tx.Bucket(bareBucket).Put([]byte(seq.at(i)), valueOf(i))
		})
	}
	if name == "sync/bbolt" {
		return r.syncs(name, dir, ids, seq, length, bareOne)
	}

	// What may wait in the buffer bounds the lag. How much that may be depends on the disk: it is found out, before anything is measured.
	for room := int64(64 << 20); ; room /= 2 {
		u, err := newUpdates(file(dir, fmt.Sprint("ours", room)), ids, room)
		if err != nil {
			return err
		}
		if _, err := u.run(seq, length); err != nil {
			return err
		}
		if worst := u.worst.Load(); worst > int64(lagBound)*3/4 && room > 64<<10 {
			if err := u.close(); err != nil {
				return err
			}
			continue
		}
		u.worst.Store(0)
		pairs, err := r.alternate(name, func(int) error { return u.d.Flush(context.Background()) }, func() (float64, error) { return u.run(seq, length) },
			func() (float64, error) { return during(length, seq.len(), bareOne) })
		if err != nil {
			return err
		}
		r.reportPairs(name, pairs, fmt.Sprintf("MaxBuffer %d kB; the lag was at most %v", room>>10, time.Duration(u.worst.Load()).Round(time.Millisecond)))
		return u.close()
	}
}

// updates is a DB over a bbolt file, and the greatest lag that it had.
type updates struct {
	d     *db
	st    *bolt.Store
	worst atomic.Int64
}

func newUpdates(path string, ids []string, room int64) (*updates, error) {
	st, err := bolt.Open(path, nil)
	if err != nil {
		return nil, err
	}
	o := options()
	o.MaxDelay, o.MaxBuffer, o.Overflow = lagBound/10, room, kvstore.Block
	d, err := openDB(st, o)
	if err != nil {
		return nil, err
	}
	return &updates{d: d, st: st}, populate(d, ids)
}

func (u *updates) close() error {
	if err := closeDB(u.d); err != nil {
		return err
	}
	return u.st.Close()
}

// run puts for so long, and returns the nanoseconds for one.
func (u *updates) run(seq keys, length time.Duration) (float64, error) {
	over := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Millisecond):
				u.worst.Store(max(u.worst.Load(), int64(u.d.Stats().Lag)))
			}
		}
	})
	ctx := context.Background()
	ns, err := during(length, seq.len(), func(i int) error { return u.d.Put(ctx, seq.at(i), valueOf(i)) })
	close(over)
	watch.Wait()
	return ns, err
}

func (r *runner) syncs(name, dir string, ids []string, seq keys, length time.Duration, bareOne func(i int) error) error {
	u, err := newUpdates(file(dir, "ours"), ids, 64<<20)
	if err != nil {
		return err
	}
	ctx, handles := context.Background(), map[string]*kvstore.Session[[]byte]{}
	for _, id := range ids {
		if handles[id], err = u.d.Session(ctx, id); err != nil {
			return err
		}
	}
	pairs, err := r.alternate(name, nil, func() (float64, error) {
		return during(length, seq.len(), func(i int) error {
			h := handles[seq.at(i)]
			if err := h.Put(ctx, "", valueOf(i)); err != nil {
				return err
			}
			return h.Sync(ctx)
		})
	}, func() (float64, error) { return during(length, seq.len(), bareOne) })
	if err != nil {
		return err
	}
	r.reportPairs(name, pairs, "")
	return u.close()
}

// during has updaters do things for so long, the i-th of them f(i), modulo n, and returns the nanoseconds for one, by the clock on the wall.
func during(length time.Duration, n int, f func(i int) error) (float64, error) {
	var done atomic.Int64
	errs := make(chan error, updaters)
	start := time.Now()
	for g := range updaters {
		go func() {
			i, count := g, 0
			var err error
			for ; err == nil && time.Since(start) < length; count++ {
				err = f(i % n)
				i += updaters
			}
			done.Add(int64(count))
			errs <- err
		}()
	}
	var err error
	for range updaters {
		if e := <-errs; e != nil {
			err = e
		}
	}
	return float64(time.Since(start)) / float64(done.Load()), err
}
