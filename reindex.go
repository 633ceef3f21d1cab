package kvstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file indexes what was stored before its indexes were declared.
//
// A session that is in no node's memory is not brought into this one's. It is claimed, and released in the change that writes its marks; until that is
// answered who asks this node for it waits (as in sweep.go). So no event finds it here a moment before it is gone, and nothing is evicted for it.

// Reindexing configures Reindex.
type Reindexing struct {
	// Rate is the most sessions indexed in a second. Zero: 1000. Those that are indexed already cost a look at their header, and are not limited.
	Rate int

	// All takes other nodes' shares, too: in a rolling deploy, say, those of nodes that still run a program without the declaration.
	All bool

	// Drop also takes away what sessions have of indexes that this DB does not declare, as other Versions of its own. While programs that declare them
	// are running, as in a rolling deploy, these need it.
	Drop bool

	// Count walks the headers once before anything is indexed, so that Reindexed.Total, and Left, are known.
	Count bool

	// Progress, if not nil, is called now and then, and once more at the end, on the goroutine of Reindex, under no lock.
	Progress func(Reindexed)
}

// Reindexed is what a pass of Reindex has done so far.
type Reindexed struct {
	Seen      int // sessions: all of the following, and those that ended while they were looked at
	Indexed   int // that had been indexed before
	Marked    int // by this call
	Others    int // of other nodes' shares, or taken by an event, or by another node, meanwhile. These are indexed as they come in, or by the next pass
	Remaining int // that a living node owns, or a newer program has written: they are indexed when one that declares the indexes has them
	Failed    int // that cannot be read or written, or have more terms than a session can have; the error tells of the first 100

	Total    int           // sessions that there were, with Reindexing.Count; else 0
	Complete bool          // the pass is over, and every session is indexed
	Took     time.Duration // since the call
	Rate     float64       // sessions seen in a second
	Left     time.Duration // until the end, at this rate; -1: not known
}

