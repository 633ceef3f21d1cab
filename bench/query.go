package main

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// This file measures what secondary indexes cost a Put, and what a page of a query by one takes: as long as a page, however many sessions there are.

func queryRows(*config) []spec {
	return []spec{
		{"terms/put", "DB.Put with two indexes, whose terms do not change; bare: without", "×", "≤", 2},
		{"terms/put/changed", "likewise, and both terms change each time", "×", "", 0},
		{"query/merged", "first 100 rows by an index, all sessions in memory; bare: among a hundredth of the sessions", "×", "≤", 2},
		{"query/stored", "likewise, none in memory", "×", "≤", 2},
		{"query/stored/read", "first 100 rows by an index, none in memory; bare: Find, and Load of a hundred by hand, one after the other", "×", "", 0},
	}
}

// seat is a value with two terms.
type seat struct {
	User, Room string
	Data       []byte
}

var seatIndexes = []kvstore.Index[seat]{
	{Name: "byUser", Terms: func(s seat) []string { return []string{s.User} }},
	{Name: "byRoom", Terms: func(s seat) []string { return []string{s.Room} }},
}

func runQuery(r *runner) error {
	for _, name := range []string{"terms/put", "terms/put/changed"} {
		if r.wants(name) {
			if err := runTerms(r, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if !r.wantsAny(queryRows(r.config)[2:]) {
		return nil
	}
	return runPages(r)
}

func runTerms(r *runner, name string) error {
	sessions, ops := r.pick(1000, 10), r.pick(400_000, 1000)
	ctx := context.Background()
	var values []seat
	for i := range 8 {
		n := 0
		if name == "terms/put/changed" {
			n = i
		}
		values = append(values, seat{fmt.Sprintf("user-%d", n), fmt.Sprintf("room-%d", n), make([]byte, 256)})
	}
	timed := func(indexes ...kvstore.Index[seat]) (func() (float64, error), func() error, error) {
		d, err := kvstore.Open(ctx, discard{memory.New()}, options(), indexes...)
		if err != nil {
			return nil, nil, err
		}
		ids := make([]string, sessions)
		for i := range ids {
			ids[i] = fmt.Sprintf("session-%d", i)
			if err := d.Put(ctx, ids[i], values[0]); err != nil {
				return nil, nil, err
			}
		}
		return func() (float64, error) {
			start := time.Now()
			for n := range ops {
				if err := d.Put(ctx, ids[n%sessions], values[n/sessions%len(values)]); err != nil {
					return 0, err
				}
			}
			return float64(time.Since(start)) / float64(ops), nil
		}, func() error { return d.Close(ctx) }, nil
	}
	ours, closeOurs, err := timed(seatIndexes...)
	if err != nil {
		return err
	}
	bare, closeBare, err := timed()
	if err != nil {
		return err
	}
	pairs, err := r.alternate(name, nil, ours, bare)
	if err != nil {
		return err
	}
	r.reportPairs(name, pairs, fmt.Sprintf("%d sessions", sessions))
	if err := closeOurs(); err != nil {
		return err
	}
	return closeBare()
}

// hall is a store with sessions of which a hundred each have one user.
type hall struct {
	st       *memory.Store
	owner    *kvstore.DB[seat] // has all of them in memory
	stranger *kvstore.DB[seat] // has none
}

const perUser = 100

func newHall(sessions int) (h *hall, err error) {
	ctx := context.Background()
	h = &hall{st: memory.New()}
	o := options()
	if h.owner, err = kvstore.Open(ctx, h.st, o, seatIndexes...); err != nil {
		return nil, err
	}
	o.Node = "stranger"
	if h.stranger, err = kvstore.Open(ctx, h.st, o, seatIndexes...); err != nil {
		return nil, err
	}
	users := max(sessions/perUser, 1)
	for i := range sessions {
		s, err := h.owner.Create(ctx, fmt.Sprintf("session-%d", i))
		if err != nil {
			return nil, err
		}
		if err := s.Put(ctx, "", seat{fmt.Sprintf("user-%d", i%users), "room", nil}); err != nil {
			return nil, err
		}
	}
	return h, h.owner.Flush(ctx)
}

func (h *hall) close() error {
	ctx := context.Background()
	if err := h.stranger.Close(ctx); err != nil {
		return err
	}
	return h.owner.Close(ctx)
}

func runPages(r *runner) error {
	ctx := context.Background()
	n := r.pick(r.sessions, 10_000)
	large, err := newHall(n)
	if err != nil {
		return err
	}
	small, err := newHall(max(n/100, perUser))
	if err != nil {
		return err
	}
	pages := r.pick(300, 10)
	timed := func(h *hall, ask func(context.Context, kvstore.Query[seat]) (kvstore.Answer[seat], error), users int) func() (float64, error) {
		return func() (float64, error) {
			start := time.Now()
			for i := range pages {
				a, err := ask(ctx, kvstore.Query[seat]{Index: "byUser", Term: fmt.Sprintf("user-%d", i*7919%users)})
				if err != nil || len(a.Rows) != perUser {
					return 0, fmt.Errorf("a page of %d rows: %w", len(a.Rows), err)
				}
			}
			return float64(time.Since(start)) / float64(pages), nil
		}
	}
	many, few := max(n/perUser, 1), max(n/100/perUser, 1)
	for _, row := range []struct {
		name       string
		ours, bare func() (float64, error)
	}{
		{"query/merged", timed(large, large.owner.Merged, many), timed(small, small.owner.Merged, few)},
		{"query/stored", timed(large, large.stranger.Stored, many), timed(small, small.stranger.Stored, few)},
		{"query/stored/read", timed(large, large.stranger.Stored, many), large.byHand(pages)},
	} {
		if !r.wants(row.name) {
			continue
		}
		pairs, err := r.alternate(row.name, nil, row.ours, row.bare)
		if err != nil {
			return err
		}
		r.reportPairs(row.name, pairs, fmt.Sprintf("%d sessions", n))
	}
	if err := large.close(); err != nil {
		return err
	}
	return small.close()
}

// byHand reads as many sessions as a page has, and decodes them, by itself.
func (h *hall) byHand(pages int) func() (float64, error) {
	ctx := context.Background()
	// How marks are spelled is not for others to know: any hundred that stand together are as good.
	return func() (float64, error) {
		start := time.Now()
		from := ""
		for range pages {
			found, err := h.st.Find(ctx, store.AliasRange{From: from, Limit: perUser})
			if err != nil {
				return 0, err
			}
			from = found.Next
			for _, n := range found.Aliases {
				snap, err := h.st.Load(ctx, n.Header.Session, "")
				if err != nil {
					return 0, err
				}
				var s seat
				if err := (kvstore.Msgpack{}).Decode(snap.Entries[0].Value, &s); err != nil {
					return 0, err
				}
			}
		}
		return float64(time.Since(start)) / float64(pages), nil
	}
}
