package kvstore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is the part of both models, of the model test and of FuzzAPI, that is inside of a session beside values under keys: a counter, a queue, a timer,
// aliases, an idle time. In a shape each is an entry under a key that no session has, so that what another node finds after a death must be whole in them, too.
const (
	insideCounter = "\x00c"
	insideQueue   = "\x00q"
	insideTimer   = "\x00T"
	insideAliases = "\x00a"
	insideIdle    = "\x00t"
)

// insideNames are what the aliases of a session end in: they begin with its ID, so that no other has them.
var insideNames = []string{".x", ".y"}

// inside is the shape with one of them; an empty v takes it away.
func (s shape) inside(key, v string) shape {
	l := &leaf{v: v}
	if v == "" {
		l = nil
	}
	return s.with(map[string]*leaf{key: l})
}

func (s shape) count() (n int64) {
	fmt.Sscan(s.entries[insideCounter].v, &n)
	return n
}

func (s shape) counts(n int64) shape {
	if n == 0 {
		return s.inside(insideCounter, "")
	}
	return s.inside(insideCounter, fmt.Sprint(n))
}

// row is the items of the queue, or the aliases.
func (s shape) row(key string) []string { return strings.Fields(s.entries[key].v) }

func (s shape) pushed(v string, front bool) shape {
	row := s.row(insideQueue)
	if front {
		row = slices.Insert(row, 0, v)
	} else {
		row = append(row, v)
	}
	return s.inside(insideQueue, strings.Join(row, " "))
}

// popped returns "" if the queue is empty.
func (s shape) popped(front bool) (string, shape) {
	row, i := s.row(insideQueue), 0
	if len(row) == 0 {
		return "", s
	}
	if !front {
		i = len(row) - 1
	}
	return row[i], s.inside(insideQueue, strings.Join(slices.Delete(slices.Clone(row), i, i+1), " "))
}

// named is the shape with an alias, at the end if it is new, or without it.
func (s shape) named(a string, has bool) shape {
	row := s.row(insideAliases)
	switch i := slices.Index(row, a); {
	case has && i < 0:
		row = append(row, a)
	case !has && i >= 0:
		row = slices.Delete(row, i, i+1)
	}
	return s.inside(insideAliases, strings.Join(row, " "))
}

func timerLeaf(payload string, at time.Time) string { return fmt.Sprint(payload, "@", at.UnixMilli()) }

// due is when the timer fires, as shown gives it.
func (s shape) due() string {
	_, due, _ := strings.Cut(s.entries[insideTimer].v, "@")
	return due
}

// shown returns when a session's timers fire, and its aliases.
func shown(h *kvstore.Session[string]) (timers, aliases string) {
	var due []string
	for _, x := range h.Timers() {
		due = append(due, fmt.Sprint(x.At.UnixMilli()))
	}
	return strings.Join(due, " "), strings.Join(h.Aliases(), " ")
}

// user is the entries of the application's.
func (s shape) user() map[string]leaf {
	es := maps.Clone(s.entries)
	maps.DeleteFunc(es, func(k string, _ leaf) bool { return strings.HasPrefix(k, "\x00") })
	return es
}

// insideOf adds to the entries of a record what the session has of the library's own.
func insideOf(own []store.Entry, aliases []string, entries map[string]leaf) error {
	items, head, tail := map[uint64]string{}, uint64(0), uint64(0)
	payload, due := "", ""
	for _, e := range own {
		var v string
		if kind := e.Key[1]; kind == 'i' || kind == 'T' {
			if err := (kvstore.Msgpack{}).Decode(e.Value, &v); err != nil {
				return fmt.Errorf("value of %q: %w", e.Key, err)
			}
		}
		switch e.Key[1] {
		case 'c':
			entries[insideCounter] = leaf{v: fmt.Sprint(int64(binary.BigEndian.Uint64(e.Value)))}
		case 'q':
			head, tail = binary.BigEndian.Uint64(e.Value), binary.BigEndian.Uint64(e.Value[8:])
		case 'i':
			items[binary.BigEndian.Uint64([]byte(e.Key[len(e.Key)-8:]))] = v
		case 'T':
			payload = v
		case 't':
			entries[insideIdle] = leaf{v: fmt.Sprint(binary.BigEndian.Uint64(e.Value))}
		default:
			return fmt.Errorf("an entry under %q", e.Key)
		}
	}
	var queue, names []string
	for pos := head; pos < tail; pos++ {
		queue = append(queue, items[pos])
		delete(items, pos)
	}
	if len(items) > 0 {
		return fmt.Errorf("items %v are in no queue", items)
	}
	for _, a := range aliases {
		if strings.HasPrefix(a, insideTimer) {
			due = fmt.Sprint(binary.BigEndian.Uint64([]byte(a[2:10])))
		} else {
			names = append(names, a)
		}
	}
	for k, v := range map[string]string{insideQueue: strings.Join(queue, " "), insideAliases: strings.Join(names, " ")} {
		if v != "" {
			entries[k] = leaf{v: v}
		}
	}
	if payload+due != "" {
		entries[insideTimer] = leaf{v: payload + "@" + due} // with half of it missing it is what no shape has
	}
	return nil
}

