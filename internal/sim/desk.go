package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
)

// desk is where the requests about one session come in at one node, one after the other.
type desk struct {
	n  *node
	id string

	// Under cluster.mu.
	busy      bool
	t         *tenure           // the newest that the store has granted to this process, or that was created here
	fresh     *tenure           // created here, and the store has not heard of it
	in        *tenure           // of the last handle: it may be in memory yet, expired, though a claim that came twice was granted another
	pend      func(state) state // what a call under way does to whatever the session turns out to be
	pendValue string
	tried     []*tenure // in which it may have done that

	h  *kvstore.Session[string] // nil: to be asked for
	ht *tenure                  // that h is of
}

// desk returns the session's. Caller holds mu.
func (n *node) desk(id string) *desk {
	d := n.desks[id]
	if d == nil {
		d = &desk{n: n, id: id}
		n.desks[id] = d
	}
	return d
}

// request has a client ask for something, unless the one before it waits for its answer still. It goes on by itself. An event
// for a session that lives elsewhere is sent there, once.
func (n *node) request(s Step, sentOn bool) {
	c := n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	d := n.desk(sessionName(s.Session))
	if d.busy {
		c.logf("        the client waits for its last answer")
		return
	}
	d.busy = true
	c.count.requests.Add(1)
	c.asked.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience(s))
		defer cancel()
		n.line.pass(n.name+d.id, uint64(s.N)) // a paused process hears nothing
		err := d.serve(ctx, s)
		c.mu.Lock()
		d.busy = false
		c.mu.Unlock()
		if err != nil {
			c.log("        node %s: %v %s → %v", n.name, s.Verb, d.id, err)
		}
		var elsewhere *kvstore.OwnedError
		if s.Verb == Event && !sentOn && errors.As(err, &elsewhere) {
			c.sendOn(s, elsewhere.Addr)
		}
	})
}

// sendOn sends an event to the process that has an address now.
func (c *cluster) sendOn(s Step, addr string) {
	c.mu.Lock()
	var to *node
	for _, n := range c.nodes {
		if n.name == addr && !n.gone {
			to = n
		}
	}
	c.mu.Unlock()
	if to != nil {
		c.count.sentOn.Add(1)
		to.request(s, true)
	}
}

var errInDoubt = errors.New("sim: what the last request did is not known")

