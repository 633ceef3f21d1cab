package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// The orphans of a store that decides many claims in one question, in virtual time.

// claimer is a tap on such a store.
type claimer struct {
	tap
	inner *memory.Store
	all   func(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error)
}

func (c *claimer) ClaimAll(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
	if c.all != nil {
		return c.all(ctx, rs)
	}
	return c.inner.ClaimAll(ctx, rs)
}

func newClaimer() *claimer {
	m := memory.New()
	return &claimer{tap: tap{Store: m}, inner: m}
}

// Orphans are adopted many at a time, at the same rate.
func TestOrphansInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, rate = 1000, 500
		ctx := context.Background()
		c := newClaimer()
		leave(t, c, n)
		asked, single := []int{}, 0
		c.all = func(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
			asked = append(asked, len(rs))
			return c.inner.ClaimAll(ctx, rs)
		}
		c.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
			single++
			return c.inner.Claim(ctx, r)
		}
		db := openInts(t, c, kvstore.Options{Node: "b"})
		start := time.Now()
		got, err := db.AdoptOrphans(ctx, kvstore.Takeover{Rate: rate})
		check(t, err)
		if got.Adopted != n || got.Seen != n || single != 0 || len(asked) != n/(rate/10) {
			t.Errorf("%+v, in questions of %v and %d single ones", got, asked, single)
		}
		if took, want := time.Since(start), time.Duration(n-rate/10)*time.Second/rate; took != want {
			t.Errorf("it took %v, want %v", took, want)
		}
		for i := range n {
			if v, err := db.Get(ctx, fmt.Sprint(i)); v != i || err != nil {
				t.Fatalf("session %d is %d, %v", i, v, err)
			}
		}
		closeDB(t, db)
	})
}

// Who wants a session that is in a question under way waits for that one; what it asks for itself, the question does not.
func TestOrphansMeetDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		c := newClaimer()
		leave(t, c, 100)
		var single atomic.Int64
		c.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
			single.Add(1)
			time.Sleep(time.Second)
			return c.inner.Claim(ctx, r)
		}
		questioned := make(chan []store.ClaimRequest, 1)
		c.all = func(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
			questioned <- rs
			time.Sleep(time.Second)
			return c.inner.ClaimAll(ctx, rs)
		}
		db := openInts(t, c, kvstore.Options{Node: "b", StoreTimeout: 5 * time.Second})
		go db.Adopt(ctx, "7")
		synctest.Wait()
		passed := make(chan kvstore.Orphans)
		go func() {
			got, err := db.AdoptOrphans(ctx, kvstore.Takeover{Rate: 1e6})
			check(t, err)
			passed <- got
		}()
		rs := <-questioned
		for _, r := range rs {
			if r.Session == "7" {
				t.Error("it asks for what is asked for already")
			}
		}
		if _, err := db.Adopt(ctx, "8"); err != nil {
			t.Errorf("session 8: %v", err)
		}
		if got := <-passed; got.Adopted != 100 || len(rs) != 99 || single.Load() != 1 {
			t.Errorf("%+v, %d in the question, %d single ones", got, len(rs), single.Load())
		}
		closeDB(t, db)
	})
}

// A question that fails ends the pass, and the next pass goes on; one answer that is missing is that session's matter.
func TestOrphansQuestionFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		c := newClaimer()
		leave(t, c, 100)
		boom := errors.New("boom")
		for _, applied := range []bool{false, true} {
			c.all = func(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
				if applied {
					c.inner.ClaimAll(ctx, rs[:len(rs)/2])
				}
				return nil, boom
			}
			db := openInts(t, c, kvstore.Options{Node: "b"})
			got, err := db.AdoptOrphans(ctx, kvstore.Takeover{Rate: 1e6})
			if !errors.Is(err, boom) || got.Adopted != 0 {
				t.Errorf("%+v, %v", got, err)
			}
			c.all = func(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
				cs, err := c.inner.ClaimAll(ctx, rs)
				for i := range cs {
					if rs[i].Session == "3" {
						cs[i] = store.Claim{Err: &store.CorruptError{Session: "3", Header: true, Reason: "test"}}
					}
				}
				return cs, err
			}
			got, err = db.AdoptOrphans(ctx, kvstore.Takeover{Rate: 1e6})
			var damaged *store.CorruptError
			if !errors.As(err, &damaged) || damaged.Session != "3" || got.Adopted != 99 || got.Damaged != 1 {
				t.Errorf("%+v, %v", got, err)
			}
			if v, err := db.Get(ctx, "4"); v != 4 || err != nil {
				t.Errorf("session 4 is %d, %v", v, err)
			}
			c.all = nil
			closeDB(t, db)
		}
	})
}

// A store that answers fewer claims than it was asked is an error, and no panic.
func TestOrphansQuestionHalfAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClaimer()
		leave(t, c, 10)
		c.all = func(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
			cs, err := c.inner.ClaimAll(ctx, rs)
			return cs[:len(cs)/2], err
		}
		db := openInts(t, c, kvstore.Options{Node: "b"})
		got, err := db.AdoptOrphans(context.Background(), kvstore.Takeover{Rate: 1e6})
		if err == nil || !strings.Contains(err.Error(), "5 answers to 10 claims") || got.Adopted != 0 {
			t.Errorf("%+v, %v", got, err)
		}
		closeDB(t, db)
	})
}

// Close does not wait for a question's answer, and whoever waits for one is told.
func TestCloseEndsQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		c := newClaimer()
		leave(t, c, 10)
		c.all = func(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		db := openInts(t, c, kvstore.Options{Node: "b", StoreTimeout: time.Hour})
		failed := make(chan error, 2)
		go func() {
			_, err := db.AdoptOrphans(ctx, kvstore.Takeover{Rate: 1e6})
			failed <- err
		}()
		synctest.Wait()
		go func() {
			_, err := db.Adopt(ctx, "3")
			failed <- err
		}()
		synctest.Wait()
		closeDB(t, db)
		for range 2 {
			if err := <-failed; !errors.Is(err, kvstore.ErrClosed) {
				t.Errorf("error %v, want ErrClosed", err)
			}
		}
	})
}
