package nats

import (
	"context"
	"errors"

	"github.com/seed-6f1f505d/kvstore/store"
)

// rangeBytes is about how many bytes of a session's pages one call of LoadRange reads.
const rangeBytes = 4 << 20

// LoadRange implements [store.Ranger]. The session's document is one view, as the pages that it refers to do not change. It asks the leader of the stream for
// it, and then, if the session is one of pages, for those that have some of the range, at most about 4 MiB of them. As keys are where the values are, KeysOnly saves
// nothing but memory.
func (s *Store) LoadRange(ctx context.Context, session string, r store.Range) (store.Page, error) {
	page := store.Page{Snapshot: store.Snapshot{Header: store.Header{Session: session}}}
	if err := s.enter(ctx); err != nil {
		return page, err
	}
	defer s.leave()
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var last uint64
	for {
		d, err := s.read(ctx, session)
		if err != nil {
			return page, err
		}
		got, next, err := s.between(ctx, d, r)
		if err != nil {
			return page, err
		}
		if got.gone && d.seq != last { // a later document has other pages
			last = d.seq
			continue
		}
		page.Header, page.Entries, page.Next = ownHeader(d.header), got.entries, next
		return page, got.why
	}
}

// within returns the parts that have keys of the range, as many as are read in one call, and where those begin that are left.
func (c content) within(r store.Range) (some content, next string) {
	bytes := 0
	for i := c.at(r.From); i < len(c) && (r.To == "" || c[i].first < r.To); i++ {
		if n := len(some); n > 0 && (bytes+c[i].size > rangeBytes || n == r.Limit) { // each has one entry at least
			return some, c[i].first
		}
		some, bytes = append(some, c[i]), bytes+c[i].size
	}
	return some, ""
}

// between returns the document's entries in a range, the first of them, and where the rest begins.
func (s *Store) between(ctx context.Context, d *document, r store.Range) (got reading, next string, err error) {
	now, err := s.now(ctx)
	if err != nil {
		return got, "", err
	}
	some, next := d.content().within(r)
	var bad badPages
	if len(d.pages) > 0 {
		read, need := map[uint64][]slot{}, make([]page, len(some))
		for i := range some {
			need[i] = some[i].page
		}
		if bad, err = s.readPages(ctx, d, need, read); err != nil {
			return got, "", err
		}
		got.gone = bad.gone
		for i := range some {
			some[i].slots = read[some[i].seq]
		}
	}
	for i := range some {
		if err := bad.why[some[i].seq]; err != nil {
			got.why = errors.Join(got.why, err)
		}
		for j := range some[i].slots {
			sl := &some[i].slots[j]
			switch {
			case !r.Has(sl.key) || sl.expires.Past(now):
			case r.Limit > 0 && len(got.entries) == r.Limit:
				return got, sl.key, nil
			case r.KeysOnly:
				got.entries = append(got.entries, store.Entry{Key: sl.key, Expires: sl.expires})
			default:
				e, err := sl.entry(d.header.Session)
				if err != nil {
					got.spoil(sl.key, err)
					continue
				}
				got.entries = append(got.entries, e)
			}
		}
	}
	return got, next, nil
}

var _ store.Ranger = (*Store)(nil)
