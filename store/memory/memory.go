// Package memory is a store.Store in a map: the reference against which the
// others are read. It persists nothing. Several DBs of one process may share it,
// which makes it the store for tests and for trying out adoption.
package memory

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/ordered"
	"github.com/seed-6f1f505d/kvstore/store"
)

// Store implements store.Store. Use New.
type Store struct {
	mu       sync.Mutex // makes every method one atomic step
	sessions map[string]*session
	aliases  ordered.Map[string] // → the session that has it, whose header lists it
	nodes    map[store.Incarnation]lease
	renewed  chan struct{} // closed, and made anew, with each change of nodes
	closed   bool
}

type session struct {
	header  store.Header // a tombstone's stays for ever
	entries map[string]store.Entry
}

type lease struct {
	node store.Node
	ends time.Time
}

// New returns an empty store.
func New() *Store {
	return &Store{sessions: map[string]*session{}, nodes: map[store.Incarnation]lease{}, renewed: make(chan struct{})}
}

// enter takes the lock, unless the call must not begin at all.
func (st *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	st.mu.Lock()
	if st.closed {
		st.mu.Unlock()
		return store.ErrClosed
	}
	return nil
}

// on returns the session on record, empty if there is none, and whether its owner lives.
func (st *Store) on(id string, now time.Time) (*session, bool) {
	s := st.sessions[id]
	if s == nil {
		s = &session{header: store.Header{Session: id}}
	}
	return s, st.nodes[s.header.Owner.Incarnation].ends.After(now)
}

// has returns the header of the session that has the alias, zero if none has, and whether its owner lives.
func (st *Store) has(alias string, now time.Time) (store.Header, bool) {
	id, ok := st.aliases.Get(alias)
	if !ok {
		return store.Header{}, false
	}
	s, alive := st.on(id, now)
	return s.header, alive
}

// rename has a session have those aliases, instead of those that its header lists.
func (st *Store) rename(s *session, aliases []string) {
	for _, a := range s.header.Aliases {
		if id, _ := st.aliases.Get(a); id == s.header.Session && !slices.Contains(aliases, a) { // else another took it when this session was gone
			st.aliases.Delete(a)
		}
	}
	for _, a := range aliases {
		st.aliases.Set(a, s.header.Session)
	}
}

func (st *Store) write(s *session, next store.Header, wipe bool) {
	s.header = next
	s.header.Aliases = slices.Clone(next.Aliases)
	if wipe || s.entries == nil {
		s.entries = map[string]store.Entry{}
	}
	st.sessions[next.Session] = s
}

// Claim implements store.Store.
func (st *Store) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	if err := st.enter(ctx); err != nil {
		return store.Claim{}, err
	}
	defer st.mu.Unlock()
	if err := r.Check(); err != nil {
		return store.Claim{}, err
	}
	return st.claim(&r, time.Now()), nil
}

// ClaimAll implements store.Claimer.
func (st *Store) ClaimAll(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	if err := st.enter(ctx); err != nil {
		return nil, err
	}
	defer st.mu.Unlock()
	if err := store.CheckClaims(rs); err != nil {
		return nil, err
	}
	cs := make([]store.Claim, len(rs))
	for i := range rs {
		cs[i] = st.claim(&rs[i], time.Now())
	}
	return cs, nil
}

func (st *Store) claim(r *store.ClaimRequest, now time.Time) store.Claim {
	s, alive := st.on(r.Session, now)
	holder := st.nodes[s.header.Owner.Incarnation]
	outcome, next, wipe := r.Judge(s.header, alive, now)
	c := store.Claim{Outcome: outcome}
	switch outcome {
	case store.Granted:
		if wipe {
			st.rename(s, nil)
		}
		st.write(s, next, wipe)
		c.Created = wipe
		c.Entries = s.read(r.Keys, r.All, now)
	case store.Held:
		c.Holder = holder.node
		c.Holder.Lease = holder.ends.Sub(now)
	}
	c.Header = s.head()
	return c
}

// Apply implements store.Store.
func (st *Store) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	if err := st.enter(ctx); err != nil {
		return nil, err
	}
	defer st.mu.Unlock()
	results := make([]store.Result, len(changes))
	for i := range changes {
		results[i] = st.apply(&changes[i], time.Now())
	}
	return results, nil
}

func (st *Store) apply(c *store.Change, now time.Time) store.Result {
	if keys, err := c.Check(); err != nil {
		return store.Result{Outcome: store.Rejected, Err: err, Keys: keys}
	}
	s, alive := st.on(c.Session, now)
	outcome, next, wipe := c.Judge(s.header, alive, now)
	switch outcome {
	case store.Applied:
		err := c.JudgeAliases(func(alias string) (store.Header, bool) { return st.has(alias, now) }, now)
		if err != nil {
			return store.Result{Outcome: store.Rejected, Err: err}
		}
		st.rename(s, next.Aliases)
		st.write(s, next, wipe)
		for _, e := range c.Puts {
			e.Value = slices.Clone(e.Value)
			s.entries[e.Key] = e
		}
		for _, k := range c.Deletes {
			delete(s.entries, k)
		}
	case store.Fenced:
		return store.Result{Outcome: outcome, Header: s.head()}
	}
	return store.Result{Outcome: outcome}
}

// Lookup implements store.Directory.
func (st *Store) Lookup(ctx context.Context, alias string) (store.Header, error) {
	if err := st.enter(ctx); err != nil {
		return store.Header{}, err
	}
	defer st.mu.Unlock()
	now := time.Now()
	h, alive := st.has(alias, now)
	h = store.JudgeLookup(h, alive, now)
	h.Aliases = slices.Clone(h.Aliases)
	return h, nil
}

