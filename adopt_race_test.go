package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// Races for the ownership of sessions.

// reign watches a store: who was granted which epoch, and which changes were applied. It makes each
// call and its record one step, so that its order is the store's.
type reign struct {
	store.Store
	mu     sync.Mutex
	epochs map[string]map[uint64]store.Incarnation
	latest map[string]uint64
	bad    []string
}

func newReign(st store.Store) *reign {
	return &reign{Store: st, epochs: map[string]map[uint64]store.Incarnation{}, latest: map[string]uint64{}}
}

// tenure notes that an epoch is in force, and whose it is. Caller holds mu.
func (r *reign) tenure(id string, epoch uint64, who store.Incarnation) {
	if epoch < r.latest[id] {
		r.bad = append(r.bad, fmt.Sprintf("%s: epoch %d is in force after epoch %d was", id, epoch, r.latest[id]))
	}
	r.latest[id] = max(r.latest[id], epoch)
	if r.epochs[id] == nil {
		r.epochs[id] = map[uint64]store.Incarnation{}
	}
	if had, ok := r.epochs[id][epoch]; ok && had != who {
		r.bad = append(r.bad, fmt.Sprintf("%s: epoch %d belongs to two owners", id, epoch))
	}
	r.epochs[id][epoch] = who
}

func (r *reign) Claim(ctx context.Context, q store.ClaimRequest) (store.Claim, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.Store.Claim(ctx, q)
	if err == nil && c.Outcome == store.Granted {
		r.tenure(q.Session, c.Header.Epoch, q.Owner.Incarnation)
	}
	return c, err
}

func (r *reign) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	dither(20)
	r.mu.Lock()
	defer r.mu.Unlock()
	rs, err := r.Store.Apply(ctx, cs)
	for i := range rs {
		if rs[i].Outcome == store.Applied {
			r.tenure(cs[i].Session, cs[i].Epoch, cs[i].Owner.Incarnation)
		}
	}
	return rs, err
}

func (r *reign) check(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.bad {
		t.Error(b)
	}
}

// Of any number of nodes that adopt an orphan at once exactly one wins, with the whole of what was
// stored; the others are told who it was.
func TestAdoptersRace(t *testing.T) {
	const adopters = 6
	ctx := context.Background()
	st := newReign(memory.New())
	dbs := make([]*kvstore.DB[int], adopters)
	for i := range dbs {
		dbs[i] = openInts(t, st, brisk(fmt.Sprintf("n%d", i)))
	}
	for round := range rounds(150) {
		id := fmt.Sprintf("s%d", round)
		former := openInts(t, st, brisk("former"))
		check(t, former.Put(ctx, id, round))
		check(t, former.Flush(ctx))
		before, _ := ints(t, st, id)
		switch round % 3 {
		case 0:
			check(t, former.Release(ctx, id))
		case 1:
			check(t, former.Close(ctx))
		case 2:
			endLease(t, st, "former") // it lives on, and does not know
		}

		var winners atomic.Int32
		var winner atomic.Pointer[string]
		errs := make([]error, adopters)
		together(adopters, func(i int) {
			s, err := dbs[i].Adopt(ctx, id)
			if errs[i] = err; err != nil {
				return
			}
			winners.Add(1)
			name := fmt.Sprintf("n%d", i)
			winner.Store(&name)
			if v, err := s.Get(ctx, ""); err != nil || v != round {
				t.Errorf("the adopter reads %d, %v, want %d", v, err, round)
			}
			if e := s.Epoch(); e != before.Epoch+1 {
				t.Errorf("the adopter has epoch %d after %d", e, before.Epoch)
			}
		})
		if n := winners.Load(); n != 1 {
			t.Fatalf("round %d: %d adopters won", round, n)
		}
		for _, err := range errs {
			var owned *kvstore.OwnedError
			if err == nil {
				continue
			}
			if !errors.As(err, &owned) || owned.Node != *winner.Load() || owned.Addr != owned.Node+":1" || owned.Epoch != before.Epoch+1 {
				t.Errorf("round %d: a loser is told %v, the winner is %s", round, err, *winner.Load())
			}
		}
		former.Close(ctx)
	}
	for _, db := range dbs {
		check(t, db.Close(ctx))
	}
	st.check(t)
}

// All take the session from each other, and write. No epoch is ever two owners', and nobody writes
// after his own is over.
func TestStealersRace(t *testing.T) {
	ctx := context.Background()
	st := newReign(memory.New())
	const n, steals = 5, 60
	dbs := make([]*kvstore.DB[int], n)
	for i := range dbs {
		dbs[i] = openInts(t, st, brisk(fmt.Sprintf("n%d", i)))
	}
	check(t, dbs[0].Put(ctx, "s", 0))
	check(t, dbs[0].Flush(ctx))
	together(n, func(i int) {
		var last uint64
		for range rounds(steals) {
			s, err := dbs[i].Steal(ctx, "s")
			if err != nil {
				t.Errorf("steal: %v", err)
				return
			}
			e := s.Epoch()
			if e < last {
				t.Errorf("a later steal has epoch %d after %d", e, last)
			}
			last = e
			want(t, s.Put(ctx, "", i), nil, kvstore.ErrFenced)
			if rand.IntN(2) == 0 {
				want(t, s.Sync(ctx), nil, kvstore.ErrFenced)
			}
		}
	})
	for _, db := range dbs {
		want(t, db.Flush(ctx), nil, kvstore.ErrFenced)
		check(t, db.Close(ctx))
	}
	st.check(t)
	if h, _ := ints(t, st, "s"); h.Epoch != st.latest["s"] || h.Epoch < n {
		t.Errorf("the last epoch is %d, the store has %d", st.latest["s"], h.Epoch)
	}
}

