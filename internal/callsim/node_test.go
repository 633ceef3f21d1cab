package callsim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// severed is a store that a node can be cut off from: what a process that was killed does to it.
type severed struct {
	store.Store
	cut   atomic.Bool
	apply func(ctx context.Context, st store.Store, changes []store.Change) ([]store.Result, error)
}

var errCut = errors.New("cut off")

func (s *severed) Apply(ctx context.Context, c []store.Change) ([]store.Result, error) {
	if s.cut.Load() {
		return nil, errCut
	}
	if s.apply != nil {
		return s.apply(ctx, s.Store, c)
	}
	return s.Store.Apply(ctx, c)
}

func (s *severed) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
	if s.cut.Load() {
		return false, errCut
	}
	return s.Store.KeepAlive(ctx, n, ttl)
}

// pair is two nodes on one store, called without a network, in virtual time.
type pair struct {
	t    *testing.T
	a, b *Node
	cut  *severed // a's
}

func nodes(t *testing.T, test func(t *testing.T, p *pair)) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.New()
		p := &pair{t: t, a: NewNode("a"), b: NewNode("b"), cut: &severed{Store: st}}
		ctx := t.Context()
		if err := p.a.Open(ctx, p.cut, "a.test:1", kvstore.Options{}); err != nil {
			t.Fatal(err)
		}
		if err := p.b.Open(ctx, st, "b.test:2", kvstore.Options{}); err != nil {
			t.Fatal(err)
		}
		test(t, p)
		end, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := p.a.Close(end); err != nil && !p.cut.cut.Load() {
			t.Error(err)
		}
		if err := p.b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// send makes a request, and requires its status.
func send(t *testing.T, n *Node, status int, method, target, body string) (Reply, http.Header) {
	t.Helper()
	w := httptest.NewRecorder()
	n.ServeHTTP(w, httptest.NewRequest(method, target, bytes.NewReader([]byte(body))))
	var re Reply
	if err := json.Unmarshal(w.Body.Bytes(), &re); err != nil {
		t.Fatalf("%s %s: %v: %q", method, target, err, w.Body)
	}
	if w.Code != status {
		t.Fatalf("%s %s %s: status %d, want %d: %+v", method, target, body, w.Code, status, re)
	}
	return re, w.Header()
}

func (p *pair) feed(n *Node, status int, body string) Reply {
	p.t.Helper()
	re, _ := send(p.t, n, status, "POST", "/calls/c1/events", body)
	return re
}

func TestEventsAreTakenInOrderAndOnce(t *testing.T) {
	nodes(t, func(t *testing.T, p *pair) {
		p.feed(p.a, 404, `{"kind":"media"}`)
		if re := p.feed(p.a, 200, `{"n":1,"kind":"invite","from":"x"}`); re.N != 1 || re.Epoch != 1 || re.Adopted != nil {
			t.Errorf("first event: %+v", re)
		}
		p.feed(p.a, 200, `{"n":2,"kind":"ringing"}`)
		before, _ := send(t, p.a, 200, "GET", "/calls/c1", "")
		if re := p.feed(p.a, 200, `{"n":2,"kind":"ringing"}`); re.N != 2 {
			t.Errorf("an event sent twice: %+v", re)
		}
		if re := p.feed(p.a, 409, `{"n":4,"kind":"media"}`); re.N != 2 {
			t.Errorf("a gap must be answered with where the call is: %+v", re)
		}
		p.feed(p.a, 422, `{"kind":"resume"}`)
		p.feed(p.a, 422, `{"kind":"dance"}`)
		p.feed(p.a, 400, `{"kind":`)
		p.feed(p.a, 400, `{"kynd":"media"}`)
		send(t, p.a, 400, "POST", "/calls/c1/events?sync=perhaps", `{"kind":"answer"}`)
		after, _ := send(t, p.a, 200, "GET", "/calls/c1", "")
		if len(after.Entries) != 4 || after.Entries[Leg2] != before.Entries[Leg2] || after.N != 2 {
			t.Errorf("what was refused changed the call: %+v", after)
		}
		if re := p.feed(p.a, 200, `{"kind":"answer"}`); re.N != 3 {
			t.Errorf("an event without a number is the next one: %+v", re)
		}
		p.feed(p.a, 200, `{"kind":"bye"}`)
		send(t, p.a, 404, "GET", "/calls/c1", "")
	})
}