// Find implements store.Finder.
func (st *Store) Find(ctx context.Context, r store.AliasRange) (f store.Found, err error) {
	if err := st.enter(ctx); err != nil {
		return f, err
	}
	defer st.mu.Unlock()
	now := time.Now()
	for alias, id := range st.aliases.From(r.From) {
		if !r.Has(alias) {
			break
		}
		s, alive := st.on(id, now)
		if store.JudgeLookup(s.header, alive, now).Epoch == 0 {
			continue
		}
		if r.Limit > 0 && len(f.Aliases) == r.Limit {
			f.Next = alias
			break
		}
		f.Aliases = append(f.Aliases, store.Named{Alias: alias, Header: s.head()})
	}
	return f, nil
}

// Load implements store.Store.
func (st *Store) Load(ctx context.Context, id string, keys ...string) (store.Snapshot, error) {
	if err := st.enter(ctx); err != nil {
		return store.Snapshot{}, err
	}
	defer st.mu.Unlock()
	now := time.Now()
	s, _ := st.on(id, now)
	return store.Snapshot{Header: s.head(), Entries: s.read(keys, len(keys) == 0, now)}, nil
}

// LoadRange implements store.Ranger.
func (st *Store) LoadRange(ctx context.Context, id string, r store.Range) (store.Page, error) {
	if err := st.enter(ctx); err != nil {
		return store.Page{}, err
	}
	defer st.mu.Unlock()
	now := time.Now()
	s, _ := st.on(id, now)
	var keys []string
	for k, e := range s.entries {
		if r.Has(k) && !e.Expires.Past(now) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	p := store.Page{Snapshot: store.Snapshot{Header: s.head()}}
	if r.Limit > 0 && len(keys) > r.Limit {
		keys, p.Next = keys[:r.Limit], keys[r.Limit]
	}
	p.Entries = s.read(keys, false, now)
	if r.KeysOnly {
		for i := range p.Entries {
			p.Entries[i].Value = nil
		}
	}
	return p, nil
}

func (s *session) head() store.Header {
	h := s.header
	h.Aliases = slices.Clone(h.Aliases)
	return h
}

// read returns copies of the entries that are there at now.
func (s *session) read(keys []string, all bool, now time.Time) (es []store.Entry) {
	if all {
		keys = slices.Sorted(maps.Keys(s.entries))
	}
	for _, k := range keys {
		if e, ok := s.entries[k]; ok && !e.Expires.Past(now) {
			e.Value = slices.Clone(e.Value)
			es = append(es, e)
		}
	}
	return es
}

// Sessions implements store.Store. It walks the sessions that were there when it began.
func (st *Store) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		if err := st.enter(ctx); err != nil {
			yield(store.Header{}, err)
			return
		}
		ids := slices.Collect(maps.Keys(st.sessions))
		st.mu.Unlock()
		for _, id := range ids {
			if err := st.enter(ctx); err != nil {
				yield(store.Header{}, fmt.Errorf("store/memory: walk not complete: %w", err))
				return
			}
			h := st.sessions[id].head()
			st.mu.Unlock()
			if h.Deleted || q.Owner != (store.Incarnation{}) && h.Owner.Incarnation != q.Owner {
				continue
			}
			if !yield(h, nil) {
				return
			}
		}
	}
}

// KeepAlive implements store.Store.
func (st *Store) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (ran bool, err error) {
	if err := st.enter(ctx); err != nil {
		return false, err
	}
	defer st.mu.Unlock()
	now := time.Now()
	ran = st.nodes[n.Incarnation].ends.After(now)
	if ttl > 0 {
		st.nodes[n.Incarnation] = lease{node: n, ends: now.Add(ttl)}
	} else {
		delete(st.nodes, n.Incarnation)
	}
	close(st.renewed)
	st.renewed = make(chan struct{})
	return ran, nil
}

// WatchNodes implements store.Watcher. It calls changed for renewals, too.
func (st *Store) WatchNodes(ctx context.Context, changed func()) error {
	for {
		if err := st.enter(ctx); err != nil {
			return err
		}
		renewed, now := st.renewed, time.Now()
		var end time.Time // the next one
		for _, l := range st.nodes {
			if l.ends.After(now) && (end.IsZero() || l.ends.Before(end)) {
				end = l.ends
			}
		}
		st.mu.Unlock()
		changed()
		var over <-chan time.Time
		if !end.IsZero() {
			over = time.After(end.Sub(now))
		}
		select {
		case <-renewed:
		case <-over:
		case <-ctx.Done():
		}
	}
}

// Nodes implements store.Store.
func (st *Store) Nodes(ctx context.Context) ([]store.Node, error) {
	if err := st.enter(ctx); err != nil {
		return nil, err
	}
	defer st.mu.Unlock()
	var ns []store.Node
	for _, l := range st.nodes {
		l.node.Lease = time.Until(l.ends)
		ns = append(ns, l.node)
	}
	return ns, nil
}

// Close implements store.Store.
func (st *Store) Close() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.closed {
		close(st.renewed)
	}
	st.closed, st.sessions, st.aliases, st.nodes = true, nil, ordered.Map[string]{}, nil
	return nil
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Claimer   = (*Store)(nil)
	_ store.Directory = (*Store)(nil)
	_ store.Finder    = (*Store)(nil)
	_ store.Watcher   = (*Store)(nil)
	_ store.Ranger    = (*Store)(nil)
)
