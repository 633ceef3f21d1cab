package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// What depends on time, in virtual time: exact where the promise is exact.

// journal is a store that keeps what Apply was given, and when, and lets a test slow it
// down, fail it, or cut the node off.
type journal struct {
	tap
	mu    sync.Mutex
	calls []applied
	takes time.Duration // of each Apply
	down  error         // what Apply fails with
	cut   bool          // nothing gets through, leases neither
	lease time.Time     // when the last lease was taken
	loads int
	wants int // claims
}

type applied struct {
	at      time.Time
	changes []store.Change
}

var errDown = errors.New("the store is down")

func newJournal(st store.Store) *journal {
	j := &journal{}
	j.Store = st
	j.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
		j.mu.Lock()
		copied := slices.Clone(cs)
		for i := range copied {
			copied[i].Puts, copied[i].Deletes = slices.Clone(cs[i].Puts), slices.Clone(cs[i].Deletes)
		}
		j.calls = append(j.calls, applied{time.Now(), copied})
		takes, err := j.takes, j.fault()
		j.mu.Unlock()
		time.Sleep(takes)
		if err != nil {
			return nil, err
		}
		return st.Apply(ctx, cs)
	}
	j.load = func(ctx context.Context, id string, keys []string) (store.Snapshot, error) {
		j.mu.Lock()
		j.loads++
		cut := j.cut
		j.mu.Unlock()
		if cut {
			return store.Snapshot{}, errDown
		}
		return st.Load(ctx, id, keys...)
	}
	j.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
		j.mu.Lock()
		j.wants++
		cut := j.cut
		j.mu.Unlock()
		if cut {
			return store.Claim{}, errDown
		}
		return st.Claim(ctx, r)
	}
	j.keepAlive = func(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
		j.mu.Lock()
		defer j.mu.Unlock()
		if j.cut {
			return false, errDown
		}
		j.lease = time.Now()
		return st.KeepAlive(ctx, n, ttl)
	}
	return j
}

// fault is why Apply fails. Caller holds mu.
func (j *journal) fault() error {
	if j.cut {
		return errDown
	}
	return j.down
}

func (j *journal) set(f func(j *journal)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f(j)
}

// take returns what was applied since the last call.
func (j *journal) take() []applied {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.calls
	j.calls = nil
	return c
}

// written counts entries put and deleted.
func written(calls []applied) (puts, deletes int) {
	for _, a := range calls {
		for _, c := range a.changes {
			puts += len(c.Puts)
			deletes += len(c.Deletes)
		}
	}
	return puts, deletes
}

// closeDB closes what a test has opened, at the end of its bubble.
func closeDB(t *testing.T, db *kvstore.DB[int]) { check(t, db.Close(context.Background())) }

// In one window a key is written once, however often it was put: for keys that change without end, the number of
// writes is keys × windows, exactly, and a window is MaxDelay from its first change.
func TestCoalescing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keys, every, delay = 3, 7 * time.Millisecond, 100 * time.Millisecond
		ctx := context.Background()
		j := newJournal(memory.New())
		db := openInts(t, j, kvstore.Options{MaxDelay: delay})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)

		start := time.Now()
		var due []time.Time // the end of each window that has begun
		for n := 0; time.Since(start) < 3*time.Second; n++ {
			if len(due) == 0 || time.Now().After(due[len(due)-1]) {
				due = append(due, time.Now().Add(delay))
			}
			for k := range keys {
				check(t, s.Put(ctx, fmt.Sprint(k), n))
			}
			time.Sleep(every) // never meets the end of a window: those lie at 2 mod 7
		}
		time.Sleep(delay)
		calls := j.take()
		if len(calls) != len(due) {
			t.Fatalf("%d flushes in %d windows", len(calls), len(due))
		}
		for i, c := range calls {
			if puts, _ := written(calls[i : i+1]); puts != keys {
				t.Errorf("window %d: %d writes of %d keys", i, puts, keys)
			}
			if !c.at.Equal(due[i]) {
				t.Errorf("window %d was flushed %v after its first change", i, c.at.Sub(due[i])+delay)
			}
		}
		closeDB(t, db)
	})
}

// A Flush or a Sync is about what was written before it: the next change has a whole window again.
func TestFlushLeavesTheNextWindowWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		j := newJournal(memory.New())
		db := openInts(t, j, kvstore.Options{MaxDelay: time.Second})
		for i := range 20 {
			s, err := db.AdoptOrCreate(ctx, fmt.Sprint(i))
			check(t, err)
			check(t, s.Sync(ctx))
			check(t, db.Flush(ctx)) // of nothing
			start := time.Now()
			check(t, s.Put(ctx, "", 1))
			time.Sleep(999 * time.Millisecond)
			check(t, s.Put(ctx, "", 2))
			if calls := j.take(); len(calls) != 0 {
				t.Fatalf("flushed %v after the first change", calls[0].at.Sub(start))
			}
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if puts, _ := written(j.take()); puts != 1 {
				t.Fatalf("%d writes at the end of the window", puts)
			}
		}
		closeDB(t, db)
	})
}

