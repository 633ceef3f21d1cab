package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/internal/callsim"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
)

// nodeRole is the first argument of a process that is a node. The program starts itself
// with it.
const nodeRole = "node"

// What a node tells its parent on its standard output, a line each.
const (
	sayAddr    = "addr "
	sayServing = "serving"
)

// between is how long a node waits between two attempts to get the file.
const between = 5 * time.Millisecond

// nodeMain is a node's whole life. It ends when its standard input does, so that
// it never outlives its parent, or by SIGTERM; both are clean exits.
func nodeMain(args []string) int {
	f := flag.NewFlagSet(nodeRole, flag.ExitOnError)
	name := f.String("name", "", "")
	path := f.String("path", "", "")
	addr := f.String("addr", "", "")
	maxDelay := f.Duration("maxdelay", 0, "")
	f.Parse(args)

	// An interrupt from the terminal reaches the whole group: the parent decides what it means.
	signal.Ignore(os.Interrupt)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if err := beNode(ctx, *name, *path, *addr, *maxDelay); err != nil {
		fmt.Fprintf(os.Stderr, "failover: node %s: %v\n", *name, err)
		return exitFailed
	}
	return 0
}

func beNode(ctx context.Context, name, path, addr string, maxDelay time.Duration) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	addr = ln.Addr().String()
	fmt.Println(sayAddr + addr)

	node := callsim.NewNode(name)
	srv := &http.Server{Handler: node, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()

	st, err := openFile(ctx, node, path)
	if err == nil && st != nil {
		log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
		err = node.Open(ctx, st, addr, kvstore.Options{MaxDelay: maxDelay, Logger: log})
	}
	if err == nil && st != nil {
		fmt.Println(sayServing)
		select {
		case <-ctx.Done():
		case err = <-served:
		}
	}

	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = errors.Join(err, srv.Shutdown(end), node.Close(end))
	if st != nil {
		err = errors.Join(err, st.Close())
	}
	return err
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
