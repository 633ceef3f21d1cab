package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"github.com/seed-6f1f505d/kvstore/store"
)

var generalRules = []rule{
	{"All methods may be called concurrently.", []testcase{
		{"concurrent calls", concurrentCalls},
	}},
	{"The callee keeps nothing of its arguments after it returned: it copies.", []testcase{
		{"arguments are copied", argumentsAreCopied},
		{"an overwritten value is copied", overwritesAreCopied},
	}},
	{"What it returns belongs to the caller, and no later call changes it.", []testcase{
		{"a changed result of Load", func(k *kit) {
			a := k.own("s", "k", "value")
			k.applied(k.naming(a.change(), "alias"))
			s := k.load("s")
			scribble(s.Entries, s.Header)
			k.intact(a, s.Entries)
		}},
		{"a changed result of Claim", func(k *kit) {
			a := k.own("s", "k", "value")
			k.applied(k.naming(a.change(), "alias"))
			c := k.claim(store.ClaimRequest{Session: "s", Owner: a.owner, All: true})
			scribble(c.Entries, c.Header)
			k.intact(a, c.Entries)
		}},
		{"a changed header", func(k *kit) {
			a := k.own("s", "k", "value")
			k.applied(k.naming(a.change(), "alias"))
			scribble(nil, k.walk(store.Query{})["s"])
			fenced := k.gets(store.Fenced, unclaimed("s", 9).change())
			scribble(nil, fenced.Header)
			k.intact(a, nil)
		}},
		{"a kept result", keptResultsStay},
	}},
	{"A refusal is therefore never an error, but an outcome in the answer.", []testcase{
		{"refusals", func(k *kit) {
			a := k.own("s", "k", "v")
			k.alive(a.owner)
			k.claims(store.Held, store.ClaimRequest{Session: "s", Owner: newOwner("b")})
			k.claims(store.Outbid, store.ClaimRequest{Session: "s", Owner: newOwner("b"), Force: true, Epoch: a.epoch})
			k.claims(store.NotFound, store.ClaimRequest{Session: "none", Owner: newOwner("b")})
			k.gets(store.Fenced, unclaimed("s", a.epoch+1).change("k", "late"))
			k.gets(store.Rejected, a.change(string(make([]byte, store.MaxKey+1)), "v"))
		}},
	}},
	{"That something is absent is an answer too, never an error.", []testcase{
		{"nothing is there", func(k *kit) {
			k.same(k.load("none").Entries)
			k.same(k.load("none", "k", "").Entries)
			k.claims(store.NotFound, store.ClaimRequest{Session: "none", Owner: newOwner("a"), All: true})
			k.gets(store.Fenced, erasing(unclaimed("none", 1).change()))
			if hs := k.walk(store.Query{}); len(hs) > 0 {
				k.fail("an empty store has the sessions %v", hs)
			}
			k.walk(store.Query{Owner: store.NewIncarnation()})
			if _, err := k.st.Nodes(k.ctx); err != nil {
				k.fail("Nodes gives error %v", err)
			}
			k.dead(newOwner("nobody"))
		}},
		{"a key is not there", func(k *kit) {
			a := k.own("s", "k", "v")
			k.same(k.load("s", "other", "k/", "").Entries)
			k.applied(dropping(a.change(), "other"))
			k.holds("s", "k", "v")
		}},
	}},
}

