package nats

import (
	"fmt"
	"testing"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/store"
)

// The server's disk loses its power under load. With "sync_interval: always" nothing that was acknowledged is lost.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	d := outage.NewDisk(t, 256<<20)
	srv := newNodeAt(t, d.Dir, "alone", "")
	srv.configure(t, fmt.Sprintf("listen: \"127.0.0.1:%d\"\njetstream: {store_dir: %q, sync_interval: always}\n", srv.port, d.Dir))
	srv.run(t)
	srv.await(t)
	st := open(t, srv.url(), nil)
	w := outage.Start(t, st)
	for range 3 {
		w.Endure(t, func() { d.Cut(t, srv) }, func() {
			d.Restore(t)
			srv.run(t)
		})
	}
	w.Progress(t, 200)
	w.End(t, st)
}

// With the default interval, two minutes, what came after the last is lost, adoptions included.
func TestPowerCutByDefault(t *testing.T) {
	t.Parallel()
	d := outage.NewDisk(t, 256<<20)
	srv := newNodeAt(t, d.Dir, "alone", "")
	srv.run(t)
	srv.await(t)
	o := fresh()
	st := open(t, srv.url(), o)
	d.Sync(t) // the server's configuration, and the stream
	c, err := st.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: store.Owner{Node: "a", Incarnation: store.NewIncarnation()}, Create: true})
	if err != nil || c.Outcome != store.Granted {
		t.Fatalf("claim: %+v, %v", c, err)
	}
	apply(t, st, store.Change{Session: "s", Owner: c.Header.Owner, Epoch: c.Header.Epoch, Seq: 1, Puts: []store.Entry{{Value: []byte("v")}}}, store.Applied)
	st.Close()
	d.Cut(t, srv)
	d.Restore(t)
	srv.run(t)
	srv.await(t)
	st = open(t, srv.url(), o)
	if snap, err := st.Load(t.Context(), "s"); err != nil || snap.Header.Epoch != 0 {
		t.Errorf("it is there: %+v, %v: store/README.md says that it is not", snap, err)
	}
}
