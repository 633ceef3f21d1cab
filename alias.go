package kvstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is aliases: further names of a session, by which it is found (Rhino's secondary keys). They stand in the session's header, so
// they are stored, fenced and adopted with it. That no two sessions have one, the store sees to, in the step that stores them; among the sessions on this
// node a name is refused at once.

// ErrAlias: the alias is another session's; see AliasError.
var ErrAlias = errors.New("kvstore: alias is taken")

// AliasError tells which session has an alias that was to be another's. It matches ErrAlias.
type AliasError struct {
	Alias   string
	Session string // that was to have it
	Holder  string // that has it
}

func (e *AliasError) Error() string {
	return fmt.Sprintf("kvstore: session %q: the alias %q is that of session %q", e.Session, e.Alias, e.Holder)
}

// Is makes the error match ErrAlias.
func (e *AliasError) Is(target error) bool { return target == ErrAlias }

// names finds the resident sessions by their aliases.
//
// Invariant: an alias that a live session lists leads to it, or, until the store has decided between the two, to another one that lists it. Set under the mu
// of that session, or, when it has just come in, soon.
type names[V any] struct{ m sync.Map } // alias → *session[V]

func (n *names[V]) find(alias string) *session[V] {
	s, _ := n.m.Load(alias)
	found, _ := s.(*session[V])
	return found
}

// take gives the alias to s, unless another session has it, which it returns.
func (n *names[V]) take(alias string, s *session[V]) (holder *session[V]) {
	if was, there := n.m.LoadOrStore(alias, s); there && was != any(s) {
		return was.(*session[V])
	}
	return nil
}

// leave takes aliases from s.
func (n *names[V]) leave(s *session[V], aliases ...string) {
	for _, a := range aliases {
		n.m.CompareAndDelete(a, s)
	}
}

// aliasing is what a commit does to a session's aliases.
type aliasing struct{ add, remove []string }

func (a *aliasing) any() bool { return len(a.add)+len(a.remove) > 0 }

// of returns, in a new list, the aliases that a session has after it.
func (a *aliasing) of(was []string) []string {
	next := slices.DeleteFunc(slices.Clone(was), func(s string) bool { return slices.Contains(a.remove, s) })
	for _, s := range a.add {
		if !slices.Contains(next, s) {
			next = append(next, s)
		}
	}
	return next
}

// enlist makes the aliases known of a session that came in, and the terms by which indexes find it.
func (db *DB[V]) enlist(s *session[V]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != live {
		return
	}
	if s.x != nil {
		db.timing(s, nil)
		db.terms.moved(s, nil, s.x.marks)
		for _, a := range s.x.aliases {
			db.names.take(a, s)
		}
	}
	db.remark(s)
}

// takeAliases gives a session the aliases that ch adds, among those on this node, and finds its marks. After an error it has none of them more than before. Caller holds mu, and makes the
// change next.
func (db *DB[V]) takeAliases(s *session[V], ch *change[V]) error {
	if !ch.aliases.any() && !ch.marks.any() {
		return nil
	}
	x := s.more()
	next, marks := x.aliases, x.marks
	if ch.ending { // they go with its life
		next, marks = nil, nil
	}
	if ch.aliases.any() {
		next = ch.aliases.of(next)
	}
	if ch.marks.any() {
		marks = ch.marks.of(s.id(), marks)
		if ch.marks.terms {
			marks = db.termed(s, ch, marks)
		}
	}
	if err := limitNames(s.id(), next, marks); err != nil {
		return err
	}
	ch.marks.next = marks
	if !ch.aliases.any() {
		return nil
	}
	for i, a := range ch.aliases.add {
		if holder := db.names.take(a, s); holder != nil {
			for _, a := range ch.aliases.add[:i] {
				if !slices.Contains(s.x.aliases, a) {
					db.names.leave(s, a)
				}
			}
			return &AliasError{Alias: a, Session: s.id(), Holder: holder.id()}
		}
	}
	ch.aliases.add = next
	return nil
}

// setAliases gives a session the aliases that takeAliases has found. Caller holds mu.
func (db *DB[V]) setAliases(s *session[V], next []string) {
	for _, a := range s.x.aliases {
		if !slices.Contains(next, a) {
			db.names.leave(s, a)
		}
	}
	// A new list: a flight may have the old one. And a copy: what is kept of a change is allocated, with all its lists, and that would be each Put's.
	s.x.aliases = slices.Clone(next)
}

// refusal is a flush that the store has rejected because of aliases.
type refusal struct {
	aliases []string // to be taken from the session; none if the clash will pass
	why     error
	passes  bool // the session that has it is here, and has given it up, which is still to be stored
}

// refused returns why the store has rejected a flush, if aliases are to blame; else nil. No lock is held.
func (db *DB[V]) refused(f *flight[V], r store.Result) *refusal {
	var clash *store.AliasError
	switch {
	case r.Outcome != store.Rejected:
		return nil
	case errors.As(r.Err, &clash):
		ref := &refusal{why: &AliasError{Alias: clash.Alias, Session: f.s.id(), Holder: clash.Holder}}
		if o := db.sessions.load(clash.Holder); o != nil && o != f.s && !o.lists(clash.Alias) && (!o.settled() || f.s.waives(clash.Alias)) {
			ref.passes = true
		} else {
			ref.aliases = []string{clash.Alias}
		}
		return ref
	case len(f.change.Aliases) > 0 && errors.Is(r.Err, errors.ErrUnsupported):
		return &refusal{aliases: f.change.Aliases, why: r.Err}
	}
	return nil
}

// drop takes from a session what it cannot have, and returns what that was: not what it has given up itself meanwhile. Caller holds mu.
func (db *DB[V]) drop(s *session[V], f *flight[V], aliases []string) (gone []string) {
	if len(aliases) == 0 || f.life != s.life() || s.x == nil {
		return nil // they went with their life
	}
	if was := s.x.marks; slices.ContainsFunc(was, func(m string) bool { return slices.Contains(aliases, m) }) {
		db.setMarks(s, slices.DeleteFunc(slices.Clone(was), func(m string) bool { return slices.Contains(aliases, m) }))
		gone = append(gone, without(was, s.x.marks)...)
	}
	marks := len(gone)
	for _, a := range s.x.aliases {
		if slices.Contains(aliases, a) {
			gone = append(gone, a)
		}
	}
	if was := s.x.aliases; len(gone) > marks {
		db.setAliases(s, slices.DeleteFunc(slices.Clone(s.x.aliases), func(a string) bool { return slices.Contains(gone, a) }))
		db.reverts(s, was)
	}
	return gone
}

func checkAlias(id, alias string) error {
	switch {
	case alias == "":
		return fmt.Errorf("%w: session %q: the alias is empty", ErrInvalid, id)
	case isMark(alias):
		return fmt.Errorf("%w: session %q: the alias %.32q begins with a zero byte", ErrInvalid, id, alias)
	case len(alias) > store.MaxAlias:
		return fmt.Errorf("%w: session %q: alias %.32q… has %d bytes, at most %d are allowed", ErrTooLarge, id, alias, len(alias), store.MaxAlias)
	}
	return nil
}

// Lookup returns the ID of the session that has the alias: one on this node, as it is in memory, or else one that is stored, whoever owns it.
//
//   - ErrNotFound: no session has it.
//   - Any other error: the store did not answer. One that wraps errors.ErrUnsupported says that it keeps no aliases.
func (db *DB[V]) Lookup(ctx context.Context, alias string) (id string, err error) {
	if ctx == nil {
		return "", errNilContext
	}
	if err := checkAlias("", alias); err != nil {
		return "", err
	}
	if db.closing.Load() {
		return "", ErrClosed
	}
	if s := db.names.find(alias); s != nil {
		if err := db.serve(ctx, s); err == nil && s.lists(alias) {
			return s.id(), nil
		}
	}
	dir, ok := db.store.(store.Directory)
	if !ok {
		return "", fmt.Errorf("kvstore: lookup of alias %q: the store keeps none: %w", alias, errors.ErrUnsupported)
	}
	ctx, cancel := context.WithTimeout(ctx, db.opt.StoreTimeout)
	defer cancel()
	h, err := dir.Lookup(ctx, alias)
	if err != nil {
		return "", fmt.Errorf("kvstore: lookup of alias %q: %w", alias, err)
	}
	if h.Epoch == 0 {
		return "", fmt.Errorf("%w: alias %q", ErrNotFound, alias)
	}
	if s := db.sessions.load(h.Session); s != nil && s.dropped(h, alias, db.self) {
		return "", fmt.Errorf("%w: alias %q", ErrNotFound, alias)
	}
	return h.Session, nil
}

// lists reports whether a session has the alias, in memory.
func (s *session[V]) lists(alias string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.usable(anyLife) == nil && s.x != nil && slices.Contains(s.x.aliases, alias)
}

// settled reports whether the store has the session as it is in memory: unless another node has it by now, which this one has not heard.
func (s *session[V]) settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state != live || s.clean()
}

