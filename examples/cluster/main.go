// Cluster has three telephone servers live on one database, kills one, stops another and lets it go on, and counts what that cost.
//
//	cd examples/cluster && go run . -store postgres://localhost/calls
//
// starts three HTTP servers, a, b and c, each a process of its own, on one store, and a driver that plays the network. Calls begin at all
// three. Some events are sent to a wrong node on purpose, which answers with the owner's address. Then a is killed
// with SIGKILL, in mid-write. Later b is stopped with SIGSTOP, while it has changes in memory, for longer than its lease, and others adopt its calls; b is let
// go on, finds that time has passed, and tries to store what it has in memory: the store must refuse it. Where the
// store is a cluster that the demo runs itself, one of its servers is killed, too, and started again.
//
// The driver knows what each call must look like after each event, and which tenure wrote it. It compares: when a call was
// adopted; in the store, after b's late writes; when all events were sent; and once more after the nodes have
// shut down cleanly. The last word is a table, and the exit status is 1 if a guarantee was broken, 2 if
// the run could not be made, or its report not be written.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/callrun"
	"github.com/seed-6f1f505d/kvstore/internal/callsim"
)

// config is what the flags say.
type config struct {
	store    string
	calls    int
	seconds  float64
	seed     uint64
	sync     float64
	stray    float64
	workers  int
	lease    time.Duration
	maxDelay time.Duration
	leaky    bool
	json     bool

	node, listen string // one node, to be played with by hand
}

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case nodeRole:
			os.Exit(nodeMain(os.Args[2:]))
		case serverRole:
			os.Exit(serverMain(os.Args[2:]))
		}
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr *os.File) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := parse(args, stderr)
	switch {
	case err != nil:
	case c.node != "":
		err = serve(ctx, c, stdout)
		if ctx.Err() != nil && err == nil {
			return 0
		}
	default:
		var r *report
		if r, err = measure(ctx, c, callsim.NewLine(stderr)); err == nil {
			if err = callrun.Report(r, c.json, stdout); err == nil && !r.OK {
				return callrun.ExitBroken
			}
			if err == nil && r.ZombieAttempted == 0 {
				err = errors.New("node b had nothing to store when it was let go on: this run does not show that the store refuses it")
			}
		}
	}
	return callrun.Exit(ctx, "cluster", err, stderr)
}

// parse reads the flags, and says which one cannot be right.
func parse(args []string, stderr io.Writer) (config, error) {
	var c config
	f := flag.NewFlagSet("cluster", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&c.store, "store", defaultStore, "where the nodes keep their calls: "+storeForms())
	f.IntVar(&c.calls, "calls", 2000, "number of calls")
	f.Float64Var(&c.seconds, "seconds", 2, "how long all nodes are well at first, at least")
	f.Uint64Var(&c.seed, "seed", 1, "decides what happens to each call")
	f.Float64Var(&c.sync, "sync", 2, "percentage of the events that wait until they are stored; in the last stretch before a fault, of the calls")
	f.Float64Var(&c.stray, "stray", 5, "percentage of the events that are sent to a wrong node")
	f.IntVar(&c.workers, "workers", 48, "connections that send events at the same time")
	f.DurationVar(&c.lease, "lease", time.Second, "how long a node counts as alive after its last sign of life (kvstore.Options.Lease)")
	f.DurationVar(&c.maxDelay, "maxdelay", 100*time.Millisecond, "how long a change may wait in memory (kvstore.Options.MaxDelay)")
	f.BoolVar(&c.leaky, "leaky", false, "break the fence on purpose: late writes pass, and the judge must notice")
	f.BoolVar(&c.json, "json", false, "print one JSON object instead of the table")
	f.StringVar(&c.node, "node", "", "be one node of this name, at -listen, to be played with by hand")
	f.StringVar(&c.listen, "listen", "", "with -node: the address at which it serves, and other nodes' clients reach it")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	bad := func(name string, value any, want string) (config, error) {
		return c, fmt.Errorf("-%s is %v: it must be %s", name, value, want)
	}
	_, known := engineOf(c.store)
	known = known || c.store == embedded
	host, port, noAddr := net.SplitHostPort(c.listen)
	switch {
	case f.NArg() > 0:
		return c, fmt.Errorf("unexpected argument %q: there are only flags", f.Arg(0))
	case !known:
		scheme, _, _ := strings.Cut(c.store, ":") // the rest may hold a password
		return bad("store", fmt.Sprintf("%.20q…", scheme), storeForms())
	case c.calls < 30 || c.calls > 1_000_000:
		return bad("calls", c.calls, "from 30 to 1000000")
	case !(c.seconds > 0 && c.seconds <= 3600):
		return bad("seconds", c.seconds, "above 0, and at most 3600")
	case !(c.sync >= 0 && c.sync <= 100):
		return bad("sync", c.sync, "from 0 to 100")
	case !(c.stray >= 0 && c.stray <= 100):
		return bad("stray", c.stray, "from 0 to 100")
	case c.workers < 1 || c.workers > 1000:
		return bad("workers", c.workers, "from 1 to 1000")
	case c.lease < 100*time.Millisecond || c.lease > time.Minute:
		return bad("lease", c.lease, "from 100ms to 1m")
	case c.maxDelay < time.Millisecond || c.maxDelay > time.Minute:
		return bad("maxdelay", c.maxDelay, "from 1ms to 1m")
	case c.node == "" && c.listen != "":
		return c, errors.New("-listen goes with -node: the demo's own nodes take free ports")
	case c.node != "" && (noAddr != nil || host == "" || port == "" || net.ParseIP(host).IsUnspecified()):
		return bad("listen", fmt.Sprintf("%q", c.listen), "the host and port at which others reach this node, as 10.0.0.1:7001")
	case c.node != "" && c.store == embedded:
		return c, errors.New("-node needs a -store that other nodes reach, too")
	case c.node != "" && (c.json || c.leaky):
		return c, errors.New("-node excludes -json and -leaky: it measures nothing")
	}
	return c, nil
}
