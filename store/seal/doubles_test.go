package seal_test

import (
	"context"

	"github.com/seed-6f1f505d/kvstore/store"
)

// headless is an inner store that has lost its headers.
type headless struct{ store.Store }

func (h *headless) Load(ctx context.Context, id string, keys ...string) (store.Snapshot, error) {
	s, err := h.Store.Load(ctx, id, keys...)
	if err == nil {
		s.Header, err = store.Header{Session: id}, wrapped{&store.CorruptError{Session: id, Header: true}}
	}
	return s, err
}

// broken is an inner store whose Load fails.
type broken struct {
	store.Store
	err error
}

func (b *broken) Load(context.Context, string, ...string) (store.Snapshot, error) {
	return store.Snapshot{}, b.err
}

// wrapped is an error in another.
type wrapped struct{ err error }

func (w wrapped) Error() string { return "wrapped: " + w.err.Error() }
func (w wrapped) Unwrap() error { return w.err }

// refusing is an inner store for which every entry is too large.
type refusing struct{ store.Store }

func (*refusing) Apply(_ context.Context, cs []store.Change) (rs []store.Result, err error) {
	for _, c := range cs {
		r := store.Result{Outcome: store.Rejected, Err: store.ErrTooLarge}
		for _, e := range c.Puts {
			r.Keys = append(r.Keys, e.Key)
		}
		rs = append(rs, r)
	}
	return rs, nil
}

// interposed is an inner store before whose next claim something happens.
type interposed struct {
	store.Store
	before func()
}

func (i *interposed) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	if f := i.before; f != nil {
		i.before = nil
		f()
	}
	return i.Store.Claim(ctx, r)
}
