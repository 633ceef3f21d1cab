package redis

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	client "github.com/redis/go-redis/v9"

	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
	"github.com/seed-6f1f505d/kvstore/store"
)

// BenchmarkFlush flushes 256 sessions at a time, of 20,000 that are there, beside the engine's own best: pipelined HSET of the same
// bytes, without headers and without a fence. Compare the rates of sub-benchmarks of one run.
func BenchmarkFlush(b *testing.B) {
	for _, fsync := range []string{"everysec", "always"} {
		srv := redisserver.Start(b, "appendfsync "+fsync)
		for _, buckets := range []int{1, 64} {
			o := fresh()
			o.Buckets = buckets
			b.Run(fmt.Sprintf("server/appendfsync=%s/buckets=%d", fsync, buckets), func(b *testing.B) { benchmarkFlush(b, open(b, srv.URL(), o)) })
		}
	}
	c := redisserver.StartCluster(b)
	for _, buckets := range []int{3, 16, 64, 256} {
		o := fresh()
		o.Buckets = buckets
		b.Run(fmt.Sprintf("cluster/buckets=%d", buckets), func(b *testing.B) { benchmarkFlush(b, open(b, c.URL(), o)) })
	}
	o := fresh()
	o.Replicas = 1
	b.Run("cluster/replicas=1", func(b *testing.B) { benchmarkFlush(b, open(b, c.URL(), o)) })
}

func benchmarkFlush(b *testing.B, st *Store) {
	const sessions, batch = 20_000, 256
	ctx := context.Background()
	id := func(i int) string { return fmt.Sprintf("session-%012d", i*7919%sessions) }
	value := bytes.Repeat([]byte("v"), 256)
	owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	seq := uint64(0)
	flush := func(b *testing.B, from int, create bool) {
		seq++
		cs := make([]store.Change, batch)
		for i := range cs {
			cs[i] = store.Change{Session: id(from + i), Owner: owner, Epoch: 1, Seq: seq, Create: create, Puts: []store.Entry{{Value: value}}}
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
	bare := func(b *testing.B, from int) {
		_, err := st.client.Pipelined(ctx, func(p client.Pipeliner) error {
			for i := range batch {
				p.HSet(ctx, "bare:"+id(from+i), "/", value)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for from := 0; from < sessions; from += batch {
		flush(b, from, true)
		bare(b, from)
	}
	for name, f := range map[string]func(*testing.B, int){"bare": bare, "fenced": func(b *testing.B, from int) { flush(b, from, false) }} {
		b.Run(name, func(b *testing.B) {
			for n := range b.N {
				f(b, n*batch)
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "sessions/s")
		})
	}
}
