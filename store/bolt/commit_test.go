package bolt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// commits returns how many transactions were ever committed to the file.
func commits(t *testing.T, s *Store) (n int) {
	t.Helper()
	err := s.db.View(func(tx *bbolt.Tx) error {
		n = tx.ID()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// busy takes the turn to write, waits until n calls queue for it, and gives it back.
func busy(s *Store, n int, then func()) {
	s.turn <- struct{}{}
	go func() {
		synctest.Wait()
		s.queueMu.Lock()
		if len(s.queue) != n {
			panic(fmt.Sprintf("%d calls are waiting, want %d", len(s.queue), n))
		}
		s.queueMu.Unlock()
		if then != nil {
			then()
			synctest.Wait()
		}
		<-s.turn
	}()
}

func TestCallsShareACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, temp(t), nil)
		before := commits(t, s)
		o := owner("a")
		const calls = 50
		busy(s, 2*calls, nil)
		var wg sync.WaitGroup
		for i := range calls {
			wg.Go(func() {
				rs, err := s.Apply(t.Context(), []store.Change{
					{Session: fmt.Sprint("s", i), Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: entries("", "v")},
					{Session: "all", Owner: owner("x"), Epoch: uint64(i + 1), Seq: 1, Create: true},
				})
				if err != nil || rs[0].Outcome != store.Applied {
					t.Errorf("Apply gives %+v, %v", rs, err)
				}
			})
			wg.Go(func() {
				c, err := s.Claim(t.Context(), store.ClaimRequest{Session: "claimed", Owner: owner("b"), Create: true})
				if err != nil || c.Outcome != store.Granted {
					t.Errorf("Claim gives %+v, %v", c, err)
				}
			})
		}
		wg.Wait()
		if n := commits(t, s) - before; n != 1 {
			t.Errorf("%d calls took %d commits, want 1", 2*calls, n)
		}
		// Each claim saw the one before it, though all were in one transaction.
		if snap, err := s.Load(t.Context(), "claimed"); err != nil || snap.Header.Epoch != calls {
			t.Errorf("after %d claims: %+v, %v", calls, snap.Header, err)
		}
	})
}

func TestNothingToWriteIsNoCommit(t *testing.T) {
	s := open(t, temp(t), nil)
	o := owner("a")
	c := store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Create: true}
	apply(t, s, c, store.Applied)
	before := commits(t, s)
	apply(t, s, c, store.Already)
	c.Epoch = 2
	c.Create = false
	apply(t, s, c, store.Fenced)
	if _, err := s.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: o}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Claim(t.Context(), store.ClaimRequest{Session: "none", Owner: o}); err != nil {
		t.Fatal(err)
	}
	if n := commits(t, s) - before; n != 0 {
		t.Errorf("what changed nothing took %d commits", n)
	}
}

// TestGrantsWaitForCommits repeats a claim while a commit runs, which may be the one that granted it.
func TestGrantsWaitForCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, temp(t), nil)
		a := owner("a")
		apply(t, s, store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 1, Create: true, Puts: entries("", "v")}, store.Applied)
		if _, err := s.KeepAlive(t.Context(), store.Node{Incarnation: a.Incarnation}, 1<<40); err != nil {
			t.Fatal(err)
		}
		committed := false
		before := commits(t, s)
		busy(s, 1, func() { committed = true })
		for want, r := range map[store.ClaimOutcome]store.ClaimRequest{
			store.Held:     {Session: "s", Owner: owner("b"), All: true},
			store.NotFound: {Session: "none", Owner: owner("b")},
		} {
			if c, err := s.Claim(t.Context(), r); err != nil || c.Outcome != want || committed {
				t.Errorf("while a commit runs, a claim gives %v, %v; want %v at once", c.Outcome, err, want)
			}
		}
		c, err := s.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: a, All: true})
		if err != nil || c.Outcome != store.Granted || len(c.Entries) != 1 || !committed {
			t.Errorf("a claim that was granted before gives %+v, %v; after the commit that runs: %v", c, err, committed)
		}
		if n := commits(t, s) - before; n != 0 {
			t.Errorf("it took %d commits", n)
		}
	})
}

// TestContextWhileWaiting cancels calls that wait for their turn: of those nothing is done.
func TestContextWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, temp(t), nil)
		o := owner("a")
		ctx, cancel := context.WithCancel(t.Context())
		busy(s, 2, cancel)
		var wg sync.WaitGroup
		for _, ctx := range []context.Context{ctx, t.Context()} {
			wg.Go(func() {
				id := fmt.Sprint(ctx == t.Context())
				_, err := s.Apply(ctx, []store.Change{{Session: id, Owner: o, Epoch: 1, Seq: 1, Create: true}})
				if errors.Is(err, context.Canceled) != (ctx != t.Context()) || ctx == t.Context() && err != nil {
					t.Errorf("Apply gives %v", err)
				}
			})
		}
		wg.Wait()
		if snap, err := s.Load(t.Context(), "false"); err != nil || snap.Header.Epoch != 0 {
			t.Errorf("a call that was cancelled while it waited was done: %+v, %v", snap, err)
		}
		if snap, err := s.Load(t.Context(), "true"); err != nil || snap.Header.Epoch != 1 {
			t.Errorf("a call beside it was not done: %+v, %v", snap, err)
		}
		if err := s.Check(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Check gives %v", err)
		}
	})
}
