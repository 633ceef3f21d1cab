package redis

import (
	"context"
	"fmt"
	"testing"

	client "github.com/redis/go-redis/v9"

	"github.com/seed-6f1f505d/kvstore/internal/flushbench"
	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
)

// BenchmarkFlush has beside it pipelined HSET of the same entries.
func BenchmarkFlush(b *testing.B) {
	for _, fsync := range []string{"everysec", "always"} {
		b.Run("server/appendfsync="+fsync, func(b *testing.B) {
			srv := redisserver.Start(b, "appendfsync "+fsync)
			for _, l := range []flushbench.Load{{Sessions: 20_000, Entries: 1, Bytes: 256}, {Sessions: 20_000, Entries: 4, Bytes: 128}} {
				b.Run(l.Name(), func(b *testing.B) { benchmarkFlush(b, open(b, srv.URL(), fresh()), l) })
			}
		})
	}
	b.Run("cluster", func(b *testing.B) {
		c := redisserver.StartCluster(b)
		for _, o := range []Options{{Buckets: 6}, {}, {Buckets: 96}, {Replicas: 1}} {
			b.Run(fmt.Sprintf("buckets=%d/replicas=%d", o.Buckets, o.Replicas), func(b *testing.B) {
				o.Prefix = fresh().Prefix
				benchmarkFlush(b, open(b, c.URL(), &o), flushbench.Load{Sessions: 20_000, Entries: 4, Bytes: 128})
			})
		}
	})
}

func benchmarkFlush(b *testing.B, st *Store, l flushbench.Load) {
	flushbench.Flush(b, st, l, flushbench.Way{Name: "bare", Write: func(ctx context.Context, batch []flushbench.Item) error {
		_, err := st.client.Pipelined(ctx, func(p client.Pipeliner) error {
			for _, it := range batch {
				args := make([]any, 0, 2*len(it.Entries))
				for _, e := range it.Entries {
					args = append(args, e.Key, e.Value)
				}
				p.HSet(ctx, "bare:"+it.Session, args...)
			}
			return nil
		})
		return err
	}})
}
