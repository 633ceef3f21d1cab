package callsim

import (
	"context"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// stalled is a store whose calls stand still for a while: what a process that was stopped does to it.
type stalled struct {
	store.Store
	gate sync.RWMutex
}

func (s *stalled) pass() {
	s.gate.RLock()
	defer s.gate.RUnlock()
}

func (s *stalled) Apply(ctx context.Context, c []store.Change) ([]store.Result, error) {
	s.pass()
	return s.Store.Apply(ctx, c)
}

func (s *stalled) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	s.pass()
	return s.Store.Claim(ctx, r)
}

func (s *stalled) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
	s.pass()
	return s.Store.KeepAlive(ctx, n, ttl)
}

// comeback plays a run of three nodes that live on one store, of which the second stands still until its calls are
// adopted, and then goes on. fence, if not nil, stands between it and the store.
func comeback(t *testing.T, fence func(store.Store) store.Store) (f Findings, d *Driver, looked int, refused int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	st := memory.New()
	var behind store.Store = st
	if fence != nil {
		behind = fence(st)
	}
	stall := &stalled{Store: behind}
	var addrs []string
	var nodes []*Node
	for i, st := range []store.Store{st, stall, st} {
		n := NewNode([]string{"a", "b", "c"}[i])
		n.Shared = true
		srv := httptest.NewServer(n)
		defer srv.Close()
		addr := srv.Listener.Addr().String()
		o := kvstore.Options{MaxDelay: 50 * time.Millisecond, Lease: 300 * time.Millisecond, StoreTimeout: time.Minute, Strict: true}
		if err := n.Open(ctx, st, addr, o); err != nil {
			t.Fatal(err)
		}
		nodes, addrs = append(nodes, n), append(addrs, addr)
	}
	m := Model{Seed: 11, Sync: 50}
	d = &Driver{Model: m, Ledger: NewLedger(m, 240), Client: NewClient(16), Nodes: addrs, Workers: 16, Stray: 100,
		Home: func(i int) int { return i % 3 }}
	defer d.Client.Close()
	d.Start(ctx)
	<-d.Begun()
	until(t, func() bool { return d.Progress().Events > 1500 })
	until(t, func() bool { return nodes[1].Stats().DB.Lag > 20*time.Millisecond })
	before := nodes[1].Stats()
	d.Still(true)
	if _, err := d.Suspend(1, func() error { stall.gate.Lock(); return nil }); err != nil {
		t.Fatal(err)
	}
	<-d.TakenOver(1)
	stall.gate.Unlock()
	until(t, func() bool {
		s := nodes[1].Stats()
		return s.Lapses > before.Lapses && s.DB.Lag == 0 && s.DB.Buffered == 0 && s.Flushing == 0
	})
	refused = nodes[1].Stats().Refused - before.Refused
	looked, err := d.CheckLate(ctx, st)
	if err != nil {
		t.Fatal(err)
	}
	d.Resume(1)
	d.Still(false)
	d.Mark()
	until(t, func() bool { return d.SinceMark() > 0 })
	goal := d.Progress().Events + 300
	until(t, func() bool { return d.Progress().Events > goal })
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	if n, err := d.CheckLive(ctx); err != nil || n != 240 {
		t.Fatalf("looked at %d calls: %v", n, err)
	}
	for i, n := range nodes {
		spare := int64(0)
		if i == 1 {
			spare = 1
		}
		d.Ledger.Excuse(i, n.Stats().Lapses > spare)
		if err := n.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := d.Ledger.CheckStored(ctx, st); err != nil || n != 240 {
		t.Fatalf("looked at %d stored calls: %v", n, err)
	}
	return d.Ledger.Findings(), d, looked, refused
}

func TestANodeThatComesBackLosesNothingThatWasPromised(t *testing.T) {
	f, d, looked, refused := comeback(t, nil)
	if f.Broken() {
		t.Errorf("broken: %+v", f)
	}
	p := d.Progress()
	if refused == 0 || looked == 0 || p.Adopted < 60 || p.Strayed == 0 || p.Redirected == 0 || d.FirstTakeover(1) <= 0 {
		t.Errorf("%+v, %d refused, %d looked at, first takeover after %v: this run proves nothing", p, refused, looked, d.FirstTakeover(1))
	}
}

func TestALateWriteIsFoundOut(t *testing.T) {
	f, _, _, refused := comeback(t, func(st store.Store) store.Store { return Leaky{st} })
	if f.ZombieLanded == 0 || !f.Broken() {
		t.Errorf("it was not found out: %+v, %d refused", f, refused)
	}
}

func TestTheMarksTellALateWrite(t *testing.T) {
	r := &record{id: "c1"}
	for _, re := range []struct {
		by   string
		from uint64
	}{{"a/1", 1}, {"a/1", 4}, {"b/2", 7}, {"b/2", 9}, {"a/3", 12}} {
		r.reign(re.by, re.from)
	}
	for _, c := range []struct {
		by   string
		n    uint64
		late bool
	}{
		{"a/1", 7, false}, {"a/1", 8, true}, {"a/1", 13, true},
		{"b/2", 8, false}, {"b/2", 12, false}, {"b/2", 13, true},
		{"a/3", 13, false}, {"", 99, false}, {"c/9", 99, false}, // nobody heard of it: that proves nothing
	} {
		if why := r.late(map[string]Part{Leg1: {N: c.n, By: c.by}}); (why != "") != c.late {
			t.Errorf("event %d by %s: late %q, want %v", c.n, c.by, why, c.late)
		}
	}
}

func TestWhatIsInTheStoreIsTheOwners(t *testing.T) {
	header := func(node string, epoch uint64) store.Header {
		return store.Header{Session: "c", Epoch: epoch, Owner: store.Owner{Node: node}}
	}
	gone := header("b", 2)
	gone.Deleted = true
	for _, c := range []struct {
		name  string
		h     store.Header
		state func(m Model, i int) map[string]Part
		late  bool
	}{
		{"as it was found", header("b", 2), func(m Model, i int) map[string]Part { return m.State(i, 6) }, false},
		{"its owner went on", header("b", 2), func(m Model, i int) map[string]Part { return m.State(i, 8) }, false},
		{"an older state", header("b", 2), func(m Model, i int) map[string]Part { return m.State(i, 5) }, true},
		{"the former owner's again", header("a", 1), func(m Model, i int) map[string]Part { return m.State(i, 6) }, true},
		{"gone", gone, func(m Model, i int) map[string]Part { return nil }, true},
		{"an entry is missing", header("b", 2), func(m Model, i int) map[string]Part {
			s := m.State(i, 6)
			delete(s, Leg1)
			return s
		}, true},
		{"an entry of the former owner's", header("b", 2), func(m Model, i int) map[string]Part {
			s := m.State(i, 7)
			for key, p := range s {
				if p.N == 7 {
					p.By = "a/1"
					s[key] = p
				}
			}
			return s
		}, true},
	} {
		l, r := ledgerAt(false, 9, 3, false)
		r.reign("a/1", 1)
		r.reign("b/2", 6)
		l.untouched(r, c.h, c.state(l.model, r.i))
		if f := l.Findings(); (f.ZombieLanded == 1) != c.late || f.Broken() != c.late {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

func TestOnlyALapseExcusesWhatAnotherNodeTook(t *testing.T) {
	for _, lapsed := range []bool{true, false} {
		l, r := ledgerAt(false, 9, 3, false)
		l.takeover(r, 6, true, adopted)
		if n := l.Excuse(r.node, lapsed); n != 1 || r.acked != 6 {
			t.Errorf("%d calls, on from event %d", n, r.acked)
		}
		if f := l.Findings(); f.Broken() == lapsed {
			t.Errorf("lapsed %v: %+v", lapsed, f)
		}
	}
	l, r := ledgerAt(false, 9, 8, false)
	l.takeover(r, 6, true, adopted)
	if f := l.Findings(); f.SyncedLost != 2 {
		t.Errorf("no lapse excuses what was synced: %+v", f)
	}
}

// A busy machine lets a lease lapse, and the answer be lost of the request for which another node adopted the call.
func TestALapseExcusesAnAdoptionThatWasNotTold(t *testing.T) {
	for _, c := range []struct {
		at     string
		lapsed bool
		broken bool
	}{{"b", true, false}, {"b", false, true}, {"a", true, true}} {
		l, r := ledgerAt(false, 9, 3, false)
		w := &worker{d: &Driver{Nodes: []string{"a", "b"}, peers: make([]peer, 2), Ledger: l}}
		w.settle(r, &Reply{Node: c.at}, c.at, 6, true)
		l.Excuse(r.node, c.lapsed)
		if f := l.Findings(); f.Broken() != c.broken || r.acked != 6 {
			t.Errorf("%+v: on from event %d, %+v", c, r.acked, f)
		}
	}
}
