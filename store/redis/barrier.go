package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	client "github.com/redis/go-redis/v9"

	"github.com/seed-6f1f505d/kvstore/store"
)

// barrierWait is for how long Barrier waits where its context sets no bound. At appendfsync everysec it takes up to about a second.
const barrierWait = 10 * time.Second

// Barrier implements [store.Barrier]. It returns when all that was acknowledged before the call is on the disk of the server, and on those of
// [Options].Replicas replicas, whatever appendfsync is. Servers that cannot tell (Redis before 7.2, or a user without the right to WAITAOF) are
// asked only whether they still have what they acknowledged. It is two round trips to each server, or one.
func (s *Store) Barrier(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	return s.redo.Barrier(ctx)
}

// onDisk returns when what servers have written is on disks.
func (s *Store) onDisk(ctx context.Context) error {
	if !s.tells {
		return nil
	}
	at, err := s.masters(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for m, b := range at {
		wg.Go(func() {
			if err := s.synced(ctx, m, b); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 && s.cluster != nil {
		s.cluster.ReloadState(ctx)
	}
	return wrap(errors.Join(errs...))
}

// masters returns the servers that buckets are on, with one of its buckets for each.
func (s *Store) masters(ctx context.Context) (map[pipeliner]*bucket, error) {
	at := map[pipeliner]*bucket{}
	for i := range s.buckets {
		b := &s.buckets[i]
		if s.cluster == nil {
			at[s.client] = b
			continue
		}
		m, err := s.cluster.MasterForKey(ctx, b.confirm)
		if err != nil {
			return nil, wrap(err)
		}
		at[m] = b
	}
	return at, nil
}

// synced waits until what a server has written is on disks. As in confirmed, that goes by what this connection writes.
func (s *Store) synced(ctx context.Context, to pipeliner, b *bucket) error {
	wait := barrierWait
	if end, ok := ctx.Deadline(); ok {
		wait = max(time.Until(end)*3/4, time.Millisecond)
	}
	var mark, count *client.Cmd
	to.Pipelined(ctx, func(p client.Pipeliner) error {
		mark = client.NewCmd(ctx, "set", b.confirm, "")
		count = client.NewCmd(ctx, "waitaof", 1, s.opt.Replicas, wait.Milliseconds())
		p.Process(ctx, once{mark})
		p.Process(ctx, once{count})
		return nil
	})
	if err := errors.Join(mark.Err(), count.Err()); err != nil {
		return err
	}
	n, _ := count.Val().([]any)
	if len(n) != 2 {
		return errAnswer
	}
	if whole(n[0]) < 1 || whole(n[1]) < int64(s.opt.Replicas) {
		return fmt.Errorf("what was acknowledged is on the disks of %d of 1 server and of %d of %d replicas after %v", whole(n[0]), whole(n[1]), s.opt.Replicas, wait)
	}
	return nil
}

var _ store.Barrier = (*Store)(nil)
