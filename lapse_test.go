package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// What a lapse of the lease must lead to, however it came about.

// A renewal that was sent before the lease ended, and reached the store after it, is a lapse: what others adopted
// in between is not served.
func TestRenewalThatComesLate(t *testing.T) {
	for _, strict := range []bool{true, false} {
		t.Run(fmt.Sprint("strict=", strict), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				mem := memory.New()
				start := time.Now()
				line := &tap{Store: mem}
				line.keepAlive = func(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
					switch at := time.Since(start); {
					case at == 0 || at > 4*time.Second:
					case at < 2600*time.Millisecond:
						return false, errors.New("down")
					default: // it is on its way for less than the call's time-out of a second
						select {
						case <-time.After(time.Until(start.Add(3500 * time.Millisecond))):
						case <-ctx.Done():
							return false, ctx.Err()
						}
					}
					return mem.KeepAlive(ctx, n, ttl)
				}
				a := openInts(t, line, kvstore.Options{Node: "a", Strict: strict})
				defer a.Close(ctx)
				b := openInts(t, mem, kvstore.Options{Node: "b"})
				defer b.Close(ctx)
				check(t, a.Put(ctx, "s", 1))
				check(t, a.Flush(ctx))
				time.Sleep(3200 * time.Millisecond) // a's lease of 3 s is over
				s, err := b.Adopt(ctx, "s")
				check(t, err)
				check(t, s.Put(ctx, "", 2))
				check(t, s.Sync(ctx))
				time.Sleep(time.Minute)
				if v, err := a.Get(ctx, "s"); err == nil {
					t.Errorf("a minute after b adopted the session and changed it to 2, a (health: %v) serves %d", a.Health(), v)
				}
			})
		})
	}
}

// A session that cannot be verified does not keep the others from being.
func TestAuditPassesDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		var cut atomic.Bool
		line := &tap{Store: mem}
		line.keepAlive = func(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
			if cut.Load() {
				return false, errors.New("down")
			}
			return mem.KeepAlive(ctx, n, ttl)
		}
		line.load = func(ctx context.Context, id string, keys []string) (store.Snapshot, error) {
			if id == "s0" {
				return store.Snapshot{}, &store.CorruptError{Session: id, Header: true, Reason: "bit rot"}
			}
			return mem.Load(ctx, id, keys...)
		}
		a := openInts(t, line, kvstore.Options{Node: "a"})
		defer a.Close(ctx)
		b := openInts(t, mem, kvstore.Options{Node: "b"})
		defer b.Close(ctx)
		const n = 64
		for i := range n {
			check(t, a.Put(ctx, fmt.Sprint("s", i), 1))
		}
		check(t, a.Flush(ctx))
		cut.Store(true)
		time.Sleep(5 * time.Second)
		for i := range n {
			check(t, b.Put(ctx, fmt.Sprint("s", i), 2))
		}
		check(t, b.Flush(ctx))
		cut.Store(false)
		time.Sleep(time.Hour)
		stale := 0
		for i := 1; i < n; i++ {
			if _, err := a.Get(ctx, fmt.Sprint("s", i)); err == nil {
				stale++
			}
		}
		if stale > 0 {
			t.Errorf("an hour after the lapse %d of %d sessions that another node adopted are served stale: one damaged header stops the audit", stale, n-1)
		}
	})
}

// In strict mode what began before the end of the lease, and took longer, is not served either.
func TestStrictAtTheEnd(t *testing.T) {
	for _, what := range []string{"update", "put"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				mem := memory.New()
				line := storetest.NewFaults(mem)
				a, err := kvstore.Open[string](ctx, line, kvstore.Options{Node: "a", Strict: true, MaxBuffer: 4096, StoreTimeout: time.Minute})
				check(t, err)
				defer a.Close(over())
				b, err := kvstore.Open[string](ctx, mem, kvstore.Options{Node: "b"})
				check(t, err)
				defer b.Close(ctx)
				check(t, a.Put(ctx, "s", "old"))
				check(t, a.Put(ctx, "big", ""))
				check(t, a.Flush(ctx))
				s, err := a.Session(ctx, "s")
				check(t, err)
				slow := storetest.Every(storetest.Fault{Delay: 5 * time.Second}, storetest.Load, storetest.Apply)
				line.Inject(func(c storetest.Call) storetest.Fault {
					if c.Kind == storetest.KeepAlive {
						return storetest.Fault{Fail: storetest.Before}
					}
					return slow(c)
				})
				go func() {
					time.Sleep(4 * time.Second)
					n, err := b.Adopt(ctx, "s")
					check(t, err)
					check(t, n.Put(ctx, "", "new"))
					check(t, n.Sync(ctx))
				}()
				var read string
				switch what {
				case "update":
					err = s.Update(ctx, func(tx *kvstore.Tx[string]) error {
						time.Sleep(5 * time.Second) // or a load that takes so long
						v, err := tx.Get("")
						read = v
						return errors.Join(err, tx.Put("", v+"+"))
					})
				case "put":
					check(t, a.Put(ctx, "big", string(make([]byte, 3900))))
					err = s.Put(ctx, "k", string(make([]byte, 200)))
				}
				_, get := a.Get(ctx, "s")
				if !errors.Is(get, kvstore.ErrSuspended) {
					t.Fatalf("Get gives %v", get)
				}
				if err == nil {
					t.Errorf("%v after the lease was over %s was served: it read %q, and has no error", -a.Health().LeaseLeft, what, read)
				}
			})
		})
	}
}

