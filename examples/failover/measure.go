package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/callrun"
	"github.com/seed-6f1f505d/kvstore/internal/callsim"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
)

// afterwards is how long events go on after all calls were taken over.
const afterwards = time.Second

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
	defer a.Stop()
	if err := a.Served(ctx); err != nil {
		return nil, err
	}
	b, err := start(ctx, "b", path, c.b, c.maxDelay) // after a has the file
	if err != nil {
		return nil, err
	}
	defer b.Stop()

	m := callsim.Model{Seed: c.seed, Sync: int(c.sync * 10), Inside: true}
	client := callsim.NewClient(c.workers + 8)
	defer client.Close()
	t := &trial{config: c, line: line, began: time.Now(), driver: &callsim.Driver{
		Model: m, Ledger: callsim.NewLedger(m, c.calls), Client: client,
		Nodes: []string{a.Addr, b.Addr}, Workers: c.workers,
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
func (t *trial) play(ctx context.Context, a, b *callrun.Process) (err error) {
	d, r := t.driver, &t.report
	watch := d.Client.Watch(ctx, a.Addr, callrun.Look)
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
	if err := until(ctx, t, time.After(time.Until(kill.Add(-callrun.LastStretch(watch.Ask(ctx), t.maxDelay)))), a, watch); err != nil {
		return err
	}
	d.SyncByCall(true)
	if err := until(ctx, t, time.After(callrun.LastStretch(watch.Ask(ctx), t.maxDelay)), a, watch); err != nil {
		return err
	}
	st := callrun.Worst(ctx, watch)
	before := d.Progress()
	killed, err := d.Kill(0, a.Kill)
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
	r.Inside(st)

	if err := b.Served(ctx); err != nil {
		return fmt.Errorf("after the kill: %w", err)
	}
	watchB := d.Client.Watch(ctx, b.Addr, callrun.Look)
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

// exit looks at every call at b, ends b cleanly, and looks at what it left behind.
func (t *trial) exit(ctx context.Context, b *callrun.Process, path string) error {
	d, r := t.driver, &t.report
	t.line.Show("looking at every call at node b")
	n, err := d.CheckLive(ctx)
	if err != nil {
		return err
	}
	r.Checked = t.calls + n // the first time was when b took them over
	st, err := d.Client.Stats(ctx, b.Addr)
	if err != nil {
		return err
	}
	r.Adopted, r.AdoptP50MS, r.AdoptP99MS = st.Adoptions, st.AdoptP50MS, st.AdoptP99MS
	r.Inside(st)
	r.ByTimer = int(st.DB.Adopted) - st.Adoptions
	d.Client.Close()
	if err := b.Stop(); err != nil {
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
func until[T any](ctx context.Context, t *trial, done <-chan T, p *callrun.Process, w *callsim.Watch) error {
	late := time.Duration(t.seconds*float64(time.Second)) + callrun.Patience*4
	return callrun.Until(ctx, t.driver, done, late, func() { t.show(p.Name, w) }, p)
}

func (t *trial) show(name string, w *callsim.Watch) {
	p, st := t.driver.Progress(), w.Last()
	t.line.Show("%5.1f s  node %s: %s events, %s synced, %s calls in memory, %s adopted, lag %d ms",
		time.Since(t.began).Seconds(), name, callsim.Group(p.Events), callsim.Group(p.Synced),
		callsim.Group(st.DB.Resident), callsim.Group(p.Adopted), st.DB.Lag.Milliseconds())
}
