package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Apply implements [store.Store]. The changes of one call, and those of calls that
// run at the same time, are committed in one transaction. A change that meets damage
// stands alone: it is Rejected with a [*store.CorruptError] if the session's header is
// damaged, Undecided with what was found if pages of the file are.
//
// Values up to 32 MiB are accepted.
func (s *Store) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	if len(changes) == 0 {
		return nil, nil
	}
	results := make([]store.Result, len(changes))
	c := callPool.Get().(*call)
	size := 0
	for i := range changes {
		size += len(changes[i].Session) + binary.MaxVarintLen64
	}
	c.keys, c.items = slices.Grow(c.keys, size), slices.Grow(c.items, len(changes))
	for i := range changes {
		start := len(c.keys)
		c.keys = appendPrefix(c.keys, changes[i].Session)
		c.items = append(c.items, item{key: c.keys[start:len(c.keys):len(c.keys)], change: &changes[i], result: &results[i]})
	}
	err := s.commit(ctx, c)
	c.free()
	if err != nil {
		return nil, err
	}
	return results, nil
}

// Claim implements [store.Store]. A claim that is refused waits for no commit.
func (s *Store) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	if err := s.enter(ctx); err != nil {
		return store.Claim{}, err
	}
	defer s.leave()
	if err := r.Check(); err != nil {
		return store.Claim{}, err
	}
	if answer, ok := s.refused(&r); ok {
		return answer, nil
	}
	var answer store.Claim
	c := &call{items: []item{{key: appendPrefix(nil, r.Session), claim: &r, answer: &answer}}}
	err := s.commit(ctx, c)
	if err == nil {
		err = c.items[0].err
	}
	if err != nil {
		return store.Claim{}, err
	}
	return answer, nil
}

