package kvstore_test

import (
	"errors"
	"slices"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is the part of the model in which sessions change hands.

// raw returns what the store has of a session.
func (p *play) raw(id string) record {
	p.t.Helper()
	r, err := recordOf(p.st, id)
	p.ok(err, "Load of %s", id)
	return r
}

// takeover lets m ask for a session, and looks at what it finds there.
func (p *play) takeover(g *saga, m *member) {
	if g.owner == m {
		return
	}
	old := g.owner
	if old != nil {
		g.oldest(time.Now(), p.opt.MaxDelay)
	}
	how := p.rnd.IntN(4)
	var h *kvstore.Session[string]
	var err error
	before := p.raw(g.id).header
	what := [...]string{"Adopt", "AdoptOrCreate", "Steal", "AdoptOrphans"}[how]
	switch how {
	case 0:
		h, err = m.db.Adopt(p.ctx, g.id, p.key())
	case 1:
		h, err = m.db.AdoptOrCreate(p.ctx, g.id, p.key())
	case 2:
		h, err = m.db.Steal(p.ctx, g.id)
	case 3:
		p.orphans(m)
		return
	}
	p.log("%s(%s) on %s: %v", what, g.id, m.name, err)
	var owned *kvstore.OwnedError
	switch {
	case errors.As(err, &owned):
		held := func(h store.Header) bool { return h.Exists() && !h.Released }
		if !held(before) && !held(p.raw(g.id).header) || how == 2 || old != nil && owned.Addr != "addr of "+old.name {
			p.fail("%s(%s) on %s: %v", what, g.id, m.name, err)
		}
	case errors.Is(err, kvstore.ErrNotFound):
		if how == 1 || !p.among(g, shape{}) {
			p.fail("%s(%s) on %s: %v; states %v", what, g.id, m.name, err, g.states[g.synced:])
		}
		if old == nil {
			g.reset(shape{}, nil)
		}
	case err != nil:
		p.fail("%s(%s) on %s: %v", what, g.id, m.name, err)
	default:
		p.took(g, m, h, how == 1)
	}
}

// among reports whether a session may be found in that state.
func (p *play) among(g *saga, found shape) bool {
	return slices.ContainsFunc(g.states[g.synced:], func(s past) bool { return s.now().equal(found.now()) })
}

// took checks what m found in a session that it has taken over.
func (p *play) took(g *saga, m *member, h *kvstore.Session[string], created bool) {
	old, states := g.owner, g.states
	found := p.raw(g.id)
	if !p.among(g, found.shape) && !(created && len(found.entries) == 0 && p.among(g, shape{})) {
		p.fail("%s found %s as %v; it may be one of %v", m.name, g.id, found.shape, states[g.synced:])
	}
	if found.exists && (found.header.Owner.Node != m.name || found.header.Released) {
		p.fail("%s has taken %s over, and the store has %+v", m.name, g.id, found.header)
	}
	if len(states)-g.synced > 1 {
		p.reach["takeover of an unsaved session"]++
	}
	found.life = g.last().life + 1
	g.reset(found.shape, m)
	p.avoidEdge(g)
	if g.handle = h; found.now().exists {
		p.readAll(g)
	}
	if old != nil {
		p.exorcise(g, old, states, found.shape)
	}
}

// exorcise lets a former owner write on, which no one may ever read, until it hears that
// it is over. It has to hand over all that it had acknowledged and that was not taken over.
func (p *play) exorcise(g *saga, old *member, states []past, found shape) {
	zombie := states[len(states)-1].shape
	var refused []string
	if p.rnd.IntN(2) == 0 {
		time.Sleep(time.Duration(p.rnd.Int64N(int64(p.opt.MaxDelay))))
	}
	h, err := old.db.Session(p.ctx, g.id)
	for range 1 + p.rnd.IntN(3) {
		if err != nil {
			break
		}
		k, v := p.key(), p.value()
		if err = h.Put(p.ctx, k, v); err == nil {
			zombie = zombie.with(map[string]*leaf{k: {v: v}})
		} else if p.opt.Mode == kvstore.WriteThrough {
			refused = append(refused, k) // the error told it; it may be handed over, too
		}
		p.log("former owner %s puts %s of %s: %v", old.name, v, g.id, err)
	}
	if err == nil {
		err = h.Sync(p.ctx)
	}
	p.log("former owner %s: %v", old.name, err)
	if err == nil {
		p.fail("%s wrote into %s, which %s has", old.name, g.id, g.owner.name)
	}
	if !errors.Is(err, kvstore.ErrFenced) && !isGone(err) {
		p.fail("the former owner %s of %s hears %v", old.name, g.id, err)
	}
	time.Sleep(p.opt.MaxDelay + modelFlush) // what is in flight comes down
	if v, err := old.db.Get(p.ctx, g.id); !isGone(err) {
		p.fail("the former owner %s of %s still has it: %q, %v", old.name, g.id, v, err)
	}
	lost := map[string]kvstore.LostEntry{}
	for _, l := range old.takeLost(g.id) {
		for _, e := range l.Entries {
			if e.Kind != kvstore.Plain {
				continue
			}
			if _, twice := lost[e.Key]; twice {
				p.fail("%s lost %q of %s twice", old.name, e.Key, g.id)
			}
			lost[e.Key] = e
		}
	}
	for _, s := range states {
		if s.life != zombie.life || !s.exists || s.expires != 0 {
			return // then what was lost is not only entries
		}
	}
	p.reach["losses compared"]++
	for _, k := range modelKeys {
		z, r := zombie.entries[k], found.entries[k]
		if z.at != 0 || r.at != 0 || slices.Contains(refused, k) {
			continue
		}
		had := r.v
		if l, ok := lost[k]; ok {
			had, _ = l.Value.(string)
		}
		if had != z.v {
			p.fail("%s had acknowledged %q=%q of %s; taken over: %v; handed over: %v", old.name, k, z.v, g.id, found, lost)
		}
	}
}

// orphans lets m adopt what nobody has.
func (p *play) orphans(m *member) {
	done, err := m.db.AdoptOrphans(p.ctx, kvstore.Takeover{All: true})
	p.log("AdoptOrphans on %s: %+v, %v", m.name, done, err)
	p.ok(err, "AdoptOrphans on %s", m.name)
	for _, g := range p.sagas {
		if g.owner != nil {
			continue
		}
		h, err := m.db.Session(p.ctx, g.id)
		if err == nil {
			p.reach["orphan adopted"]++
			p.took(g, m, h, false)
		} else if !isGone(err) {
			p.fail("Session(%s) on %s: %v", g.id, m.name, err)
		}
	}
}

// rival creates a session that another node may have.
func (p *play) rival(g *saga, m *member) {
	if g.owner == m {
		return
	}
	old := g.owner
	through := p.opt.Mode == kvstore.WriteThrough
	if old != nil {
		g.oldest(time.Now(), p.opt.MaxDelay)
	}
	h, err := m.db.Create(p.ctx, g.id)
	if !through { // there the creation alone is refused
		p.ok(err, "Create(%s) on %s, which does not have it", g.id, m.name)
	}
	v := p.value()
	if err == nil {
		err = h.Put(p.ctx, "a", v)
	}
	if err == nil {
		err = h.Sync(p.ctx)
	}
	p.log("Create(%s) on %s, put and sync: %v", g.id, m.name, err)
	switch {
	case err == nil:
		p.reach["rival creation stored"]++
		if !p.among(g, shape{}) {
			p.fail("%s created %s anew; it was one of %v", m.name, g.id, g.states[g.synced:])
		}
		states := g.states
		g.reset(shape{exists: true, life: g.last().life + 1, entries: map[string]leaf{"a": {v: v}}}, m)
		g.handle = h
		if old != nil {
			p.exorcise(g, old, states, g.last().shape)
		}
	case errors.Is(err, kvstore.ErrFenced):
		p.reach["rival creation fenced"]++
		n := 0
		for _, l := range m.takeLost(g.id) {
			for _, e := range l.Entries {
				if n++; e.Key != "a" || e.Value != v || !l.Created {
					p.fail("a creation of %s on %s that was too late lost %+v", g.id, m.name, l)
				}
			}
		}
		if n != 1 && !through {
			p.fail("a creation of %s on %s that was too late lost %d entries", g.id, m.name, n)
		}
	default:
		p.fail("Create(%s) on %s, put and sync: %v", g.id, m.name, err)
	}
}
