package etcd

import (
	"fmt"
	"testing"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// The only server is killed under load, and started again.
func TestServerKilled(t *testing.T) {
	c := start(t, 1, member{})
	st := open(t, c.url(), nil)
	w := outage.Start(t, st)
	for range 3 {
		w.Endure(t, func() { c.kill(0) }, func() { c.run(t, 0) })
	}
	w.Progress(t, 200)
	w.End(t, st)
	if n := w.Lost(); n > outage.Sessions { // what was under way in the end
		t.Errorf("%d losses were reported", n)
	}
}

// The server stands still for longer than any time-out and the lease, and then goes on where it was: with the calls, too, that were given up.
func TestServerFrozen(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	st := open(t, c.url(), nil)
	w := outage.Start(t, st)
	for range 2 {
		w.Endure(t, c.procs[0].Freeze, func() {
			outage.Until(t, "the lease is over", func() bool { return w.DB().Health().LeaseLeft <= 0 })
			c.procs[0].Thaw()
		})
	}
	w.Progress(t, 200)
	w.End(t, st)
}

// Connections hang, in one direction or both: nothing is refused and nothing answered. What the server was asked it does all the same.
func TestConnectionsHang(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	p := outage.NewProxy(t, c.members[0].Client)
	st := open(t, fmt.Sprint("etcd://127.0.0.1:", p.Port), nil)
	w := outage.Start(t, st)
	for _, deaf := range []bool{true, false} {
		w.Endure(t, func() { p.Hang(deaf) }, p.Heal)
	}
	w.Progress(t, 200)
	w.End(t, st)
}

// What was sent before its sender gave up arrives when the session is another's.
func TestLateArrival(t *testing.T) {
	c, o := start(t, 1, member{NoFsync: true}), fresh()
	p := outage.NewProxy(t, c.members[0].Client)
	storetest.LateArrival(t, open(t, c.url(), o), open(t, fmt.Sprint("etcd://127.0.0.1:", p.Port), o), p)
}

// Of three servers the one that leads is killed, or frozen for longer than the lease and all time-outs; the others go on. Then two are
// killed, and nobody can.
func TestLeaderFails(t *testing.T) {
	c := start(t, 3, member{})
	st := open(t, c.url(), nil)
	w := outage.Start(t, st)
	for range 2 {
		w.Progress(t, 100)
		l := c.leader(t)
		c.kill(l)
		w.Progress(t, 100)
		c.run(t, l)
		w.Progress(t, 100)
		c.ready(t, l)
	}
	for range 2 {
		l := c.leader(t)
		c.procs[l].Freeze()
		w.Progress(t, 200)
		outage.Until(t, "another one leads", func() bool { return c.leader(t) != l })
		c.procs[l].Thaw()
		w.Progress(t, 100)
		c.ready(t, l)
	}
	w.Endure(t, func() {
		c.kill(0)
		c.kill(1)
	}, func() {
		c.run(t, 0)
		c.run(t, 1)
	})
	w.Progress(t, 100)
	w.End(t, st)
	if n := w.Lost(); n > outage.Sessions {
		t.Errorf("%d losses were reported", n)
	}
}