func TestSyncWaitsForTheStore(t *testing.T) {
	nodes(t, func(t *testing.T, p *pair) {
		if re := p.feed(p.a, 200, `{"kind":"invite"}`); *re.LagMS != 0 {
			t.Errorf("lag just after the event: %+v", re)
		}
		time.Sleep(40 * time.Millisecond)
		if re, _ := send(t, p.a, 200, "GET", "/calls/c1", ""); *re.LagMS < 40 {
			t.Errorf("an event that waits to be stored shows no lag: %+v", re)
		}
		re, _ := send(t, p.a, 200, "POST", "/calls/c1/events?sync=1", `{"kind":"answer"}`)
		if *re.LagMS != 0 {
			t.Errorf("synced, and there is lag: %+v", re)
		}
		p.cut.cut.Store(true) // a dies
		time.Sleep(10 * time.Second)
		re = p.feed(p.b, 200, `{"kind":"media"}`)
		if re.N != 3 || re.Epoch != 2 || re.Adopted == nil || re.Adopted.N != 2 || re.Adopted.Entries[TimerSession].N != 2 {
			t.Errorf("what was synced is not what was adopted: %+v", re)
		}
		if re := p.feed(p.b, 200, `{"kind":"media"}`); re.Adopted != nil || re.N != 4 {
			t.Errorf("adopted once more: %+v", re)
		}
	})
}

func TestAnOwnerThatLivesGetsItsEvents(t *testing.T) {
	nodes(t, func(t *testing.T, p *pair) {
		send(t, p.a, 200, "POST", "/calls/c1/events?sync=1", `{"kind":"invite"}`)
		for _, r := range []struct{ method, target, body string }{
			{"POST", "/calls/c1/events?sync=1", `{"kind":"answer"}`}, {"GET", "/calls/c1", ""},
		} {
			re, h := send(t, p.b, 307, r.method, r.target, r.body)
			if want := "http://a.test:1" + r.target; re.Owner != "a.test:1" || h.Get("Location") != want {
				t.Errorf("%s: owner %q, location %q, want %q", r.method, re.Owner, h.Get("Location"), want)
			}
		}
		if err := p.a.Close(t.Context()); err != nil { // a clean exit needs no waiting
			t.Fatal(err)
		}
		if re := p.feed(p.b, 200, `{"kind":"answer"}`); re.Epoch != 2 {
			t.Errorf("after a clean exit: %+v", re)
		}
		_, h := send(t, p.a, 503, "GET", "/calls/c1", "")
		if h.Get("Retry-After") == "" {
			t.Error("503 without Retry-After")
		}
	})
}

func TestALateOwnerSendsItsEventsOn(t *testing.T) {
	nodes(t, func(t *testing.T, p *pair) {
		send(t, p.a, 200, "POST", "/calls/c1/events?sync=1", `{"kind":"invite"}`)
		p.cut.cut.Store(true)
		time.Sleep(10 * time.Second)
		p.feed(p.b, 200, `{"kind":"ringing"}`)
		p.cut.cut.Store(false) // a was not dead
		re, _ := send(t, p.a, 307, "POST", "/calls/c1/events?sync=1", `{"kind":"ringing"}`)
		if re.Owner != "b.test:2" {
			t.Errorf("a zombie answers %+v", re)
		}
	})
}

func TestANodeWithoutAStoreSaysSo(t *testing.T) {
	n := NewNode("b")
	n.Waiting("the file is taken")
	re, h := send(t, n, 503, "POST", "/calls/c1/events", `{"kind":"invite"}`)
	if re.Error != "the file is taken" || h.Get("Retry-After") == "" {
		t.Errorf("%+v", re)
	}
	if st := n.Stats(); st.Serving || st.Why != "the file is taken" {
		t.Errorf("%+v", st)
	}
	if err := n.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// FuzzEvent sends anything as an event of a call that is up. What the node does not understand is the sender's mistake, never
// an error of its own, and always answered by JSON.
func FuzzEvent(f *testing.F) {
	f.Add([]byte(`{"kind":"media","value":7}`), "sync=1", "c1")
	f.Add([]byte(`{"kind":"bye","n":3}`), "", "c1")
	f.Add([]byte(`{"kind":"invite","from":"a","to":"b"}`), "sync=0", "c/2")
	f.Add([]byte(`{"n":-1}`), "sync=maybe", "")
	f.Fuzz(func(t *testing.T, body []byte, query, call string) {
		nodes(t, func(t *testing.T, p *pair) {
			p.feed(p.a, 200, `{"kind":"invite"}`)
			p.feed(p.a, 200, `{"kind":"answer"}`)
			r := httptest.NewRequest("POST", "/calls/c1/events", bytes.NewReader(body))
			r.URL.RawQuery, r.URL.Path = query, "/calls/"+call+"/events"
			w := httptest.NewRecorder()
			p.a.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Errorf("status %d: %s", w.Code, w.Body)
			}
			if w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
				t.Errorf("the answer is no JSON: %q", w.Body)
			}
		})
	})
}
