package etcd

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// silent cuts connections on which nothing comes back. The client takes turns among its servers, and it would need 12 s to find
// that one stands still, which every third call would wait for until then. Here the first call does that is given up: if nothing at
// all came on its connection since it began, the connection is closed. The client then makes another one, and uses it as soon as the
// server says something.
type silent struct {
	mu    sync.Mutex
	conns map[string]*conn // by their local addresses
}

type conn struct {
	net.Conn
	s    *silent
	last atomic.Int64 // when something was read, in Unix nanoseconds
}

// options are what the client needs for it.
func (s *silent) options() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithContextDialer(s.dial), grpc.WithChainUnaryInterceptor(s.call)}
}

func (s *silent) dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	w := &conn{Conn: c, s: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		s.conns = map[string]*conn{}
	}
	s.conns[c.LocalAddr().String()] = w
	return w, nil
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.last.Store(time.Now().UnixNano())
	return n, err
}

func (c *conn) Close() error {
	c.s.mu.Lock()
	if at := c.LocalAddr().String(); c.s.conns[at] == c {
		delete(c.s.conns, at)
	}
	c.s.mu.Unlock()
	return c.Conn.Close()
}

// patience is how long a call must have waited for its connection to be called silent.
const patience = 100 * time.Millisecond

func (s *silent) call(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	var by peer.Peer
	began := time.Now()
	err := invoke(ctx, method, req, reply, cc, append(opts, grpc.Peer(&by))...)
	if status.Code(err) != codes.DeadlineExceeded || by.LocalAddr == nil || time.Since(began) < patience {
		return err
	}
	s.mu.Lock()
	c := s.conns[by.LocalAddr.String()]
	s.mu.Unlock()
	if c != nil && c.last.Load() < began.UnixNano() {
		c.Close()
	}
	return err
}
