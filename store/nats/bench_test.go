package nats

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-6f1f505d/kvstore/store"
)

// BenchmarkFlush flushes 256 sessions at a time, of 20,000 that are there, in turns with the engine's own best: to publish the same bytes
// asynchronously, to as many subjects of a stream of the same kind, without headers and without a fence. "read" is without the cache: each document is read
// first. The ratio is that of the rates.
func BenchmarkFlush(b *testing.B) {
	const sessions, batch = 20_000, 256
	for _, replicas := range []int{1, 3} {
		b.Run(fmt.Sprint("R", replicas), func(b *testing.B) {
			url := ""
			if replicas == 3 {
				c := startCluster(b)
				c.open(b, fresh())
				url = c.url
			} else {
				url = start(b, "").url()
			}
			id := func(i int) string { return fmt.Sprintf("session-%012d", i*7919%sessions) }
			value := bytes.Repeat([]byte("v"), 256)
			owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
			o := fresh()
			o.Replicas = replicas
			st := open(b, url, o)
			seq := uint64(0)
			flush := func(from int, create bool) {
				seq++
				cs := make([]store.Change, batch)
				for i := range cs {
					cs[i] = store.Change{Session: id(from + i), Owner: owner, Epoch: 1, Seq: seq, Create: create, Puts: []store.Entry{{Value: value}}}
				}
				rs, err := st.Apply(context.Background(), cs)
				if err != nil {
					b.Fatal(err)
				}
				for _, r := range rs {
					if r.Outcome != store.Applied {
						b.Fatal(r)
					}
				}
			}
			bare := fresh()
			bare.Replicas = replicas
			other := open(b, url, bare)
			js, err := jetstream.New(other.nc, jetstream.WithPublishAsyncMaxPending(batch))
			if err != nil {
				b.Fatal(err)
			}
			var same []byte
			publish := func(from int) {
				acks := make([]jetstream.PubAckFuture, batch)
				for i := range acks {
					if acks[i], err = js.PublishAsync(other.documentSubject(id(from+i)), same); err != nil {
						b.Fatal(err)
					}
				}
				for _, a := range acks {
					select {
					case <-a.Ok():
					case err := <-a.Err():
						b.Fatal(err)
					}
				}
			}
			for from := 0; from < sessions; from += batch {
				if flush(from, true); same == nil {
					same = st.cache.document(id(0)).encode()
				}
				publish(from)
			}
			for _, cached := range []bool{true, false} {
				name := "cached"
				if !cached {
					name, st.cache = "read", newCache(-1)
				}
				b.Run(name, func(b *testing.B) {
					var fenced, unfenced time.Duration
					for n := range b.N {
						began := time.Now()
						flush(n*batch, false)
						between := time.Now()
						publish(n * batch)
						fenced, unfenced = fenced+between.Sub(began), unfenced+time.Since(between)
					}
					b.ReportMetric(float64(b.N*batch)/fenced.Seconds(), "fenced/s")
					b.ReportMetric(float64(b.N*batch)/unfenced.Seconds(), "bare/s")
					b.ReportMetric(unfenced.Seconds()/fenced.Seconds(), "ratio")
				})
			}
		})
	}
}
