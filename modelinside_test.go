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

// This file is the part of the model that is inside of a session beside values under keys: a counter, a queue, a timer, aliases. In a shape each is an entry
// under a key that no session has, so that what another node finds after a death must be whole in them, too.
const (
	insideCounter = "\x00c"
	insideQueue   = "\x00q"
	insideTimer   = "\x00T"
	insideAliases = "\x00a"
)

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
	set := func(key, v string) {
		l := &leaf{v: v}
		if v == "" {
			l = nil
		}
		next = next.with(map[string]*leaf{key: l})
	}
	queue := strings.Fields(s.entries[insideQueue].v)
	switch p.rnd.IntN(9) {
	case 0, 1:
		delta, was := int64(p.rnd.IntN(5)-2), int64(0)
		fmt.Sscan(s.entries[insideCounter].v, &was)
		what = fmt.Sprint("Add ", delta)
		var n int64
		if n, err = h.Add(p.ctx, "n", delta, kvstore.InMemory); err == nil && n != was+delta {
			p.fail("%s of %s on %s: %d, want %d", what, g.id, g.owner.name, n, was+delta)
		}
		if set(insideCounter, ""); was+delta != 0 {
			set(insideCounter, fmt.Sprint(was+delta))
		}
	case 2, 3:
		v := p.value()
		if p.rnd.IntN(2) == 0 {
			what, err = "PushBack "+v, h.Queue("q").PushBack(p.ctx, v)
			queue = append(queue, v)
		} else {
			what, err = "PushFront "+v, h.Queue("q").PushFront(p.ctx, v)
			queue = slices.Insert(queue, 0, v)
		}
		set(insideQueue, strings.Join(queue, " "))
	case 4, 5:
		pop, i, rest := h.Queue("q").PopFront, 0, queue
		if what = "PopFront"; p.rnd.IntN(2) == 0 {
			pop, i, what = h.Queue("q").PopBack, len(queue)-1, "PopBack"
		}
		var v, want string
		if len(queue) > 0 {
			want, rest = queue[i], slices.Delete(slices.Clone(queue), i, i+1)
		}
		if v, err = pop(p.ctx); errors.Is(err, kvstore.ErrEmpty) && len(queue) == 0 {
			err = nil
		}
		if err == nil && v != want {
			p.fail("%s of %s on %s: %q, want %q", what, g.id, g.owner.name, v, want)
		}
		set(insideQueue, strings.Join(rest, " "))
	case 6:
		at, v := time.Now().Add(time.Hour+time.Duration(p.rnd.IntN(1000))*time.Second).Truncate(time.Millisecond), p.value()
		what, err = fmt.Sprint("At ", at.UnixMilli(), " ", v), h.At(p.ctx, "t", at, v, kvstore.InMemory)
		set(insideTimer, fmt.Sprint(v, "@", at.UnixMilli()))
	case 7:
		what, err = "Cancel", h.Cancel(p.ctx, "t", kvstore.InMemory)
		set(insideTimer, "")
	case 8:
		a := g.id + []string{".x", ".y"}[p.rnd.IntN(2)]
		names := strings.Fields(s.entries[insideAliases].v)
		if i := slices.Index(names, a); i >= 0 {
			what, err = "RemoveAlias "+a, h.RemoveAlias(p.ctx, a, kvstore.InMemory)
			names = slices.Delete(names, i, i+1)
		} else {
			what, err = "AddAlias "+a, h.AddAlias(p.ctx, a, kvstore.InMemory)
			names = append(names, a)
		}
		set(insideAliases, strings.Join(names, " "))
		if err == nil {
			if id, err := g.owner.db.Lookup(p.ctx, a); slices.Contains(names, a) && (id != g.id || err != nil) || !slices.Contains(names, a) && !isGone(err) {
				p.fail("Lookup(%s) on %s: %q, %v; %s has %q", a, g.owner.name, id, err, g.id, names)
			}
		}
	}
	return what, next, err
}

// lookInside compares a session's timers and aliases with what is known of it.
func (p *play) lookInside(g *saga) {
	s, h := g.last().now(), p.present(g)
	var timers []string
	for _, x := range h.Timers() {
		timers = append(timers, fmt.Sprint(x.At.UnixMilli()))
	}
	_, due, _ := strings.Cut(s.entries[insideTimer].v, "@")
	if strings.Join(timers, " ") != due || strings.Join(h.Aliases(), " ") != s.entries[insideAliases].v {
		p.fail("%s on %s has the timers %q and the aliases %q, want %v", g.id, g.owner.name, timers, h.Aliases(), s)
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
