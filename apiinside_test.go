package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
)

// The operations of FuzzAPI's programs on what a session holds beside values under keys, and compare-and-swap. In a shape it is entries under keys that no session
// has (modelinside_test.go). The answer of a change is judged where the next state is made: by then it has succeeded, on the life that the node has.
// Touch is left out: it moves the end in memory, and the record's follows behind.

// add changes the counter by -2 to 2; 0 reads it.
func (p *program) add(i instr) {
	delta := int64(i.arg-'0')%5 - 2
	var n int64
	p.changes(i, fmt.Sprintf("Add(%d)", delta), func(ctx context.Context, h *kvstore.Session[string]) (err error) {
		n, err = h.Add(ctx, "n", delta, kvstore.InMemory)
		return err
	}, func(s shape) shape {
		if want := s.count() + delta; n != want {
			p.fail("%s adds %d to the counter of %s: %d, want %d", i.m.name, delta, i.g.id, n, want)
		}
		return s.counts(n)
	})
}

// push puts a value at the back of the queue; if the argument is odd, at the front.
func (p *program) push(i instr) {
	v, front := p.value(), i.arg&1 == 1
	p.changes(i, fmt.Sprintf("Push(%s, front %v)", v, front), func(ctx context.Context, h *kvstore.Session[string]) error {
		if front {
			return h.Queue("q").PushFront(ctx, v)
		}
		return h.Queue("q").PushBack(ctx, v)
	}, func(s shape) shape { return s.pushed(v, front) })
}

// pop takes the first value out of the queue; if the argument is odd, the last.
func (p *program) pop(i instr) {
	front := i.arg&1 == 0
	var v string
	empty := false
	p.changes(i, fmt.Sprintf("Pop(front %v)", front), func(ctx context.Context, h *kvstore.Session[string]) (err error) {
		if front {
			v, err = h.Queue("q").PopFront(ctx)
		} else {
			v, err = h.Queue("q").PopBack(ctx)
		}
		if empty = errors.Is(err, kvstore.ErrEmpty); empty {
			return nil
		}
		return err
	}, func(s shape) shape {
		want, rest := s.popped(front)
		if v != want || empty != (want == "") {
			p.fail("%s pops %q of %s, empty %v; want %q of %v", i.m.name, v, i.g.id, empty, want, s)
		}
		return rest
	})
}

// sight is an entry's version, and what the model had then.
type sight struct {
	key   string
	ver   kvstore.Version
	v     string
	there bool
	line  *line
	life  int
}

// fits says what a swap by this version may do, or whether a read may give it again, in the state s of l. Equal values are one value: no two are
// put. A session that was evicted has other versions than before.
func (p *program) fits(a sight, l *line, s shape) (may, must bool) {
	e, there := s.now().entries[a.key]
	if !a.there || !there {
		return a.there == there, a.there == there
	}
	may = a.line == l && a.life == s.life && a.v == e.v
	return may, may && p.opt.MaxResident == 0
}

// sees reads an entry with its version, and keeps that.
func (p *program) sees(i instr) {
	h, current := p.handle(i)
	if h == nil {
		return
	}
	l := i.m.own[i.g]
	ctx, cancel := p.brief()
	defer cancel()
	v, ver, err := h.GetVersion(ctx, i.key)
	p.log("%s: %s.GetVersion(%q): %q, %v", i.m.name, i.g.id, i.key, v, err)
	if !current {
		p.settle(nil)
		p.stale(i, err)
		return
	}
	s := l.last().shape
	p.settle(nil)
	p.got(i, l, false, i.key, v, err)
	if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
		return
	}
	if (err == nil) == (ver == kvstore.Version{}) {
		p.fail("%s has %q of %s: version %v, %v", i.m.name, i.key, i.g.id, ver, err)
	}
	if a, ok := i.m.seen[i.g]; ok && a.key == i.key {
		if may, must := p.fits(a, l, s); a.ver == ver && !may || a.ver != ver && must {
			p.fail("%s has %q of %s as %q, and had it as %q, there %v; equal versions: %v", i.m.name, i.key, i.g.id, v, a.v, a.there, a.ver == ver)
		}
	}
	i.m.seen[i.g] = sight{i.key, ver, v, err == nil, l, s.life}
}