// waives reports whether a clash about an alias may be one with what was stored a moment ago: it is said once, until a flush is stored. Who is refused again by a
// session that has nothing to be stored, is refused by one that is not this node's any more.
func (s *session[V]) waives(alias string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.more()
	first := x.waived != alias
	x.waived = alias
	return first
}

// dropped reports whether a session that has the alias in the store, by h, has given it up in memory, or has ended.
func (s *session[V]) dropped(h store.Header, alias string, self store.Owner) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != live || !h.HeldBy(self, s.epoch) {
		return false
	}
	return s.usable(anyLife) != nil || s.x == nil || !slices.Contains(s.x.aliases, alias)
}

// AdoptBy is Lookup, and then Adopt of the session that was found.
func (db *DB[V]) AdoptBy(ctx context.Context, alias string, keys ...string) (*Session[V], error) {
	for range 3 {
		id, err := db.Lookup(ctx, alias)
		if err != nil {
			return nil, err
		}
		h, err := db.Adopt(ctx, id, keys...)
		if errors.Is(err, ErrNotFound) {
			continue // it ended meanwhile; the alias may be another's by now
		}
		if err != nil {
			return nil, err
		}
		if h.cur.Load().s.lists(alias) {
			return h, nil
		}
	}
	return nil, fmt.Errorf("%w: alias %q", ErrNotFound, alias)
}

