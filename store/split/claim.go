package split

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// attempts bounds how often a claim begins anew because the session changes its owner at the same time.
const attempts = 64

// Claim implements [store.Store].
func (s *Store) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	if err := s.usable(ctx); err != nil {
		return store.Claim{}, err
	}
	if err := r.Check(); err != nil {
		return store.Claim{}, err
	}
	for range attempts {
		c, done, err := s.claim(ctx, &r)
		if done || err != nil {
			return c, err
		}
	}
	return store.Claim{}, fmt.Errorf("store/split: session %q changes its owner all the time", r.Session)
}

// claim is one attempt: it is not done if what it has read of the session is not true any more.
func (s *Store) claim(ctx context.Context, r *store.ClaimRequest) (c store.Claim, done bool, err error) {
	was, err := s.found(ctx, r.Session)
	if err != nil {
		return c, false, err
	}
	gone, err := s.gone(ctx, was, r.Owner)
	if err != nil {
		return c, false, err
	}
	if gone && !r.Create {
		return store.Claim{Outcome: store.NotFound, Header: was}, true, nil
	}
	own, err := s.take(ctx, r, was, gone)
	if err != nil {
		return c, false, inOwners(err)
	}
	if own.Outcome != store.Granted {
		own.Header = merge(own.Header, was)
		own.Entries, own.Unread = nil, nil
		return own, true, nil
	}

	epoch := own.Header.Epoch
	ask := *r
	ask.Force, ask.Epoch = true, epoch
	c, err = s.data.Claim(ctx, ask)
	switch {
	case err != nil:
		return c, false, inData(err)
	case c.Outcome == store.Granted && c.Header.Epoch == epoch:
		return c, true, nil
	case c.Outcome == store.Granted:
		// Data takes it for an earlier tenure of the same owner: it has forgotten those after that. Given up there, it can be claimed.
		return c, false, s.stepDown(ctx, c.Header)
	case c.Outcome == store.NotFound:
		return c, false, s.bury(ctx, r, own.Header)
	default: // somebody was granted a later tenure, and is ahead
		return c, false, nil
	}
}

// found returns the header that data has.
func (s *Store) found(ctx context.Context, session string) (store.Header, error) {
	snap, err := s.data.Load(ctx, session, probe)
	if err != nil && snap.Header.Epoch > 0 {
		err = nil // the header is sound
	}
	return snap.Header, inData(err)
}

// gone reports whether no session is left of h, as a claim by o sees it: what has expired is gone unless somebody else who is alive
// may have extended it.
func (s *Store) gone(ctx context.Context, h store.Header, o store.Owner) (bool, error) {
	switch {
	case !h.Gone(time.Now()):
		return false, nil
	case !h.Exists(), h.Released, h.Owner.Incarnation == o.Incarnation:
		return true, nil
	}
	ns, err := s.owners.Nodes(ctx)
	for _, n := range ns {
		if n.Incarnation == h.Owner.Incarnation && n.Lease > 0 {
			return false, inOwners(err)
		}
	}
	return true, inOwners(err)
}

// take claims the session in owners, where was is the header that data has, and gone tells that nothing is left of it. What is
// granted is a tenure that is above data's, or the claimant's own there.
func (s *Store) take(ctx context.Context, r *store.ClaimRequest, was store.Header, gone bool) (own store.Claim, err error) {
	ask := store.ClaimRequest{Session: r.Session, Owner: r.Owner, Force: r.Force, Create: true, Epoch: r.Epoch}
	if was.Released && !r.Force {
		// Its owner may be alive. That it is still the owner is what the proposal makes sure of: whoever came since is not robbed.
		free := ask
		free.Force = true
		if free.Epoch == 0 {
			free.Epoch = was.Epoch + 1
		}
		if own, err = s.owners.Claim(ctx, free); err != nil || own.Outcome == store.Outbid && own.Header.Epoch > was.Epoch {
			own, err = s.owners.Claim(ctx, ask)
		}
	} else {
		own, err = s.owners.Claim(ctx, ask)
	}
	if err != nil || own.Outcome != store.Granted || own.Header.Epoch > was.Epoch {
		return own, err
	}
	if mine := was.HeldBy(r.Owner, own.Header.Epoch); mine && !was.Released && !gone {
		return own, nil
	}
	// The claimant's own tenure in owners is over in data: released, expired, deleted, or data has a later one, of which owners does not know.
	switch {
	case ask.Epoch == 0:
		ask.Epoch = was.Epoch + 1
	case ask.Epoch <= was.Epoch:
		own.Outcome = store.Outbid
		return own, nil
	}
	if err := s.end(ctx, own.Header); err != nil {
		return own, err
	}
	return s.owners.Claim(ctx, ask)
}

// end ends a tenure in owners.
func (s *Store) end(ctx context.Context, h store.Header) error {
	rs, err := s.owners.Apply(ctx, []store.Change{{Session: h.Session, Owner: h.Owner, Epoch: h.Epoch, Seq: h.Seq + 1, Delete: true}})
	if err == nil && rs[0].Outcome == store.Undecided {
		err = undecided(rs[0])
	}
	return err
}

// stepDown gives up a tenure in data that is not the one in owners.
func (s *Store) stepDown(ctx context.Context, h store.Header) error {
	rs, err := s.data.Apply(ctx, []store.Change{{
		Session: h.Session, Owner: h.Owner, Epoch: h.Epoch, Seq: h.Seq + 1, Release: true,
		Expires: h.Expires, Aliases: h.Aliases, Schema: h.Schema,
	}})
	if err == nil && rs[0].Outcome == store.Undecided {
		err = undecided(rs[0])
	}
	return inData(err)
}

// bury ends the tenure h in both: it was granted while the session was deleted. The tombstone keeps away a creation
// that owners has taken before, and that is still on its way to data.
func (s *Store) bury(ctx context.Context, r *store.ClaimRequest, h store.Header) error {
	rs, err := s.data.Apply(ctx, []store.Change{{Session: r.Session, Owner: r.Owner, Epoch: h.Epoch, Seq: 1, Create: true, Delete: true}})
	switch {
	case err != nil:
		return inData(err)
	case rs[0].Outcome == store.Undecided:
		return inData(undecided(rs[0]))
	case rs[0].Outcome == store.Fenced:
		return nil // somebody has made it meanwhile
	}
	return inOwners(s.end(ctx, h))
}

func undecided(r store.Result) error {
	if r.Err != nil {
		return r.Err
	}
	return fmt.Errorf("the outcome of a change is not known")
}
