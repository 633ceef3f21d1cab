package etcd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

// KeepAlive implements [store.Store]. A lease is one of the server's, which counts in seconds and has a minimum, commonly two: it may run
// longer than ttl, which is safe. To renew one as it was writes nothing. Now and then KeepAlive also removes tombstones that are old
// enough, and former values.
func (s *Store) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (ran bool, err error) {
	if err := s.enter(ctx); err != nil {
		return false, err
	}
	defer s.leave()
	if ttl <= 0 {
		ran, err = s.endLease(ctx, n.Incarnation)
	} else {
		ran, err = s.keepAlive(ctx, n, ttl)
	}
	if err == nil {
		s.tidy(ctx)
	}
	return ran, err
}

func (s *Store) keepAlive(ctx context.Context, n store.Node, ttl time.Duration) (ran bool, err error) {
	seconds := min(int64((ttl+time.Second-1)/time.Second), math.MaxInt32)
	key, record := s.keys.node(n.Incarnation), encodeNode(n, seconds)
	r, err := s.client.Get(ctx, key)
	if err != nil {
		return false, called(ctx, err)
	}
	if len(r.Kvs) > 0 && string(r.Kvs[0].Value) == record {
		switch _, err := s.client.KeepAliveOnce(ctx, clientv3.LeaseID(r.Kvs[0].Lease)); {
		case err == nil:
			return true, nil
		case !errors.Is(err, rpctypes.ErrLeaseNotFound):
			return false, called(ctx, err)
		}
	}
	l, err := s.client.Grant(ctx, seconds)
	if err != nil {
		return false, called(ctx, err)
	}
	p, err := s.client.Put(ctx, key, record, clientv3.WithLease(l.ID), clientv3.WithPrevKV())
	if err != nil {
		return false, called(ctx, err)
	}
	if p.PrevKv == nil {
		return false, nil
	}
	s.client.Revoke(ctx, clientv3.LeaseID(p.PrevKv.Lease)) // nothing hangs on it any more; else it runs out
	return true, nil
}

// endLease revokes the lease, with which the node's key goes in the same step.
func (s *Store) endLease(ctx context.Context, i store.Incarnation) (ran bool, err error) {
	for {
		r, err := s.client.Get(ctx, s.keys.node(i))
		if err != nil {
			return false, called(ctx, err)
		}
		if len(r.Kvs) == 0 {
			return ran, nil
		}
		ran = true
		if _, err := s.client.Revoke(ctx, clientv3.LeaseID(r.Kvs[0].Lease)); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return false, called(ctx, err)
		}
	}
}

// Nodes implements [store.Store]. What is left of a lease is not asked for: Lease is what it had when it was last renewed.
func (s *Store) Nodes(ctx context.Context) (ns []store.Node, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	prefix := s.keys.nodes()
	r, err := s.client.Get(ctx, prefix, within(prefix))
	if err != nil {
		return nil, called(ctx, err)
	}
	for _, kv := range r.Kvs {
		i, err := store.ParseIncarnation(after(prefix, kv.Key))
		if err != nil {
			return nil, wrap(err)
		}
		n, err := decodeNode(i, kv.Value)
		if err != nil {
			return nil, err
		}
		ns = append(ns, n)
	}
	return ns, nil
}

// encodeNode is the value of a node's key.
func encodeNode(n store.Node, seconds int64) string {
	b := appendText(appendText(nil, n.Name), n.Addr)
	return string(binary.AppendVarint(binary.AppendVarint(b, int64(n.Weight)), seconds))
}

func decodeNode(i store.Incarnation, b []byte) (store.Node, error) {
	r := reader{b: b}
	n := store.Node{Name: r.text(), Addr: r.text(), Weight: int(r.varint()), Lease: time.Duration(r.varint()) * time.Second, Incarnation: i}
	if r.bad {
		return store.Node{}, fmt.Errorf("store/etcd: the record of node %v is damaged", i)
	}
	return n, nil
}
