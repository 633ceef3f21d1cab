package kvstore

import (
	"runtime"
	"sync"
	"sync/atomic"
	"weak"
)

// lifelines carries the number of a session's life over its evictions, so that a handle from before one knows
// whether the session it is on ended meanwhile. The store does not tell: a life that ends and the next that begins
// may be one write, in one epoch.
//
// The runtime holds the table, to clean it up: nothing leads from it to a session, or none of them would ever be garbage.
//
// A lifeline is held by the sessions of its tenure, and they by the handles on them. When the last of these handles is
// garbage, so is it: nobody is left to ask.
type lifelines struct {
	mu   sync.Mutex
	byID map[string]weak.Pointer[lifeline] // of evicted sessions
}

// lifeline is a session's life as its tenure counts it, over all the times that it was in memory.
type lifeline struct {
	id   string
	life atomic.Uint32
}

// keep makes sure that the lifeline of a session that is about to be evicted is found again.
func (l *lifelines) keep(line *lifeline) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID[line.id].Value() == line {
		return
	}
	if l.byID == nil {
		l.byID = make(map[string]weak.Pointer[lifeline])
	}
	l.byID[line.id] = weak.Make(line)
	runtime.AddCleanup(line, l.forget, line.id)
}

// find returns the lifeline of a session that comes into memory; nil if nobody has a handle on it.
func (l *lifelines) find(id string) *lifeline {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[id].Value()
}

// forget takes out a lifeline that is garbage.
func (l *lifelines) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID[id].Value() == nil {
		delete(l.byID, id)
	}
}

// hold says that a handle on the session is about to be made. It reports false if the session is evicted: it
// is to be looked up again.
func (s *session[V]) hold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setIf(held, s.state == live)
	return s.state != evicted
}

// outlived reports whether a life of an evicted session is known to have ended since: the tenure went on, and the
// session was deleted in it. Whether another life followed, and in which epoch, does not matter.
func (s *session[V]) outlived(life uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.x != nil && s.x.line != nil {
		return life != s.x.line.life.Load()
	}
	return life != s.life()
}

// evict takes a clean session out of memory, to be loaded again. Caller holds its mu, and calls out.
func (db *DB[V]) evict(s *session[V]) {
	var line *lifeline
	if s.has(held) {
		if line = s.more().line; line == nil {
			line = &lifeline{id: s.id()}
			line.life.Store(s.life())
		}
		db.lifelines.keep(line) // before anyone sees that it has left
	}
	db.leave(s, evicted, nil)
	if line != nil {
		s.more().line = line
	}
}

// resume lets a session that was made of what the store has go on in the life in which it was evicted. Nobody else
// knows the session yet.
func (db *DB[V]) resume(s *session[V]) {
	if db.lifelines == nil {
		return
	}
	if line := db.lifelines.find(s.id()); line != nil {
		s.set(held)
		s.more().line = line
		s.fate.Store(line.life.Load() << 1)
	}
}
