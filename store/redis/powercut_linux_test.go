package redis

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
	"github.com/seed-6f1f505d/kvstore/store"
)

// The server's disk loses its power under load. With appendfsync always nothing that was acknowledged is lost; with everysec it is, for a moment: until
// it is written again.
func TestPowerCut(t *testing.T) {
	for _, fsync := range []string{"always", "everysec"} {
		t.Run("appendfsync="+fsync, func(t *testing.T) {
			d := outage.NewDisk(t, 64<<20)
			srv := redisserver.StartAt(t, d.Dir, "appendfsync "+fsync)
			st := open(t, srv.URL(), nil)
			w := outage.Start(t, st)
			srv.Written(t)
			d.Sync(t) // claims are not written again
			for range 3 {
				w.Endure(t, func() { d.Cut(t, srv) }, func() {
					d.Restore(t)
					srv.Repair(t)
					if err := srv.Run(); err != nil {
						t.Fatal(err)
					}
				})
			}
			w.Progress(t, 200)
			w.End(t, st)
		})
	}
}

// With everysec the last second is lost if its writer is not there any more, and the adoption with it: the former owner, which was fenced, can write
// again.
func TestPowerCutEverysec(t *testing.T) {
	d := outage.NewDisk(t, 64<<20)
	srv := redisserver.StartAt(t, d.Dir, "appendfsync everysec")
	o := fresh()
	st := open(t, srv.URL(), o)
	for round := range 5 { // the server may sync at just that moment
		id := fmt.Sprint("s", round)
		claim := func(node string) store.Header {
			t.Helper()
			c, err := st.Claim(t.Context(), store.ClaimRequest{Session: id, Owner: store.Owner{Node: node, Incarnation: store.NewIncarnation()}, Create: true})
			if err != nil || c.Outcome != store.Granted {
				t.Fatalf("claim: %+v, %v", c, err)
			}
			return c.Header
		}
		old := claim("old")
		write := func(seq uint64, want store.Outcome) {
			t.Helper()
			apply(t, st, store.Change{Session: id, Owner: old.Owner, Epoch: old.Epoch, Seq: seq, Puts: []store.Entry{{Value: fmt.Append(nil, seq)}}}, want)
		}
		write(1, store.Applied)
		srv.Written(t)
		d.Sync(t)
		seq, began := uint64(1), time.Now()
		for time.Since(began) < 500*time.Millisecond {
			seq++
			write(seq, store.Applied)
		}
		claim("new")
		write(seq+1, store.Fenced)
		st.Close() // so that it writes nothing again
		d.Cut(t, srv)
		d.Restore(t)
		srv.Repair(t)
		if err := srv.Run(); err != nil {
			t.Fatal(err)
		}
		st = open(t, srv.URL(), o)
		var snap store.Snapshot
		outage.Until(t, "the server answers", func() (ok bool) {
			var err error
			snap, err = st.Load(t.Context(), id)
			return err == nil
		})
		if snap.Header.Epoch < old.Epoch || snap.Header.Seq < 1 && snap.Header.Epoch == old.Epoch {
			t.Fatalf("what was synced is lost, too: %+v", snap.Header)
		}
		if snap.Header.Epoch == old.Epoch {
			t.Logf("lost are the adoption and the last %d of %d writes of half a second", seq-snap.Header.Seq, seq-1)
			write(seq+1, store.Applied) // who was fenced is the owner again: this is why always is what adoptions need
			return
		}
	}
	t.Error("in five power cuts no adoption was lost: store/README.md says that they are")
}
