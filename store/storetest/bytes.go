package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/seed-6f1f505d/kvstore/store"
)

var bytesRules = []rule{
	{"Session IDs, keys and aliases are arbitrary bytes.", []testcase{
		{"any bytes in session IDs", anySession},
		{"any bytes in keys", anyKey},
		{"any bytes in values", anyValue},
		{"any bytes in aliases", func(k *kit) {
			d := k.directory()
			a := k.own("s")
			k.applied(k.naming(a.change(), awkward...))
			if got := k.load("s").Header.Aliases; !slices.Equal(got, awkward) {
				k.fail("aliases are %q, want %q", got, awkward)
			}
			k.applied(k.naming(a.change(), awkward[0]))
			for i, alias := range awkward {
				if i > 0 {
					k.applied(k.naming(k.own(alias).change(), alias)) // spelled as its session, too
				}
			}
			for i, alias := range awkward {
				if h := k.lookup(d, alias); i > 0 && h.Session != alias || i == 0 && h.Session != "s" {
					k.fail("alias %q is that of session %q", alias, h.Session)
				}
			}
		}},
		{"session and key do not run together", func(k *kit) {
			k.own("a", "bc", "1")
			k.own("ab", "c", "2")
			k.own("abc", "", "3")
			k.own("a\x00", "bc", "4")
			k.own("a/bc", "", "5")
			k.holds("a", "bc", "1")
			k.holds("ab", "c", "2")
			k.holds("abc", "", "3")
			k.holds("a\x00", "bc", "4")
			k.holds("a/bc", "", "5")
			k.applied(erasing(k.take("a").change()))
			k.holds("ab", "c", "2")
			k.holds("a\x00", "bc", "4")
			k.holds("a/bc", "", "5")
			k.applied(wiping(k.take("a\x00").change()))
			k.holds("abc", "", "3")
		}},
		{"the empty key", func(k *kit) {
			a := k.own("s", "", "main", "k", "v")
			k.same(k.load("s", "").Entries, "", "main")
			k.same(k.read(k.claim(store.ClaimRequest{Session: "s", Owner: a.owner, Keys: []string{""}})), "", "main")
			k.applied(dropping(a.change(), ""))
			k.holds("s", "k", "v")
			k.same(k.load("s", "").Entries)
		}},
		{"the empty value is not an absent one", func(k *kit) {
			a := k.own("s")
			c := a.change()
			c.Puts = []store.Entry{{Key: "nil"}, {Key: "empty", Value: []byte{}}}
			k.applied(c)
			k.holds("s", "nil", "", "empty", "")
			k.same(k.load("s", "nil", "empty", "none").Entries, "nil", "", "empty", "")
			b := k.claim(store.ClaimRequest{Session: "s", Owner: newOwner("b"), All: true})
			k.same(k.read(b), "nil", "", "empty", "")
		}},
	}},
	{"Limits that every store must be able to hold.", []testcase{
		{"the longest session ID and key", longest},
		{"the largest numbers", largestNumbers},
		{"the most and the longest aliases", mostAliases},
	}},
	{"the size in bytes up to which every store must accept a value", []testcase{
		{"a value of MinValue bytes", func(k *kit) {
			a, value := k.own("s"), random(store.MinValue)
			k.applied(a.change("k", value))
			k.holds("s", "k", value)
			k.same(k.read(k.claim(store.ClaimRequest{Session: "s", Owner: a.owner, Keys: []string{"k"}})), "k", value)
			k.applied(a.change("k", "small"))
			k.holds("s", "k", "small")
		}},
	}},
	{"one that cannot hold a particular entry says [Rejected] and names its key.", []testcase{
		{"a large value among small ones", func(k *kit) {
			a, b, large := k.own("s"), k.own("other"), random(8<<20)
			rs := k.apply(a.change("small", "v", "large", large), b.change("k", "v"))
			switch {
			case rs[0].Outcome == store.Applied:
				k.holds("s", "small", "v", "large", large)
			case rs[0].Outcome != store.Rejected || !slices.Equal(rs[0].Keys, []string{"large"}) || !errors.Is(rs[0].Err, store.ErrTooLarge):
				k.fail("result is %+v, want Applied, or Rejected with ErrTooLarge and the key", rs[0])
			default:
				k.holds("s")
			}
			if rs[1].Outcome != store.Applied {
				k.fail("the change beside it is %v, want applied", rs[1].Outcome)
			}
		}},
	}},
}

