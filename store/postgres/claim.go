package postgres

import (
	"context"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Claim implements [store.Store]. It is one round trip.
func (s *Store) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	if err := s.enter(ctx); err != nil {
		return store.Claim{}, err
	}
	defer s.leave()
	if err := r.Check(); err != nil {
		return store.Claim{}, err
	}
	var c store.Claim
	err := again(ctx, func() (err error) {
		c, err = s.claim(ctx, &r)
		return err
	})
	return c, err
}

func (s *Store) claim(ctx context.Context, r *store.ClaimRequest) (c store.Claim, err error) {
	keys := bytesOf(r.Keys)
	if r.All {
		keys = nil
	}
	rows, err := s.pool.Query(ctx, s.sql.claim, []byte(r.Session), []byte(r.Owner.Node), [16]byte(r.Owner.Incarnation), r.Force, r.Create, int64(r.Epoch), keys)
	if err != nil {
		return c, err
	}
	defer rows.Close()
	for first := true; rows.Next(); first = false {
		var h header
		var outcome *int16
		var created *bool
		var holder, addr, key, value []byte
		var weight *int
		var left, until *int64
		dest := append([]any{&outcome, &created}, h.dest()...)
		if err := rows.Scan(append(dest, &holder, &addr, &weight, &left, &key, &value, &until)...); err != nil {
			return c, err
		}
		if !first {
			c.Entries = append(c.Entries, store.Entry{Key: string(key), Value: value, Expires: store.Time(*until)})
			continue
		}
		c.Outcome, c.Created = store.ClaimOutcome(*outcome), *created
		if c.Header, err = h.head(r.Session); err != nil {
			return c, err
		}
		if left != nil {
			c.Holder = store.Node{
				Name: string(holder), Incarnation: c.Header.Owner.Incarnation, Addr: string(addr), Weight: *weight,
				Lease: time.Duration(*left) * time.Millisecond,
			}
		}
	}
	return c, rows.Err()
}
