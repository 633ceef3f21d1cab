package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
)

// The operations of FuzzAPI's programs: each does one thing to a DB, and judges its answer by the model.

var apiUntil = []time.Duration{0, -time.Second, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, time.Second}

// until returns an expiry; zero is never.
func (p *program) until(arg byte) time.Time {
	d := apiUntil[int(arg-'0')%len(apiUntil)]
	if d == 0 {
		return time.Time{}
	}
	at := time.Now().Add(d)
	p.ends = append(p.ends, store.TimeOf(at))
	return at
}

// view returns what m must show of g, nil if nothing. stray tells that m owns g by the record, and may not know it.
func (p *program) view(m *peer, g *tale) (l *line, stray bool) {
	if l = m.own[g]; l == nil && m.holds(g) {
		return g.on, true
	}
	return l, false
}

// isOver reports an error that says that a session is not here.
func isOver(err error) bool {
	return isGone(err) || errors.Is(err, kvstore.ErrFenced) || errors.Is(err, kvstore.ErrReleased) || errors.Is(err, kvstore.ErrOwned)
}

// served judges an operation of m on g, whose line was l when it began, and reports whether it succeeded.
func (p *program) served(i instr, l *line, stray bool, err error) bool {
	p.t.Helper()
	m, g := i.m, i.g
	if err == nil {
		if l == nil || !stray && !l.last().now().exists {
			p.fail("%s serves %s, which it does not have", m.name, g.id)
		}
		if stray {
			m.own[g] = l
		}
		return true
	}
	if m.excused(err) {
		if stray && m.own[g] == nil { // it may have come, and something else failed
			p.quietly(m, func() {
				if _, err := m.db.Session(p.ctx, g.id); err == nil || p.suspended(m, g, err) {
					m.own[g] = l
				}
			})
		}
		return false
	}
	switch {
	case p.suspended(m, g, err):
	case !isOver(err):
		p.fail("%s of %s: %v", m.name, g.id, err)
	case stray && m.own[g] == nil && errors.Is(err, kvstore.ErrNotFound):
		m.own[g] = l // it came, and its time was over
	case l == nil, stray, m.own[g] != l, !l.last().now().exists:
	case l.fenced:
		p.end(m, g)
	default:
		p.fail("%s has %s, and says: %v", m.name, g.id, err)
	}
	return false
}

// handle returns the handle that m has on g, or a new one, and whether it is on the life that g has there.
func (p *program) handle(i instr) (h *kvstore.Session[string], current bool) {
	m, g := i.m, i.g
	if k := m.handles[g]; i.kept && k.h != nil {
		l := m.own[g]
		return k.h, l != nil && k.line == l && k.life == l.last().life && l.last().now().exists
	}
	l, stray := p.view(m, g)
	ctx, cancel := p.brief()
	defer cancel()
	h, err := m.db.Session(ctx, g.id)
	p.settle(nil)
	p.log("%s: Session(%s): %v", m.name, g.id, err)
	if !p.served(i, l, stray, err) {
		return nil, false
	}
	p.keep(i, h)
	return h, m.own[g] != nil
}

func (p *program) keep(i instr, h *kvstore.Session[string]) {
	if l := i.m.own[i.g]; l != nil {
		i.m.handles[i.g] = grip{h, l, l.last().life}
	}
}

// stale judges an operation on a handle of a former life, which must do nothing.
func (p *program) stale(i instr, err error) {
	p.t.Helper()
	if err == nil || !isOver(err) && !i.m.excused(err) && !p.suspended(i.m, i.g, err) {
		p.fail("%s: a handle on a former life of %s: %v", i.m.name, i.g.id, err)
	}
	if l := i.m.own[i.g]; l != nil && l.fenced && (errors.Is(err, kvstore.ErrNotResident) || errors.Is(err, kvstore.ErrFenced)) && i.m.handles[i.g].line == l {
		p.end(i.m, i.g)
	}
}

