package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/callrun"
	"github.com/seed-6f1f505d/kvstore/internal/callsim"
	"github.com/seed-6f1f505d/kvstore/store"
)

// How long events go on after a fault was overcome, and how long most calls are not synced before one, at most: see
// callrun.LastStretch. On a slow store that is less than what it asks for, and there are two faults to come.
const (
	afterwards  = 500 * time.Millisecond
	lastStretch = 3 * time.Second
)

// The nodes, by what becomes of them.
const (
	killed = iota
	stopped
	spared
)

var names = [...]string{killed: "a", stopped: "b", spared: "c"}

// trial is one run.
type trial struct {
	config
	servers *cluster    // nil: the store is not the demo's
	store   store.Store // the judge's own way to it
	nodes   []*callrun.Process
	watch   []*callsim.Watch
	driver  *callsim.Driver
	line    *callsim.Line
	began   time.Time
	lapses  [len(names)]int64 // of each node, but for those that were our doing
	report  report
}

// measure makes the run: the nodes, events, the faults, a clean exit, and the checks.
func measure(ctx context.Context, c config, line *callsim.Line) (r *report, err error) {
	defer line.Clear()
	s := spec{store: c.store, lease: c.lease, maxDelay: c.maxDelay, leaky: c.leaky, space: "kvstore_cluster_" + random()}
	t := &trial{config: c, line: line}
	if c.store == embedded {
		line.Show("starting %d servers", servers)
		if t.servers, err = startCluster(ctx); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, t.servers.stop()) }()
		s.store = t.servers.url()
	}
	e, ok := engineOf(s.store)
	if !ok {
		return nil, fmt.Errorf("no engine for this store is built in: it must be %s", storeForms())
	}
	st, err := e.open(ctx, s.store, s.space)
	if err != nil {
		return nil, err
	}
	defer func() { // the nodes are gone by then
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), callrun.Patience)
		defer cancel()
		err = errors.Join(err, st.Close(), e.drop(end, s.store, s.space))
	}()

	client := callsim.NewClient(c.workers + 8)
	defer client.Close()
	t.store = st
	for i := range names {
		p, err := s.start(ctx, names[i])
		if err != nil {
			return nil, err
		}
		defer p.Stop()
		if err := p.Served(ctx); err != nil {
			return nil, err
		}
		t.nodes = append(t.nodes, p)
		t.watch = append(t.watch, client.Watch(ctx, p.Addr, callrun.Look))
		defer func() { t.watch[i].Stop() }()
	}
	m := callsim.Model{Seed: c.seed, Sync: int(c.sync * 10)}
	t.driver = &callsim.Driver{
		Model: m, Ledger: callsim.NewLedger(m, c.calls), Client: client, Workers: c.workers,
		Nodes: []string{t.nodes[0].Addr, t.nodes[1].Addr, t.nodes[2].Addr},
		Home:  func(call int) int { return call % len(names) },
		Stray: int(c.stray * 10),
	}
	t.report.Seed, t.report.Calls = c.seed, c.calls
	t.report.Store, _, _ = strings.Cut(c.store, ":")
	if err := t.play(ctx); err != nil {
		return nil, err
	}
	if err := t.exit(ctx); err != nil {
		return nil, err
	}
	for i, n := range t.lapses {
		t.report.Lapses += int(n)
		t.report.LapsedCalls += t.driver.Ledger.Excuse(i, n > 0)
	}
	t.report.judge(t.driver.Ledger.Findings(), c)
	return &t.report, nil
}

