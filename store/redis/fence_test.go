package redis

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// checksFirst is a store that judges a change by what it has read before, and then writes.
type checksFirst struct{ *Store }

func (s checksFirst) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	results := make([]store.Result, len(changes))
	for i := range changes {
		snap, err := s.Load(ctx, changes[i].Session, "none")
		if err != nil {
			return nil, err
		}
		o, _, _ := changes[i].Judge(snap.Header, true, time.Now())
		results[i] = store.Result{Outcome: o, Header: snap.Header}
		if o == store.Applied {
			rs, err := s.Store.Apply(ctx, changes[i:i+1])
			if err != nil {
				return nil, err
			}
			results[i] = rs[0]
		}
	}
	return results, nil
}

// TestRaceFindsFaults shows that it is the conditions in the script that keep zombies out: without them the race that TestContract
// passes finds what they wrote.
func TestRaceFindsFaults(t *testing.T) {
	srv := redisserver.Start(t)
	fenced := applyLua
	t.Cleanup(func() { applyLua = fenced })
	const judge, plain = "local function judge(h, header, creates, birth)\n", "if sub(h, 1, 35) == sub(header, 1, 35) and sub(h, 36, 54) < sub(header, 36, 54) and byte(h, 55) ~= 68 and #h == bare and #header == bare then"
	if !strings.Contains(applyLua, judge) || !strings.Contains(applyLua, plain) {
		t.Fatal("the script is not broken")
	}
	applyLua = strings.NewReplacer(judge, judge+"if not creates then return 1 end\n", plain, "if true then").Replace(applyLua)
	for name, broken := range map[string]func(*Store) store.Store{
		"no fence":            func(s *Store) store.Store { return s },
		"checks, then writes": func(s *Store) store.Store { return checksFirst{s} },
	} {
		t.Run(name, func(t *testing.T) {
			st := broken(open(t, srv.URL(), fresh()))
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
		t.Errorf("Apply(%+v) gives %+v, %v; want %v", c, rs, err, want)
	}
}
