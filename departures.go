package kvstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Departures yields the other nodes that die or leave from the call on, each when its lease is over: that of a node that was killed runs out, that of one
// that closes its DB ends at once. With it a survivor's loop is
//
//	for n, err := range db.Departures(ctx) {
//		if err != nil {
//			log.Print(err) // it goes on
//			continue
//		}
//		log.Printf("%s is gone", n.Name)
//		db.AdoptOrphans(ctx, kvstore.Takeover{})
//	}
//
// What happens meanwhile is not missed, but told afterwards. Whose lease lapsed and is renewed is told, too: AdoptOrphans, which asks the store
// again, then finds nothing. A store that is a [store.Watcher] tells of the end of a lease at once; another is asked every third of Options.Lease,
// and so is a watcher, in case it fell asleep.
//
// An error says that the store does not list its nodes: it is yielded once until it does again. The walk ends when ctx is over, and with
// ErrClosed when the DB is closed.
func (db *DB[V]) Departures(ctx context.Context) iter.Seq2[store.Node, error] {
	return func(yield func(store.Node, error) bool) {
		if ctx == nil {
			yield(store.Node{}, errNilContext)
			return
		}
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		defer context.AfterFunc(db.ctx, stop)()

		look := make(chan struct{}, 1)
		if w, ok := db.store.(store.Watcher); ok {
			if !db.spawn(func(context.Context) { db.watch(ctx, w, look) }) {
				yield(store.Node{}, ErrClosed)
				return
			}
		}
		var living map[store.Incarnation]store.Node // as it was found last; nil: never
		every := db.opt.Lease / 3
		timer := time.NewTimer(every)
		defer timer.Stop()
		for failing := false; ; {
			now, err := db.living(ctx)
			switch {
			case db.ctx.Err() != nil:
				yield(store.Node{}, ErrClosed)
				return
			case ctx.Err() != nil:
				return
			case err != nil:
				if !failing && !yield(store.Node{}, err) {
					return
				}
			default:
				for _, n := range missing(living, now) {
					if n.Incarnation != db.self.Incarnation && !yield(n, nil) {
						return
					}
				}
				living = now
			}
			failing = err != nil
			timer.Reset(every)
			select {
			case <-look:
			case <-timer.C:
			case <-ctx.Done(): // which the next look tells from Close
			}
		}
	}
}

// living returns the nodes whose leases run.
func (db *DB[V]) living(ctx context.Context) (map[store.Incarnation]store.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, db.opt.StoreTimeout)
	defer cancel()
	nodes, err := db.store.Nodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("kvstore: the store does not list its nodes: %w", err)
	}
	living := map[store.Incarnation]store.Node{}
	for _, n := range nodes {
		if n.Lease > 0 {
			living[n.Incarnation] = n
		}
	}
	return living, nil
}

// missing returns those of was that are not there any more, in the order of their names.
func missing(was, now map[store.Incarnation]store.Node) (gone []store.Node) {
	for i, n := range was {
		if _, ok := now[i]; !ok {
			n.Lease = 0
			gone = append(gone, n)
		}
	}
	slices.SortFunc(gone, func(a, b store.Node) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Incarnation.String(), b.Incarnation.String()))
	})
	return gone
}

// watch has look filled when the store's nodes may have changed.
func (db *DB[V]) watch(ctx context.Context, w store.Watcher, look chan<- struct{}) {
	for failures := 1; ; failures++ {
		began := db.now()
		err := w.WatchNodes(ctx, func() {
			select {
			case look <- struct{}{}:
			default:
			}
		})
		if ctx.Err() != nil || errors.Is(err, errors.ErrUnsupported) {
			return
		}
		db.log.Debug("kvstore: the store stopped watching its nodes", "error", err)
		if db.now()-began > int64(db.opt.Lease) {
			failures = 1
		}
		timer := time.NewTimer(time.Duration(db.backoff(failures)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
