package postgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-6f1f505d/kvstore/internal/pgserver"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

var schemas atomic.Int64

// fresh returns options with a schema of their own.
func fresh() *Options { return &Options{Schema: fmt.Sprint("Test \"", schemas.Add(1))} }

func open(t testing.TB, url string, o *Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestContract(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	o := fresh()
	pool, err := pgxpool.New(t.Context(), srv.URL()) // for all cases: a new connection plans each function again
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	clear := fmt.Sprintf("TRUNCATE %[1]s.session, %[1]s.entry, %[1]s.alias, %[1]s.node, %[1]s.memory", pgx.Identifier{o.Schema}.Sanitize())
	storetest.Run(t, func(t *testing.T) store.Store {
		st, err := New(t.Context(), pool, o) // on the schema of the case before
		if err == nil {
			_, err = pool.Exec(t.Context(), clear)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		return st
	})
}

// Several nodes start at once on a server where nothing is yet.
func TestStartsAtOnce(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	o := fresh()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			s, err := Open(t.Context(), srv.URL(), o)
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wg.Wait()
}

// The functions in the database decide as store.Judge does.
func TestAgainstMemory(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	for range 2 {
		storetest.Compare(t, open(t, srv.URL(), fresh()), rand.Uint64(), 500)
	}
}
