package postgres

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/pgserver"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// The server is killed under load, all its processes at once, and started again.
func TestServerKilled(t *testing.T) {
	srv := pgserver.Start(t)
	st := open(t, srv.URL(), nil)
	w := outage.Start(t, st)
	for range 5 {
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
}

// With Relaxed a killed server forgets the last flushes, though it had acknowledged them; but nothing from before a claim or a barrier, nor that. What
// it forgot is written again before anything else is, or when somebody waits for it.
func TestRelaxedServerKilled(t *testing.T) {
	srv := pgserver.Start(t, "wal_writer_delay=1s")
	o := fresh()
	o.Relaxed = true
	st := open(t, srv.URL(), o)
	claim := func(id string) store.Claim {
		t.Helper()
		c, err := st.Claim(t.Context(), store.ClaimRequest{Session: id, Owner: store.Owner{Node: "x", Incarnation: store.NewIncarnation()}, Create: true, All: true})
		if err != nil || c.Outcome != store.Granted {
			t.Fatalf("claim: %+v, %v", c, err)
		}
		return c
	}
	flush := func(c store.Claim, seqs uint64) {
		for seq := range seqs {
			v := strconv.AppendUint(nil, seq+1, 10)
			apply(t, st, store.Change{Session: c.Header.Session, Owner: c.Header.Owner, Epoch: c.Header.Epoch, Seq: seq + 1,
				Puts: []store.Entry{{Value: v}, {Key: "k", Value: v}}}, store.Applied)
		}
	}
	forgotten := 0
	for round := range 3 {
		taken, hard, left := claim(fmt.Sprint("taken/", round)), claim(fmt.Sprint("hard/", round)), claim(fmt.Sprint("left/", round))
		flush(taken, 20)
		by := claim(taken.Header.Session)
		flush(hard, 20)
		if err := st.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		flush(left, 20)
		srv.Kill()
		if err := srv.Run(); err != nil {
			t.Fatal(err)
		}
		var snap store.Snapshot
		outage.Until(t, "the server answers", func() (ok bool) {
			var err error
			snap, err = st.Load(t.Context(), taken.Header.Session)
			return err == nil
		})
		if snap.Header.Epoch != 2 || snap.Header.Owner != by.Header.Owner || len(snap.Entries) != 2 || string(snap.Entries[0].Value) != "20" || string(snap.Entries[1].Value) != "20" {
			t.Errorf("what was claimed is now %+v", snap)
		}
		if snap, err := st.Load(t.Context(), hard.Header.Session); err != nil || snap.Header.Seq != 20 || len(snap.Entries) != 2 {
			t.Errorf("what a barrier made durable is now %+v, %v", snap, err)
		}
		snap, err := st.Load(t.Context(), left.Header.Session)
		if err != nil || snap.Header.Epoch != 1 || snap.Header.Owner != left.Header.Owner {
			t.Errorf("what was flushed is now %+v, %v", snap, err)
		}
		for _, e := range snap.Entries {
			if string(e.Value) != fmt.Sprint(snap.Header.Seq) {
				t.Errorf("it is torn: %+v", snap)
			}
		}
		if snap.Header.Seq == 20 {
			continue
		}
		forgotten++
		if round%2 == 0 {
			if err := st.Barrier(t.Context()); err != nil {
				t.Error(err)
			}
		} else { // of another session
			flush(claim(fmt.Sprint("other/", round)), 1)
		}
		snap, err = st.Load(t.Context(), left.Header.Session)
		if err != nil || snap.Header.Seq != 20 || len(snap.Entries) != 2 || string(snap.Entries[0].Value) != "20" || string(snap.Entries[1].Value) != "20" {
			t.Errorf("what was forgotten is not written again: %+v, %v", snap, err)
		}
	}
	if forgotten == 0 {
		t.Error("nothing was forgotten: the test shows nothing of Relaxed")
	}
}

// The server stands still for longer than any time-out and the lease, and then goes on where it was: with the calls, too, that were given up.
func TestServerFrozen(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
	st := open(t, srv.URL(), nil)
	w := outage.Start(t, st)
	for range 3 {
		w.Endure(t, srv.Freeze, func() {
			outage.Until(t, "the lease is over", func() bool { return w.DB().Health().LeaseLeft <= 0 })
			srv.Thaw()
		})
	}
	w.Progress(t, 200)
	w.End(t, st)
}

// Connections hang, in one direction or both: nothing is refused and nothing answered. What the server was asked it does all the same.
func TestConnectionsHang(t *testing.T) {
	srv := pgserver.Start(t, "fsync=off")
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
	srv, o := pgserver.Start(t, "fsync=off"), fresh()
	p := outage.NewProxy(t, srv.Port)
	storetest.LateArrival(t, open(t, srv.URL(), o), open(t, srv.URLAt(p.Port), o), p)
}
