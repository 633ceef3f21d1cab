package callrun

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/callsim"
)

// Exit statuses of an example.
const (
	ExitBroken = 1 // a guarantee was broken
	ExitFailed = 2 // the run could not be made, or its report not be written
)

// Exit returns the exit status of a program whose run ended with err, which it prints; flag.ErrHelp is none.
func Exit(ctx context.Context, program string, err error, stderr io.Writer) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case ctx.Err() != nil:
		err = errors.New("interrupted")
	}
	fmt.Fprintf(stderr, "%s: %v\n", program, err)
	return ExitFailed
}

// Report writes a report as a table, or as one JSON object.
func Report(r interface{ Print(io.Writer) error }, asJSON bool, w io.Writer) error {
	if !asJSON {
		return r.Print(w)
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, string(b))
	return err
}

// Look is how often a node is looked at, and aim how long a fault waits at most for its moment.
const (
	Look = 100 * time.Millisecond
	aim  = 5 * time.Second
)

// Until lets a driver go on until done. It is an error if one of the processes ends, or if that takes longer than late. show is called from
// time to time.
func Until[T any](ctx context.Context, d *callsim.Driver, done <-chan T, late time.Duration, show func(), ps ...*Process) error {
	tick := time.NewTicker(Look)
	defer tick.Stop()
	end := time.After(late)
	for {
		select {
		case <-done:
			return nil
		case <-d.Failed():
			return errors.New("the driver gave up")
		case <-ctx.Done():
			return ctx.Err()
		case <-end:
			return fmt.Errorf("%s: too slow: not all calls have been seen to", names(ps))
		case <-tick.C:
			show()
			for _, p := range ps {
				select {
				case <-p.done:
					return p.Ended()
				default:
				}
			}
		}
	}
}

// Unsaved returns when a node has changes in memory that it has not begun to store. What is under way when it is stopped arrives all the
// same, and a node whose store is slow may have nothing else. After a while any moment will do.
func Unsaved(ctx context.Context, w *callsim.Watch, maxDelay time.Duration) callsim.NodeStats {
	start := time.Now()
	for {
		st := w.Ask(ctx)
		if st.Flushing == 0 && st.DB.Buffered > 0 && st.DB.Lag >= maxDelay/3 || time.Since(start) > 2*aim || ctx.Err() != nil {
			return st
		}
	}
}

func names(ps []*Process) string {
	var s []string
	for _, p := range ps {
		s = append(s, p.String())
	}
	return strings.Join(s, ", ")
}

// LastStretch returns for how long before a fault most calls are not synced any more (Driver.SyncByCall). Syncs
// flush much that would have had to wait for its time, and if that time never comes, they hide it. So the
// stretch is longer than any loss that is let pass. (Up to a MaxDelay of 2 s: nobody waits for more.)
func LastStretch(st callsim.NodeStats, maxDelay time.Duration) time.Duration {
	_, limit := callsim.Bound(maxDelay, st.LongestFlushMS)
	return min(time.Duration(1.5*limit*float64(time.Millisecond)), Patience)
}

// Worst returns when a fault would cost the most: the node is writing, and what is not stored is about as old as it
// ever gets. The longer that takes, the less will do.
func Worst(ctx context.Context, w *callsim.Watch) callsim.NodeStats {
	start := time.Now()
	for {
		st := w.Ask(ctx)
		oldest := max(time.Duration(st.LongestLagMS*float64(time.Millisecond)), Look)
		spent := time.Since(start).Seconds() / min(4*oldest, aim).Seconds()
		enough := (1 - spent*spent) * oldest.Seconds()
		if st.Flushing > 0 && st.DB.Lag.Seconds() >= enough || enough <= 0 || ctx.Err() != nil {
			return st
		}
	}
}
