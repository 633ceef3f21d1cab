package nats

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/seed-6f1f505d/kvstore/store"
)

// read returns the latest document of a session.
func (s *Store) read(ctx context.Context, session string) (*document, error) {
	docs, errs, err := s.readAll(ctx, []string{session})
	if err != nil {
		return nil, err
	}
	return docs[0], errs[0]
}

var errOld = errors.New("the server that answers is behind: it was the leader of the stream once, or has lost what was acknowledged")

// readAll returns the latest documents of sessions; errs has those that cannot be read.
func (s *Store) readAll(ctx context.Context, sessions []string) (docs []*document, errs []error, err error) {
	docs, errs = make([]*document, len(sessions)), make([]error, len(sessions))
	todo := make([]int, len(sessions))
	for i := range todo {
		todo[i] = i
	}
	for attempt := 0; len(todo) > 0; attempt++ {
		if attempt > 0 && pause(ctx, attempt) != nil {
			return nil, nil, s.over(ctx, errOld)
		}
		asks := make([]*ask, len(todo))
		for n, i := range todo {
			asks[n] = s.last(s.documentSubject(sessions[i]))
		}
		if err := s.ask(ctx, asks...); err != nil {
			return nil, nil, err
		}
		var again []int
		for n, i := range todo {
			m, err := asks[n].found()
			switch {
			case err != nil:
				errs[i] = wrap(err)
				continue
			case s.cache.older(sessions[i], m.Seq, s.opt.TombstoneRetention):
				again = append(again, i)
				continue
			}
			if docs[i], errs[i] = decode(sessions[i], m); errs[i] == nil {
				s.cache.learn(docs[i])
			}
		}
		todo = again
	}
	return docs, errs, nil
}

// ownHeader returns h as its caller's own.
func ownHeader(h store.Header) store.Header {
	h.Aliases = slices.Clone(h.Aliases)
	return h
}

// Load implements [store.Store]. It asks the leader of the stream.
func (s *Store) Load(ctx context.Context, session string, keys ...string) (store.Snapshot, error) {
	snap := store.Snapshot{Header: store.Header{Session: session}}
	if err := s.enter(ctx); err != nil {
		return snap, err
	}
	defer s.leave()
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var last uint64
	for {
		d, err := s.read(ctx, session)
		if err != nil {
			return snap, err
		}
		got, err := s.entries(ctx, d, keys, len(keys) == 0)
		if err != nil {
			return snap, err
		}
		if got.gone && d.seq != last { // a later document has other pages
			last = d.seq
			continue
		}
		return store.Snapshot{Header: ownHeader(d.header), Entries: got.entries}, got.why
	}
}

// Below that many subjects in the stream they are listed with one question. The answer is one message, which must not be too long for the server to
// send.
const fewSubjects = 10_000

// walkWindow is how many documents a walk reads at once.
const walkWindow = 256

// Sessions implements [store.Store]. It lists the subjects of the documents, or those that the owner has in the index, and then reads the
// documents, 256 at a time. Nothing is in use while the caller's loop body runs.
func (s *Store) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		fail := func(err error) { yield(store.Header{}, fmt.Errorf("store/nats: walk not complete: %w", err)) }
		filters, err := s.listings(ctx, q)
		if err != nil {
			fail(err)
			return
		}
		for _, filter := range filters {
			sessions, err := s.list(ctx, filter)
			if err != nil {
				fail(err)
				return
			}
			for window := range slices.Chunk(sessions, walkWindow) {
				found, err := s.headers(ctx, q, window)
				if err != nil {
					fail(err)
					return
				}
				for _, f := range found {
					if !yield(f.header, f.err) {
						return
					}
				}
			}
		}
	}
}

// listings returns the subjects that a walk has to list, each to be listed with one question.
func (s *Store) listings(ctx context.Context, q store.Query) (filters []string, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	ctx, cancel := s.bound(ctx)
	defer cancel()
	in, err := s.info(ctx, "")
	if err != nil {
		return nil, err
	}
	of := s.prefix + "s."
	if q.Owner != (store.Incarnation{}) {
		of = s.prefix + "i." + q.Owner.String() + "."
	}
	if in.State.Count <= fewSubjects {
		return []string{of + ">"}, nil
	}
	for i := range buckets {
		filters = append(filters, of+bucketName(i)+".>")
	}
	return filters, nil
}

// list returns the sessions whose names the subjects end with.
func (s *Store) list(ctx context.Context, filter string) (sessions []string, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	ctx, cancel := s.bound(ctx)
	defer cancel()
	in, err := s.info(ctx, filter)
	if err != nil {
		return nil, err
	}
	for subject := range in.State.Subjects {
		session, ok := lastToken(subject)
		if !ok {
			return nil, fmt.Errorf("the subject %.100q is not one of kvstore's", subject)
		}
		sessions = append(sessions, session)
	}
	return sessions, nil
}

type found struct {
	header store.Header
	err    error // it is damaged
}

// headers returns those of the sessions that match q.
func (s *Store) headers(ctx context.Context, q store.Query, sessions []string) (fs []found, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	ctx, cancel := s.bound(ctx)
	defer cancel()
	docs, errs, err := s.readAll(ctx, sessions)
	if err != nil {
		return nil, err
	}
	var stale []claimed
	for i, d := range docs {
		switch {
		case errs[i] != nil:
			var corrupt *store.CorruptError
			if !errors.As(errs[i], &corrupt) {
				return nil, errs[i]
			}
			fs = append(fs, found{err: errs[i]})
		case q.Owner != (store.Incarnation{}) && (d.header.Owner.Incarnation != q.Owner || !d.header.Exists()):
			stale = append(stale, claimed{q.Owner, sessions[i]})
		case d.header.Exists():
			fs = append(fs, found{header: ownHeader(d.header)})
		}
	}
	s.tidy(nil, stale)
	return fs, nil
}