// random returns a name that no other run has.
func random() string {
	var b [6]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// play has the driver send events while the faults happen.
func (t *trial) play(ctx context.Context) (err error) {
	d, r := t.driver, &t.report
	t.began = time.Now()
	d.Start(ctx)
	defer func() {
		end := d.Stop
		if err != nil {
			end = d.Abort
		}
		if derr := end(); derr != nil {
			err = derr // what stopped a worker is the reason for whatever came after
		}
		p := d.Progress()
		r.Seconds = callsim.Per(time.Since(t.began).Seconds(), 1)
		r.Events, r.Synced, r.EventsPerSec = p.Events, p.Synced, callsim.Per(float64(p.Events), r.Seconds)
		r.Strayed, r.Redirected, r.Adopted = p.Strayed, p.Redirected, p.Adopted
	}()
	if err := until(ctx, t, d.Begun()); err != nil {
		return err
	}
	if err := until(ctx, t, time.After(time.Until(t.began.Add(time.Duration(t.seconds*float64(time.Second)))))); err != nil {
		return err
	}
	for _, fault := range []func(context.Context) error{t.kill, t.stop, t.breakStore} {
		if err := fault(ctx); err != nil {
			return err
		}
		if err := until(ctx, t, time.After(afterwards)); err != nil {
			return err
		}
	}
	return nil
}

// kill kills a node, and has others take over its calls.
func (t *trial) kill(ctx context.Context) error {
	d, p := t.driver, t.nodes[killed]
	st, err := t.aim(ctx, killed, callrun.Worst)
	if err != nil {
		return err
	}
	if _, err := d.Kill(killed, p.Kill); err != nil {
		return err
	}
	t.lapses[killed] = st.Lapses
	d.SyncByCall(false)
	if err := until(ctx, t, d.TakenOver(killed)); err != nil {
		return err
	}
	t.report.FirstAnswerKillMS = ms(d.FirstTakeover(killed))
	return nil
}

// stop has a node stand still until its calls are taken over, lets it go on, and looks at what became of what it had not stored.
// Nobody talks to it until then: it has to find out by itself.
func (t *trial) stop(ctx context.Context) error {
	d, p, r := t.driver, t.nodes[stopped], &t.report
	before, err := t.aim(ctx, stopped, func(ctx context.Context, w *callsim.Watch) callsim.NodeStats {
		return callrun.Unsaved(ctx, w, t.maxDelay)
	})
	if err != nil {
		return err
	}
	d.Still(true)
	at, err := d.Suspend(stopped, p.Freeze)
	if err != nil {
		return fmt.Errorf("%v cannot be stopped: %w", p, err)
	}
	d.SyncByCall(false)
	if err := until(ctx, t, d.TakenOver(stopped)); err != nil {
		return err
	}
	r.FirstAnswerStopMS = ms(d.FirstTakeover(stopped))
	if err := until(ctx, t, time.After(time.Until(at.Add(t.lease+afterwards)))); err != nil {
		return err
	}
	r.FrozenMS = ms(time.Since(at))
	if err := p.Thaw(); err != nil {
		return err
	}
	st, err := t.calm(ctx, stopped, before)
	if err != nil {
		return err
	}
	r.ZombieAttempted = int(st.Refused - before.Refused)
	if r.ZombieChecked, err = d.CheckLate(ctx, t.store); err != nil {
		return err
	}
	d.Resume(stopped)
	d.Still(false)
	return nil
}

// breakStore kills a server of the store, and starts it again. Meanwhile leases may end, as nobody can renew them: then all events wait. None
// is sent to a wrong node, which would be right to adopt a call whose owner's lease was not renewed yet.
func (t *trial) breakStore(ctx context.Context) error {
	d := t.driver
	if t.servers == nil {
		return nil
	}
	d.Straight(true)
	if err := until(ctx, t, time.After(afterwards)); err != nil {
		return err
	}
	i, err := t.servers.killLeader(ctx)
	if err != nil {
		return err
	}
	d.Mark()
	end := time.Now().Add(4 * callrun.Patience)
	for d.SinceMark() == 0 {
		if time.Now().After(end) {
			return errors.New("nothing is stored any more since a server of the store was killed")
		}
		if err := until(ctx, t, time.After(10*time.Millisecond)); err != nil {
			return err
		}
	}
	first := ms(d.SinceMark())
	t.report.FirstAnswerStoreMS = &first
	if err := t.servers.start(ctx, i); err != nil {
		return err
	}
	if err := t.servers.members[i].Served(ctx); err != nil {
		return err
	}
	if err := until(ctx, t, time.After(t.lease)); err != nil { // each was renewed by then
		return err
	}
	d.Straight(false)
	return nil
}

// aim prepares a fault of node i, and returns at its moment.
func (t *trial) aim(ctx context.Context, i int, moment func(context.Context, *callsim.Watch) callsim.NodeStats) (callsim.NodeStats, error) {
	d, w := t.driver, t.watch[i]
	d.SyncByCall(true)
	if err := until(ctx, t, time.After(min(callrun.LastStretch(w.Ask(ctx), t.maxDelay), lastStretch))); err != nil {
		return callsim.NodeStats{}, err
	}
	st := moment(ctx, w)
	w.Stop()
	t.report.LongestFlushMS = max(t.report.LongestFlushMS, st.LongestFlushMS)
	return st, nil
}

// calm waits until a node that was let go on knows that its lease was over, and has nothing left to store.
func (t *trial) calm(ctx context.Context, i int, before callsim.NodeStats) (callsim.NodeStats, error) {
	end := time.Now().Add(2 * callrun.Patience)
	for {
		st, err := t.driver.Client.Stats(ctx, t.nodes[i].Addr)
		if err != nil {
			return st, err
		}
		if st.Lapses > before.Lapses && st.DB.Lag == 0 && st.DB.Buffered == 0 && st.Flushing == 0 {
			return st, nil
		}
		if time.Now().After(end) {
			return st, fmt.Errorf("%v went on, and cannot settle what it had to store: %d bytes are left", t.nodes[i], st.DB.Buffered)
		}
		if err := until(ctx, t, time.After(10*time.Millisecond)); err != nil {
			return st, err
		}
	}
}

// exit looks at every call at its node, ends the nodes cleanly, and looks at what they left behind.
func (t *trial) exit(ctx context.Context) error {
	d, r := t.driver, &t.report
	t.line.Show("looking at every call at its node")
	n, err := d.CheckLive(ctx)
	if err != nil {
		return err
	}
	r.Checked = n
	for _, i := range []int{stopped, spared} {
		st, err := d.Client.Stats(ctx, t.nodes[i].Addr)
		if err != nil {
			return err
		}
		t.lapses[i] = st.Lapses
	}
	t.lapses[stopped]-- // that one was our doing
	for _, w := range t.watch {
		w.Stop()
	}
	d.Client.Close()
	for _, i := range []int{stopped, spared} {
		if err := t.nodes[i].Stop(); err != nil {
			return fmt.Errorf("%v did not end cleanly: %w", t.nodes[i], err)
		}
	}
	t.line.Show("looking at every call in the store")
	n, err = d.Ledger.CheckStored(ctx, t.store)
	r.Checked += n
	return err
}

// until lets the driver go on until done.
func until[T any](ctx context.Context, t *trial, done <-chan T) error {
	var alive []*callrun.Process
	for _, p := range t.nodes {
		select {
		case <-p.Done():
		default:
			alive = append(alive, p)
		}
	}
	late := time.Duration(t.seconds*float64(time.Second)) + callrun.Patience*4
	return callrun.Until(ctx, t.driver, done, late, t.show, alive...)
}

func (t *trial) show() {
	p := t.driver.Progress()
	t.line.Show("%5.1f s  %s events, %s synced, %s redirected, %s adopted", time.Since(t.began).Seconds(),
		callsim.Group(p.Events), callsim.Group(p.Synced), callsim.Group(p.Redirected), callsim.Group(p.Adopted))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
