package split

import (
	"context"
	"errors"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Apply implements [store.Store]. What creates a session goes to owners first; what deletes one goes there last.
func (s *Store) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	results := make([]store.Result, len(changes))
	todo := make([]int, 0, len(changes))
	for i := range changes {
		c := &changes[i]
		if keys, err := c.Check(); err != nil {
			results[i] = store.Result{Outcome: store.Rejected, Err: err, Keys: keys}
			continue
		}
		todo = append(todo, i)
	}
	for len(todo) > 0 {
		now, later := distinct(changes, todo)
		if err := s.write(ctx, changes, now, results); err != nil {
			if len(now)+len(later) == len(changes) {
				return nil, err
			}
			for _, i := range append(now, later...) {
				results[i] = store.Result{Outcome: store.Undecided, Err: err}
			}
			return results, nil
		}
		todo = follow(changes, now, later, results)
	}
	return results, nil
}

// follow returns those of later that may be written after now. What follows a change of unknown outcome may not: with a higher seq on record, that
// one would be taken for written when it is repeated.
func follow(changes []store.Change, now, later []int, results []store.Result) (on []int) {
	unknown := map[string]error{}
	for _, i := range now {
		if r := &results[i]; r.Outcome == store.Undecided {
			unknown[changes[i].Session] = undecided(*r)
		}
	}
	for _, i := range later {
		if err, is := unknown[changes[i].Session]; is {
			results[i] = store.Result{Outcome: store.Undecided, Err: err}
		} else {
			on = append(on, i)
		}
	}
	return on
}

// distinct divides places into those of the first change of each session, and the rest.
func distinct(changes []store.Change, places []int) (now, later []int) {
	seen := make(map[string]bool, len(places))
	for _, i := range places {
		if id := changes[i].Session; !seen[id] {
			seen[id] = true
			now = append(now, i)
		} else {
			later = append(later, i)
		}
	}
	return now, later
}

// In owners a change has two places, one before it is made in data, and one after that. (No owner lives to see the end of these numbers.)
func place(seq, of uint64) uint64 { return min(2*min(seq, store.MaxEpoch/2)+of, store.MaxEpoch) }

// before is what owners has to take before data gets a change that creates.
func before(c *store.Change) store.Change {
	return store.Change{Session: c.Session, Owner: c.Owner, Epoch: c.Epoch, Seq: place(c.Seq, 0), Create: true}
}

// after is what owners has to take after data has taken a change that deletes.
func after(c *store.Change) store.Change {
	return store.Change{Session: c.Session, Owner: c.Owner, Epoch: c.Epoch, Seq: place(c.Seq, 1), Delete: true}
}

// write makes the changes at places, no two of the same session. An error is about all of them.
func (s *Store) write(ctx context.Context, changes []store.Change, places []int, results []store.Result) error {
	places, err := s.announce(ctx, changes, places, results)
	if err != nil || len(places) == 0 {
		return err
	}
	part := make([]store.Change, len(places))
	for i, place := range places {
		part[i] = changes[place]
	}
	rs, err := s.data.Apply(ctx, part)
	if err != nil {
		return inData(err)
	}
	var ended []int
	for i, place := range places {
		c, r, repeated := &part[i], rs[i], results[place].Outcome == store.Already
		results[place] = r
		switch r.Outcome {
		case store.Applied:
			if c.Delete {
				ended = append(ended, place)
			} else if repeated {
				if err := s.revive(ctx, c); err != nil {
					results[place] = store.Result{Outcome: store.Undecided, Err: err}
				}
			}
		case store.Fenced:
			if c.Create && !r.Header.Exists() {
				ended = append(ended, place)
			}
		case store.Already: // it may have been deleted by this change, or live again since
			if c.Delete {
				ended = s.unlessAlive(ctx, c, place, ended, results)
			}
		case store.Rejected: // owners has its creation
			if c.Create {
				ended = s.unlessAlive(ctx, c, place, ended, results)
			}
		}
	}
	s.bid(ctx, changes, ended, results)
	return nil
}

// unlessAlive adds the place of a change to ended if data has no session.
func (s *Store) unlessAlive(ctx context.Context, c *store.Change, place int, ended []int, results []store.Result) []int {
	h, err := s.found(ctx, c.Session)
	if err != nil {
		results[place] = store.Result{Outcome: store.Undecided, Err: err}
	} else if !h.Exists() {
		ended = append(ended, place)
	}
	return ended
}

// announce has owners take what creates, and returns the places of what may go on to data. Until that has answered, the results are
// those of owners.
func (s *Store) announce(ctx context.Context, changes []store.Change, places []int, results []store.Result) (on []int, err error) {
	var births []store.Change
	var at []int
	unasked := 0 // data could not be asked
	for _, place := range places {
		c := &changes[place]
		if !c.Create {
			on = append(on, place)
			continue
		}
		if refused, err := s.clash(ctx, c); err != nil {
			if unasked++; unasked == len(places) {
				return nil, err
			}
			results[place] = store.Result{Outcome: store.Undecided, Err: err}
		} else if refused != nil {
			results[place] = store.Result{Outcome: store.Rejected, Err: refused}
		} else {
			births, at = append(births, before(c)), append(at, place)
		}
	}
	if len(births) == 0 {
		return on, nil
	}
	rs, err := s.owners.Apply(ctx, births)
	if err != nil {
		if len(on) == 0 {
			return nil, inOwners(err)
		}
		for _, place := range at {
			results[place] = store.Result{Outcome: store.Undecided, Err: inOwners(err)}
		}
		return on, nil
	}
	for i, place := range at {
		r := rs[i]
		if r.Outcome == store.Fenced {
			if r, err = s.succeed(ctx, &changes[place], r); err != nil {
				r = store.Result{Outcome: store.Undecided, Err: err}
			}
		}
		results[place] = r
		if r.Outcome == store.Applied || r.Outcome == store.Already {
			on = append(on, place)
		}
	}
	return on, nil
}