func (p *program) create(i instr) {
	m, g := i.m, i.g
	l, stray := p.view(m, g)
	ctx, cancel := p.brief()
	defer cancel()
	begun := time.Now()
	h, err := m.db.Create(ctx, g.id)
	p.log("%s: Create(%s): %v", m.name, g.id, err)
	born := shape{exists: true, entries: map[string]leaf{}}
	switch {
	case err == nil:
		p.settle(nil)
		if m.own[g] != l && !stray {
			l = nil // it found out that it had lost it
		}
		if l != nil && !l.fenced && l.last().now().exists {
			p.fail("%s creates %s, and has it", m.name, g.id)
		}
		if l != nil && l.fenced && l.last().now().exists {
			p.end(m, g)
			l = nil
		}
		g.lives++
		born.life = g.lives
		if l == nil || l.fenced {
			if m.own[g] != nil {
				p.end(m, g)
			}
			l = p.begin(m, born)
			l.made = true
			m.own[g] = l
		} else {
			l.add(born)
			m.own[g] = l
		}
		p.settle(nil)
		if m.own[g] == l && time.Now() != begun { // it may have been flushed at once, with others, and refused
			p.quietly(m, func() {
				if _, err := m.db.Session(p.ctx, g.id); err != nil {
					p.end(m, g)
				}
			})
		}
		if m.own[g] == l {
			p.keep(i, h)
		}
	case errors.Is(err, kvstore.ErrExists):
		p.settle(nil)
		if l == nil || !l.last().now().exists {
			p.fail("%s has no %s, and says: %v", m.name, g.id, err)
		}
		if stray {
			m.own[g] = l
		}
	case m.excused(err), p.suspended(m, g, err):
	case l != nil && l.fenced && isOver(err):
		p.settle(nil)
	default:
		p.fail("Create: %v", err)
	}
}

// owned judges the refusal of a claim.
func (p *program) owned(i instr, what string, was record, err error) {
	p.t.Helper()
	var e *kvstore.OwnedError
	if !errors.As(err, &e) {
		return
	}
	if what == "Steal" {
		p.fail("%s(%s) on %s: %v", what, i.g.id, i.m.name, err)
	}
	now := p.runs()
	for _, r := range []record{was, i.g.rec} { // it may have been made meanwhile
		h, in := r.header, r.header.Owner.Incarnation
		owner := e.Addr
		for _, m := range p.peers {
			if m.db != nil && m.self == in {
				owner = "addr of " + m.name
			}
		}
		if h.Exists() && !h.Released && (p.alive[in] || now[in]) && in != i.m.self && owner == e.Addr {
			return
		}
	}
	p.fail("%s(%s) on %s: %v; the store has %+v", what, i.g.id, i.m.name, err, was.header)
}

// claim asks for a session in one of three ways.
func (p *program) claim(i instr, what string) {
	m, g := i.m, i.g
	l := m.own[g]
	was := g.rec
	ctx, cancel := p.brief()
	defer cancel()
	var h *kvstore.Session[string]
	var err error
	switch what {
	case "Adopt":
		h, err = m.db.Adopt(ctx, g.id, i.key)
	case "AdoptOrCreate":
		h, err = m.db.AdoptOrCreate(ctx, g.id)
	case "Steal":
		g.stolen[m.self] = true
		h, err = m.db.Steal(ctx, g.id)
	}
	p.log("%s: %s(%s): %v", m.name, what, g.id, err)
	absent := l != nil && !l.last().now().exists
	var came *kvstore.Session[string]
	if absent && what == "AdoptOrCreate" {
		revived := err == nil && !l.fenced
		if m.excused(err) { // it may have been made, and its flush have no answer
			p.quietly(m, func() {
				came, _ = m.db.Session(p.ctx, g.id)
				revived = came != nil
			})
		}
		if revived {
			g.lives++
			l.add(shape{exists: true, life: g.lives, entries: map[string]leaf{}})
			if err == nil {
				l.must = len(l.states) - 1
			}
		}
	}
	p.settle(m)
	p.owned(i, what, was, err)
	if came != nil && m.holds(g) && m.own[g] != g.on && came.Epoch() == g.rec.header.Epoch {
		if m.own[g] != nil { // else it has heard that it lost it before
			p.end(m, g)
		}
		m.own[g] = g.on // a claim was granted without an answer, and the look has brought the session in
	}
	if err == nil {
		r, err := recordOf(p.st, g.id)
		if err != nil || !r.header.HeldBy(store.Owner{Incarnation: m.self}, h.Epoch()) || r.header.Released {
			if mine := m.own[g]; mine == nil || !mine.fenced && !mine.made && r.header.Exists() && !r.header.Released {
				p.fail("%s(%s) on %s succeeds with epoch %d, and the store has %+v, %v", what, g.id, m.name, h.Epoch(), r.header, err)
			}
		} else if m.own[g] != g.on {
			if m.own[g] != nil {
				p.end(m, g)
			}
			m.own[g] = g.on
		}
		if mine := m.own[g]; what == "AdoptOrCreate" && !mine.last().now().exists {
			p.fail("AdoptOrCreate(%s) on %s succeeds, and there is none", g.id, m.name)
		}
		p.keep(i, h)
		return
	}
	p.unclaimed(i, l, was, err, what)
}

