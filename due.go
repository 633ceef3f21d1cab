package kvstore

import (
	"context"
	"errors"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file takes in what nobody rings: sessions whose owner died, or that were released, and of which a timer is due, though no event comes for
// them.

// duePage is how many timers are read at a time.
const duePage = 256

// AdoptDue adopts the stored sessions that no living node owns, and of which a timer is due; as AdoptOrphans does all, with the same shares: it
// finds them by their timers, without a look at the others. Their timers fire at once, if this DB has an OnTimer, which does that by itself, too.
//
// An error that wraps errors.ErrUnsupported: the store cannot be asked for timers.
func (db *DB[V]) AdoptDue(ctx context.Context, t Takeover) (Orphans, error) {
	if db.closing.Load() {
		return Orphans{}, ErrClosed
	}
	f, err := db.finder("AdoptDue")
	if err != nil {
		return Orphans{}, err
	}
	return db.adoptAll(ctx, t, func(ctx context.Context, alive map[store.Incarnation]bool, yield func(store.Header)) error {
		return db.walkDue(ctx, f, alive, yield)
	})
}

// walkDue calls yield for every orphan of which a timer is due, once.
func (db *DB[V]) walkDue(ctx context.Context, f store.Finder, alive map[store.Incarnation]bool, yield func(store.Header)) error {
	var damaged error
	now := store.Time(time.Now().UnixMilli())
	r := store.AliasRange{From: dueBefore(0), To: dueBefore(now + 1), Limit: duePage}
	seen := map[string]bool{} // those that were yielded
	for {
		found, err := find(ctx, f, db.opt.StoreTimeout, r)
		var c *store.CorruptError
		if errors.As(err, &c) {
			damaged = errors.Join(damaged, err) // the walk goes on
		} else if err != nil {
			return err
		}
		for _, n := range found.Aliases {
			if h := &n.Header; !seen[h.Session] && db.orphaned(h, alive) {
				seen[h.Session] = true
				yield(*h)
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if found.Next <= r.From {
			return damaged
		}
		r.From = found.Next
	}
}

// find asks for a page.
func find(ctx context.Context, f store.Finder, timeout time.Duration, r store.AliasRange) (store.Found, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return f.Find(ctx, r)
}

// adoptDueAlways is the goroutine of an OnTimer that adopts what is due, until ctx is over.
func (db *DB[V]) adoptDueAlways(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		o, err := db.AdoptDue(ctx, Takeover{})
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errors.ErrUnsupported):
			db.log.Warn("kvstore: nobody looks for timers that are due", "cause", err)
			return
		case err != nil && !errors.Is(err, ErrDraining) && !errors.Is(err, ErrSuspended):
			db.log.Warn("kvstore: the search for timers that are due was not complete", "adopted", o.Adopted, "cause", err)
		}
		timer.Reset(db.opt.Lease)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}
