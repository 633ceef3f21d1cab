package kvstore_test

import (
	"context"
	"iter"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// What a store can say of a session's name, and harms nobody.

// A store that calls a session otherwise than it was asked for, or finds one that there cannot be, harms nobody: a session has the name by which it
// was asked for, and the other is an error.
func TestStoreMisnamesSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem := memory.New()
		dead := openInts(t, mem, brisk("dead"))
		check(t, dead.Put(ctx, "s", 1))
		check(t, dead.Close(ctx))

		long := strings.Repeat("x", 5*store.MaxSession)
		st := &tap{Store: mem}
		st.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
			c, err := mem.Claim(ctx, r)
			c.Header.Session = long
			return c, err
		}
		db := openInts(t, misnamer{st, long}, brisk("a"))
		h, err := db.Adopt(ctx, "s")
		check(t, err)
		if v, err := h.Get(ctx, ""); h.ID() != "s" || v != 1 || err != nil {
			t.Errorf("the session is %.32q, and its value %d, %v", h.ID(), v, err)
		}
		want(t, h.Put(ctx, "", 2), nil)
		check(t, db.Flush(ctx))
		if _, m := ints(t, mem, "s"); m[""] != 2 {
			t.Errorf("the store has %v", m)
		}
		st.claim = nil
		_, err = db.AdoptOrphans(ctx, kvstore.Takeover{All: true})
		want(t, err, kvstore.ErrTooLarge)
		check(t, db.Close(ctx))
	})
}

// misnamer is a store that lists a session of that ID, of a dead node, beside what it has, and gives it to whoever asks.
type misnamer struct {
	store.Store
	id string
}

func (m misnamer) ClaimAll(_ context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	cs := make([]store.Claim, len(rs))
	for i, r := range rs {
		cs[i] = store.Claim{Outcome: store.Granted, Header: store.Header{Session: r.Session, Epoch: 2, Owner: r.Owner}}
	}
	return cs, nil
}

func (m misnamer) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		if !yield(store.Header{Session: m.id, Epoch: 1, Seq: 1, Owner: store.Owner{Node: "dead", Incarnation: store.NewIncarnation()}}, nil) {
			return
		}
		for h, err := range m.Store.Sessions(ctx, q) {
			if !yield(h, err) {
				return
			}
		}
	}
}
