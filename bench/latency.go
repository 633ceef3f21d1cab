package main

import (
	"context"
	"fmt"
	"math/bits"
	"time"

	"github.com/seed-6f1f505d/kvstore/store/bolt"
)

// This file measures how a flush is felt by those who put meanwhile: the 99.9th percentile of one
// goroutine's Puts, with all that they change being flushed into a bbolt file as fast as it takes it, and
// with no flush. The goroutine does not wait between two Puts; so it is a percentile of Puts,
// and says nothing of how much time a long one takes from those that would have come meanwhile.

func latencyRows(*config) []spec {
	return []spec{
		{"put-p999/flushing", "99.9th percentile of DB.Put while flushing flat out into bbolt; bare: the same, no flush", "×", "≤", 2},
		{"put-p50/flushing", "median of the same Puts", "×", "", 0},
		{"put-p999/flushing/nosync", "likewise, without fsync: what of it is the library's, and not that of a disk that interrupts the processors", "×", "", 0},
		{"put-p50/flushing/nosync", "median of the same Puts", "×", "", 0},
	}
}

func runLatency(r *runner) error {
	for _, mode := range []string{"flushing", "flushing/nosync"} {
		if !r.wants("put-p999/"+mode) && !r.wants("put-p50/"+mode) {
			continue
		}
		if err := latency(r, mode); err != nil {
			return err
		}
	}
	return nil
}

func latency(r *runner, mode string) error {
	n := r.pick(min(200_000, r.sessions), 2000)
	seq := r.draw("uniform", r.pick(1_000_000, 50_000), n)
	ids := makeIDs(n)
	dir, remove, err := r.tempDir()
	if err != nil {
		return err
	}
	defer remove()

	// Two DBs with the same sessions: in one what is dirty stays so, in the other it is flushed at once.
	var side [2]*db
	for i, delay := range []time.Duration{time.Hour, time.Millisecond} {
		st, err := bolt.Open(file(dir, fmt.Sprint(i)), &bolt.Options{NoSync: mode != "flushing"})
		if err != nil {
			return err
		}
		defer st.Close()
		o := options()
		o.MaxDelay = delay
		if side[i], err = openDB(st, o); err != nil {
			return err
		}
		for j, id := range ids {
			_, err := side[i].Create(context.Background(), id)
			if err == nil {
				err = side[i].Put(context.Background(), id, valueOf(j))
			}
			if err != nil {
				return err
			}
		}
	}
	idle, flushing := side[0], side[1]
	clock := clockCost()
	length := time.Duration(r.pick(2000, 100)) * time.Millisecond

	var p999, p50 []pair
	before := flushing.Stats()
	var busy time.Duration
	_, err = r.alternate("put-p999/"+mode, func(int) error { return flushing.Flush(context.Background()) },
		func() (float64, error) {
			start := time.Now()
			h, err := timePuts(flushing, seq, length)
			busy += time.Since(start)
			p999, p50 = append(p999, pair{ours: h.quantile(0.999) - clock}), append(p50, pair{ours: h.quantile(0.5) - clock})
			return 0, err
		},
		func() (float64, error) {
			h, err := timePuts(idle, seq, length)
			last := len(p999) - 1
			p999[last].bare, p50[last].bare = h.quantile(0.999)-clock, h.quantile(0.5)-clock
			return 0, err
		})
	if err != nil {
		return err
	}
	s := flushing.Stats().Sub(before)
	if s.Sessions == 0 {
		return fmt.Errorf("put-p999: nothing was flushed meanwhile")
	}
	note := fmt.Sprintf("%.0f sessions/s were flushed; %s of the clock deducted", float64(s.Sessions)/busy.Seconds(), duration(clock))
	r.reportPairs("put-p999/"+mode, p999[1:], note)
	r.reportPairs("put-p50/"+mode, p50[1:], note)
	for _, d := range side {
		if err := closeDB(d); err != nil {
			return err
		}
	}
	return nil
}

// timePuts puts for some time, and returns how long each took.
func timePuts(d *db, seq keys, length time.Duration) (*histogram, error) {
	ctx := context.Background()
	h := new(histogram)
	start := time.Now()
	var now time.Duration
	for i := 0; now < length; i = (i + 1) % seq.len() {
		began := time.Since(start)
		if err := d.Put(ctx, seq.at(i), valueOf(i)); err != nil {
			return h, err
		}
		now = time.Since(start)
		h.add(now - began)
	}
	return h, nil
}

// clockCost returns the nanoseconds between two readings of the clock with nothing between them.
func clockCost() float64 {
	h := new(histogram)
	start := time.Now()
	for range 100_000 {
		began := time.Since(start)
		h.add(time.Since(start) - began)
	}
	return h.quantile(0.5)
}

// histogram counts durations, in steps of a 64th of their size.
type histogram struct {
	counts [64 << steps]int
	n      int
}

const steps = 6 // 2⁶ from one power of two to the next

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(uint64(max(d, 0)))]++
	h.n++
}

func bucket(x uint64) int {
	if x < 1<<steps {
		return int(x)
	}
	e := bits.Len64(x) - 1 - steps // x>>e has steps+1 bits, the first of them 1
	return e<<steps + int(x>>e)
}

// quantile returns the upper end of the bucket in which the share q of the durations is reached, in nanoseconds.
func (h *histogram) quantile(q float64) float64 {
	left := int(q * float64(h.n))
	for b, n := range h.counts {
		if left -= n; left < 0 {
			if b < 1<<steps {
				return float64(b)
			}
			e := b>>steps - 1
			return float64((uint64(b-e<<steps)+1)<<e - 1)
		}
	}
	return 0
}
