package callsim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
)

// CheckLive asks the nodes for every call, after Stop: each must be exactly as it was answered last. It
// returns how many it asked for.
func (d *Driver) CheckLive(ctx context.Context) (int, error) {
	return d.Ledger.each(d.Workers, func(r *record) error {
		status, re, err := d.call(ctx, r)
		switch {
		case err != nil:
			return err
		case status == http.StatusOK:
			d.Ledger.exactly(r, re.Entries, true, &d.Ledger.found.Regressed, "at node "+re.Node)
		case status == http.StatusNotFound:
			d.Ledger.exactly(r, nil, false, &d.Ledger.found.Regressed, "at node "+re.Node)
		default:
			return fmt.Errorf("node %s answered %d for call %s: %s", re.Node, status, r.id, re.Error)
		}
		return nil
	})
}

// call asks for a call at its node, and where that one sends us.
func (d *Driver) call(ctx context.Context, r *record) (status int, re Reply, err error) {
	at := d.alive(r.node, r)
	for range 1000 {
		status, re, err = d.Client.Call(ctx, d.Nodes[at], d.Model.asked(r))
		switch {
		case err != nil:
			return status, re, err
		case status == http.StatusTemporaryRedirect:
			if at = d.index(re.Owner); at < 0 {
				return status, re, nil
			}
			if !d.peers[at].dead.Load() {
				continue
			}
			at = d.alive(at, r) // its lease runs on
		case status != http.StatusServiceUnavailable:
			return status, re, nil
		}
		if err := rest(ctx); err != nil {
			return status, re, err
		}
	}
	return status, re, nil
}

// CheckLate looks in st at the calls that were left alone (Still) and were adopted from a node that was suspended, after that one was let
// go on and has tried to store what it had: each must be as its new owner found it, and be that one's. Anything else
// is a late write. It returns how many it looked at.
func (d *Driver) CheckLate(ctx context.Context, st store.Store) (n int, err error) {
	var codec kvstore.Msgpack
	for i := 0; i < len(d.Ledger.calls); i += 2 {
		r := &d.Ledger.calls[i]
		if !r.struck || d.peers[r.node].dead.Load() || len(r.tenures) == 0 || r.over || r.wrong != whole {
			continue
		}
		snap, err := st.Load(ctx, r.id)
		if err != nil {
			return n, err
		}
		found := map[string]Part{}
		for _, e := range snap.Entries {
			var p Part
			if err := codec.Decode(e.Value, &p); err != nil {
				return n, fmt.Errorf("call %s, %s: %w", r.id, name(e.Key), err)
			}
			found[e.Key] = p
		}
		d.Ledger.untouched(r, snap.Header, found)
		n++
	}
	return n, nil
}

// CheckStored adopts every call from st, after all nodes were closed: each must be exactly as it was
// answered last, and there must be no other session. It returns how many it asked for.
func (l *Ledger) CheckStored(ctx context.Context, st store.Store) (int, error) {
	db, err := kvstore.Open[Part](ctx, st, kvstore.Options{Node: "judge"})
	if err != nil {
		return 0, err
	}
	n, err := l.each(128, func(r *record) error {
		s, err := db.Adopt(ctx, r.id, parts...)
		if errors.Is(err, kvstore.ErrNotFound) {
			l.exactly(r, nil, false, &l.found.CleanExitLost, "after a clean exit")
			return nil
		} else if err != nil {
			return err
		}
		found, err := contents(ctx, s)
		if err == nil {
			l.exactly(r, found, true, &l.found.CleanExitLost, "after a clean exit")
		}
		return err
	})
	if err == nil {
		err = l.checkOthers(ctx, st)
	}
	return n, errors.Join(err, db.Close(ctx))
}

// checkOthers looks for sessions that are nobody's.
func (l *Ledger) checkOthers(ctx context.Context, st store.Store) error {
	known := make(map[string]bool, len(l.calls))
	for i := range l.calls {
		known[l.calls[i].id] = true
	}
	for h, err := range st.Sessions(ctx, store.Query{}) {
		if err != nil {
			return err
		}
		if !known[h.Session] {
			l.note(&l.found.Corrupt, 1, &record{id: h.Session}, "it is in the store, and no event was ever sent to it")
		}
	}
	return nil
}

// each runs do for every call, on a number of goroutines, until one fails.
func (l *Ledger) each(workers int, do func(r *record) error) (int, error) {
	var next, done atomic.Int64
	var wg sync.WaitGroup
	var once sync.Once
	var failed error
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(l.calls) {
					return
				}
				if err := do(&l.calls[i]); err != nil {
					once.Do(func() { failed = err })
					next.Store(int64(len(l.calls)))
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	return int(done.Load()), failed
}
