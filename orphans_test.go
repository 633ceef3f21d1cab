package kvstore_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// AdoptOrphans, in virtual time.

// Survivors divide a dead node's sessions without asking each other: every session is adopted, by one of them.
func TestSurvivorsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 300
		ctx := context.Background()
		mem := memory.New()
		j := newJournal(mem)
		dead := openInts(t, j, kvstore.Options{Node: "dead"})
		for i := range n {
			check(t, dead.Put(ctx, fmt.Sprint(i), i))
		}
		brief, err := dead.Session(ctx, "0")
		check(t, err)
		check(t, brief.Expire(ctx, time.Now().Add(time.Second)))
		check(t, dead.Flush(ctx))
		check(t, dead.Delete(ctx, "1"))
		check(t, dead.Flush(ctx))
		survivors := map[string]*kvstore.DB[int]{}
		for i, name := range []string{"b", "c", "d"} {
			survivors[name] = openInts(t, mem, kvstore.Options{Node: name, Weight: 1 + i%2})
		}
		for name, db := range survivors {
			if got, err := db.AdoptOrphans(ctx, kvstore.Takeover{}); err != nil || got.Seen != 0 {
				t.Errorf("%s finds orphans while their owner lives: %+v, %v", name, got, err)
			}
		}
		j.set(func(j *journal) { j.cut = true })
		time.Sleep(4 * time.Second)

		done := map[string]*kvstore.Orphans{}
		for name := range survivors {
			done[name] = new(kvstore.Orphans)
		}
		var wg sync.WaitGroup
		for name, db := range survivors {
			wg.Go(func() {
				got, err := db.AdoptOrphans(ctx, kvstore.Takeover{Rate: 100})
				check(t, err)
				*done[name] = got
			})
		}
		wg.Wait()
		adopted := 0
		for name, o := range done {
			adopted += o.Adopted
			if o.Adopted+o.Here+o.Others+o.Gone != o.Seen || o.Gone != 0 || o.Here != 0 {
				t.Errorf("%s: %+v does not add up", name, o)
			}
			if got := survivors[name].Stats().Resident; got != o.Adopted || got < n/10 {
				t.Errorf("%s has %d sessions and adopted %d", name, got, o.Adopted)
			}
		}
		if adopted != n-2 {
			t.Errorf("%d of %d sessions were adopted: %+v", adopted, n-2, done)
		}
		ring, err := kvstore.NewRing(kvstore.Member{Name: "b", Weight: 1}, kvstore.Member{Name: "c", Weight: 2}, kvstore.Member{Name: "d", Weight: 1})
		check(t, err)
		for h, err := range mem.Sessions(ctx, store.Query{}) {
			check(t, err)
			if h.Session == "0" {
				continue // it has expired, and nobody wanted it
			}
			if h.Owner.Node != ring.Owner(h.Session) {
				t.Errorf("session %s is %s's, the ring says %s", h.Session, h.Owner.Node, ring.Owner(h.Session))
			}
		}
		dead.Close(over())
		for _, db := range survivors {
			closeDB(t, db)
		}
	})
}

// leave makes n sessions in mem that nobody owns.
func leave(t *testing.T, mem store.Store, n int) {
	t.Helper()
	ctx := context.Background()
	db := openInts(t, mem, kvstore.Options{Node: "left"})
	for i := range n {
		check(t, db.Put(ctx, fmt.Sprint(i), i))
	}
	closeDB(t, db)
}

