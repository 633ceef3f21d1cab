package kvstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file finds a page of what a query asks for, in the store, or there and in this node's memory.
//
// A page is about names in their order: the marks of an index, or, without one, session IDs. To merge, it
//
//  1. reads a page of the names that are in memory,
//  2. then a page of those that are in the store,
//  3. takes what is in either, up to where the first of the two ends, or to Limit,
//  4. and decides on each now: by memory, if the session is here now; else by what the store has of it now.
//
// Claim: a name that a session has throughout the query is in its pages exactly once. (It has it: whenever the session is in memory here, it has it there,
// and whenever it is not, it has it in the store.)
//
// Not twice, as the pages are of ranges that do not overlap, and each takes a name once. Not never: it is in the range of one page, and
//
//   - if the session is here, and entered in the catalogue, when 1 reads, 1 finds it: it is entered under its lock in the step that gives it the mark;
//   - else, the store has the name when 1 reads: the session is not here, or has only just come in, with what the store had (a session that is made
//     here has no name before the commit that gives it one, and enters it). The store keeps it until 2 reads: while the session is elsewhere, by what it
//     is to have; and what this node writes of it, be it come in meanwhile, has the name, too, as it has it in memory. So 2 finds it, which comes after 1.
//     The other way round, it might be in neither: not yet stored when the store is read, and evicted when memory is;
//   - then 4 takes it: here, memory has the name, and the value with it; elsewhere the store has both. If the session comes, or goes,
//     between the look at the map and the read of the store, the store has them all the same: what leaves has been stored, and what comes is written
//     with the name.
//
// What does not have it when 4 decides is not taken. So a change made here before the call shows: memory has it, or it has been stored.

// candidate is a name that a page may have, and, once it is decided on, a row.
type candidate[V any] struct {
	name string // mark or ID: what the order is of
	id   string
	term string

	resident bool
	owner    string
	cell     *cell[V] // nil: no row
	err      error    // why it cannot be decided
}

// candidates returns the names of the page, in order, and where the next one begins; empty if there is none. damaged are records of the store that cannot
// be read.
func (db *DB[V]) candidates(ctx context.Context, q *search[V]) (cs []candidate[V], next string, damaged []error, err error) {
	if q.overlay {
		cs, next = db.residentPage(q)
	}
	stored, storedNext, damaged, err := db.storedPage(ctx, q)
	if err != nil {
		return nil, "", nil, err
	}
	cs = append(cs, stored...)
	slices.SortStableFunc(cs, func(a, b candidate[V]) int { return cmp.Compare(a.name, b.name) })
	cs = slices.CompactFunc(cs, func(a, b candidate[V]) bool { return a.name == b.name })
	if next == "" || storedNext != "" && storedNext < next {
		next = storedNext
	}
	n := len(cs)
	if next != "" {
		n, _ = slices.BinarySearchFunc(cs, next, func(c candidate[V], name string) int { return cmp.Compare(c.name, name) })
	}
	if n > q.Limit {
		n, next = q.Limit, cs[q.Limit].name
	}
	cs = cs[:n]
	if q.index != nil {
		for i := range cs {
			_, cs[i].term, _, _ = parseTerm(cs[i].name)
		}
	}
	return cs, next, damaged, nil
}

// residentPage returns the first names in memory.
func (db *DB[V]) residentPage(q *search[V]) (cs []candidate[V], next string) {
	if q.index == nil {
		var least leastNames[V]
		for s := range db.residents() {
			if s.id() >= q.from {
				least.add(q.Limit, candidate[V]{name: s.id(), id: s.id()})
			}
		}
		return least.page(q.Limit)
	}
	c := db.terms
	c.mu.Lock()
	defer c.mu.Unlock()
	for mark, s := range c.here.From(q.from) {
		if mark >= q.to {
			break
		}
		if len(cs) == q.Limit {
			return cs, mark
		}
		cs = append(cs, candidate[V]{name: mark, id: s.id()})
	}
	return cs, ""
}

