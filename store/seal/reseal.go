package seal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file seals anew what older keys have sealed. It writes as any node does: it claims a session, and its changes are fenced
// from the moment that somebody else claims it.

// ResealOptions say how a pass works. The zero value works.
type ResealOptions struct {
	// Progress, if not nil, is called after each session on the goroutine of Reseal, under no lock.
	Progress func(Progress)

	// Lease is how long a lease lasts that the pass has, and renews, while it runs. Then an adoption of a session that is being
	// rewritten, for a few round trips, is refused, and an OwnedError names Node. Zero: it has none, and such an adoption is
	// granted at once; the pass is fenced, leaves the session to its owner and goes on. No value is lost either way.
	Lease time.Duration

	// Node is what the lease says: Name, Addr and Weight are to be those of this process's DB, as whoever has a lease is a member of the ring
	// of survivors. Not used without Lease; its Incarnation never is.
	Node store.Node
}

// Progress is what a pass of Reseal has done so far.
type Progress struct {
	Seen      int // sessions looked at
	Resealed  int // sessions of which something was rewritten
	Entries   int // entries rewritten
	Remaining int // sessions with entries of an older key that another owner has, alive or since this pass came by
	Failed    int // sessions of which something could not be read or written; the error tells of the first 100
}

const (
	resealEntries = 256     // the most entries that are rewritten in one change,
	resealBytes   = 1 << 20 // and about the most bytes of them
	attempts      = 4       // of one change
	maxErrors     = 100     // that Reseal keeps
)

// Reseal makes one pass over all sessions, and rewrites, with the last key of the ring, what an older one has sealed, or, with
// Options.AcceptPlain, none. When a pass has returned no error and Remaining is 0, then nothing that can be read needs the older keys any more, provided that from
// before the pass on every node has sealed with the last one. Otherwise it returns what is left, and can be called again.
//
// Only a session that no living node owns is rewritten: it is claimed, as by Adopt, under an incarnation of the pass's own, and
// released. A session that a living node owns counts as Remaining: what its owner flushes is sealed with the last key, the rest of it when it was
// released and the pass comes by again. A session that has expired, and that no living node owns, is gone, and left alone.
//
// If ctx is over, or the process dies, every entry is as it was or rewritten, and the session that was being worked on can be adopted. Several
// passes may run at once, on several nodes, and only do more than is needed.
//
// A damaged entry, or one that is sealed with a key that is not in the ring, is left as it is, and is an error of the pass.
func (s *Store) Reseal(ctx context.Context, o ResealOptions) (Progress, error) {
	p := &resealing{s: s, owner: store.Owner{Node: o.Node.Name, Incarnation: store.NewIncarnation()}}
	if o.Lease < 0 || o.Lease > 0 && o.Node.Name == "" {
		return p.done, fmt.Errorf("store/seal: ResealOptions.Lease is %v, of the node %q: a lease is not negative, and names its node", o.Lease, o.Node.Name)
	}
	if err := s.usable(ctx); err != nil {
		return p.done, err
	}
	if o.Lease > 0 {
		o.Node.Incarnation = p.owner.Incarnation
		leave, err := s.stay(ctx, o.Node, o.Lease)
		if err != nil {
			return p.done, fmt.Errorf("store/seal: the store does not take a lease: %w", err)
		}
		defer leave()
	}
	for h, err := range s.Sessions(ctx, store.Query{}) {
		var damaged *store.CorruptError
		switch {
		case err != nil && !errors.As(err, &damaged):
			p.note(err) // the walk is over
			continue
		case err != nil:
			p.done.Failed++
			p.note(err)
		default:
			if !p.session(ctx, h.Session) {
				p.done.Failed++
			}
		}
		p.done.Seen++
		if o.Progress != nil {
			o.Progress(p.done)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err := ctx.Err(); err != nil {
		p.errs = []error{err}
	}
	if err := errors.Join(p.errs...); err != nil {
		return p.done, fmt.Errorf("store/seal: not all could be sealed anew: %w", err)
	}
	return p.done, nil
}

// stay takes a lease and renews it until leave is called, which ends it.
func (s *Store) stay(ctx context.Context, n store.Node, lease time.Duration) (leave func(), err error) {
	if _, err := s.KeepAlive(ctx, n, lease); err != nil {
		return nil, err
	}
	renewing, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(max(lease/3, time.Millisecond))
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				s.KeepAlive(renewing, n, lease) // a lease that ends early lets others adopt sooner, and that is all
			case <-renewing.Done():
				return
			}
		}
	})
	return func() {
		stop()
		wg.Wait()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), lease)
		defer cancel()
		s.KeepAlive(ending, n, 0) // or it ends by itself
	}, nil
}

