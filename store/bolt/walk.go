package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// walkPage is how many headers one read transaction of a walk looks at.
const walkPage = 512

// Sessions implements [store.Store]. The walk reads pages of 512 headers, each in a short transaction of
// its own, and no transaction is open while the caller's loop body runs. So a
// slow or abandoned walk holds nothing, and the body may write.
func (s *Store) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		w := walk{query: q}
		for !w.done {
			if err := s.walkPage(ctx, &w); err != nil {
				w.found = append(w.found, found{err: fmt.Errorf("store/bolt: walk not complete: %w", err)})
				w.done = true
			}
			for _, f := range w.found {
				if !yield(f.header, f.err) {
					return
				}
			}
		}
	}
}

type walk struct {
	query store.Query
	next  []byte  // the key to go on from; nil at the start
	found []found // of the last page
	done  bool
}

type found struct {
	header store.Header
	err    error
}

// walkPage reads the next page of w.
func (s *Store) walkPage(ctx context.Context, w *walk) error {
	w.found = w.found[:0] // they were yielded
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	return s.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketSessions)
		if b == nil {
			return &faultError{cause: "a bucket is missing"}
		}
		sound, err := newSound(tx, b, bucketSessions)
		if err != nil {
			return &faultError{cause: err}
		}
		if err := sound.at(w.next, false); err != nil {
			return &faultError{cause: err}
		}
		c := b.Cursor()
		k, v := c.Seek(w.next)
		last := w.next
		from := w.next // where k was looked for
		for n := 0; k != nil; n++ {
			// On a damaged page keys may be out of order, and a walk by keys would turn in a circle.
			if len(k) > maxRecordKey || n == 0 && bytes.Compare(k, last) < 0 || n > 0 && bytes.Compare(k, last) <= 0 {
				return &faultError{cause: "keys are out of order"}
			}
			last = k
			// Part of an old page, in the place of a new one, has old headers with good checksums; not where they belong. And
			// what a damaged page does not show, bbolt passes by.
			if err := sound.through(from, k); err != nil {
				return &faultError{cause: err}
			}
			if n == walkPage {
				w.next = bytes.Clone(k)
				return nil
			}
			prefix, more := w.visit(s, k, v)
			if from = k; more {
				from = afterEntries(nil, prefix)
				if err := sound.at(from, false); err != nil {
					return &faultError{cause: err}
				}
				k, v = c.Seek(from)
			} else {
				k, v = c.Next()
			}
		}
		if err := sound.through(from, nil); err != nil {
			return &faultError{cause: err}
		}
		w.done = true
		return nil
	})
}

// visit looks at the record where a session's header should be, and reports
// whether entry records of that session may follow, to be jumped over.
func (w *walk) visit(s *Store, k, v []byte) (prefix []byte, more bool) {
	prefix, session, _, entry, err := parseKey(k)
	var h header
	switch {
	case err != nil: // whose it was, nobody can tell
		prefix, session, err = nil, k, fmt.Errorf("the record's key is damaged: %w", err)
	case entry:
		err = errors.New("it is missing, and there are entries")
	default:
		h, err = decodeHeader(k, v)
	}
	if err != nil {
		w.found = append(w.found, found{err: s.wrap(&store.CorruptError{Session: string(session), Header: true, Reason: err.Error()})})
		return prefix, prefix != nil
	}
	if h.flags&flagDeleted == 0 && (w.query.Owner == store.Incarnation{} || w.query.Owner == h.incarnation) {
		w.found = append(w.found, found{header: h.head(string(session))})
	}
	return prefix, h.flags&flagEntries != 0
}
