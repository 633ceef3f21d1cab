package etcd

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

// BenchmarkFlush flushes 256 sessions at a time, of 20,000 that are there, beside the engine's own best: puts of the same bytes without
// heads and without a fence, in as few transactions as the server takes, all at the same time; "folded" is what only this package's
// trick with transactions in transactions makes of that, one transaction. Compare the rates of sub-benchmarks of one run.
func BenchmarkFlush(b *testing.B) {
	const sessions, batch, bytesEach = 20_000, 256, 256
	c := start(b, 1, member{})
	st := open(b, c.url(), fresh())
	id := func(i int) string { return fmt.Sprintf("session-%012d", i*7919%sessions) }
	owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	for _, entries := range []int{1, 4} {
		value := bytes.Repeat([]byte("v"), bytesEach/entries)
		seq := uint64(0)
		flush := func(b *testing.B, from int, create bool) {
			seq++
			cs := make([]store.Change, batch)
			for i := range cs {
				cs[i] = store.Change{Session: fmt.Sprint(id(from+i), entries), Owner: owner, Epoch: 1, Seq: seq, Create: create, Puts: []store.Entry{{Value: value}}}
				for k := range entries - 1 {
					cs[i].Puts = append(cs[i].Puts, store.Entry{Key: fmt.Sprint("key/", k), Value: value})
				}
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
		puts := func(from int) (ops []clientv3.Op) {
			for i := range batch {
				for k := range entries {
					ops = append(ops, clientv3.OpPut(fmt.Sprint("bare/", entries, "/", id(from+i), "/key/", k), string(value)))
				}
			}
			return ops
		}
		flat := func(b *testing.B, from int) {
			errs := make(chan error)
			n := 0
			for part := range slices.Chunk(puts(from), maxOps) {
				n++
				go func() {
					_, err := st.client.Txn(context.Background()).Then(part...).Commit()
					errs <- err
				}()
			}
			for range n {
				if err := <-errs; err != nil {
					b.Fatal(err)
				}
			}
		}
		folded := func(b *testing.B, from int) {
			ops, _ := fold(puts(from), maxOps)
			if _, err := st.client.Txn(context.Background()).Then(ops...).Commit(); err != nil {
				b.Fatal(err)
			}
		}
		for from := 0; from < sessions+batch; from += batch {
			flush(b, from, from < sessions)
			flat(b, from)
		}
		for name, f := range map[string]func(*testing.B, int){
			"fenced": func(b *testing.B, from int) { flush(b, from, false) },
			"bare":   flat,
			"folded": folded,
		} {
			b.Run(fmt.Sprintf("entries=%d/%s", entries, name), func(b *testing.B) {
				for n := range b.N {
					f(b, n*batch)
				}
				b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "sessions/s")
			})
		}
	}
}
