package bolt

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// BenchmarkFlush compares Apply with what it stands on: the same IDs and values put
// into a bbolt bucket of their own, sorted, in one transaction. Both run by turns in one process, and the metric
// "ratio" is bbolt's median time over ours: 1 would be a store for nothing.
func BenchmarkFlush(b *testing.B) {
	for _, bm := range []struct {
		total, batch int
		noSync       bool
	}{
		{20_000, 256, false},
		{20_000, 2_048, false},
		{20_000, 256, true},
		{20_000, 2_048, true},
	} {
		b.Run(fmt.Sprintf("sessions=%d/batch=%d/nosync=%v", bm.total, bm.batch, bm.noSync), func(b *testing.B) {
			benchmarkFlush(b, bm.total, bm.batch, bm.noSync)
		})
	}
}

func benchmarkFlush(b *testing.B, total, batch int, noSync bool) {
	ctx := context.Background()
	st, err := Open(filepath.Join(b.TempDir(), "ours"), &Options{NoSync: noSync})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	bare, err := bbolt.Open(filepath.Join(b.TempDir(), "bare"), 0o600, &bbolt.Options{NoSync: noSync, FreelistType: bbolt.FreelistMapType, NoStatistics: true})
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()

	rng := rand.New(rand.NewPCG(1, 2))
	owner := store.Owner{Node: "node-a", Incarnation: store.NewIncarnation()}
	ids := make([]string, total)
	for i := range ids {
		ids[i] = fmt.Sprintf("%08x%08x%08x", rng.Uint32(), rng.Uint32(), rng.Uint32())
	}
	value := make([]byte, 256)
	seq := uint64(0)
	changes := func(ids []string) []store.Change {
		seq++
		cs := make([]store.Change, len(ids))
		for i, id := range ids {
			cs[i] = store.Change{Session: id, Owner: owner, Epoch: 1, Seq: seq, Create: seq < 100, Puts: []store.Entry{{Value: value}}}
		}
		return cs
	}
	ours := func(cs []store.Change) {
		rs, err := st.Apply(ctx, cs)
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range rs {
			if r.Outcome != store.Applied {
				b.Fatal(r)
			}
		}
	}
	keys := func(ids []string) [][]byte {
		keys := make([][]byte, len(ids))
		for i, id := range ids {
			keys[i] = []byte(id)
		}
		return keys
	}
	theirs := func(keys [][]byte) {
		slices.SortFunc(keys, bytes.Compare)
		err := bare.Update(func(tx *bbolt.Tx) error {
			bk, err := tx.CreateBucketIfNotExists([]byte("b"))
			for _, k := range keys {
				if err == nil {
					err = bk.Put(k, value)
				}
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for part := range slices.Chunk(ids, 5_000) {
		ours(changes(part))
		theirs(keys(part))
	}
	b.ReportAllocs()
	var t, u []time.Duration
	for b.Loop() {
		rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		ks, cs := keys(ids[:batch]), changes(ids[:batch])
		t0 := time.Now()
		theirs(ks)
		t1 := time.Now()
		ours(cs)
		t2 := time.Now()
		t, u = append(t, t1.Sub(t0)), append(u, t2.Sub(t1))
	}
	slices.Sort(t)
	slices.Sort(u)
	bareTime, ourTime := t[len(t)/2], u[len(u)/2]
	b.ReportMetric(float64(bareTime)/float64(ourTime), "ratio")
	b.ReportMetric(float64(bareTime.Microseconds()), "µs/bare")
	b.ReportMetric(float64(ourTime.Microseconds()), "µs/ours")
}