// storedPage returns the first names in the store.
func (db *DB[V]) storedPage(ctx context.Context, q *search[V]) (cs []candidate[V], next string, damaged []error, err error) {
	if q.index == nil {
		return db.storedAll(ctx, q)
	}
	f, err := db.finder("queries")
	if err != nil {
		return nil, "", nil, err
	}
	r := store.AliasRange{From: q.from, To: q.to}
	for {
		r.Limit = q.Limit - len(cs)
		found, err := find(ctx, f, db.opt.StoreTimeout, r)
		if err != nil {
			if !damagedOnly(err) {
				return nil, "", nil, fmt.Errorf("the store did not answer: %w", err)
			}
			damaged = append(damaged, err)
		}
		for i := range found.Aliases {
			n := &found.Aliases[i]
			cs = append(cs, candidate[V]{name: n.Alias, id: n.Header.Session})
		}
		switch {
		case found.Next == "" || found.Next >= q.to:
			return cs, "", damaged, nil
		case len(cs) >= q.Limit || found.Next <= r.From:
			return cs, found.Next, damaged, nil
		}
		r.From = found.Next
	}
}

// storedAll is storedPage without an index: it reads all headers.
func (db *DB[V]) storedAll(ctx context.Context, q *search[V]) (cs []candidate[V], next string, damaged []error, err error) {
	var least leastNames[V]
	for h, err := range db.store.Sessions(ctx, store.Query{}) {
		var c *store.CorruptError
		switch {
		case errors.As(err, &c):
			damaged = append(damaged, err) // the walk goes on
		case err != nil:
			return nil, "", nil, fmt.Errorf("the store did not answer: %w", err)
		case h.Session >= q.from && !h.Gone(time.Now()):
			least.add(q.Limit, candidate[V]{name: h.Session, id: h.Session})
		}
	}
	cs, next = least.page(q.Limit)
	return cs, next, damaged, ctx.Err()
}

// leastNames keeps the first names of those that come in no order.
type leastNames[V any] struct{ some []candidate[V] }

func (l *leastNames[V]) add(limit int, c candidate[V]) {
	if l.some = append(l.some, c); len(l.some) >= 2*limit+64 {
		l.cut(limit)
	}
}

// cut forgets all but the first, and the one after them.
func (l *leastNames[V]) cut(limit int) {
	slices.SortFunc(l.some, func(a, b candidate[V]) int { return cmp.Compare(a.name, b.name) })
	l.some = slices.CompactFunc(l.some, func(a, b candidate[V]) bool { return a.name == b.name }) // a walk may meet one twice
	l.some = l.some[:min(len(l.some), limit+1)]
}

func (l *leastNames[V]) page(limit int) (cs []candidate[V], next string) {
	l.cut(limit)
	if len(l.some) > limit {
		return l.some[:limit], l.some[limit].name
	}
	return l.some, ""
}

// readers is how many candidates the store is asked for at a time.
const readers = 8

// decideAll decides on candidates: what needs no I/O first, and then what does, a few at a time.
func (db *DB[V]) decideAll(ctx context.Context, q *search[V], cs []candidate[V]) {
	var left []*candidate[V]
	for i := range cs {
		if c := &cs[i]; !q.overlay || !db.decideHere(q, c) {
			left = append(left, c)
		}
	}
	// Each reader may take as long as a call for each of its candidates: one clock for all is as good as one for each.
	rounds := (len(left) + readers - 1) / readers
	load, cancel := context.WithTimeout(ctx, time.Duration(rounds)*db.opt.StoreTimeout)
	defer cancel()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(readers, len(left)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(left) || ctx.Err() != nil {
					return
				}
				db.decideRow(ctx, load, q, left[i])
			}
		})
	}
	wg.Wait()
}

