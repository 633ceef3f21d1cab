package redis

import (
	"context"
	"errors"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Claim implements [store.Store]. It is one round trip.
func (s *Store) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	cs, err := s.ClaimAll(ctx, []store.ClaimRequest{r})
	if err != nil {
		return store.Claim{}, err
	}
	c := cs[0]
	err, c.Err = c.Err, nil
	return c, err
}

// ClaimAll implements [store.Claimer]. It is a script for each claim, all in one round trip. If some servers do not answer, the claims that they
// had to answer have that in their Err.
func (s *Store) ClaimAll(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	if err := store.CheckClaims(rs); err != nil || len(rs) == 0 {
		return nil, err
	}
	calls := make([]*call, len(rs))
	for i := range rs {
		calls[i] = s.claimCall(&rs[i])
	}
	s.run(ctx, calls...)
	answered := false
	for _, c := range calls {
		answered = answered || c.err == nil
	}
	if !answered {
		return nil, calls[0].err
	}
	cs := make([]store.Claim, len(rs))
	for i := range rs {
		if c, err := readClaim(&rs[i], calls[i]); err != nil {
			cs[i].Err = err
		} else {
			cs[i] = c
		}
	}
	return cs, nil
}

func (s *Store) claimCall(r *store.ClaimRequest) *call {
	b := &s.buckets[s.bucketOf(r.Session)]
	proposal, all, keys := "", "", r.Keys
	if r.Epoch != 0 {
		proposal = string(appendNumber(nil, int64(r.Epoch), 19))
	}
	if r.All {
		all, keys = "a", nil
	}
	args := []any{
		b.live, b.owned, b.nodes, b.aliases, b.order, b.session + r.Session,
		r.Owner.Incarnation[:], appendNode(nil, r.Owner.Node), r.Session, flagsOf(r.Force, "f", r.Create, "c"), proposal, all,
	}
	return &call{bucket: b, script: claimScript, keys: 6, args: appendFields(args, keys), writes: true}
}

func readClaim(r *store.ClaimRequest, c *call) (store.Claim, error) {
	answer, err := c.list()
	if err != nil {
		return store.Claim{}, err
	}
	if len(answer) != 6 {
		return store.Claim{}, errAnswer
	}
	now := time.UnixMilli(whole(answer[2]))
	claim := store.Claim{Outcome: store.ClaimOutcome(whole(answer[0])), Created: whole(answer[1]) == 1}
	if claim.Header, err = parseHeader(r.Session, answer[3]); err != nil {
		return store.Claim{}, err
	}
	switch claim.Outcome {
	case store.Held:
		claim.Holder, err = parseNode(claim.Header.Owner.Incarnation, text(answer[4]), now)
	case store.Granted:
		var bad []error
		claim.Entries, bad, err = parseEntries(r.Session, r.Keys, r.All, answer[5], now)
		for _, b := range bad {
			if corrupt := (*store.CorruptError)(nil); errors.As(b, &corrupt) {
				claim.Unread = append(claim.Unread, corrupt.Key)
			}
		}
	}
	if err != nil {
		return store.Claim{}, err
	}
	return claim, nil
}

var _ store.Claimer = (*Store)(nil)

var errAnswer = errors.New("store/redis: the server's answer is not of the form that it must have")

func appendFields(args []any, keys []string) []any {
	for _, k := range keys {
		args = append(args, fieldOf(k))
	}
	return args
}

// parseEntries returns the entries that a script answers with: fields and values in turn if all were asked for, else the values of keys. Those that are
// damaged are left out, and told each.
func parseEntries(session string, keys []string, all bool, answer any, now time.Time) (es []store.Entry, damaged []error, err error) {
	list, ok := answer.([]any)
	if !ok || all && len(list)%2 != 0 || !all && len(list) != len(keys) {
		return nil, nil, errAnswer
	}
	read := func(key string, v any) {
		b, there := v.(string)
		if !there {
			return
		}
		e, ok, err := parseEntry(session, key, b, now)
		if err != nil {
			damaged = append(damaged, err)
		} else if ok {
			es = append(es, e)
		}
	}
	if !all {
		for i, k := range keys {
			read(k, list[i])
		}
		return es, damaged, nil
	}
	for ; len(list) > 0; list = list[2:] {
		if field := text(list[0]); len(field) > 0 && field[0] == '/' {
			read(field[1:], list[1])
		}
	}
	return es, damaged, nil
}
