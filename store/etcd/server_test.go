package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/proc"
)

// Servers are processes of their own, which can be killed and frozen: this test's program, told so by its environment.
const serverEnv = "KVSTORE_ETCD_SERVER"

func TestMain(m *testing.M) {
	if conf := os.Getenv(serverEnv); conf != "" {
		if err := serve(conf); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	atExit()
	os.Exit(code)
}

var atExit = func() {}

// member is what a server is told.
type member struct {
	Name, Dir    string
	Client, Peer int
	Cluster      string
	Quota        int64
	NoFsync      bool
	Cert         string // path without .crt and .key: clients must use TLS
}

func serve(conf string) error {
	var m member
	if err := json.Unmarshal([]byte(conf), &m); err != nil {
		return err
	}
	scheme := "http"
	c := embed.NewConfig()
	if m.Cert != "" {
		scheme = "https"
		c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile = m.Cert+".crt", m.Cert+".key"
	}
	at := func(scheme string, port int) []url.URL {
		return []url.URL{{Scheme: scheme, Host: fmt.Sprint("127.0.0.1:", port)}}
	}
	c.Name, c.Dir, c.InitialCluster = m.Name, m.Dir, m.Cluster
	c.ListenClientUrls, c.AdvertiseClientUrls = at(scheme, m.Client), at(scheme, m.Client)
	c.ListenPeerUrls, c.AdvertisePeerUrls = at("http", m.Peer), at("http", m.Peer)
	c.TickMs, c.ElectionMs = 20, 300 // leases have a minimum of one and a half elections, in whole seconds
	c.QuotaBackendBytes, c.UnsafeNoFsync = m.Quota, m.NoFsync
	c.LogLevel = "error"
	c.BcryptCost = 4 // the least
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		e, err := embed.StartEtcd(c)
		if err == nil {
			return <-e.Err()
		}
		// Of a server that was killed somebody may have taken the port, for a moment.
		if !strings.Contains(err.Error(), "address already in use") || time.Now().After(end) {
			return err
		}
	}
}

// cluster is servers that are one.
type cluster struct {
	members []member
	procs   []*proc.Process // nil: it is killed
}

// start starts a cluster of so many servers, each of which is as conf says.
func start(t testing.TB, size int, conf member) *cluster {
	t.Helper()
	c := &cluster{procs: make([]*proc.Process, size)}
	var peers []string
	ps := ports(t, 2*size)
	for i := range size {
		m := conf
		m.Name, m.Dir = fmt.Sprint("m", i), filepath.Join(t.TempDir(), "etcd")
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
	conf, err := json.Marshal(c.members[i])
	if err != nil {
		t.Fatal(err)
	}
	exe, err := server()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), serverEnv+"="+string(conf))
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

func (c *cluster) endpoint(i int) string {
	scheme := "http"
	if c.members[i].Cert != "" {
		scheme = "https"
	}
	return fmt.Sprintf("%s://127.0.0.1:%d", scheme, c.members[i].Client)
}

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
