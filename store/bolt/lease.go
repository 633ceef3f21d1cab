package bolt

import (
	"context"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Leases live in memory, not in the file: see the package comment.
type lease struct {
	node store.Node
	ends time.Time // by the monotonic clock
}

// leaseMemory is how long a lease that is over is still listed.
const leaseMemory = time.Hour

// lease returns what is known of an incarnation at now, and whether its lease runs.
func (s *Store) lease(i store.Incarnation, now time.Time) (n store.Node, runs bool) {
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	l, ok := s.leases[i]
	if !ok {
		return n, false
	}
	n = l.node
	n.Lease = l.ends.Sub(now)
	return n, n.Lease > 0
}

// KeepAlive implements [store.Store]. It does no I/O.
func (s *Store) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (ran bool, err error) {
	if err := s.enter(ctx); err != nil {
		return false, err
	}
	defer s.leave()
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	now := time.Now()
	ran = s.leases[n.Incarnation].ends.After(now)
	if ttl <= 0 {
		delete(s.leases, n.Incarnation)
		return ran, nil
	}
	for i, l := range s.leases {
		if now.Sub(l.ends) > leaseMemory {
			delete(s.leases, i)
		}
	}
	s.leases[n.Incarnation] = lease{node: n, ends: now.Add(ttl)}
	return ran, nil
}

// Nodes implements [store.Store]. It does no I/O.
func (s *Store) Nodes(ctx context.Context) ([]store.Node, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	now := time.Now()
	s.leaseMu.Lock()
	defer s.leaseMu.Unlock()
	var ns []store.Node
	for _, l := range s.leases {
		l.node.Lease = l.ends.Sub(now)
		ns = append(ns, l.node)
	}
	return ns, nil
}
