package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// Durations that make no sense are told of, by both the session and the transaction; the others are from now on.
func TestRelativeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db := openInts(t, memory.New(), kvstore.Options{})
		defer closeDB(t, db)
		s, err := db.Create(ctx, "s")
		check(t, err)
		for name, f := range map[string]func(tx *kvstore.Tx[int]) (inTx, alone error){
			"PutFor 0":  func(tx *kvstore.Tx[int]) (error, error) { return tx.PutFor("k", 1, 0), s.PutFor(ctx, "k", 1, 0) },
			"PutFor -1": func(tx *kvstore.Tx[int]) (error, error) { return tx.PutFor("k", 1, -1), s.PutFor(ctx, "k", 1, -1) },
			"PutFor, own key": func(tx *kvstore.Tx[int]) (error, error) {
				return tx.PutFor("\x00t", 1, 1), s.PutFor(ctx, "\x00t", 1, 1)
			},
			"ExpireAfter 0":    func(tx *kvstore.Tx[int]) (error, error) { return tx.ExpireAfter(0), s.ExpireAfter(ctx, 0) },
			"ExpireAfter -1":   func(tx *kvstore.Tx[int]) (error, error) { return tx.ExpireAfter(-1), s.ExpireAfter(ctx, -1) },
			"ExpireIdle -1":    func(tx *kvstore.Tx[int]) (error, error) { return tx.ExpireIdle(-1), s.ExpireIdle(ctx, -1) },
			"Touch, none idle": func(tx *kvstore.Tx[int]) (error, error) { return tx.Touch(), s.Touch(ctx) },
		} {
			check(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error {
				inTx, alone := f(tx)
				if !errors.Is(inTx, kvstore.ErrInvalid) || !errors.Is(alone, kvstore.ErrInvalid) {
					t.Errorf("%s: %v in a transaction, %v alone", name, inTx, alone)
				}
				return nil
			}))
		}
		if !s.Expires().IsZero() {
			t.Errorf("it ends at %v", s.Expires())
		}
		start := time.Now()
		check(t, s.PutFor(ctx, "k", 1, time.Minute))
		check(t, s.ExpireAfter(ctx, time.Hour))
		if at := s.Expires(); !at.Equal(start.Add(time.Hour)) {
			t.Errorf("it ends at %v", at)
		}
		check(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error {
			return errors.Join(tx.PutFor("l", 1, time.Minute), tx.ExpireAfter(2*time.Hour))
		}))
		if at := s.Expires(); !at.Equal(start.Add(2 * time.Hour)) {
			t.Errorf("it ends at %v", at)
		}
		time.Sleep(time.Minute - time.Millisecond)
		for _, key := range []string{"k", "l"} {
			_, err = s.Get(ctx, key)
			check(t, err)
		}
		time.Sleep(time.Millisecond)
		for _, key := range []string{"k", "l"} {
			_, err = s.Get(ctx, key)
			want(t, err, kvstore.ErrNotFound)
		}
	})
}

