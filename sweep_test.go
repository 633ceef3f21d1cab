package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// obituary notes what OnExpired is told.
type obituary struct {
	mu   sync.Mutex
	told []kvstore.Expired
}

func (o *obituary) hooks() kvstore.Hooks {
	return kvstore.Hooks{OnExpired: func(e kvstore.Expired) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.told = append(o.told, e)
	}}
}

// take returns what was told, and forgets it.
func (o *obituary) take() []kvstore.Expired {
	o.mu.Lock()
	defer o.mu.Unlock()
	told := o.told
	o.told = nil
	return told
}

// Each expiry is told once, with what was in memory, in whichever way the life or the entry ends: by the expirer, by a Put that is faster, with its session. What is
// deleted or extended before its time is not told.
func TestOnExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		var o obituary
		db := openInts(t, memory.New(), kvstore.Options{Hooks: o.hooks(), MaxDelay: time.Minute, LagAlarm: time.Hour})
		s, err := db.Create(ctx, "s")
		check(t, err)
		at := time.Now().Add(time.Second)
		expect := func(what string, want ...kvstore.Expired) {
			t.Helper()
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if got := o.take(); !slices.EqualFunc(got, want, func(a, b kvstore.Expired) bool {
				a.At, b.At = a.At.Round(0), b.At.Round(0)
				return a.At.Equal(b.At) && a.Session == b.Session && a.Epoch == b.Epoch && a.Whole == b.Whole && a.Key == b.Key && a.Value == b.Value
			}) {
				t.Errorf("%s: told %+v, want %+v", what, got, want)
			}
			at = time.Now().Add(time.Second)
		}
		check(t, s.PutUntil(ctx, "k", 7, at))
		check(t, s.PutUntil(ctx, "deleted", 7, at))
		check(t, s.Delete(ctx, "deleted"))
		check(t, s.PutUntil(ctx, "kept", 7, at))
		check(t, s.Put(ctx, "kept", 8))
		check(t, s.PutUntil(ctx, "later", 7, at))
		later := at.Add(7 * time.Second)
		check(t, s.PutUntil(ctx, "later", 9, later))
		expect("an entry", kvstore.Expired{Session: "s", Epoch: 1, Key: "k", Value: 7, At: at})
		expect("one that was put again", kvstore.Expired{Session: "s", Epoch: 1, Key: "later", Value: 9, At: later})

		check(t, s.PutUntil(ctx, "k", 7, at))
		time.Sleep(time.Until(at)) // this and the expirer are free to run in any order
		check(t, s.Put(ctx, "k", 8))
		expect("one that was put again at its end", kvstore.Expired{Session: "s", Epoch: 1, Key: "k", Value: 7, At: at})

		check(t, s.Put(ctx, "", 5))
		check(t, s.Expire(ctx, at))
		expect("a session", kvstore.Expired{Session: "s", Epoch: 1, Whole: true, Value: 5, At: at})

		s, err = db.Create(ctx, "t")
		check(t, err)
		check(t, s.Expire(ctx, at))
		time.Sleep(time.Until(at))
		check(t, db.Put(ctx, "t", 1))
		expect("a session that was made anew", kvstore.Expired{Session: "t", Epoch: 1, Whole: true, At: at})

		check(t, db.Put(ctx, "u", 1))
		s, err = db.Session(ctx, "u")
		check(t, err)
		check(t, s.Expire(ctx, at))
		check(t, s.PutUntil(ctx, "k", 1, at))
		check(t, db.Delete(ctx, "u"))
		expect("one that was deleted")
		closeDB(t, db)
		if n := db.Stats().Expired; n != 5 {
			t.Errorf("%d are counted", n)
		}
	})
}

// leaveBehind leaves sessions behind whose owner is gone, and that expire in a minute.
func leaveBehind(t *testing.T, st store.Store, ids ...string) {
	t.Helper()
	ctx := context.Background()
	db := openInts(t, st, kvstore.Options{Node: "dead"})
	for i, id := range ids {
		s, err := db.Create(ctx, id)
		check(t, err)
		check(t, s.Put(ctx, "", i))
		check(t, s.Expire(ctx, time.Now().Add(time.Minute)))
	}
	closeDB(t, db)
}

func numbered(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprint("s", i))
	}
	return ids
}

