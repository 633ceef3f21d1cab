package etcd

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/proc"
)

// member is what a server is told.
type member struct {
	Name, Dir    string
	Client, Peer int
	Cluster      string
	Quota        int64
	NoFsync      bool
	Cert         string // path without .crt and .key: clients must use TLS
}

// program is the server itself, as its makers have it.
var program = sync.OnceValues(func() (string, error) { return proc.Tool("server", "server") })

func (m *member) flags() []string {
	client, peer := m.url(), fmt.Sprint("http://127.0.0.1:", m.Peer)
	flags := []string{
		"--name", m.Name, "--data-dir", m.Dir, "--initial-cluster", m.Cluster,
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--heartbeat-interval", "20", "--election-timeout", "300", // leases have a minimum of one and a half elections, in whole seconds
		"--quota-backend-bytes", fmt.Sprint(m.Quota),
		"--log-level", "error", "--bcrypt-cost", "4", // the least
	}
	if m.NoFsync {
		flags = append(flags, "--unsafe-no-fsync")
	}
	if m.Cert != "" {
		flags = append(flags, "--cert-file", m.Cert+".crt", "--key-file", m.Cert+".key")
	}
	return flags
}

func (m *member) url() string {
	if m.Cert != "" {
		return fmt.Sprint("https://127.0.0.1:", m.Client)
	}
	return fmt.Sprint("http://127.0.0.1:", m.Client)
}

// cluster is servers that are one.
type cluster struct {
	members []member
	procs   []*proc.Process // nil: it is killed
}

// start starts a cluster of so many servers, each of which is as conf says. Its Dir is for a single one.
func start(t testing.TB, size int, conf member) *cluster {
	t.Helper()
	c := &cluster{procs: make([]*proc.Process, size)}
	var peers []string
	ps := ports(t, 2*size)
	for i := range size {
		m := conf
		m.Name, m.Dir = fmt.Sprint("m", i), filepath.Join(cmp.Or(conf.Dir, t.TempDir()), "etcd")
		m.Client, m.Peer = ps[2*i], ps[2*i+1]
		peers = append(peers, fmt.Sprintf("%s=http://127.0.0.1:%d", m.Name, m.Peer))
		c.members = append(c.members, m)
	}
	t.Cleanup(func() {
		for _, p := range c.procs {
			if p != nil {
				p.Kill()
			}
		}
		if t.Failed() {
			t.Logf("%s", c.logs())
		}
	})
	for i := range c.members {
		c.members[i].Cluster = strings.Join(peers, ",")
		c.run(t, i)
	}
	for i := range c.members {
		c.ready(t, i)
	}
	return c
}

func (c *cluster) logs() string {
	var b strings.Builder
	for i, p := range c.procs {
		if p != nil {
			fmt.Fprintf(&b, "server %d: %s\n", i, p.Log())
		}
	}
	return b.String()
}

// ports returns ports of the loopback that nobody has, from below those that the system gives to whoever connects: they are still free
// when a server is started again.
func ports(t testing.TB, n int) (ps []int) {
	for try := 0; len(ps) < n; try++ {
		if try > 1000 {
			t.Fatal("there are no free ports")
		}
		p := 20_000 + rand.IntN(12_000)
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", p))
		if err != nil {
			continue
		}
		defer l.Close()
		ps = append(ps, p)
	}
	return ps
}

// run starts a member that is not running.
func (c *cluster) run(t testing.TB, i int) {
	t.Helper()
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, c.members[i].flags()...)
	if c.procs[i], err = proc.Run(cmd); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) kill(i int) {
	c.procs[i].Kill()
	c.procs[i] = nil
}

// ready waits until a member answers.
func (c *cluster) ready(t testing.TB, i int) {
	t.Helper()
	client := c.client(t, c.endpoint(i))
	defer client.Close()
	outage.Until(t, "the server answers", func() bool {
		select {
		case <-c.procs[i].Ended():
			t.Fatalf("the server ended: %s", c.procs[i].Log())
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := client.Get(ctx, "x")
		return err == nil || strings.Contains(err.Error(), "user name is empty")
	})
}

func (c *cluster) endpoint(i int) string { return c.members[i].url() }

// url is what a store is opened with.
func (c *cluster) url() string {
	var hosts []string
	for _, m := range c.members {
		hosts = append(hosts, fmt.Sprint("127.0.0.1:", m.Client))
	}
	return "etcd://" + strings.Join(hosts, ",")
}

// leader returns which member leads.
func (c *cluster) leader(t testing.TB) int {
	t.Helper()
	leads := -1
	client := c.client(t, c.endpoint(0))
	defer client.Close()
	outage.Until(t, "there is a leader", func() bool {
		for i, p := range c.procs {
			if p == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			r, err := client.Status(ctx, c.endpoint(i))
			cancel()
			if err == nil && r.Leader != 0 && r.Leader == r.Header.MemberId {
				leads = i
			}
		}
		return leads >= 0
	})
	return leads
}

func (c *cluster) client(t testing.TB, endpoints ...string) *clientv3.Client {
	t.Helper()
	cfg := clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()}
	if c.members[0].Cert != "" {
		cfg.TLS = trusting(t, c.members[0].Cert)
	}
	client, err := clientv3.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

var prefixes atomic.Int64

// fresh returns options with a prefix of their own.
func fresh() *Options { return &Options{Prefix: fmt.Sprint("test ", prefixes.Add(1), "/")} }

func open(t testing.TB, url string, o *Options) *Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := Open(ctx, url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
