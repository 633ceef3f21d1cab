package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-6f1f505d/kvstore/internal/pgserver"
	"github.com/seed-6f1f505d/kvstore/store"
)

// BenchmarkFlush flushes 256 sessions at a time, of 100,000 that are there, in turns with the engine's own best: an upsert of the same bytes in one
// statement, into a table with as much room for new versions, without headers and without a fence. The ratio is that of the rates.
func BenchmarkFlush(b *testing.B) {
	const sessions, batch = 100_000, 256
	srv := pgserver.Start(b, "shared_buffers=256MB")
	id := func(i int) string { return fmt.Sprintf("session-%012d", i*7919%sessions) }
	random := make([]byte, 1<<16)
	rand.NewChaCha8([32]byte{}).Read(random)
	value := func(i int) []byte { at := i * 61 % (len(random) - 256); return random[at : at+256] } // another one each time
	owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	for _, relaxed := range []bool{false, true} {
		b.Run(fmt.Sprintf("relaxed=%t", relaxed), func(b *testing.B) {
			o := fresh()
			o.Relaxed = relaxed
			st := open(b, srv.URL(), o)
			seq := uint64(0)
			flush := func(from int, create bool) {
				seq++
				cs := make([]store.Change, batch)
				for i := range cs {
					cs[i] = store.Change{Session: id(from + i), Owner: owner, Epoch: 1, Seq: seq, Create: create, Puts: []store.Entry{{Value: value(from + i + int(seq))}}}
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
			conn := connect(b, srv.URL())
			table := pgx.Identifier{o.Schema, "bare"}.Sanitize()
			exec(b, conn, `CREATE TABLE `+table+` (id bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 50)`)
			if relaxed {
				exec(b, conn, `SET synchronous_commit = off`)
			}
			upsert := func(from int) {
				ids, values := make([][]byte, batch), make([][]byte, batch)
				for i := range ids {
					ids[i], values[i] = []byte(id(from+i)), value(from+i+int(seq))
				}
				exec(b, conn, `INSERT INTO `+table+` SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT (id) DO UPDATE SET value = excluded.value`, ids, values)
			}
			for from := 0; from < sessions; from += batch {
				flush(from, true)
				upsert(from)
			}
			var fenced, bare time.Duration
			b.ResetTimer()
			for n := range b.N {
				began := time.Now()
				flush(n*batch, false)
				between := time.Now()
				upsert(n * batch)
				fenced, bare = fenced+between.Sub(began), bare+time.Since(between)
			}
			b.ReportMetric(float64(b.N*batch)/fenced.Seconds(), "fenced/s")
			b.ReportMetric(float64(b.N*batch)/bare.Seconds(), "bare/s")
			b.ReportMetric(bare.Seconds()/fenced.Seconds(), "ratio")
		})
	}
}

// BenchmarkClaimAll adopts 10,000 sessions of a node that is gone.
func BenchmarkClaimAll(b *testing.B) {
	const sessions = 10_000
	srv := pgserver.Start(b)
	st := open(b, srv.URL(), fresh())
	cs := make([]store.Change, sessions)
	owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	for i := range cs {
		cs[i] = store.Change{Session: fmt.Sprint("session-", i), Owner: owner, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{{Value: make([]byte, 256)}}}
	}
	if _, err := st.Apply(context.Background(), cs); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		owner := store.Owner{Node: "b", Incarnation: store.NewIncarnation()}
		rs := make([]store.ClaimRequest, sessions)
		for i := range rs {
			rs[i] = store.ClaimRequest{Session: cs[i].Session, Owner: owner}
		}
		got, err := st.ClaimAll(context.Background(), rs)
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range got {
			if c.Outcome != store.Granted {
				b.Fatal(c)
			}
		}
	}
}
