package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/seed-6f1f505d/kvstore/store"
)

// finder skips the case if the store finds no aliases.
func (k *kit) finder() store.Finder {
	k.t.Helper()
	if !canFind(k.ctx, k.st) {
		k.t.Skipf("the store is no store.Finder")
	}
	return k.st.(store.Finder)
}

// findAll reads a range to its end, so many aliases at a time at most, and checks that each is as Lookup says: up to every alias, those that are in seen not
// again, if nothing changes between two calls; nil: all.
func (k *kit) findAll(r store.AliasRange, seen map[string]store.Header) (all []store.Named) {
	k.t.Helper()
	f := k.finder()
	for last := r.From; ; last = r.From {
		p, err := f.Find(k.ctx, r)
		if err != nil {
			k.fail("Find(%+v) gives error %v", r, err)
		}
		if r.Limit > 0 && len(p.Aliases) > r.Limit {
			k.fail("Find(%+v) gives %d aliases", r, len(p.Aliases))
		}
		for _, n := range p.Aliases {
			if n.Alias < last || p.Next != "" && n.Alias >= p.Next {
				k.fail("Find(%+v) gives the alias %q, after %q, and says that the rest begins at %q", r, n.Alias, last, p.Next)
			}
			last = n.Alias + "\x00"
			h, known := seen[n.Alias]
			if !known {
				h = k.lookup(k.directory(), n.Alias)
			}
			if seen != nil {
				seen[n.Alias] = h
			}
			k.sameHeader(n.Header, h)
		}
		all = append(all, p.Aliases...)
		if p.Next == "" {
			return all
		}
		if p.Next <= r.From {
			k.fail("Find(%+v) says that the rest begins at %q: nothing gets on", r, p.Next)
		}
		r.From = p.Next
	}
}

// finds checks what there is in a range: pairs of an alias and its session.
func (k *kit) finds(r store.AliasRange, pairs ...string) {
	k.t.Helper()
	k.findsAgain(r, nil, pairs...)
}

// findsAgain is finds, while nothing changes: see findAll.
func (k *kit) findsAgain(r store.AliasRange, seen map[string]store.Header, pairs ...string) {
	k.t.Helper()
	var got []string
	for _, n := range k.findAll(r, seen) {
		got = append(got, n.Alias, n.Header.Session)
	}
	if !slices.Equal(got, pairs) {
		k.fail("Find(%+v) finds %q, want %q", r, got, pairs)
	}
}

// catalog is two sessions with aliases of which some are parts of others, or of no text at all.
func catalog(k *kit) (aliases []string, of map[string]string) {
	k.finder()
	aliases = []string{"\x00", "\x00\x00a", "\x00\xff", "\x01", "A", "a", "a/", "a/b", "a0", "aa", "ab", "ä", "\xff", "\xff\x00", "\xff\xff"}
	var odd, even []string
	of = map[string]string{}
	for i, x := range aliases {
		if i%3 == 0 {
			odd, of[x] = append(odd, x), "s"
		} else {
			even, of[x] = append(even, x), "t"
		}
	}
	slices.Reverse(even)
	k.named("s", odd...)
	k.named("t", even...)
	k.own("a/c", "k", "v") // without an alias
	return aliases, of
}

