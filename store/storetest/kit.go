package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// kit is what a case has at hand: a store, and calls of it that must not fail.
type kit struct {
	t    T
	st   store.Store
	ctx  context.Context
	says string // the sentence under test

	nameless *bool // the store keeps no aliases; nil: it was not asked yet
}

func (k *kit) fail(format string, args ...any) {
	k.t.Helper()
	k.t.Fatalf("%s\n\t%s", k.says, fmt.Sprintf(format, args...))
}

// complain is fail for goroutines other than the case's own.
func (k *kit) complain(format string, args ...any) {
	k.t.Helper()
	k.t.Errorf("%s\n\t%s", k.says, fmt.Sprintf(format, args...))
}

func (k *kit) claim(r store.ClaimRequest) store.Claim {
	k.t.Helper()
	c, err := k.st.Claim(k.ctx, r)
	if err != nil {
		k.fail("Claim(%+v) gives error %v", r, err)
	}
	return c
}

// claims makes a claim that must have the outcome.
func (k *kit) claims(want store.ClaimOutcome, r store.ClaimRequest) store.Claim {
	k.t.Helper()
	c := k.claim(r)
	if c.Outcome != want {
		k.fail("Claim(%+v) is %s, want %s; header %+v", r, c.Outcome, want, c.Header)
	}
	if c.Outcome == store.Granted && !c.Header.HeldBy(r.Owner, c.Header.Epoch) {
		k.fail("Claim(%+v) is granted, yet the header is %+v", r, c.Header)
	}
	return c
}

// read returns the entries that a claim gave, after a Load of those it could not read.
func (k *kit) read(c store.Claim) []store.Entry {
	k.t.Helper()
	if len(c.Unread) == 0 {
		return c.Entries
	}
	return append(c.Entries, k.load(c.Header.Session, c.Unread...).Entries...)
}

func (k *kit) apply(cs ...store.Change) []store.Result {
	k.t.Helper()
	rs, err := k.st.Apply(k.ctx, cs)
	if err != nil {
		k.fail("Apply of %d changes gives error %v", len(cs), err)
	}
	if len(rs) != len(cs) {
		k.fail("Apply of %d changes gives %d results", len(cs), len(rs))
	}
	return rs
}

// gets applies a change that must have the outcome.
func (k *kit) gets(want store.Outcome, c store.Change) store.Result {
	k.t.Helper()
	r := k.apply(c)[0]
	if r.Outcome != want {
		k.fail("Apply(%s) is %v, want %v; result %+v", describe(c), r.Outcome, want, r)
	}
	return r
}

func (k *kit) applied(c store.Change) { k.t.Helper(); k.gets(store.Applied, c) }

func describe(c store.Change) string {
	for i := range c.Puts { // values may be large
		if len(c.Puts[i].Value) > 40 {
			return fmt.Sprintf("session %.40q, epoch %d, seq %d, %d puts", c.Session, c.Epoch, c.Seq, len(c.Puts))
		}
	}
	return fmt.Sprintf("%+v", c)
}

func (k *kit) load(id string, keys ...string) store.Snapshot {
	k.t.Helper()
	s, err := k.st.Load(k.ctx, id, keys...)
	if err != nil {
		k.fail("Load(%.40q) gives error %v", id, err)
	}
	return s
}

// walk returns the headers of a complete walk.
func (k *kit) walk(q store.Query) map[string]store.Header {
	k.t.Helper()
	hs := map[string]store.Header{}
	for h, err := range k.st.Sessions(k.ctx, q) {
		if err != nil {
			k.fail("Sessions(%+v) gives error %v", q, err)
		}
		if _, twice := hs[h.Session]; twice {
			k.fail("Sessions(%+v) yields %q twice", q, h.Session)
		}
		hs[h.Session] = h
	}
	return hs
}

// holds checks that a session's entries are exactly the keys and values named in turn.
func (k *kit) holds(id string, kv ...string) {
	k.t.Helper()
	k.same(k.load(id).Entries, kv...)
}

func (k *kit) same(got []store.Entry, kv ...string) {
	k.t.Helper()
	g, w := map[string]string{}, map[string]string{}
	for _, e := range got {
		if _, twice := g[e.Key]; twice {
			k.fail("the entry %.40q is there twice", e.Key)
		}
		g[e.Key] = string(e.Value)
	}
	for i := 0; i+1 < len(kv); i += 2 {
		w[kv[i]] = kv[i+1]
	}
	if !maps.Equal(g, w) {
		k.fail("entries are %.400q, want %.400q", g, w)
	}
}

func (k *kit) sameHeader(got, want store.Header) {
	k.t.Helper()
	if !headersEqual(got, want) {
		k.fail("header is\n\t%+v, want\n\t%+v", got, want)
	}
}

// headersEqual takes all absent headers for equal: the contract says of them only that their epoch is 0.
func headersEqual(a, b store.Header) bool {
	if a.Epoch == 0 && b.Epoch == 0 {
		return true
	}
	return slices.Equal(a.Aliases, b.Aliases) && a.Session == b.Session && a.Epoch == b.Epoch && a.Seq == b.Seq &&
		a.Owner == b.Owner && a.Released == b.Released && a.Deleted == b.Deleted && a.Expires == b.Expires && a.Schema == b.Schema
}

// unchanged checks that do leaves nothing behind in the session.
func (k *kit) unchanged(id, what string, do func()) {
	k.t.Helper()
	before := k.load(id)
	do()
	after := k.load(id)
	if !headersEqual(before.Header, after.Header) {
		k.fail("%s changed the header from\n\t%+v to\n\t%+v", what, before.Header, after.Header)
	}
	if was, is := sorted(before.Entries), sorted(after.Entries); !slices.EqualFunc(was, is, func(a, b store.Entry) bool {
		return a.Key == b.Key && string(a.Value) == string(b.Value) && a.Expires == b.Expires
	}) {
		k.fail("%s changed the entries from\n\t%+v to\n\t%+v", what, was, is)
	}
}

func sorted(es []store.Entry) []store.Entry {
	return slices.SortedFunc(slices.Values(es), func(a, b store.Entry) int {
		switch {
		case a.Key < b.Key:
			return -1
		case a.Key > b.Key:
			return 1
		}
		return 0
	})
}

// alive starts a lease that outlives the case.
func (k *kit) alive(o store.Owner) { k.t.Helper(); k.lease(o, time.Hour) }

// dead ends an owner's lease.
func (k *kit) dead(o store.Owner) { k.t.Helper(); k.lease(o, 0) }

func (k *kit) lease(o store.Owner, ttl time.Duration) (ran bool) {
	k.t.Helper()
	n := store.Node{Name: o.Node, Incarnation: o.Incarnation, Addr: o.Node + ":1", Weight: 3}
	ran, err := k.st.KeepAlive(k.ctx, n, ttl)
	if err != nil {
		k.fail("KeepAlive(%+v, %v) gives error %v", n, ttl, err)
	}
	return ran
}

// until waits for something that must come.
func (k *kit) until(what string, is func() bool) {
	k.t.Helper()
	for end := time.Now().Add(patience / 2); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			k.fail("in vain waited for this: %s", what)
		}
	}
}
