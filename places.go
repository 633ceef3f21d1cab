package kvstore

import (
	"encoding/binary"
	"iter"
	"math/bits"
)

// This file is the places of entries in a session's memory, all but that of the main entry. Most are found by their keys. Items of queues are found by their
// positions: they come and go in order, there may be a million of them, and neighbours that lie side by side cost the same whether there are many or few.

// place returns the place of a key, nil if it has none. Caller holds mu.
func (x *extra[V]) place(key string) *entry[V] {
	if isOwn(key) {
		return x.own.get(key)
	}
	return x.rest[key]
}

// addPlace makes a place for a key that has none. Caller holds mu.
func (x *extra[V]) addPlace(key string) *entry[V] {
	if isOwn(key) {
		return x.own.add(key)
	}
	if x.rest == nil {
		x.rest = make(map[string]*entry[V])
	}
	e := new(entry[V])
	x.rest[key] = e
	return e
}

// removePlace takes the place of a key away, if it has one. Caller holds mu.
func (x *extra[V]) removePlace(key string) {
	if isOwn(key) {
		x.own.remove(key)
	} else {
		delete(x.rest, key)
	}
}

// beside returns how many places there are, that of key included: of the application's entries if it is one, else of the library's. Caller holds mu.
func (x *extra[V]) beside(key string) int {
	if isOwn(key) {
		return x.own.len()
	}
	return len(x.rest)
}

// places yields all, in no order. Those that were yielded may be removed meanwhile. Caller holds mu.
func (x *extra[V]) places() iter.Seq2[string, *entry[V]] {
	return func(yield func(string, *entry[V]) bool) {
		for key, e := range x.rest {
			if !yield(key, e) {
				return
			}
		}
		for key, e := range x.own.all() {
			if !yield(key, e) {
				return
			}
		}
	}
}

// shelf holds the places of the library's own entries. Its zero value is empty. The session's mu guards it.
type shelf[V any] struct {
	byKey  map[string]*entry[V]
	rows   [2]map[string]*row[V] // queues of values, and of keys, by name
	inRows int                   // places
	last   *row[V]               // that was asked for, if it is there
}

// row holds the places of one queue: of where it begins and ends, and of its items, a few to a page, which have positions that differ in their last bits only.
type row[V any] struct {
	queue   int
	name    string
	bounds  entry[V]
	bounded bool // bounds is one
	items   int
	pages   map[uint64]*page[V] // none is without items, but the last one, if there are no items at all
	near    [2]*page[V]         // two that were asked for last, if they are there: a queue is used at its ends
}

const pageBits = 3

// keptRows is how many queues there may be of which an empty one is kept, with a page: most sessions have few queues, and use each again and again.
const keptRows = 4

type page[V any] struct {
	number uint64
	places [1 << pageBits]entry[V]
	there  uint8 // which of them are
}

// spot is where the place of a key is.
type spot struct {
	queue int    // of values 0, of keys 1; -1: it has nothing to do with queues
	name  string // of the queue
	item  bool   // an item at pos; else where the queue begins and ends
	pos   uint64
}

func spotOf(key string) spot {
	if len(key) < 2 {
		return spot{queue: -1}
	}
	switch at := len(key) - 8; key[1] {
	case kindBounds:
		return spot{name: key[2:]}
	case kindKeyBounds:
		return spot{queue: 1, name: key[2:]}
	case kindItem, kindKey:
		if at < 2 {
			break // a later version may know what it is
		}
		sp := spot{name: key[2:at], item: true, pos: binary.BigEndian.Uint64([]byte(key[at:]))}
		if key[1] == kindKey {
			sp.queue = 1
		}
		return sp
	}
	return spot{queue: -1}
}

func (sh *shelf[V]) len() int { return len(sh.byKey) + sh.inRows }

// get returns the place of a key, nil if it has none.
func (sh *shelf[V]) get(key string) *entry[V] {
	sp := spotOf(key)
	if sp.queue < 0 {
		return sh.byKey[key]
	}
	switch r := sh.row(&sp); {
	case r == nil:
	case sp.item:
		if p := r.page(sp.pos >> pageBits); p != nil && p.has(sp.pos) {
			return p.at(sp.pos)
		}
	case r.bounded:
		return &r.bounds
	}
	return nil
}

// row returns the row of a queue, nil if it has none.
func (sh *shelf[V]) row(sp *spot) *row[V] {
	if r := sh.last; r != nil && r.queue == sp.queue && r.name == sp.name {
		return r
	}
	r := sh.rows[sp.queue][sp.name]
	if r != nil {
		sh.last = r
	}
	return r
}