// resealing is one pass.
type resealing struct {
	s     *Store
	owner store.Owner
	done  Progress
	errs  []error
}

func (p *resealing) note(err error) {
	if len(p.errs) < maxErrors {
		p.errs = append(p.errs, err)
	}
}

// session looks after one session. It reports false if something failed, which it has noted.
func (p *resealing) session(ctx context.Context, id string) (ok bool) {
	_, stale, err := p.s.load(ctx, id, nil)
	if ok = err == nil; !ok {
		p.note(err)
	}
	if len(stale) == 0 {
		return ok
	}
	c, stale, err := p.s.claim(ctx, store.ClaimRequest{Session: id, Owner: p.owner, All: true})
	if err != nil {
		p.note(err)
		return false
	}
	switch c.Outcome {
	case store.Granted:
		return p.rewrite(ctx, &c, stale) && ok
	case store.Held:
		p.done.Remaining++
	case store.NotFound: // deleted meanwhile, or expired
	default:
		p.note(fmt.Errorf("store/seal: session %q: the claim is %v, the highest epoch is %d", id, c.Outcome, c.Header.Epoch))
		return false
	}
	return ok
}

// rewrite seals anew those entries of a claimed session, some at a time, and releases it with the last.
func (p *resealing) rewrite(ctx context.Context, c *store.Claim, stale []int) (ok bool) {
	ok = len(c.Unread) == 0
	h := &c.Header
	change := store.Change{
		Session: h.Session, Owner: p.owner, Epoch: h.Epoch, Seq: h.Seq,
		Expires: h.Expires, Aliases: h.Aliases, Schema: h.Schema,
	}
	if !ok {
		p.note(fmt.Errorf("store/seal: session %q: the entries %.200q could not be read", h.Session, c.Unread))
	}
	before := p.done.Entries
	todo := make([]store.Entry, len(stale))
	for i, at := range stale {
		todo[i] = c.Entries[at]
	}
	for !change.Release {
		n, bytes := 0, 0
		for n < len(todo) && n < resealEntries && (n == 0 || bytes+len(todo[n].Value) <= resealBytes) {
			bytes += len(todo[n].Value)
			n++
		}
		change.Seq++
		change.Puts, change.Release = todo[:n:n], n == len(todo)
		r, err := p.apply(ctx, change)
		switch {
		case err != nil:
			p.note(fmt.Errorf("store/seal: session %q: %w", h.Session, err))
			return false
		case r.Outcome == store.Fenced:
			if r.Header.Exists() {
				p.done.Remaining++ // whoever has it now has what was rewritten, and the rest
			}
			return ok
		case r.Outcome == store.Rejected:
			p.note(fmt.Errorf("store/seal: session %q: %w", h.Session, r.Err))
			ok = false
			if n == 0 {
				return ok
			}
			todo, change.Release = without(todo, n, r.Keys), false
		default:
			if n > 0 && p.done.Entries == before {
				p.done.Resealed++
			}
			p.done.Entries += n
			todo = todo[n:]
		}
	}
	return ok
}

// without takes from the first n entries those that are to blame, all of them if it is not said which.
func without(es []store.Entry, n int, keys []string) (left []store.Entry) {
	blamed := map[string]bool{}
	for _, k := range keys {
		blamed[k] = true
	}
	for i, e := range es {
		if i >= n || len(keys) > 0 && !blamed[e.Key] {
			left = append(left, e)
		}
	}
	if len(left) == len(es) { // keys of nobody
		left = left[n:]
	}
	return left
}

// apply makes a change, again if it is not known whether it was made.
func (p *resealing) apply(ctx context.Context, c store.Change) (r store.Result, err error) {
	for n := range attempts {
		if n > 0 {
			timer := time.NewTimer(50 * time.Millisecond << n)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return r, ctx.Err()
			}
		}
		var rs []store.Result
		rs, err = p.s.Apply(ctx, []store.Change{c})
		if err == nil && rs[0].Outcome != store.Undecided {
			return rs[0], nil
		}
		if err == nil {
			err = rs[0].Err
		}
		if err == nil {
			err = errors.New("the outcome of a change is not known")
		}
	}
	return r, err
}
