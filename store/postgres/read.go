package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/jackc/pgx/v5"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Load implements [store.Store]. It is one statement, hence one view.
func (s *Store) Load(ctx context.Context, session string, keys ...string) (store.Snapshot, error) {
	if err := s.enter(ctx); err != nil {
		return store.Snapshot{}, err
	}
	defer s.leave()
	snap := store.Snapshot{Header: store.Header{Session: session}}
	var wanted [][]byte
	if len(keys) > 0 {
		wanted = bytesOf(keys)
	}
	rows, err := s.pool.Query(ctx, s.sql.load, []byte(session), wanted)
	if err != nil {
		return snap, wrap(err)
	}
	defer rows.Close()
	var damaged error
	for rows.Next() {
		var h header
		var key, value []byte
		var until int64
		if err := rows.Scan(append(h.dest(), &key, &value, &until)...); err != nil {
			return snap, wrap(err)
		}
		if h.incarnation != nil {
			snap.Header, damaged = h.head(session)
			key = []byte{}
		}
		if value != nil {
			snap.Entries = append(snap.Entries, store.Entry{Key: string(key), Value: value, Expires: store.Time(until)})
		}
	}
	return snap, errors.Join(damaged, wrap(rows.Err()))
}

// Lookup implements [store.Directory]. It is one statement.
func (s *Store) Lookup(ctx context.Context, alias string) (store.Header, error) {
	if err := s.enter(ctx); err != nil {
		return store.Header{}, err
	}
	defer s.leave()
	var h header
	var session []byte
	err := s.pool.QueryRow(ctx, s.sql.lookup, []byte(alias)).Scan(append(h.dest(), &session)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return store.Header{}, nil
	}
	if err != nil {
		return store.Header{}, wrap(err)
	}
	return h.head(string(session))
}

// findPage is how many aliases a Find reads at most.
const findPage = 256

// aboveAliases is above every alias, so that a range without an end has one, too: see aboveAll.
var aboveAliases = bytes.Repeat([]byte{0xff}, store.MaxAlias+1)

// Find implements [store.Finder]. It is one round trip and one statement, hence one view, and reads 256 aliases at most, those of sessions that are gone included.
func (s *Store) Find(ctx context.Context, r store.AliasRange) (f store.Found, err error) {
	if err := s.enter(ctx); err != nil {
		return f, err
	}
	defer s.leave()
	to := aboveAliases
	if r.To != "" {
		to = []byte(r.To)
	}
	limit := findPage
	if r.Limit > 0 {
		limit = min(limit, r.Limit)
	}
	// The planner does not know how many aliases a range has, and may have planned when there were few; if it takes the range for a small one, it reads all of it, to
	// sort it. So it is told to go by the index, as in the schema's functions. Statements that are sent together are one transaction, in which that holds.
	var both pgx.Batch
	both.Queue(s.sql.byIndex)
	both.Queue(s.sql.find, []byte(r.From), to, limit+1)
	answers := s.pool.SendBatch(ctx, &both)
	defer answers.Close()
	if _, err := answers.Exec(); err != nil {
		return f, wrap(err)
	}
	rows, err := answers.Query()
	if err != nil {
		return f, wrap(err)
	}
	defer rows.Close()
	var damaged []error
	for n := 0; rows.Next(); n++ {
		var h header
		var session, alias []byte
		if err := rows.Scan(append(h.dest(), &session, &alias)...); err != nil {
			return store.Found{}, wrap(err)
		}
		if n == limit {
			f.Next = string(alias)
			break
		}
		switch head, err := h.head(string(session)); {
		case err != nil:
			damaged = append(damaged, err)
		case head.Epoch > 0:
			f.Aliases = append(f.Aliases, store.Named{Alias: string(alias), Header: head})
		}
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return store.Found{}, wrap(err) // of a page that was cut off nothing is told: where the rest begins is not known
	}
	return f, errors.Join(damaged...)
}

// bytesOf returns strings as the driver takes them for bytea[]; never nil, which would be NULL.
func bytesOf(ss []string) [][]byte {
	b := make([][]byte, len(ss))
	for i, s := range ss {
		b[i] = []byte(s)
	}
	return b
}

// walkPage is how many headers one statement of a walk reads.
const walkPage = 1000

// Sessions implements [store.Store]. It reads pages of 1000 headers in the order of their IDs, each in a statement of its own; no
// connection is in use while the caller's loop body runs.
func (s *Store) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		for last, done := []byte{}, false; !done; {
			page, err := s.walkPage(ctx, q, last)
			for _, f := range page {
				if !yield(f.header, f.err) {
					return
				}
				last = []byte(f.session)
			}
			if err != nil {
				yield(store.Header{}, fmt.Errorf("store/postgres: walk not complete: %w", err))
				return
			}
			done = len(page) < walkPage
		}
	}
}

type found struct {
	session string
	header  store.Header
	err     error // it is damaged
}

func (s *Store) walkPage(ctx context.Context, q store.Query, after []byte) (page []found, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	sql, args := s.sql.sessions, []any{after, walkPage}
	if q.Owner != (store.Incarnation{}) {
		sql, args = s.sql.owned, append(args, [16]byte(q.Owner))
	}
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var h header
		var session []byte
		if err := rows.Scan(append(h.dest(), &session)...); err != nil {
			return nil, err
		}
		f := found{session: string(session)}
		if f.header, f.err = h.head(f.session); f.err != nil {
			f.header = store.Header{}
		}
		page = append(page, f)
	}
	if err := rows.Err(); err != nil {
		return nil, err // of a page that was cut off nothing is told: it is read again, or never
	}
	return page, nil
}