// swap puts a value if the entry has the version that was kept; if there is none, or the argument is odd, the one that is read now.
func (p *program) swap(i instr) {
	m, g, v := i.m, i.g, p.value()
	a, kept := m.seen[g]
	kept = kept && i.arg&1 == 0
	if !kept {
		a = sight{key: i.key}
	}
	var next kvstore.Version
	conflict := false
	p.changes(i, fmt.Sprintf("CompareAndSwap(%q, %s, kept version %v)", a.key, v, kept), func(ctx context.Context, h *kvstore.Session[string]) (err error) {
		if !kept {
			if a.v, a.ver, err = h.GetVersion(ctx, a.key); err != nil && !errors.Is(err, kvstore.ErrNotFound) {
				return err
			}
			a.there = err == nil
			if a.line = m.own[g]; a.line != nil {
				a.life = a.line.last().life
			}
		}
		next, err = h.CompareAndSwap(ctx, a.key, a.ver, v, kvstore.InMemory)
		if conflict = errors.Is(err, kvstore.ErrConflict); conflict {
			return nil
		}
		return err
	}, func(s shape) shape {
		l := m.own[g]
		if may, must := p.fits(a, l, s); conflict && must || !conflict && !may {
			p.fail("%s swaps %q of %s, which was %q, there %v: conflict %v; it has %v", m.name, a.key, g.id, a.v, a.there, conflict, s)
		}
		if conflict {
			return s
		}
		m.seen[g] = sight{a.key, next, v, true, l, s.life}
		return s.with(map[string]*leaf{a.key: {v: v}})
	})
}

// after sets the timer to a time that no program reaches.
func (p *program) after(i instr) {
	d, v := time.Hour+time.Duration(i.arg)*time.Second, p.value()
	begun := time.Now()
	var ts []kvstore.Timer
	p.changes(i, fmt.Sprintf("After(%v, %s)", d, v), func(ctx context.Context, h *kvstore.Session[string]) error {
		err := h.After(ctx, "t", d, v, kvstore.InMemory)
		ts = h.Timers()
		return err
	}, func(s shape) shape {
		if len(ts) != 1 || ts[0].Name != "t" || ts[0].At.Before(begun.Add(d)) || ts[0].At.After(time.Now().Add(d+time.Millisecond)) {
			p.fail("%s sets a timer of %s to %v from now on, and has %v", i.m.name, i.g.id, d, ts)
		}
		return s.inside(insideTimer, timerLeaf(v, ts[0].At))
	})
}

func (p *program) cancel(i instr) {
	p.changes(i, "Cancel()", func(ctx context.Context, h *kvstore.Session[string]) error {
		return h.Cancel(ctx, "t", kvstore.InMemory)
	}, func(s shape) shape { return s.inside(insideTimer, "") })
}

// alias is one of two that no other session has.
func (i instr) alias() string { return i.g.id + insideNames[int(i.arg)%len(insideNames)] }

func (p *program) name(i instr) {
	a := i.alias()
	p.changes(i, fmt.Sprintf("AddAlias(%s)", a), func(ctx context.Context, h *kvstore.Session[string]) error {
		return h.AddAlias(ctx, a, kvstore.InMemory)
	}, func(s shape) shape { return s.named(a, true) })
}

func (p *program) unname(i instr) {
	a := i.alias()
	p.changes(i, fmt.Sprintf("RemoveAlias(%s)", a), func(ctx context.Context, h *kvstore.Session[string]) error {
		return h.RemoveAlias(ctx, a, kvstore.InMemory)
	}, func(s shape) shape { return s.named(a, false) })
}

