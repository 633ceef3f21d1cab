package etcd

import (
	"context"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

// claimsAtOnce is how many claims go in one transaction.
const claimsAtOnce = 500

// Claim implements [store.Store]. To make a session is one round trip, and so is to take one that the last page of a walk over its owner's sessions
// had. To take another one is two, as a transaction cannot count: a read of the head, and the transaction that raises its epoch, if the
// head is as it was and its owner has no lease, and reads the entries.
func (s *Store) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	cs, err := s.ClaimAll(ctx, []store.ClaimRequest{r})
	if err != nil {
		return store.Claim{}, err
	}
	c := cs[0]
	err, c.Err = c.Err, nil
	return c, err
}

// ClaimAll implements [store.Claimer]. Each 500 requests take as many round trips as one does.
func (s *Store) ClaimAll(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	if err := store.CheckClaims(rs); err != nil {
		return nil, err
	}
	cs := make([]store.Claim, len(rs))
	todo := make([]*claim, len(rs))
	for i := range rs {
		c := &claim{r: &rs[i], answer: &cs[i]}
		var met bool
		if c.sight, met = s.walked.take(rs[i].Session); !met && rs[i].Create { // it is likely that there is none
			c.sight = sight{known: true, head: head{Header: store.Header{Session: rs[i].Session}}}
		}
		todo[i] = c
	}
	for len(todo) > 0 {
		var again []*claim
		for some := range slices.Chunk(todo, claimsAtOnce) {
			rest, err := s.claim(ctx, some)
			if err != nil {
				return nil, err
			}
			again = append(again, rest...)
		}
		todo = again
	}
	return cs, nil
}

// claim is a request that is being decided.
type claim struct {
	r      *store.ClaimRequest
	answer *store.Claim // its outcome is 0, and it has no Err, until the claim is decided
	sight  sight

	write  write
	writes int // of write.ops; the rest are reads
	levels int // in which they are folded
	at     time.Time
}

// wanted is what the claim asks for.
func (c *claim) wanted() wanted { return wanted{all: c.r.All, keys: c.r.Keys} }

// claim makes one transaction for claims, and returns those that are not decided by it. Their sights are new ones.
func (s *Store) claim(ctx context.Context, cs []*claim) (again []*claim, err error) {
	var asked []*claim
	var ops []clientv3.Op
	for _, c := range cs {
		if op, done := s.plan(c); !done {
			asked, ops = append(asked, c), append(ops, op)
		}
	}
	if len(asked) == 0 {
		return nil, nil
	}
	folded, levels := fold(ops, outerOps)
	r, err := s.commit(ctx, nil, folded, nil)
	if err != nil {
		return nil, err
	}
	i := 0
	unfold(r.Responses, levels, func(o *pb.ResponseOp) {
		c, t := asked[i], o.GetResponseTxn()
		i++
		switch {
		case t.Succeeded && c.sight.known:
			s.finish(c, t.Responses)
		default: // nothing was known, or it is no longer so
			was := c.sight
			var err error
			if c.sight, _, err = s.see(c.r.Session, &was, t.Responses); err != nil {
				*c.answer = store.Claim{Err: err}
			} else {
				again = append(again, c)
			}
		}
	})
	return again, nil
}

// plan decides a claim, or returns the operation that does, if the session is as it was seen. Without a sight it is a look.
func (s *Store) plan(c *claim) (op clientv3.Op, done bool) {
	r, g := c.r, &c.sight
	if !g.known {
		return clientv3.OpTxn(nil, s.looks(g, r.Session), nil), false
	}
	c.at = time.Now()
	outcome, next, wipe := r.Judge(g.Header, g.alive(), c.at)
	ifAlive, _, wiped := r.Judge(g.Header, true, c.at)
	matters := ifAlive != outcome || wiped != wipe
	*c.answer = store.Claim{Outcome: outcome, Created: wipe, Header: next}
	if outcome == store.Held {
		c.answer.Holder = g.node
	}
	if outcome != store.Granted && !g.old && (g.looked || !matters) {
		return op, true
	}
	c.write = write{next: g.head}
	w := &c.write
	if outcome == store.Granted && (wipe || next.Epoch != g.Epoch) {
		w.next.Header = next
		if wipe {
			w.next.mode, w.next.main, w.next.pending = single, nil, ""
		}
		s.head(w, &g.head, c.at)
		if wipe {
			w.ops = append(w.ops, s.free(r.Session, g.Aliases)...)
			if len(g.Aliases) > 0 {
				w.delete(s.keys.guard(r.Session))
			}
		}
		if wipe && (g.mode == many || g.mode == pending) {
			w.delete(s.keys.entries(r.Session), within(s.keys.entries(r.Session)))
			if g.mode == pending {
				parts := s.keys.parts(r.Session, g.pending)
				w.delete(parts, within(parts))
			}
		}
	}
	c.writes = len(w.ops)
	if outcome == store.Granted && !wipe {
		w.ops = append(w.ops, s.reads(&w.next, c.wanted())...)
	}
	var then []clientv3.Op
	then, c.levels = fold(w.ops, groupOps-1) // an operation may be a transaction of one
	return clientv3.OpTxn(s.unchanged(g, r.Session, matters), then, s.looks(g, r.Session)), false
}

// finish completes the answer to a claim with what was read in its transaction.
func (s *Store) finish(c *claim, rs []*pb.ResponseOp) {
	s.modes.set(c.r.Session, c.write.next.mode)
	if c.answer.Outcome != store.Granted || c.answer.Created {
		return
	}
	var answers []*pb.ResponseOp
	unfold(rs, c.levels, func(o *pb.ResponseOp) { answers = append(answers, o) })
	entries, damaged, err := s.read(&c.write.next, c.wanted(), answers[c.writes:], c.at)
	if err != nil {
		*c.answer = store.Claim{Err: err}
		return
	}
	c.answer.Entries = entries
	for _, d := range damaged {
		c.answer.Unread = append(c.answer.Unread, d.key)
	}
}

var _ store.Claimer = (*Store)(nil)
