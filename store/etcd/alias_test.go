package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// without is a client's way to the server on which conditions get lost: those that about chooses by their keys.
type without struct {
	clientv3.KV
	about func(key string) bool
}

func (w without) Txn(ctx context.Context) clientv3.Txn { return &withoutTxn{w.KV.Txn(ctx), w} }

type withoutTxn struct {
	clientv3.Txn
	w without
}

func (t *withoutTxn) keep(cs []clientv3.Cmp) []clientv3.Cmp {
	return slices.DeleteFunc(slices.Clone(cs), func(c clientv3.Cmp) bool { return t.w.about(string(c.KeyBytes())) })
}

func (t *withoutTxn) thin(ops []clientv3.Op) []clientv3.Op {
	ops = slices.Clone(ops)
	for i, op := range ops {
		if op.IsTxn() {
			ifs, then, otherwise := op.Txn()
			ops[i] = clientv3.OpTxn(t.keep(ifs), t.thin(then), otherwise)
		}
	}
	return ops
}

func (t *withoutTxn) If(cs ...clientv3.Cmp) clientv3.Txn { t.Txn = t.Txn.If(t.keep(cs)...); return t }
func (t *withoutTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.Txn = t.Txn.Then(t.thin(ops)...)
	return t
}
func (t *withoutTxn) Else(ops ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Else(ops...); return t }

// Two nodes race for an alias; without the conditions of the index the race finds two sessions that have it.
func TestRaceAliasesFindsFaults(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	storetest.RaceAliases(t, open(t, c.url(), fresh()), 10)

	st := open(t, c.url(), fresh())
	index := st.keys.alias("")
	st.client.KV = without{st.client.KV, func(key string) bool { return strings.HasPrefix(key, index) }}
	for round := range 100 { // whether one round does is a matter of luck
		if why, ok := storetest.Finds(func(r storetest.T) { storetest.RaceAliases(r, st, 2) }); ok {
			t.Logf("found in attempt %d: %s", round+1, why)
			return
		}
	}
	t.Error("the race does not find that")
}

// meanwhile is a client's way to the server on which something else happens before a certain transaction.
type meanwhile struct {
	clientv3.KV
	before func(txn int)
	n      int
}

func (m *meanwhile) Txn(ctx context.Context) clientv3.Txn {
	m.n++
	m.before(m.n)
	return m.KV.Txn(ctx)
}

// Whatever another session does between two steps of a change that takes its alias, or many: two sessions never have one.
func TestTakenMeanwhile(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	o := fresh()
	other, st := open(t, c.url(), o), open(t, c.url(), o)
	kv := st.client.KV
	past := store.TimeOf(time.Now().Add(-time.Hour))
	for what, event := range map[string]func(w *world) error{
		"nothing": func(w *world) error { return nil },
		"it is extended": func(w *world) error {
			return w.do(store.Change{Session: "old", Owner: w.a, Epoch: 1, Seq: 2, Aliases: []string{"x", "y"}})
		},
		"its owner is alive": func(w *world) error {
			_, err := w.st.KeepAlive(context.Background(), store.Node{Incarnation: w.a.Incarnation}, time.Minute)
			return err
		},
		"it is claimed": func(w *world) error {
			_, err := w.st.Claim(context.Background(), store.ClaimRequest{Session: w.own("old"), Owner: w.d, Create: true})
			return err
		},
		"another takes it": func(w *world) error {
			return w.do(store.Change{Session: "third", Owner: w.d, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"x", "1", "50"}})
		},
		"another takes one of those that come first": func(w *world) error {
			return w.do(store.Change{Session: "third", Owner: w.d, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"1"}})
		},
		"another takes all": func(w *world) error {
			return w.do(store.Change{Session: "third", Owner: w.d, Epoch: 1, Seq: 1, Create: true, Aliases: append(numbers(), "x")})
		},
		"another takes it, and leaves it": func(w *world) error {
			return errors.Join(w.do(store.Change{Session: "third", Owner: w.d, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"x"}}),
				w.do(store.Change{Session: "third", Owner: w.d, Epoch: 1, Seq: 2}))
		},
		"its taker is fenced": func(w *world) error {
			_, err := w.st.Claim(context.Background(), store.ClaimRequest{Session: w.own("new"), Owner: w.d, Force: true})
			return err
		},
	} {
		for _, wants := range [][]string{{"x"}, append(numbers(), "x")} {
			for at, happens := 1, true; happens; at++ {
				w := &world{st: other, suffix: fmt.Sprint("/", what, len(wants), "/", at), a: store.Owner{Incarnation: store.NewIncarnation()}, b: store.Owner{Incarnation: store.NewIncarnation()}, d: store.Owner{Incarnation: store.NewIncarnation()}}
				if err := errors.Join(w.do(store.Change{Session: "old", Owner: w.a, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"x", "y"}, Expires: past}),
					w.do(store.Change{Session: "new", Owner: w.b, Epoch: 1, Seq: 1, Create: true})); err != nil {
					t.Fatal(err)
				}
				m := &meanwhile{KV: kv}
				m.before = func(n int) {
					if n == at {
						if err := event(w); err != nil {
							t.Error(err)
						}
					}
				}
				st.client.KV = m
				rs, err := st.Apply(t.Context(), []store.Change{w.change(store.Change{Session: "new", Owner: w.b, Epoch: 1, Seq: 2, Aliases: wants})})
				if err != nil || rs[0].Outcome == store.Undecided {
					t.Fatalf("%s before step %d: %+v, %v", what, at, rs, err)
				}
				happens = m.n >= at
				alive := what == "its owner is alive" && happens
				if what == "nothing" && rs[0].Outcome != store.Applied {
					t.Errorf("%s: %+v", what, rs[0])
				}
				heads := map[string]store.Header{}
				for _, id := range []string{"old", "new", "third"} {
					s, err := other.Load(t.Context(), w.own(id), "none")
					if err != nil {
						t.Fatal(err)
					}
					heads[w.own(id)] = s.Header
				}
				for _, alias := range []string{"x", "y", "0", "1", "50", "59"} {
					var has []string
					for id, h := range heads {
						if slices.Contains(h.Aliases, w.own(alias)) && (h.Expires == 0 || alive) {
							has = append(has, id)
						}
					}
					h, err := other.Lookup(t.Context(), w.own(alias))
					if err != nil || len(has) > 1 || len(has) == 1 && h.Session != has[0] || len(has) == 0 && h.Epoch != 0 {
						t.Errorf("%s before step %d of %d aliases: %v; alias %q is listed by %q, and Lookup gives %+v, %v", what, at, len(wants), rs[0].Outcome, alias, has, h, err)
					}
				}
			}
		}
	}
}