// unclaimed judges the error of a claim, whichever way it was made.
func (p *program) unclaimed(i instr, l *line, was record, err error, what string) {
	p.t.Helper()
	m, g := i.m, i.g
	mine := m.own[g]
	if mine != nil && mine != g.on && m.holds(g) {
		p.end(m, g) // the claim was granted, and nobody heard it
		mine = nil
	}
	switch {
	case m.excused(err), p.suspended(m, g, err):
	case errors.Is(err, kvstore.ErrOwned):
		if mine != nil && !mine.fenced && mine.last().now().exists {
			p.fail("%s has %s, and says: %v", m.name, g.id, err)
		}
		if mine != nil && mine.fenced {
			p.end(m, g)
		}
	case errors.Is(err, kvstore.ErrNotFound) && what != "AdoptOrCreate":
		if was.exists && g.rec.exists && (mine == nil || mine.last().now().exists) {
			p.fail("%s(%s) on %s: %v; the store has %+v", what, g.id, m.name, err, was.header)
		}
		if mine != nil && mine.last().now().exists {
			if !mine.fenced {
				p.fail("%s has %s, and says: %v", m.name, g.id, err)
			}
			p.end(m, g)
		}
	case isOver(err) && l != nil && l.fenced:
	default:
		p.fail("%s(%s) on %s: %v", what, g.id, m.name, err)
	}
}

func (p *program) session(i instr) {
	i.kept = false
	p.handle(i)
}

// shows compares a value that was read with the line.
func (p *program) shows(i instr, l *line, key, v string, err error) {
	p.t.Helper()
	want, there := l.last().now().entries[key]
	switch {
	case there && (err != nil || v != want.v), !there && err == nil:
		p.fail("%s has %q of %s: %q, %v; want %q, %v", i.m.name, key, i.g.id, v, err, want.v, there)
	}
}

func (p *program) got(i instr, l *line, stray bool, key, v string, err error) {
	p.t.Helper()
	switch {
	case err == nil:
		p.served(i, l, stray, nil)
		p.shows(i, l, key, v, nil)
	case l != nil && l.last().now().exists && errors.Is(err, kvstore.ErrNotFound):
		p.shows(i, l, key, v, err)
		if stray {
			i.m.own[i.g] = l
		}
	default:
		p.served(i, l, stray, err)
	}
}

func (p *program) get(i instr) {
	l, stray := p.view(i.m, i.g)
	ctx, cancel := p.brief()
	defer cancel()
	v, err := i.m.db.Get(ctx, i.g.id)
	p.log("%s: Get(%s): %q, %v", i.m.name, i.g.id, v, err)
	p.settle(nil)
	p.got(i, l, stray, "", v, err)
}

func (p *program) read(i instr) {
	h, current := p.handle(i)
	if h == nil {
		return
	}
	l := i.m.own[i.g]
	ctx, cancel := p.brief()
	defer cancel()
	v, err := h.Get(ctx, i.key)
	p.log("%s: %s.Get(%q): %q, %v", i.m.name, i.g.id, i.key, v, err)
	p.settle(nil)
	if !current {
		p.stale(i, err)
		return
	}
	p.got(i, l, false, i.key, v, err)
}

