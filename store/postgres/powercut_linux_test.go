package postgres

import (
	"testing"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/pgserver"
)

// The server's disk loses its power under load. By default nothing that was acknowledged is lost; with Relaxed nothing that was synced.
func TestPowerCut(t *testing.T) {
	for name, relaxed := range map[string]bool{"default": false, "Relaxed": true} {
		t.Run(name, func(t *testing.T) {
			d := outage.NewDisk(t, 256<<20)
			srv := pgserver.StartAt(t, d.Dir)
			d.Sync(t) // the data directory was made without
			o := fresh()
			o.Relaxed = relaxed
			st := open(t, srv.URL(), o)
			w := outage.Start(t, st)
			for range 3 {
				w.Endure(t, func() { d.Cut(t, srv) }, func() {
					d.Restore(t)
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