// Sweepers divide what nobody owns by the ring, leave the rest alone, and together end each session once.
func TestSweepShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := context.Background(), memory.New()
		leaveBehind(t, mem, numbered(300)...)
		var os [3]obituary
		dbs := make([]*kvstore.DB[int], 3)
		for i := range dbs {
			dbs[i] = openInts(t, mem, kvstore.Options{Node: fmt.Sprint("n", i), Hooks: os[i].hooks()})
		}
		s, err := dbs[0].Create(ctx, "lives")
		check(t, err)
		check(t, s.Put(ctx, "", 1))
		check(t, dbs[0].Flush(ctx))
		if got, err := dbs[0].Sweep(ctx, kvstore.Sweeping{}); err != nil || got != (kvstore.Swept{}) {
			t.Errorf("before their end: %+v, %v", got, err)
		}
		time.Sleep(time.Minute)
		start := time.Now()
		seen := map[string]int{}
		for i, db := range dbs {
			got, err := db.Sweep(ctx, kvstore.Sweeping{Rate: 100})
			if err != nil || got.Ended+got.Others != got.Seen || got.Ended < 50 || got.Ended > 150 || got.Seen != 300-len(seen) {
				t.Errorf("node %d: %+v, %v", i, got, err)
			}
			synctest.Wait()
			told := os[i].take()
			if len(told) != got.Ended || int64(got.Ended) != db.Stats().Expired {
				t.Errorf("node %d ended %d, and told of %d", i, got.Ended, len(told))
			}
			for _, e := range told {
				seen[e.Session]++
				if !e.Whole || e.Epoch != 1 || e.Value != nil || e.At.After(start) {
					t.Errorf("told: %+v", e)
				}
				if h, stored := ints(t, mem, e.Session); !h.Deleted || h.Epoch != 2 || len(stored) != 0 {
					t.Errorf("stored is %+v, %v", h, stored)
				}
			}
		}
		if d := time.Since(start); d < 2*time.Second {
			t.Errorf("300 sessions at a rate of 100 took %v", d)
		}
		if len(seen) != 300 {
			t.Errorf("%d sessions were swept", len(seen))
		}
		for i, db := range dbs {
			if r := db.Stats().Resident; r != map[bool]int{true: 1}[i == 0] {
				t.Errorf("node %d has %d sessions", i, r)
			}
			closeDB(t, db)
		}
	})
}

// Of nodes that sweep all at once one ends each session, and tells of it. Events that come for a session at the same time find it gone, or made anew by one of
// them: and that is not swept away.
func TestSweepersRace(t *testing.T) {
	for range rounds(30) {
		synctest.Test(t, func(t *testing.T) {
			ctx, mem := context.Background(), memory.New()
			ids := numbered(20)
			leaveBehind(t, mem, ids...)
			var o obituary
			dbs := make([]*kvstore.DB[int], 3)
			for i := range dbs {
				dbs[i] = openInts(t, mem, kvstore.Options{Node: fmt.Sprint("n", i), MaxDelay: time.Millisecond, Hooks: o.hooks()})
			}
			time.Sleep(time.Minute)
			var mu sync.Mutex
			anew := map[string]int{}
			together(9, func(i int) {
				db := dbs[i%3]
				if i < 6 {
					got, err := db.Sweep(ctx, kvstore.Sweeping{All: true, Rate: 10_000})
					if err != nil || got.Damaged > 0 {
						t.Errorf("swept: %+v, %v", got, err)
					}
					return
				}
				for n, id := range ids {
					dither(10)
					var err error
					switch n % 4 {
					case 0:
						err = db.Put(ctx, id, 100+i)
					case 1:
						_, err = db.AdoptOrCreate(ctx, id)
						if err == nil {
							err = db.Put(ctx, id, 100+i)
						}
					case 2:
						_, err = db.Adopt(ctx, id)
						if err == nil {
							t.Error("what has expired was adopted")
						}
						continue
					case 3:
						if i > 6 { // Create asks nobody, and loses cleanly, but not against this node's own
							continue
						}
						var s *kvstore.Session[int]
						if s, err = db.Create(ctx, id); err == nil {
							if err = s.Put(ctx, "", 100+i); err == nil {
								err = s.Sync(ctx)
							}
						}
						if err != nil {
							t.Errorf("Create of %s: %v", id, err)
						}
					}
					if err == nil {
						mu.Lock()
						anew[id] = i
						mu.Unlock()
					} else if !errors.Is(err, kvstore.ErrOwned) {
						t.Errorf("%s: %v", id, err)
					}
				}
			})
			for _, db := range dbs {
				check(t, db.Flush(ctx))
			}
			synctest.Wait()
			told := map[string]int{}
			for _, e := range o.take() {
				if told[e.Session]++; told[e.Session] > 1 {
					t.Errorf("%s was told of %d times", e.Session, told[e.Session])
				}
			}
			for _, id := range ids {
				h, stored := ints(t, mem, id)
				if _, ok := anew[id]; ok != h.Exists() || ok && stored[""] < 100 || !ok && told[id] != 1 {
					t.Errorf("%s was made anew: %v; told of: %d; stored: %+v, %v", id, ok, told[id], h, stored)
				}
			}
			for _, db := range dbs {
				closeDB(t, db)
			}
		})
	}
}

