package postgres

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-6f1f505d/kvstore/internal/flushbench"
	"github.com/seed-6f1f505d/kvstore/internal/pgserver"
	"github.com/seed-6f1f505d/kvstore/store"
)

// BenchmarkFlush has beside it an upsert of the same bytes in one statement, into a table with as much room for new versions.
func BenchmarkFlush(b *testing.B) {
	srv := pgserver.Start(b, "shared_buffers=256MB")
	for _, relaxed := range []bool{false, true} {
		b.Run(fmt.Sprintf("relaxed=%t", relaxed), func(b *testing.B) {
			o := fresh()
			o.Relaxed = relaxed
			st := open(b, srv.URL(), o)
			conn := connect(b, srv.URL())
			table := pgx.Identifier{o.Schema, "bare"}.Sanitize()
			exec(b, conn, `CREATE TABLE `+table+` (id bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 50)`)
			if relaxed {
				exec(b, conn, `SET synchronous_commit = off`)
			}
			upsert := `INSERT INTO ` + table + ` SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT (id) DO UPDATE SET value = excluded.value`
			flushbench.Flush(b, st, flushbench.Load{Sessions: 100_000, Entries: 1, Bytes: 256}, flushbench.Way{Name: "bare", Write: func(ctx context.Context, batch []flushbench.Item) error {
				ids, values := make([][]byte, len(batch)), make([][]byte, len(batch))
				for i, it := range batch {
					ids[i], values[i] = []byte(it.Session), it.Entries[0].Value
				}
				_, err := conn.Exec(ctx, upsert, flat(ids), flat(values))
				return err
			}})
		})
	}
}

func BenchmarkClaimAll(b *testing.B) {
	srv := pgserver.Start(b)
	st := open(b, srv.URL(), fresh())
	flushbench.ClaimAll(b, func() store.Store { return st })
}
