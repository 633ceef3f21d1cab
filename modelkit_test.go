package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
)

// What the model test is made of: a store that dies with its process, and the model's idea of a session.

// mortal is one node's view of the store. Its calls take time, before they are done and after, unless it has no rnd. When
// it is dead none gets through any more: one that is under way ends before or after it is done.
type mortal struct {
	inner store.Store
	dead  atomic.Bool

	mu  sync.Mutex
	rnd *rand.Rand
}

var errDead = errors.New("the process died")

func (m *mortal) delay(ctx context.Context) error {
	if m.rnd != nil {
		m.mu.Lock()
		d := time.Duration(m.rnd.Int64N(int64(modelLatency)))
		m.mu.Unlock()
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if m.dead.Load() {
		return errDead
	}
	return nil
}

func throughMortal[R any](m *mortal, ctx context.Context, do func() (R, error)) (r R, err error) {
	if m.dead.Load() {
		return r, errDead
	}
	if err := m.delay(ctx); err != nil {
		return r, err
	}
	answer, err := do()
	if err := m.delay(ctx); err != nil {
		return r, err
	}
	return answer, err
}

func (m *mortal) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	return throughMortal(m, ctx, func() (store.Claim, error) { return m.inner.Claim(ctx, r) })
}

func (m *mortal) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	return throughMortal(m, ctx, func() ([]store.Result, error) { return m.inner.Apply(ctx, cs) })
}

func (m *mortal) Load(ctx context.Context, id string, keys ...string) (store.Snapshot, error) {
	return throughMortal(m, ctx, func() (store.Snapshot, error) { return m.inner.Load(ctx, id, keys...) })
}

func (m *mortal) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
	return throughMortal(m, ctx, func() (bool, error) { return m.inner.KeepAlive(ctx, n, ttl) })
}

func (m *mortal) Nodes(ctx context.Context) ([]store.Node, error) {
	return throughMortal(m, ctx, func() ([]store.Node, error) { return m.inner.Nodes(ctx) })
}

func (m *mortal) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		if err := m.delay(ctx); err != nil {
			yield(store.Header{}, err)
			return
		}
		for h, err := range m.inner.Sessions(ctx, q) {
			if m.dead.Load() {
				yield(store.Header{}, errDead)
				return
			}
			if !yield(h, err) {
				return
			}
		}
	}
}

func (m *mortal) Close() error { return nil }

// shape is a session as the model has it. It is never changed: with and born make another.
type shape struct {
	exists  bool
	life    int // counts the lives that the session has had
	entries map[string]leaf
	expires store.Time
}

type leaf struct {
	v  string
	at store.Time
}

// now is the shape without what has expired.
func (s shape) now() shape {
	now := time.Now()
	if !s.exists || s.expires.Past(now) {
		return shape{life: s.life}
	}
	c := shape{exists: true, life: s.life, expires: s.expires, entries: map[string]leaf{}}
	for k, l := range s.entries {
		if !l.at.Past(now) {
			c.entries[k] = l
		}
	}
	return c
}

// with is the shape after writes; a nil leaf deletes.
func (s shape) with(ws map[string]*leaf) shape {
	c := s
	if c.entries = maps.Clone(s.entries); c.entries == nil {
		c.entries = map[string]leaf{}
	}
	for k, l := range ws {
		if l == nil {
			delete(c.entries, k)
		} else {
			c.entries[k] = *l
		}
	}
	return c
}

func (s shape) born() shape {
	return shape{exists: true, life: s.life + 1, entries: map[string]leaf{}}
}

func (s shape) equal(o shape) bool {
	return s.exists == o.exists && s.expires == o.expires && maps.Equal(s.entries, o.entries)
}

func (s shape) String() string {
	if !s.exists {
		return "absent"
	}
	out := make([]string, 0, len(s.entries))
	for _, k := range slices.Sorted(maps.Keys(s.entries)) {
		l := s.entries[k]
		out = append(out, fmt.Sprintf("%q:%s", k, l.v))
		if l.at != 0 {
			out = append(out, fmt.Sprintf("until %d", l.at))
		}
	}
	return fmt.Sprintf("{%s; expires %d}", strings.Join(out, " "), s.expires)
}

// past is a shape and when the session had it at the latest.
type past struct {
	shape
	made time.Time
}

// saga is what the model knows of a session.
type saga struct {
	id     string
	states []past // all since the last takeover
	synced int    // those before it are not in the store any more
	owner  *member
	handle *kvstore.Session[string]
}

func (g *saga) last() past { return g.states[len(g.states)-1] }

func (g *saga) add(s shape) {
	g.states = append(g.states, past{s, time.Now()})
}

// reset begins a new history, with what is in the store.
func (g *saga) reset(s shape, owner *member) {
	g.states, g.synced, g.owner, g.handle = []past{{s, time.Now()}}, 0, owner, nil
}

// oldest raises synced to the oldest state that the store may have at the time at.
func (g *saga) oldest(at time.Time, delay time.Duration) {
	for i := len(g.states) - 1; i > g.synced; i-- {
		if at.Sub(g.states[i].made) > delay+modelFlush {
			g.synced = i
		}
	}
}

// member is a node.
type member struct {
	name string
	view *mortal
	db   *kvstore.DB[string]

	mu   sync.Mutex
	lost map[string][]kvstore.Lost
}

// end kills the node, and then closes it for the sake of its goroutines: nothing that it does reaches the store.
func (m *member) end() {
	m.view.dead.Store(true)
	over, cancel := context.WithCancel(context.Background())
	cancel()
	m.db.Close(over)
}

func (m *member) takeLost(id string) []kvstore.Lost {
	synctest.Wait() // for the hooks
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.lost[id]
	delete(m.lost, id)
	return l
}

// record is a session in the store.
type record struct {
	header store.Header
	shape
}

// recordOf returns what the store has of a session.
func recordOf(st store.Store, id string) (record, error) {
	snap, err := st.Load(context.Background(), id)
	r := record{header: snap.Header, shape: shape{entries: map[string]leaf{}}}
	if err != nil || snap.Header.Gone(time.Now()) {
		return r, err
	}
	r.exists, r.expires = true, snap.Header.Expires
	var own []store.Entry
	for _, e := range snap.Entries {
		if strings.HasPrefix(e.Key, "\x00") {
			own = append(own, e)
			continue
		}
		var v string
		if err := (kvstore.Msgpack{}).Decode(e.Value, &v); err != nil {
			return r, fmt.Errorf("value of %q: %w", e.Key, err)
		}
		r.entries[e.Key] = leaf{v, e.Expires}
	}
	return r, insideOf(own, snap.Header.Aliases, r.entries)
}
