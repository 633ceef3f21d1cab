package storetest

import (
	"context"
	"slices"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// spoilt is a store of whose ClaimAll one thing is wrong.
type spoilt struct {
	*memory.Store
	all func(m *memory.Store, ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error)
}

func (s spoilt) ClaimAll(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	return s.all(s.Store, ctx, rs)
}

// TestClaimAllFindsFaults shows that the cases of ClaimAll are able to fail.
func TestClaimAllFindsFaults(t *testing.T) {
	each := func(f func(r *store.ClaimRequest)) func(*memory.Store, context.Context, []store.ClaimRequest) ([]store.Claim, error) {
		return func(m *memory.Store, ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
			rs = slices.Clone(rs)
			for i := range rs {
				f(&rs[i])
			}
			return m.ClaimAll(ctx, rs)
		}
	}
	for name, b := range map[string]struct {
		all   func(m *memory.Store, ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error)
		cases []string
	}{
		"robs the living":      {each(func(r *store.ClaimRequest) { r.Force = true }), []string{"held", "of every outcome"}},
		"makes what is absent": {each(func(r *store.ClaimRequest) { r.Create = true }), []string{"many", "of every outcome"}},
		"reads no entries":     {each(func(r *store.ClaimRequest) { r.All, r.Keys = false, nil }), []string{"of every outcome", "none, some or all"}},
		"ignores proposals":    {each(func(r *store.ClaimRequest) { r.Epoch = 0 }), []string{"to the proposed one"}},
		"answers in an order of its own": {func(m *memory.Store, ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
			cs, err := m.ClaimAll(ctx, rs)
			slices.Reverse(cs)
			return cs, err
		}, []string{"of every outcome", "many"}},
		"stops at the first refusal": {func(m *memory.Store, ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
			cs, err := m.ClaimAll(ctx, rs)
			if i := slices.IndexFunc(cs, func(c store.Claim) bool { return c.Outcome != store.Granted }); i >= 0 {
				clear(cs[i+1:])
			}
			return cs, err
		}, []string{"of every outcome", "many"}},
		"checks nothing": {func(m *memory.Store, ctx context.Context, rs []store.ClaimRequest) (cs []store.Claim, err error) {
			for _, r := range rs {
				c, _ := m.Claim(context.WithoutCancel(ctx), r)
				cs = append(cs, c)
			}
			return cs, nil
		}, []string{"one does", "one is malformed", "of many claims", "many claims"}},
	} {
		for _, c := range b.cases {
			t.Run(name+"/"+c, func(t *testing.T) {
				r, found := find(t, "ClaimAll/"+c)
				rec := record(func(rt T) { r.check(rt, spoilt{memory.New(), b.all}, found) })
				if len(rec.failures) == 0 {
					t.Errorf("is not noticed (skipped: %q)", rec.skipped)
				}
			})
		}
	}
}