// clash returns why data would refuse the aliases of a new life. What data refuses after owners has it leaves an epoch behind in owners that the next
// one has to be above; so that is for those only that lose a race for an alias, or are too large.
func (s *Store) clash(ctx context.Context, c *store.Change) (refused, err error) {
	names, ok := s.data.(store.Directory)
	if !ok || len(c.Aliases) == 0 || c.Delete {
		return nil, nil
	}
	was, err := s.found(ctx, c.Session)
	if err != nil || c.Epoch <= was.Epoch {
		return nil, err
	}
	refused = c.JudgeAliases(func(alias string) (h store.Header, alive bool) {
		if err == nil {
			h, err = names.Lookup(ctx, alias)
		}
		return h, true // what is gone is not found
	}, time.Now())
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, nil // data takes no aliases, and says so
	}
	if err != nil || refused == nil {
		return nil, inData(err)
	}
	// Is it the aliases that it fails by, or would owners refuse it?
	own, err := s.owner(ctx, c.Session)
	if err != nil || own.Epoch >= c.Epoch || own.Exists() && own.Epoch != was.Epoch {
		return nil, err
	}
	if gone, err := s.gone(ctx, was, store.Owner{}); err != nil || !gone {
		return nil, err
	}
	return refused, nil
}

// succeed is for a creation in the place of a session that has expired, of which owners does not know; and for one that data has, and owners has a
// later epoch, which did not get there. r is what owners said.
func (s *Store) succeed(ctx context.Context, c *store.Change, r store.Result) (store.Result, error) {
	was, err := s.found(ctx, c.Session)
	if err != nil {
		return r, err
	}
	if was.HeldBy(c.Owner, c.Epoch) && c.Seq <= was.Seq {
		return store.Result{Outcome: store.Already}, nil
	}
	if was.Exists() && c.Epoch > was.Epoch && c.Epoch > r.Header.Epoch {
		gone, err := s.gone(ctx, was, store.Owner{})
		if err != nil {
			return r, err
		}
		if gone {
			ask := &store.ClaimRequest{Session: c.Session, Owner: c.Owner, Epoch: c.Epoch}
			own, err := s.take(ctx, ask, was, true)
			if err != nil {
				return r, inOwners(err)
			}
			if own.Outcome == store.Granted && own.Header.Epoch == c.Epoch {
				return store.Result{Outcome: store.Applied}, nil
			}
			r.Header = own.Header
		}
	}
	if own := r.Header; own.Deleted && own.Epoch > was.Epoch && c.Epoch > was.Epoch {
		if gone, err := s.gone(ctx, was, store.Owner{}); err != nil || gone {
			return store.Result{Outcome: store.Fenced, Header: own}, err // the next one is to be above that
		}
	}
	return store.Result{Outcome: store.Fenced, Header: merge(r.Header, was)}, nil
}

// revive is for a creation that owners has had already, and may have seen the end of, which was that of another attempt.
func (s *Store) revive(ctx context.Context, c *store.Change) error {
	snap, err := s.owners.Load(ctx, c.Session, probe)
	if h := snap.Header; err == nil && h.Deleted && h.HeldBy(c.Owner, c.Epoch) && h.Seq < store.MaxEpoch {
		var rs []store.Result
		rs, err = s.owners.Apply(ctx, []store.Change{{Session: c.Session, Owner: c.Owner, Epoch: c.Epoch, Seq: h.Seq + 1, Create: true}})
		if err == nil && rs[0].Outcome == store.Undecided {
			err = undecided(rs[0])
		}
	}
	return inOwners(err)
}

// bid tells owners of sessions that are no more.
func (s *Store) bid(ctx context.Context, changes []store.Change, places []int, results []store.Result) {
	if len(places) == 0 {
		return
	}
	ends := make([]store.Change, len(places))
	for i, place := range places {
		ends[i] = after(&changes[place])
	}
	rs, err := s.owners.Apply(ctx, ends)
	for i, place := range places {
		switch {
		case err != nil:
			results[place] = store.Result{Outcome: store.Undecided, Err: inOwners(err)}
		case rs[i].Outcome == store.Undecided:
			results[place] = store.Result{Outcome: store.Undecided, Err: inOwners(undecided(rs[i]))}
		case rs[i].Outcome == store.Already: // or a later creation, which data has refused
			if err := s.endIfAlive(ctx, &ends[i]); err != nil {
				results[place] = store.Result{Outcome: store.Undecided, Err: inOwners(err)}
			}
		}
	}
}

func (s *Store) endIfAlive(ctx context.Context, c *store.Change) error {
	snap, err := s.owners.Load(ctx, c.Session, probe)
	if h := snap.Header; err == nil && h.Exists() && h.HeldBy(c.Owner, c.Epoch) {
		err = s.end(ctx, h)
	}
	return err
}