// A touch never brings an end nearer, and leaves a session without one alone; what a transaction says last holds.
func TestTouchTable(t *testing.T) {
	const idle = time.Hour
	at := func(d time.Duration) func(start time.Time) time.Time {
		return func(start time.Time) time.Time { return start.Add(d) }
	}
	never := func(time.Time) time.Time { return time.Time{} }
	for _, c := range []struct {
		name string
		f    func(tx *kvstore.Tx[int], now time.Time) error // 30 min after the idle time was given
		want func(start time.Time) time.Time
	}{
		{"a touch", func(tx *kvstore.Tx[int], _ time.Time) error { return tx.Touch() }, at(90 * time.Minute)},
		{"a touch of one that ends later", func(tx *kvstore.Tx[int], now time.Time) error {
			tx.Expire(now.Add(5 * time.Hour))
			return tx.Touch()
		}, at(330 * time.Minute)},
		{"a touch of one that ends sooner", func(tx *kvstore.Tx[int], now time.Time) error {
			tx.Expire(now.Add(time.Minute))
			return tx.Touch()
		}, at(90 * time.Minute)},
		{"a touch of one that does not end", func(tx *kvstore.Tx[int], _ time.Time) error {
			tx.Expire(time.Time{})
			return tx.Touch()
		}, never},
		{"an end after a touch", func(tx *kvstore.Tx[int], now time.Time) error {
			err := tx.Touch()
			tx.Expire(now.Add(time.Minute))
			return err
		}, at(31 * time.Minute)},
		{"another idle time", func(tx *kvstore.Tx[int], _ time.Time) error { return tx.ExpireIdle(time.Minute) }, at(31 * time.Minute)},
		{"another idle time, and a touch", func(tx *kvstore.Tx[int], _ time.Time) error {
			return errors.Join(tx.ExpireIdle(2*time.Hour), tx.Touch())
		}, at(150 * time.Minute)},
		{"no idle time any more", func(tx *kvstore.Tx[int], _ time.Time) error { return tx.ExpireIdle(0) }, at(60 * time.Minute)},
		{"a touch with a write", func(tx *kvstore.Tx[int], _ time.Time) error {
			return errors.Join(tx.Put("k", 1), tx.Touch())
		}, at(90 * time.Minute)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, mem := context.Background(), memory.New()
				db := openInts(t, mem, kvstore.Options{})
				s, err := db.Create(ctx, "s")
				check(t, err)
				start := time.Now()
				check(t, s.ExpireIdle(ctx, idle))
				time.Sleep(30 * time.Minute)
				check(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error { return c.f(tx, time.Now()) }))
				want := c.want(start)
				if got := s.Expires(); !got.Equal(want) {
					t.Errorf("it ends after %v, want %v", got.Sub(start), want.Sub(start))
				}
				check(t, s.Sync(ctx))
				if snap, err := mem.Load(ctx, "s", ""); err != nil || snap.Header.Expires != store.TimeOf(want) {
					t.Errorf("stored: %v after its begin, %v", snap.Header.Expires.Std().Sub(start), err)
				}
				if !want.IsZero() {
					time.Sleep(time.Until(want))
					_, err = db.Session(ctx, "s")
					wantErr(t, err, kvstore.ErrNotFound, kvstore.ErrNotResident)
				}
				closeDB(t, db)
			})
		})
	}
}

var wantErr = want