// ledger is what a zombie's application knows: the writes that it was told are done,
// and what it was handed back.
type ledger struct {
	mu     sync.Mutex
	told   map[string]int
	lost   map[string][]int
	fenced chan struct{}
}

func newLedger() *ledger {
	return &ledger{told: map[string]int{}, lost: map[string][]int{}, fenced: make(chan struct{}, 1)}
}

func (l *ledger) hooks() kvstore.Hooks {
	return kvstore.Hooks{
		Lost: func(lost kvstore.Lost) {
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, e := range lost.Entries {
				v, _ := e.Value.(int)
				l.lost[lost.Session+"/"+e.Key] = append(l.lost[lost.Session+"/"+e.Key], v)
			}
		},
		Fenced: func(kvstore.FencedError) {
			select {
			case l.fenced <- struct{}{}:
			default: // a hook that blocks would block Close
			}
		},
	}
}

// A zombie writes and flushes in a loop while another node takes its session. From the steal on the store
// holds the adopter's snapshot and the adopter's writes, nothing else. What the zombie was told is done is in that
// snapshot, or was handed back, once.
func TestZombieAgainstAdopter(t *testing.T) {
	ctx := context.Background()
	const zombies = 1_000_000 // the adopter's values are above
	keys := []string{"", "a", "b", "c"}
	for round := range rounds(150) {
		st := newReign(memory.New())
		l := newLedger()
		o := brisk("zombie")
		o.Hooks = l.hooks()
		o.MaxDelay = time.Millisecond * time.Duration(1+round%3)
		zombie, adopter := openInts(t, st, o), openInts(t, st, brisk("adopter"))
		s, err := zombie.Create(ctx, "s")
		check(t, err)

		started := make(chan struct{})
		var stop atomic.Bool // for a store that does not fence
		var wg sync.WaitGroup
		wg.Go(func() { // one writer: singles, and pairs that must stay equal
			for n := 1; !stop.Load(); n++ {
				var wrote []string
				var err error
				if n%2 == 0 {
					wrote = []string{"pair/1", "pair/2"}
					err = s.Update(ctx, func(tx *kvstore.Tx[int]) error {
						return errors.Join(tx.Put("pair/1", n), tx.Put("pair/2", n))
					})
				} else {
					wrote = []string{keys[n/2%len(keys)]}
					err = s.Put(ctx, wrote[0], n)
				}
				if err != nil {
					want(t, err, kvstore.ErrFenced)
					return
				}
				l.mu.Lock()
				for _, k := range wrote {
					l.told["s/"+k] = n
				}
				l.mu.Unlock()
				if n == 8 {
					check(t, s.Sync(ctx))
					close(started)
				}
				dither(3)
			}
		})
		wg.Go(func() { // flushes for ever
			for !stop.Load() {
				if err := s.Sync(ctx); err != nil {
					want(t, err, kvstore.ErrFenced)
					return
				}
				dither(30)
			}
		})
		<-started
		dither(500)
		taken, err := adopter.Steal(ctx, "s")
		check(t, err)
		_, snapshot := ints(t, st, "s") // whatever is stored now, no zombie may change
		all, err := taken.All(ctx)
		check(t, err)
		if got := maps.Collect(all); !maps.Equal(got, snapshot) {
			t.Fatalf("the adopter sees %v, the store has %v", got, snapshot)
		}
		if snapshot["pair/1"] != snapshot["pair/2"] {
			t.Fatalf("half a transaction was adopted: %v", snapshot)
		}
		final := maps.Clone(snapshot)
		for n, k := range []string{"a", "pair/1", "new"} {
			check(t, taken.Put(ctx, k, zombies+n))
			final[k] = zombies + n
			dither(50)
		}
		check(t, taken.Sync(ctx))
		for i := 0; i < 20_000 && zombie.Stats().Fenced == 0; i++ { // its writer goes on until it is told
			zombie.Flush(ctx)
			dither(30)
		}
		stop.Store(true)
		wg.Wait()
		check(t, zombie.Close(ctx))
		if len(l.fenced) != 1 {
			t.Error("the zombie was not told that it is fenced")
		}
		if _, got := ints(t, st, "s"); !maps.Equal(got, final) {
			t.Fatalf("round %d: the store has %v, the adopter left %v", round, got, final)
		}
		st.check(t)
		for k, n := range l.told {
			stored, lost := snapshot[k[2:]], l.lost[k]
			switch {
			case stored == n && len(lost) == 0:
			case stored < n && slices.Equal(lost, []int{n}):
			default:
				t.Errorf("round %d: %q: the zombie was told that %d is done; the adopter found %d; handed back: %v", round, k, n, stored, lost)
			}
		}
		check(t, adopter.Close(ctx))
		if t.Failed() {
			return
		}
	}
}
