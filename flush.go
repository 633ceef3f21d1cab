package kvstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is one flush: gather a batch of what is ready, Apply, settle each session by its result. While the
// store has one batch, the last one is settled and the next one gathered: so it seldom waits for the lane, nor the lane for it.

// Encoded bytes after which a batch is full, whatever its number of sessions.
const batchBytes = 4 << 20

// flush sends one batch of what is ready. If some of the next one is there when the store has answered, then that is sent before the
// answer is settled, in the next flush: so the store does not wait for this either. A session is in one of the two only.
func (l *lane[V]) flush(ctx context.Context) {
	db, b := l.db, l.batch() // some of it may be there, from while the store had the last one
	if len(l.first) > 0 {
		l.conclude() // who is waited for may have changed again while it was in that batch
	}
	var until <-chan struct{}
	if l.owed != nil {
		until = atOnce
	}
	suspect, ok := l.gather(b, false, until)
	if !ok || !l.launch(b) {
		l.conclude()
		return
	}
	defer l.settled()

	puts, deletes := b.puts, b.deletes
	for i := range b.flights {
		f := &b.flights[i]
		puts, deletes = f.finish(puts, deletes)
		if f.changes() {
			b.sent = append(b.sent, i)
			b.changes = append(b.changes, f.change)
		} else { // there is nothing left to write
			l.settle(f, store.Result{Outcome: store.Applied}, false)
		}
	}
	if len(b.changes) == 0 {
		l.conclude()
		if l.land(b) {
			b.reset()
		}
		return
	}
	results, waited, err := l.send(ctx, b)
	if !l.land(b) {
		return
	}
	if err != nil {
		results = make([]store.Result, len(b.changes))
		for i := range results {
			results[i].Err = err
		}
	}
	answered := slices.ContainsFunc(results, func(r store.Result) bool { return r.Outcome != store.Undecided })
	switch {
	case answered:
		l.succeeded()
	case !suspect: // a suspect waits for itself, and proves nothing
		l.failed(len(b.changes))
	}
	// One session failed while the store answers others: it is to blame itself.
	b.results, b.alone = results, answered || suspect || len(b.changes) == 1 && l.fails <= outage
	l.owed = b
	l.filling = 1 - l.filling
	if answered && waited && l.limit == db.opt.MaxBatch && l.begun() {
		return
	}
	l.conclude()
	if l.limit < db.opt.MaxBatch {
		l.unload()
	}
}

// conclude settles the batch that the store has answered, if there is one.
func (l *lane[V]) conclude() {
	b := l.owed
	if b == nil {
		return
	}
	l.owed = nil
	for i, r := range b.results {
		l.settle(&b.flights[b.sent[i]], r, b.alone)
	}
	b.reset()
	if l.db.sieve != nil {
		l.db.sieve.shrink(l.db, nil)
	}
}

// send calls the store with a batch. Meanwhile it settles the last one, and gathers the next one, if there is something for one and nothing
// failed lately: what follows a failure is chosen after it. It reports whether the store took longer than this.
func (l *lane[V]) send(ctx context.Context, b *batch[V]) (rs []store.Result, waited bool, err error) {
	more := len(l.ready) > 0 && l.limit == l.db.opt.MaxBatch
	if l.owed == nil && !more {
		rs, err = l.db.apply(ctx, b.changes)
		return rs, false, err
	}
	answer := make(chan struct{})
	go func() {
		defer close(answer)
		rs, err = l.db.apply(ctx, b.changes)
	}()
	l.conclude()
	if more {
		l.gather(&l.batches[1-l.filling], true, answer)
	}
	select {
	case <-answer:
	default:
		waited = true
		<-answer
	}
	return rs, waited, err
}

// batch is the one that is sent next.
func (l *lane[V]) batch() *batch[V] { return &l.batches[l.filling] }

// begun reports whether some of the next batch is there.
func (l *lane[V]) begun() bool { return len(l.batch().flights) > 0 }

// unload has what is in the next batch wait again.
func (l *lane[V]) unload() {
	b := l.batch()
	for i := range b.flights {
		b.flights[i].unsent = true
		l.settle(&b.flights[i], store.Result{}, false)
	}
	if l.land(b) {
		b.reset()
	}
}

