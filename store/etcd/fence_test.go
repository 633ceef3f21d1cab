package etcd

import (
	"context"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// unfenced is a client's way to the server on which the conditions of flushes are lost, if they are as expected. Claims and creations
// keep theirs.
type unfenced struct {
	clientv3.KV
	checks bool // they are checked, in a step of its own
}

func (u unfenced) Txn(ctx context.Context) clientv3.Txn { return &brokenTxn{u: u, ctx: ctx} }

type brokenTxn struct {
	u          unfenced
	ctx        context.Context
	ifs        []clientv3.Cmp
	then, last []clientv3.Op
}

func (t *brokenTxn) If(cs ...clientv3.Cmp) clientv3.Txn   { t.ifs = cs; return t }
func (t *brokenTxn) Then(ops ...clientv3.Op) clientv3.Txn { t.then = ops; return t }
func (t *brokenTxn) Else(ops ...clientv3.Op) clientv3.Txn { t.last = ops; return t }

func (t *brokenTxn) Commit() (*clientv3.TxnResponse, error) {
	held := make([]bool, len(t.then))
	if t.u.checks {
		check := make([]clientv3.Op, len(t.then))
		for i, op := range t.then {
			if ifs, _, looks := op.Txn(); op.IsTxn() {
				check[i] = clientv3.OpTxn(ifs, nil, looks)
			} else {
				check[i] = clientv3.OpTxn(nil, nil, nil)
			}
		}
		r, err := t.u.KV.Txn(t.ctx).Then(check...).Commit()
		if err != nil {
			return nil, err
		}
		for i := range held {
			held[i] = r.Responses[i].GetResponseTxn().Succeeded
		}
	}
	then := make([]clientv3.Op, len(t.then))
	for i, op := range t.then {
		ifs, do, looks := op.Txn()
		if then[i] = op; op.IsTxn() && len(ifs) > 0 && ifs[0].GetCompare().Target == pb.Compare_VALUE && (held[i] || !t.u.checks) {
			then[i] = clientv3.OpTxn(nil, do, looks)
		}
	}
	return t.u.KV.Txn(t.ctx).If(t.ifs...).Then(then...).Else(t.last...).Commit()
}

// TestRaceFindsFaults shows that it is the conditions in the transactions that keep zombies out: without them the race that TestContract
// passes finds what they wrote.
func TestRaceFindsFaults(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	for name, checks := range map[string]bool{"no fence": false, "checks, then writes": true} {
		t.Run(name, func(t *testing.T) {
			st := open(t, c.url(), fresh())
			st.client.KV = unfenced{st.client.KV, checks}
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
		t.Errorf("Apply of session %q, seq %d gives %+v, %v; want %v", c.Session, c.Seq, rs, err, want)
	}
}
