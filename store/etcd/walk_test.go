package etcd

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
)

// A claim moves a session's head while a walk is on its way. The walk yields the session once all the same, at the end of a page, too.
func TestWalkWhileClaimed(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	st := open(t, c.url(), fresh())
	a, b := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}, store.Owner{Node: "b", Incarnation: store.NewIncarnation()}
	const sessions = 2*walkPage + 10
	cs := make([]store.Change, sessions)
	for i := range cs {
		cs[i] = store.Change{Session: fmt.Sprint("session/", i), Owner: a, Epoch: 1, Seq: 1, Create: true}
	}
	if _, err := st.Apply(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for h, err := range st.Sessions(t.Context(), store.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		times[h.Session]++
		r := store.ClaimRequest{Session: h.Session, Owner: b}
		if got, err := st.Claim(t.Context(), r); err != nil || got.Outcome != store.Granted {
			t.Fatalf("Claim(%q) gives %+v, %v", h.Session, got, err)
		}
	}
	for i := range cs {
		if n := times[cs[i].Session]; n != 1 {
			t.Errorf("session %q is yielded %d times", cs[i].Session, n)
		}
	}
}

// A key that is no head's, and a session with two heads, are told as damage, and the rest is read.
func TestStrangeHeads(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	st := open(t, c.url(), fresh())
	a := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	for _, id := range []string{"fine", "twice"} {
		apply(t, st, store.Change{Session: id, Owner: a, Epoch: 1, Seq: 1, Create: true}, store.Applied)
	}
	h := head{Header: store.Header{Epoch: 2, Owner: a}, mode: single}
	for key, value := range map[string]string{
		st.keys.heads() + "nonsense":           "v",
		st.keys.head("twice", h.tenure()):      h.encode(),
		st.keys.head("short", h.tenure()[:20]): h.encode(),
	} {
		if _, err := st.client.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	var corrupt *store.CorruptError
	if _, err := st.Load(t.Context(), "twice"); !errors.As(err, &corrupt) || corrupt.Session != "twice" {
		t.Errorf("Load of a session with two heads: %v", err)
	}
	rs, err := st.Apply(context.Background(), []store.Change{{Session: "twice", Owner: a, Epoch: 3, Seq: 1}, {Session: "fine", Owner: a, Epoch: 1, Seq: 2}})
	if err != nil || rs[0].Outcome != store.Undecided || !errors.As(rs[0].Err, &corrupt) || rs[1].Outcome != store.Applied {
		t.Errorf("Apply gives %+v, %v", rs, err)
	}
	damaged, fine := map[string]bool{}, 0
	for h, err := range st.Sessions(t.Context(), store.Query{}) {
		switch {
		case errors.As(err, &corrupt):
			damaged[corrupt.Session] = true
		case err != nil:
			t.Fatal(err)
		case h.Session == "fine":
			fine++
		}
	}
	if !damaged["nonsense"] || !damaged["short"] || fine != 1 {
		t.Errorf("the walk tells of damage of %v, and has the sound session %d times", damaged, fine)
	}
}
