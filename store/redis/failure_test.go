package redis

import (
	"testing"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// The server is killed under load and started again. It wrote to its file before it answered, so nothing is lost, be it synced or not. At everysec
// that is not so: it answers first as long as an earlier sync goes on, for up to two seconds, and a busy disk makes that long. But what it has forgotten
// is written again.
func TestServerKilled(t *testing.T) {
	for _, fsync := range []string{"always", "everysec", "no"} {
		t.Run("appendfsync="+fsync, func(t *testing.T) {
			srv := redisserver.Start(t, "appendfsync "+fsync)
			st := open(t, srv.URL(), nil)
			w := outage.Start(t, st)
			for range 3 {
				w.Endure(t, srv.Kill, func() {
					if err := srv.Run(); err != nil {
						t.Fatal(err)
					}
				})
			}
			w.Progress(t, 200)
			w.End(t, st)
			if n := w.Lost(); n > outage.Sessions { // what was under way in the end
				t.Errorf("%d losses were reported", n)
			}
		})
	}
}

// A server without a file forgets everything when it is restarted. What former owners then write is fenced: that there is nothing does not make it
// theirs.
func TestServerForgets(t *testing.T) {
	srv := redisserver.Start(t, "appendonly no")
	o := fresh()
	o.AllowVolatile = true
	st := open(t, srv.URL(), o)
	c, err := st.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: store.Owner{Node: "a", Incarnation: store.NewIncarnation()}, Create: true})
	if err != nil || c.Outcome != store.Granted {
		t.Fatalf("claim: %+v, %v", c, err)
	}
	ch := store.Change{Session: "s", Owner: c.Header.Owner, Epoch: 1, Seq: 1, Puts: []store.Entry{{Value: []byte("v")}}}
	apply(t, st, ch, store.Applied)
	srv.Kill()
	if err := srv.Run(); err != nil {
		t.Fatal(err)
	}
	ch.Seq++
	var rs []store.Result
	outage.Until(t, "the server answers", func() bool {
		rs, err = st.Apply(t.Context(), []store.Change{ch})
		return err == nil
	})
	if rs[0].Outcome != store.Fenced || rs[0].Header.Epoch != 0 {
		t.Errorf("a change to what was forgotten: %+v", rs[0])
	}
	if snap, err := st.Load(t.Context(), "s"); err != nil || snap.Header.Epoch != 0 || len(snap.Entries) != 0 {
		t.Errorf("what was forgotten is %+v, %v", snap, err)
	}
	if c, err := st.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: ch.Owner}); err != nil || c.Outcome != store.NotFound {
		t.Errorf("a claim of what was forgotten: %+v, %v", c, err)
	}
}

// The server stands still for longer than any time-out and the lease, and then goes on where it was: with the calls, too, that were given up.
func TestServerFrozen(t *testing.T) {
	srv := redisserver.Start(t)
	st := open(t, srv.URL(), nil)
	w := outage.Start(t, st)
	for range 3 {
		w.Endure(t, func() { srv.Freeze() }, func() {
			outage.Until(t, "the lease is over", func() bool { return w.DB().Health().LeaseLeft <= 0 })
			srv.Thaw()
		})
	}
	w.Progress(t, 200)
	w.End(t, st)
}

// Connections hang, in one direction or both: nothing is refused and nothing answered. What the server was asked it does all the same.
func TestConnectionsHang(t *testing.T) {
	srv := redisserver.Start(t)
	p := outage.NewProxy(t, srv.Port)
	st := open(t, srv.URLAt(p.Port), nil)
	w := outage.Start(t, st)
	for _, deaf := range []bool{true, false, true, false} {
		w.Endure(t, func() { p.Hang(deaf) }, p.Heal)
	}
	w.Progress(t, 200)
	w.End(t, st)
}

// What was sent before its sender gave up arrives when the session is another's.
func TestLateArrival(t *testing.T) {
	srv, o := redisserver.Start(t), fresh()
	p := outage.NewProxy(t, srv.Port)
	storetest.LateArrival(t, open(t, srv.URL(), o), open(t, srv.URLAt(p.Port), o), p)
}

// The server forgets the scripts, again and again.
func TestScriptsForgotten(t *testing.T) {
	srv := redisserver.Start(t)
	o := fresh()
	o.Buckets = 4
	st := open(t, srv.URL(), o)
	w := outage.Start(t, st)
	for range 50 {
		srv.Must(t, "SCRIPT", "FLUSH")
		w.Progress(t, 10)
	}
	w.End(t, st)
	if n := w.Lost(); n > outage.Sessions {
		t.Errorf("%d losses were reported", n)
	}
}