// What looks dead to a sweeper may be alive: its owner's lease runs again, or it was handed on and extended. Then it stays, with everything that it has.
func TestSweepOfTheLiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := context.Background(), memory.New()
		var o obituary
		owner := openInts(t, mem, kvstore.Options{Node: "owner"})
		s, err := owner.Create(ctx, "s")
		check(t, err)
		check(t, s.ExpireIdle(ctx, time.Minute))
		check(t, s.Put(ctx, "k", 1))
		check(t, s.Sync(ctx))
		blind := &dim{Store: mem}
		db := openInts(t, blind, kvstore.Options{Node: "sweeper", Hooks: o.hooks()})
		// The owner has an extension that it cannot store, and the sweeper thinks that it is dead.
		tapped := time.Now()
		for time.Since(tapped) < 10*time.Minute {
			check(t, s.Touch(ctx))
			time.Sleep(time.Second)
		}
		old := store.TimeOf(time.Now().Add(-time.Second))
		snap, err := mem.Load(ctx, "s", "")
		check(t, err)
		blind.header = snap.Header
		blind.header.Expires = old
		got, err := db.Sweep(ctx, kvstore.Sweeping{All: true})
		if err != nil || got != (kvstore.Swept{Seen: 1, Left: 1}) {
			t.Errorf("swept: %+v, %v", got, err)
		}
		check(t, s.Touch(ctx))
		check(t, s.Put(ctx, "k", 2))
		check(t, s.Sync(ctx))
		// Another node has adopted it since its header was read.
		check(t, owner.Release(ctx, "s"))
		_, err = owner.Adopt(ctx, "s")
		check(t, err)
		got, err = db.Sweep(ctx, kvstore.Sweeping{All: true})
		if err != nil || got != (kvstore.Swept{Seen: 1, Others: 1}) {
			t.Errorf("swept: %+v, %v", got, err)
		}
		if h, stored := ints(t, mem, "s"); h.Deleted || stored["k"] != 2 {
			t.Errorf("stored is %+v, %v", h, stored)
		}
		synctest.Wait()
		if told := o.take(); len(told) > 0 {
			t.Errorf("told: %+v", told)
		}
		closeDB(t, db)
		closeDB(t, owner)
	})
}

// dim is a store whose walk yields an old header, and which knows of no other node.
type dim struct {
	store.Store
	header store.Header
}

func (d *dim) Nodes(context.Context) ([]store.Node, error) { return nil, nil }

func (d *dim) Sessions(context.Context, store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) { yield(d.header, nil) }
}

