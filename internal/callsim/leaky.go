package callsim

import (
	"context"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Leaky is a store with a broken fence, for a look at what the judge says of one: what the store refuses as late, it writes in the
// name of whoever is the owner now.
type Leaky struct{ store.Store }

// Barrier is the store's own.
func (l Leaky) Barrier(ctx context.Context) error { return barrier(ctx, l.Store) }

// Apply implements store.Store.
func (l Leaky) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	rs, err := l.Store.Apply(ctx, changes)
	for i := range rs {
		h := rs[i].Header
		if rs[i].Outcome != store.Fenced || !h.Exists() || h.Owner == changes[i].Owner {
			continue
		}
		c := changes[i]
		c.Owner, c.Epoch, c.Seq, c.Create = h.Owner, h.Epoch, h.Seq+1, false
		late, err := l.Store.Apply(ctx, []store.Change{c})
		if err != nil {
			return nil, err
		}
		rs[i] = late[0]
	}
	return rs, err
}
