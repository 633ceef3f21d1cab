package kvstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// The commits of a session are told in their order, whole, each once, however many change it at once, and however many listen.
func TestOnCommitOrder(t *testing.T) {
	ctx := context.Background()
	db := openInts(t, memory.New(), brisk("a"))
	const hands, sessions = 8, 3
	each := rounds(500)
	ears := []*ear{listens(t, db), listens(t, db)}
	watched := new(ear)
	walk := db.Watch(ctx, kvstore.Filter{Sessions: "s"})
	var walker sync.WaitGroup
	walker.Go(func() {
		for c, err := range walk {
			if err == nil {
				watched.hear(c)
			}
		}
	})
	together(hands, func(hand int) {
		for i := range each {
			s, err := db.AdoptOrCreate(ctx, fmt.Sprint("s", (hand+i)%sessions))
			check(t, err)
			check(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error {
				v, _ := tx.Get("a")
				tx.Put("a", v+1)
				return tx.Put("b", -v-1)
			}))
			dither(3)
		}
	})
	closeDB(t, db)
	walker.Wait()
	for i, e := range append(ears, watched) {
		last, n := map[string]int{}, 0
		for _, c := range e.told {
			if c.Missed != 0 {
				t.Fatalf("listener %d missed %d", i, c.Missed)
			}
			if c.Cause != kvstore.CauseUpdate {
				continue
			}
			n++
			was := last[c.Session]
			if len(c.Changes) != 2 || c.Changes[0].Old.Value != was || c.Changes[0].New.Value != was+1 || c.Changes[1].New.Value != -was-1 {
				t.Fatalf("listener %d is told after %d of %s", i, was, lineOf(c))
			}
			last[c.Session]++
		}
		if n != hands*each {
			t.Errorf("listener %d was told of %d of %d", i, n, hands*each)
		}
	}
}

// A listener that does not return stops nobody. What its queue does not hold is missed, and it learns of how much, exactly, and where.
func TestSlowListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db := openInts(t, memory.New(), kvstore.Options{Node: "a", MaxBacklog: 1000})
		gate := make(chan struct{})
		var told []kvstore.Commit[int]
		_, err := db.OnCommit(func(c kvstore.Commit[int]) {
			<-gate
			told = append(told, c)
		})
		check(t, err)
		const n = 500
		for i := range n {
			check(t, db.Put(ctx, "s", i))
		}
		check(t, db.Flush(ctx))
		if v, err := db.Get(ctx, "s"); v != n-1 || err != nil {
			t.Errorf("there is %d, %v", v, err)
		}
		missed := db.Stats().Missed
		if missed < n/2 || missed >= n {
			t.Errorf("%d of %d were missed", missed, n)
		}
		close(gate)
		synctest.Wait()
		if len(told) > 20 {
			t.Errorf("%d commits waited in a queue of 1000 bytes", len(told))
		}
		check(t, db.Put(ctx, "s", n))
		synctest.Wait()
		next := 0 // the value of the next commit
		for i, c := range told {
			if i == 0 { // the creation
				continue
			}
			next += int(c.Missed)
			if got := c.Changes[0].New.Value; got != next {
				t.Errorf("%d is told after %d were missed; that would be %d", got, c.Missed, next)
			}
			next++
		}
		if next != n+1 {
			t.Errorf("told or missed are %d commits of %d", next, n+1)
		}
		if again := db.Stats().Missed; again != missed {
			t.Errorf("missed %d, and then %d", missed, again)
		}
		closeDB(t, db)
	})
}

// A commit that is larger than the queue is told, if nothing else waits.
func TestOneLargeCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openInts(t, memory.New(), kvstore.Options{Node: "a", MaxBacklog: 1})
		e := listens(t, db)
		s, err := db.Create(context.Background(), "s")
		check(t, err)
		for i := range 3 {
			synctest.Wait()
			check(t, s.Put(context.Background(), "k", i))
		}
		if got := e.news(); len(got) != 4 {
			t.Errorf("told %q", got)
		}
		closeDB(t, db)
	})
}

// A listener that panics is told of the next commit, too. It is logged, counted, and nobody else's affair.
func TestListenerPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		var log strings.Builder
		db := openInts(t, memory.New(), kvstore.Options{Node: "a", Logger: slog.New(slog.NewTextHandler(&log, nil))})
		calls := 0
		_, err := db.OnCommit(func(kvstore.Commit[int]) {
			calls++
			panic("a bad hook")
		})
		check(t, err)
		e := listens(t, db)
		for i := range 10 {
			check(t, db.Put(ctx, "s", i))
		}
		if got := e.news(); len(got) != 11 || calls != 11 {
			t.Errorf("one was told %d commits, and the one that panics %d", len(got), calls)
		}
		closeDB(t, db)
		if n := db.Stats().HookPanics; n != 11 || !strings.Contains(log.String(), "a bad hook") {
			t.Errorf("%d panics are counted; the log: %s", n, log.String())
		}
	})
}