// numbers are more aliases than one transaction takes.
func numbers() (ns []string) {
	for i := range 3 * takenAtOnce {
		ns = append(ns, fmt.Sprint(i))
	}
	return ns
}

// world is some sessions, and their aliases, whose names end with the suffix.
type world struct {
	st      *Store
	suffix  string
	a, b, d store.Owner
}

func (w *world) own(name string) string { return name + w.suffix }

func (w *world) change(c store.Change) store.Change {
	c.Session = w.own(c.Session)
	c.Aliases = slices.Clone(c.Aliases)
	for i := range c.Aliases {
		c.Aliases[i] = w.own(c.Aliases[i])
	}
	return c
}

func (w *world) do(c store.Change) error {
	rs, err := w.st.Apply(context.Background(), []store.Change{w.change(c)})
	if err == nil && rs[0].Outcome != store.Applied && rs[0].Outcome != store.Rejected {
		err = fmt.Errorf("session %q: %+v", c.Session, rs[0])
	}
	return err
}

// Nothing is left in the index of what no session lists, however they came to their aliases and lost them.
func TestIndexOfAliases(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	st := open(t, c.url(), fresh())
	storetest.Compare(t, st, rand.Uint64(), 400)
	a, b := store.Owner{Incarnation: store.NewIncarnation()}, store.Owner{Incarnation: store.NewIncarnation()}
	past := store.TimeOf(time.Now().Add(-time.Hour))
	for _, id := range []string{"claimed", "deleted", "made anew"} {
		apply(t, st, store.Change{Session: id, Owner: a, Epoch: 1, Seq: 1, Create: true, Expires: past, Aliases: []string{id, "of " + id}}, store.Applied)
		apply(t, st, store.Change{Session: "taker of " + id, Owner: a, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"of " + id}}, store.Applied)
	}
	if c, err := st.Claim(t.Context(), store.ClaimRequest{Session: "claimed", Owner: b, Create: true}); err != nil || !c.Created {
		t.Fatalf("Claim gives %+v, %v", c, err)
	}
	apply(t, st, store.Change{Session: "deleted", Owner: a, Epoch: 1, Seq: 2, Delete: true}, store.Applied)
	apply(t, st, store.Change{Session: "made anew", Owner: b, Epoch: 2, Seq: 1, Create: true}, store.Applied)
	for _, id := range []string{"claimed", "deleted", "made anew"} {
		for _, key := range []string{st.keys.alias(id), st.keys.guard(id)} {
			if r, err := st.client.Get(t.Context(), key); err != nil || len(r.Kvs) > 0 {
				t.Errorf("of a session that is %s there is still %q, %v", id, key, err)
			}
		}
	}
	index := st.keys.alias("")
	r, err := st.client.Get(t.Context(), index, within(index))
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		s, err := st.Load(t.Context(), string(kv.Value), "none")
		if err != nil || !slices.Contains(s.Header.Aliases, after(index, kv.Key)) {
			t.Errorf("the index names session %q for the alias %q, and that lists %q, %v", kv.Value, after(index, kv.Key), s.Header.Aliases, err)
		}
	}
}

