package kvstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// sizes is a store that counts the changes of each call, and may be away.
type sizes struct {
	store.Store
	mu    sync.Mutex
	calls []int
	away  bool
}

func (s *sizes) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	s.mu.Lock()
	away := s.away
	if !away {
		s.calls = append(s.calls, len(cs))
	}
	s.mu.Unlock()
	if away {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.Store.Apply(ctx, cs)
}

// taken returns the sizes of the calls since the last time.
func (s *sizes) taken() (calls []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls, s.calls = s.calls, nil
	return calls
}

func (s *sizes) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func dirtySessions(t *testing.T, db *kvstore.DB[int], n int) (ss []*kvstore.Session[int]) {
	t.Helper()
	for i := range n {
		s, err := db.Create(t.Context(), fmt.Sprint("s", i))
		check(t, err)
		check(t, s.Put(t.Context(), "", i))
		ss = append(ss, s)
	}
	return ss
}

// Sync stores what it waits for, and leaves to the others the time in which they coalesce.
func TestSyncTakesOnlyWhatItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := &sizes{Store: memory.New()}
		o := brisk("a")
		o.Flushers, o.MaxDelay = 1, time.Minute
		db := openInts(t, st, o)
		ss := dirtySessions(t, db, 100)
		time.Sleep(time.Second)

		for round := range 3 {
			check(t, ss[7].Put(ctx, "", round))
			check(t, ss[7].Sync(ctx))
			if got := st.taken(); len(got) != 1 || got[0] != 1 {
				t.Fatalf("a Sync of one session of a hundred wrote %v sessions", got)
			}
			if ss[7].Lag() != 0 || ss[8].Lag() == 0 {
				t.Errorf("the lag of the session that was synced is %v, of another %v", ss[7].Lag(), ss[8].Lag())
			}
		}
		if lag := db.Health().Lag; lag != time.Second {
			t.Errorf("the lag is %v, the other sessions' changes are a second old", lag)
		}

		// What was flushed before its turn is not flushed again when that comes.
		for i := range 50 {
			check(t, ss[i].Sync(ctx))
		}
		st.taken()
		check(t, ss[3].Put(ctx, "", 0))
		check(t, db.Flush(ctx))
		if got := st.taken(); len(got) != 1 || got[0] != 51 {
			t.Errorf("51 sessions were dirty, and %v were written", got)
		}

		// When all that was queued has been synced there is no lag, and nothing to come.
		dirty := func() {
			for i, s := range ss[:10] {
				check(t, s.Put(ctx, "", i))
			}
		}
		dirty()
		var wg sync.WaitGroup
		for _, s := range ss[:10] {
			wg.Go(func() { check(t, s.Sync(ctx)) })
		}
		wg.Wait()
		time.Sleep(time.Second) // less than MaxDelay
		if lag := db.Health().Lag; lag != 0 {
			t.Errorf("all is stored, and the lag is %v", lag)
		}
		st.taken()
		time.Sleep(2 * time.Minute)
		if got := st.taken(); len(got) > 0 {
			t.Errorf("all was stored, and %v sessions were written", got)
		}

		// All who wait at the time share a round trip.
		dirty()
		st.setAway(true)
		for _, s := range ss[:10] {
			wg.Go(func() { check(t, s.Sync(ctx)) })
		}
		time.Sleep(time.Second)
		st.setAway(false)
		wg.Wait()
		if got := st.taken(); len(got) > 6 { // the first batch had no answer, the next ones are its parts: 1, 1, 2, 4 …
			t.Errorf("ten Syncs took the calls %v", got)
		}
		check(t, db.Close(ctx))
	})
}

// What a Sync has in flight has its age, and a Flush waits for it, though nothing else is queued.
func TestSyncInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem := memory.New()
		st := &tap{Store: mem}
		st.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			time.Sleep(time.Second)
			return mem.Apply(ctx, cs)
		}
		o := brisk("a")
		o.Flushers, o.MaxDelay, o.StoreTimeout = 1, time.Hour, time.Minute
		db := openInts(t, st, o)
		ss := dirtySessions(t, db, 1)
		var wg sync.WaitGroup
		wg.Go(func() { check(t, ss[0].Sync(ctx)) })
		time.Sleep(500 * time.Millisecond)
		if lag := db.Health().Lag; lag != 500*time.Millisecond {
			t.Errorf("a change made half a second ago is in flight, and the lag is %v", lag)
		}
		check(t, db.Flush(ctx))
		if _, m := ints(t, mem, "s0"); len(m) != 1 {
			t.Errorf("after Flush the store has %v", m)
		}
		wg.Wait()
		check(t, db.Close(ctx))
	})
}

