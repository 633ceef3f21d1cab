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
// ours writes every record, with its name and a new epoch: the rate of the row "preload" is that of a write over that of a read. To own what it
// has read, the bare program would have to write its name in each record, too: so it does in the rows that are called owned.

func preloadRows(*config) (rows []spec) {
	const about = "DB.Preload of all sessions of a bbolt file after a restart; bare: "
	const scan, own = "a cursor over as many records, which decodes them", "likewise, and writes its name in each, 1024 in a transaction"
	return []spec{
		{"preload", about + scan, "× rate", "≥", 0.7},
		{"preload/nosync", about + scan + "; ours without fsync", "× rate", "", 0},
		{"preload/owned", about + own, "× rate", "≥", 0.7},
		{"preload/owned/nosync", about + own + "; both without fsync", "× rate", "", 0},
	}
}

func runPreload(r *runner) error {
	for _, s := range preloadRows(r.config) {
		if !r.wants(s.name) {
			continue
		}
		owned, noSync := false, false
		switch s.name {
		case "preload/nosync":
			noSync = true
		case "preload/owned":
			owned = true
		case "preload/owned/nosync":
			owned, noSync = true, true
		}
		if err := runPreloadRow(r, s.name, owned, noSync); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func runPreloadRow(r *runner, name string, owned, noSync bool) error {
	n := r.pick(200_000, 2000)
	dir, remove, err := r.tempDir()
	if err != nil {
		return err
	}
	defer remove()
	value, err := encodedValue(valueOf(0))
	if err != nil {
		return err
	}
	st, err := bolt.Open(file(dir, "ours"), &bolt.Options{NoSync: noSync})
	if err != nil {
		return err
	}
	defer st.Close()
	if err := orphans(st, n, value); err != nil {
		return err
	}
	b, err := openBare(file(dir, "bare"), noSync)
	if err != nil {
		return err
	}
	defer b.Close()
	record := append(value, make([]byte, 40)...) // owner, epoch, seq, checksum
	if err := bareRecords(b, n, record); err != nil {
		return err
	}

	ours := func() (float64, error) {
		d, err := openDB(st, options()) // another incarnation: what the last one had is nobody's
		if err != nil {
			return 0, err
		}
		start := time.Now()
		p, err := d.Preload(context.Background(), kvstore.Preload{Share: kvstore.Unowned, Rate: math.MaxInt32, InFlight: 16 << 10})
		if err != nil {
			return 0, err
		}
		done, err := p.Wait(context.Background())
		ns := float64(time.Since(start)) / float64(n)
		if err == nil && (done.Adopted != n || d.Stats().Resident != n) {
			err = fmt.Errorf("%d sessions were brought in, not %d", done.Adopted, n)
		}
		if err != nil {
			return 0, err
		}
		return ns, closeDB(d)
	}
	var codec kvstore.Msgpack
	bare := func() (float64, error) {
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
		err := b.View(func(tx *bbolt.Tx) error {
			if owned {
				return nil
			}
			return tx.Bucket(bareBucket).ForEach(decode)
		})
		for from := []byte{}; owned && from != nil && err == nil; {
			err = b.Update(func(tx *bbolt.Tx) error {
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
		if err == nil && len(all) != n {
			err = fmt.Errorf("%d records were read, not %d", len(all), n)
		}
		return float64(time.Since(start)) / float64(n), err
	}
	pairs, err := r.alternate(name, nil, ours, bare)
	if err != nil {
		return err
	}
	r.reportPairs(name, pairs, fmt.Sprintf("%d sessions of %d bytes", n, len(value)))
	return nil
}
