package sim

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/seed-6f1f505d/kvstore"
)

// This file is what a desk knows of its session, and does not: an answer that did not come leaves two states that it may be in,
// and the next look settles which.

// tenure returns the one that a handle is on.
func (d *desk) tenure(h *kvstore.Session[string]) *tenure {
	c := d.n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	epoch := h.Epoch()
	t := c.tenures[tenureKey{d.n.inc, d.id, epoch}]
	if t == nil {
		t = d.next(epoch)
	}
	if t == nil {
		t = d.fresh
	}
	d.in = t
	if t == nil {
		c.failLocked(oneOwner, "node %s serves %s in epoch %d, which the store has granted to nobody here", d.n.name, d.id, epoch)
	}
	return t
}

// next returns the newest tenure if it goes on in a higher epoch: the session was deleted in it, which is stored, and made anew
// before this process had heard that. Caller holds mu.
func (d *desk) next(epoch uint64) *tenure {
	if t := d.t; t != nil && t.epoch < epoch && t.buried {
		return t
	}
	return nil
}

// handle returns the tenure of the session if it is in memory, and settles what was in doubt.
func (d *desk) handle(ctx context.Context) (*tenure, error) {
	if d.h == nil {
		h, err := d.n.db.Session(ctx, d.id)
		if errors.Is(err, kvstore.ErrNotFound) {
			d.deleted()
		}
		if err != nil {
			return nil, err
		}
		t := d.tenure(h)
		if t == nil {
			return nil, errInDoubt
		}
		d.h, d.ht = h, t
	}
	t := d.ht
	if !t.unsure {
		return t, nil
	}
	start := time.Now()
	got, err := d.all(ctx)
	if errors.Is(err, kvstore.ErrNotFound) {
		got, err = state{}, nil
	}
	if err != nil {
		d.moved(err)
		return nil, errInDoubt
	}
	c := d.n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	end := time.Now()
	t.ends(got.expires, end)
	switch {
	case seen(got, t.last(), start, end):
		t.settle(true)
	case seen(got, t.before(), start, end):
		t.settle(false)
	default:
		c.failLocked(linear, "node %s: %s in epoch %d is %v; before a request whose outcome is not known it was %v, after it %v", d.n.name, d.id, t.epoch,
			got, t.before(), t.last())
	}
	return t, nil
}

// deleted settles what was in doubt of a session that turned out to be deleted in memory, or expired.
func (d *desk) deleted() {
	c := d.n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range d.newest() {
		switch now := time.Now(); {
		case !t.unsure:
		case !t.last().view(now).exists:
			t.settle(true)
		case !t.before().view(now).exists:
			t.settle(false)
		}
	}
}

// newest returns the tenures that the session may be in if it is here: the last one that was granted, and one that this node
// began and the store has not heard of.
func (d *desk) newest() (ts []*tenure) {
	for _, t := range []*tenure{d.t, d.fresh} {
		if t != nil && !slices.Contains(ts, t) {
			ts = append(ts, t)
		}
	}
	return ts
}

// seen reports whether what was read is what s was at some time of the call.
func seen(got, s state, start, end time.Time) bool {
	s = s.user()
	if !got.exists {
		return !s.view(start).exists || !s.view(end).exists
	}
	for k, c := range got.cells { // the entries' expiries are not read
		c.until = s.cells[k].until
		got.cells[k] = c
	}
	a, b := s.view(start), s.view(end)
	if got.equal(a) || got.equal(b) {
		return true
	}
	// Some expired in between.
	for k, c := range got.cells {
		if a.cells[k] != c && b.cells[k] != c {
			return false
		}
	}
	for k := range b.cells {
		if _, ok := got.cells[k]; !ok {
			return false
		}
	}
	return a.exists && a.expires == got.expires
}

// unmade reports whether a change whose call gave err was not made, as the documentation says.
func (c *cluster) unmade(err error) bool {
	o := c.plan.Setup.Options
	if o.Mode == kvstore.WriteBehind && o.Overflow != kvstore.Through {
		return true // on an error nothing was changed
	}
	for _, e := range []error{kvstore.ErrNotFound, kvstore.ErrNotResident, kvstore.ErrFull, kvstore.ErrSuspended, kvstore.ErrOwned, kvstore.ErrExists, kvstore.ErrDraining} {
		if errors.Is(err, e) {
			return true
		}
	}
	return strings.Contains(err.Error(), "the store did not answer") // so there was no session to change
}

// pending says what a call does to whatever the session turns out to be: in the tenure that is in memory, or in one that is
// granted meanwhile. settle tells which.
func (d *desk) pending(value string, t *tenure, f func(state) state) (settle func(made *tenure, sure bool)) {
	c := d.n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	d.pend, d.pendValue, d.tried = f, value, nil
	if t != nil {
		d.tries(t)
	}
	for _, t := range d.newest() { // it may be in memory, or about to come in, instead of the one that is known
		d.tries(t)
	}
	if d.in != nil {
		d.tries(d.in)
	}
	return func(made *tenure, sure bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		d.pend = nil
		for _, x := range d.tried {
			if sure {
				x.settle(x == made)
			}
		}
	}
}

// tries has what is pending be done, perhaps, in a tenure. Caller holds mu.
func (d *desk) tries(t *tenure) {
	if d.pend == nil || t.unsure || slices.Contains(d.tried, t) {
		return
	}
	s := d.pend(t.last())
	if s.equal(t.last()) {
		return
	}
	t.try(s)
	t.own[d.pendValue] = true
	d.tried = append(d.tried, t)
}

// found is handle, and nil without an error if the session is not in memory, and nothing is in doubt of it.
func (d *desk) found(ctx context.Context) (*tenure, error) {
	t, err := d.handle(ctx)
	if err == nil || errors.Is(err, errInDoubt) {
		return t, err
	}
	c := d.n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.ContainsFunc(d.newest(), func(t *tenure) bool { return t.unsure }) {
		return nil, errInDoubt
	}
	return nil, nil
}

// absentHere reports whether the session was deleted, or has expired, in this process: then it may be in memory as such.
func (d *desk) absentHere(t *tenure, now time.Time) bool {
	d.n.c.mu.Lock()
	defer d.n.c.mu.Unlock()
	return t != nil && !t.last().view(now).exists || t == nil && d.t != nil && !d.t.last().view(now).exists
}

// late reports whether s is what the call under way makes of the session, if that has expired since the call began: then it is
// born anew. Caller holds mu.
func (d *desk) late(t *tenure, s state, now time.Time) bool {
	if d.pend == nil || !slices.Contains(d.tried, t) || t.before().view(now).exists {
		return false
	}
	anew := d.pend(t.before())
	if !anew.same(s, now) {
		return false
	}
	t.states[len(t.states)-1] = anew
	return true
}
