package kvstore

import "sync"

// sieve chooses which session is evicted: SIEVE (Zhang et al., NSDI 2024). Sessions
// stand in the order in which they came. A hand moves from the oldest to the newest, and
// spares whoever was touched since it last passed. A scan's sessions are not touched
// again, and so go first. A touch is one store into the session: no lock, no list is moved.
//
// The sieve only names candidates. Whether one may go, its own lock decides: a session with
// unsaved changes never does.
type sieve[V any] struct {
	max int

	mu   sync.Mutex
	list places[V]
	hand *place[V] // the next to be looked at; nil: the oldest
}

// place is a session's place in the sieve.
type place[V any] struct {
	s            *session[V]
	newer, older *place[V]
	taken        bool // it is in the list
}

// places is a list of them, newest first.
type places[V any] struct {
	newest, oldest *place[V]
	n              int
}

func (l *places[V]) push(p *place[V]) {
	p.older = l.newest
	if l.newest != nil {
		l.newest.newer = p
	} else {
		l.oldest = p
	}
	l.newest = p
	l.n++
}

func (l *places[V]) remove(p *place[V]) {
	if p.newer != nil {
		p.newer.older = p.older
	} else {
		l.newest = p.older
	}
	if p.older != nil {
		p.older.newer = p.newer
	} else {
		l.oldest = p.newer
	}
	l.n--
}

// insert puts a session in that came into memory. No lock is held.
func (v *sieve[V]) insert(s *session[V]) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if p := &s.sieved().place; !p.taken && !s.dead() {
		p.taken = true
		v.list.push(p)
	}
}

// remove takes a session out that is dead.
func (v *sieve[V]) remove(s *session[V]) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := &s.sieved().place
	if !p.taken {
		return
	}
	if v.hand == p {
		v.hand = p.newer
	}
	v.list.remove(p)
	p.taken, p.newer, p.older = false, nil, nil // who holds this one holds no other
}

// candidate moves the hand to the next session that was not touched; nil if there are not too many.
func (v *sieve[V]) candidate() *session[V] {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.list.n <= v.max {
		return nil
	}
	for range 2 * v.list.n {
		p := v.hand
		if p == nil {
			p = v.list.oldest
		}
		v.hand = p.newer
		if !p.s.sieved().visited.Swap(false) {
			return p.s
		}
	}
	return nil
}

// shrink evicts until there are no more than max sessions, or those that it met could not go. It
// spares newcomer: somebody waits for it, and would ask the store again.
func (v *sieve[V]) shrink(db *DB[V], newcomer *session[V]) {
	for pinned := 0; pinned < 16; {
		s := v.candidate()
		if s == nil {
			return
		}
		s.mu.Lock()
		goes := s.state == live && s.clean() && !s.has(release) && s != newcomer
		if goes && s.behind() { // else the end that it has in memory would be forgotten
			db.headAgain(s)
			goes = false
		}
		if goes {
			db.evict(s)
		}
		s.mu.Unlock()
		if goes {
			db.out(s)
			db.count.evicted.Add(1)
			continue
		}
		s.visit()
		pinned++
	}
}
