package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
)

// This file measures DB.Preload after a restart: all sessions of a file are claimed, decoded, and in memory. The bare program has
// as many records, as large, in a bbolt file, reads them all with a cursor, decodes each, and has it in a map. It writes nothing, while
// ours writes every record, with its name and a new epoch: beside a bare scan its rate is that of a write over that of a read. To own what it
// has read, the bare program would have to write its name in each record, too: so it does in the rows that are called owned. The rows here are
// without fsync, what it costs beside the disk; with it they are called failover/all.

const (
	aboutPreload = "DB.Preload of all sessions of a bbolt file whose owner is dead; bare: "
	aboutScan    = "a cursor over as many records, which decodes them"
	aboutOwn     = "likewise, and writes its name in each, 1024 in a transaction"
)

func preloadRows(*config) []spec {
	return []spec{
		{"preload/nosync", aboutPreload + aboutScan + "; ours without fsync", "× rate", "", 0},
		{"preload/owned/nosync", aboutPreload + aboutOwn + "; both without fsync", "× rate", "", 0},
	}
}

func runPreload(r *runner) error {
	for _, s := range preloadRows(r.config) {
		if !r.wants(s.name) {
			continue
		}
		if err := runPreloadRow(r, s.name, s.name == "preload/owned/nosync"); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func runPreloadRow(r *runner, name string, owned bool) error {
	dir, remove, err := r.tempDir()
	if err != nil {
		return err
	}
	defer remove()
	e, err := newEstate(dir, r.pick(200_000, 2000), true)
	if err != nil {
		return err
	}
	defer e.close()
	pairs, err := r.alternate(name, nil, e.preload, func() (float64, error) { return e.scan(owned) })
	if err != nil {
		return err
	}
	r.reportPairs(name, pairs, e.String())
	return nil
}

// estate is what a dead owner has left: sessions in a file of ours, and as many records in one of bare bbolt's.
type estate struct {
	st   *bolt.Store
	b    *bbolt.DB
	n    int
	size int // encoded bytes of a session's value
}

func newEstate(dir string, n int, noSync bool) (*estate, error) {
	value, err := encodedValue(valueOf(0))
	if err != nil {
		return nil, err
	}
	e := &estate{n: n, size: len(value)}
	if e.st, err = bolt.Open(file(dir, "ours"), &bolt.Options{NoSync: noSync}); err != nil {
		return nil, err
	}
	if e.b, err = openBare(file(dir, "bare"), noSync); err != nil {
		return nil, err
	}
	if err := orphans(e.st, n, value); err != nil {
		return nil, err
	}
	return e, bareRecords(e.b, n, append(value, make([]byte, 40)...)) // owner, epoch, seq, checksum
}

func (e *estate) close() {
	e.st.Close()
	e.b.Close()
}

func (e *estate) String() string { return fmt.Sprintf("%d sessions of %d bytes", e.n, e.size) }

// preload has another incarnation bring all in, and returns the nanoseconds for one. What an earlier one had is nobody's.
func (e *estate) preload() (float64, error) {
	d, err := openDB(e.st, options())
	if err != nil {
		return 0, err
	}
	start := time.Now()
	p, err := d.Preload(context.Background(), kvstore.Preload{Share: kvstore.Unowned, Rate: math.MaxInt32, InFlight: 16 << 10})
	if err != nil {
		return 0, err
	}
	done, err := p.Wait(context.Background())
	ns := float64(time.Since(start)) / float64(e.n)
	if err == nil && (done.Adopted != e.n || d.Stats().Resident != e.n) {
		err = fmt.Errorf("%d sessions were brought in, not %d", done.Adopted, e.n)
	}
	if err != nil {
		return 0, err
	}
	return ns, closeDB(d)
}

// scan is what the bare program does in its place: owned, it writes its name in what it reads.
func (e *estate) scan(owned bool) (float64, error) {
	var codec kvstore.Msgpack
	start := time.Now()
	all := make(map[string][]byte)
	decode := func(k, v []byte) error {
		var value []byte
		if err := codec.Decode(v[:len(v)-40], &value); err != nil {
			return err
		}
		all[string(k)] = value
		return nil
	}
	err := e.b.View(func(tx *bbolt.Tx) error {
		if owned {
			return nil
		}
		return tx.Bucket(bareBucket).ForEach(decode)
	})
	for from := []byte{}; owned && from != nil && err == nil; {
		err = e.b.Update(func(tx *bbolt.Tx) error {
			bk := tx.Bucket(bareBucket)
			c := bk.Cursor()
			k, v := c.Seek(from)
			var keys, values [][]byte
			for ; k != nil && len(keys) < 1024; k, v = c.Next() {
				if err := decode(k, v); err != nil {
					return err
				}
				last := len(v) - 1
				keys, values = append(keys, k), append(values, append(append(make([]byte, 0, len(v)), v[:last]...), v[last]+1))
			}
			from = append([]byte(nil), k...)
			for i, k := range keys {
				if err := bk.Put(k, values[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil && len(all) != e.n {
		err = fmt.Errorf("%d records were read, not %d", len(all), e.n)
	}
	return float64(time.Since(start)) / float64(e.n), err
}
