package seal_test

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/seal"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o    seal.Options
		want string
	}{
		{seal.Options{}, "Options.Keys is empty"},
		{seal.Options{Keys: []seal.Key{one, {ID: 7}}}, "Options.Keys[1], with ID 7, has no secret"},
		{seal.Options{Keys: []seal.Key{one, two, {ID: 1, Secret: [32]byte{9}}}}, "Options.Keys[0] and [2] both have the ID 1"},
		{seal.Options{Keys: []seal.Key{one, {ID: 9, Secret: one.Secret}}}, "Options.Keys[0] and [1], with IDs 1 and 9, have the same secret"},
		{seal.Options{Keys: []seal.Key{one}, NameKey: new([32]byte)}, "Options.NameKey has no secret"},
		{seal.Options{Keys: []seal.Key{{Secret: one.Secret}}}, ""},
	} {
		st, err := seal.New(memory.New(), c.o)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
		if err == nil {
			st.Close()
		}
	}
	if _, err := seal.New(nil, seal.Options{Keys: []seal.Key{one}}); err == nil {
		t.Error("a store on nothing")
	}
}

// Options are read once: keys that their owner wipes afterwards are still there.
func TestKeysAreCopied(t *testing.T) {
	inner, keys, name := memory.New(), []seal.Key{one, two}, *nameKey
	st := sealed(t, inner, seal.Options{Keys: keys, NameKey: &name})
	defer st.Close()
	a := newOwner("a")
	create(t, sealed(t, inner, rings["values and names"]), a, "s", "k", "v") // under another subkey, which is still to be derived
	clear(keys)
	clear(name[:])
	if got := values(claim(t, st, a, "s").Entries); got["k"] != "v" {
		t.Errorf("there is %q", got)
	}
}

// Nothing readable reaches the inner store.
func TestNothingReadable(t *testing.T) {
	for name, o := range rings {
		inner := memory.New()
		st := sealed(t, inner, o)
		a := newOwner("a")
		apply(t, st, store.Applied, store.Change{
			Session: "the session", Owner: a, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"the alias"},
			Puts: []store.Entry{{Key: "", Value: []byte("the main value")}, {Key: "the key", Value: []byte("the value")}},
		})
		for h, err := range inner.Sessions(t.Context(), store.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			snap, err := inner.Load(t.Context(), h.Session)
			if err != nil || len(snap.Entries) != 2 {
				t.Fatalf("%s: the inner store has %+v, %v", name, snap, err)
			}
			var all bytes.Buffer
			for _, e := range snap.Entries {
				all.WriteString(e.Key + "|")
				all.Write(e.Value)
			}
			all.WriteString(h.Session + "|" + strings.Join(h.Aliases, "|"))
			for _, s := range []string{"the main value", "the value", "the session", "the key", "the alias"} {
				if bytes.Contains(all.Bytes(), []byte(s)) != (o.NameKey == nil && !strings.HasSuffix(s, "value")) {
					t.Errorf("%s: the inner store has %q: %q", name, s, all.Bytes())
				}
			}
		}
		snap, err := st.Load(t.Context(), "the session")
		if err != nil || !maps.Equal(values(snap.Entries), map[string]string{"": "the main value", "the key": "the value"}) ||
			snap.Header.Session != "the session" || !slices.Equal(snap.Header.Aliases, []string{"the alias"}) {
			t.Errorf("%s: there is %+v, %v", name, snap, err)
		}
		st.Close()
	}
}