// Reindex makes one pass over the headers of all stored sessions, and indexes those that no program with these declarations has written: after an Index
// was added, or its Version changed. Of those that nobody alive owns it takes this node's share, by the Ring of all living nodes; they are read,
// and their index terms written, and stay with nobody. Those of this node it indexes, too. What other living nodes own is left to them: in a rolling deploy call
// it again when the last old program is gone.
//
// When it has found everything indexed, Coverage.Indexed says so. It works in the background of demand, as AdoptOrphans does. Called again, it goes on where it
// was. An error tells that the pass was not complete, and why; that it is not, for what it left to others, the result tells.
//
//   - ErrInvalid: no Index was given to Open, or Rate is below 0. ErrDraining, ErrSuspended, ErrClosed: it takes nothing in.
func (db *DB[V]) Reindex(ctx context.Context, o Reindexing) (Reindexed, error) {
	if ctx == nil {
		return Reindexed{}, errNilContext
	}
	if err := db.admits(); err != nil {
		return Reindexed{}, err
	}
	switch {
	case o.Rate < 0:
		return Reindexed{}, fmt.Errorf("%w: Reindexing.Rate is %d: 0 for 1000, or more", ErrInvalid, o.Rate)
	case db.terms == nil:
		return Reindexed{}, fmt.Errorf("%w: Reindex: no Index was given to Open", ErrInvalid)
	}
	if o.Rate == 0 {
		o.Rate = 1000
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	unhook := context.AfterFunc(db.ctx, func() { stop(ErrClosed) })
	defer unhook()
	p := &reindexing[V]{pacer: newPacer(db, o.Rate), Reindexing: o, began: db.now(), stored: newBarrier(), keys: db.terms.keys()}
	err := p.run(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	p.done.Complete = err == nil && len(p.errs) == 0 && p.done.Others+p.done.Remaining+p.done.Failed == 0
	db.terms.whole.Store(p.done.Complete)
	p.tell()
	if err := errors.Join(append(p.errs, err)...); err != nil {
		return p.done, fmt.Errorf("kvstore: the pass of Reindex is not complete: %w", err)
	}
	return p.done, nil
}

// reindexing is one call of Reindex.
type reindexing[V any] struct {
	*pacer[V]
	Reindexing
	began  int64
	keys   []string // of the entries that indexes are about
	stored *barrier // of what this node's sessions have got

	done Reindexed
	errs []error
}

// keys returns the keys that indexes are about.
func (c *catalogue[V]) keys() []string {
	keys := slices.Sorted(maps.Keys(c.others))
	if len(c.main) > 0 {
		keys = append(keys, "")
	}
	return keys
}

// covers reports whether names, a header's, have marks of all indexes; and, if only is set, of no others.
func (c *catalogue[V]) covers(names []string, only bool) bool {
	n := 0
	for _, d := range c.all {
		if slices.ContainsFunc(names, func(m string) bool { return c.indexOf(m) == d }) {
			n++
		}
	}
	return n == len(c.all) && !(only && slices.ContainsFunc(names, func(m string) bool { return isTermMark(m) && c.indexOf(m) == nil }))
}

// maxReindexErrors is how many sessions an error of Reindex names.
const maxReindexErrors = 100

func (p *reindexing[V]) fail(err error) {
	p.done.Failed++
	if len(p.errs) < maxReindexErrors {
		p.errs = append(p.errs, err)
	}
}

// tell tells how far it is.
func (p *reindexing[V]) tell() {
	d := &p.done
	d.Took, d.Left = time.Duration(p.db.now()-p.began), -1
	if s := d.Took.Seconds(); s > 0 {
		d.Rate = float64(d.Seen) / s
	}
	if d.Complete {
		d.Left = 0
	} else if d.Rate > 0 && d.Total > 0 {
		d.Left = time.Duration(float64(max(d.Total-d.Seen, 0)) / d.Rate * float64(time.Second))
	}
	if p.Progress != nil {
		p.Progress(*d)
	}
}

// tellEvery is after how many headers it is told how far it is.
const tellEvery = 1000

// run makes the pass. Its error is of what ended it.
func (p *reindexing[V]) run(ctx context.Context) error {
	db := p.db
	ring, alive, err := db.survivors(ctx)
	if err != nil {
		return err
	}
	if p.Count {
		for h, err := range db.store.Sessions(ctx, store.Query{}) {
			if err == nil && !h.Gone(time.Now()) {
				p.done.Total++
			} else if err != nil && !damagedOnly(err) {
				return err
			}
		}
	}
	size := min(batchOf(p.Rate), db.opt.MaxBatch)
	var some []store.Header
	for h, err := range db.store.Sessions(ctx, store.Query{}) {
		switch {
		case err != nil && !damagedOnly(err):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			p.done.Seen++
			p.fail(err) // the walk goes on
			continue
		case h.Gone(time.Now()):
			continue
		}
		if p.done.Seen++; p.done.Seen%tellEvery == 0 {
			p.tell()
		}
		mine := h.Owner.Incarnation == db.self.Incarnation && !h.Released
		s := db.sessions.load(h.Session)
		switch {
		case db.terms.covers(h.Aliases, p.Drop):
			p.done.Indexed++
		case s != nil && mine:
			p.here(ctx, s)
		case s != nil: // on its way in or out
			p.done.Others++
		case !mine && !h.Released && alive[h.Owner.Incarnation], db.knows(&h) != nil:
			p.done.Remaining++
		case !mine && !p.All && ring.Owner(h.Session) != db.self.Node:
			p.done.Others++
		default:
			if some = append(some, h); len(some) == size {
				err = p.mark(ctx, some)
				some = nil
			}
		}
		if err != nil {
			return err
		}
	}
	if len(some) > 0 {
		if err := p.mark(ctx, some); err != nil {
			return err
		}
	}
	for _, l := range db.lanes {
		l.kick()
	}
	p.stored.finish(nil)
	return p.stored.wait(ctx)
}

// here indexes a session in this node's memory.
func (p *reindexing[V]) here(ctx context.Context, s *session[V]) {
	db := p.db
	for _, key := range p.keys {
		if _, err := db.fetch(ctx, s, anyLife, key, nil); err != nil {
			switch {
			case ctx.Err() != nil || errors.Is(err, ErrNotFound): // told otherwise; or it has just ended
			case db.retry(s, err):
				p.done.Others++
			default:
				p.fail(err)
			}
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has(release) || s.usable(anyLife) != nil {
		p.done.Others++
		return
	}
	db.remark(s)
	if !db.terms.covers(s.marks(), false) {
		p.fail(fmt.Errorf("%w: session %q has too many aliases and timers to be indexed", ErrTooLarge, s.id()))
		return
	}
	if s.saved == s.ver && (s.has(queued) || db.lane(s).push(s, db.now())) {
		db.headAgain(s) // the header on record has other marks
	}
	s.join(p.stored, s.ver)
	p.done.Marked++
}

// mark indexes sessions that are in nobody's memory, as their headers said.
func (p *reindexing[V]) mark(ctx context.Context, hs []store.Header) error {
	db := p.db
	if err := p.turn(ctx, len(hs)); err != nil {
		return err
	}
	var calls []*call[V]
	var asked []store.Header
	for _, h := range hs {
		if c := db.callFor(h.Session, sweep); c != nil {
			calls, asked = append(calls, c), append(asked, h)
		} else {
			p.done.Others++
		}
	}
	answer := func(why error) {
		for i, h := range asked {
			calls[i].err = why
			if why == nil {
				calls[i].err = sessionError(h.Session, ErrNotResident)
			}
			db.answer(db.stripe(h.Session), calls[i], h.Session, nil)
		}
	}
	done := make(chan struct{})
	var err error
	if !db.spawn(func(ctx context.Context) {
		defer close(done)
		err = p.markAll(ctx, asked)
		answer(nil)
	}) {
		answer(ErrClosed)
		return ErrClosed
	}
	<-done // soon, also if ctx is over: what the store has done is to be told
	return err
}

// markAll is mark, of sessions for which nobody on this node asks the store meanwhile.
func (p *reindexing[V]) markAll(ctx context.Context, hs []store.Header) error {
	db := p.db
	claims, err := db.claimAll(ctx, hs, p.keys)
	if err != nil {
		return err
	}
	var changes []store.Change
	var counts []*int // of changes that are applied
	for i := range claims {
		c := &claims[i]
		id := hs[i].Session
		switch {
		case c.Err != nil:
			p.fail(db.unanswered(id, c.Err))
			continue
		case c.Outcome == store.NotFound:
			continue
		case c.Outcome != store.Granted:
			p.done.Others++
			continue
		}
		h := c.Header
		names, count := h.Aliases, &p.done.Marked
		if db.knows(&h) != nil {
			count = &p.done.Remaining
		} else if names, err = p.names(c); err != nil {
			p.fail(err)
			names, count = h.Aliases, nil
		}
		changes, counts = append(changes, store.Change{
			Session: id, Owner: db.self, Epoch: h.Epoch, Seq: db.seq.Add(1), Release: !hs[i].HeldBy(db.self, h.Epoch) || hs[i].Released,
			Expires: h.Expires, Aliases: names, Schema: h.Schema,
		}), append(counts, count)
	}
	if len(changes) == 0 {
		return nil
	}
	results, err := db.decide(ctx, changes)
	for i, r := range results {
		switch o := r.Outcome; {
		case o == store.Applied || o == store.Already:
			if counts[i] != nil {
				*counts[i]++
			}
		case counts[i] == nil: // it has failed already
		case o == store.Fenced:
			p.done.Others++
		case o == store.Rejected:
			p.fail(&RejectedError{Session: changes[i].Session, Err: r.Err})
		default:
			p.fail(errors.Join(r.Err, fmt.Errorf("kvstore: session %q: the store did not answer whether it is indexed", changes[i].Session)))
		}
		if r.Outcome != store.Applied && r.Outcome != store.Already && r.Outcome != store.Fenced {
			db.astray.Store(true) // it may be this node's now; whoever asks for it finds it
		}
	}
	return err
}

// claimAll claims sessions, with entries. An error is of all.
func (db *DB[V]) claimAll(ctx context.Context, hs []store.Header, keys []string) ([]store.Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, db.opt.StoreTimeout)
	defer cancel()
	rs := make([]store.ClaimRequest, len(hs))
	for i := range hs {
		rs[i] = store.ClaimRequest{Session: hs[i].Session, Owner: db.self, Keys: keys}
	}
	claimer, ok := db.store.(store.Claimer)
	if !ok {
		cs := make([]store.Claim, len(rs))
		for i := range rs {
			cs[i], cs[i].Err = db.store.Claim(ctx, rs[i])
			db.heard(cs[i].Err)
		}
		return cs, nil
	}
	cs, err := claimer.ClaimAll(ctx, rs)
	if err == nil && len(cs) != len(rs) {
		err = fmt.Errorf("the store returned %d answers to %d claims", len(cs), len(rs))
	}
	db.heard(err)
	if err != nil {
		db.astray.Store(true)
		return nil, fmt.Errorf("the store did not answer claims: %w", err)
	}
	return cs, nil
}

// names returns the names that a session is to have which was claimed.
func (p *reindexing[V]) names(c *store.Claim) ([]string, error) {
	db, id := p.db, c.Header.Session
	names := slices.Clone(c.Header.Aliases)
	if p.Drop {
		names = slices.DeleteFunc(names, func(n string) bool { return isTermMark(n) && db.terms.indexOf(n) == nil })
	}
	for _, key := range p.keys {
		if slices.Contains(c.Unread, key) {
			return nil, fmt.Errorf("kvstore: session %q: %w", id, &store.CorruptError{Session: id, Key: key, Reason: "it cannot be read"})
		}
		cell := db.absent
		for i := range c.Entries {
			if e := &c.Entries[i]; e.Key == key {
				var err error
				if cell, err = db.decode(id, e); err != nil {
					return nil, fmt.Errorf("kvstore: session %q, key %q: %w", id, key, err)
				}
			}
		}
		names = remarked(id, db.terms.of(key), names, db.termsOf(cell))
	}
	marks := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !isMark(n) })
	if err := limitNames(id, slices.DeleteFunc(slices.Clone(names), isMark), marks); err != nil {
		return nil, err
	}
	if !db.terms.covers(names, false) {
		return nil, fmt.Errorf("%w: session %q has more index terms than it can have", ErrTooLarge, id)
	}
	return names, nil
}