// concurrentCalls gives each of a few owners a session of its own and lets all of them
// use every method; whose session it is must read back its own writes.
func concurrentCalls(k *kit) {
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			id, o := fmt.Sprintf("s%d", i), newOwner(fmt.Sprint(i))
			t := &tenure{session: id, owner: o, epoch: 1}
			for n := range 20 {
				value := fmt.Sprint(n)
				rs, err := k.st.Apply(k.ctx, []store.Change{creating(t.change("k", value))})
				if err != nil || len(rs) != 1 || rs[0].Outcome != store.Applied {
					k.complain("concurrent Apply gives %+v, %v", rs, err)
					return
				}
				s, err := k.st.Load(k.ctx, id, "k")
				if err != nil || len(s.Entries) != 1 || string(s.Entries[0].Value) != value {
					k.complain("concurrent Load gives %+v, %v; want %q", s, err, value)
					return
				}
				if c, err := k.st.Claim(k.ctx, store.ClaimRequest{Session: id, Owner: o}); err != nil || c.Header.Epoch != 1 {
					k.complain("concurrent Claim gives %+v, %v", c, err)
					return
				}
				if _, err := k.st.KeepAlive(k.ctx, store.Node{Incarnation: o.Incarnation}, patience); err != nil {
					k.complain("concurrent KeepAlive gives error %v", err)
				}
				if _, err := k.st.Nodes(k.ctx); err != nil {
					k.complain("concurrent Nodes gives error %v", err)
				}
				for _, err := range k.st.Sessions(k.ctx, store.Query{}) {
					if err != nil {
						k.complain("concurrent Sessions gives error %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func argumentsAreCopied(k *kit) {
	a := k.own("s")
	c := k.naming(a.change("k", "value", "l", "value"), "alias", "other")
	c.Deletes = []string{"x", "y"}
	changes := []store.Change{c}
	k.apply(changes...)
	for i := range c.Puts {
		copy(c.Puts[i].Value, "XXXXX")
	}
	c.Puts[0], c.Puts[1] = store.Entry{Key: "m"}, store.Entry{Key: "n"}
	copy(c.Aliases, []string{"x", "y"})
	c.Deletes[0], c.Deletes[1] = "k", "l"
	changes[0] = store.Change{}
	k.holds("s", "k", "value", "l", "value")
	if got := k.load("s").Header.Aliases; !slices.Equal(got, k.aliases("alias", "other")) {
		k.fail("aliases are %q after the caller changed its slice, want those that were applied", got)
	}
	for _, key := range []string{"k", "l"} { // by name too: it may be another path
		k.same(k.load("s", key).Entries, key, "value")
	}
}

func overwritesAreCopied(k *kit) {
	a := k.own("s", "k", "first")
	buffer := []byte("2econd")
	c := a.change()
	c.Puts = []store.Entry{{Key: "k", Value: buffer}}
	k.applied(c)
	copy(buffer, "XXXXXX")
	k.holds("s", "k", "2econd")
	k.same(k.read(k.claim(store.ClaimRequest{Session: "s", Owner: a.owner, All: true})), "k", "2econd")
}

// scribble overwrites all that a caller owns of a result.
func scribble(es []store.Entry, h store.Header) {
	for i := range es {
		for j := range es[i].Value {
			es[i].Value[j] = 'X'
		}
	}
	for i := range h.Aliases {
		h.Aliases[i] = "X"
	}
}

// intact checks a session after the caller overwrote what it got; it grows the slices as well,
// lest an append reaches a neighbour's bytes.
func (k *kit) intact(t *tenure, es []store.Entry) {
	k.t.Helper()
	for _, e := range es {
		_ = append(e.Value, bytes.Repeat([]byte("X"), 64)...)
	}
	k.holds(t.session, "k", "value")
	if got := k.load(t.session).Header.Aliases; !slices.Equal(got, k.aliases("alias")) {
		k.fail("aliases are %q after the caller changed a result, want [alias]", got)
	}
}

func keptResultsStay(k *kit) {
	a := k.own("s", "k", "first")
	k.applied(k.naming(a.change(), "alias"))
	s := k.load("s")
	c := k.claim(store.ClaimRequest{Session: "s", Owner: a.owner, All: true})
	for range 3 { // engines reuse their pages after a while
		k.applied(k.naming(a.change("k", "other"), "other"))
	}
	k.applied(erasing(a.change()))
	k.same(s.Entries, "k", "first")
	k.same(c.Entries, "k", "first")
	if !slices.Equal(s.Header.Aliases, k.aliases("alias")) || !slices.Equal(c.Header.Aliases, k.aliases("alias")) {
		k.fail("aliases in results are %q and %q after later calls, want [alias]", s.Header.Aliases, c.Header.Aliases)
	}
}
