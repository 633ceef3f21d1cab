package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
)

// This file measures DB.Flush into a bbolt file: all sessions dirty, in no order. Bare bbolt is given
// the same IDs in the same order of arrival, with the same encoded values, in as many
// transactions as ours took, each sorted before the clock starts. The rows "whole" sort all
// that arrived at once instead of each transaction's part, as a program could that has it all in its hands.
//
// On our side the time has in it: the walk over the sessions, encoding, fences, headers, checksums.

// The variants of a flush: records that are new, or replaced; with and without fsync.
var (
	flushKinds = []string{"insert", "update"}
	flushSyncs = []string{"sync", "nosync"}
)

func flushRows(*config) (rows []spec) {
	for _, s := range flushSyncs {
		for _, k := range flushKinds {
			rows = append(rows, spec{"flush/" + k + "/" + s, "DB.Flush into store/bolt (" + k + "s); bare: bbolt, the same batches in the order of arrival, each sorted", "× rate", "", 0})
		}
	}
	for _, s := range flushSyncs {
		for _, k := range flushKinds {
			rows = append(rows, spec{"flush/" + k + "/" + s + "/whole", "likewise; bare: bbolt's best, all that is dirty sorted before it is cut into batches", "× rate", "≥", 0.9})
		}
	}
	return rows
}

func runFlush(r *runner) error {
	n := r.pick(min(200_000, r.sessions), 2000)
	encoded, err := encodedValue(valueOf(0))
	if err != nil {
		return err
	}
	stored := func(int) []byte { return encoded }
	for _, mode := range flushSyncs {
		if !slices.ContainsFunc(flushKinds, func(k string) bool {
			return r.wants("flush/"+k+"/"+mode) || r.wants("flush/"+k+"/"+mode+"/whole")
		}) {
			continue
		}
		var batches, whole [2][]pair // by kind
		var txs [2]uint64
		for range r.rounds {
			f := flush{n: n, noSync: mode == "nosync", value: valueOf, stored: stored, sorted: true}
			if err := f.measure(r, "flush/"+mode); err != nil {
				return fmt.Errorf("flush/%s: %w", mode, err)
			}
			for k := range flushKinds {
				batches[k] = append(batches[k], pair{f.ours[k], f.bare[k]})
				whole[k] = append(whole[k], pair{f.ours[k], f.whole[k]})
				txs[k] = f.txs[k]
			}
		}
		for k, kind := range flushKinds {
			note := fmt.Sprintf("%d sessions in %d transactions", n, txs[k])
			r.reportPairs("flush/"+kind+"/"+mode, batches[k], note)
			r.reportPairs("flush/"+kind+"/"+mode+"/whole", whole[k], note)
		}
	}
	return nil
}

// flush is one round: inserts and then updates, ours and bare, in new files.
type flush struct {
	n      int
	noSync bool
	value  func(i int) []byte // of the i-th session that is put
	stored func(i int) []byte // what bare bbolt is given for it: as much as the DB's codec makes of a value
	sorted bool               // measure whole, too

	ours, bare, whole [2]float64 // nanoseconds per session, by kind
	txs               [2]uint64  // transactions that ours took
}