// A change that is larger than a request takes its aliases in the step that decides.
func TestLargeNamesAliases(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	st := open(t, c.url(), fresh())
	st.requestBytes, st.partBytes = 12_000, 1000
	a := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	many := make([]string, store.MaxAliases)
	for i := range many {
		many[i] = fmt.Sprint("x", i)
	}
	large := []store.Entry{{Key: "a", Value: make([]byte, 7000)}, {Key: "b", Value: make([]byte, 7000)}}
	apply(t, st, store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 1, Create: true, Aliases: many, Puts: large}, store.Applied)
	apply(t, st, store.Change{Session: "t", Owner: a, Epoch: 1, Seq: 1, Create: true, Aliases: many[7:8], Puts: large}, store.Rejected)
	apply(t, st, store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 2, Aliases: many[8:], Puts: large}, store.Applied)
	apply(t, st, store.Change{Session: "t", Owner: a, Epoch: 1, Seq: 1, Create: true, Aliases: many[:8], Puts: large}, store.Applied)
	for i, alias := range many {
		want := "s"
		if i < 8 {
			want = "t"
		}
		if h, err := st.Lookup(t.Context(), alias); err != nil || h.Session != want {
			t.Errorf("alias %q is that of %+v, %v; want %s's", alias, h, err, want)
		}
	}
}

// What moves while a Find reads is found where it is, by one view of all, or not at all; and nobody is found who gave an alias up.
func TestFindMeanwhile(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	o := fresh()
	other, st := open(t, c.url(), o), open(t, c.url(), o)
	a := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	past := store.TimeOf(time.Now().Add(-time.Hour))
	seq := map[string]uint64{}
	has := func(id string, aliases ...string) {
		t.Helper()
		seq[id]++
		ch := store.Change{Session: id, Owner: a, Epoch: 1, Seq: seq[id], Create: seq[id] == 1, Aliases: aliases}
		if id == "gone" && seq[id] == 1 {
			ch.Expires = past
		}
		apply(t, other, ch, store.Applied)
	}
	has("s", "a", "c", "e")
	has("gone", "b")
	m := &meanwhile{KV: st.client.KV}
	st.client.KV = m
	find := func(before func(txn int), want string) {
		t.Helper()
		m.n, m.before = 0, before
		f, err := st.Find(t.Context(), store.AliasRange{})
		got := ""
		for _, n := range f.Aliases {
			got += n.Alias + "=" + n.Header.Session + " "
			if !slices.Contains(n.Header.Aliases, n.Alias) {
				t.Errorf("%q is found of a header that lists %q", n.Alias, n.Header.Aliases)
			}
		}
		if err != nil || got != want || f.Next != "" {
			t.Errorf("Find gives %s, the rest begins at %q, error %v; want %s", got, f.Next, err, want)
		}
	}
	find(func(int) {}, "a=s c=s e=s ")
	if m.n != 2 { // which aliases there are is no transaction; the second looks for the lease of who is gone
		t.Errorf("Find has made %d transactions", m.n)
	}
	find(func(txn int) {
		switch txn {
		case 1:
			has("s", "c", "d")
			has("t", "a")
		case 2:
			has("t")
			has("u", "a")
		}
	}, "a=u c=s ")
	if m.n != 3 {
		t.Errorf("Find has made %d transactions", m.n)
	}
	find(func(txn int) {
		if txn == 1 {
			has("gone", "b")
		}
	}, "a=u b=gone c=s d=s ")
	if m.n != 1 {
		t.Errorf("Find has made %d transactions", m.n)
	}
}

// A page reads no more than it may have, though nothing of it is found.
func TestFindPage(t *testing.T) {
	st := open(t, start(t, 1, member{NoFsync: true}).url(), fresh())
	a := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	past := store.TimeOf(time.Now().Add(-time.Hour))
	for i := range 4 {
		ch := store.Change{Session: fmt.Sprint("s", i), Owner: a, Epoch: 1, Seq: 1, Create: true, Expires: past}
		for j := range store.MaxAliases {
			ch.Aliases = append(ch.Aliases, fmt.Sprintf("%d.%03d", i, j))
		}
		if i == 3 {
			ch.Aliases, ch.Expires = []string{"x", "y"}, 0
		}
		apply(t, st, ch, store.Applied)
	}
	for limit, want := range map[int]int{0: 4, 1 << 40: 4, 200: 4, 128: 7} {
		pages, got := 0, ""
		for r := (store.AliasRange{Limit: limit}); ; {
			f, err := st.Find(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			pages++
			for _, n := range f.Aliases {
				got += n.Alias + "=" + n.Header.Session + " "
			}
			if r.From = f.Next; f.Next == "" {
				break
			}
		}
		if got != "x=s3 y=s3 " || pages != want {
			t.Errorf("limit %d: %s on %d pages, want %d", limit, got, pages, want)
		}
	}
}