// For days a session is touched all the time. It is written ten times in its idle time, no more; the end in the store is behind by a tenth of it, at most;
// and a node that sweeps, and asks for it, and takes orphans, all the time, never gets it. When its owner dies, nine tenths of the idle time
// are left to the session; its next owner knows the idle time, and so on, from node to node.
func TestTouchedForDays(t *testing.T) {
	const idle, days, tick, lease = 30 * time.Minute, 3, 10 * time.Second, time.Minute
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := context.Background(), memory.New()
		var expired atomic.Int64
		hooks := kvstore.Hooks{OnExpired: func(kvstore.Expired) { expired.Add(1) }}
		greedy := openInts(t, mem, kvstore.Options{Node: "greedy", Hooks: hooks, Lease: lease})
		for day := range days {
			j := newJournal(mem)
			db := openInts(t, j, kvstore.Options{Node: fmt.Sprint("day", day), Hooks: hooks, Lease: lease})
			var s *kvstore.Session[int]
			var err error
			if day == 0 {
				s, err = db.Create(ctx, "s")
				check(t, err)
				check(t, s.ExpireIdle(ctx, idle))
				check(t, s.Sync(ctx))
			} else if s, err = db.Adopt(ctx, "s"); err != nil {
				t.Fatalf("day %d: %v", day, err)
			}
			j.take()
			length := 24 * time.Hour
			if testing.Short() {
				length = 4 * time.Hour
			}
			for start := time.Now(); time.Since(start) < length; time.Sleep(tick) {
				check(t, s.Touch(ctx))
				if left := time.Until(s.Expires()); left < idle || left > idle+time.Millisecond {
					t.Fatalf("touched, and it ends in %v", left)
				}
				if time.Since(start)%(7*time.Minute) >= tick {
					continue
				}
				if snap, err := mem.Load(ctx, "s", ""); err != nil || time.Since(start) > tick && time.Until(snap.Header.Expires.Std()) < idle-idle/10-tick {
					t.Fatalf("day %d, after %v: the store has an end in %v (%v)", day, time.Since(start), time.Until(snap.Header.Expires.Std()), err)
				}
				_, err := greedy.Adopt(ctx, "s")
				want(t, err, kvstore.ErrOwned)
				swept, err := greedy.Sweep(ctx, kvstore.Sweeping{All: true})
				if err != nil || swept != (kvstore.Swept{}) {
					t.Fatalf("swept: %+v, %v", swept, err)
				}
				if o, err := greedy.AdoptOrphans(ctx, kvstore.Takeover{All: true}); err != nil || o.Adopted > 0 {
					t.Fatalf("orphans: %+v, %v", o, err)
				}
			}
			if writes, most := len(j.take()), int(length/(idle/10))+2; writes > most || writes < most/2 {
				t.Errorf("day %d: touched %d times, it was written %d times, want about %d", day, length/tick, writes, most)
			}
			// Its owner dies, between two writes.
			time.Sleep(time.Duration(rand.Int64N(int64(idle / 20))))
			check(t, s.Touch(ctx))
			last := time.Now()
			time.Sleep(time.Second) // more than a flush window
			j.set(func(j *journal) { j.cut = true })
			db.Close(over())
			endLease(t, mem, fmt.Sprint("day", day))
			time.Sleep(time.Until(last.Add(idle - idle/10 - time.Second)))
			if swept, err := greedy.Sweep(ctx, kvstore.Sweeping{All: true}); err != nil || swept != (kvstore.Swept{}) {
				t.Fatalf("day %d: swept too early: %+v, %v", day, swept, err)
			}
		}
		if n := expired.Load(); n != 0 {
			t.Errorf("%d times it was told of an expiry", n)
		}
		// Nobody takes it any more.
		time.Sleep(2 * idle)
		swept, err := greedy.Sweep(ctx, kvstore.Sweeping{All: true})
		if err != nil || swept.Ended != 1 {
			t.Errorf("swept: %+v, %v", swept, err)
		}
		synctest.Wait()
		if n := expired.Load(); n != 1 {
			t.Errorf("%d times it was told of the expiry", n)
		}
		closeDB(t, greedy)
	})
}

// Release and Drain hand over the very end that the owner had in memory, and an eviction does not forget it.
func TestTouchIsNotForgotten(t *testing.T) {
	const idle = time.Hour
	for _, how := range []string{"Release", "Drain", "evicted"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, mem := context.Background(), memory.New()
				o := kvstore.Options{}
				if how == "evicted" {
					o.MaxResident = 1
				}
				db := openInts(t, mem, o)
				s, err := db.Create(ctx, "s")
				check(t, err)
				check(t, s.ExpireIdle(ctx, idle))
				check(t, s.Sync(ctx))
				time.Sleep(idle / 20)
				check(t, s.Touch(ctx))
				end := s.Expires()
				check(t, s.Sync(ctx))
				stored := func() time.Time {
					snap, err := mem.Load(ctx, "s", "")
					check(t, err)
					return snap.Header.Expires.Std()
				}
				if stored().Equal(end) {
					t.Fatal("the touch was written at once: this test proves nothing")
				}
				switch how {
				case "Release":
					check(t, db.Release(ctx, "s"))
				case "Drain":
					check(t, db.Drain(ctx))
				case "evicted":
					for i := range 100 {
						check(t, db.Put(ctx, fmt.Sprint(i), i))
						time.Sleep(time.Second)
					}
					if db.Stats().Evicted == 0 {
						t.Fatal("nothing was evicted")
					}
				}
				if !stored().Equal(end) {
					t.Errorf("stored is an end %v before that in memory", end.Sub(stored()))
				}
				if how == "evicted" {
					time.Sleep(time.Until(end) - time.Millisecond)
					if _, err := s.Get(ctx, "k"); !errors.Is(err, kvstore.ErrNotFound) {
						t.Error(err)
					}
					check(t, s.Touch(ctx))
				}
				closeDB(t, db)
			})
		})
	}
}