// What is put and deleted in one window is not written at all; nor is a session that was
// made and deleted in it.
func TestPutAndDeleteInOneWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		j := newJournal(memory.New())
		db := openInts(t, j, kvstore.Options{})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "kept", 1))
		check(t, s.Sync(ctx))
		j.take()

		for range 3 {
			check(t, s.Put(ctx, "k", 1))
			check(t, s.Delete(ctx, "k"))
			check(t, s.Put(ctx, "", 1))
			check(t, s.Delete(ctx, ""))
		}
		check(t, s.Sync(ctx))
		if calls := j.take(); len(calls) != 0 {
			t.Errorf("the store was asked to write %+v", calls)
		}
		if _, err := db.Create(ctx, "brief"); err != nil {
			t.Error(err)
		}
		check(t, db.Put(ctx, "brief", 1))
		check(t, db.Delete(ctx, "brief"))
		check(t, db.Flush(ctx))
		if calls := j.take(); len(calls) != 0 {
			t.Errorf("the store was asked to write %+v", calls)
		}

		// A key that the store may have is deleted there, once.
		check(t, s.Delete(ctx, "kept"))
		check(t, s.Put(ctx, "kept", 2))
		check(t, s.Delete(ctx, "kept"))
		check(t, s.Sync(ctx))
		if puts, deletes := written(j.take()); puts != 0 || deletes != 1 {
			t.Errorf("a delete was written as %d puts and %d deletes", puts, deletes)
		}
		closeDB(t, db)
	})
}

// lag ≤ MaxDelay + one flush, for a key that changes for ever; while a flush takes longer than
// MaxDelay, the next one begins when it ends.
func TestLagIsBounded(t *testing.T) {
	const delay = 100 * time.Millisecond
	for _, takes := range []time.Duration{0, 30 * time.Millisecond, 99 * time.Millisecond, 250 * time.Millisecond} {
		t.Run(takes.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				j := newJournal(memory.New())
				db := openInts(t, j, kvstore.Options{MaxDelay: delay, LagAlarm: time.Minute})
				s, err := db.AdoptOrCreate(ctx, "s")
				check(t, err)
				j.set(func(j *journal) { j.takes = takes })
				bound := max(delay, takes) + takes
				for n := range 3000 {
					check(t, s.Put(ctx, "hot", n))
					time.Sleep(time.Millisecond)
					synctest.Wait()
					if lag := db.Stats().Lag; lag > bound+time.Microsecond {
						t.Fatalf("the lag is %v, with flushes of %v it may be %v", lag, takes, bound)
					}
					if lag := db.Health().Lag; lag < s.Lag() {
						t.Fatalf("Health tells of a lag of %v, the session alone has %v", lag, s.Lag())
					}
				}
				// Not too often either: a flush begins at most every MaxDelay.
				calls := j.take()
				for i := 1; i < len(calls); i++ {
					if gap := calls[i].at.Sub(calls[i-1].at); gap < delay || gap > bound+time.Millisecond {
						t.Fatalf("flush %d came %v after the one before", i, gap)
					}
				}
				if len(calls) < 10 {
					t.Errorf("%d flushes in 3 s", len(calls))
				}
				closeDB(t, db)
			})
		})
	}
}

// One round trip serves all who wait: those of one session, and those of many.
func TestSyncIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 50
		ctx := context.Background()
		j := newJournal(memory.New())
		db := openInts(t, j, kvstore.Options{Flushers: 1, MaxDelay: time.Hour, LagAlarm: time.Hour})
		var handles []*kvstore.Session[int]
		for i := range n {
			s, err := db.Create(ctx, fmt.Sprint(i))
			check(t, err)
			handles = append(handles, s)
		}
		check(t, db.Flush(ctx))
		j.take()
		j.set(func(j *journal) { j.takes = 10 * time.Millisecond })

		all := func(same bool) {
			var wg sync.WaitGroup
			for i, s := range handles {
				if same {
					s = handles[0]
				}
				check(t, s.Put(ctx, fmt.Sprint(i), i))
				wg.Go(func() { check(t, s.Sync(ctx)) })
			}
			wg.Wait()
		}
		// All were put before anyone could wait, or a little later, while the first flush was on
		// its way: then the second one has them.
		for _, same := range []bool{true, false} {
			start := time.Now()
			all(same)
			if calls := j.take(); len(calls) > 2 || time.Since(start) > 20*time.Millisecond {
				t.Errorf("%d who waited (on one session: %v) took %d round trips", n, same, len(calls))
			}
		}
		// While one is on its way, all who come share the next.
		check(t, handles[0].Put(ctx, "", 1))
		go handles[0].Sync(ctx)
		time.Sleep(5 * time.Millisecond)
		all(false)
		if calls := j.take(); len(calls) != 2 {
			t.Errorf("%d round trips, want 2", len(calls))
		}
		// Sync of what is stored asks nobody.
		start := time.Now()
		check(t, handles[0].Sync(ctx))
		check(t, db.Flush(ctx))
		if calls := j.take(); len(calls) != 0 || time.Since(start) != 0 {
			t.Errorf("nothing was unsaved, and the store was called %d times", len(calls))
		}
		j.set(func(j *journal) { j.takes = 0 })
		closeDB(t, db)
	})
}

