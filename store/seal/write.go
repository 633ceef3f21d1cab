package seal

import (
	"context"
	"fmt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// batch is what one Apply hands to the inner store. All of it is used again when that has returned, as it copies what it keeps.
type batch struct {
	changes []store.Change
	at      []int // their places among the caller's
	puts    []store.Entry
	arena   []byte // sealed values
}

// keepArena bounds the bytes of an arena that is used again.
const keepArena = 4 << 20

func (b *batch) reset() {
	clear(b.changes)
	clear(b.puts)
	b.changes, b.at, b.puts, b.arena = b.changes[:0], b.at[:0], b.puts[:0], b.arena[:0]
	if cap(b.arena) > keepArena {
		b.arena = nil
	}
}

// room makes room for the changes, so that nothing moves while it is filled.
func (b *batch) room(changes []store.Change) {
	var puts, bytes int
	for i := range changes {
		puts += len(changes[i].Puts)
		for j := range changes[i].Puts {
			if n := len(changes[i].Puts[j].Value); n <= maxValue {
				bytes += n + Overhead
			}
		}
	}
	if cap(b.changes) < len(changes) {
		b.changes = make([]store.Change, 0, len(changes))
	}
	if cap(b.puts) < puts {
		b.puts = make([]store.Entry, 0, puts)
	}
	if cap(b.arena) < bytes {
		b.arena = make([]byte, 0, bytes)
	}
}

// Apply implements [store.Store].
func (s *Store) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	b := s.batches.Get().(*batch)
	defer func() {
		b.reset()
		s.batches.Put(b)
	}()
	results := make([]store.Result, len(changes))
	b.room(changes)
	for i := range changes {
		c := &changes[i]
		if keys, err := s.check(c); err != nil {
			results[i] = store.Result{Outcome: store.Rejected, Err: err, Keys: keys}
			continue
		}
		if err := s.seal(b, c); err != nil {
			return nil, err
		}
		b.at = append(b.at, i)
	}
	if len(b.changes) == 0 {
		return results, nil
	}
	rs, err := s.inner.Apply(ctx, b.changes)
	if err != nil {
		return nil, s.told(err)
	}
	if len(rs) != len(b.changes) {
		return nil, fmt.Errorf("store/seal: the inner store returned %d results for %d changes", len(rs), len(b.changes))
	}
	for n, i := range b.at {
		results[i] = s.result(&changes[i], rs[n])
	}
	return results, nil
}

// check reports why a change can never be applied, with the keys to blame.
func (s *Store) check(c *store.Change) (keys []string, err error) {
	if keys, err = c.Check(); err != nil {
		return keys, err
	}
	if err := s.checkSession(c.Session); err != nil {
		return nil, err
	}
	if s.names != nil {
		size := 0
		for _, a := range c.Aliases {
			if size += growth + len(a); len(a) > store.MaxAlias-growth {
				return nil, fmt.Errorf("%w: session %q: alias %.32q… has %d bytes, at most %d can be hidden", store.ErrInvalid, c.Session, a, len(a), store.MaxAlias-growth)
			}
		}
		if size > store.MaxAliasBytes {
			return nil, fmt.Errorf("%w: session %q: its aliases, hidden, have %d bytes, at most %d are allowed", store.ErrInvalid, c.Session, size, store.MaxAliasBytes)
		}
	}
	for i := range c.Puts {
		switch e := &c.Puts[i]; {
		case !s.names.fits(e.Key):
			err = fmt.Errorf("%w: session %q: key %.32q… has %d bytes, at most %d can be hidden", store.ErrTooLarge, c.Session, e.Key, len(e.Key), maxHidden)
			keys = append(keys, e.Key)
		case len(e.Value) > maxValue:
			err = fmt.Errorf("%w: session %q, key %q: the value has %d bytes, at most %d can be sealed", store.ErrTooLarge, c.Session, e.Key, len(e.Value), maxValue)
			keys = append(keys, e.Key)
		}
	}
	return keys, err
}

func (s *Store) checkSession(id string) error {
	if s.names.fits(id) {
		return nil
	}
	return fmt.Errorf("%w: %w: session ID %.32q… has %d bytes, at most %d can be hidden", store.ErrInvalid, store.ErrTooLarge, id, len(id), maxHidden)
}

// seal adds a change to the batch.
func (s *Store) seal(b *batch, c *store.Change) error {
	p := s.enter(c.Session)
	defer s.leave(p)
	out := *c
	out.Session = s.names.hide(sessionName, "", c.Session)
	out.Aliases = s.names.hideAll(aliasName, "", c.Aliases)
	out.Deletes = s.keys(c.Session, c.Deletes)
	first := len(b.puts)
	for i := range c.Puts {
		e := &c.Puts[i]
		start := len(b.arena)
		var err error
		if b.arena, err = s.ring.seal(b.arena, p, c.Epoch, e); err != nil {
			return err
		}
		b.puts = append(b.puts, store.Entry{
			Key:     s.names.hide(keyName, c.Session, e.Key),
			Value:   b.arena[start:len(b.arena):len(b.arena)],
			Expires: e.Expires,
		})
	}
	out.Puts = b.puts[first:len(b.puts):len(b.puts)]
	b.changes = append(b.changes, out)
	return nil
}

// keys returns the stored forms of those keys that an entry can have. The others are of none.
func (s *Store) keys(session string, keys []string) []string {
	if s.names == nil || len(keys) == 0 {
		return keys
	}
	hidden := make([]string, 0, len(keys))
	for _, k := range keys {
		if s.names.fits(k) {
			hidden = append(hidden, s.names.hide(keyName, session, k))
		}
	}
	return hidden
}

// result is what the caller is told of its change.
func (s *Store) result(c *store.Change, r store.Result) store.Result {
	if s.names == nil {
		return r
	}
	if r.Outcome == store.Fenced {
		s.header(&r.Header, c.Session) // without the aliases, if one is damaged: what counts is who has it
	}
	for i, k := range r.Keys {
		r.Keys[i] = s.names.known(keyName, c.Session, k)
	}
	r.Err = s.told(r.Err)
	if r.Err != nil && len(r.Keys) > 0 {
		r.Err = fmt.Errorf("store/seal: session %q, keys %.200q: %w", c.Session, r.Keys, r.Err)
	} else if r.Err != nil {
		r.Err = fmt.Errorf("store/seal: session %q: %w", c.Session, r.Err)
	}
	return r
}