// A session that was taken out of turn, and changes again before its batch has left, is not in that batch twice.
func TestOneFlightInABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem := memory.New()
		st := &tap{Store: mem}
		calls := 0
		st.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			calls++
			seen := map[string]bool{}
			for _, c := range cs {
				if seen[c.Session] {
					t.Errorf("call %d has two changes of session %q", calls, c.Session)
				}
				seen[c.Session] = true
			}
			time.Sleep(time.Second)
			return mem.Apply(ctx, cs)
		}
		db := openInts(t, st, kvstore.Options{Node: "a", Flushers: 1, MaxBatch: 8, Codec: slowCodec{by: 5 * time.Second}})
		ss := dirtySessions(t, db, 16)
		check(t, ss[8].Put(ctx, "", 99))   // takes 5 s to be encoded
		time.Sleep(500 * time.Millisecond) // eight are in the store's hands, six are gathered, s8 and s9 are left
		var wg sync.WaitGroup
		wg.Go(func() { check(t, ss[8].Sync(ctx)) })
		time.Sleep(2 * time.Second) // it is being encoded
		check(t, ss[8].Put(ctx, "", 4))
		start := time.Now()
		check(t, ss[8].Sync(ctx)) // which is not told by the answer to what came before
		if _, m := ints(t, mem, "s8"); m[""] != 4 {
			t.Errorf("the store has %v", m)
		}
		if d := time.Since(start); d > 6*time.Second {
			t.Errorf("the second Sync took %v", d)
		}
		wg.Wait()
		check(t, db.Close(ctx))
	})
}

// Who waits for a batch is told when the store has answered, and what was being encoded for the next one then: not when all of that is.
func TestAnswerDoesNotWaitForTheNextBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem := memory.New()
		st := &tap{Store: mem}
		st.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			time.Sleep(6 * time.Second)
			return mem.Apply(ctx, cs)
		}
		db := openInts(t, st, kvstore.Options{Node: "a", Flushers: 1, MaxBatch: 8, StoreTimeout: time.Minute, Codec: slowCodec{by: 5 * time.Second}})
		ss := dirtySessions(t, db, 16)
		for _, s := range ss[2:8] { // s0, s1 and s10 to s15 come before them
			check(t, s.Put(ctx, "", 99)) // takes 5 s to be encoded
		}
		time.Sleep(time.Second) // eight are in the store's hands, and the first of these six is being encoded
		start := time.Now()
		check(t, ss[0].Sync(ctx))
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("the store had the session for 6 s, and Sync took %v more than that", d-5*time.Second)
		}
		check(t, db.Flush(ctx))
		for i := 2; i < 8; i++ {
			if _, m := ints(t, mem, fmt.Sprint("s", i)); m[""] != 99 {
				t.Errorf("the store has %v of s%d", m, i)
			}
		}
		check(t, db.Close(ctx))
	})
}

// During an outage many come and go that wait for the same sessions. It costs no memory, and in the end
// each session is written once.
func TestSyncInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &sizes{Store: memory.New()}
		o := brisk("a")
		o.Flushers, o.MaxDelay = 1, 100*time.Millisecond
		db := openInts(t, st, o)
		ss := dirtySessions(t, db, 50)
		st.setAway(true)
		for range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			var wg sync.WaitGroup
			for i, s := range ss {
				wg.Go(func() {
					check(t, s.Put(t.Context(), "", i))
					want(t, s.Sync(ctx), context.DeadlineExceeded)
				})
			}
			wg.Wait()
			cancel()
		}
		st.setAway(false)
		check(t, db.Flush(t.Context()))
		var n int
		for _, c := range st.taken() {
			n += c
		}
		if n != len(ss) || db.Stats().Buffered != 0 {
			t.Errorf("%d sessions were written %d times, %d bytes are left", len(ss), n, db.Stats().Buffered)
		}
		time.Sleep(time.Minute)
		if got := st.taken(); len(got) > 0 {
			t.Errorf("all was stored, and %v sessions were written", got)
		}
		check(t, db.Close(t.Context()))
	})
}

// Many who wait, all the time, and more than one call to the store can serve, do not keep the others from being
// stored in time.
func TestSyncStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := &tap{Store: memory.New()}
		st.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			time.Sleep(10 * time.Millisecond)
			return st.Store.Apply(ctx, cs)
		}
		o := brisk("a")
		o.Flushers, o.MaxDelay, o.MaxBatch = 1, 100*time.Millisecond, 8
		db := openInts(t, st, o)
		ss := dirtySessions(t, db, 32)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for _, s := range ss {
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					check(t, s.Put(ctx, "", n))
					check(t, s.Sync(ctx))
				}
			})
		}
		var most time.Duration
		for n := 1; n <= 100; n++ {
			check(t, db.Put(ctx, "quiet", n))
			start := time.Now()
			for time.Since(start) < time.Second {
				if _, m := ints(t, st, "quiet"); m[""] == n {
					break
				}
				time.Sleep(time.Millisecond)
			}
			most = max(most, time.Since(start))
		}
		close(stop)
		wg.Wait()
		if most > 300*time.Millisecond {
			t.Errorf("a change was stored after %v, MaxDelay is %v", most, o.MaxDelay)
		}
		check(t, db.Close(ctx))
	})
}