// decideHere decides on a candidate if that takes no I/O. It reports false if it does.
func (db *DB[V]) decideHere(q *search[V], c *candidate[V]) bool {
	s := db.sessions.load(c.id)
	if s == nil || db.slow.Load() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known, cell := db.inMemory(q, c, s)
	if known {
		db.takeHere(q, c, cell)
	}
	return known
}

// inMemory returns what memory has of a candidate; known is false if the session is not here, or the entry is to be loaded. Caller holds the session's mu.
func (db *DB[V]) inMemory(q *search[V], c *candidate[V], s *session[V]) (known bool, cell *cell[V]) {
	switch {
	case s.state != live || s.vacant():
		return false, nil
	case s.usable(anyLife) != nil: // deleted, or its time has come
		return true, nil
	}
	if q.index != nil {
		if _, has := slices.BinarySearch(s.marks(), c.name); !has {
			return true, nil
		}
	}
	cell = s.version(q.key(), db.absent)
	return cell != nil, cell
}

// takeHere makes a candidate whose session is here a row, if cell, nil for none, is one.
func (db *DB[V]) takeHere(q *search[V], c *candidate[V], cell *cell[V]) {
	c.resident, c.owner = true, db.self.Node
	c.cell = db.rowOf(q, c, cell)
}

// rowOf returns cell if it is a row, else nil.
func (db *DB[V]) rowOf(q *search[V], c *candidate[V], cell *cell[V]) *cell[V] {
	if cell == nil || cell == db.absent || cell.expires.Past(time.Now()) {
		return nil
	}
	if q.index != nil && !slices.ContainsFunc(db.termsOf(cell), func(t term) bool { return t.at == q.at && t.text == c.term }) {
		return nil
	}
	return cell
}

// decideRow decides on a candidate, with whatever I/O it takes: in the time of load.
func (db *DB[V]) decideRow(ctx, load context.Context, q *search[V], c *candidate[V]) {
	for q.overlay {
		s := db.sessions.load(c.id)
		if s == nil {
			break
		}
		if err := db.serve(ctx, s); err != nil {
			if db.retry(s, err) {
				continue
			}
			c.err = fmt.Errorf("kvstore: session %q: %w", c.id, err)
			return
		}
		s.mu.Lock()
		left, vacant := s.state != live, s.state == live && s.vacant()
		known, cell := db.inMemory(q, c, s)
		s.mu.Unlock()
		if left {
			db.out(s)
			continue
		}
		if vacant {
			break // it says nothing of what the store has
		}
		if known {
			db.takeHere(q, c, cell)
			return
		}
		// Once it is loaded, it is looked at again: the mark may be another one then.
		if _, err := db.fetch(ctx, s, anyLife, q.key(), nil); err != nil && !db.retry(s, err) && !errors.Is(err, ErrNotFound) {
			if c.resident, c.err = true, err; ctx.Err() != nil {
				c.err = nil // that is told once
			}
			return
		}
	}
	c.cell, c.err = db.readStored(ctx, load, q, c)
}

// readStored decides on a candidate by what the store has.
func (db *DB[V]) readStored(ctx, load context.Context, q *search[V], c *candidate[V]) (*cell[V], error) {
	snap, err := db.store.Load(load, c.id, q.key())
	if ctx.Err() != nil {
		return nil, nil // that is told once
	}
	if err != nil {
		return nil, fmt.Errorf("kvstore: session %q: load: %w", c.id, err)
	}
	if snap.Header.Gone(time.Now()) {
		return nil, nil
	}
	if !snap.Header.Released {
		c.owner = snap.Header.Owner.Node
	}
	for i := range snap.Entries {
		e := &snap.Entries[i]
		if e.Key != q.key() {
			continue
		}
		cell, err := db.decode(c.id, e)
		if err != nil {
			return nil, fmt.Errorf("kvstore: session %q, key %q: %w", c.id, e.Key, err)
		}
		return db.rowOf(q, c, cell), nil
	}
	return nil, nil
}
