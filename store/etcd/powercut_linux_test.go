package etcd

import (
	"testing"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
)

// The only server's disk loses its power under load: nothing that was acknowledged is lost.
func TestPowerCut(t *testing.T) {
	d := outage.NewDisk(t, 256<<20)
	c := start(t, 1, member{Dir: d.Dir})
	st := open(t, c.url(), nil)
	w := outage.Start(t, st)
	for range 3 {
		w.Endure(t, func() { d.Cut(t, c.procs[0]) }, func() {
			d.Restore(t)
			c.run(t, 0)
		})
	}
	w.Progress(t, 200)
	w.End(t, st)
}
