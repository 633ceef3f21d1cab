package nats

import (
	"context"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-6f1f505d/kvstore/internal/flushbench"
	"github.com/seed-6f1f505d/kvstore/store"
)

// BenchmarkFlush has beside it the asynchronous publishing of as many bytes to as many subjects of a stream of the same kind. "read" is without the
// cache: each document is read first. The ratio falls as sessions become more: to compare the sequence the server loads the last message of the subject, and
// with it the block of its file.
func BenchmarkFlush(b *testing.B) {
	for _, replicas := range []int{1, 3} {
		b.Run(fmt.Sprintf("R%d", replicas), func(b *testing.B) {
			url := ""
			if replicas == 3 {
				c := startCluster(b)
				c.open(b, fresh())
				url = c.url
			} else {
				url = start(b, "").url()
			}
			openOne := func() *Store {
				o := fresh()
				o.Replicas = replicas
				return open(b, url, o)
			}
			other := openOne()
			js, err := jetstream.New(other.nc, jetstream.WithPublishAsyncMaxPending(flushbench.Batch))
			if err != nil {
				b.Fatal(err)
			}
			var same []byte // a document
			publish := func(_ context.Context, batch []flushbench.Item) error {
				acks := make([]jetstream.PubAckFuture, len(batch))
				for i := range acks {
					var err error
					if acks[i], err = js.PublishAsync(other.documentSubject(batch[i].Session), same); err != nil {
						return err
					}
				}
				for _, a := range acks {
					select {
					case <-a.Ok():
					case err := <-a.Err():
						return err
					}
				}
				return nil
			}
			for _, sessions := range []int{1000, 20_000} {
				l := flushbench.Load{Sessions: sessions, Entries: 1, Bytes: 256}
				for _, name := range []string{"cached", "read"} {
					b.Run(l.Name()+"/"+name, func(b *testing.B) {
						st := openOne()
						if name == "read" {
							st.cache = newCache(-1)
						}
						flushbench.Flush(b, st, l, flushbench.Way{Name: "bare", Write: func(ctx context.Context, batch []flushbench.Item) error {
							if same == nil {
								same = st.cache.document(batch[0].Session).encode()
							}
							return publish(ctx, batch)
						}})
					})
				}
			}
		})
	}
}

func BenchmarkClaimAll(b *testing.B) {
	url, o := start(b, "").url(), fresh()
	flushbench.ClaimAll(b, func() store.Store { return open(b, url, o) })
}
