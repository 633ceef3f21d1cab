package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// This file plays random operations of a few nodes on one store against plain maps, and kills nodes
// in between. Whatever a node ever acknowledged is in the history of its session. What
// another finds there after a death has to be one of the states in that history:
// a whole one (G3), not older than what was synced (G14), nor than what lag allows (G7).
//
// KVSTORE_SEED=n replays one seed and prints all its steps if it fails; n-m plays a range.

// Each call of a node to the store takes up to twice this.
const modelLatency = 6 * time.Millisecond

// A flush may have to wait for the one before it, and an optimistic creation may have
// to be proposed twice.
const modelFlush = 2 * 2 * 2 * modelLatency

func TestModelMemory(t *testing.T) {
	playSeeds(t, 32, 700, func(*testing.T) store.Store { return memory.New() })
}

func TestModelBolt(t *testing.T) {
	playSeeds(t, 5, 250, func(t *testing.T) store.Store {
		st, err := bolt.Open(filepath.Join(t.TempDir(), "model.db"), &bolt.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		return st
	})
}

func playSeeds(t *testing.T, seeds, steps int, open func(*testing.T) store.Store) {
	first, last := 1, seeds
	if v := os.Getenv("KVSTORE_SEED"); v != "" {
		from, to, more := strings.Cut(v, "-")
		if !more {
			to = from
		}
		var err1, err2 error
		first, err1 = strconv.Atoi(from)
		last, err2 = strconv.Atoi(to)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatalf("KVSTORE_SEED: %v", err)
		}
	}
	for seed := first; seed <= last; seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { playModel(t, open(t), uint64(seed), steps) })
		})
	}
}

// play is one game.
type play struct {
	t       *testing.T
	ctx     context.Context
	st      store.Store
	rnd     *rand.Rand
	opt     kvstore.Options
	members []*member
	sagas   []*saga
	trace   []string
	n       int // values put
	reach   map[string]int
}

func playModel(t *testing.T, st store.Store, seed uint64, steps int) {
	p := &play{t: t, ctx: context.Background(), st: st, rnd: rand.New(rand.NewPCG(seed, 7)), reach: map[string]int{}}
	p.opt = kvstore.Options{MaxDelay: 50 * time.Millisecond, Flushers: 1 + p.rnd.IntN(3), MaxBatch: []int{1, 3, 1024}[p.rnd.IntN(3)]}
	if p.rnd.IntN(2) == 0 {
		p.opt.MaxResident = 1 + p.rnd.IntN(3)
	}
	if p.rnd.IntN(5) == 0 {
		p.opt.Mode = kvstore.WriteThrough
	}
	if p.rnd.IntN(3) == 0 {
		p.opt.MaxBuffer = 4 << 10
	}
	if p.opt.MaxBatch < 8 {
		p.opt.Flushers = 4 // the lag of a lane whose batch is full grows by a flush per batch
	}
	p.trace = append(p.trace, fmt.Sprintf("seed %d, options %+v", seed, p.opt))
	for i := range 7 {
		g := &saga{id: fmt.Sprint("s", i)}
		g.reset(shape{}, nil)
		p.sagas = append(p.sagas, g)
	}
	for i := range 3 {
		p.members = append(p.members, &member{name: fmt.Sprint("n", i)})
		p.open(p.members[i])
	}
	t.Cleanup(func() {
		for _, m := range p.members { // after a failure, too, no goroutine may stay in the bubble
			if m.db != nil {
				m.end()
			}
		}
	})
	for range steps {
		p.step()
	}
	p.finish()
}

func (p *play) fail(format string, args ...any) {
	p.t.Helper()
	trace := p.trace
	if _, err := strconv.Atoi(os.Getenv("KVSTORE_SEED")); err != nil && len(trace) > 60 {
		trace = append(trace[:1:1], trace[len(trace)-60:]...)
	}
	p.t.Fatalf("%s\n\nthe last steps:\n%s", fmt.Sprintf(format, args...), strings.Join(trace, "\n"))
}

func (p *play) log(format string, args ...any) {
	p.trace = append(p.trace, time.Now().Format("04:05.000000 ")+fmt.Sprintf(format, args...))
}

func (p *play) ok(err error, format string, args ...any) {
	p.t.Helper()
	if err != nil {
		p.fail("%s: %v", fmt.Sprintf(format, args...), err)
	}
}

