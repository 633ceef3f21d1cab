package kvstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is how sessions come to this node and leave it: claimed from the store, created,
// loaded again after an eviction; released, or taken away.
//
//	not resident ──Adopt: Claim──▶ resident ──Release: flush, header released──▶ not resident
//	                                  │
//	                                  └── fenced: Hooks.Lost gets what was unsaved ──▶ not resident
//
// Correctness does not rest on leases, nor on anything here: Claim raises the
// epoch before it reads, and from then on the store refuses the former owner.

// how a session is asked for.
type how uint8

const (
	adopt         how = iota // if its owner is not alive
	adoptOrCreate            // likewise, or make it
	steal                    // whoever has it
	reload                   // only if it is ours: it was evicted
	vacant                   // likewise; or else a place for a new one, which has no life yet
	sweep                    // not at all: it is being ended in the store, or indexed there, where it is nobody's, and whoever asks for it waits
)

// stripe serializes what brings sessions in: of all goroutines that ask for one
// session, one asks the store.
type stripe[V any] struct {
	mu    sync.Mutex
	calls map[string]*call[V]
	_     [48]byte // a cache line each
}

// call is a question to the store that is under way.
type call[V any] struct {
	how  how
	done chan struct{} // closed when s and err are set
	s    *session[V]
	err  error
}

// want is bring on behalf of the application: background adoptions stand back.
func (db *DB[V]) want(ctx context.Context, id string, how how, keys []string) (*session[V], error) {
	db.demand.Add(1)
	defer db.demand.Add(-1)
	return db.bring(ctx, id, how, keys)
}

// bring returns the resident session, asking the store for it if need be. Entries of
// the named keys, and the main entry, come in the same round trip.
func (db *DB[V]) bring(ctx context.Context, id string, how how, keys []string) (*session[V], error) {
	if ctx == nil {
		return nil, errNilContext
	}
	if err := checkID(id); err != nil {
		return nil, err
	}
	for _, k := range keys {
		if err := checkKey(id, k); err != nil {
			return nil, err
		}
	}
	st := db.stripe(id)
	for {
		if db.closing.Load() {
			return nil, ErrClosed
		}
		st.mu.Lock()
		if s := db.sessions.load(id); s != nil {
			st.mu.Unlock()
			again, err := db.found(ctx, s, how)
			if again {
				continue
			}
			return s, err
		}
		if db.draining.Load() && (how != reload || db.sealed.Load() > 0) {
			st.mu.Unlock()
			if how == reload {
				return nil, sessionError(id, ErrNotResident)
			}
			return nil, db.elsewhere(ctx, id)
		}
		if err := ctx.Err(); err != nil { // what is here needs no waiting, and is served all the same
			st.mu.Unlock()
			return nil, err
		}
		c := st.calls[id]
		mine := c == nil
		if mine {
			c = &call[V]{how: how, done: make(chan struct{})}
			st.calls[id] = c
			if !db.spawn(func(ctx context.Context) { db.ask(ctx, st, c, id, keys) }) {
				delete(st.calls, id)
				st.mu.Unlock()
				return nil, ErrClosed
			}
		}
		st.mu.Unlock()
		select {
		case <-c.done:
		case <-ctx.Done():
			if c.how == vacant { // nobody may come for the place that is being made
				db.spawn(func(context.Context) {
					<-c.done
					db.vacate(c.s)
				})
			}
			return nil, ctx.Err()
		}
		if c.how == how {
			return c.s, c.err
		}
		// It was asked for in another way: what came of it is to be judged in ours. A reload brings in what has expired, too.
	}
}

