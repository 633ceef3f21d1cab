package storetest

import (
	"context"
	"slices"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// torn is a store of whose LoadRange one thing is wrong.
type torn struct {
	*memory.Store
	load func(m *memory.Store, ctx context.Context, id string, r store.Range) (store.Page, error)
}

func (s torn) LoadRange(ctx context.Context, id string, r store.Range) (store.Page, error) {
	return s.load(s.Store, ctx, id, r)
}

// TestLoadRangeFindsFaults shows that the cases of LoadRange are able to fail.
func TestLoadRangeFindsFaults(t *testing.T) {
	asked := func(f func(r *store.Range)) func(*memory.Store, context.Context, string, store.Range) (store.Page, error) {
		return func(m *memory.Store, ctx context.Context, id string, r store.Range) (store.Page, error) {
			f(&r)
			return m.LoadRange(ctx, id, r)
		}
	}
	answered := func(f func(p *store.Page, r store.Range)) func(*memory.Store, context.Context, string, store.Range) (store.Page, error) {
		return func(m *memory.Store, ctx context.Context, id string, r store.Range) (store.Page, error) {
			p, err := m.LoadRange(ctx, id, r)
			f(&p, r)
			return p, err
		}
	}
	for name, b := range map[string]struct {
		load  func(m *memory.Store, ctx context.Context, id string, r store.Range) (store.Page, error)
		cases []string
	}{
		"begins at the beginning": {asked(func(r *store.Range) { r.From = "" }), []string{"every range"}},
		"ends at the end":         {asked(func(r *store.Range) { r.To = "" }), []string{"every range", "a thousand"}},
		"knows no limit":          {asked(func(r *store.Range) { r.Limit = 0 }), []string{"every range", "as many as there are", "a thousand"}},
		"always reads values":     {asked(func(r *store.Range) { r.KeysOnly = false }), []string{"keys only"}},
		"forgets expiries": {answered(func(p *store.Page, r store.Range) {
			for i := range p.Entries {
				p.Entries[i].Expires = 0
			}
		}), []string{"keys only"}},
		"forgets the rest": {answered(func(p *store.Page, r store.Range) { p.Next = "" }), []string{"every range", "keys only", "as many as there are", "a thousand", "what has expired is no reason to stop"}},
		"always has more": {answered(func(p *store.Page, r store.Range) {
			if p.Next == "" {
				p.Next = r.From + "\x00"
			}
		}), []string{"as many as there are", "a part of an absent session, and of a tombstone"}},
		"says that the last one is the next": {answered(func(p *store.Page, r store.Range) {
			if n := len(p.Entries); n > 0 && p.Next != "" {
				p.Next = p.Entries[n-1].Key
			}
		}), []string{"every range", "a thousand"}},
		"in an order of its own": {answered(func(p *store.Page, r store.Range) { slices.Reverse(p.Entries) }), []string{"every range", "keys only"}},
		"without a header":       {answered(func(p *store.Page, r store.Range) { p.Header = store.Header{} }), []string{"every range", "a part of an expired session"}},
		"with the main entry always": {func(m *memory.Store, ctx context.Context, id string, r store.Range) (store.Page, error) {
			p, err := m.LoadRange(ctx, id, r)
			if r.From != "" {
				s, _ := m.Load(ctx, id, "")
				p.Entries = append(s.Entries, p.Entries...)
			}
			return p, err
		}, []string{"every range"}},
		"has a main entry by name at least": {answered(func(p *store.Page, r store.Range) {
			if r.KeysOnly && r.From == "" && (len(p.Entries) == 0 || p.Entries[0].Key != "") {
				p.Entries = append([]store.Entry{{}}, p.Entries...)
			}
		}), []string{"keys only, and what is not there"}},
		"whatever the context": {func(m *memory.Store, ctx context.Context, id string, r store.Range) (store.Page, error) {
			return m.LoadRange(context.WithoutCancel(ctx), id, r)
		}, []string{"a context that is over, for a part"}},
	} {
		for _, c := range b.cases {
			t.Run(name+"/"+c, func(t *testing.T) {
				r, found := find(t, "LoadRange/"+c)
				rec := record(func(rt T) { r.check(rt, torn{memory.New(), b.load}, found) })
				if len(rec.failures) == 0 {
					t.Errorf("is not noticed (skipped: %q)", rec.skipped)
				}
			})
		}
	}
}

// TestCompareFindsFaultsOfRanges shows that the comparison looks at LoadRange, too.
func TestCompareFindsFaultsOfRanges(t *testing.T) {
	for name, bend := range map[string]func(p *store.Page, r store.Range){
		"ends too soon": func(p *store.Page, r store.Range) { p.Next = "" },
		"has one more": func(p *store.Page, r store.Range) {
			p.Entries = append(p.Entries, store.Entry{Key: "\xff", Value: []byte("v")})
		},
		"has no headers": func(p *store.Page, r store.Range) { p.Header = store.Header{} },
	} {
		t.Run(name, func(t *testing.T) {
			st := torn{memory.New(), func(m *memory.Store, ctx context.Context, id string, r store.Range) (store.Page, error) {
				p, err := m.LoadRange(ctx, id, r)
				bend(&p, r)
				return p, err
			}}
			defer st.Close()
			if r := record(func(t T) { Compare(t, st, 2, 1000) }); len(r.failures) == 0 {
				t.Error("the comparison finds nothing")
			}
		})
	}
}