func (p *play) open(m *member) {
	m.view = &mortal{inner: p.st, rnd: rand.New(rand.NewPCG(p.rnd.Uint64(), 3))}
	m.lost = map[string][]kvstore.Lost{}
	view, o := m.view, p.opt
	o.Node, o.Addr = m.name, "addr of "+m.name
	o.Hooks.Lost = func(l kvstore.Lost) {
		if view.dead.Load() {
			return // nobody hears it
		}
		if l.Deleted && len(l.Entries) == 0 {
			return // the end of a session that had expired, and that others have taken since
		}
		m.mu.Lock()
		m.lost[l.Session] = append(m.lost[l.Session], l)
		m.mu.Unlock()
	}
	var err error
	m.db, err = kvstore.Open[string](p.ctx, m.view, o)
	p.ok(err, "Open %s", m.name)
}

// step does one random thing.
func (p *play) step() {
	g := p.sagas[p.rnd.IntN(len(p.sagas))]
	p.avoidEdge(g)
	switch n := p.rnd.IntN(100); {
	case n < 12:
		d := time.Duration(p.rnd.Int64N(int64(120 * time.Millisecond)))
		p.log("sleep %v", d)
		time.Sleep(d)
	case n < 14:
		p.flushAll()
	case n < 16:
		p.kill(p.anyone())
	case n < 17:
		p.leave(p.anyone())
	case n < 30:
		p.takeover(g, p.anyone())
	case n < 33:
		p.rival(g, p.anyone())
	case g.owner == nil:
		p.takeover(g, p.anyone())
	case n < 36:
		p.release(g)
	case n < 40:
		p.syncOne(g)
	case n < 65:
		p.read(g)
	default:
		p.write(g)
	}
	for _, m := range p.members {
		st := m.db.Stats()
		if st.Lag > p.opt.MaxDelay+modelFlush {
			p.fail("the lag of %s is %v with a healthy store", m.name, st.Lag)
		}
		if limit := p.opt.MaxBuffer; limit > 0 && st.Buffered > limit+2048 || st.Buffered < 0 {
			p.fail("%s has %d bytes unsaved", m.name, st.Buffered)
		}
	}
}

// avoidEdge sleeps over the end of a session that comes while the step is under way, since
// it would depend on the moment what the step does.
func (p *play) avoidEdge(g *saga) {
	if at := g.last().expires; at != 0 {
		if left := time.Until(at.Std()); left >= 0 && left < 300*time.Millisecond {
			time.Sleep(left + time.Millisecond)
		}
	}
}

func (p *play) anyone() *member { return p.members[p.rnd.IntN(len(p.members))] }

func (p *play) value() string {
	p.n++
	return fmt.Sprint("v", p.n)
}

var modelKeys = []string{"", "a", "a/b", "c"}

func (p *play) key() string { return modelKeys[p.rnd.IntN(len(modelKeys))] }

// until is an expiry, often never, seldom past.
func (p *play) until() time.Time {
	switch p.rnd.IntN(8) {
	case 0:
		return time.Now().Add(-time.Second)
	case 1, 2, 3:
		return time.Now().Add(time.Duration(p.rnd.Int64N(int64(2 * time.Second))))
	}
	return time.Time{}
}

// present is the handle of a session that its owner has.
func (p *play) present(g *saga) *kvstore.Session[string] {
	if g.handle == nil || p.rnd.IntN(8) == 0 {
		var err error
		g.handle, err = g.owner.db.Session(p.ctx, g.id)
		p.ok(err, "Session(%s) on %s, which owns it", g.id, g.owner.name)
	}
	return g.handle
}

func isGone(err error) bool {
	return errors.Is(err, kvstore.ErrNotFound) || errors.Is(err, kvstore.ErrNotResident)
}

// read reads in one of several ways.
func (p *play) read(g *saga) {
	db := g.owner.db
	if !g.last().now().exists {
		g.handle = nil
		v, err := db.Get(p.ctx, g.id)
		if !isGone(err) {
			p.fail("Get(%s) on %s of a session that is gone: %q, %v", g.id, g.owner.name, v, err)
		}
		return
	}
	switch p.rnd.IntN(3) {
	case 0:
		v, err := db.Get(p.ctx, g.id)
		p.log("Get(%s) on %s: %q, %v", g.id, g.owner.name, v, err)
		p.same(g, "", v, err)
	case 1:
		k := p.key()
		v, err := p.present(g).Get(p.ctx, k)
		p.log("Get(%s, %q) on %s: %q, %v", g.id, k, g.owner.name, v, err)
		p.same(g, k, v, err)
	case 2:
		p.readAll(g)
	}
}