// A touch alone does not bring an end nearer that an earlier transaction has set; and one that comes while a nearer end is on its way to the store is written after
// that, however far the end was that the store had before.
func TestTouchAndExpire(t *testing.T) {
	const idle = 10 * time.Minute
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := context.Background(), memory.New()
		j := newJournal(mem)
		db := openInts(t, j, kvstore.Options{StoreTimeout: time.Minute})
		s, err := db.Create(ctx, "s")
		check(t, err)
		check(t, s.ExpireIdle(ctx, idle))
		check(t, s.ExpireAfter(ctx, 2*idle))
		end := s.Expires()
		check(t, s.Touch(ctx))
		if !s.Expires().Equal(end) {
			t.Errorf("a touch moved the end by %v", s.Expires().Sub(end))
		}
		check(t, s.ExpireIdle(ctx, idle))
		check(t, s.Sync(ctx))
		j.set(func(j *journal) { j.takes = 10 * time.Second })
		check(t, s.ExpireAfter(ctx, time.Minute))
		time.Sleep(5 * time.Second) // it is in flight
		check(t, s.Touch(ctx))
		end = s.Expires()
		time.Sleep(30 * time.Second)
		if snap, err := mem.Load(ctx, "s", ""); err != nil || snap.Header.Expires < store.TimeOf(end.Add(-idle/10)) {
			t.Errorf("in memory it ends %v later than in the store (%v)", end.Sub(snap.Header.Expires.Std()), err)
		}
		closeDB(t, db)
	})
}

// A touch that must be written is written also if the store was away when it came, and if what is in flight has an older end.
func TestTouchAndFaults(t *testing.T) {
	const idle = 10 * time.Minute
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := context.Background(), memory.New()
		j := newJournal(mem)
		db := openInts(t, j, kvstore.Options{StoreTimeout: time.Minute})
		s, err := db.Create(ctx, "s")
		check(t, err)
		check(t, s.ExpireIdle(ctx, idle))
		check(t, s.Sync(ctx))
		rnd := rand.New(rand.NewPCG(3, 4))
		for range 500 {
			switch rnd.IntN(8) {
			case 0:
				j.set(func(j *journal) { j.down = errDown })
			case 1, 2:
				j.set(func(j *journal) { j.down, j.takes = nil, 0 })
			case 3:
				j.set(func(j *journal) { j.takes = time.Duration(rnd.IntN(20)) * time.Second })
			case 4:
				check(t, s.ExpireAfter(ctx, time.Duration(1+rnd.IntN(1200))*time.Second)) // nearer, perhaps
			case 5:
				check(t, s.Put(ctx, "k", 1))
			}
			check(t, s.Touch(ctx))
			time.Sleep(time.Duration(rnd.IntN(30_000)) * time.Millisecond)
			if rnd.IntN(10) == 0 { // now everything that has to be written is
				j.set(func(j *journal) { j.down, j.takes = nil, 0 })
				end := s.Expires()
				time.Sleep(30 * time.Second)
				if snap, err := mem.Load(ctx, "s", ""); err != nil || snap.Header.Expires < store.TimeOf(end.Add(-idle/10)) {
					t.Fatalf("in memory it ends %v later than in the store (%v)", end.Sub(snap.Header.Expires.Std()), err)
				}
			}
		}
		j.set(func(j *journal) { j.down, j.takes = nil, 0 })
		closeDB(t, db)
	})
}

