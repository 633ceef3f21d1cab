package kvstore

import (
	"context"
	"fmt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file adopts many sessions with one question to the store, where that can answer it.

// claimBatch is the most claims in one question.
const claimBatch = 256

// question is how sessions are asked for, many at once. Their main entries come with them.
type question struct {
	claimer store.Claimer
	keys    []string // and these
	whole   bool     // and all the others
}

// bringAll adopts sessions as bring does, with one question for all those that are neither here nor on their way. It returns what
// became of each.
func (db *DB[V]) bringAll(ctx context.Context, q question, ids []string) []error {
	errs := make([]error, len(ids))
	calls := make([]*call[V], len(ids))
	var asked []int
	for i, id := range ids {
		if calls[i] = db.callFor(id, adopt); calls[i] != nil {
			asked = append(asked, i)
		}
	}
	if len(asked) > 0 && !db.spawn(func(ctx context.Context) { db.askAll(ctx, q, ids, calls, asked) }) {
		for _, i := range asked {
			calls[i].err = ErrClosed
			db.answer(db.stripe(ids[i]), calls[i], ids[i], nil)
		}
	}
	for i, c := range calls {
		if c == nil {
			_, errs[i] = db.bring(ctx, ids[i], adopt, q.keys)
			continue
		}
		select {
		case <-c.done:
			errs[i] = c.err
		case <-ctx.Done():
			errs[i] = ctx.Err()
		}
	}
	return errs
}

// callFor returns a new call for a session that is not here, which its caller has to answer; nil if it is, or somebody asks
// already, or nothing is taken in any more, or there can be no such session: bring says so.
func (db *DB[V]) callFor(id string, how how) *call[V] {
	if checkID(id) != nil {
		return nil
	}
	st := db.stripe(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	if db.closing.Load() || db.draining.Load() || db.sessions.load(id) != nil || st.calls[id] != nil {
		return nil
	}
	c := &call[V]{how: how, done: make(chan struct{})}
	st.calls[id] = c
	return c
}

// askAll is the goroutine of the calls at the places asked.
func (db *DB[V]) askAll(ctx context.Context, q question, ids []string, calls []*call[V], asked []int) {
	ctx, cancel := context.WithTimeout(ctx, db.opt.StoreTimeout)
	defer cancel()
	keys := append([]string{""}, q.keys...)
	rs := make([]store.ClaimRequest, len(asked))
	for n, i := range asked {
		rs[n] = store.ClaimRequest{Session: ids[i], Owner: db.self, Keys: keys, All: q.whole}
	}
	gen, start := db.lease.gen.Load(), db.now()
	cs, err := q.claimer.ClaimAll(ctx, rs)
	if err == nil && len(cs) != len(rs) {
		err = fmt.Errorf("the store returned %d answers to %d claims", len(cs), len(rs))
	}
	db.heard(err)
	for n, i := range asked {
		var s *session[V]
		switch c := calls[i]; {
		case err != nil:
			c.err = db.unanswered(ids[i], err)
		case cs[n].Err != nil:
			c.err = db.unanswered(ids[i], cs[n].Err)
		default:
			if s, c.err = db.claimed(ids[i], &cs[n], keys, gen, start); s != nil && q.whole {
				s.completed(&cs[n])
			}
		}
		db.answer(db.stripe(ids[i]), calls[i], ids[i], s)
	}
}

// completed says that all of a session is in memory, if all of it has come, and could be decoded. Nobody but the expirer knows the session yet.
func (s *session[V]) completed(c *store.Claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range c.Entries {
		if e := s.lookup(c.Entries[i].Key); e == nil || e.cell.Load() == nil {
			return // who asks for all of it, asks the store, and is told
		}
	}
	s.assign(complete, len(c.Unread) == 0)
}
