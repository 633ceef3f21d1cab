package postgres

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/seed-6f1f505d/kvstore/store"
)

// aboveAll is above every key, so that a range without an end has one, too: the server reads no more of its index than is between the two.
var aboveAll = bytes.Repeat([]byte{0xff}, store.MaxKey+1)

// LoadRange implements [store.Ranger]. It is one statement, hence one view, and reads of the index what is in the range, up to r.Limit entries that
// have not expired and one more. Without values the server does not look for those that it keeps apart from their rows (TOAST). A limit of 0 or less is none.
func (s *Store) LoadRange(ctx context.Context, session string, r store.Range) (store.Page, error) {
	if err := s.enter(ctx); err != nil {
		return store.Page{}, err
	}
	defer s.leave()
	page := store.Page{Snapshot: store.Snapshot{Header: store.Header{Session: session}}}
	to := aboveAll
	if r.To != "" {
		to = []byte(r.To)
	}
	var most *int64 // NULL is no limit
	if r.Limit > 0 {
		n := int64(r.Limit) + 1
		most = &n
	}
	rows, err := s.pool.Query(ctx, s.sql.loadRange, []byte(session), []byte(r.From), to, most, r.KeysOnly)
	if err != nil {
		return page, wrap(err)
	}
	defer rows.Close()
	var damaged error
	for rows.Next() {
		var h header
		var key, value []byte
		var until int64
		if err := rows.Scan(append(h.dest(), &key, &value, &until)...); err != nil {
			return page, wrap(err)
		}
		if h.incarnation != nil {
			page.Header, damaged = h.head(session)
		}
		if value == nil {
			continue // the header has come without a main entry in the range
		}
		e := store.Entry{Key: string(key), Expires: store.Time(until)}
		if !r.KeysOnly {
			e.Value = value
		}
		page.Entries = append(page.Entries, e)
	}
	if err := rows.Err(); err != nil {
		return page, errors.Join(damaged, wrap(err))
	}
	// They come in order, but SQL does not promise that of a UNION.
	slices.SortFunc(page.Entries, func(a, b store.Entry) int { return strings.Compare(a.Key, b.Key) })
	if r.Limit > 0 && len(page.Entries) > r.Limit {
		page.Entries, page.Next = page.Entries[:r.Limit], page.Entries[r.Limit].Key
	}
	return page, damaged
}

var _ store.Ranger = (*Store)(nil)
