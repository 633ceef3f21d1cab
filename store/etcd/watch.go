package etcd

import (
	"cmp"
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

var errNoWatch = errors.New("the client is closed, and watches no longer")

// WatchNodes implements [store.Watcher]: the server revokes a lease that ran out, and the node's key goes with it.
func (s *Store) WatchNodes(ctx context.Context, changed func()) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	s.leave() // Close does not wait for it, but ends it
	ctx, stop := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer stop()
	defer context.AfterFunc(s.life, stop)()
	prefix := s.keys.nodes()
	var last error
	for r := range s.client.Watch(ctx, prefix, within(prefix), clientv3.WithFilterPut(), clientv3.WithCreatedNotify()) {
		if last = r.Err(); last == nil {
			changed()
		}
	}
	if s.life.Err() != nil {
		return store.ErrClosed
	}
	if last == nil {
		last = cmp.Or(ctx.Err(), errNoWatch)
	}
	return called(ctx, last)
}

var _ store.Watcher = (*Store)(nil)
