package redis

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Load implements [store.Store]. It is one script, hence one view, and is never a replica's.
func (s *Store) Load(ctx context.Context, session string, keys ...string) (store.Snapshot, error) {
	if err := s.enter(ctx); err != nil {
		return store.Snapshot{}, err
	}
	defer s.leave()
	snap := store.Snapshot{Header: store.Header{Session: session}}
	b := &s.buckets[s.bucketOf(session)]
	c := &call{bucket: b, script: loadScript, keys: 1, args: appendFields([]any{b.session + session}, keys)}
	s.run(ctx, c)
	answer, err := c.list()
	if err != nil {
		return snap, err
	}
	if len(answer) != 3 {
		return snap, errAnswer
	}
	var damaged []error
	if snap.Header, err = parseHeader(session, answer[1]); err != nil {
		damaged = append(damaged, err)
	}
	es, bad, err := parseEntries(session, keys, len(keys) == 0, answer[2], time.UnixMilli(whole(answer[0])))
	snap.Entries = es
	return snap, errors.Join(append(append(damaged, bad...), err)...)
}

// walkPage is how many headers one round trip of a walk reads, and one script at most. A script that reads a thousand takes the server about a millisecond.
const (
	walkRound = 4000
	walkPage  = 1000
)

// Sessions implements [store.Store]. It reads pages of headers in the order of their IDs, each in a script of its own, of several
// buckets in one round trip.
func (s *Store) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		ws := make([]*walk, len(s.buckets))
		for i := range ws {
			ws[i] = newWalk(&s.buckets[i], q)
		}
		for len(ws) > 0 {
			now := ws[:min(len(ws), walkRound/16)]
			limit := min(walkRound/len(now), walkPage)
			found, err := s.walkOn(ctx, now, limit)
			for _, f := range found {
				if !yield(f.header, f.err) {
					return
				}
			}
			if err != nil {
				yield(store.Header{}, fmt.Errorf("store/redis: walk not complete: %w", err))
				return
			}
			rest := ws[:0]
			for _, w := range ws {
				if !w.done {
					rest = append(rest, w)
				}
			}
			ws = rest
		}
	}
}

// walk is a walk over one bucket.
type walk struct {
	bucket   *bucket
	owner    store.Incarnation
	index    string
	from, to string // as ZRANGEBYLEX takes them
	prefix   int    // of the index's members, in bytes
	done     bool
}

type found struct {
	header store.Header
	err    error // it is damaged
}

func newWalk(b *bucket, q store.Query) *walk {
	w := &walk{bucket: b, owner: q.Owner, index: b.live, from: "-", to: "+"}
	if q.Owner != (store.Incarnation{}) {
		w.index, w.prefix = b.owned, len(q.Owner)
		w.from = "[" + string(q.Owner[:])
		if after, ok := next(q.Owner); ok {
			w.to = "(" + string(after[:])
		}
	}
	return w
}

// next returns the incarnation after one, if there is one.
func next(i store.Incarnation) (store.Incarnation, bool) {
	for at := len(i) - 1; at >= 0; at-- {
		if i[at]++; i[at] != 0 {
			return i, true
		}
	}
	return i, false
}

// walkOn reads a page of each of the walks.
func (s *Store) walkOn(ctx context.Context, ws []*walk, limit int) (all []found, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	calls := make([]*call, len(ws))
	for i, w := range ws {
		calls[i] = &call{bucket: w.bucket, script: walkScript, keys: 1, args: []any{w.index, w.from, w.to, limit, w.prefix, w.bucket.session}}
	}
	s.run(ctx, calls...)
	for i, w := range ws {
		page, err := calls[i].list()
		if err != nil {
			return nil, err
		}
		w.done = len(page) < 2*limit
		for ; len(page) >= 2; page = page[2:] {
			id := text(page[0])
			w.from = "(" + string(w.owner[:w.prefix]) + id
			f := found{}
			f.header, f.err = parseHeader(id, page[1])
			switch {
			case f.err != nil:
				f.header = store.Header{}
			case !f.header.Exists() || w.prefix > 0 && f.header.Owner.Incarnation != w.owner:
				continue // the index may have more than there is
			}
			all = append(all, f)
		}
	}
	return all, nil
}