// lookahead is how long, in nanoseconds, those who wait for the answer to a batch wait for the next one to be gathered, beside the one value that is being
// encoded.
const lookahead = int64(time.Millisecond)

// atOnce is closed.
var atOnce = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// gather fills a batch; or, ahead of its time, a part of one, with what nobody waits for. When until is closed it goes on for no longer than
// lookahead. It reports whether the batch is of a session that has failed before, alone; and false if Close has handed it over.
func (l *lane[V]) gather(b *batch[V], ahead bool, until <-chan struct{}) (suspect, ok bool) {
	db, limit, bytes := l.db, l.limit, batchBytes
	if ahead { // the rest is for those that are waited for by the time
		limit, bytes = limit-(limit+3)/4, bytes-bytes/4
	}
	now, urgents := db.now(), 0
	for len(b.flights) < limit && len(b.arena) < bytes && !suspect {
		// Those that are waited for go first, but never take the whole batch: the others have a bound to their lag.
		from, urgent := &l.ready, false
		if len(l.first) > 0 && !ahead && (len(l.ready) == 0 || urgents < (l.limit+1)/2) {
			from, urgent = &l.first, true
		}
		if len(*from) == 0 {
			break
		}
		s, taken := (*from)[0], false
		s.mu.Lock()
		if urgent {
			s.unset(urged)
		}
		switch alone := s.failed() > 0; {
		case s.has(flying) && urgent: // it is in this batch, and someone waits for what changed since: in the next one
			s.set(urged)
			from = nil
		case s.has(flying): // likewise, and it is in the queue, for its own time
		case !s.has(queued): // it was flushed before its turn
		case alone && urgent: // it has a time of its own, and is in another list
		case alone && s.x.due > now: // it changed, and came by the queue
			s.turn = 0
			l.retry = append(l.retry, delayed[V]{s, s.x.due, s.since})
		case alone && (ahead || len(b.flights) > 0):
			from = nil // it failed before: in a batch of its own, it harms nobody
		default:
			l.unqueue(s)
			taken, suspect = b.collect(db, s), alone
			if taken && !l.launch(b) {
				last := len(b.flights) - 1
				db.recall(&b.flights[last])
				s.mu.Unlock()
				b.flights = b.flights[:last]
				return suspect, false
			}
		}
		s.mu.Unlock()
		if from == nil {
			break
		}
		(*from)[0] = nil
		*from = (*from)[1:]
		if taken {
			if urgent {
				urgents++
			}
			b.encode(db, &b.flights[len(b.flights)-1])
			if until != nil && db.now()-now > lookahead {
				select {
				case <-until:
					return suspect, true
				default:
				}
			}
		}
	}
	return suspect, true
}

// launch shows Close what is under way, from before it is encoded. It reports false if Close does not wait for it any
// more, and has handed it over.
func (l *lane[V]) launch(b *batch[V]) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.abandoned {
		b.aloft = b.flights
	}
	return !l.abandoned
}

// land is the opposite: the answer is there.
func (l *lane[V]) land(b *batch[V]) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.aloft = nil
	return !l.abandoned
}

// recall takes back what was collected a moment ago. Caller holds the session's mu, and has not let go of it since.
func (db *DB[V]) recall(f *flight[V]) {
	s := f.s
	s.unset(flying)
	s.setIf(head, f.head)
	s.setIf(wipe, f.change.Wipe)
	f.ended = true
	db.land(f, false, nil)
}

// apply calls the store, and turns whatever it does into results or an error.
func (db *DB[V]) apply(ctx context.Context, changes []store.Change) (rs []store.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, db.opt.StoreTimeout)
	defer cancel()
	start := db.now()
	rs, err = db.store.Apply(ctx, changes)
	if err == nil && len(rs) != len(changes) {
		err = fmt.Errorf("kvstore: the store returned %d results for %d changes", len(rs), len(changes))
	}
	db.heard(err)
	if err != nil {
		db.count.retries.Add(1)
		db.log.Warn("kvstore: flush failed, to be repeated", "sessions", len(changes), "error", err)
		return nil, err
	}
	db.hard.acks.Add(1)
	db.count.flushes.Add(1)
	db.count.flushTime.Add(db.now() - start)
	return rs, nil
}
