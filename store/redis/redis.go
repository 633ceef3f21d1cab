package redis

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	client "github.com/redis/go-redis/v9"

	"github.com/seed-6f1f505d/kvstore/internal/redo"
	"github.com/seed-6f1f505d/kvstore/store"
)

// Store implements [store.Store]. Use [Open] or [New].
type Store struct {
	client  client.UniversalClient
	cluster *client.ClusterClient // the same, if it is one
	owns    bool                  // the client is closed with the store
	redo    *redo.Log
	opt     Options
	buckets []bucket
	tells   bool // servers tell what is on their disks

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup // under mu while it is 0
	swept  time.Time      // when nodes were last looked at
}

// Open connects to the server at url, or to the Cluster that it is of, and returns a store on it. ctx bounds Open.
// Close closes the connections.
//
//	redis://user:password@host:6379/0                      rediss:// for TLS, unix:// for a socket
//	redis://user:password@host:6379?addr=host2:6379        a Cluster, of which any node will do
//
// The parameters of [client.ParseURL] may follow, as ?read_timeout=2s. TLS goes by the system's authorities: for one of your own
// give a client to [New].
func Open(ctx context.Context, url string, o *Options) (*Store, error) {
	c, err := dial(ctx, url)
	if err != nil {
		return nil, err
	}
	s, err := New(ctx, c, o)
	if err != nil {
		c.Close()
		return nil, err
	}
	s.owns = true
	return s, nil
}

// dial returns a client of the kind that the server is.
func dial(ctx context.Context, at string) (client.UniversalClient, error) {
	if many, err := url.Parse(at); err != nil || !many.Query().Has("addr") {
		o, err := client.ParseURL(at)
		if err != nil {
			return nil, notURL(err)
		}
		o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
		o.Protocol = 2 // of the third the scripts use nothing
		single := client.NewClient(o)
		info, err := single.InfoMap(ctx, "cluster").Result()
		if err != nil && strings.Contains(err.Error(), "cluster mode") { // SELECT
			single.Close()
			return nil, errors.New("store/redis: open: the server is of a Cluster, which has no databases to choose")
		}
		if err != nil && !denied(err) {
			single.Close()
			return nil, fmt.Errorf("store/redis: open: %w", err)
		}
		if info["Cluster"]["cluster_enabled"] != "1" {
			return single, nil
		}
		single.Close()
		if o.Network == "unix" {
			return nil, errors.New("store/redis: open: the server is of a Cluster, which is reached by TCP")
		}
	}
	o, err := client.ParseClusterURL(at)
	if err != nil {
		return nil, notURL(err)
	}
	o.DialerRetries, o.ContextTimeoutEnabled, o.Protocol = 1, true, 2
	if o.ClusterStateReloadInterval == 0 {
		o.ClusterStateReloadInterval = time.Second
	}
	return client.NewClusterClient(o), nil
}

// notURL keeps the URL, which may have a password in it, out of the error.
func notURL(err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("store/redis: the URL is not understood: %w", err)
}

// denied reports whether the server refuses this user a command.
func denied(err error) bool { return strings.HasPrefix(err.Error(), "NOPERM") }

// New returns a store on a client, which stays its caller's: close it after the store. It is a [client.Client], also one that sentinels
// lead to a server, or a [client.ClusterClient]. Set ContextTimeoutEnabled in its options, or calls outlast their contexts; and
// DialerRetries to 1, or a server that is down is noticed late. What a call is told by its context while it waits for a server is its deadline only; without one it
// ends with the client's ReadTimeout. ctx bounds New.
func New(ctx context.Context, c client.UniversalClient, o *Options) (*Store, error) {
	opt, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{client: c, opt: opt}
	switch c := c.(type) {
	case *client.Client:
		if c == nil {
			return nil, errors.New("store/redis: the client is nil")
		}
	case *client.ClusterClient:
		if c == nil {
			return nil, errors.New("store/redis: the client is nil")
		}
		s.cluster = c
	case nil:
		return nil, errors.New("store/redis: the client is nil")
	default:
		return nil, fmt.Errorf("store/redis: a %T cannot be used: give a *redis.Client or a *redis.ClusterClient", c)
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	s.redo = redo.New(&servers{s: s}, stays)
	if err := s.redo.Begin(ctx); err != nil {
		return nil, fmt.Errorf("store/redis: open: %w", err)
	}
	return s, nil
}

// Close implements [store.Store]. It waits for calls that run.
func (s *Store) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	s.calls.Wait()
	s.redo.Close()
	if first && s.owns {
		return wrap(s.client.Close())
	}
	return nil
}

// enter lets a call begin, which ends with leave.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	s.calls.Add(1)
	return nil
}

func (s *Store) leave() { s.calls.Done() }

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store/redis: %w", err)
}

var _ store.Store = (*Store)(nil)