// elsewhere is for a node that takes nothing in any more: an OwnedError, if the session lives on another
// node, so that its event can be sent there; else ErrDraining.
func (db *DB[V]) elsewhere(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, db.opt.StoreTimeout)
	defer cancel()
	snap, err := db.store.Load(ctx, id, "")
	if err != nil || !snap.Header.Exists() || snap.Header.Released {
		return sessionError(id, ErrDraining)
	}
	nodes, err := db.store.Nodes(ctx)
	if err != nil {
		return sessionError(id, ErrDraining)
	}
	for _, n := range nodes {
		if n.Incarnation == snap.Header.Owner.Incarnation && n.Incarnation != db.self.Incarnation && n.Lease > 0 {
			return &OwnedError{Session: id, Node: n.Name, Addr: n.Addr, Epoch: snap.Header.Epoch, Lease: n.Lease}
		}
	}
	return sessionError(id, ErrDraining)
}

// found judges a session that is in the map. It reports again if it has left and been taken out.
func (db *DB[V]) found(ctx context.Context, s *session[V], how how) (again bool, err error) {
	if how != vacant {
		db.vacate(s) // the store is to be asked; who wanted to create it tries again
	}
	s.mu.Lock()
	state, err, release := s.state, s.usable(anyLife), s.has(release)
	if s.vacant() && how == vacant {
		err = nil
	}
	s.mu.Unlock()
	switch {
	case state != live:
		db.out(s)
		return true, nil
	case release && how != reload: // it may be read until it is gone
		return false, sessionError(s.id(), ErrReleased)
	case err == nil && how == steal:
		// Whoever steals has reason to doubt that it is here.
		err = db.verify(ctx, s)
		return db.retry(s, err), err
	case err != nil && how == adoptOrCreate:
		if err = db.commit(ctx, s, &change[V]{revive: true}); err == nil {
			err = db.syncAll(ctx, s) // it is stored when AdoptOrCreate returns
		}
		if errors.Is(err, ErrFenced) && !errors.Is(err, ErrRefused) {
			return true, nil // what was deleted here is another's, or was never ours: it has left, and the store knows
		}
		return db.retry(s, err), err
	}
	return false, err
}

// ask is the goroutine of a call.
func (db *DB[V]) ask(ctx context.Context, st *stripe[V], c *call[V], id string, keys []string) {
	ctx, cancel := context.WithTimeout(ctx, db.opt.StoreTimeout)
	defer cancel()
	keys = append([]string{""}, keys...)
	var s *session[V]
	switch c.how {
	case reload, vacant:
		s, c.err = db.askReload(ctx, id, keys)
		if c.how == vacant && errors.Is(c.err, ErrNotResident) {
			s, c.err = db.vacancy(id), nil
		}
	default:
		s, c.err = db.askClaim(ctx, id, c.how, keys)
	}
	db.answer(st, c, id, s)
}

// answer ends a call: s is what came of it, if there is no error.
func (db *DB[V]) answer(st *stripe[V], c *call[V], id string, s *session[V]) {
	if c.err != nil && db.ctx.Err() != nil {
		c.err = ErrClosed // Close cut the call off
	}
	st.mu.Lock()
	if s != nil {
		if c.s = db.sessions.insert(s); c.s == s {
			db.enlist(s)
		}
	}
	delete(st.calls, id)
	st.mu.Unlock()
	if c.s != nil && c.s.dead() {
		db.out(c.s) // its time came before it was in the map
	}
	if s != nil && db.sieve != nil {
		// Before anybody has it: what goes for it does not depend on what is done with it meanwhile.
		db.sieve.insert(s)
		db.sieve.shrink(db, s)
	}
	close(c.done)
}

// askClaim claims a session.
func (db *DB[V]) askClaim(ctx context.Context, id string, how how, keys []string) (*session[V], error) {
	req := store.ClaimRequest{Session: id, Owner: db.self, Create: how == adoptOrCreate, Keys: keys}
	for {
		gen := db.lease.gen.Load()
		start := db.now()
		c, err := db.store.Claim(ctx, req)
		db.heard(err)
		if err != nil {
			return nil, db.unanswered(id, err)
		}
		if how == steal && (c.Outcome == store.Held || c.Outcome == store.Outbid && c.Header.Epoch < store.MaxEpoch) {
			if err := db.knows(&c.Header); err != nil {
				return nil, err // its owner knows it
			}
			// The epoch is named, so that this request can take the session from
			// this tenure only, however late it arrives.
			req.Force, req.Epoch = true, c.Header.Epoch+1
			continue
		}
		return db.claimed(id, &c, keys, gen, start)
	}
}

