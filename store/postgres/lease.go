package postgres

import (
	"context"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// KeepAlive implements [store.Store]. Now and then it also removes tombstones that are old enough.
func (s *Store) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (ran bool, err error) {
	if err := s.enter(ctx); err != nil {
		return false, err
	}
	defer s.leave()
	err = again(ctx, func() error {
		return s.pool.QueryRow(ctx, s.sql.keepAlive, [16]byte(n.Incarnation), []byte(n.Name), []byte(n.Addr), n.Weight, ttl).Scan(&ran)
	})
	if err == nil && s.sweepDue() {
		if _, err := s.pool.Exec(ctx, s.sql.sweep, s.opt.TombstoneRetention, sweepBatch); err != nil {
			s.opt.Logger.Warn("store/postgres: old tombstones were not removed", "error", err)
		}
	}
	return ran, err
}

const (
	sweepEvery = time.Second
	sweepBatch = 1000 // tombstones
)

func (s *Store) sweepDue() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.swept) >= sweepEvery {
		s.swept = now
		return true
	}
	return false
}

// Nodes implements [store.Store].
func (s *Store) Nodes(ctx context.Context) (ns []store.Node, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	rows, err := s.pool.Query(ctx, s.sql.nodes)
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	for rows.Next() {
		var n store.Node
		var incarnation [16]byte
		var name, addr []byte
		var left int64
		if err := rows.Scan(&incarnation, &name, &addr, &n.Weight, &left); err != nil {
			return nil, wrap(err)
		}
		n.Incarnation, n.Name, n.Addr, n.Lease = incarnation, string(name), string(addr), time.Duration(left)*time.Millisecond
		ns = append(ns, n)
	}
	return ns, wrap(rows.Err())
}
