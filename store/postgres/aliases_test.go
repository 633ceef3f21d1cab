package postgres

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-6f1f505d/kvstore/internal/pgserver"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// Two nodes race for an alias; without what the schema does about that, the race finds two sessions that have it.
func TestRaceAliasesFindsFaults(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	storetest.RaceAliases(t, open(t, srv.URL(), fresh()), 10)
	for name, broken := range map[string]*strings.Replacer{
		"looks at nobody's":      strings.NewReplacer("IF FOUND THEN", "IF false THEN"),
		"takes those of zombies": strings.NewReplacer("AND CASE WHEN s.epoch = c.epoch AND s.incarnation = owner\n", "AND CASE WHEN true THEN true WHEN s.epoch = c.epoch AND s.incarnation = owner\n"),
	} {
		t.Run(name, func(t *testing.T) {
			o := fresh()
			sql := broken.Replace(schemaSQL)
			if sql == schemaSQL {
				t.Fatal("the schema is not broken")
			}
			exec(t, connect(t, srv.URL()), strings.ReplaceAll(sql, "{schema}", quoted(o.Schema)))
			st := open(t, srv.URL(), o)
			for round := range 100 {
				if why, ok := storetest.Finds(func(r storetest.T) { storetest.RaceAliases(r, st, 2) }); ok {
					t.Logf("found in attempt %d: %s", round+1, why)
					return
				}
			}
			t.Error("the race does not find that")
		})
	}
}

// The owner of a session that was gone comes back, and extends it in the moment in which another takes its alias: that one waits, and sees it.
func TestTakesFromNobodyWhoComesBack(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	for name, creates := range map[string]bool{"a change": false, "a creation": true} {
		t.Run(name, func(t *testing.T) {
			st := open(t, srv.URL(), fresh())
			o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
			past := store.TimeOf(time.Now().Add(-time.Hour))
			apply(t, st, store.Change{Session: "a", Owner: o, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"x"}, Expires: past}, store.Applied)
			c := store.Change{Session: "b", Owner: o, Epoch: 1, Seq: 1, Create: true}
			if !creates {
				apply(t, st, c, store.Applied)
				c.Seq, c.Create = 2, false
			}
			c.Aliases = []string{"x"}

			other := connect(t, srv.URL())
			in := func(sql string) string { return strings.ReplaceAll(sql, "{schema}", quoted(st.opt.Schema)) }
			exec(t, other, `BEGIN`)
			exec(t, other, in(`UPDATE {schema}.session SET seq = 2, expires = 0 WHERE session = 'a'`)) // what an extension does that names the same
			done := make(chan store.Result, 1)
			go func() {
				rs, err := st.Apply(t.Context(), []store.Change{c})
				if err != nil {
					rs = []store.Result{{Err: err}}
				}
				done <- rs[0]
			}()
			watch := connect(t, srv.URL())
			var r store.Result
			for waiting := 0; waiting == 0 && r.Outcome == store.Undecided && r.Err == nil; time.Sleep(time.Millisecond) {
				err := watch.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%apply(%'`).Scan(&waiting)
				if err != nil {
					t.Fatal(err)
				}
				select {
				case r = <-done:
					t.Errorf("while the session is extended, its alias is taken: %+v", r)
				default:
				}
			}
			exec(t, other, `COMMIT`)
			if r.Outcome == store.Undecided {
				r = <-done
			}
			var taken *store.AliasError
			if r.Outcome != store.Rejected || !errors.As(r.Err, &taken) || taken.Holder != "a" {
				t.Errorf("it is %+v, want rejected", r)
			}
			if h, err := st.Lookup(t.Context(), "x"); err != nil || h.Session != "a" || h.Seq != 2 {
				t.Errorf("the alias is that of %+v, %v", h, err)
			}
		})
	}
}

// Many calls name, in any order, what others have, had, or name at the same time: none waits in a circle, of which the server would say so after a second.
func TestNoCircle(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off", "deadlock_timeout=1h")
	st := open(t, srv.URL(), fresh())
	names := strings.Split("abcdefgh", "")
	errs := make(chan error, 6)
	past := store.TimeOf(time.Now().Add(-time.Hour))
	for w := range 6 {
		go func() {
			errs <- func() error {
				o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
				for seq := range uint64(60) {
					var cs []store.Change
					for _, i := range rand.Perm(5) {
						c := store.Change{Session: names[i] + names[w], Owner: o, Epoch: 1, Seq: seq + 1, Create: true, Delete: rand.IntN(4) == 0}
						if rand.IntN(3) == 0 {
							c.Expires = past
						}
						for _, n := range rand.Perm(len(names))[:rand.IntN(4)] {
							c.Aliases = append(c.Aliases, names[n])
						}
						cs = append(cs, c)
					}
					rs, err := st.Apply(t.Context(), cs)
					if err != nil {
						return err
					}
					for _, r := range rs {
						if r.Outcome != store.Applied && r.Outcome != store.Rejected {
							return errors.Join(errors.New(r.Outcome.String()), r.Err)
						}
					}
				}
				return nil
			}()
		}()
	}
	for range 6 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	conn := connect(t, srv.URL())
	for what, sql := range map[string]string{
		"aliases of no session, or a deleted one":     `SELECT count(*) FROM {schema}.alias a LEFT JOIN {schema}.session s USING (session) WHERE s.deleted IS NOT false`,
		"aliases of a session that does not list any": `SELECT count(*) FROM {schema}.alias a JOIN {schema}.session s USING (session) WHERE s.aliases IS NULL OR position(a.alias IN s.aliases) = 0`,
	} {
		var n int
		if err := conn.QueryRow(t.Context(), strings.ReplaceAll(sql, "{schema}", quoted(st.opt.Schema))).Scan(&n); err != nil || n != 0 {
			t.Errorf("%s: %d, %v", what, n, err)
		}
	}
}

