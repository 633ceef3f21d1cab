package nats

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-6f1f505d/kvstore/store"
)

// BenchmarkFlush flushes 256 sessions at a time, of 20,000 that are there, beside the engine's own best: publishing messages of the same size
// asynchronously, to as many subjects of a stream of the same kind, without headers and without a fence. "read" is without the cache: each document is read
// first. Compare the rates of sub-benchmarks of one run.
func BenchmarkFlush(b *testing.B) {
	const sessions, batch = 20_000, 256
	for _, servers := range []string{"R1", "R3"} {
		url, replicas := "", 1
		if servers == "R3" {
			c := startCluster(b)
			c.open(b, fresh())
			url, replicas = c.url, 3
		} else {
			url = start(b, "").url()
		}
		id := func(i int) string { return fmt.Sprintf("session-%012d", i*7919%sessions) }
		value := bytes.Repeat([]byte("v"), 256)
		owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
		for _, cached := range []bool{true, false} {
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
			for from := 0; from < sessions; from += batch {
				flush(from, true)
			}
			name := servers + "/fenced"
			if !cached {
				name, st.cache = servers+"/fenced-read", newCache(-1)
			}
			b.Run(name, func(b *testing.B) {
				for n := range b.N {
					flush(n*batch, false)
				}
				b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "sessions/s")
			})
			if !cached {
				continue
			}

			st.cache = newCache(-1)
			bare := fresh()
			bare.Replicas = replicas
			bst := open(b, url, bare)
			js, err := jetstream.New(bst.nc, jetstream.WithPublishAsyncMaxPending(batch))
			if err != nil {
				b.Fatal(err)
			}
			d, err := st.read(context.Background(), id(0))
			if err != nil {
				b.Fatal(err)
			}
			same := d.encode()
			publish := func(from int) {
				acks := make([]jetstream.PubAckFuture, batch)
				for i := range acks {
					if acks[i], err = js.PublishAsync(bst.documentSubject(id(from+i)), same); err != nil {
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
				publish(from)
			}
			b.Run(servers+"/bare", func(b *testing.B) {
				for n := range b.N {
					publish(n * batch)
				}
				b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "sessions/s")
			})
		}
	}
}
