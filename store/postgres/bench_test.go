package postgres

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed-6f1f505d/kvstore/internal/pgserver"
	"github.com/seed-6f1f505d/kvstore/store"
)

// BenchmarkFlush flushes 256 sessions at a time, of 100,000 that are there, beside the engine's own best: an upsert of the same bytes in one
// statement, without headers and without a fence. Compare the rates of sub-benchmarks of one run.
func BenchmarkFlush(b *testing.B) {
	const sessions, batch = 100_000, 256
	srv := pgserver.Start(b, "shared_buffers=256MB")
	id := func(i int) string { return fmt.Sprintf("session-%012d", i*7919%sessions) }
	value := bytes.Repeat([]byte("v"), 256)
	owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	for _, relaxed := range []bool{false, true} {
		o := fresh()
		o.Relaxed = relaxed
		st := open(b, srv.URL(), o)
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
		b.Run(fmt.Sprintf("fenced/relaxed=%t", relaxed), func(b *testing.B) {
			for n := range b.N {
				flush(n*batch, false)
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "sessions/s")
		})

		conn := connect(b, srv.URL())
		table := pgx.Identifier{o.Schema, "bare"}.Sanitize()
		exec(b, conn, `CREATE TABLE `+table+` (id bytea PRIMARY KEY, value bytea NOT NULL)`)
		if relaxed {
			exec(b, conn, `SET synchronous_commit = off`)
		}
		upsert := func(from int) {
			ids, values := make([][]byte, batch), make([][]byte, batch)
			for i := range ids {
				ids[i], values[i] = []byte(id(from+i)), value
			}
			exec(b, conn, `INSERT INTO `+table+` SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT (id) DO UPDATE SET value = excluded.value`, ids, values)
		}
		for from := 0; from < sessions; from += batch {
			upsert(from)
		}
		b.Run(fmt.Sprintf("bare/relaxed=%t", relaxed), func(b *testing.B) {
			for n := range b.N {
				upsert(n * batch)
			}
			b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "sessions/s")
		})
	}
}