var findRules = []rule{
	{"Find reads the aliases with r.From ≤ alias < r.To, in the order of their bytes, each with the header of the session that has it.", []testcase{
		{"each range of aliases", func(k *kit) {
			aliases, of := catalog(k)
			bounds := append(slices.Clone(aliases), "", "a/b0", "zz", "\xff\xff\xff")
			seen := map[string]store.Header{}
			for j, from := range bounds {
				for i, to := range bounds {
					if (i+j)%3 > 0 && to != "" {
						continue
					}
					var want []string
					for _, x := range aliases {
						if x >= from && (to == "" || x < to) {
							want = append(want, x, of[x])
						}
					}
					k.findsAgain(store.AliasRange{From: from, To: to, Limit: []int{0, 1, 4}[i%3]}, seen, want...)
				}
			}
		}},
		{"a found header belongs to the caller", func(k *kit) {
			k.finder()
			k.named("s", "x", "y")
			clear(k.findAll(store.AliasRange{}, nil)[0].Header.Aliases)
			k.finds(store.AliasRange{}, "x", "s", "y", "s")
		}},
	}},
	{"An alias that one session has throughout the call is found, of that session, if the page comes to it.", []testcase{
		{"while others come and go", func(k *kit) {
			f := k.finder()
			k.named("s", "b", "d", "f", "h")
			t := k.named("t")
			stop, ended := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(ended)
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := k.st.Apply(k.ctx, []store.Change{k.naming(t.change("k", fmt.Sprint(i)), []string{"a", "c", "e"}[i%3], []string{"g", "i"}[i%2])}); err != nil {
						k.complain("Apply gives error %v", err)
						return
					}
				}
			}()
			for range 30 {
				for _, limit := range []int{0, 2} {
					var got []string
					for r := (store.AliasRange{From: "b", Limit: limit}); ; {
						p, err := f.Find(k.ctx, r)
						if err != nil {
							k.complain("Find gives error %v", err)
						}
						for _, n := range p.Aliases {
							if n.Header.Session == "s" {
								got = append(got, n.Alias)
							}
							if !slices.Contains(n.Header.Aliases, n.Alias) {
								k.complain("Find gives %q, of a header that lists %q", n.Alias, n.Header.Aliases)
							}
						}
						if r.From = p.Next; p.Next == "" {
							break
						}
					}
					if !slices.Equal(got, []string{"b", "d", "f", "h"}) {
						k.complain("of a session that nobody changes there is %q", got)
					}
				}
			}
			close(stop)
			<-ended
		}},
	}},
	{"It reads the first r.Limit aliases, or fewer, and tells in Next where the rest begins.", []testcase{
		{"as many aliases as there are", func(k *kit) {
			f := k.finder()
			k.named("s", "a", "b")
			for _, c := range []struct {
				r    store.AliasRange
				n    int
				more bool
			}{
				{store.AliasRange{}, 2, false}, {store.AliasRange{Limit: 2}, 2, false}, {store.AliasRange{Limit: 3}, 2, false}, {store.AliasRange{Limit: 1}, 1, true},
				{store.AliasRange{From: "b", Limit: 1}, 1, false}, {store.AliasRange{From: "c", Limit: 1}, 0, false}, {store.AliasRange{To: "a", Limit: 1}, 0, false}, {store.AliasRange{To: "b", Limit: 1}, 1, false},
			} {
				p, err := f.Find(k.ctx, c.r)
				if err != nil || len(p.Aliases) != c.n || (p.Next != "") != c.more {
					k.fail("Find(%+v) gives %d aliases, and says that the rest begins at %q (error %v); there are a and b", c.r, len(p.Aliases), p.Next, err)
				}
			}
		}},
		{"a thousand aliases", func(k *kit) {
			k.finder()
			var want []string
			for i := range 10 {
				var aliases []string
				id := fmt.Sprint("s", i)
				for j := range 100 {
					aliases = append(aliases, fmt.Sprintf("%d%02d", i, j))
					want = append(want, aliases[j], id)
				}
				k.named(id, aliases...)
			}
			seen, heads := map[string]store.Header{}, map[string]store.Header{}
			for i := 0; i < len(want); i += 2 { // all of a session's have one header
				id := want[i+1]
				if _, known := heads[id]; !known {
					heads[id] = k.lookup(k.directory(), want[i])
				}
				seen[want[i]] = heads[id]
			}
			k.findsAgain(store.AliasRange{Limit: 64}, seen, want...)
			k.findsAgain(store.AliasRange{From: "250", To: "55", Limit: 17}, seen, want[500:1100]...)
		}},
	}},
	{"What is found is what Lookup would have returned at some time during the call: an alias of which the session is gone is left out.", []testcase{
		{"gone, and left out", func(k *kit) {
			k.finder()
			a, b, c := k.named("a", "1", "4"), k.named("b", "2", "5"), k.named("c", "3", "6")
			k.applied(erasing(a.change()))
			k.expired(b, "2", "5")
			k.alive(c.owner)
			k.expired(c, "3", "6")
			for _, limit := range []int{0, 1} {
				k.finds(store.AliasRange{Limit: limit}, "3", "c", "6", "c")
			}
			k.dead(c.owner)
			k.finds(store.AliasRange{Limit: 1})
			k.named("d", "3", "5")
			k.finds(store.AliasRange{Limit: 1}, "3", "d", "5", "d")
			k.applied(k.naming(ending(c.change(), inAnHour()), "6"))
			k.finds(store.AliasRange{Limit: 1}, "3", "d", "5", "d", "6", "c")
		}},
		{"acknowledged before the call", func(k *kit) {
			k.finder()
			s := k.named("s")
			for i := range 20 {
				x := fmt.Sprint("x", i)
				k.applied(k.naming(s.change(), x))
				k.finds(store.AliasRange{}, x, "s")
			}
			t := k.take("s")
			if h := k.findAll(store.AliasRange{}, nil)[0].Header; h.Epoch != t.epoch || h.Owner != t.owner {
				k.fail("header is %+v after a claim of epoch %d", h, t.epoch)
			}
		}},
		{"a context that is over, for aliases", func(k *kit) {
			f := k.finder()
			ctx, cancel := context.WithCancel(k.ctx)
			cancel()
			if _, err := f.Find(ctx, store.AliasRange{}); !errors.Is(err, context.Canceled) {
				k.fail("error %v", err)
			}
		}},
		{"aliases, after Close", func(k *kit) {
			f := k.finder()
			k.st.Close()
			if _, err := f.Find(k.ctx, store.AliasRange{}); !errors.Is(err, store.ErrClosed) {
				k.fail("error %v", err)
			}
		}},
	}},
	{"A damaged record, or header, is left out and is the error, joined; the rest is returned beside it.", []testcase{
		{"the header of one that is found", func(k *kit) {
			f := k.finder()
			k.named("s", "a", "d")
			k.named("t", "b", "c")
			k.damage("t", "", true)
			var got []string
			told := false
			for r, n := (store.AliasRange{Limit: 1}), 0; n < 9; n++ {
				p, err := f.Find(k.ctx, r)
				var damaged *store.CorruptError
				switch {
				case err == nil:
				case !errors.As(err, &damaged) || damaged.Session != "t" || !damaged.Header:
					k.fail("error %v", err)
				default:
					told = true
				}
				for _, n := range p.Aliases {
					got = append(got, n.Alias)
				}
				if r.From = p.Next; p.Next == "" {
					break
				}
			}
			if !slices.Equal(got, []string{"a", "d"}) || !told {
				k.fail("there is %q, want a and d; and the damage was told: %t", got, told)
			}
		}},
	}},
	{"An error that wraps errors.ErrUnsupported says that the store keeps no aliases, or not in their order.", []testcase{
		{"no aliases, not in their order", func(k *kit) {
			f, ok := k.st.(store.Finder)
			if !ok {
				k.t.Skipf("the store is no store.Finder")
			}
			if _, err := f.Find(k.ctx, store.AliasRange{}); err == nil && !k.keepsAliases() {
				k.fail("Find gives no error, and the store keeps no aliases")
			}
		}},
	}},
}
