package seal

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-6f1f505d/kvstore/store"
)

// noKey is the stored form of no key. Where names are hidden, it names an entry so that not all are read.
const noKey = "\x00"

// opened is what could be opened of a session's entries.
type opened struct {
	entries []store.Entry
	stale   []int   // of entries, those that the newest key did not seal
	unread  []error // a CorruptError for each of the others
}

// open opens entries, in their place. epoch is the highest that one can be of.
func (s *Store) open(session string, epoch uint64, es []store.Entry) (o opened) {
	p := s.enter(session)
	defer s.leave(p)
	o.entries = es[:0]
	for i := range es {
		e := es[i]
		key, err := s.names.show(keyName, session, e.Key)
		if err != nil {
			o.unread = append(o.unread, &store.CorruptError{Session: session, Key: e.Key, Reason: err.Error()})
			continue
		}
		e.Key = key
		stale, err := s.ring.open(p, epoch, &e)
		if errors.Is(err, errPlain) && s.plain {
			stale, err = true, nil
		}
		if err != nil {
			o.unread = append(o.unread, &store.CorruptError{Session: session, Key: key, Reason: err.Error()})
			continue
		}
		if stale {
			o.stale = append(o.stale, len(o.entries))
		}
		o.entries = append(o.entries, e)
	}
	return o
}

// header gives a header of the session its true names. The error says that an alias is damaged; then it has none.
func (s *Store) header(h *store.Header, session string) error {
	h.Session = session
	if s.names == nil {
		return nil
	}
	for i, a := range h.Aliases {
		name, err := s.names.show(aliasName, "", a)
		if err != nil {
			h.Aliases = nil
			return &store.CorruptError{Session: session, Header: true, Reason: "an alias: " + err.Error()}
		}
		h.Aliases[i] = name
	}
	return nil
}

// Load implements [store.Store].
func (s *Store) Load(ctx context.Context, session string, keys ...string) (store.Snapshot, error) {
	snap, _, err := s.load(ctx, session, keys)
	return snap, err
}

// load also tells which of the entries the newest key did not seal.
func (s *Store) load(ctx context.Context, session string, keys []string) (snap store.Snapshot, stale []int, err error) {
	if err := s.usable(ctx); err != nil {
		return snap, nil, err
	}
	if !s.names.fits(session) {
		snap.Header.Session = session
		return snap, nil, nil // there is no such session
	}
	ask := s.keys(session, keys)
	if len(ask) == 0 && len(keys) > 0 {
		ask = []string{noKey}
	}
	snap, err = s.inner.Load(ctx, s.names.hide(sessionName, "", session), ask...)
	epoch := snap.Header.Epoch
	if err != nil && blind(err) {
		epoch = store.MaxEpoch
	}
	var errs []error
	if err != nil {
		errs = append(errs, s.told(err))
	}
	if err := s.header(&snap.Header, session); err != nil {
		errs = append(errs, err)
	}
	o := s.open(session, epoch, snap.Entries)
	snap.Entries = o.entries
	return snap, o.stale, errors.Join(append(errs, o.unread...)...)
}

// LoadRange implements [store.Ranger], if the inner store does, and names are not hidden: what is hidden is in another order.
func (s *Store) LoadRange(ctx context.Context, session string, r store.Range) (store.Page, error) {
	if err := s.usable(ctx); err != nil {
		return store.Page{}, err
	}
	ranger, ok := s.inner.(store.Ranger)
	if !ok || s.names != nil {
		return store.Page{}, fmt.Errorf("store/seal: no ranges can be read: %w", errors.ErrUnsupported)
	}
	p, err := ranger.LoadRange(ctx, session, r)
	if r.KeysOnly {
		return p, err
	}
	epoch := p.Header.Epoch
	var errs []error
	if err != nil {
		if blind(err) {
			epoch = store.MaxEpoch
		}
		errs = append(errs, err)
	}
	o := s.open(session, epoch, p.Entries)
	p.Entries = o.entries
	return p, errors.Join(append(errs, o.unread...)...)
}

// Lookup implements [store.Directory], if the inner store does.
func (s *Store) Lookup(ctx context.Context, alias string) (store.Header, error) {
	if err := s.usable(ctx); err != nil {
		return store.Header{}, err
	}
	dir, ok := s.inner.(store.Directory)
	if !ok {
		return store.Header{}, fmt.Errorf("store/seal: the inner store looks no aliases up: %w", errors.ErrUnsupported)
	}
	if s.names != nil && len(alias) > store.MaxAlias-growth {
		return store.Header{}, nil // no session can have it
	}
	h, err := dir.Lookup(ctx, s.names.hide(aliasName, "", alias))
	if err != nil || h.Epoch == 0 {
		return h, s.told(err)
	}
	id, err := s.names.show(sessionName, "", h.Session)
	if err == nil {
		err = s.header(&h, id)
	} else {
		err = &store.CorruptError{Session: h.Session, Header: true, Reason: err.Error()}
	}
	if err != nil {
		return store.Header{}, err
	}
	return h, nil
}

