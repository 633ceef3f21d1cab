package etcd

import (
	"hash/maphash"
	"sync/atomic"
)

// modes remembers in which mode the heads of sessions are, roughly: sessions share places. An Apply takes what it says for a guess, which
// the conditions of its transaction check: a wrong one costs a round trip.
type modes struct {
	seen [1 << 15]atomic.Uint32
}

var modeSeed = maphash.MakeSeed()

func (m *modes) at(session string) *atomic.Uint32 {
	return &m.seen[maphash.String(modeSeed, session)%uint64(len(m.seen))]
}

func (m *modes) set(session string, is mode) {
	if p := m.at(session); p.Load() != uint32(is) {
		p.Store(uint32(is))
	}
}

// of returns the mode that was seen last, or 0.
func (m *modes) of(session string) mode { return mode(m.at(session).Load()) }
