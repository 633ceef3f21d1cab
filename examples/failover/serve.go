package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/callrun"
)

// again is how long after a node's end it is started anew, so that the other one has the
// file by then.
const again = time.Second

// serve keeps two nodes up until ctx is over. One that is killed comes back, and waits for
// the other to die.
func serve(ctx context.Context, c config, path string, w io.Writer) error {
	a, err := start(ctx, "a", path, c.a, c.maxDelay)
	if err != nil {
		return err
	}
	defer func() { a.Stop() }()
	if err := a.Served(ctx); err != nil {
		return err
	}
	b, err := start(ctx, "b", path, c.b, c.maxDelay)
	if err != nil {
		return err
	}
	defer func() { b.Stop() }()

	fmt.Fprintf(w, `node a serves at %[1]s (pid %[2]d)
node b waits  at %[3]s (pid %[4]d)

feed a call:    curl -d '{"kind":"invite"}' %[1]s/calls/c1/events
wait for disk:  curl -d '{"kind":"answer"}' '%[1]s/calls/c1/events?sync=1'
look at it:     curl %[1]s/calls/c1
kill node a:    kill -9 %[2]d
look again:     curl %[3]s/calls/c1

Kinds: invite ringing answer media hold resume refresh tone bye. Ctrl-C ends both.
`, a.Addr, a.Pid(), b.Addr, b.Pid())

	for {
		var gone **callrun.Process
		select {
		case <-ctx.Done():
			return nil
		case <-a.Done():
			gone = &a
		case <-b.Done():
			gone = &b
		}
		p := *gone
		fmt.Fprintf(w, "node %s is gone: %v\n", p.Name, p.State())
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(again):
		}
		n, err := start(ctx, p.Name, path, p.Addr, c.maxDelay)
		if ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
		*gone = n
		fmt.Fprintf(w, "node %s is back at %s (pid %d), and waits\n", n.Name, n.Addr, n.Pid())
	}
}