// Find implements [store.Finder], if the inner store does and names are not hidden: what is hidden is in another order.
func (s *Store) Find(ctx context.Context, r store.AliasRange) (store.Found, error) {
	if err := s.usable(ctx); err != nil {
		return store.Found{}, err
	}
	f, ok := s.inner.(store.Finder)
	if !ok || s.names != nil {
		return store.Found{}, fmt.Errorf("store/seal: no aliases are found in their order: %w", errors.ErrUnsupported)
	}
	return f.Find(ctx, r) // a header has no more to open than names
}

// Claim implements [store.Store].
func (s *Store) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	c, _, err := s.claim(ctx, r)
	return c, err
}

// claim also tells which of the entries the newest key did not seal.
func (s *Store) claim(ctx context.Context, r store.ClaimRequest) (c store.Claim, stale []int, err error) {
	if err := s.usable(ctx); err != nil {
		return c, nil, err
	}
	ask, err := s.ask(r)
	if err != nil {
		return c, nil, err
	}
	c, err = s.inner.Claim(ctx, ask)
	if err != nil {
		return store.Claim{}, nil, s.told(err)
	}
	stale, err = s.claimed(r.Session, &c)
	return c, stale, err
}

// ask returns what the inner store is asked for a claim.
func (s *Store) ask(r store.ClaimRequest) (store.ClaimRequest, error) {
	if err := r.Check(); err != nil {
		return r, err
	}
	if err := s.checkSession(r.Session); err != nil {
		return r, err
	}
	r.Keys = s.keys(r.Session, r.Keys)
	r.Session = s.names.hide(sessionName, "", r.Session)
	return r, nil
}

// claimed opens what a claim has brought.
func (s *Store) claimed(session string, c *store.Claim) (stale []int, err error) {
	if err := s.header(&c.Header, session); err != nil {
		*c = store.Claim{}
		return nil, err
	}
	if s.names != nil {
		for i, k := range c.Unread {
			c.Unread[i] = s.names.known(keyName, session, k)
		}
	}
	o := s.open(session, c.Header.Epoch, c.Entries)
	c.Entries = o.entries
	for _, err := range o.unread {
		c.Unread = append(c.Unread, err.(*store.CorruptError).Key)
	}
	return o.stale, nil
}

// askers is how many claims are made at a time of an inner store that decides one in a call.
const askers = 16

// ClaimAll implements [store.Claimer]. An inner store that is none is asked for several at a time, each in a call of its own.
func (s *Store) ClaimAll(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if err := store.CheckClaims(rs); err != nil {
		return nil, err
	}
	answers := make([]store.Claim, len(rs))
	asks := make([]store.ClaimRequest, 0, len(rs))
	at := make([]int, 0, len(rs))
	for i := range rs {
		ask, err := s.ask(rs[i])
		if err != nil {
			answers[i].Err = err
			continue
		}
		asks, at = append(asks, ask), append(at, i)
	}
	cs, err := s.claimAll(ctx, asks)
	if err != nil {
		return nil, s.told(err)
	}
	for n, i := range at {
		c := &answers[i]
		*c = cs[n]
		if c.Err != nil {
			*c = store.Claim{Err: s.told(c.Err)}
			continue
		}
		if _, err := s.claimed(rs[i].Session, c); err != nil {
			c.Err = err
		}
	}
	return answers, nil
}

// claimAll makes the claims of the inner store.
func (s *Store) claimAll(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	if all, ok := s.inner.(store.Claimer); ok {
		cs, err := all.ClaimAll(ctx, rs)
		if err == nil && len(cs) != len(rs) {
			err = errAnswers
		}
		return cs, err
	}
	cs := make([]store.Claim, len(rs))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(askers, len(rs)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(rs)); i = next.Add(1) - 1 {
				c, err := s.inner.Claim(ctx, rs[i])
				c.Err = err
				cs[i] = c
			}
		})
	}
	wg.Wait()
	return cs, nil
}

var errAnswers = errors.New("store/seal: the inner store did not answer each claim")

// Sessions implements [store.Store].
func (s *Store) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		for h, err := range s.inner.Sessions(ctx, q) {
			if err != nil {
				err = s.told(err)
			} else {
				var id string
				if id, err = s.names.show(sessionName, "", h.Session); err != nil {
					err = &store.CorruptError{Session: h.Session, Header: true, Reason: err.Error()}
				} else {
					err = s.header(&h, id)
				}
				if err != nil {
					h = store.Header{}
				}
			}
			if !yield(h, err) {
				return
			}
		}
	}
}

// blind reports whether an error says that a session's header could not be read. Then there is no epoch to compare with.
func blind(err error) bool {
	return slices.ContainsFunc(leaves(err), func(err error) bool {
		var c *store.CorruptError
		return errors.As(err, &c) && c.Header
	})
}
