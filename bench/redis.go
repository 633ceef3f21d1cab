//go:build peers && unix

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	client "github.com/redis/go-redis/v9"

	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/redis"
)

// This file is what programs do today that keep their sessions in Redis, each on a server of its own, which ours stores in, too: with an append-only file that it
// syncs every second. The clients are as they come.

func init() {
	updatePeers = append(updatePeers,
		updatePeer{"go-redis", "Redis", "go-redis, a SET of as many bytes for each", func(r *runner, dir string, ids []string) (*updateEngine, error) {
			return openRedisEngine(dir, func(c *client.Client) (func(id string, v []byte) error, error) { return setEach(c, ids) })
		}},
		updatePeer{"scs", "Redis", "scs, a Load, Put and Commit for each, in Redis by its goredisstore", func(r *runner, dir string, ids []string) (*updateEngine, error) {
			return openRedisEngine(dir, func(c *client.Client) (func(id string, v []byte) error, error) { return commitEach(c, ids) })
		}})
}

// openRedisEngine starts a server, and has peer store its sessions there.
func openRedisEngine(dir string, peer func(c *client.Client) (update func(id string, v []byte) error, err error)) (*updateEngine, error) {
	srv, err := redisserver.Open(dir)
	if errors.Is(err, redisserver.ErrMissing) {
		return nil, fmt.Errorf("%w: %w", errMissing, err)
	}
	if err != nil {
		return nil, err
	}
	c := client.NewClient(&client.Options{Addr: fmt.Sprint("127.0.0.1:", srv.Port)})
	end := func() error {
		err := c.Close()
		srv.Kill()
		return err
	}
	update, err := peer(c)
	if err != nil {
		return nil, errors.Join(err, end())
	}
	return &updateEngine{
		store: func(name string) (store.Store, error) {
			return redis.Open(context.Background(), srv.URL(), &redis.Options{Prefix: name})
		},
		bare:  update,
		close: end,
	}, nil
}

// setEach writes each update through.
func setEach(c *client.Client, ids []string) (func(id string, v []byte) error, error) {
	update := func(id string, v []byte) error { return c.Set(context.Background(), id, v, 0).Err() }
	_, err := concurrently(updaters, len(ids), func(i int) error { return update(ids[i], valueOf(i)) })
	return update, err
}

// commitEach does what the middleware of scs does in a request that changes its session.
func commitEach(c *client.Client, ids []string) (func(id string, v []byte) error, error) {
	const key = "value"
	ctx, st, m := context.Background(), goredisstore.New(c), scs.New()
	m.Store = st
	end := time.Now().Add(m.Lifetime)
	_, err := concurrently(updaters, len(ids), func(i int) error {
		b, err := m.Codec.Encode(end, map[string]any{key: valueOf(i)})
		if err != nil {
			return err
		}
		return st.CommitCtx(ctx, ids[i], b, end)
	})
	return func(id string, v []byte) error {
		ctx, err := m.Load(ctx, id)
		if err != nil {
			return err
		}
		if !m.Exists(ctx, key) {
			return fmt.Errorf("%s is not there", id)
		}
		m.Put(ctx, key, v)
		_, _, err = m.Commit(ctx)
		return err
	}, err
}
