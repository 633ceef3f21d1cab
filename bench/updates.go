package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
)

// This file measures how many updates a second a program makes that are not lost: with the DB those that it takes while its lag stays within lagBound, and
// those that are stored when they return; and with what programs do without it, a transaction or a round trip for each. On either side many goroutines do so at a
// time, as a server has them.

const (
	updaters = 64
	lagBound = 100 * time.Millisecond
)

// updatePeer is what programs have in place of the DB, on an engine that the DB can store in, too.
type updatePeer struct {
	name   string
	engine string // that of both sides
	bare   string // what it does for each update
	open   func(r *runner, dir string, ids []string) (*updateEngine, error)
}

// updateEngine is an engine with the peer's sessions in it.
type updateEngine struct {
	store func(name string) (store.Store, error) // a new one for ours
	bare  func(id string, v []byte) error        // one update of the peer's
	close func() error
}

// updatePeers are those that are always there. Those with a server and a client are with the tag peers.
var updatePeers = []updatePeer{{"bbolt", "bbolt", "bbolt, an Update of as many bytes for each", openBoltEngine}}

func updateRows(*config) (rows []spec) {
	for _, p := range updatePeers {
		rows = append(rows, spec{"updates/" + p.name, fmt.Sprintf("DB.Put by %d goroutines, zipf, stored in %s with a lag of at most %v, 99 times of 100; bare: %s",
			updaters, p.engine, lagBound, p.bare), "× rate", "≥", 100})
	}
	return append(rows, spec{"sync/bbolt", fmt.Sprintf("Session.Put and Sync by %d goroutines, zipf; bare: %s", updaters, updatePeers[0].bare), "× rate", "≥", 10})
}

func runUpdates(r *runner) error {
	for _, p := range updatePeers {
		if err := r.withEngine("updates/"+p.name, p, r.updates); err != nil {
			return err
		}
	}
	return r.withEngine("sync/bbolt", updatePeers[0], r.syncs)
}

// withEngine measures a row by f, with sessions in the peer's engine.
func (r *runner) withEngine(name string, p updatePeer, f func(name string, e *updateEngine, ids []string, length time.Duration) error) error {
	if !r.wants(name) {
		return nil
	}
	n, length := r.pick(min(200_000, r.sessions), 2000), time.Duration(r.pick(2000, 50))*time.Millisecond
	dir, remove, err := r.tempDir()
	if err != nil {
		return err
	}
	defer remove()
	ids := makeIDs(n)
	e, err := p.open(r, dir, ids)
	if errors.Is(err, errMissing) {
		return r.skip(name, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := errors.Join(f(name, e, ids, length), e.close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// openBoltEngine makes a bbolt file with the sessions, and other files for ours beside it.
func openBoltEngine(_ *runner, dir string, ids []string) (*updateEngine, error) {
	b, err := openBare(file(dir, "bare"), false)
	if err != nil {
		return nil, err
	}
	if err := bareRecords(b, len(ids), append(slices.Clone(values[0]), make([]byte, 40)...)); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return &updateEngine{
		store: func(name string) (store.Store, error) { return bolt.Open(file(dir, name), nil) },
		bare: func(id string, v []byte) error {
			return b.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bareBucket).Put([]byte(id), v) })
		},
		close: b.Close,
	}, nil
}

func (r *runner) updates(name string, e *updateEngine, ids []string, length time.Duration) error {
	seq := r.draw("zipf", 1<<20, len(ids))
	// What may wait in the buffer bounds the lag. How much that may be depends on the disk: it is found out, before anything is measured. A busy disk takes its
	// time once in a while, however little waits: so it goes by what holds 99 times of 100, with some to spare.
	const most, least, aim = 64 << 20, 64 << 10, float64(lagBound) * 0.6
	var u *updates
	good, bad := int64(least), int64(most) // the largest that was found to do, or the least there is; the smallest that was not
	for room := bad; ; {
		one, err := newUpdates(e, fmt.Sprint("ours", room), ids, room)
		if err != nil {
			return err
		}
		if _, err := one.run(seq, length); err != nil {
			return err
		}
		lag := one.lag.quantile(0.99)
		if lag <= aim || room == least {
			one, u = u, one
			good = room
		} else {
			bad = room
		}
		if one != nil {
			if err := one.close(); err != nil {
				return err
			}
		}
		if u != nil && (good == most || float64(bad) < 1.4*float64(good)) {
			break
		}
		room = int64(math.Sqrt(float64(good) * float64(bad)))
		if u == nil && room < 2*least {
			room = least
		}
	}
	u.lag, u.worst = new(histogram), 0
	pairs, err := r.alternate(name, func(int) error { return u.d.Flush(context.Background()) }, func() (float64, error) { return u.run(seq, length) },
		func() (float64, error) {
			return during(length, seq.len(), func(i int) error { return e.bare(seq.at(i), valueOf(i)) })
		})
	if err != nil {
		return err
	}
	r.reportPairs(name, pairs, fmt.Sprintf("MaxBuffer %d kB; the lag was %v 99 times of 100, and at most %v", good>>10,
		time.Duration(u.lag.quantile(0.99)).Round(time.Millisecond), u.worst.Round(time.Millisecond)))
	return u.close()
}

// updates is a DB and its store, and the lag that it had, each millisecond.
type updates struct {
	d     *db
	st    store.Store
	lag   *histogram
	worst time.Duration
}

func newUpdates(e *updateEngine, name string, ids []string, room int64) (*updates, error) {
	st, err := e.store(name)
	if err != nil {
		return nil, err
	}
	o := options()
	o.MaxDelay, o.MaxBuffer, o.Overflow = lagBound/10, room, kvstore.Block
	d, err := openDB(st, o)
	if err != nil {
		return nil, err
	}
	return &updates{d: d, st: st, lag: new(histogram)}, populate(d, ids)
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
		next := time.Now()
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Until(next)):
				lag, now := u.d.Stats().Lag, time.Now()
				u.worst = max(u.worst, lag)
				for ; !next.After(now); next = next.Add(time.Millisecond) { // who comes late finds what grew with the time that he missed
					u.lag.add(lag - now.Sub(next))
				}
			}
		}
	})
	ctx := context.Background()
	ns, err := during(length, seq.len(), func(i int) error { return u.d.Put(ctx, seq.at(i), valueOf(i)) })
	close(over)
	watch.Wait()
	return ns, err
}

func (r *runner) syncs(name string, e *updateEngine, ids []string, length time.Duration) error {
	seq := r.draw("zipf", 1<<20, len(ids))
	u, err := newUpdates(e, "ours", ids, 64<<20)
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
	}, func() (float64, error) {
		return during(length, seq.len(), func(i int) error { return e.bare(seq.at(i), valueOf(i)) })
	})
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
