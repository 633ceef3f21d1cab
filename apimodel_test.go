package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// This file is the model that FuzzAPI compares with. Each node's idea of a session is a line of plain maps, to which
// every acknowledged change adds one. The store's record is looked at after each operation, behind the faults: it
// follows the line of whoever owns the session, and never goes back on it. Where a session changes
// hands the line forks: the new one begins with what the record had, and what the old one has more must come to Hooks.Lost.

const (
	apiDelay = 20 * time.Millisecond           // Options.MaxDelay
	apiLease = 300 * time.Millisecond          // Options.Lease
	apiRetry = time.Millisecond                // Options.RetryMin and RetryMax
	apiLag   = apiDelay + 5*apiRetry           // within which a healthy store has everything
	apiWait  = 25 * time.Millisecond           // contexts of what may have to wait
	apiSlow  = 5 * time.Millisecond            // what a slow store takes for a call
	apiEdge  = 2*apiWait + 10*time.Millisecond // longer than any operation, but Close
)

// line is one node's history of a session, since it took it over or made it.
type line struct {
	by      *peer
	states  []past
	stored  int   // the record is one of states[stored:], while the line is on record
	must    int   // and at least this one: someone was told
	made    bool  // by Create, and the store has not heard of it
	fenced  bool  // another tenure is on record
	taken   shape // if fenced or closed: what the record had then
	taking  int   // likewise: the last state that this was
	refused bool  // the node knows that it is over
	dead    bool  // its node was killed: nobody is told anything

	// What was handed over: entries by their keys in a shape, items of the queue, and how many were to be taken out of it.
	lost  map[string]kvstore.LostEntry
	items []string
	pops  int
}

func (l *line) last() past { return l.states[len(l.states)-1] }

// begun returns the first state of the last life.
func (l *line) begun() int {
	i := len(l.states) - 1
	for i > 0 && l.states[i-1].now().exists {
		i--
	}
	return i
}

func (l *line) add(s shape) { l.states = append(l.states, past{s, time.Now()}) }

// index returns the first state from i on that looks like s now; -1 if none does.
func (l *line) index(s shape, i int) int {
	for ; i < len(l.states); i++ {
		if l.states[i].now().equal(s) {
			return i
		}
	}
	return -1
}

// tale is a session in the model.
type tale struct {
	id     string
	rec    record // as last seen
	on     *line  // that rec follows
	lives  int
	stolen map[store.Incarnation]bool // who has asked for it by force
}

// peer is a node. Its db is nil while it is down.
type peer struct {
	member
	self    store.Incarnation
	faults  *storetest.Faults
	mode    storetest.Fault
	kinds   []storetest.Kind
	faulty  bool
	healthy time.Time // since when the store answers
	claims  int       // of faults, that are to be applied late
	own     map[*tale]*line
	ended   map[*tale]*line // the last one that it had
	handles map[*tale]grip
	seen    map[*tale]sight     // the version that was read last
	gaveUp  map[*tale]time.Time // when a release was last given up
	events  []any               // of its hooks: kvstore.Lost and kvstore.FencedError
}

// grip is a handle that was kept, and the life that it is on.
type grip struct {
	h    *kvstore.Session[string]
	line *line
	life int
}

// program is one run: see FuzzAPI.
type program struct {
	t     *testing.T
	ctx   context.Context
	st    *memory.Store
	opt   kvstore.Options
	peers []*peer
	tales []*tale
	lines []*line
	gone  []*peer // former incarnations that may have calls under way
	alive map[store.Incarnation]bool
	trace []string
	n     int          // values made
	ends  []store.Time // what expires, at the latest then
}

func (p *program) fail(format string, args ...any) {
	p.t.Helper()
	p.t.Fatalf("%s\n\nthe program:\n%s", fmt.Sprintf(format, args...), strings.Join(p.trace, "\n"))
}

