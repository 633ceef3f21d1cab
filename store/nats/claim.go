package nats

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Claim implements [store.Store]. The document that it writes replaces the very one that it has judged, and has its entries, so nothing can
// land between the two. It is a round trip for each of these: to read the document, if this store has not written or read it lately;
// to read the lease of its owner, if it has one that has not released it; to tell the index; to write.
func (s *Store) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	cs, err := s.ClaimAll(ctx, []store.ClaimRequest{r})
	if err != nil {
		return store.Claim{}, err
	}
	c := cs[0]
	if c.Err != nil {
		return store.Claim{}, c.Err
	}
	return c, nil
}

// ClaimAll implements [store.Claimer]. It is as many round trips as one claim.
func (s *Store) ClaimAll(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	if err := store.CheckClaims(rs); err != nil || len(rs) == 0 {
		return nil, err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()

	cs := make([]store.Claim, len(rs))
	jobs := make([]*job, len(rs))
	for i := range rs {
		jobs[i] = &job{session: rs[i].Session, places: []int{i}}
	}
	s.work(ctx, jobs, func(j *job, now time.Time) {
		i := j.places[0]
		cs[i] = judge(j, &rs[i], now)
	})
	failed := 0
	for i, j := range jobs {
		if j.err == nil && cs[i].Outcome == store.Granted {
			j.err = s.fill(ctx, &cs[i], &rs[i], j)
		}
		if j.err != nil {
			cs[i] = store.Claim{Err: j.err}
			failed++
		}
	}
	if failed == len(cs) {
		return nil, cs[0].Err
	}
	return cs, nil
}

// fill reads the entries for a claim that is granted.
func (s *Store) fill(ctx context.Context, c *store.Claim, r *store.ClaimRequest, j *job) error {
	d := j.doc
	if j.next != nil {
		d = j.next
	}
	epoch := d.header.Epoch
	for {
		got, err := s.entries(ctx, d, r.Keys, r.All)
		if err != nil {
			return err
		}
		c.Header, c.Entries, c.Unread = ownHeader(d.header), got.entries, got.unread
		switch {
		case !got.gone && !got.unknown:
			return nil
		case !got.gone:
			return got.why // which entries cannot be read is not known
		}
		// A later document has other pages. If it is of the same tenure it is as good.
		last := d.seq
		if d, err = s.read(ctx, r.Session); err != nil {
			return err
		}
		switch {
		case d.seq == last && got.unknown:
			return got.why
		case d.seq == last:
			return nil
		case !d.header.HeldBy(r.Owner, epoch):
			return fmt.Errorf("store/nats: session %q was claimed by another owner again", r.Session)
		}
	}
}

// judge decides a claim.
func judge(j *job, r *store.ClaimRequest, now time.Time) (c store.Claim) {
	j.next, j.needLease = nil, store.Incarnation{}
	h := j.doc.header
	l, alive := lease{}, false
	if o := h.Owner.Incarnation; h.Exists() && !h.Released && o != r.Owner.Incarnation {
		var known bool
		if l, known = j.leases[o]; !known {
			j.needLease = o
			return c
		}
		alive = l.runs(now)
	}
	outcome, next, wipe := r.Judge(h, alive, now)
	c = store.Claim{Outcome: outcome, Header: ownHeader(h)}
	switch {
	case outcome == store.Held:
		c.Holder = l.node
		c.Holder.Lease = l.ends.Sub(now)
	case outcome == store.Granted && (next.Epoch != h.Epoch || wipe):
		c.Created = wipe
		j.next, j.content = &document{header: next}, j.doc.content()
		if wipe {
			j.content = content{{loaded: true}}
		}
	}
	return c
}

var _ store.Claimer = (*Store)(nil)
