package callsim

import (
	"context"
	"sync"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// meter is a store that measures how long Apply takes: the "one flush" in the bound
// of the lag. Those that are still under way count with their age, because a node is killed
// in the midst of one.
type meter struct {
	store.Store

	mu      sync.Mutex
	longest time.Duration
	running map[uint64]time.Time
	last    uint64
}

// Apply implements store.Store.
func (m *meter) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	start := time.Now()
	m.mu.Lock()
	if m.running == nil {
		m.running = map[uint64]time.Time{}
	}
	m.last++
	me := m.last
	m.running[me] = start
	m.mu.Unlock()
	rs, err := m.Store.Apply(ctx, changes)
	m.mu.Lock()
	delete(m.running, me)
	m.longest = max(m.longest, time.Since(start))
	m.mu.Unlock()
	return rs, err
}

// read returns the longest Apply so far, and how many are under way.
func (m *meter) read() (longest time.Duration, running int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	longest = m.longest
	for _, start := range m.running {
		longest = max(longest, time.Since(start))
	}
	return longest, len(m.running)
}
