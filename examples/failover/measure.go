package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/callsim"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
)

// How long events go on after all calls were taken over, how often node a is looked at, and how long
// the kill waits at most for its moment.
const (
	afterwards = time.Second
	look       = 100 * time.Millisecond
	aim        = 5 * time.Second
)

// trial is one run.
type trial struct {
	config
	driver *callsim.Driver
	line   *callsim.Line
	began  time.Time
	report callsim.Report
}

// measure makes the run: events to a, the kill, events to b, a clean exit, and the checks.
func measure(ctx context.Context, c config, path string, line *callsim.Line) (*callsim.Report, error) {
	defer line.Clear()
	a, err := start(ctx, "a", path, c.a, c.maxDelay)
	if err != nil {
		return nil, err
	}
	defer a.stop()
	if err := a.served(ctx); err != nil {
		return nil, err
	}
	b, err := start(ctx, "b", path, c.b, c.maxDelay) // after a has the file
	if err != nil {
		return nil, err
	}
	defer b.stop()

	m := callsim.Model{Seed: c.seed, Sync: int(c.sync * 10)}
	client := callsim.NewClient(c.workers + 8)
	defer client.Close()
	t := &trial{config: c, line: line, began: time.Now(), driver: &callsim.Driver{
		Model: m, Ledger: callsim.NewLedger(m, c.calls), Client: client,
		Nodes: []string{a.addr, b.addr}, Workers: c.workers,
	}}
	t.report.Seed, t.report.Calls = c.seed, c.calls
	if err := t.play(ctx, a, b); err != nil {
		return nil, err
	}
	if err := t.exit(ctx, b, path); err != nil {
		return nil, err
	}
	t.report.Judge(t.driver.Ledger.Findings(), c.maxDelay)
	return &t.report, nil
}

// play has the driver send events while a is killed and b takes over.
func (t *trial) play(ctx context.Context, a, b *process) (err error) {
	d, r := t.driver, &t.report
	watch := d.Client.Watch(ctx, a.addr, look)
	defer watch.Stop()
	d.Start(ctx)
	defer func() {
		end := d.Stop
		if err != nil {
			end = d.Abort
		}
		if derr := end(); derr != nil {
			err = derr // what stopped a worker is the reason for whatever came after
		}
	}()

	if err := until(ctx, t, d.Begun(), a, watch); err != nil {
		return err
	}
	kill := t.began.Add(time.Duration(t.seconds * float64(time.Second)))
	if err := until(ctx, t, time.After(time.Until(kill.Add(-t.lastStretch(watch.Ask(ctx))))), a, watch); err != nil {
		return err
	}
	d.SyncByCall(true)
	if err := until(ctx, t, time.After(t.lastStretch(watch.Ask(ctx))), a, watch); err != nil {
		return err
	}
	st := worst(ctx, watch)
	before := d.Progress()
	killed, err := d.Kill(0, a.kill)
	if err != nil {
		return err
	}
	watch.Stop()
	d.SyncByCall(false)
	r.Seconds = callsim.Per(killed.Sub(t.began).Seconds(), 1)
	r.Events, r.Synced = before.Events, before.Synced
	r.EventsPerSec = callsim.Per(float64(r.Events), r.Seconds)
	r.EntryChanges, r.StoreWrites, r.StoreCalls = st.Changed, st.DB.Puts+st.DB.Deletes, st.DB.Flushes
	r.Coalescing = callsim.Per(float64(r.EntryChanges), float64(r.StoreWrites))
	r.MidWrite = st.Flushing > 0
	r.LongestFlushMS, r.LongestLagMS = st.LongestFlushMS, st.LongestLagMS

	if err := b.served(ctx); err != nil {
		return fmt.Errorf("after the kill: %w", err)
	}
	watchB := d.Client.Watch(ctx, b.addr, look)
	defer watchB.Stop()
	if err := until(ctx, t, d.TakenOver(0), b, watchB); err != nil {
		return err
	}
	r.FirstAdoptMS = float64(d.FirstTakeover(0).Microseconds()) / 1000
	if err := until(ctx, t, time.After(afterwards), b, watchB); err != nil {
		return err
	}
	r.EventsAfter = d.Progress().Events - r.Events
	return nil
}

// lastStretch returns for how long before the kill most calls are not synced any more. Syncs
// flush much that would have had to wait for its time, and if that time never comes, they hide it. So the
// stretch is longer than any loss that is let pass. (Up to a MaxDelay of 2 s: nobody waits for more.)
func (t *trial) lastStretch(st callsim.NodeStats) time.Duration {
	_, limit := callsim.Bound(t.maxDelay, st.LongestFlushMS)
	return min(time.Duration(1.5*limit*float64(time.Millisecond)), patience)
}

// worst returns when a kill would cost the most: the node is writing, and what is not stored is about as old as it
// ever gets. The longer that takes, the less will do.
func worst(ctx context.Context, w *callsim.Watch) callsim.NodeStats {
	start := time.Now()
	for {
		st := w.Ask(ctx)
		oldest := max(time.Duration(st.LongestLagMS*float64(time.Millisecond)), look)
		spent := time.Since(start).Seconds() / min(4*oldest, aim).Seconds()
		enough := (1 - spent*spent) * oldest.Seconds()
		if st.Flushing > 0 && st.DB.Lag.Seconds() >= enough || enough <= 0 || ctx.Err() != nil {
			return st
		}
	}
}

// exit looks at every call at b, ends b cleanly, and looks at what it left behind.
func (t *trial) exit(ctx context.Context, b *process, path string) error {
	d, r := t.driver, &t.report
	t.line.Show("looking at every call at node b")
	n, err := d.CheckLive(ctx)
	if err != nil {
		return err
	}
	r.Checked = t.calls + n // the first time was when b took them over
	st, err := d.Client.Stats(ctx, b.addr)
	if err != nil {
		return err
	}
	r.Adopted, r.AdoptP50MS, r.AdoptP99MS = st.Adoptions, st.AdoptP50MS, st.AdoptP99MS
	d.Client.Close()
	if err := b.stop(); err != nil {
		return fmt.Errorf("node b did not end cleanly: %w", err)
	}
	t.line.Show("looking at every call in the file")
	file, err := bolt.Open(path, nil)
	if err != nil {
		return err
	}
	n, err = d.Ledger.CheckStored(ctx, file)
	r.Checked += n
	return errors.Join(err, file.Close())
}

// until lets the driver go on until done, with all events going to p.
func until[T any](ctx context.Context, t *trial, done <-chan T, p *process, w *callsim.Watch) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	late := time.After(time.Duration(t.seconds*float64(time.Second)) + patience*4)
	for {
		select {
		case <-done:
			return nil
		case <-t.driver.Failed():
			return errors.New("the driver gave up")
		case <-p.done:
			return p.ended()
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("node %s is too slow: not all calls have been seen to", p.name)
		case <-tick.C:
			t.show(p.name, w)
		}
	}
}

func (t *trial) show(name string, w *callsim.Watch) {
	p, st := t.driver.Progress(), w.Last()
	t.line.Show("%5.1f s  node %s: %s events, %s synced, %s calls in memory, %s adopted, lag %d ms",
		time.Since(t.began).Seconds(), name, callsim.Group(p.Events), callsim.Group(p.Synced),
		callsim.Group(st.DB.Resident), callsim.Group(p.Adopted), st.DB.Lag.Milliseconds())
}
