package main

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/puzpuzpuz/xsync/v4"

	"github.com/seed-6f1f505d/kvstore"
)

// This file measures what grows: with the number of resident sessions, with the entries of a session, and with the bytes of a value. Each
// place on a curve is measured beside the same place of the bare part, by turns, so that one sees what of a rise is the
// library's, and what is the machine's: its caches, its disk. plot.go draws both curves.
//
// The operations run on one processor: their times are those of a call, not those of many calls at once. The puts share it
// with what encodes and flushes what they put, as the rows put-behind do.

var (
	growthEntries = []int{1, 4, 16, 64}                         // of a session
	growthValues  = []int{1 << 10, 4 << 10, 16 << 10, 64 << 10} // bytes
)

// growthSizes are the numbers of sessions. None is greater than 10 M on account of the curve alone: they take 4 GB.
func growthSizes(c *config) (sizes []int) {
	for _, n := range []int{c.sessions / 100, c.sessions / 10, c.sessions, c.sessions * 10} {
		if n = max(n, 1000); n <= max(c.sessions, 10_000_000) && !slices.Contains(sizes, n) {
			sizes = append(sizes, n)
		}
	}
	return sizes
}

func growthRow(figure, op string, x int) string { return fmt.Sprintf("growth/%s/%s/%d", figure, op, x) }

func isGrowth(row string) bool { return strings.HasPrefix(row, "growth/") }

func growthRows(c *config) (rows []spec) {
	curve := func(figure, op string, xs []int, about string) {
		for _, x := range xs {
			rows = append(rows, spec{growthRow(figure, op, x), fmt.Sprintf(about, x), "×", "", 0})
		}
	}
	curve("sessions", "get", growthSizes(c), "DB.Get, uniform, of %d resident sessions; bare: xsync Load")
	curve("sessions", "put", growthSizes(c), "DB.Put, uniform, to %d resident sessions, while what it puts is encoded and flushed every 100 ms; bare: xsync Store")
	const flat = ", by a struct of session and key"
	curve("entries", "get", growthEntries, "Session.Get of one of the session's %d entries, as many in all as -sessions; bare: xsync Load"+flat)
	curve("entries", "put", growthEntries, "Session.Put to one of the session's %d entries, while it is encoded and flushed every 100 ms; bare: xsync Store"+flat)
	curve("values", "put", growthValues, "DB.Put of %d bytes, to as many sessions whatever that is, while they are encoded and flushed every 100 ms; bare: xsync Store")
	curve("values", "flush", growthValues, "DB.Flush into store/bolt (updates, sync), for each KiB of values of %d bytes; bare: bbolt, the same batches, sorted")
	return rows
}

func runGrowth(r *runner) error {
	for _, n := range growthSizes(r.config) {
		if err := growSessions(r, n); err != nil {
			return err
		}
	}
	for _, k := range growthEntries {
		if err := growEntries(r, k); err != nil {
			return err
		}
	}
	for _, size := range growthValues {
		if err := growValues(r, size); err != nil {
			return err
		}
	}
	return nil
}

// place is one place on the curves of a figure: both sides are built once for all of its rows.
type place struct {
	*runner
	d     *db
	ops   int // of a round
	turns int
}

// newPlace opens a DB that flushes behind the puts.
func newPlace(r *runner) (*place, error) {
	o := options()
	o.MaxDelay = 100 * time.Millisecond
	d, err := openDB(newDiscard(), o)
	return &place{runner: r, d: d, ops: r.pick(1_000_000, r.sessions), turns: r.rounds}, err
}

// measure measures a row. draw is called before each round, and is not timed. Nor is the flush of what the last turn has put.
func (p *place) measure(name string, draw func(), ours, bare func(from, to int) error) error {
	if !p.wants(name) {
		return nil
	}
	drawn := -1
	prepare := func(round int) error {
		if drawn != round {
			draw()
			drawn = round
		}
		return p.d.Flush(context.Background())
	}
	pairs, err := p.alternateFor(p.turns, name, prepare,
		func() (float64, error) { return uncollected(p.ops, ours) },
		func() (float64, error) { return uncollected(p.ops, bare) })
	if err != nil {
		return err
	}
	p.reportPairs(name, pairs, "")
	return nil
}

// uncollected does ops operations on one processor, and keeps the collector from running meanwhile: at the right end of a curve the heap is so
// large that it would not, at the left one so small that it always would. What the garbage of either side costs is in the rows gc/.
func uncollected(ops int, f func(from, to int) error) (float64, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	return parallel(1, ops, f)
}

// growSessions measures with n resident sessions of one entry.
func growSessions(r *runner, n int) error {
	get, put := growthRow("sessions", "get", n), growthRow("sessions", "put", n)
	if !r.wants(get) && !r.wants(put) {
		return nil
	}
	p, err := newPlace(r)
	if err != nil {
		return err
	}
	if n > r.sessions {
		p.turns = min(p.turns, 3) // each begins with a collection of the heap, which takes seconds
	}
	h := &hot{d: p.d, m: xsync.NewMap[string, []byte]()}
	ids := makeIDs(n)
	if err := populate(p.d, ids); err != nil {
		return err
	}
	for i, id := range ids {
		h.m.Store(id, valueOf(i))
	}
	var seq keys
	draw := func() { seq = r.draw("uniform", p.ops, n) }
	err = p.measure(get, draw,
		func(from, to int) error { return h.get(seq)(from, to) },
		func(from, to int) error { return h.load(seq)(from, to) })
	if err != nil {
		return err
	}
	err = p.measure(put, draw,
		func(from, to int) error { return h.put(seq)(from, to) },
		func(from, to int) error { return h.store(seq)(from, to) })
	if err != nil {
		return err
	}
	return closeDB(p.d)
}