// A zombie, whose lease ran out while it holds a touch that it could not store, races with a sweeper: the session lives on with the touch, or is gone, is told once, and
// nothing of the zombie's is stored any more.
func TestSweepAgainstAZombie(t *testing.T) {
	for range rounds(100) {
		synctest.Test(t, func(t *testing.T) {
			ctx, mem := context.Background(), memory.New()
			var lost sync.Map
			zombie := openInts(t, mem, kvstore.Options{Node: "zombie", MaxDelay: time.Millisecond, Lease: time.Hour,
				Hooks: kvstore.Hooks{Lost: func(l kvstore.Lost) { lost.Store(l.Session, l) }}})
			var o obituary
			db := openInts(t, mem, kvstore.Options{Node: "sweeper", Hooks: o.hooks()})
			s, err := zombie.Create(ctx, "s")
			check(t, err)
			check(t, s.ExpireIdle(ctx, time.Minute))
			check(t, s.Sync(ctx))
			time.Sleep(time.Minute - time.Millisecond)
			check(t, s.Touch(ctx))
			endLease(t, mem, "zombie")
			var swept kvstore.Swept
			var kept error
			together(2, func(i int) {
				dither(50)
				if i == 0 {
					kept = errors.Join(s.Put(ctx, "k", 1), s.Sync(ctx))
					return
				}
				time.Sleep(time.Millisecond)
				var err error
				swept, err = db.Sweep(ctx, kvstore.Sweeping{All: true})
				check(t, err)
			})
			synctest.Wait()
			h, stored := ints(t, mem, "s")
			told := len(o.take())
			if swept.Ended == 1 {
				if kept == nil || !h.Deleted || len(stored) > 0 || told != 1 {
					t.Errorf("swept, and the zombie's write says %v; stored: %+v, %v; told %d times", kept, h, stored, told)
				}
				if _, ok := lost.Load("s"); !ok {
					t.Error("the zombie was not told what it lost")
				}
			} else if kept != nil || h.Deleted || told != 0 {
				t.Errorf("not swept (%+v), and the zombie's write says %v; stored: %+v, %v; told %d times", swept, kept, h, stored, told)
			}
			closeDB(t, zombie)
			closeDB(t, db)
		})
	}
}

// A node's own sessions that were evicted are ended by its own sweep, and told of, with what was in the store.
func TestSweepOfTheEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := context.Background(), memory.New()
		var o, none obituary
		db := openInts(t, mem, kvstore.Options{Node: "a", MaxResident: 5, Hooks: o.hooks()})
		other := openInts(t, mem, kvstore.Options{Node: "b", Hooks: none.hooks()})
		for i, id := range numbered(50) {
			check(t, db.Put(ctx, id, i))
			s, err := db.Session(ctx, id)
			check(t, err)
			check(t, s.ExpireAfter(ctx, time.Hour))
		}
		time.Sleep(2 * time.Hour)
		if got, err := other.Sweep(ctx, kvstore.Sweeping{All: true}); err != nil || got != (kvstore.Swept{}) {
			t.Errorf("another node: %+v, %v", got, err)
		}
		before := len(o.take())
		got, err := db.Sweep(ctx, kvstore.Sweeping{})
		time.Sleep(time.Second)
		after := o.take()
		if err != nil || got.Ended+before != 50 || len(after) != got.Ended || len(none.take()) != 0 {
			t.Errorf("swept: %+v, %v; told: %d by themselves, %d by the sweep", got, err, before, len(after))
		}
		for _, e := range after {
			if e.Session != fmt.Sprint("s", e.Value) {
				t.Errorf("told: %+v", e)
			}
		}
		for h, err := range mem.Sessions(ctx, store.Query{}) {
			t.Errorf("left: %+v, %v", h, err)
		}
		closeDB(t, db)
		closeDB(t, other)
	})
}

// An answer of the store that is lost is asked for again, and the expiry told once; a store that does not answer ends the sweep, and a later one does what is left. Close
// ends one, too.
func TestSweepAndFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := context.Background(), memory.New()
		ids := numbered(20)
		leaveBehind(t, mem, ids...)
		time.Sleep(time.Minute)
		var o obituary
		j := &tap{Store: mem}
		db := openInts(t, j, kvstore.Options{Node: "n", Hooks: o.hooks()})
		n := 0
		j.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			if n++; n == 1 {
				return nil, errDown
			}
			rs, err := mem.Apply(ctx, cs)
			if n == 2 {
				return nil, errDown // done, and not answered
			}
			return rs, err
		}
		got, err := db.Sweep(ctx, kvstore.Sweeping{All: true})
		synctest.Wait()
		if told := o.take(); err != nil || got.Ended != len(ids) || len(told) != len(ids) || n != 3 {
			t.Errorf("swept: %+v, %v, in %d calls; told: %d", got, err, n, len(told))
		}
		more := numbered(30)[20:]
		leaveBehind(t, mem, more...)
		time.Sleep(time.Minute + time.Millisecond)
		j.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) { return nil, errDown }
		got, err = db.Sweep(ctx, kvstore.Sweeping{All: true})
		if !errors.Is(err, errDown) || got.Ended != 0 {
			t.Errorf("the store is down: %+v, %v", got, err)
		}
		j.apply = nil
		got, err = db.Sweep(ctx, kvstore.Sweeping{All: true})
		synctest.Wait()
		if told := o.take(); err != nil || got.Ended != len(more) || len(told) != len(more) {
			t.Errorf("swept: %+v, %v; told: %d", got, err, len(told))
		}
		leaveBehind(t, mem, "last")
		time.Sleep(time.Minute + time.Millisecond)
		j.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := db.Sweep(ctx, kvstore.Sweeping{All: true})
			want(t, err, kvstore.ErrClosed)
		})
		synctest.Wait()
		closeDB(t, db)
		wg.Wait()
		db = openInts(t, mem, kvstore.Options{Node: "n", Hooks: o.hooks()})
		for _, w := range []kvstore.Sweeping{{Rate: -1}} {
			_, err := db.Sweep(ctx, w)
			want(t, err, kvstore.ErrInvalid)
		}
		got, err = db.Sweep(ctx, kvstore.Sweeping{})
		if err != nil || got.Ended != 1 {
			t.Errorf("swept: %+v, %v", got, err)
		}
		closeDB(t, db)
	})
}

