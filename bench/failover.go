package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
)

// This file measures how long the sessions of a node are without an owner that has died, of which all are stored: until the first of them answers on another node, and
// until the last one does.
//
// The first one's time is the lease: no other may have it before. The owner dies right after it has renewed its lease, when that takes longest, and
// what comes on top is ours. A node that finds no lease in the store, as the next process does that opens a bbolt file, has no such wait.

const (
	failoverFirst = "failover/first"
	failoverAll   = "failover/all"
	failoverOwned = "failover/all/owned"
)

func failoverRows(*config) []spec {
	return []spec{
		{failoverFirst, "from the death of a session's owner, right after it has renewed its lease, to DB.Adopt on another node, which asks each hundredth of a lease", "× lease", "≤", 2},
		{failoverAll, aboutPreload + aboutScan, "× rate", "≥", 0.7},
		{failoverOwned, aboutPreload + aboutOwn, "× rate", "≥", 0.7},
	}
}

func runFailover(r *runner) error {
	dir, remove, err := r.tempDir()
	if err != nil {
		return err
	}
	defer remove()
	e, err := newEstate(dir, r.sessions, false)
	if err != nil {
		return err
	}
	defer e.close()
	if r.wants(failoverFirst) {
		if err := r.failoverFirst(e); err != nil {
			return fmt.Errorf("%s: %w", failoverFirst, err)
		}
	}
	if r.wants(failoverAll) || r.wants(failoverOwned) {
		return r.failoverAll(e)
	}
	return nil
}

// failoverFirst has the orphans' owner live and die once more for each round, and asks for another session each time.
func (r *runner) failoverFirst(e *estate) error {
	ctx, lease := context.Background(), time.Duration(r.pick(1000, 50))*time.Millisecond
	d, err := openDB(e.st, options())
	if err != nil {
		return err
	}
	var pairs []pair
	for round := range r.rounds {
		id := idOf(round)
		snap, err := e.st.Load(ctx, id)
		if err != nil {
			return err
		}
		owner := snap.Header.Owner
		died := time.Now()
		if _, err := e.st.KeepAlive(ctx, store.Node{Name: owner.Node, Incarnation: owner.Incarnation}, lease); err != nil {
			return err
		}
		for ; ; time.Sleep(lease / 100) {
			_, err := d.Adopt(ctx, id)
			if err == nil {
				break
			}
			if !errors.Is(err, kvstore.ErrOwned) {
				return err
			}
		}
		took := time.Since(died)
		if took < lease {
			return fmt.Errorf("the session was given away after %v, while its owner had a lease of %v", took, lease)
		}
		pairs = append(pairs, pair{ours: float64(took), bare: float64(lease)})
	}
	r.reportPairs(failoverFirst, pairs, fmt.Sprintf("%d sessions; a lease of %v", e.n, lease))
	return closeDB(d)
}

// failoverAll measures ours beside both bare programs by turns: once for both rows, as each takes seconds. All that is read was just written, so no round is for caches.
func (r *runner) failoverAll(e *estate) error {
	var scans, owned []pair
	for range min(r.rounds, 3) {
		ours, err := side(failoverAll, "ours", e.preload)
		if err != nil {
			return err
		}
		for _, row := range []struct {
			name  string
			pairs *[]pair
		}{{failoverAll, &scans}, {failoverOwned, &owned}} {
			if !r.wants(row.name) {
				continue
			}
			bare, err := side(row.name, "bare", func() (float64, error) { return e.scan(row.name == failoverOwned) })
			if err != nil {
				return err
			}
			*row.pairs = append(*row.pairs, pair{ours, bare})
		}
	}
	if len(scans) > 0 {
		r.reportPairs(failoverAll, scans, e.String()+"; the bare program only reads them")
	}
	if len(owned) > 0 {
		r.reportPairs(failoverOwned, owned, e.String())
	}
	return nil
}
