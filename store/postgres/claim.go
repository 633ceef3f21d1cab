package postgres

import (
	"context"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Claim implements [store.Store]. It is one round trip.
func (s *Store) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	cs, err := s.ClaimAll(ctx, []store.ClaimRequest{r})
	if err != nil {
		return store.Claim{}, err
	}
	c := cs[0]
	err, c.Err = c.Err, nil
	return c, err
}

// ClaimAll implements [store.Claimer]. It is one round trip.
func (s *Store) ClaimAll(ctx context.Context, rs []store.ClaimRequest) (cs []store.Claim, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	if err := store.CheckClaims(rs); err != nil || len(rs) == 0 {
		return nil, err
	}
	err = again(ctx, func() (err error) {
		cs, err = s.claim(ctx, rs)
		return err
	})
	return cs, err
}

func (s *Store) claim(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	n := len(rs)
	var (
		ids, names           = make([][]byte, n), make([][]byte, n)
		claimants, proposals = make([][16]byte, n), make([]int64, n)
		forces, makes        = make([]bool, n), make([]bool, n)
		mains, alls          = make([]bool, n), make([]bool, n)
		keyClaims, keys      = []int32{}, [][]byte{}
	)
	for i := range rs {
		r := &rs[i]
		ids[i], names[i], claimants[i], proposals[i] = []byte(r.Session), []byte(r.Owner.Node), r.Owner.Incarnation, int64(r.Epoch)
		forces[i], makes[i], mains[i], alls[i] = r.Force, r.Create, r.All, r.All
		if r.All {
			continue
		}
		for _, key := range r.Keys {
			if key == "" {
				mains[i] = true
			} else {
				keyClaims, keys = append(keyClaims, int32(i+1)), append(keys, []byte(key))
			}
		}
	}
	rows, err := s.pool.Query(ctx, s.sql.claim, ids, names, claimants, forces, makes, proposals, mains, alls, keyClaims, keys)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	cs := make([]store.Claim, n)
	var (
		i                        int
		h                        header
		outcome                  *int16
		created                  *bool
		holder, addr, key, value []byte
		weight                   *int
		left, until              *int64
	)
	dest := append(append([]any{&i, &outcome, &created}, h.dest()...), &holder, &addr, &weight, &left, &key, &value, &until)
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil { // each value is a new one, or NULL
			return nil, err
		}
		c := &cs[i-1]
		if outcome != nil { // the first row of this claim
			if c.Header, c.Err = h.head(rs[i-1].Session); c.Err != nil {
				continue
			}
			c.Outcome, c.Created = store.ClaimOutcome(*outcome), *created
			if c.Outcome == store.Held {
				c.Holder = store.Node{Name: c.Header.Owner.Node, Incarnation: c.Header.Owner.Incarnation}
			}
			if weight != nil { // else it has ended its lease just now
				c.Holder.Name, c.Holder.Addr, c.Holder.Weight, c.Holder.Lease = string(holder), string(addr), *weight, time.Duration(*left)*time.Millisecond
			}
		}
		if value != nil && c.Err == nil {
			c.Entries = append(c.Entries, store.Entry{Key: string(key), Value: value, Expires: store.Time(*until)})
		}
	}
	return cs, rows.Err()
}

var _ store.Claimer = (*Store)(nil)