// An entry that cannot be opened is left out, and named by its true names; the rest is there.
func TestDamage(t *testing.T) {
	foreign := sealed(t, memory.New(), seal.Options{Keys: []seal.Key{three}})
	defer foreign.Close()
	for name, o := range rings {
		for what, spoil := range map[string]func(e *store.Entry, others map[string][]byte){
			"a flipped bit":       func(e *store.Entry, _ map[string][]byte) { e.Value[len(e.Value)-1] ^= 1 },
			"cut":                 func(e *store.Entry, _ map[string][]byte) { e.Value = e.Value[:len(e.Value)-1] },
			"never sealed":        func(e *store.Entry, _ map[string][]byte) { e.Value = []byte("plain") },
			"empty":               func(e *store.Entry, _ map[string][]byte) { e.Value = nil },
			"an unknown key":      func(e *store.Entry, _ map[string][]byte) { e.Value[4] ^= 1 },
			"another key's":       func(e *store.Entry, o map[string][]byte) { e.Value = bytes.Clone(o["good"]) },
			"another session's":   func(e *store.Entry, o map[string][]byte) { e.Value = bytes.Clone(o["elsewhere"]) },
			"given another time":  func(e *store.Entry, _ map[string][]byte) { e.Expires = 1 << 50 },
			"of an epoch to come": func(e *store.Entry, o map[string][]byte) { e.Value = bytes.Clone(o["later"]) },
		} {
			inner := &bent{Store: memory.New()}
			st := sealed(t, inner, o)
			a := newOwner("a")
			create(t, st, a, "other", "bad", "elsewhere")
			create(t, st, a, "s", "bad", "v", "good", "v", "", "main")
			others := map[string][]byte{}
			id, bad := seal.Hide(st, "s", "bad")
			_, good := seal.Hide(st, "s", "good")
			elsewhere, there := seal.Hide(st, "other", "bad")
			inner.entry = func(session string, e *store.Entry) { // collects
				switch {
				case session == elsewhere && e.Key == there:
					others["elsewhere"] = bytes.Clone(e.Value)
				case session == id && e.Key == good:
					others["good"] = bytes.Clone(e.Value)
				}
			}
			st.Load(t.Context(), "s")
			st.Load(t.Context(), "other")

			later := &bent{Store: memory.New()}
			st2 := sealed(t, later, o)
			later.entry = func(_ string, e *store.Entry) { others["later"] = bytes.Clone(e.Value) }
			apply(t, st2, store.Applied, store.Change{Session: "s", Owner: a, Epoch: 3, Seq: 1, Create: true, Puts: []store.Entry{{Key: "bad", Value: []byte("v")}}})
			st2.Load(t.Context(), "s")
			st2.Close()

			inner.entry = func(session string, e *store.Entry) {
				if session == id && e.Key == bad {
					spoil(e, others)
				}
			}
			damaged := func(err error) {
				t.Helper()
				var c *store.CorruptError
				if !errors.As(err, &c) || c.Session != "s" || c.Key != "bad" || c.Header {
					t.Errorf("%s, %s: error %v, want a CorruptError of key bad", name, what, err)
				}
			}
			rest := map[string]string{"good": "v", "": "main"}
			snap, err := st.Load(t.Context(), "s")
			if damaged(err); !maps.Equal(values(snap.Entries), rest) {
				t.Errorf("%s, %s: Load gives %q", name, what, values(snap.Entries))
			}
			_, err = st.Load(t.Context(), "s", "bad")
			damaged(err)
			if snap, err = st.Load(t.Context(), "s", "good"); err != nil || len(snap.Entries) != 1 {
				t.Errorf("%s, %s: what is good gives %+v, %v", name, what, snap, err)
			}
			c := claim(t, st, a, "s")
			if !slices.Equal(c.Unread, []string{"bad"}) || !maps.Equal(values(c.Entries), rest) {
				t.Errorf("%s, %s: the claim gives %+v", name, what, c)
			}
			inner.entry = nil
			st.Close()
		}
	}
}

// If the inner store cannot read a header there is no epoch to compare with, and what it has of entries is given all the same.
func TestBlind(t *testing.T) {
	inner := &headless{memory.New()}
	st := sealed(t, inner, seal.Options{Keys: []seal.Key{one}, NameKey: nameKey})
	defer st.Close()
	create(t, st, newOwner("a"), "s", "k", "v")
	snap, err := st.Load(t.Context(), "s")
	var c *store.CorruptError
	if !errors.As(err, &c) || !c.Header || c.Session != "s" || values(snap.Entries)["k"] != "v" {
		t.Errorf("there is %+v, %v", snap, err)
	}
}