// A step of a sweep that is late, whose answer nobody waits for any more, ends nothing that this node has made of the session meanwhile.
func TestSweepIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := context.Background(), memory.New()
		leaveBehind(t, mem, "claimed", "created")
		time.Sleep(time.Minute)
		j := &tap{Store: mem}
		db := openInts(t, j, kvstore.Options{Node: "n"})
		var late []store.Change
		j.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			late = append(late, cs...)
			return nil, errDown
		}
		_, err := db.Sweep(ctx, kvstore.Sweeping{All: true})
		want(t, err, errDown)
		if len(late) < 2 {
			t.Fatalf("%d changes were sent", len(late))
		}
		j.apply = nil
		_, err = db.AdoptOrCreate(ctx, "claimed")
		check(t, err)
		s, err := db.Create(ctx, "created")
		check(t, err)
		check(t, s.Put(ctx, "", 8))
		check(t, s.Sync(ctx))
		_, err = mem.Apply(ctx, late)
		check(t, err)
		check(t, db.Put(ctx, "claimed", 7))
		check(t, db.Flush(ctx))
		for id, v := range map[string]int{"claimed": 7, "created": 8} {
			if h, stored := ints(t, mem, id); h.Deleted || stored[""] != v {
				t.Errorf("%s: stored is %+v, %v", id, h, stored)
			}
		}
		closeDB(t, db)
	})
}

// An event that comes while the session is being swept waits, and finds it gone, or makes it anew, however it asks.
func TestSweepAndEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := context.Background(), memory.New()
		ids := []string{"adopt", "create", "put", "both"}
		leaveBehind(t, mem, ids...)
		time.Sleep(time.Minute)
		j := &tap{Store: mem}
		db := openInts(t, j, kvstore.Options{Node: "n", MaxDelay: time.Millisecond})
		slow := true
		j.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			if slow {
				slow = false
				time.Sleep(time.Second)
			}
			return mem.Apply(ctx, cs)
		}
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			got, err := db.Sweep(ctx, kvstore.Sweeping{All: true})
			if err != nil || got.Ended != len(ids) {
				t.Errorf("swept: %+v, %v", got, err)
			}
		})
		time.Sleep(500 * time.Millisecond)
		for _, f := range []func() error{
			func() error { _, err := db.Adopt(ctx, "adopt"); want(t, err, kvstore.ErrNotFound); return nil },
			func() error { s, err := db.Create(ctx, "create"); check(t, err); return s.Put(ctx, "", 1) },
			func() error { return db.Put(ctx, "put", 1) },
			func() error {
				s, err := db.AdoptOrCreate(ctx, "both")
				check(t, err)
				return s.Put(ctx, "", 1)
			},
		} {
			wg.Go(func() {
				check(t, f())
				if d := time.Since(start); d < time.Second {
					t.Errorf("it did not wait: %v", d)
				}
			})
		}
		wg.Wait()
		check(t, db.Flush(ctx))
		for _, id := range ids {
			if h, stored := ints(t, mem, id); h.Exists() != (id != "adopt") || id != "adopt" && (stored[""] != 1 || h.Epoch < 3) {
				t.Errorf("%s: stored is %+v, %v", id, h, stored)
			}
		}
		closeDB(t, db)
	})
}
