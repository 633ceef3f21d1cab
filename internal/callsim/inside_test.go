package callsim

import (
	"context"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// A node's call with a further name, a log and a timer is what the model says, event by event, however often the timer fires between them; and what is not
// so is found.
func TestInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		m := Model{Seed: 5, Inside: true}
		n := NewNode("a")
		n.Inside = true
		if err := n.Open(ctx, memory.New(), "a:1", kvstore.Options{}); err != nil {
			t.Fatal(err)
		}
		e := n.on.Load()
		i := ending(m, true)
		id := m.ID(i)
		for k := uint64(1); k < m.End(i); k++ {
			if err := e.feed(ctx, id, m.Event(i, k), false, new(Reply)); err != nil {
				t.Fatal(err)
			}
			s, _, err := e.find(ctx, callID(id))
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				found, err := contents(ctx, s)
				if err != nil || !maps.Equal(found, m.State(i, k)) {
					t.Fatalf("after event %d it is %+v, want %+v (error %v)", k, found, m.State(i, k), err)
				}
				time.Sleep(chargeEvery)
				synctest.Wait()
			}
			for _, key := range []string{nameKey, logKey, chargeKey} {
				broken, _ := contents(ctx, s)
				if _, ok := broken[key]; !ok {
					continue
				}
				p := broken[key]
				p.State += "!"
				broken[key] = p
				if v, _ := m.judge(i, broken, k); v != corrupt {
					t.Errorf("after event %d, a broken %s passes for %d", k, key, v)
				}
				delete(broken, key)
				if v, _ := m.judge(i, broken, k); v == whole {
					t.Errorf("after event %d, a missing %s passes", k, key)
				}
			}
		}
		st := n.Stats()
		if st.DB.Fired == 0 || st.Early+st.Torn > 0 || st.Logged != int64(m.End(i)-1) || st.Lookups == 0 {
			t.Errorf("%d timers fired, %d too early, %d torn; %d events logged; %d lookups", st.DB.Fired, st.Early, st.Torn, st.Logged, st.Lookups)
		}
		s, _, err := e.find(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Add(ctx, counter, 1, kvstore.InMemory); err != nil { // as if it had been charged without its timer
			t.Fatal(err)
		}
		if found, err := contents(ctx, s); err != nil || found[chargeKey].State == "running" {
			t.Errorf("a timer that does not agree with its counter shows as %+v (error %v)", found[chargeKey], err)
		}
		if err := e.feed(ctx, id, m.Event(i, m.End(i)), false, new(Reply)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := e.find(ctx, callID(id)); err == nil {
			t.Error("a call that is over is found by its name")
		}
		if err := n.Close(ctx); err != nil {
			t.Fatal(err)
		}
	})
}
