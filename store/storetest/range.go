package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/seed-6f1f505d/kvstore/store"
)

func (k *kit) ranger() store.Ranger {
	k.t.Helper()
	r, ok := k.st.(store.Ranger)
	if ok {
		if _, err := r.LoadRange(k.ctx, "s", store.Range{}); errors.Is(err, errors.ErrUnsupported) {
			ok = false
		}
	}
	if !ok {
		k.t.Skipf("the store is no store.Ranger")
	}
	return r
}

func (k *kit) page(id string, r store.Range) store.Page {
	k.t.Helper()
	p, err := k.ranger().LoadRange(k.ctx, id, r)
	if err != nil {
		k.fail("LoadRange(%.40q, %+v) gives error %v", id, r, err)
	}
	return p
}

// pages reads a range to its end, so many entries at a time at most.
func (k *kit) pages(id string, r store.Range) (es []store.Entry) {
	k.t.Helper()
	for last := r.From; ; last = r.From {
		p := k.page(id, r)
		if r.Limit > 0 && len(p.Entries) > r.Limit {
			k.fail("LoadRange(%q, %+v) gives %d entries", id, r, len(p.Entries))
		}
		for _, e := range p.Entries {
			if e.Key < last || p.Next != "" && e.Key >= p.Next {
				k.fail("LoadRange(%q, %+v) gives the key %q, after %q, and says that the rest begins at %q", id, r, e.Key, last, p.Next)
			}
			last = e.Key + "\x00"
		}
		es = append(es, p.Entries...)
		if p.Next == "" {
			return es
		}
		if p.Next <= r.From {
			k.fail("LoadRange(%q, %+v) says that the rest begins at %q: nothing gets on", id, r, p.Next)
		}
		r.From = p.Next
	}
}

// ranged is a session with keys of which some are parts of others, or of no text at all.
func ranged(k *kit) (a *tenure, keys []string) {
	keys = []string{"", "\x00", "\x00a", "\x01", "a", "a/", "a/b", "a/b/c", "a/c", "a0", "ab", "b", "\xff", "\xff\xff"}
	var kv []string
	for _, key := range keys {
		kv = append(kv, key, "v"+key)
	}
	return k.own("s", kv...), keys
}

