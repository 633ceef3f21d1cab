package storetest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"

	"github.com/seed-6f1f505d/kvstore/store"
)

var raceRules = []rule{
	{saysNoneLate, []testcase{
		{"owners race for an orphan", func(k *kit) {
			for i := range 4 {
				k.race(fmt.Sprint("orphan/", i), false)
			}
		}},
		{"owners rob each other", func(k *kit) {
			for i := range 4 {
				k.race(fmt.Sprint("robbed/", i), true)
			}
		}},
	}},
}

// Race tests the fence by racing, as one case of Run does, for the given number
// of rounds: owners write to a session without a pause while others claim it,
// and go on writing after they lost it. It leaves its sessions, whose names begin with "race/".
func Race(t T, st store.Store, rounds int) {
	t.Helper()
	run := store.NewIncarnation() // the store may have the sessions of former calls
	for i := range rounds {
		r := rule{says: saysNoneLate}
		r.check(t, st, testcase{run: func(k *kit) { k.race(fmt.Sprint("race/", run, "/", i), i%2 == 1) }})
	}
}

// What a race shows to be kept or broken.
const (
	saysNoneLate = "The epoch is raised before the entries are read: no write of the former owner can land after what Claim returned."
	saysOneWins  = "Of any number of concurrent claimants of one epoch exactly one is granted."
	saysAlready  = "If h has the change's incarnation and epoch and at least its seq, the change is Already there: nothing is written."
	saysAtomic   = "Each change is atomic and stands alone: that one is refused or fails says nothing of the others."
	saysLatest   = "It reads at least the state of the last Claim or Apply that was acknowledged to anyone before the call."
	saysView     = "Load reads the named entries of a session, or all if none is named, and the header, in one consistent view."
)

const (
	racers   = 4  // claimants
	headway  = 12 // changes applied between one claim and the next
	raceKeys = 4
)

// race is one session and all that was ever asked of the store about it, and
// answered. Each change stamps the header with its number, in the expiry, which
// claims keep; so every reading tells which change is the last one in it, and has to have exactly the
// entries that this change left. What the readings then must satisfy:
//
//	one view:   reading.entries = states[reading.stamp]
//	none late:  for each grant g, each applied stamp s:  s.epoch < g.epoch  ⇒  s ≤ g.stamp
//	one winner: no two grants have one epoch
//	none lost:  the last reading's stamp is the highest one applied
type race struct {
	*kit
	id    string
	stop  context.CancelFunc
	gates [racers]chan struct{} // closed one after the other: each lets claimants come
	done  chan struct{}         // closed when all claims are answered

	mu       sync.Mutex
	opened   int                         // gates[:opened] are closed; opened = min(racers, ⌊applied/headway⌋), or all if nobody reigns any more
	reigning int                         // owners that write; zombies among them
	blamed   map[string]bool             // by sentence
	states   map[stamp]map[string]string // the entries after each change that was handed to the store
	applied  map[stamp]bool
	readings []reading
	grants   []reading
}

// race lets one owner begin and the others come while it writes. With force they rob
// each other one after the other; else all come at once for what they take for an orphan.
func (k *kit) race(id string, force bool) {
	k.t.Helper()
	ctx, stop := context.WithCancel(k.ctx)
	defer stop()
	own := *k
	own.ctx = ctx
	r := &race{kit: &own, id: id, stop: stop, done: make(chan struct{}), blamed: map[string]bool{},
		states: map[stamp]map[string]string{{}: {}}, applied: map[stamp]bool{}}
	for i := range r.gates {
		r.gates[i] = make(chan struct{})
	}
	var claims, all sync.WaitGroup
	claimants := make([]store.ClaimRequest, racers)
	for i := range claimants {
		claimants[i] = store.ClaimRequest{Session: id, Owner: newOwner(fmt.Sprint("racer", i)), Force: force, All: true}
		k.lease(claimants[i].Owner, 2*patience)
		defer k.dead(claimants[i].Owner)
	}
	if t, ok := r.enter(store.ClaimRequest{Session: id, Owner: newOwner("first"), Create: true}); ok {
		all.Go(func() { r.reign(t, nil) })
	}
	for i, q := range claimants {
		gate := r.gates[0]
		if force {
			gate = r.gates[i/2] // in pairs
		}
		claims.Add(1)
		all.Go(func() {
			<-gate
			t, ok := r.enter(q)
			claims.Done()
			if ok {
				r.reign(t, r.look(t).entries)
			}
		})
	}
	claims.Wait()
	close(r.done)
	all.Wait()
	switch {
	case k.ctx.Err() != nil:
		k.fail("the race over session %q does not end", id)
	case ctx.Err() == nil: // else a call failed, and that is reported
		r.judge(force)
	}
}