// The rate holds exactly, in virtual time.
func TestOrphansRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, rate = 100, 50
		ctx := context.Background()
		j := newJournal(memory.New())
		leave(t, j, n)
		var at []time.Time
		claim := j.claim
		var mu sync.Mutex
		j.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
			mu.Lock()
			at = append(at, time.Now())
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			return claim(ctx, r)
		}
		db := openInts(t, j, kvstore.Options{Node: "a"})
		var seen []kvstore.Orphans
		got, err := db.AdoptOrphans(ctx, kvstore.Takeover{Rate: rate, Progress: func(o kvstore.Orphans) { seen = append(seen, o) }})
		if err != nil || got.Adopted != n {
			t.Fatalf("%+v, %v", got, err)
		}
		for i := 1; i < n; i++ {
			if gap := at[i].Sub(at[i-1]); gap < time.Second/rate-time.Millisecond {
				t.Fatalf("adoption %d came %v after the one before", i, gap)
			}
		}
		if d := at[n-1].Sub(at[0]); d > n*time.Second/rate {
			t.Errorf("%d adoptions took %v", n, d)
		}
		if len(seen) == 0 || seen[len(seen)-1] != got {
			t.Errorf("the last progress is not the result: %+v", got)
		}
		closeDB(t, db)
	})
}

// An error ends a pass and says that it is not complete; the next goes on where it was.
func TestOrphansResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 60
		ctx := context.Background()
		j := newJournal(memory.New())
		leave(t, j, n)
		claims := 0
		claim := j.claim
		var mu sync.Mutex
		j.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
			mu.Lock()
			claims++
			fail := claims%25 == 0
			mu.Unlock()
			if fail {
				return store.Claim{}, errDown
			}
			return claim(ctx, r)
		}
		db := openInts(t, j, kvstore.Options{Node: "a"})
		total, passes := 0, 0
		for {
			got, err := db.AdoptOrphans(ctx, kvstore.Takeover{Rate: 1000})
			total += got.Adopted
			passes++
			if err == nil {
				if got.Seen != got.Adopted+got.Here+got.Gone+got.Others {
					t.Errorf("%+v does not add up", got)
				}
				break
			}
			want(t, err, errDown)
		}
		if total != n || passes != 3 || db.Stats().Resident != n {
			t.Errorf("%d sessions in %d passes", total, passes)
		}
		// A caller's end, and the DB's, end it, too.
		closeDB(t, db)
		db = openInts(t, j, kvstore.Options{Node: "a"})
		brief, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		_, err := db.AdoptOrphans(brief, kvstore.Takeover{Rate: 10})
		cancel()
		want(t, err, context.DeadlineExceeded)
		ended := make(chan error)
		go func() {
			_, err := db.AdoptOrphans(ctx, kvstore.Takeover{Rate: 10})
			ended <- err
		}()
		time.Sleep(100 * time.Millisecond)
		closeDB(t, db)
		want(t, <-ended, kvstore.ErrClosed)
	})
}

// An event's adoption does not wait for the background, and while it waits for the store no
// background adoption begins.
func TestDemandOvertakesOrphans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 200
		ctx := context.Background()
		j := newJournal(memory.New())
		leave(t, j, n)
		var demand atomic.Bool
		var busy, begun atomic.Int32
		claim := j.claim
		j.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
			switch {
			case r.Session == "event":
				time.Sleep(40 * time.Millisecond)
				return claim(ctx, r)
			case demand.Load():
				busy.Add(1)
			}
			begun.Add(1)
			time.Sleep(20 * time.Millisecond)
			return claim(ctx, r)
		}
		db := openInts(t, j, kvstore.Options{Node: "a"})
		ended := make(chan kvstore.Orphans)
		go func() {
			got, err := db.AdoptOrphans(ctx, kvstore.Takeover{Rate: 1000})
			check(t, err)
			ended <- got
		}()
		for range 5 {
			// Half a millisecond beside everything that the background does.
			time.Sleep(30*time.Millisecond + 500*time.Microsecond)
			start := time.Now()
			demand.Store(true)
			_, err := db.AdoptOrCreate(ctx, "event")
			demand.Store(false)
			check(t, err)
			if d := time.Since(start); d > 40*time.Millisecond {
				t.Errorf("an event waited %v for its session", d)
			}
			check(t, db.Release(ctx, "event"))
			time.Sleep(500 * time.Microsecond)
		}
		if busy.Load() > 0 || begun.Load() == 0 {
			t.Errorf("%d of %d background adoptions began while an event waited", busy.Load(), begun.Load())
		}
		if got := <-ended; got.Adopted != n {
			t.Errorf("in the end: %+v", got)
		}
		closeDB(t, db)
	})
}