// Close tells what waits, and then nothing more. It waits for a listener as long as its context allows.
func TestCloseAndListeners(t *testing.T) {
	t.Run("in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx := context.Background()
			db := openInts(t, memory.New(), kvstore.Options{Node: "a"})
			calls := 0
			_, err := db.OnCommit(func(kvstore.Commit[int]) { time.Sleep(time.Second); calls++ })
			check(t, err)
			for i := range 9 {
				check(t, db.Put(ctx, "s", i))
			}
			closeDB(t, db)
			if calls != 10 {
				t.Errorf("Close returned after %d calls of 10", calls)
			}
			time.Sleep(time.Hour)
			if calls != 10 || db.Stats().Missed != 0 {
				t.Errorf("%d calls, %d missed", calls, db.Stats().Missed)
			}
		})
	})
	t.Run("out of time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			db := openInts(t, memory.New(), kvstore.Options{Node: "a"})
			calls := 0
			_, err := db.OnCommit(func(kvstore.Commit[int]) { time.Sleep(700 * time.Millisecond); calls++ })
			check(t, err)
			for i := range 9 {
				check(t, db.Put(context.Background(), "s", i))
			}
			check(t, db.Flush(context.Background()))
			synctest.Wait()
			check(t, db.Close(over())) // the call that is under way ends within the grace
			time.Sleep(time.Hour)
			if n := db.Stats().Missed; calls != 1 || n != 9 {
				t.Errorf("%d calls, %d missed, of 10", calls, n)
			}
		})
	})
	t.Run("stuck", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			db := openInts(t, memory.New(), kvstore.Options{Node: "a"})
			gate := make(chan struct{})
			_, err := db.OnCommit(func(kvstore.Commit[int]) { <-gate })
			check(t, err)
			check(t, db.Put(context.Background(), "s", 1))
			check(t, db.Flush(context.Background()))
			synctest.Wait()
			if err := db.Close(over()); err == nil || !strings.Contains(err.Error(), "has not returned") {
				t.Errorf("Close leaves a goroutine behind, and gives %v", err)
			}
			close(gate)
		})
	})
}

// After stop nobody is told, and Close finds nothing to wait for. Twice is as once; it may come from the function itself.
func TestStopListening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db := openInts(t, memory.New(), kvstore.Options{Node: "a"})
		synctest.Wait()
		base, _ := bubbled()
		calls := 0
		var stop func()
		stop, err := db.OnCommit(func(kvstore.Commit[int]) {
			calls++
			stop()
		})
		check(t, err)
		other := listens(t, db)
		for i := range 5 {
			check(t, db.Put(ctx, "s", i))
		}
		if got := other.news(); calls != 1 || len(got) != 6 {
			t.Errorf("it stopped itself, and was called %d times; another one %d times", calls, len(got))
		}
		stop()
		synctest.Wait()
		if n, stacks := bubbled(); n > base+1 {
			t.Errorf("%d goroutines are left of one that stopped:\n%s", n-base-1, stacks)
		}
		_, err = db.OnCommit(nil)
		want(t, err, kvstore.ErrInvalid)
		closeDB(t, db)
	})
}

// Sessions come and go while listeners do, and whoever listens throughout misses nothing.
func TestListenersComeAndGo(t *testing.T) {
	ctx := context.Background()
	db := openInts(t, memory.New(), brisk("a"))
	e := listens(t, db)
	n := rounds(300)
	together(4, func(hand int) {
		for i := range n {
			if hand == 0 {
				check(t, db.Put(ctx, "s", i))
				continue
			}
			var got []int // it is another goroutine's until stop, and may be for a moment after
			var mu sync.Mutex
			stop, err := db.OnCommit(func(c kvstore.Commit[int]) {
				mu.Lock()
				defer mu.Unlock()
				if len(c.Changes) > 0 {
					got = append(got, c.Changes[0].New.Value)
				}
			})
			check(t, err)
			dither(20)
			stop()
			mu.Lock()
			if !slices.IsSorted(got) || len(got) > 0 && got[len(got)-1]-got[0] != len(got)-1 {
				t.Errorf("told %v", got)
			}
			mu.Unlock()
		}
	})
	closeDB(t, db)
	if len(e.told) != n+1 {
		t.Errorf("told %d of %d", len(e.told), n+1)
	}
}
