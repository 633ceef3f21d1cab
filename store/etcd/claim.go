package etcd

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Claim implements [store.Store]. To make a session is one round trip, and so is to take one that the last page of a walk over its owner's sessions
// had. To take another one is two, as a transaction cannot count: a read of the head, and the transaction that raises its epoch, if the
// head is as it was and its owner has no lease, and reads the entries.
func (s *Store) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	if err := s.enter(ctx); err != nil {
		return store.Claim{}, err
	}
	defer s.leave()
	if err := r.Check(); err != nil {
		return store.Claim{}, err
	}
	// With Create it is likely that there is none.
	g, met := s.walked.take(r.Session)
	switch {
	case met:
	case r.Create:
		g = sight{known: true, head: head{Header: store.Header{Session: r.Session}}}
	default:
		var err error
		if g, err = s.look(ctx, r.Session); err != nil {
			return store.Claim{}, err
		}
	}
	for {
		c, now, err := s.claim(ctx, &r, &g)
		if err != nil || c.Outcome != 0 {
			return c, err
		}
		g = now
	}
}

// claim answers a claim, if the session is as it was seen. If not, the answer is none, and now is how it is.
func (s *Store) claim(ctx context.Context, r *store.ClaimRequest, g *sight) (c store.Claim, now sight, err error) {
	at := time.Now()
	outcome, next, wipe := r.Judge(g.Header, g.alive(), at)
	c = store.Claim{Outcome: outcome, Created: wipe, Header: next}
	ifAlive, _, wiped := r.Judge(g.Header, true, at)
	matters := ifAlive != outcome || wiped != wipe
	if outcome != store.Granted && !g.old && (g.looked || !matters) {
		c.Header = g.Header
		if outcome == store.Held {
			c.Holder = g.node
		}
		return c, now, nil
	}
	w := write{next: g.head}
	if outcome == store.Granted && (wipe || next.Epoch != g.Epoch) {
		w.next.Header = next
		if wipe {
			w.next.mode, w.next.main, w.next.pending = single, nil, ""
		}
		s.head(&w, &g.head, at)
		if wipe && (g.mode == many || g.mode == pending) {
			w.delete(s.keys.entries(r.Session), within(s.keys.entries(r.Session)))
			if g.mode == pending {
				parts := s.keys.parts(r.Session, g.pending)
				w.delete(parts, within(parts))
			}
		}
	}
	writes := len(w.ops)
	want := wanted{all: r.All, keys: r.Keys}
	if outcome == store.Granted && !wipe {
		w.ops = append(w.ops, s.reads(&w.next, want)...)
	}
	then, levels := fold(w.ops, maxOps)
	t, err := s.commit(ctx, s.unchanged(g, r.Session, matters), then, s.looks(g, r.Session))
	if err != nil {
		return store.Claim{}, now, err
	}
	if !t.Succeeded {
		now, _, err = s.see(r.Session, g, t.Responses)
		return store.Claim{}, now, err
	}
	if outcome != store.Granted || wipe {
		s.modes.set(r.Session, w.next.mode)
		return c, now, nil
	}
	var answers []*pb.ResponseOp
	unfold(t.Responses, levels, func(o *pb.ResponseOp) { answers = append(answers, o) })
	entries, damaged, err := s.read(&w.next, want, answers[writes:], at)
	if err != nil {
		return store.Claim{}, now, err
	}
	c.Entries = entries
	for _, d := range damaged {
		c.Unread = append(c.Unread, d.key)
	}
	return c, now, nil
}
