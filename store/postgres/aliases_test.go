package postgres

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

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
			r := recorder{t, make(chan string, 1)}
			for round := range 100 {
				storetest.RaceAliases(r, st, 2)
				select {
				case why := <-r.failures:
					t.Logf("found in attempt %d: %s", round+1, why)
					return
				default:
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
