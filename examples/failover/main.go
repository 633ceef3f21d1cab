// Failover kills a telephone server in mid-write and counts what that cost.
//
//	go run ./examples/failover
//
// starts two HTTP servers, a and b, each a process of its own, on one bbolt file, and a driver that
// plays the network. Events go to a as fast as it takes them. Then a is killed with
// SIGKILL, and its events go to b, which adopts call by call. The driver knows what each
// call must look like after each event, and compares: when a call was adopted, when all events were
// sent, and once more after b has shut down cleanly. What was answered after it was
// stored must be there; nothing may be half there. The last word is a table, and the exit status is 1 if a
// guarantee was broken, 2 if the run could not be made, or its report not be written.
//
// A bbolt file belongs to one process, so b waits for it, answering 503, until
// the system has taken a's lock away. With another store both nodes would serve at once, and
// answer events of each other's calls with the owner's address.
//
//	go run ./examples/failover -serve
//
// keeps the two nodes up to be played with by hand; README.md shows how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/callrun"
	"github.com/seed-6f1f505d/kvstore/internal/callsim"
)

// config is what the flags say.
type config struct {
	calls    int
	seconds  float64
	seed     uint64
	sync     float64
	workers  int
	maxDelay time.Duration
	json     bool
	serve    bool
	a, b     string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == nodeRole {
		os.Exit(nodeMain(os.Args[2:]))
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr *os.File) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := parse(args, stderr)
	if err != nil {
		return callrun.Exit(ctx, "failover", err, stderr)
	}
	dir, err := os.MkdirTemp("", "failover-")
	if err != nil {
		return callrun.Exit(ctx, "failover", err, stderr)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "calls.db")

	if c.serve {
		err = serve(ctx, c, path, stdout)
	} else {
		var r *callsim.Report
		if r, err = measure(ctx, c, path, callsim.NewLine(stderr)); err == nil {
			if err = callrun.Report(r, c.json, stdout); err == nil && !r.OK {
				return callrun.ExitBroken
			}
		}
	}
	return callrun.Exit(ctx, "failover", err, stderr)
}

// parse reads the flags, and says which one cannot be right.
func parse(args []string, stderr io.Writer) (config, error) {
	var c config
	f := flag.NewFlagSet("failover", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&c.calls, "calls", 10_000, "number of calls")
	f.Float64Var(&c.seconds, "seconds", 5, "how long events go to node a before it is killed, at least")
	f.Uint64Var(&c.seed, "seed", 1, "decides what happens to each call")
	f.Float64Var(&c.sync, "sync", 2, "percentage of the events that wait until they are stored; in the last stretch before the kill, of the calls")
	f.IntVar(&c.workers, "workers", 64, "connections that send events at the same time")
	f.DurationVar(&c.maxDelay, "maxdelay", 100*time.Millisecond, "how long a change may wait in memory (kvstore.Options.MaxDelay)")
	f.BoolVar(&c.json, "json", false, "print one JSON object instead of the table")
	f.BoolVar(&c.serve, "serve", false, "keep two nodes up to be played with by hand")
	f.StringVar(&c.a, "a", "", "address of node a (default: a free port; with -serve 127.0.0.1:7001)")
	f.StringVar(&c.b, "b", "", "address of node b (default: a free port; with -serve 127.0.0.1:7002)")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	for _, addr := range []struct {
		to   *string
		port string
	}{{&c.a, "7001"}, {&c.b, "7002"}} {
		if *addr.to == "" && c.serve {
			*addr.to = "127.0.0.1:" + addr.port
		} else if *addr.to == "" {
			*addr.to = "127.0.0.1:0"
		}
	}
	bad := func(name string, value any, want string) (config, error) {
		return c, fmt.Errorf("-%s is %v: it must be %s", name, value, want)
	}
	switch {
	case f.NArg() > 0:
		return c, fmt.Errorf("unexpected argument %q: there are only flags", f.Arg(0))
	case c.calls < 1 || c.calls > 1_000_000:
		return bad("calls", c.calls, "from 1 to 1000000")
	case !(c.seconds > 0 && c.seconds <= 3600):
		return bad("seconds", c.seconds, "above 0, and at most 3600")
	case !(c.sync >= 0 && c.sync <= 100):
		return bad("sync", c.sync, "from 0 to 100")
	case c.workers < 1 || c.workers > 1000:
		return bad("workers", c.workers, "from 1 to 1000")
	case c.maxDelay < time.Millisecond || c.maxDelay > time.Hour:
		return bad("maxdelay", c.maxDelay, "from 1ms to 1h")
	case c.serve && c.json:
		return c, errors.New("-serve and -json exclude each other: -serve measures nothing")
	}
	return c, nil
}