// AddAlias gives the session a further name, with the transaction. See Session.AddAlias; if the store refuses it, the rest of the transaction is
// stored without it.
func (tx *Tx[V]) AddAlias(alias string) error {
	if err := tx.usable(); err != nil {
		return err
	}
	if err := checkAlias(tx.s.id(), alias); err != nil {
		return err
	}
	tx.aliases.add = append(tx.aliases.add, alias)
	tx.aliases.remove = slices.DeleteFunc(tx.aliases.remove, func(a string) bool { return a == alias })
	return nil
}

// RemoveAlias takes a further name from the session, with the transaction. To remove one that it does not have is no error.
func (tx *Tx[V]) RemoveAlias(alias string) error {
	if err := tx.usable(); err != nil {
		return err
	}
	if err := checkAlias(tx.s.id(), alias); err != nil {
		return err
	}
	tx.aliases.remove = append(tx.aliases.remove, alias)
	tx.aliases.add = slices.DeleteFunc(tx.aliases.add, func(a string) bool { return a == alias })
	return nil
}

// AddAlias gives the session a further name, by which Lookup and AdoptBy find it: on this node at once, on others when it is stored. The session has it, through adoptions, until
// it is removed or the session ends. A session has at most 256 of up to 1024 bytes each, 32 KiB together, with what its timers and the indexes take of
// that; they do not begin with a zero byte; they are a name space apart from session
// IDs. To add one that it has is no error.
//
//   - *AliasError: another session has it, on this node; or anywhere, if ack is Stored (then it matches ErrRejected, too). The session does not have it.
//   - With InMemory a session elsewhere that has it shows at the flush: the alias is taken from this session again, Hooks.Lost and the next Sync tell,
//     with an *AliasError as the cause. All else that was changed is stored.
//   - An error that matches ErrRejected and wraps errors.ErrUnsupported: the store keeps no aliases.
func (h *Session[V]) AddAlias(ctx context.Context, alias string, ack Ack) error {
	return h.update(ctx, ack, func(tx *Tx[V]) error { return tx.AddAlias(alias) })
}

// RemoveAlias takes a further name from the session. To remove one that it does not have is no error. Another session can have it when that is stored.
func (h *Session[V]) RemoveAlias(ctx context.Context, alias string, ack Ack) error {
	return h.update(ctx, ack, func(tx *Tx[V]) error { return tx.RemoveAlias(alias) })
}

// Aliases returns the session's further names, in the order in which it got them.
func (h *Session[V]) Aliases() []string {
	s := h.cur.Load().s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.x == nil {
		return nil
	}
	return slices.Clone(s.x.aliases)
}
