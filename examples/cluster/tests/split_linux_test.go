package tests

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/pgserver"
	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/postgres"
	"github.com/seed-6f1f505d/kvstore/store/redis"
	"github.com/seed-6f1f505d/kvstore/store/split"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// This file tests store/split on two real engines, here, where a module has the clients of several: owners in PostgreSQL, data in Redis.

func openSplit(t *testing.T, owners *pgserver.Server, data *redisserver.Server, space string) store.Store {
	t.Helper()
	o, err := postgres.Open(t.Context(), owners.URL(), &postgres.Options{Schema: space})
	if err != nil {
		t.Fatal(err)
	}
	d, err := redis.Open(t.Context(), data.URL(), &redis.Options{Prefix: space})
	if err != nil {
		t.Fatal(err)
	}
	return split.New(o, d)
}

func TestSplitContract(t *testing.T) {
	owners, data := pgserver.Start(t, "fsync=off"), redisserver.Start(t)
	pool, err := pgxpool.New(t.Context(), owners.URL()) // for all cases: a new connection plans each function again
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	storetest.Run(t, func(t *testing.T) store.Store {
		o, err := postgres.New(t.Context(), pool, &postgres.Options{Schema: "split"})
		if err != nil {
			t.Fatal(err)
		}
		d, err := redis.Open(t.Context(), data.URL(), &redis.Options{Prefix: "split"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pool.Exec(t.Context(), "TRUNCATE split.session, split.entry, split.node, split.memory"); err != nil {
			t.Fatal(err)
		}
		if _, err := data.Do("FLUSHDB"); err != nil {
			t.Fatal(err)
		}
		return split.New(o, d)
	})
}

// A power cut of Redis takes an adoption with it (see TestPowerCutEverysec there): then nobody but owners knows whose the session is. A Load says so, the
// new owner is fenced and told at its next write, gets its own epoch back with a claim, and from then on the former owner is refused again.
func TestSplitAfterAPowerCut(t *testing.T) {
	d := outage.NewDisk(t, 64<<20)
	owners, data := pgserver.Start(t), redisserver.StartAt(t, d.Dir, "appendfsync everysec")
	st := openSplit(t, owners, data, "split")
	defer st.Close()
	forgotten := false
	for round := range 5 { // the server may sync at just that moment
		id := strconv.Itoa(round)
		claim := func(node string) (c store.Claim) {
			t.Helper()
			c, err := st.Claim(t.Context(), store.ClaimRequest{Session: id, Owner: store.Owner{Node: node, Incarnation: store.NewIncarnation()}, Create: true})
			if err != nil || c.Outcome != store.Granted {
				t.Fatalf("claim: %+v, %v", c, err)
			}
			return c
		}
		write := func(h store.Header, seq uint64) store.Outcome {
			t.Helper()
			rs, err := st.Apply(t.Context(), []store.Change{{Session: id, Owner: h.Owner, Epoch: h.Epoch, Seq: seq, Puts: []store.Entry{{Value: fmt.Append(nil, seq)}}}})
			if err != nil {
				t.Fatal(err)
			}
			return rs[0].Outcome
		}
		old := claim("old").Header
		if o := write(old, 1); o != store.Applied {
			t.Fatal(o)
		}
		data.Written(t)
		d.Sync(t)
		by := claim("new").Header
		if o := write(by, 1); o != store.Applied {
			t.Fatal(o)
		}
		d.Cut(t, data)
		d.Restore(t)
		data.Repair(t)
		if err := data.Run(); err != nil {
			t.Fatal(err)
		}
		outage.Until(t, "the server answers", func() bool { _, err := st.Load(t.Context(), id); return err == nil })
		if snap, err := st.Load(t.Context(), id); err != nil || snap.Header.Epoch != by.Epoch || snap.Header.Owner != by.Owner {
			t.Errorf("the session is now %+v, %v: it is %s's", snap.Header, err, by.Owner.Node)
		}
		if write(by, 2) == store.Applied {
			continue // nothing was forgotten
		}
		forgotten = true
		c, err := st.Claim(t.Context(), store.ClaimRequest{Session: id, Owner: by.Owner})
		if err != nil || c.Outcome != store.Granted || c.Header.Epoch != by.Epoch {
			t.Errorf("its owner claims it again: %+v, %v", c, err)
		}
		if o := write(old, 2); o != store.Fenced {
			t.Errorf("then a write of the former owner is %v", o)
		}
		if o := write(c.Header, 2); o != store.Applied {
			t.Errorf("and one of the owner %v", o)
		}
		break
	}
	if !forgotten {
		t.Error("in five power cuts no adoption was forgotten: this shows nothing")
	}
}