func (p *play) same(g *saga, key, v string, err error) {
	p.t.Helper()
	want, there := g.last().now().entries[key]
	switch {
	case there && (err != nil || v != want.v):
		p.fail("%s has %q of %s: %q, %v; want %q", g.owner.name, key, g.id, v, err, want.v)
	case !there && !errors.Is(err, kvstore.ErrNotFound):
		p.fail("%s has %q of %s: %q, %v; want none", g.owner.name, key, g.id, v, err)
	}
}

func (p *play) readAll(g *saga) {
	all, err := p.present(g).All(p.ctx)
	p.ok(err, "All(%s) on %s", g.id, g.owner.name)
	got, want := maps.Collect(all), map[string]string{}
	for k, l := range g.last().now().user() {
		want[k] = l.v
	}
	p.lookInside(g)
	p.log("All(%s) on %s: %v", g.id, g.owner.name, got)
	if !maps.Equal(got, want) {
		p.fail("All(%s) on %s is %v, want %v", g.id, g.owner.name, got, want)
	}
}

// write changes a session in one of many ways.
func (p *play) write(g *saga) {
	m, s := g.owner, g.last().now()
	if !s.exists {
		p.revive(g)
		return
	}
	next := g.last().shape
	var err error
	var what string
	switch p.rnd.IntN(17) {
	case 0, 1:
		v := p.value()
		what = fmt.Sprintf("DB.Put %s", v)
		err = m.db.Put(p.ctx, g.id, v)
		next = next.with(map[string]*leaf{"": {v: v}})
	case 2, 3, 4:
		k, v, at := p.key(), p.value(), p.until()
		what = fmt.Sprintf("PutUntil %q %s %v", k, v, store.TimeOf(at))
		err = p.present(g).PutUntil(p.ctx, k, v, at)
		next = next.with(map[string]*leaf{k: {v, store.TimeOf(at)}})
	case 5, 6:
		k := p.key()
		what = fmt.Sprintf("Delete %q", k)
		err = p.present(g).Delete(p.ctx, k)
		next = next.with(map[string]*leaf{k: nil})
	case 7, 8, 9:
		what, next, err = p.update(g)
	case 10:
		at := p.until()
		if !at.IsZero() {
			at = at.Add(400 * time.Millisecond)
		}
		what = fmt.Sprint("Expire ", store.TimeOf(at))
		err = p.present(g).Expire(p.ctx, at)
		next.expires = store.TimeOf(at)
	case 11:
		what = "DB.Delete"
		err = m.db.Delete(p.ctx, g.id)
		next, g.handle = shape{life: next.life}, nil
	default:
		what, next, err = p.inside(g)
	}
	p.log("%s on %s: %s: %v", g.id, m.name, what, err)
	p.ok(err, "%s of %s on %s", what, g.id, m.name)
	p.wrote(g, next)
}

func (p *play) wrote(g *saga, s shape) {
	g.add(s)
	if p.opt.Mode == kvstore.WriteThrough {
		g.synced = len(g.states) - 1
	}
}

// update is a transaction on several keys, of what it has read.
func (p *play) update(g *saga) (what string, next shape, err error) {
	m := g.owner
	reads := 1 + p.rnd.IntN(3)
	keys := make([]string, reads)
	for i := range keys {
		keys[i] = p.key()
	}
	ws := map[string]*leaf{}
	for range 1 + p.rnd.IntN(4) {
		if ws[p.key()] = nil; p.rnd.IntN(4) > 0 {
			at := p.until()
			ws[p.key()] = &leaf{p.value(), store.TimeOf(at)}
		}
	}
	abort := p.rnd.IntN(8) == 0
	errAbort := errors.New("abort")
	err = p.present(g).Update(p.ctx, func(tx *kvstore.Tx[string]) error {
		for _, k := range keys {
			v, err := tx.Get(k)
			want, there := g.last().now().entries[k]
			switch {
			case err != nil && !errors.Is(err, kvstore.ErrNotFound):
				return fmt.Errorf("in the middle: %w", err) // the transaction is stale, or Update returns it
			case err == nil && (!there || v != want.v), err != nil && there:
				p.fail("%s, in a transaction on %s: %q is %q, %v; want %q", g.id, m.name, k, v, err, want.v)
			}
		}
		for k, l := range ws {
			var err error
			if l == nil {
				err = tx.Delete(k)
			} else {
				err = tx.PutUntil(k, l.v, l.at.Std())
			}
			if err != nil {
				return err
			}
		}
		if abort {
			return errAbort
		}
		return nil
	})
	next = g.last().shape
	if abort && errors.Is(err, errAbort) {
		return "Update, aborted", next, nil
	}
	return fmt.Sprintf("Update of %d keys", len(ws)), next.with(ws), err
}