// ClaimAll implements [store.Claimer]. All that it grants anew is committed in one transaction. A claim that meets damage stands alone: its
// Err has what was found.
func (s *Store) ClaimAll(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	if err := store.CheckClaims(rs); err != nil || len(rs) == 0 {
		return nil, err
	}
	answers := make([]store.Claim, len(rs))
	c := callPool.Get().(*call)
	for i := range rs {
		start := len(c.keys)
		c.keys = appendPrefix(c.keys, rs[i].Session)
		c.items = append(c.items, item{key: c.keys[start:len(c.keys):len(c.keys)], claim: &rs[i], answer: &answers[i]})
	}
	err := s.commit(ctx, c)
	for i := range c.items {
		if c.items[i].err != nil {
			answers[i] = store.Claim{Err: c.items[i].err}
		}
	}
	c.free()
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// refused answers a claim from what is there, if it is refused: the session is unknown or somebody else's. That need not
// queue behind the commits of others. Anything else, errors too, is left to the commit: also what was granted
// already, as bbolt shows a commit before it is synced, and one that never was.
func (s *Store) refused(r *store.ClaimRequest) (answer store.Claim, ok bool) {
	only := *r
	only.Keys, only.All = nil, false
	it := item{key: appendPrefix(nil, r.Session), claim: &only, answer: &answer}
	err := s.view(func(tx *bbolt.Tx) error {
		b, err := s.newBatch(tx)
		if err == nil {
			_, err = b.decideClaim(&it)
		}
		return err
	})
	return answer, err == nil && answer.Outcome != store.Granted
}

// plan is what was decided for an item: what to write, if anything.
type plan struct {
	write bool
	wipe  bool
	old   header // zero if there is none
	next  store.Header

	takes, frees []string // aliases
}

// do decides an item and then writes it. Deciding only reads, so that whatever
// it meets is this item's matter. An error, or a panic of bbolt, in writing is the whole transaction's.
func (b *batch) do(it *item) error {
	var p plan
	var puts []store.Entry
	var deletes []string
	err := safely(func() (err error) {
		if it.change != nil {
			puts, deletes = it.change.Puts, it.change.Deletes
			p, err = b.decideChange(it)
		} else {
			p, err = b.decideClaim(it)
		}
		if err == nil && p.write {
			err = b.soundFor(it.key, &p, puts, deletes)
		}
		return err
	})
	if err != nil {
		if fault, ok := err.(*faultError); ok {
			err = corruptHeader(it.key, fault)
		}
		it.fail(b.store.wrap(err))
		return nil
	}
	if !p.write {
		return nil
	}
	if err := b.rename(p.next.Session, &p); err != nil {
		return &faultError{cause: err}
	}
	b.written = it.key
	if err := b.write(it.key, &p, puts, deletes); err != nil {
		return &faultError{cause: err} // bbolt takes every key and value of ours, unless what it holds is damaged
	}
	return nil
}

func (b *batch) decideChange(it *item) (p plan, err error) {
	c := it.change
	*it.result = store.Result{}
	if keys, err := c.Check(); err != nil {
		*it.result = store.Result{Outcome: store.Rejected, Err: err, Keys: keys}
		return p, nil
	}
	if keys, err := tooLarge(c); err != nil {
		*it.result = store.Result{Outcome: store.Rejected, Err: err, Keys: keys}
		return p, nil
	}
	p.old, err = b.findNext(it.key)
	if isFault(err) {
		return p, err
	}
	if err != nil {
		*it.result = store.Result{Outcome: store.Rejected, Err: b.store.wrap(err)}
		return p, nil
	}
	_, alive := b.store.lease(p.old.incarnation, b.now)
	it.result.Outcome, p.next, p.wipe = c.Judge(p.old.fence(c.Session), alive, b.wall)
	switch it.result.Outcome {
	case store.Applied:
		refused, err := b.decideAliases(c, &p)
		if err != nil {
			return p, err
		}
		if refused != nil {
			*it.result = store.Result{Outcome: store.Rejected, Err: refused}
			return p, nil
		}
		p.write = true
	case store.Fenced:
		it.result.Header = p.old.head(c.Session)
	}
	return p, nil
}

// tooLarge reports what of a change the file cannot hold.
func tooLarge(c *store.Change) (keys []string, err error) {
	for i := range c.Puts {
		if e := &c.Puts[i]; len(e.Value) > maxValue {
			keys = append(keys, e.Key)
			err = fmt.Errorf("%w: session %q, key %q: value of %d bytes, at most %d are allowed", store.ErrTooLarge, c.Session, e.Key, len(e.Value), maxValue)
		}
	}
	size := len(c.Owner.Node)
	for _, a := range c.Aliases {
		size += len(a) + binary.MaxVarintLen64 // what decodeAliases has to go through is bounded, too
	}
	if err == nil && size > maxHeader {
		err = fmt.Errorf("%w: session %q: node and aliases have %d bytes, at most %d are allowed", store.ErrTooLarge, c.Session, size, maxHeader)
	}
	return keys, err
}

func (b *batch) decideClaim(it *item) (p plan, err error) {
	r := it.claim
	*it.answer, it.err = store.Claim{}, nil
	if len(r.Owner.Node) > maxHeader {
		return p, fmt.Errorf("%w: node name of %d bytes", store.ErrInvalid, len(r.Owner.Node))
	}
	if p.old, err = b.find(it.key); err != nil {
		return p, err
	}
	on := p.old.head(r.Session)
	holder, alive := b.store.lease(on.Owner.Incarnation, b.now)
	a := store.Claim{}
	a.Outcome, p.next, p.wipe = r.Judge(on, alive, b.wall)
	a.Header = p.next
	switch a.Outcome {
	case store.Granted:
		a.Created = p.wipe
		p.write = p.next.Epoch != on.Epoch
		if !p.wipe {
			// The same transaction raises the epoch: nothing can come between.
			rd := reader{b.cursor, b.sound, it.key, &p.old, b.wall} // find has looked at the pages
			var bad []*store.CorruptError
			if a.Entries, bad, err = rd.entries(r.Keys, r.All); err != nil {
				return p, err
			}
			for _, e := range bad {
				a.Unread = append(a.Unread, e.Key)
			}
		} else if err := b.decideFreed(r.Session, on.Aliases, &p); err != nil {
			return p, err
		}
	case store.Held:
		a.Holder = holder
	}
	*it.answer = a
	return p, nil
}

// batch is one write transaction.
type batch struct {
	store    *Store
	tx       *bbolt.Tx
	sessions *bbolt.Bucket
	graves   *bbolt.Bucket
	aliases  *bbolt.Bucket // nil if the file is of a format that has none
	cursor   *bbolt.Cursor // over sessions; good for Seek only, as writes move things under it
	now      time.Time     // with the monotonic clock, for leases
	wall     time.Time     // for what is stored; the same instant
	sound    *sound        // made when it is needed
	written  []byte        // the key of the last item that was written
	dirty    bool          // something was written

	aliasPages *sound // as sound, of aliases
	upgraded   bool   // aliases was made in this transaction
}

func (s *Store) newBatch(tx *bbolt.Tx) (*batch, error) {
	b := &batch{store: s, tx: tx, sessions: tx.Bucket(bucketSessions), graves: tx.Bucket(bucketGraves), now: time.Now()}
	if b.sessions == nil || b.graves == nil {
		return nil, &faultError{cause: "a bucket is missing"}
	}
	var err error
	if b.aliases, err = aliasesOf(tx); err != nil {
		return nil, err
	}
	b.wall = b.now
	b.sessions.FillPercent = fillPercent
	b.cursor = b.sessions.Cursor()
	return b, nil
}

// find reads the header record under key. Absent gives the zero header; anything
// that is not as it should be is an error.
func (b *batch) find(key []byte) (header, error) {
	if err := b.soundAt(key); err != nil { // is what is there what belongs there, and what is absent not hidden?
		return header{}, err
	}
	return find(b.cursor, b.sound, key)
}

// findNext is find for a transaction's items, which come in the order of their keys: what none of them has written yet is on the pages as they were
// when it began, and soundAt has just gone there. bbolt would go there once more.
func (b *batch) findNext(key []byte) (header, error) {
	if bytes.Equal(key, b.written) {
		return b.find(key)
	}
	if err := b.soundAt(key); err != nil {
		return header{}, err
	}
	if v, ok := b.sound.get(key); ok {
		return readHeader(key, v)
	}
	return find(b.cursor, b.sound, key)
}
