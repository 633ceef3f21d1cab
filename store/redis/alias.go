package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Lookup implements [store.Directory], for a keyspace of one bucket. It is one script.
func (s *Store) Lookup(ctx context.Context, alias string) (store.Header, error) {
	if err := s.enter(ctx); err != nil {
		return store.Header{}, err
	}
	defer s.leave()
	if len(s.buckets) > 1 {
		return store.Header{}, errBuckets("")
	}
	b := &s.buckets[0]
	c := &call{bucket: b, script: lookupScript, keys: 2, args: []any{b.nodes, b.aliases, alias, b.session}}
	s.run(ctx, c)
	answer, err := c.list()
	if err != nil || len(answer) == 0 {
		return store.Header{}, err
	}
	if len(answer) != 2 {
		return store.Header{}, errAnswer
	}
	return parseHeader(text(answer[0]), answer[1])
}

// A hash has no order, so a sorted set of the bucket has all aliases once more, with one score, which keeps them in the order of their bytes. The step that changes the
// hash changes the set:
//
//	the set has the aliases of the hash, and no others
//
// But a script may fail between the two, and programs from before there was the set change the hash alone. So what is in the set is looked up in the hash all the same, and if
// they do not have as many aliases, the set is made what the hash is before it is read. What escapes that: that others who do not know the set gave away as many aliases as they
// took. They are gone, then, or it is found when the numbers differ next.

const (
	findPage  = 256  // aliases that one script of a Find looks at; each with a session's header
	orderPage = 1000 // aliases that one script looks at that repairs the set; it takes about a millisecond
)

// Find implements [store.Finder], for a keyspace of one bucket. It is one script, hence one view, which looks at 256 aliases at most.
func (s *Store) Find(ctx context.Context, r store.AliasRange) (f store.Found, err error) {
	if err := s.enter(ctx); err != nil {
		return f, err
	}
	defer s.leave()
	if len(s.buckets) > 1 {
		return f, errBuckets("")
	}
	from, to := "["+r.From, "("+r.To
	if r.To == "" {
		to = "+"
	}
	limit := findPage
	if r.Limit > 0 {
		limit = min(limit, r.Limit)
	}
	b := &s.buckets[0]
	c := &call{bucket: b, script: findScript, keys: 3, args: []any{b.nodes, b.aliases, b.order, from, to, limit, b.session, ""}}
	for {
		s.run(ctx, c)
		answer, err := c.list()
		if err != nil {
			return f, err
		}
		if len(answer) != 3 {
			return f, errAnswer
		}
		if whole(answer[0]) == 1 {
			f.Next = text(answer[1])
			f.Aliases, err = parseFound(answer[2])
			return f, err
		}
		if err := s.repairOrder(ctx, b); err != nil {
			return f, err
		}
		c.args[len(c.args)-1] = "a" // others may have changed it since then; it has what was there before
	}
}

// repairOrder makes the set of aliases what the hash is, a page at a time. It has what the hash had when this began, and has still at the end: HSCAN comes to that.
func (s *Store) repairOrder(ctx context.Context, b *bucket) error {
	for _, part := range []struct{ what, from string }{{"add", "0"}, {"drop", "-"}} {
		for part.from != "" {
			c := &call{bucket: b, script: orderScript, keys: 2, args: []any{b.aliases, b.order, part.what, part.from, orderPage}}
			if s.run(ctx, c); c.err != nil {
				return c.err
			}
			part.from = text(c.cmd.Val())
		}
	}
	return nil
}

// parseFound returns the aliases that a script answers with. What is damaged is left out, and told once for each session.
func parseFound(answer any) (all []store.Named, err error) {
	list, ok := answer.([]any)
	if !ok || len(list)%3 != 0 {
		return nil, errAnswer
	}
	headers, damaged := map[string]store.Header{}, []error(nil)
	for ; len(list) > 0; list = list[3:] {
		id := text(list[1])
		if list[2] != nil {
			h, err := parseHeader(id, list[2])
			if err != nil {
				damaged = append(damaged, err)
			}
			headers[id] = h
		}
		if h := headers[id]; h.Exists() {
			h.Aliases = slices.Clone(h.Aliases)
			all = append(all, store.Named{Alias: text(list[0]), Header: h})
		}
	}
	return all, errors.Join(damaged...)
}

// errBuckets: an alias and its session would be in different buckets, which no script can change in one step.
func errBuckets(what string) error {
	return fmt.Errorf("store/redis: %saliases are kept in a keyspace of one bucket only, as on a single server, or with Options.Buckets at 1: %w", what, errors.ErrUnsupported)
}

var (
	_ store.Directory = (*Store)(nil)
	_ store.Finder    = (*Store)(nil)
)
