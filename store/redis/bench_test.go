package redis

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	client "github.com/redis/go-redis/v9"

	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
	"github.com/seed-6f1f505d/kvstore/store"
)

// BenchmarkFlush flushes 256 sessions at a time, of 20,000 that are there, and after each flush has the engine do its own best: pipelined HSET of the same
// entries, without headers and without a fence. It reports the rates of both, by medians, and their ratio.
func BenchmarkFlush(b *testing.B) {
	for _, fsync := range []string{"everysec", "always"} {
		b.Run("server/appendfsync="+fsync, func(b *testing.B) {
			srv := redisserver.Start(b, "appendfsync "+fsync)
			for _, shape := range []struct{ puts, size int }{{1, 256}, {4, 128}} {
				b.Run(fmt.Sprintf("puts=%d×%d", shape.puts, shape.size), func(b *testing.B) {
					benchmarkFlush(b, open(b, srv.URL(), fresh()), shape.puts, shape.size)
				})
			}
		})
	}
	b.Run("cluster", func(b *testing.B) {
		c := redisserver.StartCluster(b)
		for _, o := range []Options{{Buckets: 6}, {}, {Buckets: 96}, {Replicas: 1}} {
			b.Run(fmt.Sprintf("buckets=%d/replicas=%d", o.Buckets, o.Replicas), func(b *testing.B) {
				o.Prefix = fresh().Prefix
				benchmarkFlush(b, open(b, c.URL(), &o), 4, 128)
			})
		}
	})
}

func benchmarkFlush(b *testing.B, st *Store, puts, size int) {
	const sessions, batch = 20_000, 256
	ctx := context.Background()
	id := func(i int) string { return fmt.Sprintf("session-%012d", i*7919%sessions) }
	value := bytes.Repeat([]byte("v"), size)
	keys := make([]string, puts)
	for i := range keys {
		keys[i] = fmt.Sprint("key/", i)
	}
	owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	seq := uint64(0)
	flush := func(from int, create bool) {
		seq++
		cs := make([]store.Change, batch)
		for i := range cs {
			cs[i] = store.Change{Session: id(from + i), Owner: owner, Epoch: 1, Seq: seq, Create: create, Puts: make([]store.Entry, puts)}
			for j, k := range keys {
				cs[i].Puts[j] = store.Entry{Key: k, Value: value}
			}
		}
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
	bare := func(from int) {
		_, err := st.client.Pipelined(ctx, func(p client.Pipeliner) error {
			for i := range batch {
				args := make([]any, 0, 2*puts)
				for _, k := range keys {
					args = append(args, k, value)
				}
				p.HSet(ctx, "bare:"+id(from+i), args...)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for from := 0; from < sessions; from += batch {
		flush(from, true)
		bare(from)
	}
	var fenced, own []time.Duration
	b.ResetTimer()
	for n := range b.N {
		began := time.Now()
		flush(n*batch, false)
		between := time.Now()
		bare(n * batch)
		fenced, own = append(fenced, between.Sub(began)), append(own, time.Since(between))
	}
	slices.Sort(fenced)
	slices.Sort(own)
	f, o := fenced[len(fenced)/2], own[len(own)/2]
	b.ReportMetric(batch/f.Seconds(), "fenced/s")
	b.ReportMetric(batch/o.Seconds(), "bare/s")
	b.ReportMetric(float64(o)/float64(f), "ratio")
}
