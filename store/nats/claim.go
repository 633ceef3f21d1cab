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
	if err := s.enter(ctx); err != nil {
		return store.Claim{}, err
	}
	defer s.leave()
	if err := r.Check(); err != nil {
		return store.Claim{}, err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()

	var c store.Claim
	j := &job{session: r.Session}
	s.work(ctx, []*job{j}, func(j *job, now time.Time) { c = judge(j, &r, now) })
	if j.err != nil {
		return store.Claim{}, j.err
	}
	if c.Outcome != store.Granted {
		return c, nil
	}
	d := j.doc
	if j.next != nil {
		d = j.next
	}
	for {
		got, err := s.entries(ctx, d, r.Keys, r.All)
		if err != nil {
			return store.Claim{}, err
		}
		c.Header, c.Entries, c.Unread = ownHeader(d.header), got.entries, got.unread
		switch {
		case !got.gone && !got.unknown:
			return c, nil
		case !got.gone:
			return store.Claim{}, got.why // which entries cannot be read is not known
		}
		// A later document has other pages. If it is of the same tenure it is as good.
		last := d.seq
		if d, err = s.read(ctx, r.Session); err != nil {
			return store.Claim{}, err
		}
		switch {
		case d.seq == last:
			return store.Claim{}, got.why
		case !d.header.HeldBy(r.Owner, c.Header.Epoch):
			return store.Claim{}, fmt.Errorf("store/nats: session %q was claimed by another owner again", r.Session)
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