// entryID is the key of a program that keeps all entries in one map, and does not make a string of both parts for each call.
type entryID struct{ session, key string }

// growEntries measures sessions of k entries, as many in all whatever k is. A program that has the library holds a session's handle; one that
// has the map is brought the session's ID, as in the other rows.
func growEntries(r *runner, k int) error {
	get, put := growthRow("entries", "get", k), growthRow("entries", "put", k)
	if !r.wants(get) && !r.wants(put) {
		return nil
	}
	p, err := newPlace(r)
	if err != nil {
		return err
	}
	names := make([]string, k)
	for i := range names {
		names[i] = fmt.Sprintf("leg/%02d", i)
	}
	ctx := context.Background()
	m := xsync.NewMap[entryID, []byte]()
	handles := make([]*kvstore.Session[[]byte], r.sessions/k)
	for s, id := range makeIDs(len(handles)) {
		if handles[s], err = p.d.Create(ctx, id); err != nil {
			return err
		}
		for e, key := range names {
			if err := handles[s].Put(ctx, key, valueOf(s*k+e)); err != nil {
				return err
			}
			m.Store(entryID{id, key}, valueOf(s*k+e))
		}
	}

	// The i-th operation is on entry at[i]%k of session at[i]/k, whose ID is seq.at(i).
	var seq keys
	at := make([]int, p.ops)
	draw := func() {
		rng := r.rng()
		for i := range at {
			at[i] = rng.IntN(len(handles) * k)
		}
		seq = makeKeys(p.ops, func(i int) int { return at[i] / k })
	}
	err = p.measure(get, draw, func(from, to int) error {
		for _, x := range at[from:to] {
			if _, err := handles[x/k].Get(ctx, names[x%k]); err != nil {
				return err
			}
		}
		return nil
	}, func(from, to int) error {
		for i := from; i < to; i++ {
			if _, ok := m.Load(entryID{seq.at(i), names[at[i]%k]}); !ok {
				return fmt.Errorf("%s of %s is not there", names[at[i]%k], seq.at(i))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = p.measure(put, draw, func(from, to int) error {
		for i := from; i < to; i++ {
			if err := handles[at[i]/k].Put(ctx, names[at[i]%k], valueOf(i)); err != nil {
				return err
			}
		}
		return nil
	}, func(from, to int) error {
		for i := from; i < to; i++ {
			m.Store(entryID{seq.at(i), names[at[i]%k]}, valueOf(i))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return closeDB(p.d)
}

// growValues measures sessions of one value of so many bytes. A flush writes as many bytes in all whatever that is. The puts are to as many sessions,
// or it would be their number that one sees in the curve.
func growValues(r *runner, size int) error {
	total := r.pick(64<<20, 256<<10)
	n := total / size
	pool := make([]byte, total+size)
	for i := range pool {
		pool[i] = byte(i + i>>10)
	}
	value := func(i int) []byte { return pool[i%n*size:][:size:size] }
	if put := growthRow("values", "put", size); r.wants(put) {
		if err := growValuePuts(r, put, total/slices.Max(growthValues), value); err != nil {
			return err
		}
	}

	row := growthRow("values", "flush", size)
	if !r.wants(row) {
		return nil
	}
	encoded, err := encodedValue(value(0))
	if err != nil {
		return err
	}
	stored := func(i int) []byte { return pool[i%n*size:][:len(encoded)] }
	var pairs []pair
	var txs uint64
	for range min(r.rounds, 3) {
		f := flush{n: n, value: value, stored: stored}
		if err := f.measure(r, row); err != nil {
			return fmt.Errorf("%s: %w", row, err)
		}
		const updates = 1 // of flushKinds
		kibs := float64(size) / 1024
		pairs, txs = append(pairs, pair{f.ours[updates] / kibs, f.bare[updates] / kibs}), f.txs[updates]
	}
	r.reportPairs(row, pairs, fmt.Sprintf("%d sessions in %d transactions", n, txs))
	return nil
}

func growValuePuts(r *runner, row string, n int, value func(i int) []byte) error {
	p, err := newPlace(r)
	if err != nil {
		return err
	}
	ids := makeIDs(n)
	if err := fillWith(p.d, ids, value); err != nil {
		return err
	}
	m := xsync.NewMap[string, []byte]()
	for i, id := range ids {
		m.Store(id, value(i))
	}
	ctx := context.Background()
	var seq keys
	err = p.measure(row, func() { seq = r.draw("uniform", p.ops, n) }, func(from, to int) error {
		for i := from; i < to; i++ {
			if err := p.d.Put(ctx, seq.at(i), value(i)); err != nil {
				return err
			}
		}
		return nil
	}, func(from, to int) error {
		for i := from; i < to; i++ {
			m.Store(seq.at(i), value(i))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return closeDB(p.d)
}
