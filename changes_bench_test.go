package kvstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// BenchmarkPut is a put into a session that is dirty already, with nobody who listens, and with somebody.
func BenchmarkPut(b *testing.B) {
	for _, c := range []struct {
		name   string
		listen func(*kvstore.DB[int]) error
	}{
		{"alone", func(db *kvstore.DB[int]) error { return nil }},
		{"OnCommit", func(db *kvstore.DB[int]) error {
			_, err := db.OnCommit(func(kvstore.Commit[int]) {})
			return err
		}},
		{"missed", func(db *kvstore.DB[int]) error { // the queue is full
			db.Watch(b.Context(), kvstore.Filter{})
			return nil
		}},
		{"filtered", func(db *kvstore.DB[int]) error {
			db.Watch(b.Context(), kvstore.Filter{Sessions: "another"})
			return nil
		}},
		{"BeforeCommit", func(db *kvstore.DB[int]) error {
			_, err := db.BeforeCommit(func(context.Context, kvstore.Commit[int]) error { return nil })
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkPut(b, c.listen) })
	}
}

func benchmarkPut(b *testing.B, listen func(*kvstore.DB[int]) error) {
	ctx := context.Background()
	db, err := kvstore.Open[int](ctx, memory.New(), kvstore.Options{MaxDelay: time.Hour, Lease: time.Hour, LagAlarm: time.Hour})
	check(b, err)
	defer db.Close(ctx)
	ids := make([]string, 256)
	for i := range ids {
		ids[i] = fmt.Sprint("session-", i)
		check(b, db.Put(ctx, ids[i], i))
	}
	check(b, listen(db))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := db.Put(ctx, ids[i%len(ids)], i); err != nil {
			b.Fatal(err)
		}
	}
}
