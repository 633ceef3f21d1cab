package kvstore_test

import (
	"errors"
	"maps"
	"slices"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// The operations of FuzzAPI's programs on whole nodes: what is to be stored, handed over, ended, killed, disturbed, and waited for.

// stored says that all that m has is stored.
func (p *program) stored(m *peer, l *line) {
	if l != nil && !l.fenced && !l.made {
		l.must = len(l.states) - 1
	}
}

func (p *program) sync(i instr) {
	h, current := p.handle(i)
	if h == nil {
		return
	}
	m, g := i.m, i.g
	l := m.own[g]
	ctx, cancel := p.brief()
	defer cancel()
	err := h.Sync(ctx)
	p.log("%s: %s.Sync(): %v", m.name, g.id, err)
	p.settle(nil)
	if !current {
		if err != nil && !isOver(err) && !m.excused(err) {
			p.stale(i, err)
		}
		return
	}
	if !p.served(i, l, false, err) {
		return
	}
	if l.made || l.fenced && !l.taken.now().equal(l.last().now()) {
		p.fail("%s syncs %s, and it is not stored: %+v", m.name, g.id, g.rec.header)
	}
	p.stored(m, l)
	p.settle(nil)
}

func (p *program) flush(i instr) {
	m := i.m
	had := maps.Clone(m.own)
	ctx, cancel := p.brief()
	defer cancel()
	err := m.db.Flush(ctx)
	p.log("%s: Flush(): %v", m.name, err)
	p.settle(nil)
	if err != nil {
		if !m.excused(err) && !(errors.Is(err, kvstore.ErrFenced) && (p.over(had) || len(m.ended) > 0)) {
			p.fail("Flush on %s: %v", m.name, err)
		}
		return
	}
	for _, g := range p.tales {
		if l := m.own[g]; l != nil && l.made && l.last().now().exists {
			p.fail("Flush on %s succeeds, and %s is not stored", m.name, g.id)
		} else if l != nil {
			p.stored(m, l)
		}
	}
	p.settle(nil)
}

// over reports whether a node has lost one of the sessions that it had.
func (p *program) over(had map[*tale]*line) bool {
	for _, l := range had {
		if l.fenced || l.refused {
			return true
		}
	}
	return false
}

func (p *program) release(i instr) {
	m, g := i.m, i.g
	l, stray := p.view(m, g)
	ctx, cancel := p.brief()
	defer cancel()
	err := m.db.Release(ctx, g.id)
	p.log("%s: Release(%s): %v", m.name, g.id, err)
	if err != nil {
		m.gaveUp[g] = time.Now()
	}
	p.settle(nil)
	if !p.served(i, l, stray, err) {
		return
	}
	if h := g.rec.header; h.Exists() && !h.Released || m.own[g] != l || l.fenced || l.made {
		p.fail("%s releases %s, and the store has %+v", m.name, g.id, h)
	}
	p.stored(m, l)
	p.settle(nil)
	p.end(m, g)
	l.dead = true // nothing more is to be told of it
}

// leave ends a node in order.
func (p *program) leave(i instr, drain bool) {
	m := i.m
	if m.db == nil {
		return
	}
	had := maps.Clone(m.own)
	if drain {
		ctx, cancel := p.brief()
		err := m.db.Drain(ctx)
		cancel()
		p.log("%s: Drain(): %v", m.name, err)
		p.settle(nil)
		if err != nil && !m.excused(err) && !(isOver(err) && p.over(had)) {
			p.fail("Drain of %s: %v", m.name, err)
		}
		for _, g := range p.tales {
			if l := m.own[g]; err == nil && l != nil && !l.fenced {
				if h := g.rec.header; l.made && l.last().now().exists || g.on == l && h.Exists() && !h.Released {
					p.fail("%s was drained, and has %s: %+v", m.name, g.id, h)
				}
				p.stored(m, l)
				p.end(m, g)
				l.dead = true
			}
		}
	}
	over := p.over(had) || len(m.ended) > 0 // what is in flight of a former tenure is told, too
	ctx, cancel := p.brief()
	err := m.db.Close(ctx)
	cancel()
	p.log("%s: Close(): %v", m.name, err)
	if err == nil {
		for _, l := range m.own {
			p.stored(m, l)
		}
	}
	synctest.Wait()
	now := p.runs()
	for _, g := range p.tales {
		p.observe(g, nil, now)
	}
	for g, l := range m.own {
		over = over || l.fenced || l.made && g.rec.header.Epoch > 0
	}
	var unsaved *kvstore.UnsavedError
	if err != nil && !m.excused(err) && !(isOver(err) && over) && !(m.faulty && errors.As(err, &unsaved)) {
		p.fail("Close of %s: %v", m.name, err)
	}
	if st := m.db.Stats(); st.Buffered != 0 {
		p.fail("%s is closed and holds %d bytes of the buffer", m.name, st.Buffered)
	}
	for _, g := range p.tales {
		l := m.own[g]
		if l == nil {
			continue
		}
		if err == nil && (l.made && l.last().now().exists && g.rec.header.Epoch == 0) {
			p.fail("%s is closed, and %s is not stored", m.name, g.id)
		}
		if !l.fenced {
			base := shape{}
			if !l.made {
				base = g.rec.shape
			}
			l.fenced, l.taken = true, base // as if it was taken over now
			if l.taking = l.index(base.now(), max(l.stored, l.must)); l.taking < 0 {
				l.taking = 0
			}
			if g.on == l { // what is still under way may come
				g.on = p.begin(nil)
				g.on.states = slices.Clone(l.states)
				g.on.stored = l.stored
			}
		}
	}
	p.hear(m)
	for g := range m.own {
		p.end(m, g)
	}
	p.down(m)
}

// down is a node that has ended.
func (p *program) down(m *peer) {
	gone := &peer{self: m.self, faults: m.faults, claims: m.claims}
	gone.name = m.name
	for _, l := range p.lines {
		if l.by == m {
			l.by = gone
		}
	}
	p.gone = append(p.gone, gone)
	m.db, m.own, m.handles = nil, map[*tale]*line{}, map[*tale]grip{}
}

func (p *program) kill(i instr) {
	m := i.m
	if m.db == nil {
		return
	}
	p.log("%s dies", m.name)
	p.hear(m)
	for _, l := range p.lines {
		l.dead = l.dead || l.by == m
	}
	m.member.end()
	p.down(m)
}

func (p *program) pass(i instr) {
	d := apiPass[int(i.arg-'0')%len(apiPass)] * time.Millisecond
	p.log("%v pass", d)
	time.Sleep(d)
}

func (p *program) disturb(i instr, f storetest.Fault, what string) {
	m := i.m
	if m.db == nil {
		return
	}
	var kinds []storetest.Kind
	for j, k := range []storetest.Kind{storetest.Apply, storetest.Claim, storetest.Load} {
		if n := (i.arg-'0')%7 + 1; n>>j&1 == 1 && !(f.Delay > 0 && k == storetest.Claim) { // or more could happen in an operation than is seen
			kinds = append(kinds, k)
		}
	}
	p.inject(m, f, kinds...)
	time.Sleep(5 * apiRetry)
	if m.faulty {
		p.log("%s: calls of %v %s", m.name, kinds, what)
	} else {
		p.log("%s: calls %s", m.name, what)
	}
}

// replay applies the calls of a node, and of those that had its name, that were to be applied late. A claim that a node has
// given up, and goes on, may come when it is down.
func (p *program) replay(i instr) {
	for _, m := range append(slices.Clone(p.gone), i.m) {
		if m.name != i.m.name || m.db != nil && m.claims > 0 || m.faults == nil {
			continue
		}
		rs := m.faults.ReplayLate(p.ctx)
		m.claims = 0
		if len(rs) > 0 {
			p.log("%s: late calls arrive", m.name)
		}
	}
	p.settle(p.peers[0])
}

// lapse ends the lease of a node, which does not know.
func (p *program) lapse(i instr) {
	if i.m.db == nil {
		return
	}
	p.log("the lease of %s ends", i.m.name)
	endLease(p.t, p.st, i.m.name)
}
