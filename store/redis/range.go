package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// rangePage is how many entries a page has at most. Of large ones it is fewer: it ends after about 1 MiB.
const rangePage = 1000

const afterFields = "0" // comes after all that fieldOf returns, and before the header

// LoadRange implements [store.Ranger]. It is one script, hence one view. A hash has no order, so for each page the script looks at the names of all entries of the
// session, and then reads those that the page has.
func (s *Store) LoadRange(ctx context.Context, session string, r store.Range) (store.Page, error) {
	if err := s.enter(ctx); err != nil {
		return store.Page{}, err
	}
	defer s.leave()
	page := store.Page{Snapshot: store.Snapshot{Header: store.Header{Session: session}}}
	limit, bytes := rangePage, math.MaxInt32
	if r.Limit > 0 {
		limit = min(limit, r.Limit)
	}
	if r.KeysOnly {
		bytes = binary.MaxVarintLen64 // the expiry
	}
	from, to := fieldOf(r.From), fieldOf(r.To)
	if r.To == "" {
		to = afterFields
	}
	common := 0
	for common < len(from) && common < len(to) && from[common] == to[common] {
		common++
	}
	b := &s.buckets[s.bucketOf(session)]
	c := &call{bucket: b, script: rangeScript, keys: 1, args: []any{b.session + session, from, to, common, limit, bytes}}
	s.run(ctx, c)
	answer, err := c.list()
	if err != nil {
		return page, err
	}
	if len(answer) != 4 {
		return page, errAnswer
	}
	var damaged []error
	if page.Header, err = parseHeader(session, answer[1]); err != nil {
		damaged = append(damaged, err)
	}
	es, bad, err := parseEntries(session, nil, true, answer[2], time.UnixMilli(whole(answer[0])))
	if r.KeysOnly {
		for i := range es {
			es[i].Value = nil
		}
	}
	page.Entries = es
	if next := text(answer[3]); next != "" {
		page.Next = next[1:]
	}
	return page, errors.Join(append(append(damaged, bad...), err)...)
}

var _ store.Ranger = (*Store)(nil)