// The inner store's own errors have the true names, each of them.
func TestInnerDamage(t *testing.T) {
	inner := &broken{Store: memory.New()}
	st := sealed(t, inner, seal.Options{Keys: []seal.Key{one}, NameKey: nameKey})
	defer st.Close()
	id, k := seal.Hide(st, "s", "k")
	_, l := seal.Hide(st, "s", "l")
	boom := errors.New("boom")
	inner.err = errors.Join(
		wrapped{errors.Join(&store.CorruptError{Session: id, Key: k}, wrapped{&store.CorruptError{Session: id, Key: l}})}, boom)
	_, err := st.Load(t.Context(), "s")
	var keys []string
	joined, ok := err.(interface{ Unwrap() []error })
	for ok {
		if es := joined.Unwrap(); len(es) == 1 {
			joined, ok = es[0].(interface{ Unwrap() []error })
			continue
		}
		break
	}
	if !ok {
		t.Fatalf("%v is not joined", err)
	}
	for _, e := range joined.Unwrap() {
		if c := (*store.CorruptError)(nil); errors.As(e, &c) && c.Session == "s" {
			keys = append(keys, c.Key)
		}
	}
	if !slices.Equal(keys, []string{"k", "l"}) || !errors.Is(err, boom) {
		t.Errorf("error %v names the keys %q", err, keys)
	}
}

// What is stored under a name that was not hidden, or that is damaged, is an error of its own, and does not hide the rest.
func TestDamagedNames(t *testing.T) {
	inner := &bent{Store: memory.New()}
	st := sealed(t, inner, seal.Options{Keys: []seal.Key{one}, NameKey: nameKey})
	defer st.Close()
	a := newOwner("a")
	create(t, inner, a, "plain name", "k", "v")
	create(t, st, a, "s", "k", "v", "l", "w")
	id, k := seal.Hide(st, "s", "k")
	var good, bad []string
	walk := func() {
		good, bad = nil, nil
		for h, err := range st.Sessions(t.Context(), store.Query{}) {
			if c := (*store.CorruptError)(nil); errors.As(err, &c) && c.Header {
				bad = append(bad, c.Session)
			} else if err != nil {
				t.Error(err)
			} else {
				good = append(good, h.Session)
			}
		}
	}
	if walk(); !slices.Equal(good, []string{"s"}) || !slices.Equal(bad, []string{"plain name"}) {
		t.Errorf("the walk has %q, and as damaged %q", good, bad)
	}
	inner.entry = func(session string, e *store.Entry) {
		if session == id && e.Key == k {
			e.Key = "x" + k[1:]
		}
	}
	snap, err := st.Load(t.Context(), "s")
	if c := (*store.CorruptError)(nil); !errors.As(err, &c) || c.Session != "s" || c.Key != "x"+k[1:] || values(snap.Entries)["l"] != "w" || len(snap.Entries) != 1 {
		t.Errorf("a damaged key: %+v, %v", snap, err)
	}
	if c := claim(t, st, a, "s"); len(c.Unread) != 1 || len(c.Entries) != 1 {
		t.Errorf("a damaged key: the claim gives %+v", c)
	}
	inner.entry = nil
	apply(t, inner, store.Applied, store.Change{Session: id, Owner: a, Epoch: 1, Seq: 2, Aliases: []string{"an alias that is not hidden"}})
	if walk(); len(good) > 0 || len(bad) != 2 {
		t.Errorf("with a damaged alias the walk has %q, and as damaged %q", good, bad)
	}
	var c *store.CorruptError
	if _, err := st.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: a}); !errors.As(err, &c) || !c.Header || c.Session != "s" {
		t.Errorf("a claim gives error %v", err)
	}
	if snap, err := st.Load(t.Context(), "s"); !errors.As(err, &c) || !c.Header || c.Session != "s" || len(snap.Entries) != 2 {
		t.Errorf("a load gives %+v, %v", snap, err)
	}
	if cs, err := st.ClaimAll(t.Context(), []store.ClaimRequest{{Session: "s", Owner: a}}); err != nil || !errors.As(cs[0].Err, &c) {
		t.Errorf("claims give %+v, %v", cs, err)
	}
}

// A value that was never sealed is read if that is wanted; what is written is sealed.
func TestAcceptPlain(t *testing.T) {
	inner := memory.New()
	a := newOwner("a")
	create(t, inner, a, "s", "k", "plain", "l", "\xc1ks but plain", "m", "")
	strict := sealed(t, inner, seal.Options{Keys: []seal.Key{one}})
	if _, err := strict.Load(t.Context(), "s", "k"); err == nil {
		t.Error("a value that was never sealed is read")
	}
	st := sealed(t, inner, seal.Options{Keys: []seal.Key{one}, AcceptPlain: true})
	defer st.Close()
	c := claim(t, st, a, "s")
	if !maps.Equal(values(c.Entries), map[string]string{"k": "plain", "m": ""}) || !slices.Equal(c.Unread, []string{"l"}) {
		t.Errorf("the claim gives %+v", c)
	}
	apply(t, st, store.Applied, store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 2, Puts: []store.Entry{{Key: "k", Value: []byte("sealed")}}})
	if snap, err := strict.Load(t.Context(), "s", "k"); err != nil || values(snap.Entries)["k"] != "sealed" {
		t.Errorf("what was written is %+v, %v", snap, err)
	}
}

