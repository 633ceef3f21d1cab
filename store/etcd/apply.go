package etcd

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

const (
	// MaxValue is the size in bytes of the largest value. A change with a larger one is Rejected, and names its key.
	MaxValue = 1 << 20

	// MaxChange is the size in bytes of the largest change: its values, and its keys, each with the prefix, the session's ID and about 40
	// bytes more. A larger one is Rejected.
	MaxChange = 48 << 20

	// MaxHeader is the size in bytes of the largest header, with its aliases and its node's name. A change that would make a larger one is Rejected.
	MaxHeader = 256 << 10
)

const (
	// requestBytes is what a request may take. The server's bound is 1.5 MiB.
	requestBytes = 1<<20 + 384<<10

	// callBytes is the size up to which changes go in one request: more of them are written by several at the same time.
	callBytes = 128 << 10

	callsAtOnce = 4  // requests of one Apply
	groupItems  = 24 // sessions that share their conditions: if one does not hold, each of them is tried alone
)

// Apply implements [store.Store]. It is one round trip, but for changes of one session, which follow each other, for those to sessions that
// are not as expected, to those that change a session's aliases, and for those of more than about 1.4 MiB. What is more than 128 KiB together is in several requests at the same time.
func (s *Store) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	a := call{s: s, changes: changes, results: make([]store.Result, len(changes))}
	var todo []int // changes, by their places
	for i := range changes {
		if keys, err := s.check(&changes[i]); err != nil {
			a.results[i] = store.Result{Outcome: store.Rejected, Err: err, Keys: keys}
		} else {
			todo = append(todo, i)
		}
	}
	written := len(todo) < len(changes)
	for len(todo) > 0 {
		now, later := portion(changes, todo)
		done := a.round(ctx, now)
		written = written || done > 0
		todo = later
		// What comes after a change of unknown outcome must not be written: the store would take that for done when it is repeated.
		if done < len(now) {
			for _, i := range later {
				a.results[i] = store.Result{Outcome: store.Undecided, Err: a.err}
			}
			if !written {
				return nil, a.err
			}
			break
		}
	}
	return a.results, nil
}

// check reports what can never be written, with the keys to blame.
func (s *Store) check(c *store.Change) (keys []string, err error) {
	if keys, err = c.Check(); err != nil {
		return keys, err
	}
	for i := range c.Puts {
		if n := len(c.Puts[i].Value); n > MaxValue {
			keys = append(keys, c.Puts[i].Key)
			err = fmt.Errorf("%w: session %q, key %.32q: the value has %d bytes, at most %d are allowed", store.ErrTooLarge, c.Session, c.Puts[i].Key, n, MaxValue)
		}
	}
	if err != nil {
		return keys, err
	}
	if n := s.size(c); n > MaxChange {
		return nil, fmt.Errorf("%w: session %q: the change has %d bytes, at most %d are allowed", store.ErrTooLarge, c.Session, n, MaxChange)
	}
	header := len(c.Owner.Node)
	for _, a := range c.Aliases {
		header += len(a) + 4
	}
	if header > MaxHeader {
		return nil, fmt.Errorf("%w: session %q: the aliases and the node's name have %d bytes, at most %d are allowed", store.ErrTooLarge, c.Session, header, MaxHeader)
	}
	return nil, nil
}

// portion divides places into those of which no two are of the same session, and the rest.
func portion(changes []store.Change, places []int) (now, later []int) {
	seen := make(map[string]bool, len(places))
	for _, i := range places {
		if id := changes[i].Session; seen[id] {
			later = append(later, i)
		} else {
			seen[id] = true
			now = append(now, i)
		}
	}
	return now, later
}

// call is one of Apply.
type call struct {
	s       *Store
	changes []store.Change
	results []store.Result

	mu  sync.Mutex
	err error // one of those that left something undecided
}

// item is a change that is being written.
type item struct {
	place int
	sight sight // what is known of the session
	ifs   []clientv3.Cmp
	write write
	named bool // it is written by itself: see alias.go
}

// round writes changes of different sessions, and returns how many of them are decided.
func (a *call) round(ctx context.Context, places []int) (decided int) {
	todo := make([]*item, len(places))
	for i, place := range places {
		todo[i] = &item{place: place}
	}
	for try := 0; len(todo) > 0; try++ {
		var ready, named []*item
		for _, it := range todo {
			done, err := a.plan(ctx, it)
			switch {
			case err != nil:
				a.undecided(it, err)
			case !done && it.named:
				named = append(named, it)
			case !done:
				ready = append(ready, it)
			}
		}
		together := groupItems
		if try > 0 {
			together = 1 // who was in a group with one that failed is tried alone, and looked at
		}
		todo = a.send(ctx, requests(ready, together))
		a.named(ctx, named)
	}
	for _, place := range places {
		if a.results[place].Outcome != store.Undecided {
			decided++
		}
	}
	return decided
}

