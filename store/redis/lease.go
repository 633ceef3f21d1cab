package redis

import (
	"context"
	"errors"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// KeepAlive implements [store.Store]. Each bucket has the leases of all nodes, so that whoever looks at a session looks at its owner in the same step. It
// is one round trip.
func (s *Store) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (ran bool, err error) {
	if err := s.enter(ctx); err != nil {
		return false, err
	}
	defer s.leave()
	var ms int64
	if ttl > 0 {
		ms = min(max(int64(ttl.Milliseconds()), 1), maxLease)
	}
	var sweep any = ""
	if s.sweepDue() {
		sweep = s.opt.TombstoneRetention.Milliseconds()
	}
	rest := appendNodeRest(nil, &n)
	calls := make([]*call, len(s.buckets))
	for i := range s.buckets {
		b := &s.buckets[i]
		calls[i] = &call{bucket: b, script: leaseScript, keys: 1, args: []any{b.nodes, n.Incarnation[:], ms, rest, sweep}}
	}
	s.run(ctx, calls...)
	ran = true
	var failed []error
	for _, c := range calls {
		if c.err != nil {
			failed = append(failed, c.err)
		} else {
			ran = ran && c.cmd.Val() == int64(1)
		}
	}
	if len(failed) > 0 {
		return false, failed[0]
	}
	return ran, nil
}

const (
	maxLease   = 100 * 365 * 24 * 3600 * 1000 // in milliseconds; the end of a lease has 15 digits
	sweepEvery = time.Minute
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

// Nodes implements [store.Store]. It reads what the first bucket knows.
func (s *Store) Nodes(ctx context.Context) (ns []store.Node, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	b := &s.buckets[0]
	c := &call{bucket: b, script: nodesScript, keys: 1, args: []any{b.nodes}}
	s.run(ctx, c)
	answer, err := c.list()
	if err != nil {
		return nil, err
	}
	if len(answer) != 2 {
		return nil, errAnswer
	}
	now := time.UnixMilli(whole(answer[0]))
	all, _ := answer[1].([]any)
	var damaged []error
	for ; len(all) >= 2; all = all[2:] {
		var incarnation store.Incarnation
		if copy(incarnation[:], text(all[0])) < len(incarnation) {
			damaged = append(damaged, errAnswer)
			continue
		}
		n, err := parseNode(incarnation, text(all[1]), now)
		if err != nil {
			damaged = append(damaged, err)
			continue
		}
		ns = append(ns, n)
	}
	return ns, errors.Join(damaged...)
}
