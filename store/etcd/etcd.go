package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Store implements [store.Store]. Use [Open] or [New].
type Store struct {
	client *clientv3.Client
	owns   bool // the client is closed with the store
	opt    Options
	keys   keyspace
	modes  modes
	walked walked

	requestBytes, partBytes int // the constants of these names; less in tests

	life context.Context // until Close
	end  context.CancelFunc

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup // under mu while it is 0
	chores chores         // under mu
}

// Open connects to the cluster at url, "etcd://[user:password@]host:port[,host:port…]", or "etcds://…" with TLS, and returns
// a store on it. ctx bounds Open. Close closes the connections.
func Open(ctx context.Context, url string, o *Options) (*Store, error) {
	opt, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	cfg, err := parse(url)
	if err != nil {
		return nil, err
	}
	if opt.TLS != nil && cfg.TLS != nil {
		cfg.TLS = opt.TLS.Clone()
	}
	if err := reach(ctx, &cfg); err != nil {
		return nil, err
	}
	// The last means against connections that hang; the first is silent. The client pings no more often than each ten seconds, and
	// servers take pings for an attack where there is no call.
	cfg.DialKeepAliveTime, cfg.DialKeepAliveTimeout = 10*time.Second, 2*time.Second
	cfg.DialTimeout = 10 * time.Second // of logging in
	cfg.Logger = zap.NewNop()          // a library does not print
	cfg.DialOptions = new(silent).options()
	if t, ok := ctx.Deadline(); ok {
		cfg.DialTimeout = min(cfg.DialTimeout, max(time.Until(t), time.Millisecond))
	}
	client, err := clientv3.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("store/etcd: open: %w", advise(err))
	}
	s, err := New(ctx, client, o)
	if err != nil {
		client.Close()
		return nil, err
	}
	s.owns = true
	return s, nil
}

// parse reads the URL. Its errors do not tell the password.
func parse(raw string) (cfg clientv3.Config, err error) {
	const form = `want "etcd://[user:password@]host:port[,host:port…]", or "etcds://…" with TLS`
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || scheme != "etcd" && scheme != "etcds" {
		return cfg, errors.New("store/etcd: the URL is not understood: " + form)
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		u, err := url.Parse("etcd://" + rest[:at+1] + "host")
		if err != nil {
			return cfg, errors.New("store/etcd: the URL's user and password are not understood: special characters are written as %XX")
		}
		cfg.Username = u.User.Username()
		cfg.Password, _ = u.User.Password()
		rest = rest[at+1:]
	}
	to := "http://"
	if scheme == "etcds" {
		to, cfg.TLS = "https://", secure()
	}
	for host := range strings.SplitSeq(strings.TrimSuffix(rest, "/"), ",") {
		u, err := url.Parse("etcd://" + host)
		if err != nil || u.Hostname() == "" || u.Port() == "" || u.Host != host {
			return cfg, fmt.Errorf("store/etcd: the URL's host %q is not understood: %s", host, form)
		}
		cfg.Endpoints = append(cfg.Endpoints, to+host)
	}
	return cfg, nil
}

// reach makes sure that there is a server at one of the endpoints at least. The client would go on trying, and not tell why in vain.
func reach(ctx context.Context, cfg *clientv3.Config) error {
	var last error
	for _, ep := range cfg.Endpoints {
		one, cancel := context.WithTimeout(ctx, askFor)
		_, host, _ := strings.Cut(ep, "://")
		var c net.Conn
		var err error
		if cfg.TLS != nil {
			c, err = (&tls.Dialer{Config: cfg.TLS}).DialContext(one, "tcp", host)
		} else {
			c, err = new(net.Dialer).DialContext(one, "tcp", host)
		}
		cancel()
		if err == nil {
			return c.Close()
		}
		last = fmt.Errorf("%s: %w", host, err)
	}
	if cfg.TLS != nil {
		return fmt.Errorf("store/etcd: open: no server answers with TLS, as the URL asks for: %w", last)
	}
	return fmt.Errorf("store/etcd: open: no server answers: %w", last)
}

// New returns a store on a client, which stays its caller's: close it after the store. ctx bounds New.
//
// What the client retries by itself does no harm: each write carries its fence with it. But it should notice connections that hang: set its
// DialKeepAliveTime and DialKeepAliveTimeout.
func New(ctx context.Context, client *clientv3.Client, o *Options) (*Store, error) {
	opt, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if client == nil {
		return nil, errors.New("store/etcd: the client is nil")
	}
	s := &Store{client: client, opt: opt, keys: keyspace(opt.Prefix), requestBytes: requestBytes, partBytes: partBytes}
	s.life, s.end = context.WithCancel(context.Background())
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Close implements [store.Store]. It waits for calls that run.
func (s *Store) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.calls.Wait()
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

// commit makes a transaction. Its reads are linearizable.
func (s *Store) commit(ctx context.Context, ifs []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	r, err := s.client.Txn(ctx).If(ifs...).Then(then...).Else(otherwise...).Commit()
	return r, called(ctx, err)
}

// called is the error of a call of the client, which is its context's if that is over.
func called(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w (%v)", ctx.Err(), err)
	}
	return wrap(err)
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store/etcd: %w", advise(err))
}

// advise adds to an error of the server what can be done.
func advise(err error) error {
	for _, a := range []struct {
		is error
		do string
	}{
		{rpctypes.ErrNoSpace, "the server's quota is used up: compact and defragment it, disarm its alarm, and raise --quota-backend-bytes or shorten Options.Compact"},
		{rpctypes.ErrPermissionDenied, "the user needs a role with the right to read and write all keys that begin with Options.Prefix"},
		{rpctypes.ErrUserEmpty, "the server wants a user and a password: put them into the URL"},
		{rpctypes.ErrAuthFailed, "the user or the password is wrong"},
		{rpctypes.ErrTooManyOps, "the server's --max-txn-ops must be 128, its default, at least"},
		{rpctypes.ErrRequestTooLarge, "the server's --max-request-bytes must be 1.5 MiB, its default, at least"},
	} {
		if errors.Is(rpctypes.Error(err), a.is) {
			return fmt.Errorf("%w: %s", err, a.do)
		}
	}
	return err
}

var _ store.Store = (*Store)(nil)
