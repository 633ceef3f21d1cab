package redis

import (
	"context"
	"errors"
	"fmt"

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

// errBuckets: an alias and its session would be in different buckets, which no script can change in one step.
func errBuckets(what string) error {
	return fmt.Errorf("store/redis: %saliases are kept in a keyspace of one bucket only, as on a single server, or with Options.Buckets at 1: %w", what, errors.ErrUnsupported)
}

var _ store.Directory = (*Store)(nil)