// Touches race with the sweeper of the owner: whatever a touch that succeeded says holds, to the millisecond, and each life's end is told once.
func TestTouchAgainstTheExpirer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle, n = 10 * time.Millisecond, 50
		ctx, mem := context.Background(), memory.New()
		var mu sync.Mutex
		told := map[string][]time.Time{}
		db := openInts(t, mem, kvstore.Options{Hooks: kvstore.Hooks{OnExpired: func(e kvstore.Expired) {
			mu.Lock()
			defer mu.Unlock()
			told[e.Session] = append(told[e.Session], e.At)
		}}})
		var ends [n]time.Time
		together(n, func(i int) {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			s, err := db.Create(ctx, fmt.Sprint(i))
			check(t, err)
			if err := s.ExpireIdle(ctx, idle); err != nil {
				t.Error(err)
			}
			for {
				ends[i] = s.Expires()
				time.Sleep(time.Duration(rnd.Int64N(int64(idle) * 21 / 20)))
				if err := s.Touch(ctx); err != nil {
					if !errors.Is(err, kvstore.ErrNotFound) || time.Now().Before(ends[i]) {
						t.Errorf("%v before its end: %v", time.Until(ends[i]), err)
					}
					return
				}
			}
		})
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		for i := range n {
			if at := told[fmt.Sprint(i)]; len(at) != 1 || !at[0].Equal(ends[i]) {
				t.Errorf("session %d ended at %v, told: %v", i, ends[i], at)
			}
		}
		if db.Stats().Resident != 0 {
			t.Errorf("%d are resident", db.Stats().Resident)
		}
		closeDB(t, db)
	})
}

// Touches race with nodes that adopt by force, and with Close: the session has one owner, goes on, and keeps its idle time.
func TestTouchAgainstAdoption(t *testing.T) {
	ctx, mem := context.Background(), memory.New()
	const idle = time.Hour
	nodes := make([]*kvstore.DB[int], 3)
	for i := range nodes {
		o := brisk(fmt.Sprint("n", i))
		o.Hooks.Lost = func(kvstore.Lost) {} // an end that the next owner has set anew
		nodes[i] = openInts(t, mem, o)
	}
	s, err := nodes[0].Create(ctx, "s")
	check(t, err)
	check(t, s.ExpireIdle(ctx, idle))
	check(t, s.Sync(ctx))
	together(len(nodes), func(i int) {
		for range rounds(200) {
			s, err := nodes[i].Steal(ctx, "s")
			if err != nil {
				t.Error(err)
				return
			}
			for range rand.IntN(5) {
				if err := s.Touch(ctx); err != nil && !errors.Is(err, kvstore.ErrFenced) && !errors.Is(err, kvstore.ErrNotResident) {
					t.Errorf("touch: %v", err)
				}
				dither(20)
			}
		}
	})
	var wg sync.WaitGroup
	for _, db := range nodes {
		wg.Go(func() {
			for {
				s, err := db.Session(ctx, "s")
				if err == nil {
					err = s.Touch(ctx)
				}
				if errors.Is(err, kvstore.ErrClosed) {
					return
				}
			}
		})
		wg.Go(func() {
			if err := db.Close(ctx); err != nil && !errors.Is(err, kvstore.ErrFenced) { // another took it while it was closing
				t.Error(err)
			}
		})
	}
	wg.Wait()
	db := openInts(t, mem, brisk("last"))
	s, err = db.Adopt(ctx, "s")
	check(t, err)
	if left := time.Until(s.Expires()); left < idle-idle/10-time.Minute {
		t.Errorf("it ends in %v", left)
	}
	check(t, s.Touch(ctx))
	closeDB(t, db)
}
