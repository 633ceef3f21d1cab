package callsim

import (
	"context"
	"sync/atomic"

	"github.com/seed-6f1f505d/kvstore/store"
)

// meter is a store that counts the calls of Apply that are under way: a node is killed in the midst of one.
type meter struct {
	store.Store
	running atomic.Int64
}

// Apply implements store.Store.
func (m *meter) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	m.running.Add(1)
	defer m.running.Add(-1)
	return m.Store.Apply(ctx, changes)
}

// Writers implements store.Writers, if the store does.
func (m *meter) Writers() int {
	if w, ok := m.Store.(store.Writers); ok {
		return w.Writers()
	}
	return 4
}
