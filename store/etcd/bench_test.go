package etcd

import (
	"context"
	"fmt"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/internal/flushbench"
	"github.com/seed-6f1f505d/kvstore/store"
)

// BenchmarkFlush has beside it puts of the same bytes, in as few transactions as the server takes, all at the same time; "folded" is what
// only this package's trick with transactions in transactions makes of that, one transaction.
func BenchmarkFlush(b *testing.B) {
	c := start(b, 1, member{})
	st := open(b, c.url(), fresh())
	puts := func(batch []flushbench.Item) (ops []clientv3.Op) {
		for _, it := range batch {
			for _, e := range it.Entries {
				ops = append(ops, clientv3.OpPut(fmt.Sprint("bare/", it.Session, "/", e.Key), string(e.Value)))
			}
		}
		return ops
	}
	commit := func(ctx context.Context, ops []clientv3.Op) error {
		_, err := st.client.Txn(ctx).Then(ops...).Commit()
		return err
	}
	bare := flushbench.Way{Name: "bare", Write: func(ctx context.Context, batch []flushbench.Item) (err error) {
		errs, n := make(chan error), 0
		for part := range slices.Chunk(puts(batch), maxOps) {
			n++
			go func() { errs <- commit(ctx, part) }()
		}
		for range n {
			if e := <-errs; e != nil {
				err = e
			}
		}
		return err
	}}
	folded := flushbench.Way{Name: "folded", Write: func(ctx context.Context, batch []flushbench.Item) error {
		ops, _ := fold(puts(batch), maxOps)
		return commit(ctx, ops)
	}}
	for _, l := range []flushbench.Load{{Sessions: 20_000, Entries: 1, Bytes: 256}, {Sessions: 20_000, Entries: 4, Bytes: 64}} {
		b.Run(l.Name(), func(b *testing.B) { flushbench.Flush(b, st, l, bare, folded) })
	}
}

func BenchmarkClaimAll(b *testing.B) {
	c := start(b, 1, member{})
	o := fresh()
	flushbench.ClaimAll(b, func() store.Store { return open(b, c.url(), o) })
}