// inside changes one of them, in one of several ways, and compares what the call says.
func (p *play) inside(g *saga) (what string, next shape, err error) {
	h, s := p.present(g), g.last().now()
	next = g.last().shape
	switch p.rnd.IntN(9) {
	case 0, 1:
		delta := int64(p.rnd.IntN(5) - 2)
		what = fmt.Sprint("Add ", delta)
		var n int64
		if n, err = h.Add(p.ctx, "n", delta, kvstore.InMemory); err == nil && n != s.count()+delta {
			p.fail("%s of %s on %s: %d, want %d", what, g.id, g.owner.name, n, s.count()+delta)
		}
		next = next.counts(s.count() + delta)
	case 2, 3:
		v, push, front := p.value(), h.Queue("q").PushFront, true
		if what = "PushFront " + v; p.rnd.IntN(2) == 0 {
			push, front, what = h.Queue("q").PushBack, false, "PushBack "+v
		}
		err = push(p.ctx, v)
		next = next.pushed(v, front)
	case 4, 5:
		pop, front := h.Queue("q").PopFront, true
		if what = "PopFront"; p.rnd.IntN(2) == 0 {
			pop, front, what = h.Queue("q").PopBack, false, "PopBack"
		}
		var v, want string
		want, next = next.popped(front)
		if v, err = pop(p.ctx); errors.Is(err, kvstore.ErrEmpty) && want == "" {
			err = nil
		}
		if err == nil && v != want {
			p.fail("%s of %s on %s: %q, want %q", what, g.id, g.owner.name, v, want)
		}
	case 6:
		at, v := time.Now().Add(time.Hour+time.Duration(p.rnd.IntN(1000))*time.Second).Truncate(time.Millisecond), p.value()
		what, err = fmt.Sprint("At ", at.UnixMilli(), " ", v), h.At(p.ctx, "t", at, v, kvstore.InMemory)
		next = next.inside(insideTimer, timerLeaf(v, at))
	case 7:
		what, err = "Cancel", h.Cancel(p.ctx, "t", kvstore.InMemory)
		next = next.inside(insideTimer, "")
	case 8:
		a := g.id + insideNames[p.rnd.IntN(len(insideNames))]
		had := slices.Contains(s.row(insideAliases), a)
		if had {
			what, err = "RemoveAlias "+a, h.RemoveAlias(p.ctx, a, kvstore.InMemory)
		} else {
			what, err = "AddAlias "+a, h.AddAlias(p.ctx, a, kvstore.InMemory)
		}
		next = next.named(a, !had)
		if err == nil {
			if id, err := g.owner.db.Lookup(p.ctx, a); !had && (id != g.id || err != nil) || had && !isGone(err) {
				p.fail("Lookup(%s) on %s: %q, %v; %s has %v", a, g.owner.name, id, err, g.id, next)
			}
		}
	}
	return what, next, err
}

// lookInside compares a session's timers and aliases with what is known of it.
func (p *play) lookInside(g *saga) {
	s := g.last().now()
	if timers, aliases := shown(p.present(g)); timers != s.due() || aliases != s.entries[insideAliases].v {
		p.fail("%s on %s has the timers %q and the aliases %q, want %v", g.id, g.owner.name, timers, aliases, s)
	}
}

// Lookup implements store.Directory.
func (m *mortal) Lookup(ctx context.Context, alias string) (store.Header, error) {
	return throughMortal(m, ctx, func() (store.Header, error) { return m.inner.(store.Directory).Lookup(ctx, alias) })
}

// Find implements store.Finder.
func (m *mortal) Find(ctx context.Context, r store.AliasRange) (store.Found, error) {
	return throughMortal(m, ctx, func() (store.Found, error) { return m.inner.(store.Finder).Find(ctx, r) })
}
