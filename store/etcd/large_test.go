package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

// cutOff is a client's way to the server that ends after so many calls, each of which may write.
type cutOff struct {
	clientv3.KV
	left int
}

var errCut = errors.New("the connection is cut")

func (c *cutOff) call() error {
	if c.left--; c.left < 0 {
		return errCut
	}
	return nil
}

func (c *cutOff) Put(ctx context.Context, key, val string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	if err := c.call(); err != nil {
		return nil, err
	}
	return c.KV.Put(ctx, key, val, opts...)
}

func (c *cutOff) Txn(ctx context.Context) clientv3.Txn {
	return &cutTxn{c.KV.Txn(ctx), c}
}

type cutTxn struct {
	clientv3.Txn
	c *cutOff
}

func (t *cutTxn) If(cs ...clientv3.Cmp) clientv3.Txn   { t.Txn = t.Txn.If(cs...); return t }
func (t *cutTxn) Then(ops ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Then(ops...); return t }
func (t *cutTxn) Else(ops ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Else(ops...); return t }
func (t *cutTxn) Commit() (*clientv3.TxnResponse, error) {
	if err := t.c.call(); err != nil {
		return nil, err
	}
	return t.Txn.Commit()
}

// pagesOf reads a range to its end.
func pagesOf(t *testing.T, st *Store, id string, r store.Range) (es []store.Entry) {
	t.Helper()
	for {
		p, err := st.LoadRange(t.Context(), id, r)
		if err != nil || r.Limit > 0 && len(p.Entries) > r.Limit {
			t.Fatalf("LoadRange(%q, %+v) gives %+v, %v", id, r, p, err)
		}
		if es = append(es, p.Entries...); p.Next == "" {
			return es
		}
		r.From = p.Next
	}
}

// A change that takes many steps is cut off after each of them. It is there whole or not at all, whoever looks, and whatever comes next:
// its repetition, another change, a claim, a delete.
func TestLargeIsAtomic(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	whole := open(t, c.url(), fresh())
	whole.requestBytes, whole.partBytes = 1200, 1000
	value := func(b byte) []byte { return bytes.Repeat([]byte{b}, 600) }
	texts := func(es []store.Entry) (ts []string) {
		for _, e := range es {
			ts = append(ts, fmt.Sprintf("%s=%d×%.1x", e.Key, len(e.Value), e.Value))
		}
		slices.Sort(ts)
		return ts
	}
	for _, wipe := range []bool{false, true} {
		for _, from := range []string{"main", "many"} {
			for steps, done := 0, false; !done; steps++ {
				for next := range 5 {
					id := fmt.Sprint("s", wipe, from, steps, next)
					o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
					before := []store.Entry{{Key: "", Value: []byte("main")}}
					if from == "many" {
						before = append(before, store.Entry{Key: "b", Value: []byte("old")}, store.Entry{Key: "c", Value: []byte("old")}, store.Entry{Key: "d", Value: []byte("old")})
					}
					apply(t, whole, store.Change{Session: id, Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: before}, store.Applied)
					large := store.Change{Session: id, Owner: o, Epoch: 1, Seq: 2, Wipe: wipe, Deletes: []string{"c"},
						Puts: []store.Entry{{Key: "a", Value: value(1)}, {Key: "b", Value: value(2)}, {Key: "e", Value: value(3)}}}
					after := slices.Clone(large.Puts)
					if !wipe {
						after = append(after, before[0])
						if from == "many" {
							after = append(after, before[3])
						}
					}
					cut := &cutOff{whole.client.KV, steps}
					broken := &Store{client: clientv3.NewCtxClient(t.Context()), opt: whole.opt, keys: whole.keys, requestBytes: whole.requestBytes, partBytes: whole.partBytes}
					broken.client.KV, broken.client.Lease = cut, whole.client.Lease
					rs, err := broken.Apply(t.Context(), []store.Change{large})
					applied := err == nil && rs[0].Outcome == store.Applied
					snap, err := whole.Load(t.Context(), id)
					if err != nil {
						t.Fatal(err)
					}
					want := before
					if snap.Header.Seq == 2 {
						want = after
					} else if applied {
						t.Fatalf("%s: what was acknowledged is not there: %+v", id, snap.Header)
					}
					if got, want := texts(snap.Entries), texts(want); !slices.Equal(got, want) {
						t.Fatalf("%s: of a change that was cut off after %d steps there is %v, want %v", id, steps, got, want)
					}
					for _, r := range []store.Range{{Limit: 1}, {Limit: 2}, {}, {From: "b", To: "e", Limit: 1}, {From: "c", KeysOnly: true}} {
						var part []store.Entry
						for _, e := range want {
							if r.KeysOnly {
								e.Value = nil
							}
							if r.Has(e.Key) {
								part = append(part, e)
							}
						}
						if got := pagesOf(t, whole, id, r); !slices.Equal(texts(got), texts(part)) {
							t.Fatalf("%s: after %d steps %+v gives %v, want %v", id, steps, r, texts(got), texts(part))
						}
					}
					one, err := whole.Load(t.Context(), id, "b")
					if err != nil || from == "many" && len(one.Entries) != 1 || snap.Header.Seq == 2 && len(one.Entries[0].Value) != 600 {
						t.Fatalf("%s: one entry: %d, %v", id, len(one.Entries), err)
					}
					there := snap.Header.Seq == 2
					switch next {
					case 0: // repeated
						want = after
						apply(t, whole, large, map[bool]store.Outcome{true: store.Already, false: store.Applied}[there])
					case 1: // another change
						want = append(slices.Clone(want), store.Entry{Key: "g", Value: []byte("new")})
						apply(t, whole, store.Change{Session: id, Owner: o, Epoch: 1, Seq: 3, Puts: []store.Entry{{Key: "g", Value: []byte("new")}}}, store.Applied)
					case 2, 3: // a claim, and then a change
						b := store.Owner{Node: "b", Incarnation: store.NewIncarnation()}
						claim, err := whole.Claim(t.Context(), store.ClaimRequest{Session: id, Owner: b, All: true})
						if err != nil || claim.Outcome != store.Granted || !slices.Equal(texts(claim.Entries), texts(want)) {
							t.Fatalf("%s: a claim gives %v, %v, %v; want %v", id, claim.Outcome, texts(claim.Entries), err, texts(want))
						}
						apply(t, whole, large, store.Fenced)
						if next == 3 {
							want = append(slices.Clone(want), store.Entry{Key: "g", Value: []byte("new")})
							apply(t, whole, store.Change{Session: id, Owner: b, Epoch: 2, Seq: 1, Puts: []store.Entry{{Key: "g", Value: []byte("new")}}}, store.Applied)
						}
					case 4:
						want = nil
						apply(t, whole, store.Change{Session: id, Owner: o, Epoch: 1, Seq: 3, Delete: true}, store.Applied)
					}
					if snap, err = whole.Load(t.Context(), id); err != nil || !slices.Equal(texts(snap.Entries), texts(want)) {
						t.Fatalf("%s: afterwards there is %v, %v; want %v", id, texts(snap.Entries), err, texts(want))
					}
					done = cut.left > 0
				}
			}
		}
	}
	parts, err := whole.client.Get(t.Context(), string(whole.keys)+"p/", within(string(whole.keys)+"p/"), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range parts.Kvs { // those that nobody decided about hang on leases
		if kv.Lease == 0 {
			t.Logf("a part is left for good: %q", kv.Key)
		}
	}
}