func (p *program) log(format string, args ...any) {
	p.trace = append(p.trace, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func (p *program) open(m *peer) {
	time.Sleep(time.Microsecond) // see step
	m.faults = storetest.NewFaults(p.st)
	m.view = &mortal{inner: m.faults}
	m.own, m.handles, m.ended, m.gaveUp = map[*tale]*line{}, map[*tale]grip{}, map[*tale]*line{}, map[*tale]time.Time{}
	m.events, m.claims, m.seen = nil, 0, map[*tale]sight{}
	view, o := m.view, p.opt
	o.Node, o.Addr = m.name, "addr of "+m.name
	event := func(e any) {
		if !view.dead.Load() {
			m.mu.Lock()
			m.events = append(m.events, e)
			m.mu.Unlock()
		}
	}
	o.Hooks.Lost = func(l kvstore.Lost) { event(l) }
	o.Hooks.Fenced = func(e kvstore.FencedError) { event(e) }
	var err error
	if m.db, err = kvstore.Open[string](p.ctx, m.view, o); err != nil {
		p.fail("Open of %s: %v", m.name, err)
	}
	nodes, _ := p.st.Nodes(p.ctx)
	for _, n := range nodes {
		if n.Name == m.name && n.Lease > 0 {
			m.self = n.Incarnation
		}
	}
	p.inject(m, storetest.Fault{})
}

// inject sets what happens to calls of m from now on; the zero Fault heals.
func (p *program) inject(m *peer, f storetest.Fault, kinds ...storetest.Kind) {
	m.mode, m.kinds, m.faulty = f, kinds, f.Fail != storetest.Never || f.Delay > 0
	p.apply(m)
	if !m.faulty {
		m.healthy = time.Now()
	}
}

func (p *program) apply(m *peer) {
	f := m.mode
	m.faults.Inject(func(c storetest.Call) storetest.Fault {
		if !slices.Contains(m.kinds, c.Kind) {
			return storetest.Fault{}
		}
		if c.Kind == storetest.Claim && f.Fail == storetest.Late {
			m.claims++
		}
		return f
	})
}

// quietly looks at something of m with no faults in the way.
func (p *program) quietly(m *peer, look func()) {
	m.faults.Inject(nil)
	look()
	p.apply(m)
}

// excused reports whether an error of m is one that its store may have made.
func (m *peer) excused(err error) bool {
	return m.faulty && (errors.Is(err, storetest.ErrInjected) || errors.Is(err, context.DeadlineExceeded))
}

// suspended reports whether err is that of a strict node about a session whose release was given up. The node serves it again, and
// makes it anew, when the store has taken the release back: with a healthy store after a flush.
func (p *program) suspended(m *peer, g *tale, err error) bool {
	at, given := m.gaveUp[g]
	return p.opt.Strict && given && errors.Is(err, kvstore.ErrSuspended) &&
		(m.faulty || time.Since(at) <= apiLag || time.Since(m.healthy) <= apiLag)
}

// runs returns the incarnations whose leases run.
func (p *program) runs() map[store.Incarnation]bool {
	nodes, err := p.st.Nodes(p.ctx)
	if err != nil {
		p.fail("Nodes: %v", err)
	}
	alive := map[store.Incarnation]bool{}
	for _, n := range nodes {
		alive[n.Incarnation] = n.Lease > 0
	}
	return alive
}

// holds reports whether the session is m's by the record, whether m knows it or not.
func (m *peer) holds(g *tale) bool {
	h := g.rec.header
	return h.Exists() && !h.Released && h.Owner.Incarnation == m.self
}

// settle lets everything that can happen now happen, and compares the records and what the hooks were told with the model. by is
// the node that asks for sessions in this operation, nil if none does.
func (p *program) settle(by *peer) {
	p.t.Helper()
	synctest.Wait()
	now := p.runs()
	for _, g := range p.tales {
		p.observe(g, by, now)
	}
	for _, m := range p.peers {
		if m.db != nil {
			p.hear(m)
			for _, g := range p.tales {
				p.told(m, g)
			}
		}
	}
}

func (p *program) begin(by *peer, states ...shape) *line {
	l := &line{by: by, lost: map[string]kvstore.LostEntry{}}
	for _, s := range states {
		l.add(s)
	}
	p.lines = append(p.lines, l)
	return l
}

// observe compares the record of a session with the line that it follows.
func (p *program) observe(g *tale, by *peer, now map[store.Incarnation]bool) {
	p.t.Helper()
	r, err := recordOf(p.st, g.id)
	if err != nil {
		p.fail("%s in the store: %v", g.id, err)
	}
	was, l := g.rec, g.on
	h, old := r.header, was.header
	g.rec = r
	switch {
	case h.Epoch == 0 && old.Epoch == 0:
	case h.HeldBy(old.Owner, old.Epoch):
		if h.Seq < old.Seq {
			p.fail("the store has %s at seq %d, and had it at %d", g.id, h.Seq, old.Seq)
		}
		least := max(l.stored, l.must)
		if m := l.by; m != nil && m.db != nil && m.own[g] == l && !m.faulty {
			for i := len(l.states) - 1; i > least; i-- {
				if at := l.states[i].made; time.Since(at) > apiLag && time.Since(m.healthy) > apiLag {
					least = i
				}
			}
		}
		if l.stored = l.index(r.shape, least); l.stored < 0 {
			p.fail("the store has %s as %v (%+v), want one of %v", g.id, r.shape, h, l.states[least:])
		}
	default:
		p.log("    in the store %s has epoch %d, of %s", g.id, h.Epoch, h.Owner.Node)
		p.change(g, by, was, now)
	}
}

// told makes sure that a node that has been healthy long enough knows what became of its changes.
func (p *program) told(m *peer, g *tale) {
	p.t.Helper()
	l := m.own[g]
	if l == nil || m.faulty || time.Since(m.healthy) <= apiLag {
		return
	}
	if l.made && l.last().now().exists && time.Since(l.states[l.begun()].made) > apiLag {
		p.fail("%s created %s, which was neither stored nor refused", m.name, g.id)
	}
	i := len(l.states) - 1
	for i > 0 && time.Since(l.states[i].made) <= apiLag {
		i--
	}
	// What was put and deleted, or has expired, in one window is not written. If the window ended in what the store has, nobody
	// finds out; nor if it ended in a deletion, and the store has none either.
	undone := slices.ContainsFunc(l.states[i:], func(s past) bool { return s.now().equal(l.taken) || !s.now().exists })
	if s := l.states[i]; l.fenced && i > l.taking && s.exists && !undone && plain(s.shape) && plain(l.taken) {
		p.fail("%s changed %s %v ago, which another has, and hears nothing", m.name, g.id, time.Since(s.made))
	}
}

// plain reports that nothing of a session expires.
func plain(s shape) bool {
	for _, l := range s.entries {
		if l.at != 0 {
			return false
		}
	}
	return s.expires == 0
}

// change judges a new tenure on record.
func (p *program) change(g *tale, by *peer, was record, now map[store.Incarnation]bool) {
	p.t.Helper()
	r, old, l := g.rec, was.header, g.on
	h := r.header
	if h.Epoch <= old.Epoch {
		p.fail("the store has %s at epoch %d, and had it at %d", g.id, h.Epoch, old.Epoch)
	}
	if h.Epoch > old.Epoch+1 { // a creation may have been stored meanwhile, and taken over at once
		for _, q := range p.peers {
			if mine := q.own[g]; q.db != nil && mine != nil && mine.made && mine != l && q.self != h.Owner.Incarnation && mine.index(r.shape, 0) >= 0 {
				p.fence(l, mine, shape{})
				mine.made, l = false, mine
			}
		}
	}
	before := []past{{}}
	if l != nil {
		before = l.states[max(l.stored, l.must):]
	}
	if old.Deleted && h.Epoch == old.Epoch+1 { // a tombstone ends a tenure: what its node has made since, nobody can have found
		before = []past{{}}
	}
	var m *peer
	for _, q := range p.peers {
		if q.db != nil && q.self == h.Owner.Incarnation {
			m = q
		}
	}
	absent := slices.ContainsFunc(before, func(s past) bool { return !s.now().exists })
	alive := p.alive[old.Owner.Incarnation] && now[old.Owner.Incarnation]
	same := old.Owner.Incarnation == h.Owner.Incarnation
	if old.Exists() && !old.Released && alive && !absent && !same && !g.stolen[h.Owner.Incarnation] {
		p.fail("%s is now %+v, and was %+v, whose owner lives", g.id, h, old)
	}
	if m != nil {
		if mine := m.own[g]; mine != nil && (mine.made && h.Seq > 0 || mine == l) { // a claim has seq 0
			from := max(mine.stored, mine.must)
			if h.Seq == 0 { // then only what was added for it counts: see put
				from = max(from, len(mine.states)-2)
			}
			if i := mine.index(r.shape, from); i >= 0 && absent && (h.Seq > 0 || mine.last().exists) {
				mine.made, mine.stored, g.on = false, i, mine
				p.fence(l, mine, shape{})
				return
			}
		}
	}
	fresh := r.exists && len(r.entries) == 0 && r.expires == 0
	found := slices.IndexFunc(before, func(s past) bool { return s.now().equal(r.shape) })
	dead := slices.ContainsFunc(p.lines, func(d *line) bool { // a creation that lands late
		return d.by != nil && d.by.self == h.Owner.Incarnation && d.by != m && d.index(r.shape, 0) >= 0
	})
	if found < 0 && !(absent && (fresh && by != nil || dead)) {
		p.fail("%s is now %+v, and begins as %v; it was one of %v", g.id, h, r.shape, before)
	}
	g.lives++
	s := r.shape
	s.life = g.lives
	g.on = p.begin(m, s)
	taken := r.shape
	if found < 0 {
		taken = shape{}
	}
	p.fence(l, g.on, taken)
	if dead && m == nil { // the rest of what it was may come, too
		for _, d := range p.lines {
			if d.by != nil && d.by.self == h.Owner.Incarnation {
				if i := d.index(r.shape, 0); i >= 0 {
					g.on.states = append(g.on.states, d.states[i+1:]...)
				}
			}
		}
	}
}

// fence ends what a line has in common with the record. A life that began after the tombstone that was taken over is a creation of
// which the store has not heard: it comes, above what others made and ended meanwhile, or is refused.
func (p *program) fence(l, next *line, taken shape) {
	if l == nil || l == next {
		return
	}
	l.taken = taken
	if l.taking = l.index(taken.now(), max(l.stored, l.must)); l.taking < 0 {
		l.taking = len(l.states) - 1
	}
	l.made = !taken.exists && l.last().now().exists && l.taking < l.begun()
	l.fenced = !l.made
}

// hear takes what the hooks of m were told.
func (p *program) hear(m *peer) {
	p.t.Helper()
	m.mu.Lock()
	events := m.events
	m.events = nil
	m.mu.Unlock()
	for _, e := range events {
		switch e := e.(type) {
		case kvstore.FencedError:
			g := p.tale(e.Session)
			l := m.own[g]
			if l == nil {
				continue // it was found out by another way
			}
			if !l.fenced && !(l.made && g.rec.header.Epoch > 0) {
				p.fail("%s was fenced, and owned %s: %v", m.name, g.id, &e)
			}
			p.end(m, g)
		case kvstore.Lost:
			p.lose(m, e)
		}
	}
}

// lose notes what was handed over.
func (p *program) lose(m *peer, e kvstore.Lost) {
	p.t.Helper()
	g := p.tale(e.Session)
	l := m.own[g]
	if l == nil || !l.fenced && !l.made {
		if l != nil && len(e.Entries) > 0 && (m.ended[g] == nil || e.Epoch >= g.rec.header.Epoch) { // else it was in flight when the session left
			p.fail("%s lost something of %s, and owns it: %+v", m.name, g.id, e)
		}
		l = m.ended[g]
	}
	if l == nil {
		if len(e.Entries) > 0 {
			p.fail("%s lost something of %s, and never had it: %+v", m.name, g.id, e)
		}
		return
	}
	for _, x := range e.Entries {
		if x.Kind == kvstore.QueueItem {
			if v, there := x.Value.(string); there {
				l.items = append(l.items, v)
			} else {
				l.pops++
			}
			continue
		}
		key := p.lostKey(x)
		if _, twice := l.lost[key]; twice {
			p.fail("%s lost %q of %s twice", m.name, key, g.id)
		}
		l.lost[key] = x
	}
}

// end says that m knows that it does not have g any more.
func (p *program) end(m *peer, g *tale) {
	m.own[g].refused = true
	m.ended[g] = m.own[g]
	delete(m.own, g)
}

func (p *program) tale(id string) *tale {
	for _, g := range p.tales {
		if g.id == id {
			return g
		}
	}
	p.fail("session %q is none of the program's", id)
	return nil
}

// account compares what a line had acknowledged with what others found and what its node handed over.
func (p *program) account(l *line) {
	z := l.last().shape
	if l.dead || !l.refused || !z.exists {
		return
	}
	for _, s := range l.states {
		if s.expires != 0 {
			return // then what was lost is not only entries
		}
	}
	base := l.taken
	if !l.fenced || l.states[l.taking].life != z.life {
		base = shape{}
	}
	for _, k := range modelKeys {
		want, r := z.entries[k], base.entries[k]
		if want.at != 0 || r.at != 0 {
			continue
		}
		had := r.v
		if e, ok := l.lost[k]; ok {
			had, _ = e.Value.(string)
		}
		if had != want.v {
			p.fail("%s had acknowledged %q=%q; taken over: %v; handed over: %v; states %v", l.by.name, k, want.v, l.taken, l.lost, l.states)
		}
	}
	p.accountInside(l, z, base)
}
