package redis

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	client "github.com/redis/go-redis/v9"

	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
	"github.com/seed-6f1f505d/kvstore/store"
)

// trips counts a client's round trips that are made with a context in which it is: so not those that a store makes by itself.
type trips struct{ n atomic.Int64 }

func (c *trips) in(ctx context.Context) context.Context { return context.WithValue(ctx, c, true) }

func (c *trips) count(ctx context.Context) {
	if ctx.Value(c) != nil {
		c.n.Add(1)
	}
}

func (*trips) DialHook(next client.DialHook) client.DialHook { return next }

func (c *trips) ProcessHook(next client.ProcessHook) client.ProcessHook {
	return func(ctx context.Context, cmd client.Cmder) error {
		c.count(ctx)
		return next(ctx, cmd)
	}
}

func (c *trips) ProcessPipelineHook(next client.ProcessPipelineHook) client.ProcessPipelineHook {
	return func(ctx context.Context, cmds []client.Cmder) error {
		c.count(ctx)
		return next(ctx, cmds)
	}
}

// Calls are one round trip each, on a Cluster one to all servers at once, when servers have had the scripts before.
func TestRoundTrips(t *testing.T) {
	const many = 10_000
	for name, o := range map[string]Options{"one bucket": {}, "many": {Buckets: 64}} {
		t.Run(name, func(t *testing.T) {
			st := open(t, redisserver.Start(t).URL(), &o)
			owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
			cs := make([]store.Change, many)
			for i := range cs {
				cs[i] = store.Change{Session: fmt.Sprint(i), Owner: owner, Epoch: 1, Seq: 1, Create: true}
			}
			var count trips
			ctx := count.in(t.Context())
			calls := []struct {
				name string
				most int64
				do   func() error
			}{
				{"Apply", 1, func() error {
					rs, err := st.Apply(ctx, cs)
					for _, r := range rs {
						if r.Outcome != store.Applied && r.Outcome != store.Already {
							t.Fatal(r)
						}
					}
					return err
				}},
				{"Claim", 1, func() error {
					_, err := st.Claim(ctx, store.ClaimRequest{Session: "1", Owner: owner, All: true})
					return err
				}},
				{"ClaimAll", 1, func() error {
					rs := make([]store.ClaimRequest, 1000)
					for i := range rs {
						rs[i] = store.ClaimRequest{Session: fmt.Sprint(i), Owner: owner, All: true}
					}
					cs, err := st.ClaimAll(ctx, rs)
					for _, c := range cs {
						if c.Outcome != store.Granted {
							t.Fatal(c)
						}
					}
					return err
				}},
				{"Load", 1, func() error {
					_, err := st.Load(ctx, "1")
					return err
				}},
				{"KeepAlive", 1, func() error {
					_, err := st.KeepAlive(ctx, store.Node{Incarnation: owner.Incarnation}, time.Hour)
					return err
				}},
				{"Nodes", 1, func() error {
					_, err := st.Nodes(ctx)
					return err
				}},
				{"Sessions", 11, func() error {
					n := 0
					for _, err := range st.Sessions(ctx, store.Query{}) {
						if n++; err != nil {
							return err
						}
					}
					if n != many {
						t.Errorf("%d sessions, want %d", n, many)
					}
					return nil
				}},
			}
			for round := range 2 {
				for _, c := range calls {
					count.n.Store(0)
					if err := c.do(); err != nil {
						t.Fatalf("%s: %v", c.name, err)
					}
					if n := count.n.Load(); round == 1 && n > c.most || round == 1 && n == 0 {
						t.Errorf("%s is %d round trips, want %d", c.name, n, c.most)
					}
				}
				st.client.AddHook(&count)
			}
		})
	}
}

// deaf is a connection that ends instead of bringing an answer, when it is told to.
type deaf struct {
	net.Conn
	now *atomic.Bool
}

func (d deaf) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	if err == nil && d.now.Swap(false) {
		d.Close()
		return 0, io.EOF
	}
	return n, err
}

// A call whose answer is lost is not repeated behind the caller's back. For the repetition would be told that the lease had been running, by what the first
// attempt did to one that was over.
func TestNotRepeated(t *testing.T) {
	srv := redisserver.Start(t)
	var lose atomic.Bool
	c := client.NewClient(&client.Options{Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprint("127.0.0.1:", srv.Port))
		return deaf{conn, &lose}, err
	}})
	defer c.Close()
	st, err := New(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	n := store.Node{Incarnation: store.NewIncarnation()}
	if _, err := st.KeepAlive(t.Context(), n, 0); err != nil { // so that the server has the script
		t.Fatal(err)
	}
	lose.Store(true)
	if ran, err := st.KeepAlive(t.Context(), n, time.Hour); err == nil {
		t.Errorf("a KeepAlive whose answer was lost gives %t and no error", ran)
	}
	if ran, err := st.KeepAlive(t.Context(), n, time.Hour); err != nil || !ran {
		t.Errorf("the KeepAlive after it gives %t, %v", ran, err)
	}
}