// A caller that gives up says nothing of the store.
func TestCancelledIsNotUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		line := storetest.NewFaults(mem)
		orphan(t, mem, "s", 42)
		a := openInts(t, line, kvstore.Options{Node: "a"})
		defer a.Close(ctx)
		s, err := a.Adopt(ctx, "s")
		check(t, err)
		_, err = s.All(over())
		want(t, err, context.Canceled)
		if h := a.Health(); !h.OK() {
			t.Errorf("the store is well, a caller's context was over, and Health is %v: %v", h, h.LastError)
		}
	})
}

// A process of the same name ends the lease of this one, which it takes for a former incarnation. The next renewal
// finds that out.
func TestNamesake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		a := openInts(t, mem, kvstore.Options{Node: "n", Strict: true})
		defer a.Close(ctx)
		check(t, a.Put(ctx, "s", 1))
		check(t, a.Flush(ctx))
		time.Sleep(100 * time.Millisecond)
		b := openInts(t, mem, kvstore.Options{Node: "n", Strict: true}) // its successor; a is on its way out, or was stopped for a second
		defer b.Close(ctx)
		s, err := b.Adopt(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "", 2))
		check(t, s.Sync(ctx))
		time.Sleep(time.Minute)
		if v, err := a.Get(ctx, "s"); err == nil {
			t.Errorf("a minute after its lease was ended and s was adopted and changed to 2, a, strict, serves %d", v)
		}
	})
}

// A lease counts from before the call that asked for it: the store's clock began while the answer was on its way.
func TestLeaseCountsFromTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memory.New()
		line := &tap{Store: mem}
		line.keepAlive = func(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
			ran, err := mem.KeepAlive(ctx, n, ttl)
			time.Sleep(900 * time.Millisecond)
			return ran, err
		}
		db := openInts(t, line, kvstore.Options{Node: "a", Lease: 3 * time.Second})
		if left := db.Health().LeaseLeft; left != 2100*time.Millisecond {
			t.Errorf("the lease of 3 s was asked for 0.9 s ago, and is said to run for %v", left)
		}
		check(t, db.Close(context.Background()))
	})
}

// A strict node whose Release was given up does not know whether the store has done it, and granted the session to another:
// it serves it again when the store has taken the release back, and not before. While it is being released it is not read.
func TestStrictAfterAReleaseGivenUp(t *testing.T) {
	for _, adopted := range []bool{true, false} {
		t.Run(fmt.Sprint("adopted ", adopted), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				mem := memory.New()
				deaf := make(chan struct{}) // until it is closed, the answers to releases, and whatever comes after, are lost
				var released bool
				line := &tap{Store: mem}
				line.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
					select {
					case <-deaf:
						return mem.Apply(ctx, cs)
					default:
					}
					if released {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					rs, err := mem.Apply(ctx, cs)
					if cs[0].Release {
						released = true
						<-ctx.Done()
						return nil, ctx.Err()
					}
					return rs, err
				}
				o := brisk("a")
				o.Strict, o.StoreTimeout = true, time.Second
				a := openInts(t, line, o)
				defer a.Close(ctx)
				s, err := a.AdoptOrCreate(ctx, "s")
				check(t, err)
				check(t, s.Put(ctx, "", 1))
				check(t, s.Sync(ctx))

				short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				gone := make(chan error, 1)
				go func() { gone <- a.Release(short, "s") }()
				time.Sleep(50 * time.Millisecond)
				_, err = s.Get(ctx, "")
				want(t, err, kvstore.ErrReleased)
				want(t, <-gone, context.DeadlineExceeded)

				if adopted {
					b := openInts(t, mem, brisk("b"))
					defer b.Close(ctx)
					_, err := b.Adopt(ctx, "s")
					check(t, err)
				}
				_, err = s.Get(ctx, "")
				want(t, err, kvstore.ErrSuspended)
				want(t, s.Put(ctx, "", 2), kvstore.ErrSuspended)
				_, err = a.Get(ctx, "s")
				want(t, err, kvstore.ErrSuspended)

				close(deaf)
				time.Sleep(5 * time.Second)
				_, err = s.Get(ctx, "")
				if adopted {
					want(t, err, kvstore.ErrFenced)
				} else {
					check(t, err)
					check(t, s.Put(ctx, "", 2))
				}
			})
		})
	}
}

// What has become of a handle's session here, a handle says also after a lapse: the store is not asked, as it has the next
// tenure or life on record, which is this node's as well.
func TestHandleThatLeftBeforeALapse(t *testing.T) {
	for name, c := range map[string]struct {
		leave func(ctx context.Context, db *kvstore.DB[int]) error
		why   error
	}{
		"deleted":  {func(ctx context.Context, db *kvstore.DB[int]) error { return db.Delete(ctx, "s") }, kvstore.ErrNotFound},
		"released": {func(ctx context.Context, db *kvstore.DB[int]) error { return db.Release(ctx, "s") }, kvstore.ErrReleased},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				mem := memory.New()
				o := brisk("a")
				o.Strict, o.Lease = true, 3*time.Second
				db := openInts(t, mem, o)
				defer db.Close(ctx)
				old, err := db.AdoptOrCreate(ctx, "s")
				check(t, err)
				check(t, c.leave(ctx, db))
				check(t, db.Flush(ctx))
				_, err = db.AdoptOrCreate(ctx, "s")
				check(t, err)
				endLease(t, mem, "a")
				time.Sleep(o.Lease)
				_, err = old.Get(ctx, "")
				want(t, err, c.why)
				want(t, old.Put(ctx, "", 1), c.why)
			})
		})
	}
}
