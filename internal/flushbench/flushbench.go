// Package flushbench measures what a store's fence costs: its flushes beside the same bytes written in the engine's own best way, in turns, in
// one run. So the ratio says something whatever the machine does meanwhile. It also measures mass adoption.
package flushbench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Batch is how many sessions are flushed at a time.
const Batch = 256

// Load says of what size.
type Load struct {
	Sessions int // that are there
	Entries  int // of each, the main one first
	Bytes    int // of each entry
}

// Name is a name for a sub-benchmark.
func (l Load) Name() string { return fmt.Sprintf("%d/%d×%d", l.Sessions, l.Entries, l.Bytes) }

// Item is a session's part of a batch.
type Item struct {
	Session string
	Entries []store.Entry
}

// Way is a way to write a batch without a fence.
type Way struct {
	Name  string
	Write func(ctx context.Context, batch []Item) error
}

// Flush makes the sessions, and then lets each round of the benchmark flush a batch, and write another one of the same sizes in each way. It reports the rate of
// each, in sessions per second by the median round, and the ratio of the flush's to each of the others': "ratio" to the first way's.
func Flush(b *testing.B, st store.Store, l Load, ways ...Way) {
	ctx := b.Context()
	owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	noise := make([]byte, 1<<16)
	rand.NewChaCha8([32]byte{}).Read(noise)
	run := owner.Incarnation.String()[:6]
	round := 0
	items := func(from int) []Item { // other bytes each time
		round++
		is := make([]Item, Batch)
		for i := range is {
			is[i] = Item{fmt.Sprintf("%s/session-%09d", run, (from+i)*7919%l.Sessions), make([]store.Entry, l.Entries)}
			for k := range is[i].Entries {
				at := (from + i*61 + k*97 + round*31) % (len(noise) - l.Bytes)
				is[i].Entries[k].Value = noise[at : at+l.Bytes]
				if k > 0 {
					is[i].Entries[k].Key = fmt.Sprint("key/", k)
				}
			}
		}
		return is
	}
	seq := uint64(0)
	flush := func(is []Item, create bool) time.Duration {
		seq++
		cs := make([]store.Change, len(is))
		for i, it := range is {
			cs[i] = store.Change{Session: it.Session, Owner: owner, Epoch: 1, Seq: seq, Create: create, Puts: it.Entries}
		}
		began := time.Now()
		rs, err := st.Apply(ctx, cs)
		took := time.Since(began)
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range rs {
			if r.Outcome != store.Applied {
				b.Fatalf("a change is %+v", r)
			}
		}
		return took
	}
	write := func(w Way, is []Item) time.Duration {
		began := time.Now()
		if err := w.Write(ctx, is); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
	for from := 0; from < l.Sessions; from += Batch {
		is := items(from)
		flush(is[:min(Batch, l.Sessions-from)], true)
		for _, w := range ways {
			write(w, is)
		}
	}
	fenced, others := make([]time.Duration, 0, b.N), make([][]time.Duration, len(ways))
	b.ResetTimer()
	for n := range b.N {
		fenced = append(fenced, flush(items(n*Batch), false))
		for i, w := range ways {
			others[i] = append(others[i], write(w, items(n*Batch)))
		}
	}
	b.ReportMetric(0, "ns/op") // of all together
	f := median(fenced)
	b.ReportMetric(Batch/f.Seconds(), "fenced/s")
	for i, w := range ways {
		o := median(others[i])
		b.ReportMetric(Batch/o.Seconds(), w.Name+"/s")
		unit := "ratio"
		if i > 0 {
			unit += "-" + w.Name
		}
		b.ReportMetric(float64(o)/float64(f), unit)
	}
}

func median(ds []time.Duration) time.Duration {
	slices.Sort(ds)
	return ds[len(ds)/2]
}

// ClaimAll measures the adoption of 10,000 sessions of a node that is gone, by another node each time, whose store open opens.
func ClaimAll(b *testing.B, open func() store.Store) {
	const sessions = 10_000
	ctx := b.Context()
	cs, rs := make([]store.Change, sessions), make([]store.ClaimRequest, sessions)
	owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	for i := range cs {
		id := fmt.Sprint("session-", i)
		cs[i] = store.Change{Session: id, Owner: owner, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{{Value: make([]byte, 256)}}}
	}
	if _, err := open().Apply(ctx, cs); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		st := open()
		next := store.Owner{Node: "b", Incarnation: store.NewIncarnation()}
		for i := range rs {
			rs[i] = store.ClaimRequest{Session: cs[i].Session, Owner: next}
		}
		b.StartTimer()
		got, err := st.(store.Claimer).ClaimAll(ctx, rs)
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range got {
			if c.Outcome != store.Granted {
				b.Fatalf("a claim is %+v", c)
			}
		}
	}
}
