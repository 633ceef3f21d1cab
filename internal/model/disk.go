package model

import (
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is the store. Its verdicts are those of package store itself; the model adds what carries them out, and the ways in
// which that can be wrong.

// never is the time of all calls: nothing in the model expires.
var never time.Time

func owner(o uint8) store.Owner { return store.Owner{Incarnation: store.Incarnation{o}} }

func (r *record) header() store.Header {
	return store.Header{Epoch: uint64(r.epoch), Seq: uint64(r.seq), Owner: owner(r.owner), Released: r.released, Deleted: r.deleted}
}

func (r *record) set(h store.Header) {
	r.epoch, r.seq, r.owner = uint8(h.Epoch), uint8(h.Seq), h.Owner.Incarnation[0]
	r.released, r.deleted = h.Released, h.Deleted
}

// judge is the verdict on a change.
func (w *world) judge(m *message) (o store.Outcome, next store.Header, wipe bool) {
	c := store.Change{
		Owner: owner(m.owner), Epoch: uint64(m.epoch), Seq: uint64(m.seq), Birth: uint64(m.birth),
		Create: m.create, Wipe: m.wipe, Delete: m.del, Release: m.release,
	}
	h := w.records[m.session].header()
	if m.checked { // it was found in order before
		return store.Applied, store.Header{Epoch: c.Epoch, Seq: c.Seq, Owner: c.Owner, Deleted: c.Delete, Released: c.Release}, c.Wipe || c.Delete
	}
	o, next, wipe = c.Judge(h, true, never)
	switch {
	case w.bug == NoSeq && o == store.Already:
		c.Seq = h.Seq + 1
		o, next, wipe = c.Judge(h, true, never)
		next.Seq = uint64(m.seq)
	case w.bug == LeaseForEpoch && o == store.Fenced && h.Exists():
		c.Owner, c.Epoch, c.Seq = h.Owner, h.Epoch, h.Seq+1
		o, next, wipe = c.Judge(h, true, never)
	}
	return o, next, wipe
}

// apply does a change. It reports false if the store has done only the first half of it.
func (w *world) apply(m *message) (store.Outcome, bool) {
	o, next, wipe := w.judge(m)
	if o != store.Applied {
		return o, true
	}
	if w.bug == CheckThenWrite && !m.checked {
		m.checked = true
		return o, false
	}
	r := &w.records[m.session]
	before := *r
	w.observeChange(r, m)
	r.set(next)
	if wipe {
		r.val = pair{}
	}
	for k := range m.val {
		if m.has[k] {
			r.val[k] = m.val[k]
		}
	}
	if w.bug == NoTombstone && r.deleted {
		r.set(store.Header{})
	}
	if m.twin && (r.val != before.val || r.epoch != before.epoch || r.seq != before.seq || r.deleted != before.deleted || r.released != before.released) {
		w.fail(TwinsIdle, "a change that was applied before has changed the store again")
	}
	return o, true
}

// grant does a claim. runs tells that the lease of the session's owner runs, as far as the store knows: leases are hints, so
// it may be told either. The answer is left in the message. It reports false if the store has done only the first half of it.
func (w *world) grant(m *message, runs bool) (store.ClaimOutcome, bool) {
	r := &w.records[m.session]
	if w.bug == ClaimReadsFirst && !m.checked {
		m.checked, m.val, m.tx = true, r.val, r.tx
		return store.Granted, false
	}
	req := store.ClaimRequest{Owner: owner(m.owner), Force: m.force, Create: m.create, Epoch: uint64(m.epoch)}
	h := r.header()
	o, next, wipe := req.Judge(h, runs, never)
	if o == store.Granted && !(next.HeldBy(h.Owner, h.Epoch) && h.Exists() && !h.Released) {
		if w.bug == SameEpoch && h.Epoch > 0 {
			next.Epoch = h.Epoch
		}
		if wipe {
			r.val = pair{}
		}
		if !m.checked || wipe {
			m.val, m.tx = r.val, r.tx
		}
		w.observeGrant(r, m, uint8(next.Epoch), wipe)
		r.set(next)
	} else if !m.checked {
		m.val, m.tx = r.val, r.tx
	}
	m.epoch, m.checked = r.epoch, false
	return o, true
}
