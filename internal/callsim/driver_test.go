package callsim

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// failover plays a whole run over real connections: two nodes on one store, of which the first is killed.
// apply, if not nil, stands between it and the store.
func failover(t *testing.T, apply func(context.Context, store.Store, []store.Change) ([]store.Result, error)) (Findings, *Driver) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	st := memory.New()
	cut := &severed{Store: st, apply: apply}
	var addrs []string
	var nodes []*Node
	var servers []*httptest.Server
	for i, behind := range []store.Store{cut, st} {
		n := NewNode([]string{"a", "b"}[i])
		srv := httptest.NewServer(n)
		defer srv.Close()
		addr := srv.Listener.Addr().String()
		if err := n.Open(ctx, behind, addr, kvstore.Options{MaxDelay: 20 * time.Millisecond, Lease: 300 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		nodes, servers, addrs = append(nodes, n), append(servers, srv), append(addrs, addr)
	}
	m := Model{Seed: 11, Sync: 100}
	d := &Driver{Model: m, Ledger: NewLedger(m, 200), Client: NewClient(16), Nodes: addrs, Workers: 16}
	defer d.Client.Close()
	d.Start(ctx)
	<-d.Begun()
	until(t, func() bool { return d.Progress().Events > 1500 })
	killed, err := d.Kill(0, func() error {
		cut.cut.Store(true)
		servers[0].Listener.Close() // first: nobody is to connect again
		servers[0].CloseClientConnections()
		return nil
	})
	if err != nil || time.Since(killed) > time.Minute {
		t.Fatal(killed, err)
	}
	<-d.TakenOver(0)
	before := d.Progress().Events
	until(t, func() bool { return d.Progress().Events > before+300 })
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	if n, err := d.CheckLive(ctx); err != nil || n != 200 {
		t.Fatalf("looked at %d calls: %v", n, err)
	}
	if err := nodes[1].Close(ctx); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	nodes[0].Close(gone) // it cannot store anything any more
	if n, err := d.Ledger.CheckStored(ctx, st); err != nil || n != 200 {
		t.Fatalf("looked at %d stored calls: %v", n, err)
	}
	return d.Ledger.Findings(), d
}

// until waits for something that the workers bring about.
func until(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the workers do not get on")
		}
	}
}

func TestFailoverLosesNothingThatWasPromised(t *testing.T) {
	f, d := failover(t, nil)
	if f.Broken() {
		t.Errorf("broken: %+v", f)
	}
	p := d.Progress()
	if p.Adopted < 150 || p.Synced == 0 || d.FirstTakeover(0) <= 0 || d.Ledger.Live() < 150 {
		t.Errorf("%+v, first takeover after %v, %d calls live: this run proves nothing", p, d.FirstTakeover(0), d.Ledger.Live())
	}
}

func TestSyncByCallLeavesTheOthersAlone(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n := NewNode("a")
	srv := httptest.NewServer(n)
	defer srv.Close()
	addr := srv.Listener.Addr().String()
	if err := n.Open(ctx, memory.New(), addr, kvstore.Options{MaxDelay: 20 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	m := Model{Seed: 11, Sync: 100}
	d := &Driver{Model: m, Ledger: NewLedger(m, 200), Client: NewClient(16), Nodes: []string{addr}, Workers: 16}
	defer d.Client.Close()
	d.SyncByCall(true)
	d.Start(ctx)
	<-d.Begun()
	until(t, func() bool { return d.Progress().Events > 1500 })
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for _, r := range d.Ledger.calls {
		if want := r.acked; m.Always(r.i) && r.synced != want || !m.Always(r.i) && r.synced != 0 {
			t.Errorf("call %s is at event %d, synced at %d; always synced: %v", r.id, r.acked, r.synced, m.Always(r.i))
		}
	}
	if d.Progress().Synced == 0 {
		t.Error("no call is synced: this run proves nothing")
	}
}

// Each of these stores breaks its contract in one way, and the judge must see it.
func TestAStoreThatLiesIsFoundOut(t *testing.T) {
	victim := func(c *store.Change) bool { return c.Session[len(c.Session)-1] == '7' }
	applied := func(changes []store.Change) []store.Result {
		rs := make([]store.Result, len(changes))
		for i := range rs {
			rs[i].Outcome = store.Applied
		}
		return rs
	}
	for _, c := range []struct {
		name  string
		apply func(context.Context, store.Store, []store.Change) ([]store.Result, error)
		seen  func(f Findings) int
	}{
		{"it forgets a change", func(ctx context.Context, st store.Store, changes []store.Change) ([]store.Result, error) {
			var kept []store.Change
			for _, c := range changes {
				if c.Create || !victim(&c) {
					kept = append(kept, c)
				}
			}
			_, err := st.Apply(ctx, kept)
			return applied(changes), err
		}, func(f Findings) int { return f.SyncedLost + f.Torn }},
		{"it forgets a session", func(ctx context.Context, st store.Store, changes []store.Change) ([]store.Result, error) {
			var kept []store.Change
			for _, c := range changes {
				if !victim(&c) {
					kept = append(kept, c)
				}
			}
			_, err := st.Apply(ctx, kept)
			return applied(changes), err
		}, func(f Findings) int { return f.CallsLost + f.SyncedLost }},
		{"it stores half of a change", func(ctx context.Context, st store.Store, changes []store.Change) ([]store.Result, error) {
			for i := range changes {
				if c := &changes[i]; len(c.Puts) > 1 && victim(c) {
					c.Puts = c.Puts[:1]
				}
			}
			return st.Apply(ctx, changes)
		}, func(f Findings) int {
			if f.Corrupt > 0 {
				t.Errorf("each entry is as it once was, and calls count as corrupt: %+v", f)
			}
			return f.Torn
		}},
		{"it does not delete", func(ctx context.Context, st store.Store, changes []store.Change) ([]store.Result, error) {
			for i := range changes {
				changes[i].Deletes = nil
			}
			return st.Apply(ctx, changes)
		}, func(f Findings) int { return f.Torn }},
		{"it brings sessions back", func(ctx context.Context, st store.Store, changes []store.Change) ([]store.Result, error) {
			for i := range changes {
				changes[i].Delete = false
			}
			return st.Apply(ctx, changes)
		}, func(f Findings) int { return f.SyncedLost + f.Lost }},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, _ := failover(t, c.apply)
			if c.seen(f) == 0 || !f.Broken() {
				t.Errorf("it was not found out: %+v", f)
			}
		})
	}
}
