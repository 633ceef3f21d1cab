package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/internal/callrun"
	"github.com/seed-6f1f505d/kvstore/internal/callsim"
	"github.com/seed-6f1f505d/kvstore/store"
)

// nodeRole is the first argument of a process that is a node. The program starts itself
// with it.
const nodeRole = "node"

// spec is what all nodes of a run have in common.
type spec struct {
	store, space    string
	lease, maxDelay time.Duration
	leaky           bool
}

// start starts a node, and returns when it listens. Its store's URL may hold a password: it goes by the environment, which others cannot read.
func (s spec) start(ctx context.Context, name string) (*callrun.Process, error) {
	args := []string{"-addr", "127.0.0.1:0", "-space", s.space, "-lease", s.lease.String(), "-maxdelay", s.maxDelay.String()}
	if s.leaky {
		args = append(args, "-leaky")
	}
	return callrun.Start(ctx, callrun.Command{Role: nodeRole, Name: name, Args: args, Env: []string{storeEnv + "=" + s.store}, Leash: true})
}

// storeEnv is the variable that tells a node the URL.
const storeEnv = "CLUSTER_STORE"

// nodeMain is a node's whole life.
func nodeMain(args []string) int {
	return callrun.NodeMain("cluster", args, func(f *flag.FlagSet) callrun.Opener {
		s := spec{store: os.Getenv(storeEnv)}
		f.StringVar(&s.space, "space", "", "")
		f.DurationVar(&s.lease, "lease", 0, "")
		f.DurationVar(&s.maxDelay, "maxdelay", 0, "")
		f.BoolVar(&s.leaky, "leaky", false, "")
		return s.open
	})
}

// open opens a node's store. The node is strict: when its lease may be over it does not serve, and it asks for each call whether
// it is still its own before it serves again.
func (s *spec) open(ctx context.Context, n *callsim.Node, o *kvstore.Options) (store.Store, error) {
	n.Shared = true
	o.Lease, o.MaxDelay, o.Strict = s.lease, s.maxDelay, true
	o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	e, ok := engineOf(s.store)
	if !ok {
		return nil, fmt.Errorf("the store is unknown: it must be %s", storeForms())
	}
	st, err := e.open(ctx, s.store, s.space)
	if err == nil && s.leaky {
		st = callsim.Leaky{Store: st}
	}
	return st, err
}

// space is the part of the store that nodes share that were started by hand.
const space = "kvstore_cluster"

// serve is a node that was started by hand.
func serve(ctx context.Context, c config, w io.Writer) error {
	s := spec{store: c.store, space: space, lease: c.lease, maxDelay: c.maxDelay}
	return callrun.Serve(ctx, c.node, c.listen, s.open, nil, func() {
		fmt.Fprintf(w, `node %[2]s serves at %[1]s (pid %[3]d)

feed a call:    curl -L -d '{"kind":"invite"}' %[1]s/calls/c1/events
wait for it:    curl -L -d '{"kind":"answer"}' '%[1]s/calls/c1/events?sync=1'
look at it:     curl -L %[1]s/calls/c1

Kinds: invite ringing answer media hold resume refresh tone bye. Ctrl-C ends the node cleanly.
`, c.listen, c.node, os.Getpid())
	})
}