// claimed returns what a claim, made at start, has brought.
func (db *DB[V]) claimed(id string, c *store.Claim, keys []string, gen uint32, start int64) (*session[V], error) {
	switch c.Outcome {
	case store.Granted:
		if err := db.knows(&c.Header); err != nil {
			db.giveBack(c.Header)
			return nil, err
		}
		db.count.claimTime.Add(db.now() - start)
		why := CauseCreate
		if c.Created {
			db.count.created.Add(1)
		} else {
			db.count.adopted.Add(1)
			why = cameBack(c.Header)
		}
		return db.rehydrate(id, c.Header, c.Entries, keys, c.Unread, why, gen), nil
	case store.NotFound:
		return nil, sessionError(id, ErrNotFound)
	case store.Held, store.Outbid:
		if c.Outcome == store.Outbid && c.Header.Epoch >= store.MaxEpoch { // as no one gets there by claims
			return nil, fmt.Errorf("kvstore: session %q: %w", id, &store.CorruptError{Session: id, Header: true, Reason: "no epoch can follow its own"})
		}
		return nil, &OwnedError{Session: id, Node: c.Holder.Name, Addr: c.Holder.Addr, Epoch: c.Header.Epoch, Lease: c.Holder.Lease}
	}
	return nil, fmt.Errorf("kvstore: session %q: the store answered a claim with outcome %d", id, c.Outcome)
}

// unanswered returns the error of a claim that failed. It may have been granted.
func (db *DB[V]) unanswered(id string, err error) error {
	db.astray.Store(true)
	if damaged := (*store.CorruptError)(nil); errors.As(err, &damaged) {
		return fmt.Errorf("kvstore: session %q: %w", id, err)
	}
	return fmt.Errorf("kvstore: session %q: the store did not answer a claim: %w", id, err)
}

// askReload brings a session back that was evicted, if it is still ours.
func (db *DB[V]) askReload(ctx context.Context, id string, keys []string) (*session[V], error) {
	gen := db.lease.gen.Load()
	snap, err := db.store.Load(ctx, id, keys...)
	damaged := unread(err)
	if err != nil && damaged == nil {
		db.heard(err)
		return nil, fmt.Errorf("kvstore: session %q: the store did not answer: %w", id, err)
	}
	db.heard(nil)
	h := snap.Header
	// An expired one comes in, too: only its owner may end it, and whoever makes it anew has to.
	if !h.HeldBy(db.self, h.Epoch) || !h.Exists() || h.Released {
		return nil, sessionError(id, ErrNotResident)
	}
	db.count.reloaded.Add(1)
	return db.rehydrate(id, h, snap.Entries, keys, damaged, cameBack(h), gen), nil
}

// cameBack says of a session that the store has as this node's how it came. If nothing was changed in the tenure it may never have been here: the answer to the
// claim may have been lost, and others have had it since it was.
func cameBack(h store.Header) Cause {
	if h.Seq == 0 {
		return CauseAdopt
	}
	return CauseReload
}

// unread returns the keys of the damaged entries if err is about nothing else.
func unread(err error) (keys []string) {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range j.Unwrap() {
			k := unread(e)
			if k == nil {
				return nil
			}
			keys = append(keys, k...)
		}
		return keys
	}
	var c *store.CorruptError
	if errors.As(err, &c) && !c.Header {
		return []string{c.Key}
	}
	return nil
}