func (p *program) list(i instr) {
	h, current := p.handle(i)
	if h == nil {
		return
	}
	l := i.m.own[i.g]
	ctx, cancel := p.brief()
	defer cancel()
	all, err := h.All(ctx)
	got := map[string]string{}
	if err == nil {
		got = maps.Collect(all)
		if current {
			p.within(i, h, l.last().now())
		}
	}
	p.log("%s: %s.All(): %v, %v", i.m.name, i.g.id, got, err)
	p.settle(nil)
	if !current {
		p.stale(i, err)
		return
	}
	if !p.served(i, l, false, err) {
		return
	}
	want := map[string]string{}
	for k, e := range l.last().now().user() {
		want[k] = e.v
	}
	if !maps.Equal(got, want) {
		p.fail("%s has %s as %v, want %v", i.m.name, i.g.id, got, want)
	}
}

// changes makes a change by a handle, which leads to the state that next returns.
func (p *program) changes(i instr, what string, do func(ctx context.Context, h *kvstore.Session[string]) error, next func(shape) shape) {
	h, current := p.handle(i)
	if h == nil {
		return
	}
	l := i.m.own[i.g]
	ctx, cancel := p.brief()
	defer cancel()
	err := do(ctx, h)
	p.log("%s: %s.%s: %v", i.m.name, i.g.id, what, err)
	if !current {
		p.settle(nil)
		p.stale(i, err)
		return
	}
	if err == nil {
		s := next(l.last().shape)
		ok := l.last().now().exists
		l.add(s)
		p.settle(nil)
		if !ok {
			p.fail("%s changes %s, which it does not have", i.m.name, i.g.id)
		}
		return
	}
	p.settle(nil)
	p.served(i, l, false, err)
}

func (p *program) write(i instr) {
	v, at := p.value(), p.until(i.arg)
	p.changes(i, fmt.Sprintf("PutUntil(%q, %s, %d)", i.key, v, store.TimeOf(at)), func(ctx context.Context, h *kvstore.Session[string]) error {
		return h.PutUntil(ctx, i.key, v, at)
	}, func(s shape) shape { return s.with(map[string]*leaf{i.key: {v, store.TimeOf(at)}}) })
}

func (p *program) delete(i instr) {
	p.changes(i, fmt.Sprintf("Delete(%q)", i.key), func(ctx context.Context, h *kvstore.Session[string]) error {
		return h.Delete(ctx, i.key)
	}, func(s shape) shape { return s.with(map[string]*leaf{i.key: nil}) })
}

func (p *program) expire(i instr) {
	at := p.until(i.arg)
	p.changes(i, fmt.Sprintf("Expire(%d)", store.TimeOf(at)), func(ctx context.Context, h *kvstore.Session[string]) error {
		return h.Expire(ctx, at)
	}, func(s shape) shape { s.expires = store.TimeOf(at); return s })
}

// update is a transaction: it reads two keys, and writes those of the argument's low bits.
func (p *program) update(i instr) {
	n := i.arg - '0'
	first := int(i.b-'0') % len(modelKeys)
	ws := map[string]*leaf{}
	var names []string
	for j := range modelKeys {
		if n>>j&1 == 1 {
			k := modelKeys[(first+j)%len(modelKeys)]
			if ws[k] = nil; j%2 == 0 || n&0x10 == 0 {
				ws[k] = &leaf{v: p.value()}
			}
			names = append(names, k)
		}
	}
	l, m, g := i.m.own[i.g], i.m, i.g
	errAbort := errors.New("abort")
	abort := n&0x20 != 0
	what := fmt.Sprintf("Update(%q, abort %v)", names, abort)
	done := func(s shape) shape { return s.with(ws) }
	do := func(ctx context.Context, h *kvstore.Session[string]) error {
		err := h.Update(ctx, func(tx *kvstore.Tx[string]) error {
			for j := range 2 {
				k := modelKeys[(first+j)%len(modelKeys)]
				v, err := tx.Get(k)
				if err != nil && (!errors.Is(err, kvstore.ErrNotFound) || l == nil || !l.last().now().exists) {
					return err
				}
				if l != nil {
					p.shows(i, l, k, v, err)
				}
			}
			for _, k := range names {
				if w := ws[k]; w == nil {
					tx.Delete(k)
				} else {
					tx.Put(k, w.v)
				}
				v, err := tx.Get(k)
				if w := ws[k]; (err == nil) != (w != nil) || err == nil && v != w.v {
					p.fail("%s: a transaction on %s reads its own %q as %q, %v", m.name, g.id, k, v, err)
				}
			}
			if abort {
				return errAbort
			}
			return nil
		})
		if abort && errors.Is(err, errAbort) {
			return nil
		}
		if abort && err == nil {
			p.fail("%s: a transaction on %s ends well, and its function has failed", m.name, g.id)
		}
		return err
	}
	if abort {
		done = func(s shape) shape { return s }
	}
	if h := m.handles[g]; i.kept && h.h != nil && (l == nil || h.line != l || h.life != l.last().life) {
		l = nil // it is on another life
	} else if l == nil && m.holds(g) {
		l = g.on
	}
	p.changes(i, what, do, done)
}