// lookup finds a session by an alias: as the node has it, or else by the record.
func (p *program) lookup(i instr) {
	m, g, a := i.m, i.g, i.alias()
	l, h := m.own[g], g.rec.header
	ctx, cancel := p.brief()
	defer cancel()
	id, err := m.db.Lookup(ctx, a)
	p.log("%s: Lookup(%s): %q, %v", m.name, a, id, err)
	p.settle(nil)
	found := err == nil
	switch {
	case m.excused(err):
		return
	case found && id != g.id, !found && !errors.Is(err, kvstore.ErrNotFound):
		p.fail("Lookup(%s) on %s: %q, %v", a, m.name, id, err)
	}
	stored := h.Exists() && slices.Contains(h.Aliases, a)
	if l == nil {
		if found != stored && !h.Expires.Past(time.Now()) { // what has expired is found while its owner lives
			p.fail("Lookup(%s) on %s: %q, %v; the store has %+v", a, m.name, id, err, h)
		}
		return
	}
	here := slices.Contains(l.last().now().row(insideAliases), a)
	if unsure := l.fenced || l.made && !here || p.opt.Strict || !p.alive[m.self]; found != here && !(unsure && found == stored) {
		p.fail("Lookup(%s) on %s: %q, %v; it has %v, and the store %+v", a, m.name, id, err, l.last().now(), h)
	}
}

// idle gives the session an idle time, or takes it away. The end that comes of it does not move, since nothing touches the session.
func (p *program) idle(i instr) {
	var d time.Duration
	if at := p.until(i.arg); !at.IsZero() {
		d = max(time.Until(at), 0)
	}
	var end store.Time
	p.changes(i, fmt.Sprintf("ExpireIdle(%v)", d), func(ctx context.Context, h *kvstore.Session[string]) error {
		return h.Update(ctx, func(tx *kvstore.Tx[string]) error { // which says when
			end = store.TimeOf(time.Now().Add(d))
			return tx.ExpireIdle(d)
		})
	}, func(s shape) shape {
		if d == 0 {
			return s.inside(insideIdle, "")
		}
		p.ends = append(p.ends, end)
		s.expires = end
		return s.inside(insideIdle, fmt.Sprint(d.Milliseconds()))
	})
}

// within compares what a handle shows of what is inside, as it is in memory.
func (p *program) within(i instr, h *kvstore.Session[string], s shape) {
	p.t.Helper()
	if timers, aliases := shown(h); timers != s.due() || aliases != s.entries[insideAliases].v {
		p.fail("%s has %s with the timers %q and the aliases %q, want %v", i.m.name, i.g.id, timers, aliases, s)
	}
}

// lostKey returns the key in a shape of an entry that was lost, and is no item of the queue.
func (p *program) lostKey(e kvstore.LostEntry) string {
	p.t.Helper()
	switch e.Kind {
	case kvstore.Plain:
		return e.Key
	case kvstore.Counter:
		return insideCounter
	case kvstore.TimerPayload:
		return insideTimer
	case kvstore.IdleTime:
		return insideIdle
	case kvstore.QueueEnds:
		return insideQueue
	}
	p.fail("lost: %+v, of which there is none", e)
	return ""
}

// accountInside does for what is inside what account does for keys: z was acknowledged, and base taken over.
func (p *program) accountInside(l *line, z, base shape) {
	p.t.Helper()
	for _, k := range []string{insideCounter, insideTimer} { // what has an idle time expires: see account
		had, _, _ := strings.Cut(base.entries[k].v, "@")
		if e, ok := l.lost[k]; ok {
			if had = ""; !e.Deleted {
				had = fmt.Sprint(e.Value)
			}
		}
		if want, _, _ := strings.Cut(z.entries[k].v, "@"); had != want {
			p.fail("%s had acknowledged %q=%q; taken over: %v; handed over: %v; states %v", l.by.name, k, want, l.taken, l.lost, l.states)
		}
	}
	taken, pops := base.row(insideQueue), 0
	for _, v := range z.row(insideQueue) {
		if !slices.Contains(taken, v) && !slices.Contains(l.items, v) {
			p.fail("%s had acknowledged %q in the queue; taken over: %v; handed over: %v; states %v", l.by.name, v, l.taken, l.items, l.states)
		}
	}
	for _, v := range taken {
		if !slices.Contains(z.row(insideQueue), v) {
			pops++
		}
	}
	if over := l.pops + len(l.items); pops > over { // an item may have come to the place of one, since the queue was empty
		p.fail("%s had popped %d items of %v, and handed over %d; states %v", l.by.name, pops, l.taken, over, l.states)
	}
}
