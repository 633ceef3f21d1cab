package store

import "time"

// This file is the fence itself: two pure functions from a request and the header on
// record to a verdict and the header that replaces it. A store that reads and
// writes in one transaction of its own (memory, bolt) calls them between the
// two; one that decides inside its engine (SQL, Lua) must decide the same. Two more are for
// aliases: whether a change that is Applied may have those that it names, and what a Lookup finds.

// gone reports whether no session is left at now. An expired one whose owner is
// alive is not gone: the owner may hold an extension that is not stored yet. A
// released one has no owner.
func gone(h Header, ownerAlive bool, now time.Time) bool {
	return !h.Exists() || h.Expires.Past(now) && (h.Released || !ownerAlive)
}

// Judge decides a claim against h, the header on record (zero if absent).
// ownerAlive tells whether the lease of h.Owner runs. If the claim is granted, next is the
// header to be stored, and wipe tells that a former life's entries must go first.
// If next equals h nothing needs to be written.
func (r *ClaimRequest) Judge(h Header, ownerAlive bool, now time.Time) (o ClaimOutcome, next Header, wipe bool) {
	mine := h.Exists() && !h.Released && h.Owner.Incarnation == r.Owner.Incarnation
	expired := gone(h, ownerAlive && !mine, now)
	switch {
	case expired && !r.Create:
		return NotFound, h, false
	case !expired && mine:
		return Granted, h, false
	case !expired && !h.Released && ownerAlive && !r.Force:
		return Held, h, false
	case r.Epoch != 0 && r.Epoch <= h.Epoch, h.Epoch >= MaxEpoch:
		return Outbid, h, false
	}
	next = Header{Session: r.Session, Owner: r.Owner, Epoch: max(r.Epoch, h.Epoch+1)}
	if expired {
		return Granted, next, true
	}
	next.Expires, next.Aliases, next.Schema = h.Expires, h.Aliases, h.Schema
	return Granted, next, false
}

// Judge decides a change against h, the header on record (zero if absent).
// ownerAlive tells whether the lease of h.Owner runs. If the outcome is Applied, next is
// the header to be stored, and wipe tells that all entries on record go before the change's puts.
func (c *Change) Judge(h Header, ownerAlive bool, now time.Time) (o Outcome, next Header, wipe bool) {
	wipe = c.Wipe || c.Delete
	switch {
	case h.Epoch > 0 && h.HeldBy(c.Owner, c.Epoch):
		if c.Seq <= h.Seq {
			return Already, h, false
		}
		if h.Deleted && !c.Delete && !c.Create || h.Seq < c.Birth {
			return Fenced, h, false
		}
	case c.Create && c.Epoch > h.Epoch && gone(h, ownerAlive, now):
		wipe = true
	default:
		return Fenced, h, false
	}
	next = Header{Session: c.Session, Owner: c.Owner, Epoch: c.Epoch, Seq: c.Seq, Deleted: c.Delete}
	if !c.Delete {
		next.Released = c.Release
		next.Expires, next.Aliases, next.Schema = c.Expires, c.Aliases, c.Schema
	}
	return Applied, next, wipe
}

// JudgeAliases decides whether a change that Judge finds Applied may have the aliases that it names: nil, or an [*AliasError], and the change is Rejected. has
// returns the header of the session that has an alias, which may be c's own, and whether its owner's lease runs; the zero Header if none has it.
func (c *Change) JudgeAliases(has func(alias string) (h Header, ownerAlive bool), now time.Time) error {
	if c.Delete {
		return nil
	}
	for _, a := range c.Aliases {
		if h, alive := has(a); h.Session != c.Session && !gone(h, alive, now) {
			return &AliasError{Alias: a, Session: c.Session, Holder: h.Session}
		}
	}
	return nil
}

// JudgeLookup returns what a Lookup finds: h, the header of the session that has the alias, or the zero Header if that session is gone.
func JudgeLookup(h Header, ownerAlive bool, now time.Time) Header {
	if gone(h, ownerAlive, now) {
		return Header{}
	}
	return h
}