// rehydrate makes a resident session of what the store returned for an ID, which was checked: what the store says that it is called does not matter. Of the keys asked
// for, those that are neither in entries nor unread are known not to exist.
func (db *DB[V]) rehydrate(id string, h store.Header, entries []store.Entry, asked, unread []string, why Cause, gen uint32) *session[V] {
	s := db.newSession(id, h.Epoch)
	s.setIf(complete, why == CauseCreate)
	s.verified.Store(gen)
	if len(h.Aliases) > 0 || h.Schema > db.opt.Schema {
		x := s.more()
		x.setNames(h.Aliases, db.terms)
		x.schema = h.Schema
	}
	s.expires.Store(int64(h.Expires))
	for _, k := range asked {
		e := s.at(k)
		e.cell.Store(db.absent)
		e.stored = false
	}
	for _, k := range unread {
		e := s.at(k)
		e.cell.Store(nil)
		e.stored = true
	}
	for i := range entries {
		e := s.at(entries[i].Key)
		e.stored = true
		c, err := db.decode(s.id(), &entries[i])
		if err != nil {
			e.cell.Store(nil) // whoever asks for it is told
			continue
		}
		e.cell.Store(c)
	}
	db.resume(s)
	db.came(s, why)
	// Last: what has expired already is ended at once, on another goroutine.
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.Expires != 0 {
		db.expirer.arm(s, "", nil, h.Expires)
	}
	for i := range entries {
		if e := s.lookup(entries[i].Key); e.cell.Load() != nil {
			db.arm(s, entries[i].Key, e, entries[i].Expires)
		}
	}
	return s
}

// vacancy returns a session with no life yet. Like one that was deleted, it is revived by a commit.
//
// Its epoch is the first. Above a tombstone the store refuses that, and reborn proposes the next one. It is
// never higher than by one above what the store has: so whoever else makes the session, and deletes it, uses that
// number up, and an attempt of ours that arrives later brings nothing back.
func (db *DB[V]) vacancy(id string) *session[V] {
	s := db.newSession(id, 1)
	s.set(complete | creating | deleted)
	s.main.cell.Store(db.absent)
	s.verified.Store(db.lease.gen.Load())
	return s
}

// site returns the session, or a vacancy. The store is asked only if this node may own it without having it in memory: it
// was evicted, or the answer to a claim was lost.
func (db *DB[V]) site(ctx context.Context, id string) (*session[V], error) {
	if db.sieve == nil && !db.astray.Load() {
		if s, err := db.siteHere(id); err != errSwept {
			return s, err
		}
	}
	return db.want(ctx, id, vacant, nil)
}

// errSwept: the session is just being ended in the store. It never leaves site.
var errSwept = errors.New("kvstore: just being swept")

// siteHere is site without the store.
func (db *DB[V]) siteHere(id string) (*session[V], error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	st := db.stripe(id)
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case db.closing.Load():
		return nil, ErrClosed
	case db.draining.Load():
		return nil, ErrDraining
	case st.calls[id] != nil && st.calls[id].how == sweep:
		return nil, errSwept
	case st.calls[id] != nil:
		return nil, fmt.Errorf("%w: session %q is just being adopted", ErrExists, id)
	}
	if s := db.sessions.load(id); s != nil {
		return s, nil
	}
	return db.sessions.insert(db.vacancy(id)), nil
}

// create makes a session without claiming it; its first flush does, and may be fenced.
func (db *DB[V]) create(ctx context.Context, id string) (*session[V], error) {
	for {
		s, err := db.site(ctx, id)
		if err != nil && !errors.Is(err, ErrNotFound) { // found, and deleted
			return nil, err
		}
		s.hold() // if it is evicted, so commit says
		err = db.commit(ctx, s, &change[V]{revive: true, birth: true})
		if err == nil {
			db.count.created.Add(1)
			return s, nil
		}
		if db.retry(s, err) {
			continue
		}
		db.vacate(s)
		return nil, err
	}
}

