package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-6f1f505d/kvstore/internal/callrun"
)

// serverRole is the first argument of a process that is a server of the embedded store.
const serverRole = "server"

// servers is how many there are: two are the majority that goes on when one is killed.
const servers = 3

// cluster is the embedded store: NATS servers with JetStream, each a process of its own.
type cluster struct {
	dir     string
	clients [servers]int // ports
	routes  [servers]int
	members [servers]*callrun.Process
}

// startCluster starts the servers, and returns when they can be used.
func startCluster(ctx context.Context) (c *cluster, err error) {
	for range 3 { // somebody else may take a port first
		if c, err = tryCluster(ctx); err == nil || ctx.Err() != nil {
			return c, err
		}
	}
	return nil, err
}

func tryCluster(ctx context.Context) (c *cluster, err error) {
	c = &cluster{}
	if c.dir, err = os.MkdirTemp("", "cluster-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.stop()
			c = nil
		}
	}()
	if err := freePorts(c.clients[:], c.routes[:]); err != nil {
		return c, err
	}
	for i := range c.members {
		if err := c.start(ctx, i); err != nil {
			return c, err
		}
	}
	for _, p := range c.members {
		if err := p.Served(ctx); err != nil {
			return c, err
		}
	}
	return c, nil
}

// start starts a server, again after it was killed.
func (c *cluster) start(ctx context.Context, i int) (err error) {
	var routes []string
	for _, port := range c.routes {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	name := serverName(i)
	c.members[i], err = callrun.Start(ctx, callrun.Command{Role: serverRole, Name: name, Leash: true, Args: []string{
		"-dir", filepath.Join(c.dir, name), "-port", strconv.Itoa(c.clients[i]),
		"-cluster", strconv.Itoa(c.routes[i]), "-routes", strings.Join(routes, ","),
	}})
	return err
}

func serverName(i int) string { return fmt.Sprintf("n%d", i+1) }

// url returns where the servers are.
func (c *cluster) url() string {
	var urls []string
	for _, port := range c.clients {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	return strings.Join(urls, ",")
}

// killLeader kills the server that leads most of the streams: its end has to be noticed and another one to be elected,
// before anything can be stored. It returns which one that was.
func (c *cluster) killLeader(ctx context.Context) (int, error) {
	conn, err := nats.Connect(c.url())
	if err != nil {
		return 0, err
	}
	js, err := jetstream.New(conn)
	var leads [servers]int
	if err == nil {
		list := js.ListStreams(ctx)
		for s := range list.Info() {
			for i := range leads {
				if s.Cluster != nil && s.Cluster.Leader == serverName(i) {
					leads[i]++
				}
			}
		}
		err = list.Err()
	}
	conn.Close()
	if err != nil {
		return 0, err
	}
	i := slices.Index(leads[:], slices.Max(leads[:]))
	return i, c.members[i].Kill()
}

// stop ends the servers, and removes what they stored.
func (c *cluster) stop() error {
	var errs []error
	for _, p := range c.members {
		if p != nil {
			errs = append(errs, p.Stop())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}

// freePorts fills in ports of the loopback that nobody has now.
func freePorts(lists ...[]int) error {
	for _, ports := range lists {
		for i := range ports {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer ln.Close() // after all were found: so they differ
			ports[i] = ln.Addr().(*net.TCPAddr).Port
		}
	}
	return nil
}

// serverMain is the whole life of a server of the embedded store.
func serverMain(args []string) int {
	f := flag.NewFlagSet(serverRole, flag.ExitOnError)
	name := f.String("name", "", "")
	dir := f.String("dir", "", "")
	port := f.Int("port", 0, "")
	clusterPort := f.Int("cluster", 0, "")
	routes := f.String("routes", "", "")
	f.Parse(args)
	ctx, cancel := callrun.Child()
	defer cancel()
	err := serveNATS(ctx, &server.Options{
		ServerName: *name, Host: "127.0.0.1", Port: *port, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: *dir,
		Cluster: server.ClusterOpts{Name: "calls", Host: "127.0.0.1", Port: *clusterPort},
		Routes:  server.RoutesFromStr(*routes),
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "cluster: server %s: %v\n", *name, err)
		return callrun.ExitFailed
	}
	return 0
}

func serveNATS(ctx context.Context, o *server.Options) error {
	s, err := server.NewServer(o)
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(callrun.Patience) {
		return fmt.Errorf("it does not take connections at port %d", o.Port)
	}
	callrun.SayAddr(s.Addr().String())
	for !s.JetStreamIsCurrent() && ctx.Err() == nil { // until it has found the others, and they have a leader
		time.Sleep(10 * time.Millisecond)
	}
	callrun.SayServing()
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}
