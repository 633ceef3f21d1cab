package callrun

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/internal/callsim"
	"github.com/seed-6f1f505d/kvstore/store"
)

// What a process tells its parent on its standard output, a line each.
const (
	sayAddr    = "addr "
	sayServing = "serving"
)

// SayAddr tells the parent where this process listens: Start returns.
func SayAddr(addr string) { fmt.Println(sayAddr + addr) }

// SayServing tells the parent that this process serves: Served returns.
func SayServing() { fmt.Println(sayServing) }

// Child returns a context for a process that was started by Start. It is over when the standard input ends, so that the process
// never outlives its parent, or by SIGTERM; both are clean exits. An interrupt from the terminal reaches the whole
// group of processes: the parent decides what it means.
func Child() (ctx context.Context, cancel func()) {
	signal.Ignore(os.Interrupt)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	ctx, end := context.WithCancel(ctx)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		end()
	}()
	return ctx, func() { end(); stop() }
}

// Opener opens a node's store, and sets what options depend on it. No store and no error: ctx was over first. It may tell
// why the node waits meanwhile.
type Opener func(ctx context.Context, n *callsim.Node, o *kvstore.Options) (store.Store, error)

// NodeMain is the main function of a process that is a node: it returns the exit status. flags declares what the example adds to -name and -addr,
// and returns what opens the store.
func NodeMain(program string, args []string, flags func(f *flag.FlagSet) Opener) int {
	f := flag.NewFlagSet("node", flag.ExitOnError)
	name := f.String("name", "", "")
	addr := f.String("addr", "", "")
	open := flags(f)
	f.Parse(args)

	ctx, cancel := Child()
	defer cancel()
	if err := Serve(ctx, *name, *addr, open, SayAddr, SayServing); err != nil {
		fmt.Fprintf(os.Stderr, "%s: node %s: %v\n", program, *name, err)
		return ExitFailed
	}
	return 0
}

// Serve is a node's whole life, until ctx is over. It tells, unless listens and serves are nil, where it listens, and then that it serves.
func Serve(ctx context.Context, name, addr string, open Opener, listens func(addr string), serves func()) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	addr = ln.Addr().String()
	if listens != nil {
		listens(addr)
	}

	node := callsim.NewNode(name)
	srv := &http.Server{Handler: node, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()

	var o kvstore.Options
	st, err := open(ctx, node, &o)
	if err == nil && st != nil {
		err = node.Open(ctx, st, addr, o)
	}
	if err == nil && st != nil {
		if serves != nil {
			serves()
		}
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
