package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/maypok86/otter/v2"
	gocache "github.com/patrickmn/go-cache"

	"github.com/seed-6f1f505d/kvstore/store/bolt"
)

// This file measures the whole library, which stores what it is given in a bbolt file every 100 ms, fsync on, beside caches that store nothing: what a program
// could have in its place if it did not care for its state. All hold all sessions, and none ever evicts one.

const mixDelay = 100 * time.Millisecond

// peer is a cache with all sessions in it.
type peer interface {
	get(id string) bool
	set(id string, v []byte) bool
	close()
}

// peers are those that are always there. Olric is with the tag peers, as in make bench: with all that it brings it takes longer to check than all of bench.
var peers = []struct {
	name string
	open func(sessions int) (peer, error)
}{
	{"go-cache", newGoCache},
	{"otter", newOtter},
	{"ristretto", newRistretto},
}

func mixRow(peer string) string { return "mix/" + peer }

func mixRows(c *config) (rows []spec) {
	for _, p := range peers {
		rows = append(rows, spec{mixRow(p.name), fmt.Sprintf("nine DB.Get and a DB.Put, zipf, %d processors, flushed into bbolt every %v; bare: the same of %s, which stores nothing", c.cores(), mixDelay, p.name), "×", "≤", 1})
	}
	return rows
}

func runMix(r *runner) error {
	dir, remove, err := r.tempDir()
	if err != nil {
		return err
	}
	defer remove()
	st, err := bolt.Open(file(dir, "mix"), nil)
	if err != nil {
		return err
	}
	o := options()
	o.MaxDelay = mixDelay
	d, err := openDB(st, o)
	if err != nil {
		return err
	}
	ids := makeIDs(r.sessions)
	if err := populate(d, ids); err != nil {
		return err
	}
	for _, p := range peers {
		if !r.wants(mixRow(p.name)) {
			continue
		}
		if err := r.mix(d, mixRow(p.name), ids, p.open); err != nil {
			return fmt.Errorf("%s: %w", mixRow(p.name), err)
		}
		runtime.GC()
	}
	return errors.Join(closeDB(d), st.Close())
}

func (r *runner) mix(d *db, name string, ids []string, open func(int) (peer, error)) error {
	p, err := open(len(ids))
	if err != nil {
		return err
	}
	defer p.close()
	for i, id := range ids {
		if !p.set(id, valueOf(i)) {
			return fmt.Errorf("it does not take session %d of %d", i, len(ids))
		}
	}
	ctx, ops := context.Background(), r.pick(2*r.sessions, r.sessions)
	var seq keys
	drawn := -1
	prepare := func(round int) error {
		if drawn != round {
			seq, drawn = r.draw("zipf", ops, r.sessions), round
		}
		return d.Flush(ctx) // the last window is not to disturb who is next
	}
	pairs, err := r.alternate(name, prepare, func() (float64, error) {
		return parallel(r.cores(), ops, func(from, to int) (err error) {
			for i := from; i < to && err == nil; i++ {
				if i%10 == 9 {
					err = d.Put(ctx, seq.at(i), valueOf(i))
				} else {
					_, err = d.Get(ctx, seq.at(i))
				}
			}
			return err
		})
	}, func() (float64, error) {
		return parallel(r.cores(), ops, func(from, to int) error {
			for i := from; i < to; i++ {
				ok := true
				if i%10 == 9 {
					ok = p.set(seq.at(i), valueOf(i))
				} else {
					ok = p.get(seq.at(i))
				}
				if !ok {
					return fmt.Errorf("%s is not there, or was not taken", seq.at(i))
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	r.reportPairs(name, pairs, fmt.Sprintf("%d sessions", r.sessions))
	return nil
}

// goCache is github.com/patrickmn/go-cache: a map under one lock.
type goCache struct{ *gocache.Cache }

func newGoCache(int) (peer, error) { return goCache{gocache.New(gocache.NoExpiration, 0)}, nil }

func (c goCache) get(id string) bool {
	v, ok := c.Get(id)
	return ok && len(v.([]byte)) == valueSize
}

func (c goCache) set(id string, v []byte) bool {
	c.Set(id, v, gocache.NoExpiration)
	return true
}

func (goCache) close() {}

// otterCache is github.com/maypok86/otter/v2 without a bound: no policy has to be kept up.
type otterCache struct{ *otter.Cache[string, []byte] }

func newOtter(sessions int) (peer, error) {
	c, err := otter.New(&otter.Options[string, []byte]{InitialCapacity: sessions})
	return otterCache{c}, err
}

func (c otterCache) get(id string) bool {
	v, ok := c.GetIfPresent(id)
	return ok && len(v) == valueSize
}

func (c otterCache) set(id string, v []byte) bool {
	c.Set(id, v)
	return true
}

func (c otterCache) close() { c.StopAllGoroutines() }

// ristrettoCache is github.com/dgraph-io/ristretto/v2, with room for twice as many. It drops what it is given in a hurry; how much, nobody is told: so a Get may
// miss, and a Set be refused.
type ristrettoCache struct {
	*ristretto.Cache[string, []byte]
}

func newRistretto(sessions int) (peer, error) {
	c, err := ristretto.NewCache(&ristretto.Config[string, []byte]{NumCounters: int64(10 * sessions), MaxCost: int64(2 * sessions), BufferItems: 64, IgnoreInternalCost: true})
	return ristrettoCache{c}, err
}

func (c ristrettoCache) get(id string) bool {
	c.Get(id)
	return true
}

func (c ristrettoCache) set(id string, v []byte) bool {
	c.Set(id, v, 1)
	return true
}

func (c ristrettoCache) close() { c.Close() }