// With hidden names 1008 bytes are the most: a longer key is rejected by its name, a longer ID is an error, and both are absent.
func TestLongNames(t *testing.T) {
	for below, open := range inners {
		st := sealed(t, open(t), rings["values and names"])
		a := newOwner("a")
		fits, long := strings.Repeat("x", 1008), strings.Repeat("x", 1009)
		create(t, st, a, fits, fits, "v", "k", "w")
		r := apply(t, st, store.Rejected, store.Change{Session: fits, Owner: a, Epoch: 1, Seq: 2, Puts: []store.Entry{{Key: long}, {Key: "k"}}})
		if !errors.Is(r.Err, store.ErrTooLarge) || !slices.Equal(r.Keys, []string{long}) {
			t.Errorf("%s: a long key gives %+v", below, r)
		}
		apply(t, st, store.Applied, store.Change{Session: fits, Owner: a, Epoch: 1, Seq: 3, Deletes: []string{long, "k"}})
		if snap, err := st.Load(t.Context(), fits, long); err != nil || len(snap.Entries) != 0 || snap.Header.Epoch != 1 {
			t.Errorf("%s: a load of a long key gives %+v, %v", below, snap, err)
		}
		c, err := st.Claim(t.Context(), store.ClaimRequest{Session: fits, Owner: a, Keys: []string{long, fits, "k"}})
		if err != nil || !maps.Equal(values(c.Entries), map[string]string{fits: "v"}) {
			t.Errorf("%s: a claim with a long key gives %+v, %v", below, c, err)
		}
		r = apply(t, st, store.Rejected, store.Change{Session: long, Owner: a, Epoch: 1, Seq: 1, Create: true})
		if !errors.Is(r.Err, store.ErrTooLarge) || len(r.Keys) > 0 {
			t.Errorf("%s: a long session ID gives %+v", below, r)
		}
		if _, err := st.Claim(t.Context(), store.ClaimRequest{Session: long, Owner: a, Create: true}); !errors.Is(err, store.ErrTooLarge) {
			t.Errorf("%s: a claim with a long session ID gives error %v", below, err)
		}
		if cs, err := st.ClaimAll(t.Context(), []store.ClaimRequest{{Session: long, Owner: a}, {Session: fits, Owner: a}}); err != nil ||
			!errors.Is(cs[0].Err, store.ErrTooLarge) || cs[1].Outcome != store.Granted {
			t.Errorf("%s: claims with a long session ID give %+v, %v", below, cs, err)
		}
		if snap, err := st.Load(t.Context(), long); err != nil || snap.Header.Session != long || snap.Header.Epoch != 0 {
			t.Errorf("%s: a load of a long session ID gives %+v, %v", below, snap, err)
		}
		st.Close()
	}
}

// A value above the largest is refused by its key, before AES-GCM would panic. (Its bytes are never touched.)
func TestLargestValue(t *testing.T) {
	st := sealed(t, memory.New(), seal.Options{Keys: []seal.Key{one}})
	defer st.Close()
	a := newOwner("a")
	create(t, st, a, "s")
	r := apply(t, st, store.Rejected, store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 2, Puts: []store.Entry{{Key: "k", Value: make([]byte, 1<<30+1)}}})
	if !errors.Is(r.Err, store.ErrTooLarge) || !slices.Equal(r.Keys, []string{"k"}) {
		t.Errorf("%+v", r)
	}
}

// A refusal of the inner store's comes back with the true names.
func TestInnerRefusal(t *testing.T) {
	inner := &refusing{Store: memory.New()}
	st := sealed(t, inner, seal.Options{Keys: []seal.Key{one}, NameKey: nameKey})
	defer st.Close()
	a := newOwner("a")
	r := apply(t, st, store.Rejected, store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{{Key: "k"}}})
	if !slices.Equal(r.Keys, []string{"k"}) || !errors.Is(r.Err, store.ErrTooLarge) || !strings.Contains(r.Err.Error(), `session "s", keys ["k"]`) {
		t.Errorf("%+v", r)
	}
}
