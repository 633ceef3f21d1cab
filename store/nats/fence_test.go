package nats

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// unfenced takes everybody for the owner.
type unfenced struct{ *Store }

func (s unfenced) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	cs := append([]store.Change{}, changes...)
	for i := range cs {
		if snap, err := s.Load(ctx, cs[i].Session, "none"); err == nil && snap.Header.Exists() {
			cs[i].Owner, cs[i].Epoch, cs[i].Seq = snap.Header.Owner, snap.Header.Epoch, max(cs[i].Seq, snap.Header.Seq+1)
		}
	}
	return s.Store.Apply(ctx, cs)
}

// TestRaceFindsFaults shows that it is the header on record, and the sequence that the server compares, that keep zombies out: without either the race that
// TestContract passes finds what they wrote.
func TestRaceFindsFaults(t *testing.T) {
	srv := start(t, "")
	for name, broken := range map[string]func(*Store) store.Store{
		"no fence": func(s *Store) store.Store { return unfenced{s} },
		"checks, then writes": func(s *Store) store.Store {
			s.wire.edit = func(m *nats.Msg) { m.Header.Del(jetstream.ExpectedLastSubjSeqHeader) }
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			st := broken(open(t, srv.url(), fresh()))
			for round := range 200 { // whether one round does is a matter of luck
				if why, ok := storetest.Finds(func(r storetest.T) { storetest.Race(r, st, 2) }); ok {
					t.Logf("found in attempt %d: %s", round+1, why)
					return
				}
			}
			t.Error("the race does not find that")
		})
	}
}

func apply(t testing.TB, st store.Store, c store.Change, want store.Outcome) {
	t.Helper()
	rs, err := st.Apply(context.Background(), []store.Change{c})
	if err != nil || rs[0].Outcome != want {
		t.Errorf("Apply(session %.40q, epoch %d, seq %d) gives %+v, %v; want %v", c.Session, c.Epoch, c.Seq, rs, err, want)
	}
}
