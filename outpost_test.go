package kvstore_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// outpost is a node on a store whose line can be disturbed.
type outpost struct {
	t    *testing.T
	ctx  context.Context
	mem  *memory.Store
	line *storetest.Faults
	db   *kvstore.DB[string]

	mu     sync.Mutex
	lost   []kvstore.Lost
	fenced []kvstore.FencedError
	health []kvstore.Health
}

func newOutpost(t *testing.T, opt kvstore.Options) *outpost {
	o := &outpost{t: t, ctx: context.Background(), mem: memory.New()}
	o.line = storetest.NewFaults(o.mem)
	if opt.StoreTimeout == 0 {
		opt.StoreTimeout = time.Second
	}
	opt.Hooks = kvstore.Hooks{
		Lost:   func(l kvstore.Lost) { o.hear(func() { o.lost = append(o.lost, l) }) },
		Fenced: func(e kvstore.FencedError) { o.hear(func() { o.fenced = append(o.fenced, e) }) },
		Health: func(h kvstore.Health) { o.hear(func() { o.health = append(o.health, h) }) },
	}
	o.db = o.node(o.line, opt)
	t.Cleanup(func() {
		o.line.Inject(nil)
		o.line.Down(false)
		o.db.Close(o.ctx)
		o.line.Close()
	})
	return o
}

func (o *outpost) hear(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

// node opens a DB, which the test closes.
func (o *outpost) node(st store.Store, opt kvstore.Options) *kvstore.DB[string] {
	o.t.Helper()
	db, err := kvstore.Open[string](o.ctx, st, opt)
	o.ok(err)
	return db
}

// neighbour opens another node, on an undisturbed line.
func (o *outpost) neighbour() *kvstore.DB[string] {
	o.t.Helper()
	db := o.node(o.mem, kvstore.Options{Node: "neighbour", Addr: "next door"})
	o.t.Cleanup(func() { db.Close(o.ctx) })
	return db
}

func (o *outpost) ok(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

// heard returns what the hooks were told.
func (o *outpost) heard() (lost []kvstore.Lost, fenced []kvstore.FencedError) {
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lost, o.fenced
}

// quiet checks that nothing was lost and nothing is held.
func (o *outpost) quiet() {
	o.t.Helper()
	if lost, fenced := o.heard(); len(lost)+len(fenced) > 0 {
		o.t.Fatalf("lost %+v, fenced %+v", lost, fenced)
	}
	if n := o.db.Stats().Buffered; n != 0 {
		o.t.Fatalf("%d bytes of the buffer are held, and all is stored", n)
	}
}

// stored returns a session as the store has it; nil if it is not there.
func (o *outpost) stored(id string) (map[string]string, store.Header) {
	o.t.Helper()
	snap, err := o.mem.Load(o.ctx, id)
	o.ok(err)
	if !snap.Header.Exists() {
		return nil, snap.Header
	}
	m := map[string]string{}
	for _, e := range snap.Entries {
		var v string
		o.ok(kvstore.Msgpack{}.Decode(e.Value, &v))
		m[e.Key] = v
	}
	return m, snap.Header
}

func (o *outpost) holds(id string, want map[string]string) {
	o.t.Helper()
	if got, h := o.stored(id); !maps.Equal(got, want) || (got == nil) != (want == nil) {
		o.t.Fatalf("the store has %q as %v, want %v; header %+v", id, got, want, h)
	}
}

// remembers checks what memory has.
func (o *outpost) remembers(db *kvstore.DB[string], id string, want map[string]string) {
	o.t.Helper()
	s, err := db.Session(o.ctx, id)
	if want == nil && (errors.Is(err, kvstore.ErrNotFound) || errors.Is(err, kvstore.ErrNotResident)) {
		return
	}
	o.ok(err)
	all, err := s.All(o.ctx)
	o.ok(err)
	if got := maps.Collect(all); !maps.Equal(got, want) {
		o.t.Fatalf("memory has %q as %v, want %v", id, got, want)
	}
}

func (o *outpost) remembersEventually(s *kvstore.Session[string], want map[string]string) {
	o.t.Helper()
	for range 5 {
		if all, err := s.All(o.ctx); err == nil {
			if got := maps.Collect(all); !maps.Equal(got, want) {
				o.t.Fatalf("memory has %v, want %v", got, want)
			}
			return
		}
	}
	o.t.Fatal("the session never came into memory")
}
