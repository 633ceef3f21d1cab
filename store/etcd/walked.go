package etcd

import "sync"

// walked has what the last page of a walk over one owner's sessions saw, for the claims that follow it: who adopts all sessions of a dead
// node needs no look at each. What has changed since is no harm: a claim is made under the condition that nothing has.
type walked struct {
	mu  sync.Mutex
	met map[string]sight
}

func (w *walked) set(met map[string]sight) {
	w.mu.Lock()
	w.met = met
	w.mu.Unlock()
}

// take returns what was seen of a session, once.
func (w *walked) take(session string) (sight, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g, ok := w.met[session]
	delete(w.met, session)
	return g, ok
}