// vacate takes a session out if it never began to live.
func (db *DB[V]) vacate(s *session[V]) {
	if s == nil {
		return
	}
	s.mu.Lock()
	vacant := s.state == live && s.vacant() && s.clean()
	if vacant {
		db.leave(s, departed, sessionError(s.id(), ErrNotFound))
	}
	s.mu.Unlock()
	if vacant {
		db.out(s)
	}
}

// expel takes a session out of memory whole, because the store will not take its changes
// any more, and hands over what was unsaved: in the flight f, if there is one, and since.
func (db *DB[V]) expel(s *session[V], f *flight[V], why error) {
	s.mu.Lock()
	if s.state != live {
		gone := s.gone()
		s.mu.Unlock()
		if f != nil {
			db.discard(f, store.Result{}, gone)
		}
		return
	}
	l, free := db.unsaved(s, f)
	l.Cause = why
	// The hooks' turn is taken before anyone can learn of it in another way, so that their order is that of what happened.
	if l.any() {
		db.lost(l)
	}
	if e, ok := why.(*FencedError); ok {
		db.fenced(e)
	}
	db.budget.release(free)
	db.leave(s, departed, why)
	s.mu.Unlock()
	db.out(s)
	db.lane(s).rouse() // nobody waits for it any more
}

// unsaved describes all of a session that is not stored, and what it holds of the
// budget. Caller holds mu, and takes the session out of memory.
func (db *DB[V]) unsaved(s *session[V], f *flight[V]) (l Lost, free int64) {
	l = Lost{Session: s.id(), Epoch: s.epoch, Created: s.has(creating), head: s.has(head)}
	l.Deleted = s.has(deleted) && s.ver > 0 || s.has(wipe) && (!s.has(creating) || s.has(blind) || f != nil && f.begins())
	if f != nil {
		l.Deleted = l.Deleted || f.ends()
		free += db.flightCharge(f)
		l.head = l.head || f.head
		for i := range f.items {
			if it := &f.items[i]; !it.e.dirty && f.life == s.life() {
				l.Entries = append(l.Entries, db.lostEntry(it.key, it.cell))
			}
		}
	}
	// Their dirty marks stay: they tell discard what is reported here.
	free += s.charges()
	if s.has(head) {
		free += headCost(s.id())
	}
	if s.main.dirty {
		l.Entries = append(l.Entries, db.lostEntry("", s.main.cell.Load()))
	}
	if s.x != nil {
		for _, d := range s.x.dirty {
			if d.dirty {
				l.Entries = append(l.Entries, db.lostEntry(d.key, d.cell.Load()))
			}
		}
	}
	return l, free
}

func (l *Lost) any() bool { return len(l.Entries) > 0 || l.head || l.Created || l.Deleted }

func (db *DB[V]) flightCharge(f *flight[V]) (n int64) {
	for i := range f.items {
		n += int64(f.items[i].charge)
	}
	if f.head {
		n += headCost(f.s.id())
	}
	return n
}

// discard settles a flight whose session left memory meanwhile.
func (db *DB[V]) discard(f *flight[V], r store.Result, why error) {
	db.budget.release(db.flightCharge(f))
	if f.void {
		return
	}
	s, stored := f.s, r.Outcome == store.Applied || r.Outcome == store.Already
	l := Lost{Session: s.id(), Epoch: f.change.Epoch, Cause: why}
	s.mu.Lock()
	// Who took the session out has told of its deletion, and of a life that ended since the flight began.
	if !stored && !f.change.Delete && f.life == s.life() {
		l.Deleted, l.head = f.ends(), f.head
	}
	for i := range f.items {
		it := &f.items[i]
		if stored && it.err == nil {
			continue
		}
		if !it.e.dirty && f.life == s.life() {
			l.Entries = append(l.Entries, db.lostEntry(it.key, it.cell))
		}
	}
	s.mu.Unlock()
	if l.any() {
		db.lost(l)
	}
}