// blame reports a broken rule, the first time. The race goes on: it may show what follows from that.
func (r *race) blame(says, format string, args ...any) {
	r.t.Helper()
	r.mu.Lock()
	again := r.blamed[says]
	r.blamed[says] = true
	r.mu.Unlock()
	if !again {
		r.t.Errorf("%s\n\tsession %q: %s", says, r.id, fmt.Sprintf(format, args...))
	}
}

// failed reports a call that gave no answer, without which the race cannot be judged, and ends it.
func (r *race) failed(call string, err error) {
	r.t.Helper()
	if r.ctx.Err() == nil { // else it is the consequence of an earlier one
		r.blame(r.says, "%s gives error %v", call, err)
	}
	r.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open(racers)
}

// open lets claimants come through the first n gates. r.mu is held.
func (r *race) open(n int) {
	for ; r.opened < min(n, racers); r.opened++ {
		close(r.gates[r.opened])
	}
}

// leave is called by whoever writes no more, or never did. If that leaves nobody to
// make headway, as a broken store may, nobody may wait for it.
func (r *race) leave(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reigning -= n; r.reigning == 0 {
		r.open(racers)
	}
}

// enter claims the session.
func (r *race) enter(q store.ClaimRequest) (*tenure, bool) {
	c, err := r.st.Claim(r.ctx, q)
	switch {
	case err != nil:
		r.failed("Claim", err)
	case c.Outcome == store.Granted:
		v := read(c.Header, c.Entries)
		if len(c.Unread) > 0 {
			v.entries = nil // the Load after it is what counts
		}
		r.mu.Lock()
		r.grants = append(r.grants, v)
		r.reigning++
		r.mu.Unlock()
		return &tenure{session: r.id, owner: q.Owner, epoch: c.Header.Epoch}, true
	case q.Force || c.Outcome != store.Held:
		r.blame(saysOneWins, "claim is %s at %+v", c.Outcome, c.Header)
	}
	r.leave(0)
	return nil, false
}

// look reads the session as a new owner does.
func (r *race) look(t *tenure) reading {
	s, err := r.st.Load(r.ctx, r.id)
	if err != nil {
		r.failed("Load", err)
		return reading{}
	}
	v := read(s.Header, s.Entries)
	if v.header.Epoch < t.epoch {
		r.blame(saysNoneLate, "epoch is %d after a claim of %d", v.header.Epoch, t.epoch)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readings = append(r.readings, v)
	return v
}

// random changes some of the keys, or none, and returns what there is afterwards.
func (r *race) random(t *tenure, was map[string]string) (store.Change, map[string]string) {
	c, is := t.change(), maps.Clone(was)
	s := stamp{c.Epoch, c.Seq}
	c.Expires = s.time()
	if is == nil || rand.N(8) == 0 {
		c.Wipe, is = true, map[string]string{}
	}
	kind := rand.N(4) // all, some, none put; all deleted
	for i := range raceKeys {
		key, value := fmt.Sprint("key/", i), fmt.Sprint(s.epoch, ".", s.seq)
		switch {
		case kind == 0 || kind == 1 && rand.N(2) == 0:
			c.Puts, is[key] = append(c.Puts, store.Entry{Key: key, Value: []byte(value)}), value
		case kind == 1 || kind == 3:
			c.Deletes = append(c.Deletes, key)
			delete(is, key)
		}
	}
	return c, is
}
