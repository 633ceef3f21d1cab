package etcd

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// chores are what is done now and then, beside KeepAlive.
type chores struct {
	swept     time.Time // when tombstones were last looked at
	marked    time.Time // when the revision was marked,
	mark      int64     // up to which it is compacted next
	forbidden bool      // this user may not compact
}

const (
	sweepEvery = time.Second
	sweepBatch = 1000 // tombstones
)

// tidy removes what is old enough. What goes wrong is logged, and tried again.
func (s *Store) tidy(ctx context.Context) {
	now := time.Now()
	s.mu.Lock()
	sweep := now.Sub(s.chores.swept) >= sweepEvery
	compact := !s.chores.forbidden && s.opt.Compact > 0 && now.Sub(s.chores.marked) >= s.opt.Compact
	if sweep {
		s.chores.swept = now
	}
	if compact {
		s.chores.marked = now
	}
	s.mu.Unlock()
	if sweep {
		if err := s.sweep(ctx, now); err != nil {
			s.opt.Logger.Warn("store/etcd: old tombstones were not removed", "error", err)
		}
	}
	if compact {
		if err := s.compact(ctx); err != nil {
			s.opt.Logger.Warn("store/etcd: former values were not removed", "error", err)
		}
	}
}

// sweep removes tombstones. A grave's key is written with the head, so both have one revision unless the head was written again.
func (s *Store) sweep(ctx context.Context, now time.Time) error {
	from, to := s.keys.graves(), s.keys.gravesAt(now.Add(-s.opt.TombstoneRetention).UnixMilli())
	if to <= from {
		return nil
	}
	r, err := s.client.Get(ctx, from, clientv3.WithRange(to), clientv3.WithLimit(sweepBatch))
	if err != nil || len(r.Kvs) == 0 {
		return called(ctx, err)
	}
	prefix := len(s.keys.gravesAt(0))
	ops := make([]clientv3.Op, len(r.Kvs))
	for i, kv := range r.Kvs {
		grave, head := string(kv.Key), s.keys.head(string(kv.Key[prefix:]), string(kv.Value))
		ops[i] = clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(head), "=", kv.ModRevision)},
			[]clientv3.Op{clientv3.OpDelete(head), clientv3.OpDelete(grave)}, []clientv3.Op{clientv3.OpDelete(grave)})
	}
	then, _ := fold(ops, maxOps-2)
	_, err = s.commit(ctx, nil, then, nil)
	return err
}

// compact has the server forget what was before the revision that was marked last time, and marks the present one.
func (s *Store) compact(ctx context.Context) error {
	r, err := s.client.Get(ctx, s.keys.format(), clientv3.WithKeysOnly())
	if err != nil {
		return called(ctx, err)
	}
	s.mu.Lock()
	to := s.chores.mark
	s.chores.mark = r.Header.Revision
	s.mu.Unlock()
	if to == 0 {
		return nil
	}
	_, err = s.client.Compact(ctx, to)
	if errors.Is(err, rpctypes.ErrCompacted) {
		return nil // another node was first
	}
	if errors.Is(rpctypes.Error(err), rpctypes.ErrPermissionDenied) {
		s.mu.Lock()
		s.chores.forbidden = true
		s.mu.Unlock()
		s.opt.Logger.Warn("store/etcd: this user may not compact: set the server's --auto-compaction-retention, or its quota is used up in the end")
		return nil
	}
	return called(ctx, err)
}