// put sets the main entry, whether the session is there or not.
func (p *program) put(i instr) {
	m, g := i.m, i.g
	l, was := m.own[g], g.rec
	v := p.value()
	ctx, cancel := p.brief()
	defer cancel()
	err := m.db.Put(ctx, g.id, v)
	p.log("%s: Put(%s, %s): %v", m.name, g.id, v, err)
	w := map[string]*leaf{"": {v: v}}
	if err == nil && l != nil && !l.fenced {
		s, n := l.last().shape, len(l.states)
		if !s.now().exists {
			g.lives++
			s = shape{exists: true, life: g.lives, entries: map[string]leaf{}}
			l.add(s) // what has left memory is claimed first, empty
		}
		l.add(s.with(w))
		p.settle(m)
		if m.own[g] == l && g.on != l && m.holds(g) { // it had, and this is another tenure
			l.states = l.states[:n]
			p.adopted(i, w)
		}
		return
	}
	p.settle(m)
	p.owned(i, "Put", was, err)
	switch {
	case err != nil:
		p.unclaimed(i, l, was, err, "AdoptOrCreate")
	case m.holds(g):
		p.adopted(i, w)
	case l != nil && (m.own[g] == l || l.refused): // nobody else will ever read it
		s := l.last().shape
		if !s.now().exists {
			g.lives++
			s = shape{exists: true, life: g.lives}
		}
		l.add(s.with(w))
	default:
		p.fail("Put(%s) on %s succeeds, and the store has %+v", g.id, m.name, g.rec.header)
	}
}

// adopted says that m has taken g over, to write into it.
func (p *program) adopted(i instr, w map[string]*leaf) {
	if i.m.own[i.g] != nil && i.m.own[i.g] != i.g.on {
		p.end(i.m, i.g)
	}
	i.m.own[i.g] = i.g.on
	i.g.on.add(i.g.on.last().with(w))
}

func (p *program) remove(i instr) {
	m, g := i.m, i.g
	l, was := m.own[g], g.rec
	ctx, cancel := p.brief()
	defer cancel()
	err := m.db.Delete(ctx, g.id)
	p.log("%s: DB.Delete(%s): %v", m.name, g.id, err)
	if err == nil && l != nil && !(l.fenced && m.holds(g)) {
		n := len(l.states)
		if l.last().exists {
			l.add(shape{life: l.last().life})
		}
		p.settle(m)
		if mine := m.own[g]; (mine == l || mine == nil) && g.on != l && m.holds(g) { // it had lost that, and took it over to delete it
			l.states = l.states[:n]
			if mine != nil {
				p.end(m, g)
			}
			m.own[g] = g.on
			g.on.add(shape{life: g.on.last().life})
		}
		return
	}
	p.settle(m)
	p.owned(i, "Delete", was, err)
	switch {
	case err != nil:
		p.unclaimed(i, l, was, err, "Delete")
	case m.holds(g):
		if m.own[g] != nil && m.own[g] != g.on {
			p.end(m, g)
		}
		m.own[g] = g.on
		g.on.add(shape{life: g.on.last().life})
	case was.exists && g.rec.exists:
		p.fail("Delete(%s) on %s succeeds, and the store has %+v", g.id, m.name, g.rec.header)
	}
}

var apiPass = []time.Duration{1, 2, 5, 10, 15, 20, 30, 50, 100, 320, 1000} // milliseconds
