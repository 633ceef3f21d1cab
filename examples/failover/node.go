package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/internal/callrun"
	"github.com/seed-6f1f505d/kvstore/internal/callsim"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
)

// nodeRole is the first argument of a process that is a node. The program starts itself
// with it.
const nodeRole = "node"

// between is how long a node waits between two attempts to get the file.
const between = 5 * time.Millisecond

// start starts a node, and returns when it listens.
func start(ctx context.Context, name, path, addr string, maxDelay time.Duration) (*callrun.Process, error) {
	return callrun.Start(ctx, callrun.Command{Role: nodeRole, Name: name,
		Args: []string{"-path", path, "-addr", addr, "-maxdelay", maxDelay.String()}})
}

// nodeMain is a node's whole life.
func nodeMain(args []string) int {
	return callrun.NodeMain("failover", args, func(f *flag.FlagSet) callrun.Opener {
		path := f.String("path", "", "")
		maxDelay := f.Duration("maxdelay", 0, "")
		return func(ctx context.Context, n *callsim.Node, o *kvstore.Options) (store.Store, error) {
			o.MaxDelay, n.Inside = *maxDelay, true
			o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
			st, err := openFile(ctx, n, *path)
			if st == nil {
				return nil, err
			}
			return st, nil
		}
	})
}

// openFile waits for the file. bbolt lets one process have it, and the system takes the lock from
// a process that dies. It returns no store if ctx is over first.
func openFile(ctx context.Context, node *callsim.Node, path string) (*bolt.Store, error) {
	for {
		st, err := bolt.Open(path, &bolt.Options{LockTimeout: time.Millisecond})
		if err == nil {
			return st, nil
		}
		if !errors.Is(err, bolt.ErrLocked) {
			return nil, err
		}
		node.Waiting("another process has the file")
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(between):
		}
	}
}