func (f *flush) measure(r *runner, name string) error {
	dir, remove, err := r.tempDir()
	if err != nil {
		return err
	}
	defer remove()
	order := [2]keys{r.draw("shuffled", 0, f.n), r.draw("shuffled", 0, f.n)}

	st, err := bolt.Open(file(dir, "ours"), &bolt.Options{NoSync: f.noSync})
	if err != nil {
		return err
	}
	defer st.Close()
	d, err := openDB(st, options())
	if err != nil {
		return err
	}
	ctx := context.Background()
	for k := range flushKinds {
		for i := range f.n {
			id := order[k].at(i)
			if k == 0 {
				_, err = d.Create(ctx, id) // no call of the store: the flush makes them
			}
			if err == nil {
				err = d.Put(ctx, id, f.value(i))
			}
			if err != nil {
				return err
			}
		}
		before, err := committed(file(dir, "ours"))
		if err != nil {
			return err
		}
		f.ours[k], err = side(name, "ours", func() (float64, error) {
			start := time.Now()
			err := d.Flush(ctx)
			return float64(time.Since(start)) / float64(f.n), err
		})
		if err != nil {
			return err
		}
		after, err := committed(file(dir, "ours"))
		if err != nil {
			return err
		}
		f.txs[k] = after - before
	}
	if s := d.Stats(); s.Puts != int64(2*f.n) {
		return fmt.Errorf("%d entries were written, not %d", s.Puts, 2*f.n)
	}
	if err := closeDB(d); err != nil {
		return err
	}
	if err := f.bareFile(name, file(dir, "bare"), order, false, &f.bare); err != nil || !f.sorted {
		return err
	}
	return f.bareFile(name, file(dir, "whole"), order, true, &f.whole)
}

// bareFile writes the same into a bbolt file of its own.
func (f *flush) bareFile(name, path string, order [2]keys, whole bool, took *[2]float64) error {
	b, err := openBare(path, f.noSync)
	if err != nil {
		return err
	}
	defer b.Close()
	for k, ids := range order {
		ks := make([][]byte, f.n)
		for i := range ks {
			ks[i] = []byte(ids.at(i))
		}
		perTx := (f.n + int(f.txs[k]) - 1) / int(f.txs[k])
		if whole {
			slices.SortFunc(ks, bytes.Compare)
		} else {
			for part := range slices.Chunk(ks, perTx) {
				slices.SortFunc(part, bytes.Compare)
			}
		}
		took[k], err = side(name, filepath.Base(path), func() (float64, error) {
			start, n := time.Now(), 0
			for part := range slices.Chunk(ks, perTx) {
				err := b.Update(func(tx *bbolt.Tx) error {
					bk := tx.Bucket(bareBucket)
					for _, k := range part {
						if err := bk.Put(k, f.stored(n)); err != nil {
							return err
						}
						n++
					}
					return nil
				})
				if err != nil {
					return 0, err
				}
			}
			return float64(time.Since(start)) / float64(f.n), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

var bareBucket = []byte("b")

// openBare opens a bbolt file with the options that store/bolt uses.
func openBare(path string, noSync bool) (*bbolt.DB, error) {
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: noSync, FreelistType: bbolt.FreelistMapType, NoStatistics: true})
	if err != nil {
		return nil, err
	}
	err = b.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(bareBucket)
		return err
	})
	return b, err
}

// committed returns the number of the last transaction in a bbolt file. It reads the two meta pages
// as they lie there, because the file is locked: each is a page's header, then magic, version,
// page size and flags of 4 bytes, root (16), freelist (8), high water (8) and the number.
func committed(path string) (uint64, error) {
	const offset = 16 + 4*4 + 16 + 8 + 8
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var last uint64
	for page := range int64(2) {
		var b [8]byte
		if _, err := f.ReadAt(b[:], page*int64(os.Getpagesize())+offset); err != nil {
			return 0, err
		}
		last = max(last, binary.NativeEndian.Uint64(b[:]))
	}
	return last, nil
}

// encodedValue returns a value as the DB's codec encodes it.
func encodedValue(value []byte) ([]byte, error) {
	k := &keeper{discard: newDiscard()}
	d, err := openDB(k, options())
	if err != nil {
		return nil, err
	}
	if err := fillWith(d, makeIDs(1), func(int) []byte { return value }); err != nil {
		return nil, err
	}
	return k.value, closeDB(d)
}

// keeper keeps the last value that it was given.
type keeper struct {
	discard
	value []byte
}

func (k *keeper) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	for _, c := range changes {
		for _, e := range c.Puts {
			k.value = bytes.Clone(e.Value)
		}
	}
	return k.discard.Apply(ctx, changes)
}