var rangeRules = []rule{
	{"LoadRange reads the entries of a session with r.From ≤ key < r.To, in the order of their keys as bytes, and the header, in one consistent view.", []testcase{
		{"every range", func(k *kit) {
			a, keys := ranged(k)
			k.own("s\x00", "a", "another's")
			k.own("t", "", "another's")
			bounds := append(slices.Clone(keys), "a/b0", "zz", "\xff\xff\xff")
			for i, from := range bounds {
				for j, to := range bounds {
					var want []string
					for _, key := range keys {
						if key >= from && (to == "" || key < to) {
							want = append(want, key, "v"+key)
						}
					}
					limit := []int{0, 1, 3, 0}[(i+j)%4]
					k.same(k.pages("s", store.Range{From: from, To: to, Limit: limit}), want...)
				}
			}
			k.sameHeader(k.page("s", store.Range{From: "a", To: "b"}).Header, store.Header{Session: "s", Owner: a.owner, Epoch: a.epoch, Seq: a.seq})
		}},
	}},
	{"An empty To is no bound. With KeysOnly the entries have no Value; they have their Expires.", []testcase{
		{"keys only", func(k *kit) {
			a, keys := ranged(k)
			at := inAnHour()
			k.applied(expiring(a.change("a/b", "later"), at))
			for _, limit := range []int{0, 1, 5} {
				es := k.pages("s", store.Range{KeysOnly: true, Limit: limit})
				var got []string
				for _, e := range es {
					got = append(got, e.Key)
					if len(e.Value) > 0 || e.Key == "a/b" && e.Expires != at || e.Key != "a/b" && e.Expires != 0 {
						k.fail("entry %+v; that of a/b expires at %d", e, at)
					}
				}
				if !slices.Equal(got, keys) {
					k.fail("keys %q, want %q", got, keys)
				}
			}
		}},
		{"keys only, and what is not there", func(k *kit) {
			a, b := k.own("s", "a", "", "b", "1"), k.own("t", "", "main", "a", "1")
			k.applied(expiring(a.change("c", "v"), anHourAgo()))
			k.applied(expiring(b.change("", "v"), anHourAgo()))
			for id, want := range map[string][]string{"s": {"a", "b"}, "t": {"a"}} {
				var got []string
				for _, e := range k.pages(id, store.Range{KeysOnly: true}) {
					got = append(got, e.Key)
				}
				if !slices.Equal(got, want) {
					k.fail("keys of %q: %q, want %q", id, got, want)
				}
			}
		}},
	}},
	{"It reads the first r.Limit entries, or fewer, and tells in Next where the rest begins. An empty Next says that there are no more.", []testcase{
		{"as many as there are", func(k *kit) {
			k.own("s", "a", "1", "b", "2")
			for limit, n := range []int{2, 1, 2, 2} {
				k.same(k.page("s", store.Range{Limit: limit}).Entries, []string{"a", "1", "b", "2"}[:2*n]...)
			}
			if p := k.page("s", store.Range{Limit: 1}); p.Next <= "a" || p.Next > "b" {
				k.fail("after a, the rest begins at %q", p.Next)
			}
			for _, r := range []store.Range{{}, {Limit: 3}, {From: "b", Limit: 2}, {From: "c", Limit: 1}, {To: "a", Limit: 1}} {
				if p := k.page("s", r); p.Next != "" {
					k.fail("LoadRange(%+v) says that there is more, at %q", r, p.Next)
				}
			}
		}},
		{"what has expired is no reason to stop", func(k *kit) {
			a := k.own("s", "a", "1", "z", "2")
			k.applied(expiring(a.change("b", "v", "c", "v", "d", "v"), anHourAgo()))
			k.same(k.pages("s", store.Range{Limit: 1}), "a", "1", "z", "2")
		}},
		{"a thousand", func(k *kit) {
			var kv []string
			for i := range 1000 {
				kv = append(kv, fmt.Sprintf("k%03d", i), fmt.Sprint(i))
			}
			k.own("s", kv...)
			k.same(k.pages("s", store.Range{Limit: 64}), kv...)
			k.same(k.pages("s", store.Range{From: "k100", To: "k2", Limit: 7}), kv[200:400]...)
		}},
	}},
	{"All else is as for Load.", []testcase{
		{"a part of an absent session, and of a tombstone", func(k *kit) {
			a := k.lived()
			k.applied(erasing(a.change()))
			k.sameHeader(k.page("s", store.Range{}).Header, store.Header{Session: "s", Owner: a.owner, Epoch: a.epoch, Seq: a.seq, Deleted: true})
			for _, id := range []string{"s", "none"} {
				if p := k.page(id, store.Range{Limit: 2}); len(p.Entries) > 0 || p.Next != "" || p.Header.Exists() {
					k.fail("page of what is not there: %+v", p)
				}
			}
		}},
		{"a part of an expired session", func(k *kit) {
			a, at := k.own("s", "k", "v"), anHourAgo()
			k.applied(ending(a.change(), at))
			p := k.page("s", store.Range{From: "k"})
			k.same(p.Entries, "k", "v")
			k.sameHeader(p.Header, store.Header{Session: "s", Owner: a.owner, Epoch: a.epoch, Seq: a.seq, Expires: at})
		}},
		{"a context that is over, for a part", func(k *kit) {
			ctx, cancel := context.WithCancel(k.ctx)
			r := k.ranger()
			cancel()
			if _, err := r.LoadRange(ctx, "s", store.Range{}); !errors.Is(err, context.Canceled) {
				k.fail("error %v", err)
			}
		}},
		{"a part, after Close", func(k *kit) {
			r := k.ranger()
			k.st.Close()
			if _, err := r.LoadRange(k.ctx, "s", store.Range{}); !errors.Is(err, store.ErrClosed) {
				k.fail("error %v", err)
			}
		}},
		{"a part with damage in it", func(k *kit) {
			r := k.ranger()
			d, ok := k.st.(Damager)
			if !ok {
				k.t.Skipf("the store is no Damager")
			}
			k.own("s", "a", "1", "b", "2", "c", "3")
			if err := d.Damage("s", "b", false); err != nil {
				k.fail("Damage: %v", err)
			}
			var es []store.Entry
			found := false
			for from, n := "", 0; n < 5; n++ {
				p, err := r.LoadRange(k.ctx, "s", store.Range{From: from, Limit: 1})
				var damaged *store.CorruptError
				switch {
				case err == nil:
				case !errors.As(err, &damaged) || damaged.Session != "s" || damaged.Key != "b":
					k.fail("error %v", err)
				default:
					found = true
				}
				es = append(es, p.Entries...)
				if from = p.Next; from == "" {
					break
				}
			}
			k.same(es, "a", "1", "c", "3")
			if !found {
				k.fail("the damage was not told")
			}
		}},
		{"a part belongs to the caller", func(k *kit) {
			k.own("s", "a", "1")
			clear(k.page("s", store.Range{}).Entries[0].Value)
			k.same(k.page("s", store.Range{}).Entries, "a", "1")
		}},
	}},
}