// revive gives a session that is gone on its own node another life.
func (p *play) revive(g *saga) {
	m := g.owner
	g.handle = nil
	next := g.last().born()
	var err error
	what := ""
	switch p.rnd.IntN(3) {
	case 0:
		v := p.value()
		what = "DB.Put " + v
		err = m.db.Put(p.ctx, g.id, v)
		next.entries[""] = leaf{v: v}
	case 1:
		what = "Create"
		g.handle, err = m.db.Create(p.ctx, g.id)
	case 2:
		what = "AdoptOrCreate"
		g.handle, err = m.db.AdoptOrCreate(p.ctx, g.id)
	}
	p.log("%s on %s: another life by %s: %v", g.id, m.name, what, err)
	p.ok(err, "another life of %s on %s by %s", g.id, m.name, what)
	g.add(shape{exists: true, life: next.life}) // a Put of what has left memory claims it first, empty
	p.wrote(g, next)
}

func (p *play) syncOne(g *saga) {
	if !g.last().now().exists {
		return
	}
	err := p.present(g).Sync(p.ctx)
	p.log("Sync(%s) on %s: %v", g.id, g.owner.name, err)
	p.ok(err, "Sync(%s) on %s", g.id, g.owner.name)
	g.synced = len(g.states) - 1
}

func (p *play) flushAll() {
	for _, m := range p.members {
		p.log("Flush on %s", m.name)
		p.ok(m.db.Flush(p.ctx), "Flush on %s", m.name)
		for _, g := range p.sagas {
			if g.owner == m {
				g.synced = len(g.states) - 1
			}
		}
	}
}

func (p *play) release(g *saga) {
	err := g.owner.db.Release(p.ctx, g.id)
	p.log("Release(%s) on %s: %v", g.id, g.owner.name, err)
	if !g.last().now().exists && isGone(err) {
		return
	}
	p.ok(err, "Release(%s) on %s", g.id, g.owner.name)
	if h := p.raw(g.id).header; h.Exists() && !h.Released {
		p.fail("%s is not released in the store: %+v", g.id, h)
	}
	g.synced, g.owner, g.handle = len(g.states)-1, nil, nil
}

// kill ends a node at once. Another incarnation of it begins, often at once.
func (p *play) kill(m *member) {
	p.log("%s dies", m.name)
	m.view.dead.Store(true)
	now := time.Now()
	for id := range m.lost {
		p.fail("%s lost something of %s, and owned it: %+v", m.name, id, m.lost[id])
	}
	m.end()
	for _, g := range p.sagas {
		if g.owner == m {
			g.oldest(now, p.opt.MaxDelay)
			g.owner, g.handle = nil, nil
		}
	}
	if p.rnd.IntN(3) == 0 { // another node may find the sessions first
		m.name += "'"
	}
	p.open(m)
}

// leave ends a node in order.
func (p *play) leave(m *member) {
	drain := p.rnd.IntN(2) == 0
	p.log("%s leaves, drain %v", m.name, drain)
	if drain {
		p.ok(m.db.Drain(p.ctx), "Drain of %s", m.name)
		for _, g := range p.sagas {
			if h := p.raw(g.id).header; g.owner == m && h.Exists() && !h.Released {
				p.fail("%s was drained and has %+v", m.name, h)
			}
		}
	}
	p.ok(m.db.Close(p.ctx), "Close of %s", m.name)
	if st := m.db.Stats(); st.Buffered != 0 {
		p.fail("%s is closed and holds %d bytes of the buffer", m.name, st.Buffered)
	}
	for id := range m.lost {
		p.fail("%s lost something of %s, and owned it: %+v", m.name, id, m.lost[id])
	}
	for _, g := range p.sagas {
		if g.owner == m {
			g.synced, g.owner, g.handle = len(g.states)-1, nil, nil
		}
	}
	p.open(m)
}

// finish compares everything once more, and ends.
func (p *play) finish() {
	p.flushAll()
	for _, g := range p.sagas {
		if g.owner == nil {
			continue
		}
		p.avoidEdge(g)
		if found := p.raw(g.id); !found.equal(g.last().now()) {
			p.fail("the store has %s as %v, want %v", g.id, found.shape, g.last().now())
		}
		if g.last().now().exists {
			p.readAll(g)
		}
	}
	for _, m := range p.members {
		p.leave(m)
		p.ok(m.db.Close(p.ctx), "Close of %s", m.name)
	}
	p.ok(p.st.Close(), "Close of the store")
	p.t.Log(p.reach)
}
