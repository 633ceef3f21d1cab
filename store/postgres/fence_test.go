package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-6f1f505d/kvstore/internal/pgserver"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func exec(t testing.TB, c *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if len(args) == 0 {
		args = []any{pgx.QueryExecModeSimpleProtocol}
	}
	if _, err := c.Exec(context.Background(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// TestRaceFindsFaults shows that it is the conditions in the schema that keep zombies out: without them the race that TestContract
// passes finds what they wrote.
func TestRaceFindsFaults(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	const condition = `s.session = c.id AND CASE`
	for name, broken := range map[string]*strings.Replacer{
		"no fence": strings.NewReplacer(condition, condition+` WHEN NOT c.creates THEN true`),
		"checks, then writes": strings.NewReplacer(
			`done bigint[];`, `done bigint[]; judged bigint[];`,
			"    PERFORM FROM {schema}.session s WHERE s.session = ANY (ids) ORDER BY s.session FOR NO KEY UPDATE;\n\n    IF", // in apply, not in claim
			`    SELECT array_agg(c.i) INTO judged FROM unnest(ids, incarnations, epochs, seqs) WITH ORDINALITY AS c (id, incarnation, epoch, seq, i)
				JOIN {schema}.session s ON s.session = c.id AND s.epoch = c.epoch AND s.incarnation = c.incarnation AND s.seq < c.seq;
    IF`,
			condition, condition+` WHEN NOT c.creates THEN c.i = ANY (judged)`),
	} {
		t.Run(name, func(t *testing.T) {
			o := fresh()
			sql := broken.Replace(schemaSQL)
			if sql == schemaSQL {
				t.Fatal("the schema is not broken")
			}
			exec(t, connect(t, srv.URL()), strings.ReplaceAll(sql, "{schema}", quoted(o.Schema)))
			st := open(t, srv.URL(), o)
			for round := range 200 { // whether one round does is a matter of luck
				if why, ok := storetest.Finds(func(r storetest.T) { storetest.Race(r, st, 2) }); ok {
					t.Logf("found in attempt %d: %s", round+1, why)
					return
				}
			}
			t.Error("the race does not find that")
		})
	}
}

// TestWaitsAndSeesAll has an Apply wait for another transaction on the same session, and then change what that has made. In a statement
// that took its snapshot before the wait it would not see it: what it deletes would come back.
func TestWaitsAndSeesAll(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	for name, second := range map[string]store.Change{
		"delete": {Deletes: []string{"late"}},
		"wipe":   {Wipe: true, Puts: []store.Entry{{Key: "k"}}},
		"end":    {Delete: true},
	} {
		t.Run(name, func(t *testing.T) {
			st := open(t, srv.URL(), fresh())
			c := store.Change{Session: "s", Owner: store.Owner{Node: "a", Incarnation: store.NewIncarnation()}, Epoch: 1, Seq: 1, Create: true}
			apply(t, st, c, store.Applied)

			// An earlier change of the same tenure, which is slow.
			other := connect(t, srv.URL())
			in := func(sql string) string { return strings.ReplaceAll(sql, "{schema}", quoted(st.opt.Schema)) }
			exec(t, other, `BEGIN`)
			exec(t, other, in(`UPDATE {schema}.session SET seq = 2 WHERE session = 's'`))
			exec(t, other, in(`INSERT INTO {schema}.entry VALUES ('s', 'late', 'v')`))

			second.Session, second.Owner, second.Epoch, second.Seq = "s", c.Owner, 1, 3
			done := make(chan struct{})
			go func() {
				defer close(done)
				apply(t, st, second, store.Applied)
			}()
			watch := connect(t, srv.URL())
			for waiting := 0; waiting == 0; time.Sleep(time.Millisecond) {
				err := watch.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%apply(%'`).Scan(&waiting)
				if err != nil {
					t.Fatal(err)
				}
			}
			exec(t, other, `COMMIT`)
			<-done
			snap, err := st.Load(t.Context(), "s")
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range snap.Entries {
				if e.Key == "late" {
					t.Error("what was deleted is there")
				}
			}
		})
	}
}

func apply(t testing.TB, st store.Store, c store.Change, want store.Outcome) {
	t.Helper()
	rs, err := st.Apply(context.Background(), []store.Change{c})
	if err != nil || rs[0].Outcome != want {
		t.Errorf("Apply(%+v) gives %+v, %v; want %v", c, rs, err, want)
	}
}
