package redis

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
	"github.com/seed-6f1f505d/kvstore/store"
)

// Barrier returns when the server's disk has what was acknowledged, where the server tells; else at once.
func TestBarrier(t *testing.T) {
	srv := redisserver.Start(t)
	st := open(t, srv.URL(), nil)
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	apply(t, st, store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Create: true}, store.Applied)
	if err := st.Barrier(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := srv.Do("WAITAOF", "0", "0", "1"); err != nil {
		if st.tells {
			t.Errorf("the store takes the server for one that has WAITAOF: %v", err)
		}
		t.Logf("this server does not tell: %v", err)
		return
	}
	if !st.tells {
		t.Fatal("the store takes the server for one that has no WAITAOF")
	}
	srv.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := st.Barrier(ctx); err == nil {
		t.Error("Barrier returns no error, though the server stands still")
	}
	srv.Thaw()
	st.Close()
	if err := st.Barrier(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Barrier after Close gives %v", err)
	}

	c := redisserver.StartCluster(t)
	p := fresh()
	p.Replicas = 1
	st = open(t, c.URL(), p)
	outage.Until(t, "all disks have it", func() bool { return st.Barrier(t.Context()) == nil })
	cutOff(t, c[1], c[4])
	ctx, cancel = context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := st.Barrier(ctx); err == nil || !strings.Contains(err.Error(), "0 of 1 replicas") {
		t.Errorf("without a replica Barrier gives %v", err)
	}
	c[4].Thaw()
}