// However many aliases and sessions there are, a Find reads those of its page by their index: before the server knows how many there are and after that, by
// connections that are new and by those that have asked since there were none.
func TestFindReadsAPage(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off", "autovacuum=off")
	o := fresh()
	connected := func() *Store { // by one connection, which then knows each statement, and what it has counted itself
		cfg, err := pgxpool.ParseConfig(srv.URL())
		if err != nil {
			t.Fatal(err)
		}
		cfg.MaxConns = 1
		pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		st, err := New(t.Context(), pool, o)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	old, writer := connected(), connected()
	for range 20 {
		old.Find(t.Context(), store.AliasRange{})
	}
	a := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	name := func(i int) string { return fmt.Sprintf("name %05d", i) }
	const n = 8000
	for i := 0; i < n; i += 1000 {
		var cs []store.Change
		for j := i; j < i+1000; j++ {
			cs = append(cs, store.Change{Session: fmt.Sprint("s", j), Owner: a, Epoch: 1, Seq: 1, Create: true, Aliases: []string{name(j)}})
		}
		rs, err := writer.Apply(t.Context(), cs)
		if err != nil || slices.ContainsFunc(rs, func(r store.Result) bool { return r.Outcome != store.Applied }) {
			t.Fatal(rs, err)
		}
	}
	count := func(st *Store) (reads, scans int) {
		t.Helper()
		err := errors.Join(
			st.pool.QueryRow(t.Context(), `SELECT pg_stat_force_next_flush()`).Scan(nil),
			st.pool.QueryRow(t.Context(), `SELECT sum(seq_tup_read + idx_tup_fetch), sum(seq_scan) FROM pg_stat_user_tables WHERE schemaname = $1 AND relname IN ('alias', 'session')`, o.Schema).Scan(&reads, &scans))
		if err != nil {
			t.Fatal(err)
		}
		return reads, scans
	}
	for _, known := range []bool{false, true} {
		if known {
			exec(t, connect(t, srv.URL()), strings.ReplaceAll(`ANALYZE {schema}.alias, {schema}.session`, "{schema}", quoted(o.Schema)))
		}
		for what, st := range map[string]*Store{"an old connection": old, "a new connection": connected()} {
			for _, c := range []struct{ from, to, limit, want int }{
				{0, n, 0, findPage}, {0, n, n, findPage}, {0, n, 1, 1}, {n / 2, n, 10, 10}, {n - 2, n + 5, 3, 2}, {n / 2, n/2 + 200, 0, 200}, {n / 2, n/2 + 1, 1, 1}, {n + 1, n + 9, 0, 0},
				{0, n, 0, findPage},
			} {
				before, scans := count(st)
				f, err := st.Find(t.Context(), store.AliasRange{From: name(c.from), To: name(c.to), Limit: c.limit})
				if err != nil || len(f.Aliases) != c.want {
					t.Fatalf("from %d to %d, at most %d: Find gives %d, error %v; want %d", c.from, c.to, c.limit, len(f.Aliases), err, c.want)
				}
				reads, all := count(st) // the planner, too, reads a few, to know how far the index goes
				if reads -= before; reads > 2*(c.want+1)+8 || all > scans {
					t.Errorf("%s, known %t, from %d to %d, at most %d: Find gives %d, and the server has read %d rows, in %d scans of all", what, known, c.from, c.to, c.limit, c.want, reads, all-scans)
				}
			}
		}
	}
}

// A header that no program of ours wrote costs what it has, and nothing else.
func TestFindBesideDamage(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	st := open(t, srv.URL(), fresh())
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	apply(t, st, store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"a", "d"}}, store.Applied)
	apply(t, st, store.Change{Session: "t", Owner: o, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"b", "c"}}, store.Applied)
	exec(t, connect(t, srv.URL()), strings.ReplaceAll(`UPDATE {schema}.session SET schema = -1 WHERE session = 't'`, "{schema}", quoted(st.opt.Schema)))
	f, err := st.Find(t.Context(), store.AliasRange{Limit: 3})
	var damaged *store.CorruptError
	if len(f.Aliases) != 1 || f.Aliases[0].Alias != "a" || f.Next != "d" || !errors.As(err, &damaged) || damaged.Session != "t" || !damaged.Header {
		t.Errorf("Find gives %+v, %v", f, err)
	}
	if f, err = st.Find(t.Context(), store.AliasRange{From: "d"}); len(f.Aliases) != 1 || f.Aliases[0].Alias != "d" || err != nil {
		t.Errorf("behind it Find gives %+v, %v", f, err)
	}
}