// Of all goroutines of a node that want a session at once one asks the store, and all get the same one.
func TestOneAsksForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 30
		ctx := context.Background()
		j := newJournal(memory.New())
		leave(t, j, 1)
		db := openInts(t, j, kvstore.Options{})
		claim := j.claim
		j.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
			time.Sleep(10 * time.Millisecond)
			return claim(ctx, r)
		}
		before := j.wants
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				s, err := db.Adopt(ctx, "0")
				check(t, err)
				check(t, s.Put(ctx, fmt.Sprint(i), i))
			})
		}
		wg.Wait()
		s, err := db.Session(ctx, "0")
		check(t, err)
		all, err := s.All(ctx)
		check(t, err)
		if got := len(maps.Collect(all)); got != n+1 || j.wants-before != 1 {
			t.Errorf("%d claims; the session has %d entries, want %d", j.wants-before, got, n+1)
		}
		closeDB(t, db)
	})
}

// With the store down the waits grow to RetryMax and no further, differ, and never end; its return is
// noticed within RetryMax.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const least, most = 20 * time.Millisecond, 2 * time.Second
		ctx := context.Background()
		j := newJournal(memory.New())
		db := openInts(t, j, kvstore.Options{RetryMin: least, RetryMax: most, Flushers: 1})
		check(t, db.Put(ctx, "s", 1))
		j.set(func(j *journal) { j.down = errDown })
		time.Sleep(10 * time.Minute)
		calls := j.take()
		var late []time.Duration
		for i := 1; i < len(calls); i++ {
			gap := calls[i].at.Sub(calls[i-1].at)
			if bound := min(most, least<<min(i, 20)); gap <= 0 || gap > bound+time.Millisecond {
				t.Errorf("wait %d is %v, it may be %v", i, gap, bound)
			}
			if i > 10 {
				late = append(late, gap)
			}
		}
		mean := time.Duration(0)
		for _, g := range late {
			mean += g / time.Duration(len(late))
		}
		slices.Sort(late)
		if len(late) < 300 || mean < most/3 || mean > most*2/3 || len(slices.Compact(late)) < 100 {
			t.Errorf("%d waits with a mean of %v", len(late), mean)
		}
		if h := db.Health(); !slices.Equal(h.Problems, []kvstore.Problem{kvstore.LagHigh}) && !slices.Contains(h.Problems, kvstore.StoreUnreachable) || h.Lag < 9*time.Minute {
			t.Errorf("health: %q, lag %v", h, h.Lag)
		}
		for range 20 {
			j.set(func(j *journal) { j.down = nil })
			start := time.Now()
			check(t, db.Flush(ctx))
			if d := time.Since(start); d > most+time.Millisecond {
				t.Errorf("the store's return was noticed after %v", d)
			}
			j.set(func(j *journal) { j.down = errDown })
			check(t, db.Put(ctx, "s", 1))
			time.Sleep(time.Minute)
		}
		j.set(func(j *journal) { j.down = nil })
		closeDB(t, db)
	})
}

// A flush is all that is taken together: the lag keeps the bound that it gives, over many calls of a store that is fast enough,
// and of one that is not.
func TestLagBoundIsMeasured(t *testing.T) {
	for _, sessions := range []int{40, 100} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			st := &tap{Store: memory.New()}
			st.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
				time.Sleep(20 * time.Millisecond)
				return st.Store.Apply(ctx, cs)
			}
			o := brisk("a")
			o.MaxDelay, o.MaxBatch, o.Flushers = 100*time.Millisecond, 10, 1
			db := openInts(t, st, o)
			defer db.Close(ctx)
			var most time.Duration
			for i := range 1000 {
				check(t, db.Put(ctx, fmt.Sprint(i%sessions), i))
				time.Sleep(time.Millisecond)
				s := db.Stats()
				most = max(most, s.Lag)
				if s.Lag > max(o.MaxDelay, s.LongestFlush)+s.LongestFlush {
					t.Fatalf("the lag is %v, MaxDelay %v, the longest flush %v", s.Lag, o.MaxDelay, s.LongestFlush)
				}
			}
			check(t, db.Flush(ctx))
			if s := db.Stats(); most <= o.MaxDelay || s.LongestFlush != time.Duration(sessions)*2*time.Millisecond {
				t.Errorf("the lag was at most %v, the longest flush %v: nothing was tested", most, s.LongestFlush)
			}
		})
	}
}