// add makes a place for a key that has none.
func (sh *shelf[V]) add(key string) *entry[V] {
	sp := spotOf(key)
	if sp.queue < 0 {
		if sh.byKey == nil {
			sh.byKey = make(map[string]*entry[V])
		}
		e := new(entry[V])
		sh.byKey[key] = e
		return e
	}
	r := sh.row(&sp)
	if r == nil {
		rows := &sh.rows[sp.queue]
		if *rows == nil {
			*rows = make(map[string]*row[V])
		}
		r = &row[V]{queue: sp.queue, name: sp.name}
		(*rows)[sp.name], sh.last = r, r
	}
	sh.inRows++
	if !sp.item {
		r.bounded = true
		return &r.bounds
	}
	number := sp.pos >> pageBits
	p := r.page(number)
	if p == nil {
		switch {
		case r.pages == nil:
			r.pages = make(map[uint64]*page[V])
		case r.items == 0:
			clear(r.pages)
			clear(r.near[:])
		}
		p = &page[V]{number: number}
		r.pages[number] = p
		r.ask(p)
	}
	p.there |= 1 << (sp.pos % (1 << pageBits))
	r.items++
	return p.at(sp.pos)
}

// remove takes the place of a key away, if it has one.
func (sh *shelf[V]) remove(key string) {
	sp := spotOf(key)
	if sp.queue < 0 {
		delete(sh.byKey, key)
		return
	}
	r := sh.row(&sp)
	switch {
	case r == nil:
		return
	case sp.item:
		p := r.page(sp.pos >> pageBits)
		if p == nil || !p.has(sp.pos) {
			return
		}
		p.at(sp.pos).reset()
		r.items--
		if p.there &^= 1 << (sp.pos % (1 << pageBits)); p.there == 0 && len(r.pages) > 1 {
			r.drop(p)
		}
	case !r.bounded:
		return
	default:
		r.bounds.reset()
		r.bounded = false
	}
	sh.inRows--
	if r.items == 0 && !r.bounded && len(sh.rows[0])+len(sh.rows[1]) > keptRows {
		delete(sh.rows[sp.queue], sp.name)
		sh.last = nil
	}
}

// reset makes e the place of nothing. If it is among the dirty ones, it keeps its place there, for what comes to be here next.
func (e *entry[V]) reset() {
	e.cell.Store(nil)
	e.charge, e.dirty, e.stored, e.armed = 0, false, false, false
}

func (p *page[V]) has(pos uint64) bool { return p.there>>(pos%(1<<pageBits))&1 == 1 }

func (p *page[V]) at(pos uint64) *entry[V] { return &p.places[pos%(1<<pageBits)] }

// page returns a page, nil if it is not there.
func (r *row[V]) page(number uint64) *page[V] {
	for _, p := range r.near {
		if p != nil && p.number == number {
			return p
		}
	}
	p := r.pages[number]
	if p != nil {
		r.ask(p)
	}
	return p
}

// ask makes p one of the near ones.
func (r *row[V]) ask(p *page[V]) { r.near[0], r.near[1] = p, r.near[0] }

func (r *row[V]) drop(p *page[V]) {
	delete(r.pages, p.number)
	for i := range r.near {
		if r.near[i] == p {
			r.near[i] = nil
		}
	}
}

// all yields all places with their keys, in no order. Those that were yielded may be removed meanwhile.
func (sh *shelf[V]) all() iter.Seq2[string, *entry[V]] {
	return func(yield func(string, *entry[V]) bool) {
		for key, e := range sh.byKey {
			if !yield(key, e) {
				return
			}
		}
		for i, rows := range sh.rows {
			for name, r := range rows {
				if !r.all(name, [2]byte{kindBounds, kindKeyBounds}[i], [2]byte{kindItem, kindKey}[i], yield) {
					return
				}
			}
		}
	}
}

func (r *row[V]) all(name string, bounds, item byte, yield func(string, *entry[V]) bool) bool {
	if r.bounded && !yield(ownKey(bounds, name), &r.bounds) {
		return false
	}
	for number, p := range r.pages {
		for left := p.there; left != 0; left &= left - 1 {
			pos := number<<pageBits + uint64(bits.TrailingZeros8(left))
			if !yield(itemKey(item, name, pos), p.at(pos)) {
				return false
			}
		}
	}
	return true
}
