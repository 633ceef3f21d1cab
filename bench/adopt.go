package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
)

// This file measures the takeover of sessions whose owner is dead, by demand: DB.Adopt, one round
// trip each. A bare program would read the record and write it back with its own name in it, in one
// transaction of bbolt: so does the bare side, with a record as large as ours.

func adoptRows(*config) (rows []spec) {
	for _, at := range []int{1, 32} {
		rows = append(rows, spec{fmt.Sprintf("adopt/%d/sync", at), fmt.Sprintf("DB.Adopt of a stored orphan, %d at a time; bare: one get and put in bbolt", at), "×", "≤", 1.2})
	}
	for _, at := range []int{1, 32} {
		rows = append(rows, spec{fmt.Sprintf("adopt/%d/nosync", at), "likewise, without fsync: what it costs beside the disk", "×", "", 0})
	}
	return rows
}

func runAdopt(r *runner) error {
	for _, s := range adoptRows(r.config) {
		if !r.wants(s.name) {
			continue
		}
		var at int
		var mode string
		fmt.Sscanf(s.name, "adopt/%d/%s", &at, &mode)
		if err := runAdoptRow(r, s.name, at, mode == "nosync"); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func runAdoptRow(r *runner, name string, at int, noSync bool) error {
	ops := r.pick(200, 20) * max(at/4, 1)
	if noSync {
		ops *= 10
	}
	n := max(ops*(r.rounds+1), r.pick(100_000, 0))
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
	d, err := openDB(st, options())
	if err != nil {
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

	order := r.draw("shuffled", 0, n)
	adoptOne := func(id string) error {
		_, err := d.Adopt(context.Background(), id)
		return err
	}
	how, bareOne, err := fastest(b, order, at, ops)
	if err != nil {
		return err
	}
	var next [2]int // each session is adopted once
	var txs [2]uint64
	turn := func(which int, one func(id string) error) func() (float64, error) {
		path := file(dir, []string{"ours", "bare"}[which])
		return func() (float64, error) {
			from := next[which]
			next[which] += ops
			before, err := committed(path)
			if err != nil {
				return 0, err
			}
			ns, err := concurrently(at, ops, func(i int) error { return one(order.at(from + i)) })
			if err != nil {
				return 0, err
			}
			after, err := committed(path)
			txs[which] += after - before
			return ns, err
		}
	}
	pairs, err := r.alternate(name, nil, turn(0, adoptOne), turn(1, bareOne))
	if err != nil {
		return err
	}
	if s := d.Stats(); s.Adopted != int64(next[0]) {
		return fmt.Errorf("%d sessions were adopted, not %d", s.Adopted, next[0])
	}
	r.reportPairs(name, pairs, fmt.Sprintf("%.1f sessions in a transaction; bare: %.1f, by %s",
		float64(next[0])/float64(txs[0]), float64(next[1])/float64(txs[1]), how))
	return closeDB(d)
}

// fastest returns the way of bare bbolt's to read and write one record that takes the least time with so many at once.
func fastest(b *bbolt.DB, order keys, at, ops int) (how string, one func(id string) error, err error) {
	b.MaxBatchSize = at // as soon as all wait, nobody need wait longer
	ways := []struct {
		how string
		do  func(func(*bbolt.Tx) error) error
	}{{"Update", b.Update}, {"Batch", b.Batch}}
	if at == 1 {
		ways = ways[:1]
	}
	least := math.Inf(1)
	for _, w := range ways {
		f := func(id string) error {
			return w.do(func(tx *bbolt.Tx) error {
				bk := tx.Bucket(bareBucket)
				v := bk.Get([]byte(id))
				if v == nil {
					return fmt.Errorf("%s is not there", id)
				}
				// bbolt's memory is not to be written.
				return bk.Put([]byte(id), append([]byte{v[0] + 1}, v[1:]...))
			})
		}
		ns, err := concurrently(at, ops, func(i int) error { return f(order.at(i)) })
		if err != nil {
			return "", nil, err
		}
		if ns < least {
			least, how, one = ns, w.how, f
		}
	}
	return how, one, nil
}

// concurrently does ops things, so many at a time, and returns the nanoseconds for one, by the clock on the wall.
func concurrently(at, ops int, f func(i int) error) (float64, error) {
	errs := make(chan error, at)
	start := time.Now()
	for g := range at {
		go func() {
			for i := g; i < ops; i += at {
				if err := f(i); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var err error
	for range at {
		if e := <-errs; e != nil {
			err = e
		}
	}
	return float64(time.Since(start)) / float64(ops), err
}

// orphans stores sessions of an owner that has no lease.
func orphans(st store.Store, n int, value []byte) error {
	dead := store.Owner{Node: "dead", Incarnation: store.NewIncarnation()}
	var changes []store.Change
	for i := range n {
		changes = append(changes, store.Change{Session: idOf(i), Owner: dead, Epoch: 1, Seq: uint64(i + 1), Create: true,
			Puts: []store.Entry{{Value: value}}})
		if len(changes) < 10_000 && i < n-1 {
			continue
		}
		results, err := st.Apply(context.Background(), changes)
		if err != nil {
			return err
		}
		for _, res := range results {
			if res.Outcome != store.Applied {
				return fmt.Errorf("an orphan could not be made: %v: %w", res.Outcome, res.Err)
			}
		}
		changes = changes[:0]
	}
	return nil
}

func bareRecords(b *bbolt.DB, n int, record []byte) error {
	for from := 0; from < n; from += 10_000 {
		err := b.Update(func(tx *bbolt.Tx) error {
			bk := tx.Bucket(bareBucket)
			for i := from; i < min(n, from+10_000); i++ {
				if err := bk.Put([]byte(idOf(i)), record); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