// plan decides a change, or prepares to write it. Without a sight of its session it is a guess.
func (a *call) plan(ctx context.Context, it *item) (done bool, err error) {
	s, c, now := a.s, &a.changes[it.place], time.Now()
	if !it.sight.known && len(c.Aliases) > 0 && !c.Delete && (c.Create || len(c.Aliases) > guessedAliases) {
		it.named = true
		it.sight.head = head{Header: store.Header{Session: c.Session}}
		return false, nil
	}
	prev := it.sight.head
	if !it.sight.known {
		prev, it.ifs = s.guess(c)
	} else {
		if prev.mode == pending {
			if err := s.settle(ctx, c.Session, &it.sight); err != nil {
				return false, err
			}
			prev = it.sight.head
		}
	}
	outcome, next, wipe := c.Judge(prev.Header, it.sight.alive(), now)
	if it.sight.known {
		it.ifs = s.unchanged(&it.sight, c.Session, matters(c, &prev, outcome, now))
	}
	if outcome != store.Applied {
		a.results[it.place] = store.Result{Outcome: outcome}
		if outcome == store.Fenced {
			a.results[it.place].Header = prev.Header
		}
		return true, nil
	}
	if it.sight.known && len(prev.Aliases)+len(next.Aliases) > 0 {
		it.named = true
		return false, nil
	}
	if it.write = s.change(c, &prev, next, wipe, now); it.write.bytes <= s.requestBytes {
		return false, nil
	}
	a.results[it.place], err = s.large(ctx, c)
	return err == nil, err
}

// matters reports whether another outcome than this one comes of a change if the owner lives.
func matters(c *store.Change, h *head, is store.Outcome, now time.Time) bool {
	ifAlive, _, _ := c.Judge(h.Header, true, now)
	return ifAlive != is
}

func (a *call) undecided(it *item, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
	a.results[it.place] = store.Result{Outcome: store.Undecided, Err: err}
}

// group is some items that are written if the conditions of all of them hold.
type group struct {
	items []*item
	ifs   []clientv3.Cmp
	then  []clientv3.Op
}

// requests divides items into groups, of at most so many, and those into requests.
func requests(items []*item, together int) (rs [][]group) {
	var now []group
	var bytes int
	for _, it := range items {
		if len(now) > 0 && bytes+it.write.bytes > callBytes {
			rs, now, bytes = append(rs, now), nil, 0
		}
		if n := len(now); n == 0 || !now[n-1].takes(it, together) {
			if n == outerOps {
				rs, now, bytes = append(rs, now), nil, 0
			}
			now = append(now, group{})
		}
		g := &now[len(now)-1]
		g.items, g.ifs, g.then = append(g.items, it), append(g.ifs, it.ifs...), append(g.then, it.write.ops...)
		bytes += it.write.bytes
	}
	if len(now) > 0 {
		rs = append(rs, now)
	}
	return rs
}

func (g *group) takes(it *item, together int) bool {
	return len(g.items) < together && len(g.ifs)+len(it.ifs) <= groupOps && len(g.then)+len(it.write.ops) <= groupOps
}

// send makes the requests, and returns the items of which it was not the moment.
func (a *call) send(ctx context.Context, rs [][]group) (again []*item) {
	one := func(r []group) {
		repeat, err := a.request(ctx, r)
		a.mu.Lock()
		again = append(again, repeat...)
		a.mu.Unlock()
		if err != nil {
			for _, g := range r {
				for _, it := range g.items {
					a.undecided(it, err)
				}
			}
		}
	}
	if len(rs) == 1 {
		one(rs[0])
		return again
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, callsAtOnce)
	for _, r := range rs {
		slots <- struct{}{}
		wg.Go(func() {
			one(r)
			<-slots
		})
	}
	wg.Wait()
	return again
}

// request makes one transaction. The items of a group whose conditions did not hold know then why.
func (a *call) request(ctx context.Context, groups []group) (again []*item, err error) {
	ops := make([]clientv3.Op, len(groups))
	for i := range groups {
		g := &groups[i]
		var looks []clientv3.Op
		if len(g.items) == 1 { // else it is not known who is to blame: see below
			looks = a.s.looks(&g.items[0].sight, a.changes[g.items[0].place].Session)
		}
		then, _ := fold(g.then, groupOps)
		ops[i] = clientv3.OpTxn(g.ifs, then, looks)
	}
	r, err := a.s.commit(ctx, nil, ops, nil)
	if err != nil {
		return nil, err
	}
	for i := range groups {
		t := r.Responses[i].GetResponseTxn()
		rest := t.Responses
		for _, it := range groups[i].items {
			id := a.changes[it.place].Session
			if t.Succeeded {
				a.results[it.place] = store.Result{Outcome: store.Applied}
				a.s.modes.set(id, it.write.next.mode)
				continue
			}
			if len(groups[i].items) > 1 {
				again = append(again, it)
				continue
			}
			was := it.sight
			var err error
			if it.sight, rest, err = a.s.see(id, &was, rest); err != nil {
				a.undecided(it, err)
			} else {
				again = append(again, it)
			}
		}
	}
	return again, nil
}
