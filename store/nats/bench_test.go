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

// BenchmarkFlush flushes 256 sessions at a time, of 1,000 or 20,000 that are there, in turns with the engine's own best: to publish the same bytes
// asynchronously, to as many subjects of a stream of the same kind, without headers and without a fence. "read" is without the cache: each document is read
// first. The ratio is that of the rates. It falls as sessions become more: to compare the sequence the server loads the last message of the subject, and
// with it the block of its file.
func BenchmarkFlush(b *testing.B) {
	const batch = 256
	for _, in := range []struct{ replicas, sessions int }{{1, 1000}, {1, 20_000}, {3, 1000}, {3, 20_000}} {
		replicas, sessions := in.replicas, in.sessions
		b.Run(fmt.Sprintf("R%d/%d", replicas, sessions), func(b *testing.B) {
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

// BenchmarkClaimAll adopts 10,000 sessions of a node that is gone.
func BenchmarkClaimAll(b *testing.B) {
	const sessions = 10_000
	url := start(b, "").url()
	o := fresh()
	st := open(b, url, o)
	cs := make([]store.Change, sessions)
	owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	for i := range cs {
		cs[i] = store.Change{Session: fmt.Sprint("session-", i), Owner: owner, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{{Value: make([]byte, 256)}}}
	}
	if _, err := st.Apply(context.Background(), cs); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		next := open(b, url, o)
		owner := store.Owner{Node: "b", Incarnation: store.NewIncarnation()}
		rs := make([]store.ClaimRequest, sessions)
		for i := range rs {
			rs[i] = store.ClaimRequest{Session: cs[i].Session, Owner: owner}
		}
		got, err := next.ClaimAll(context.Background(), rs)
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range got {
			if c.Outcome != store.Granted {
				b.Fatal(c)
			}
		}
		next.Close()
	}
}
