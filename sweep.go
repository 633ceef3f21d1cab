package kvstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Sweeping configures Sweep.
type Sweeping struct {
	// Rate is the most sessions ended in a second. Zero: 1000.
	Rate int

	// All takes other nodes' shares, too.
	All bool
}

// Swept is what Sweep has done.
type Swept struct {
	Seen    int // sessions in the store whose time has come, and that are in no living node's memory, as far as this one can know
	Ended   int // by this call
	Others  int // of other nodes' shares, or ended or made anew meanwhile
	Left    int // as they were: their owner turned out to be alive, or this node is just being asked for them
	Damaged int // that the store cannot read; the error names them
}

// Sweep ends the stored sessions whose time has come while no living node owned them, or while this one did and had evicted them. Of those that nobody owns it
// takes this node's share, by the Ring of all living nodes, as AdoptOrphans does. Nobody sees them any more, swept or not: Sweep frees what they take in the
// store, and has Hooks.OnExpired told. It is meant to be called now and then, by every node. It makes one pass over the headers in the
// store, limited in rate, in the background of demand; an error tells that the pass was not complete.
//
// A session is ended in one step in the store, which decides there: its owner may turn out to be alive, and to hold an extension that is not stored
// yet, or somebody to have been faster. Then the session is left alone. So of any number of nodes that sweep at once, one ends it, and tells of it.
func (db *DB[V]) Sweep(ctx context.Context, w Sweeping) (Swept, error) {
	if ctx == nil {
		return Swept{}, errNilContext
	}
	if w.Rate < 0 {
		return Swept{}, fmt.Errorf("%w: Sweeping.Rate is %d: 0 for 1000, or more", ErrInvalid, w.Rate)
	}
	if w.Rate == 0 {
		w.Rate = 1000
	}
	if err := db.inTime(); err != nil {
		return Swept{}, err
	}
	ring, alive, err := db.survivors(ctx)
	if err != nil {
		return Swept{}, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	unhook := context.AfterFunc(db.ctx, func() { stop(ErrClosed) })
	defer unhook()

	p := &sweeping[V]{pacer: newPacer(db, w.Rate)}
	size := min(batchOf(w.Rate), db.opt.MaxBatch)
	var some []store.Header
	var damaged []error
	for h, err := range db.store.Sessions(ctx, store.Query{}) {
		var c *store.CorruptError
		if errors.As(err, &c) {
			p.done.Damaged++
			damaged = append(damaged, err) // the walk goes on
			continue
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && h.Expires.Past(time.Now()) {
			switch mine := h.Owner.Incarnation == db.self.Incarnation; {
			case mine && !h.Released:
				err = p.reload(ctx, h.Session)
			case h.Released || !alive[h.Owner.Incarnation]:
				if p.done.Seen++; !w.All && ring.Owner(h.Session) != db.self.Node {
					p.done.Others++
				} else if some = append(some, h); len(some) == size {
					err = p.end(ctx, some)
					some = nil
				}
			}
		}
		if err != nil {
			damaged = append(damaged, err)
			some = nil
			break
		}
	}
	if len(some) > 0 {
		damaged = append(damaged, p.end(ctx, some))
	}
	if ctx.Err() != nil {
		damaged = append(damaged, context.Cause(ctx))
	}
	if err := errors.Join(damaged...); err != nil {
		return p.done, fmt.Errorf("kvstore: the sweep is not complete: %w", err)
	}
	return p.done, nil
}

// sweeping is one call of Sweep.
type sweeping[V any] struct {
	*pacer[V]
	done Swept
}

// reload brings a session of this node's in that was evicted, so that the expirer ends it: it knows best.
func (p *sweeping[V]) reload(ctx context.Context, id string) error {
	if p.db.sessions.load(id) != nil {
		return nil // it does so without that
	}
	p.done.Seen++
	if err := p.turn(ctx, 1); err != nil {
		return err
	}
	switch _, err := p.db.bring(ctx, id, reload, nil); {
	case err == nil:
		p.done.Ended++
	case errors.Is(err, ErrNotResident), errors.Is(err, ErrNotFound):
		p.done.Left++
	default:
		return err
	}
	return nil
}

// sweepAttempts is how often the store is asked to end sessions if it does not answer.
const sweepAttempts = 3

// end ends sessions that nobody owned when their headers were read.
//
// Each gets a tombstone of the epoch that follows its own, as a change that creates it: the store applies that to what is gone and to nothing else, and to one change
// of an epoch. Until it has answered nobody on this node asks the store for the session, or makes it: that would be of the same owner and epoch. Birth
// says the same to an attempt that is late: whatever this node has in that epoch by then is not what it is about.
func (p *sweeping[V]) end(ctx context.Context, hs []store.Header) error {
	db := p.db
	if err := p.turn(ctx, len(hs)); err != nil {
		return err
	}
	var calls []*call[V]
	var ended []store.Header
	var changes []store.Change
	for _, h := range hs {
		var c *call[V]
		if h.Epoch < store.MaxEpoch {
			c = db.callFor(h.Session, sweep)
		}
		if c == nil {
			p.done.Left++
			continue
		}
		seq := db.seq.Add(1)
		calls, ended = append(calls, c), append(ended, h)
		changes = append(changes, store.Change{Session: h.Session, Owner: db.self, Epoch: h.Epoch + 1, Seq: seq, Birth: seq, Create: true, Delete: true})
	}
	if len(calls) == 0 {
		return nil
	}
	var results []store.Result
	var err error
	done := make(chan struct{})
	work := func(ctx context.Context) {
		defer close(done)
		results, err = db.decide(ctx, changes)
		for i, h := range ended {
			if o := results[i].Outcome; o == store.Applied || o == store.Already {
				db.expired(Expired{Session: h.Session, Epoch: h.Epoch, Whole: true, At: h.Expires.Std()})
			}
			calls[i].err = sessionError(h.Session, ErrNotFound)
			db.answer(db.stripe(h.Session), calls[i], h.Session, nil)
		}
	}
	if !db.spawn(work) {
		for i, h := range ended {
			calls[i].err = ErrClosed
			db.answer(db.stripe(h.Session), calls[i], h.Session, nil)
		}
		return ErrClosed
	}
	<-done // soon, also if ctx is over: what the store has done is to be told
	for i, r := range results {
		switch r.Outcome {
		case store.Applied, store.Already:
			p.done.Ended++
		case store.Fenced:
			if r.Header.Exists() && r.Header.Epoch == ended[i].Epoch {
				p.done.Left++
			} else {
				p.done.Others++
			}
		case store.Rejected:
			p.done.Damaged++
			err = errors.Join(err, &RejectedError{Session: ended[i].Session, Err: r.Err})
		default:
			err = errors.Join(err, r.Err, fmt.Errorf("kvstore: session %q: the store did not answer whether it has ended", ended[i].Session))
		}
	}
	return err
}

// decide asks the store for changes until it has decided each, or has not a few times. It returns as many results, and why the last attempt failed.
func (db *DB[V]) decide(ctx context.Context, changes []store.Change) (results []store.Result, err error) {
	results = make([]store.Result, len(changes))
	for attempt := 1; ; attempt++ {
		var left []store.Change
		var at []int
		for i := range results {
			if results[i].Outcome == store.Undecided {
				left, at = append(left, changes[i]), append(at, i)
			}
		}
		if len(left) == 0 {
			return results, nil
		}
		if attempt > sweepAttempts {
			return results, err
		}
		if attempt > 1 {
			timer := time.NewTimer(time.Duration(db.backoff(attempt)))
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return results, errors.Join(err, ErrClosed)
			}
		}
		var rs []store.Result
		rs, err = db.apply(ctx, left)
		for i := range rs {
			results[at[i]] = rs[i]
		}
	}
}