func (d *desk) serve(ctx context.Context, s Step) error {
	db, key := d.n.db, keyName(s.Key)
	switch s.Verb {
	case Create:
		return d.create(ctx)
	case MainPut:
		return d.mainPut(ctx)
	case MainGet:
		return d.mainGet(ctx)
	case Forget:
		return d.forget(ctx)
	case Release:
		return d.release(ctx)
	case Adopt:
		return d.take(ctx, func() (*kvstore.Session[string], error) { return db.Adopt(ctx, d.id, key, "timer") })
	case Steal:
		return d.take(ctx, func() (*kvstore.Session[string], error) { return db.Steal(ctx, d.id) })
	case Event:
		if _, err := d.handle(ctx); errors.Is(err, errInDoubt) {
			return err
		}
		if err := d.adoptOrCreate(ctx); err != nil {
			return err
		}
	}
	t, err := d.handle(ctx)
	if err != nil {
		return err
	}
	v := d.n.c.value()
	one := func(value string, until store.Time) map[string]cell { return map[string]cell{key: {value, until}} }
	switch s.Verb {
	case Event:
		writes := map[string]cell{"": {v: v}, "event": {v: v}, keyName(3): {}}
		if s.N%2 == 0 {
			writes[keyName(3)] = cell{v: v}
		}
		if s.N%3 == 0 { // what it wrote so far is not written
			return d.h.Update(ctx, func(tx *kvstore.Tx[string]) error {
				return errors.Join(tx.Put("event", v), errInDoubt)
			})
		}
		return d.change(ctx, t, writes, func() error {
			return d.h.Update(ctx, func(tx *kvstore.Tx[string]) error {
				was, err := tx.Get("event")
				if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
					return err
				}
				_ = was
				for _, k := range []string{"", "event", keyName(3)} {
					if w := writes[k]; w.v != "" {
						err = tx.Put(k, w.v)
					} else {
						err = tx.Delete(k)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
		})
	case Put:
		return d.change(ctx, t, one(v, 0), func() error { return d.h.Put(ctx, key, v) })
	case Expiring:
		at := time.Now().Add(time.Duration(s.N % 3_000_000_000))
		return d.change(ctx, t, one(v, store.TimeOf(at)), func() error { return d.h.PutUntil(ctx, key, v, at) })
	case Remove:
		return d.change(ctx, t, one("", 0), func() error { return d.h.Delete(ctx, key) })
	case Poison:
		err := d.h.Put(ctx, "poison", "poison"+v)
		d.moved(err)
		return err
	case Expire:
		var at time.Time
		if s.N%3 > 0 {
			at = time.Now().Add(time.Duration(s.N))
		}
		return d.make(ctx, t, func(was state, now time.Time) state {
			n := was.with(nil, now)
			n.expires = store.TimeOf(at)
			return n
		}, func() error { return d.h.Expire(ctx, at) })
	case Read:
		return d.read(ctx, t, key)
	case ReadAll:
		return d.readAll(ctx, t)
	case Sync:
		return d.sync(ctx, t)
	case Count, Push, Pop, Fell, Arm, Disarm:
		return d.inside(ctx, t, s, v)
	case Idle, Touch:
		return d.slide(ctx, t, s)
	case Crowd:
		return d.crowd(ctx, t, 2+int(s.N%4))
	}
	panic("sim: no request: " + s.Verb.String())
}

// moved forgets the handle if the session is not what it was.
func (d *desk) moved(err error) {
	if err != nil && !errors.Is(err, kvstore.ErrFull) && !errors.Is(err, kvstore.ErrSuspended) && !errors.Is(err, context.DeadlineExceeded) {
		d.h, d.ht = nil, nil
	}
}

// all reads the session as it is in memory, but for what cannot be stored.
func (d *desk) all(ctx context.Context) (state, error) {
	s := state{exists: true, cells: map[string]cell{}}
	es, err := d.h.All(ctx)
	if err != nil {
		return s, err
	}
	for k, v := range es {
		if k != "poison" {
			s.cells[k] = cell{v: v}
		}
	}
	s.expires = store.TimeOf(d.h.Expires())
	return s, nil
}

// change makes writes.
func (d *desk) change(ctx context.Context, t *tenure, writes map[string]cell, do func() error) error {
	c := d.n.c
	c.mu.Lock()
	for _, w := range writes {
		if w.v != "" {
			t.own[w.v] = true
		}
	}
	c.mu.Unlock()
	err := d.make(ctx, t, func(was state, now time.Time) state { return was.with(writes, now) }, do)
	if err == nil {
		c.mu.Lock()
		d.n.ear.expect(d.id, writes)
		c.mu.Unlock()
	}
	return err
}

// make makes a change of a session that exists, and compares what the call says.
func (d *desk) make(ctx context.Context, t *tenure, f func(was state, now time.Time) state, do func() error) error {
	c := d.n.c
	c.mu.Lock()
	start := time.Now()
	was := t.last()
	existed := was.view(start).exists
	if existed {
		t.try(f(was, start))
	}
	c.mu.Unlock()
	err := do()
	c.mu.Lock()
	defer c.mu.Unlock()
	end := time.Now()
	switch {
	case err == nil && !existed:
		c.failLocked(linear, "node %s: a change of %s in epoch %d was made, though the session was %v", d.n.name, d.id, t.epoch, was)
	case err == nil:
		t.settle(true)
		c.logf("        node %s: %s in epoch %d is %v", d.n.name, d.id, t.epoch, t.last())
		d.served(t, start)
	default:
		if existed && c.unmade(err) {
			t.settle(false)
		}
		d.vanished(t, was, end, err)
		d.moved(err)
	}
	return err
}

// vanished fails if the session is said not to be there though it is. Caller holds mu.
func (d *desk) vanished(t *tenure, was state, end time.Time, err error) {
	if errors.Is(err, kvstore.ErrNotFound) && d.n.c.current(t) && was.view(end).exists && !d.n.killed && d.t == t {
		d.n.c.failLocked(linear, "node %s: %s in epoch %d was %v, and now: %v", d.n.name, d.id, t.epoch, was, err)
	}
}

// served fails if a strict node has served what another had adopted by then. Caller holds mu.
func (d *desk) served(t *tenure, start time.Time) {
	c := d.n.c
	if !c.plan.Setup.Options.Strict || d.n.lapsed || t.epoch == 0 {
		return
	}
	for _, g := range c.grants[d.id] {
		if g.t.epoch <= t.epoch {
			continue
		}
		if g.forced || g.created { // a steal does not wait for a lease; and who deletes a session has no claim to the next of that name
			return
		}
		if g.at.Before(start) {
			c.failLocked(leased, "node %s has served %s in epoch %d; node %s adopted it %v before", d.n.name, d.id, t.epoch, g.t.n.name, start.Sub(g.at))
		}
	}
}

func (d *desk) read(ctx context.Context, t *tenure, key string) error {
	c := d.n.c
	c.mu.Lock()
	start, was := time.Now(), t.last()
	c.mu.Unlock()
	v, err := d.h.Get(ctx, key)
	c.mu.Lock()
	defer c.mu.Unlock()
	d.compare(t, was, key, v, err, start)
	d.moved(err)
	return err
}

// compare judges what was read. Caller holds mu.
func (d *desk) compare(t *tenure, was state, key, v string, err error, start time.Time) {
	c, end := d.n.c, time.Now()
	a, b := was.view(start).cells[key].v, was.view(end).cells[key].v
	switch {
	case err == nil && v != a && v != b:
		c.failLocked(linear, "node %s: %s in epoch %d, %q reads as %s; the session is %v", d.n.name, d.id, t.epoch, key, v, was)
	case err == nil:
		d.served(t, start)
	case errors.Is(err, kvstore.ErrNotFound) && a != "" && b != "" && c.current(t) && d.t == t && !d.n.killed:
		c.failLocked(linear, "node %s: %s in epoch %d, %q gives: %v; the session is %v", d.n.name, d.id, t.epoch, key, err, was)
	}
}

func (d *desk) readAll(ctx context.Context, t *tenure) error {
	c := d.n.c
	c.mu.Lock()
	start, was := time.Now(), t.last()
	c.mu.Unlock()
	got, err := d.all(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	end := time.Now()
	switch {
	case err != nil:
		d.vanished(t, was, end, err)
	case !seen(got, was, start, end):
		c.failLocked(linear, "node %s: %s in epoch %d reads as %v; it is %v", d.n.name, d.id, t.epoch, got, was)
	default:
		d.served(t, start)
	}
	d.moved(err)
	return err
}

func (d *desk) sync(ctx context.Context, t *tenure) error {
	c := d.n.c
	c.mu.Lock()
	i := len(t.states) - 1
	c.mu.Unlock()
	err := d.h.Sync(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); err == nil && !t.holds(i, now) {
		c.failLocked(synced, "node %s: %s in epoch %d is synced, and the store has never had %v, but %v", d.n.name, d.id, t.epoch, t.states[i], t.states[max(t.high, 0)])
	}
	d.moved(err)
	return err
}

// take adopts.
func (d *desk) take(ctx context.Context, how func() (*kvstore.Session[string], error)) error {
	if _, err := d.handle(ctx); errors.Is(err, errInDoubt) {
		return err
	}
	h, err := how()
	d.h, d.ht = nil, nil
	if err != nil {
		return err
	}
	if t := d.tenure(h); t != nil {
		d.h, d.ht = h, t
	}
	return nil
}

// adoptOrCreate makes sure that there is a session, and that it is stored.
func (d *desk) adoptOrCreate(ctx context.Context) error {
	t, err := d.found(ctx)
	if err != nil {
		return err
	}
	c := d.n.c
	now := time.Now()
	d.h, d.ht = nil, nil
	var settle func(*tenure, bool)
	if d.absentHere(t, now) {
		settle = d.pending("", t, func(s state) state {
			if s.view(time.Now()).exists {
				return s
			}
			return s.with(nil, time.Now())
		})
	}
	h, err := d.n.db.AdoptOrCreate(ctx, d.id)
	if err != nil {
		if settle != nil {
			settle(nil, false)
		}
		return err
	}
	made := d.tenure(h)
	if settle != nil {
		d.bornBefore(made)
		settle(made, true)
	}
	if made == nil {
		return errInDoubt
	}
	d.h, d.ht = h, made
	c.mu.Lock()
	defer c.mu.Unlock()
	if !made.last().view(now).exists && !made.last().view(time.Now()).exists && made.last().expires == 0 {
		c.failLocked(linear, "node %s: AdoptOrCreate of %s gives a session in epoch %d, and it is %v", d.n.name, d.id, made.epoch, made.last())
	}
	return nil
}

// bornBefore settles a birth in a tenure that was over before AdoptOrCreate could return: it was born there if the store has had it,
// was taken by others, and what is returned is what was adopted after that.
func (d *desk) bornBefore(made *tenure) {
	c := d.n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range d.tried {
		if t != made && t.low == len(t.states)-1 {
			t.settle(true)
		}
	}
}

func (d *desk) mainPut(ctx context.Context) error {
	t, err := d.found(ctx)
	if err != nil {
		return err
	}
	c := d.n.c
	v := c.value()
	settle := d.pending(v, t, func(s state) state { return s.with(map[string]cell{"": {v: v}}, time.Now()) })
	d.h, d.ht = nil, nil
	err = d.n.db.Put(ctx, d.id, v)
	if err != nil {
		settle(nil, c.unmade(err))
		return err
	}
	h, serr := d.n.db.Session(ctx, d.id)
	if serr != nil {
		settle(nil, false)
		return fmt.Errorf("done, then %w", serr)
	}
	made := d.tenure(h)
	if made != nil {
		d.h, d.ht = h, made
		c.mu.Lock()
		if made.unsure && h.Expires().IsZero() {
			d.late(made, state{exists: true, cells: map[string]cell{"": {v: v}}}, time.Now())
		}
		c.mu.Unlock()
	}
	settle(made, made != nil)
	return nil
}

func (d *desk) mainGet(ctx context.Context) error {
	t, err := d.found(ctx)
	if err != nil || t == nil {
		_, err := d.n.db.Get(ctx, d.id)
		return err
	}
	c := d.n.c
	c.mu.Lock()
	start, was := time.Now(), t.last()
	c.mu.Unlock()
	v, err := d.n.db.Get(ctx, d.id)
	d.h, d.ht = nil, nil
	if now, herr := d.found(ctx); herr != nil || now != t {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d.compare(t, was, "", v, err, start)
	return err
}

func (d *desk) forget(ctx context.Context) error {
	t, err := d.found(ctx)
	if err != nil {
		return err
	}
	c := d.n.c
	settle := d.pending("", t, func(state) state { return state{at: time.Now()} })
	d.h, d.ht = nil, nil
	err = d.n.db.Delete(ctx, d.id)
	if err != nil {
		settle(nil, c.unmade(err))
		return err
	}
	c.mu.Lock()
	var made *tenure
	if len(d.tried) == 1 {
		made = d.tried[0]
	}
	c.mu.Unlock()
	settle(made, made != nil)
	return nil
}

func (d *desk) release(ctx context.Context) error {
	t, err := d.found(ctx)
	if err != nil || t == nil {
		return err
	}
	c := d.n.c
	c.mu.Lock()
	i := len(t.states) - 1
	c.mu.Unlock()
	err = d.n.db.Release(ctx, d.id)
	d.h, d.ht = nil, nil
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); err == nil && !t.holds(i, now) && c.current(t) {
		c.failLocked(synced, "node %s: %s in epoch %d is released, and the store has never had %v, but %v", d.n.name, d.id, t.epoch, t.states[i], t.states[max(t.high, 0)])
	}
	return err
}

func (d *desk) create(ctx context.Context) error {
	if _, err := d.found(ctx); err != nil {
		return err
	}
	c := d.n.c
	c.mu.Lock()
	if d.t != nil || d.fresh != nil { // whether it goes on in that tenure cannot be seen from outside
		c.mu.Unlock()
		return nil
	}
	t := &tenure{n: d.n, id: d.id, states: []state{{}, {exists: true, cells: map[string]cell{}, at: time.Now()}}, low: -1, high: -1,
		seen: map[string]bool{}, own: map[string]bool{}}
	d.fresh = t
	c.mu.Unlock()
	h, err := d.n.db.Create(ctx, d.id)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		d.t, d.h, d.ht = t, h, t
	case (c.unmade(err) || errors.Is(err, kvstore.ErrFenced)) && d.fresh == t:
		d.fresh = nil
	default:
		t.unsure = true
	}
	return err
}

// crowd has several clients at once raise a count in two entries. It counts those that were told that they did.
func (d *desk) crowd(ctx context.Context, t *tenure, size int) error {
	c := d.n.c
	o := c.plan.Setup.Options
	c.mu.Lock()
	base := t.last()
	if o.Mode != kvstore.WriteBehind || o.Overflow == kvstore.Through || !base.view(time.Now()).exists || base.expires != 0 || base.cells[crowdKey].until != 0 {
		c.mu.Unlock()
		return nil // whether a transaction was made could not always be told
	}
	from := count(base.cells[crowdKey].v)
	t.crowd = &crowd{base: base, from: from}
	c.mu.Unlock()

	var wg sync.WaitGroup
	var mu sync.Mutex
	var made []string
	var failed error
	for range size {
		wg.Go(func() {
			id := c.value()
			var mine string
			err := d.h.Update(ctx, func(tx *kvstore.Tx[string]) error {
				was, err := tx.Get(crowdKey)
				if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
					return err
				}
				mine = fmt.Sprintf("n%d.%s", count(was)+1, id)
				return errors.Join(tx.Put(crowdKey, mine), tx.Put(crowdTwin, mine))
			})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
			} else {
				made = append(made, mine)
			}
		})
	}
	wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.SortFunc(made, func(a, b string) int { return count(a) - count(b) })
	for i, v := range made {
		if count(v) != from+1+i {
			c.failLocked(linear, "node %s: %s in epoch %d: transactions that each raised a count from %d made of it %q", d.n.name, d.id, t.epoch, from, made)
		}
		t.states = append(t.states, t.last().with(map[string]cell{crowdKey: {v: v}, crowdTwin: {v: v}}, time.Now()))
		t.own[v] = true
	}
	had := t.crowd.had
	t.crowd = nil
	for _, s := range had {
		if !t.note(s, time.Now()) {
			c.failLocked(whole, "node %s: %s in epoch %d: the store has had %v; transactions made of it %v", d.n.name, d.id, t.epoch, s, t.states[max(t.low, 0):])
		}
	}
	d.moved(failed)
	return failed
}
