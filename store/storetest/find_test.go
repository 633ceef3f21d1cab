package storetest

import (
	"context"
	"slices"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

type findFunc func(m *memory.Store, ctx context.Context, r store.AliasRange) (store.Found, error)

// misled is a store of whose Find one thing is wrong.
type misled struct {
	*memory.Store
	find findFunc
}

func (s misled) Find(ctx context.Context, r store.AliasRange) (store.Found, error) {
	return s.find(s.Store, ctx, r)
}

// TestFindFindsFaults shows that the cases of Find are able to fail.
func TestFindFindsFaults(t *testing.T) {
	asked := func(f func(r *store.AliasRange)) findFunc {
		return func(m *memory.Store, ctx context.Context, r store.AliasRange) (store.Found, error) {
			f(&r)
			return m.Find(ctx, r)
		}
	}
	answered := func(f func(p *store.Found, r store.AliasRange)) findFunc {
		return func(m *memory.Store, ctx context.Context, r store.AliasRange) (store.Found, error) {
			p, err := m.Find(ctx, r)
			f(&p, r)
			return p, err
		}
	}
	var stale store.Found
	for name, b := range map[string]struct {
		find  findFunc
		cases []string
	}{
		"begins at the beginning": {asked(func(r *store.AliasRange) { r.From = "" }), []string{"each range of aliases"}},
		"ends at the end":         {asked(func(r *store.AliasRange) { r.To = "" }), []string{"each range of aliases", "a thousand aliases"}},
		"knows no limit":          {asked(func(r *store.AliasRange) { r.Limit = 0 }), []string{"each range of aliases", "as many aliases as there are"}},
		"forgets the rest":        {answered(func(p *store.Found, r store.AliasRange) { p.Next = "" }), []string{"each range of aliases", "as many aliases as there are", "a thousand aliases", "while others come and go"}},
		"always has more": {answered(func(p *store.Found, r store.AliasRange) {
			if p.Next == "" {
				p.Next = r.From + "\x00"
			}
		}), []string{"as many aliases as there are"}},
		"says that the last one is the next": {answered(func(p *store.Found, r store.AliasRange) {
			if n := len(p.Aliases); n > 0 && p.Next != "" {
				p.Next = p.Aliases[n-1].Alias
			}
		}), []string{"each range of aliases", "a thousand aliases"}},
		"in an order of its own": {answered(func(p *store.Found, r store.AliasRange) { slices.Reverse(p.Aliases) }), []string{"each range of aliases"}},
		"without headers": {answered(func(p *store.Found, r store.AliasRange) {
			for i := range p.Aliases {
				p.Aliases[i].Header = store.Header{Session: p.Aliases[i].Header.Session, Epoch: 1}
			}
		}), []string{"each range of aliases", "acknowledged before the call"}},
		"a session once": {answered(func(p *store.Found, r store.AliasRange) {
			p.Aliases = slices.CompactFunc(p.Aliases, func(a, b store.Named) bool { return a.Header.Session == b.Header.Session })
		}), []string{"each range of aliases", "a thousand aliases", "while others come and go"}},
		"lends its headers": {answered(func(p *store.Found, r store.AliasRange) {
			if stale.Aliases == nil {
				stale = *p
			}
			*p = stale
		}), []string{"a found header belongs to the caller"}},
		"what is gone, too": {func(m *memory.Store, ctx context.Context, r store.AliasRange) (store.Found, error) {
			p, err := m.Find(ctx, r)
			for h := range m.Sessions(ctx, store.Query{}) {
				for _, a := range h.Aliases {
					if r.Has(a) && !slices.ContainsFunc(p.Aliases, func(n store.Named) bool { return n.Alias == a }) {
						p.Aliases = append(p.Aliases, store.Named{Alias: a, Header: h})
					}
				}
			}
			return p, err
		}, []string{"gone, and left out"}},
		"whatever the context": {func(m *memory.Store, ctx context.Context, r store.AliasRange) (store.Found, error) {
			return m.Find(context.WithoutCancel(ctx), r)
		}, []string{"a context that is over, for aliases"}},
	} {
		for _, c := range b.cases {
			t.Run(name+"/"+c, func(t *testing.T) {
				r, found := find(t, "Find/"+c)
				stale = store.Found{}
				rec := record(func(rt T) { r.check(rt, misled{memory.New(), b.find}, found) })
				if len(rec.failures) == 0 {
					t.Errorf("is not noticed (skipped: %q)", rec.skipped)
				}
			})
		}
		if slices.Contains([]string{"always has more", "knows no limit", "lends its headers", "whatever the context"}, name) {
			continue // what a comparison is not about
		}
		t.Run(name+"/Compare", func(t *testing.T) {
			stale = store.Found{}
			if rec := record(func(rt T) { Compare(rt, misled{memory.New(), b.find}, 2, 4000) }); len(rec.failures) == 0 {
				t.Error("a comparison finds nothing")
			}
		})
	}
}