// awkward has strings that engines' separators, patterns, encodings and prefixes trip over.
var awkward = []string{
	"a", "ab", "a\x00", "a\x00\x00", "a\x00b", "a\x01", "\x00", "\x00\x00", "\xff", "\xff\xff", "a\xff", "a\xffb",
	"/", "a/", "a/b", "a//b", "//", ".", "..", "a.b", "a.>", "*", "a*", "?", "[a]", "%", "a%b", "_", "{a}", ":", "a:b", "|",
	" ", " a", "a ", "\n", "\r\n", "\t", "'", "\"", "\\", "\\x00", "$", "#", "A", "é", "e\u0301", "\xc3\x28", "\xed\xa0\x80", "\U0001F600", "\ufeff",
}

func anySession(k *kit) {
	ts := make([]*tenure, len(awkward))
	for i, id := range awkward {
		ts[i] = k.own(id, "k", fmt.Sprint(i))
	}
	hs := k.walk(store.Query{})
	if len(hs) != len(awkward) {
		k.fail("the walk has %d sessions, want %d", len(hs), len(awkward))
	}
	for i, id := range awkward {
		k.holds(id, "k", fmt.Sprint(i))
		k.sameHeader(hs[id], k.load(id).Header)
		k.applied(erasing(ts[i].change()))
	}
	if hs := k.walk(store.Query{}); len(hs) > 0 {
		k.fail("all sessions are deleted, yet the walk has %v", hs)
	}
}

func anyKey(k *kit) {
	a := k.own("s")
	k.own("t", awkward[0], "another session's")
	var kv []string
	for i, key := range awkward {
		kv = append(kv, key, fmt.Sprint(i))
	}
	k.applied(a.change(kv...))
	k.holds("s", kv...)
	k.same(k.read(k.claim(store.ClaimRequest{Session: "s", Owner: a.owner, Keys: awkward})), kv...)
	for i, key := range awkward {
		k.same(k.load("s", key).Entries, kv[2*i:2*i+2]...)
		k.applied(dropping(a.change(), key))
		k.holds("s", kv[2*i+2:]...)
	}
	k.holds("t", awkward[0], "another session's")
}

func anyValue(k *kit) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	kv := []string{"all", string(all), "zeros", string(make([]byte, 4096)), "0", "\x00", "ff", "\xff", "random", random(70_001)}
	k.own("s", kv...)
	k.holds("s", kv...)
}

func longest(k *kit) {
	id, key := strings.Repeat("\xff", store.MaxSession), strings.Repeat("\x00", store.MaxKey)
	sibling := id[:store.MaxSession-1]
	a := k.own(id, key, "1", key[:store.MaxKey-1], "2")
	k.own(sibling, key, "3")
	k.holds(id, key, "1", key[:store.MaxKey-1], "2")
	k.same(k.load(id, key).Entries, key, "1")
	k.holds(sibling, key, "3")
	if len(k.walk(store.Query{})) != 2 {
		k.fail("the walk has not both sessions")
	}
	k.applied(erasing(a.change()))
	k.holds(id)
	k.holds(sibling, key, "3")
}

// largestNumbers exceeds what a float64 can tell apart, which is what some engines' scripts count with.
func largestNumbers(k *kit) {
	const epoch, seq = 1<<53 + 1, 1<<62 + 1
	a := k.claimed(store.ClaimRequest{Session: "s", Owner: newOwner("a"), Create: true, Epoch: epoch - 1})
	k.claims(store.Outbid, store.ClaimRequest{Session: "s", Owner: newOwner("b"), Force: true, Epoch: epoch - 1})
	b := k.claimed(store.ClaimRequest{Session: "s", Owner: a.owner, Force: true}) // its own: not raised
	if b.epoch != epoch-1 {
		k.fail("epoch is %d, want %d", b.epoch, uint64(epoch-1))
	}
	b = k.claimed(store.ClaimRequest{Session: "s", Owner: newOwner("b"), Force: true, Epoch: epoch})
	k.gets(store.Fenced, a.change("k", "late"))
	b.seq = seq - 2
	first, second := versioned(b.change("k", "first"), 1<<32-1), versioned(b.change("k", "second"), 1<<32-1)
	k.applied(first)
	k.applied(second)
	k.gets(store.Already, first)
	want := store.Header{Session: "s", Owner: b.owner, Epoch: epoch, Seq: seq, Schema: 1<<32 - 1}
	k.sameHeader(k.load("s").Header, want)
	k.holds("s", "k", "second")
}

// random returns n bytes that no engine can compress.
func random(n int) string {
	var b bytes.Buffer
	b.Grow(n + 8)
	r := rand.NewPCG(1, 2)
	for b.Len() < n {
		v := r.Uint64()
		for i := range 8 {
			b.WriteByte(byte(v >> (8 * i)))
		}
	}
	return b.String()[:n]
}
