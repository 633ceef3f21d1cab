package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// Who brings a session in finds the other one gone already: what is in memory, and what goes next, is not a matter of who of the two goes on first.
func TestEvictsBeforeItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		const limit, sessions = 3, 10
		mem := memory.New()
		first := openInts(t, mem, brisk("first"))
		for i := range sessions {
			check(t, first.Put(ctx, fmt.Sprint(i), i))
		}
		check(t, first.Close(ctx))
		o := brisk("a")
		o.MaxResident = limit
		db := openInts(t, mem, o)
		defer db.Close(ctx)
		for i := range 100 * sessions {
			_, err := db.Adopt(ctx, fmt.Sprint(i%sessions))
			check(t, err)
			if n := db.Stats().Resident; n > limit {
				t.Fatalf("after %d adoptions %d clean sessions are in memory, the limit is %d", i+1, n, limit)
			}
		}
	})
}

// A scan of many sessions that are touched once does not drive out those that are touched again and again.
func TestEvictionResistsScans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		const limit, hot, scanned = 100, 40, 3000
		o := brisk("a")
		o.MaxResident = limit
		db := openInts(t, memory.New(), o)
		defer db.Close(ctx)
		touch := func(i int) {
			_, err := db.Get(ctx, fmt.Sprint("hot", i))
			check(t, err)
		}
		for i := range hot {
			check(t, db.Put(ctx, fmt.Sprint("hot", i), i))
		}
		check(t, db.Flush(ctx))
		for i := range hot {
			touch(i)
		}
		before := db.Stats()
		for i := range scanned {
			check(t, db.Put(ctx, fmt.Sprint("scanned", i), i))
			if i%10 == 9 {
				check(t, db.Flush(ctx))
				synctest.Wait() // for the eviction, which keeps pace
				for i := range hot {
					touch(i)
				}
			}
		}
		s := db.Stats().Sub(before)
		// The hand's first round finds all touched and spares none; first in, first out loads 1,680 again.
		if s.Reloaded > 2*hot {
			t.Errorf("%d hot sessions were loaded again %d times during a scan", hot, s.Reloaded)
		}
		if s.Resident > 2*limit || s.Evicted < scanned-2*limit {
			t.Errorf("%d sessions are resident, %d were evicted; the limit is %d", s.Resident, s.Evicted, limit)
		}
		for i := range scanned { // what was evicted is owned, and there
			if v, err := db.Get(ctx, fmt.Sprint("scanned", i)); v != i || err != nil {
				t.Fatalf("scanned%d is %d, %v", i, v, err)
			}
		}
	})
}

// A DB that was closed is garbage when nobody has it, whatever it evicted, and whoever had a handle on that.
func TestClosedIsGarbage(t *testing.T) {
	var gone weak.Pointer[kvstore.DB[int]]
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		o := brisk("a")
		o.MaxResident = 2
		db := openInts(t, memory.New(), o)
		gone = weak.Make(db)
		var handles []*kvstore.Session[int]
		for i := range 50 {
			s, err := db.AdoptOrCreate(ctx, fmt.Sprint(i))
			check(t, err)
			check(t, s.Put(ctx, "", i))
			check(t, db.Flush(ctx))
			handles = append(handles, s)
		}
		for i, s := range handles {
			if v, err := s.Get(ctx, ""); v != i || err != nil {
				t.Errorf("%d reads as %d, %v", i, v, err)
			}
		}
		check(t, db.Close(ctx))
	})
	runtime.GC()
	if gone.Value() != nil {
		t.Error("something holds it")
	}
}

// unwalked is a store whose sessions cannot be walked: after a lapse of the lease no audit gets anywhere, and whoever uses a
// session has to ask for it.
type unwalked struct{ *tap }

func (unwalked) Sessions(context.Context, store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) { yield(store.Header{}, errors.New("no walk")) }
}

// A handle whose session was evicted looks it up again before it says that the session was fenced. The store cannot tell: if the
// session was deleted here and made anew, it is on record in an epoch that is not the handle's, and still this node's.
func TestFenceOnAnEvictedHandle(t *testing.T) {
	ops := map[string]func(ctx context.Context, s *kvstore.Session[int]) error{
		"Get":    func(ctx context.Context, s *kvstore.Session[int]) error { _, err := s.Get(ctx, ""); return err },
		"load":   func(ctx context.Context, s *kvstore.Session[int]) error { _, err := s.Get(ctx, "leg"); return err },
		"All":    func(ctx context.Context, s *kvstore.Session[int]) error { _, err := s.All(ctx); return err },
		"Put":    func(ctx context.Context, s *kvstore.Session[int]) error { return s.Put(ctx, "", 9) },
		"Expire": func(ctx context.Context, s *kvstore.Session[int]) error { return s.Expire(ctx, time.Time{}) },
		"Sync":   func(ctx context.Context, s *kvstore.Session[int]) error { return s.Sync(ctx) },
		"Update": func(ctx context.Context, s *kvstore.Session[int]) error {
			return s.Update(ctx, func(tx *kvstore.Tx[int]) error { return tx.Put("", 9) })
		},
	}
	for name, op := range ops {
		for _, strict := range []bool{false, true} {
			for _, anew := range []bool{false, true} {
				for _, meanwhile := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s, strict %v, made anew %v, meanwhile %v", name, strict, anew, meanwhile), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							ctx := t.Context()
							mem := memory.New()
							var held atomic.Bool // the next load waits for arrive, whatever became of the session until then
							arrive := make(chan struct{})
							line := &tap{Store: mem}
							line.load = func(ctx context.Context, id string, keys []string) (store.Snapshot, error) {
								if held.CompareAndSwap(true, false) {
									<-arrive
								}
								return mem.Load(ctx, id, keys...)
							}
							o := brisk("a")
							o.Strict, o.MaxResident, o.Lease = strict, 1, 3*time.Second
							db := openInts(t, unwalked{line}, o)
							defer db.Close(ctx)
							evict := func() { // all but the last that comes
								for _, id := range []string{"x", "y", "x", "y"} {
									check(t, db.Put(ctx, id, 0))
									check(t, db.Flush(ctx))
									synctest.Wait()
								}
							}
							change := func() {
								if meanwhile { // what is being loaded changes: nothing waits for the load any more
									s, err := db.Session(ctx, "s")
									check(t, err)
									check(t, s.Put(ctx, "leg", 2))
									check(t, s.Sync(ctx))
								}
								evict()
								if anew {
									check(t, db.Delete(ctx, "s"))
									check(t, db.Flush(ctx)) // or the new life would be one write with that, and in the same epoch
									check(t, db.Put(ctx, "s", 3))
									check(t, db.Flush(ctx))
									if h, es := ints(t, mem, "s"); h.Epoch != 2 || es[""] != 3 {
										t.Fatalf("the new life is stored as %+v, %v", h, es)
									}
									evict()
								}
							}
							s, err := db.AdoptOrCreate(ctx, "s")
							check(t, err)
							check(t, s.Put(ctx, "", 1))
							check(t, s.Put(ctx, "leg", 1))
							check(t, s.Sync(ctx))
							evict()
							_, err = s.Get(ctx, "") // it is loaded again, and its leg is not
							check(t, err)

							done := make(chan struct{})
							if !meanwhile {
								change()
							}
							endLease(t, mem, "a")
							time.Sleep(o.Lease / 2) // a renewal has noticed that
							if meanwhile {
								held.Store(true)
								go func() {
									defer close(done)
									defer close(arrive)
									time.Sleep(time.Millisecond)
									held.Store(false)
									change()
								}()
							} else {
								close(done)
							}
							err = op(ctx, s)
							<-done
							if anew && (!meanwhile || err != nil) {
								want(t, err, kvstore.ErrNotFound)
							} else {
								check(t, err)
							}
							err = s.Put(ctx, "", 4)
							if anew {
								want(t, err, kvstore.ErrNotFound)
							} else {
								check(t, err)
							}
						})
					})
				}
			}
		}
	}
}

// Who wants a session that is just being loaded for somebody else gets what it asked for, and not what the other did: a load brings in
// a session that has expired, too.
func TestWaitsForAnothersLoad(t *testing.T) {
	for name, c := range map[string]struct {
		ask  func(ctx context.Context, db *kvstore.DB[int]) (*kvstore.Session[int], error)
		want error
	}{
		"AdoptOrCreate": {func(ctx context.Context, db *kvstore.DB[int]) (*kvstore.Session[int], error) {
			return db.AdoptOrCreate(ctx, "s")
		}, nil},
		"Create": {func(ctx context.Context, db *kvstore.DB[int]) (*kvstore.Session[int], error) {
			return db.Create(ctx, "s")
		}, nil},
		"Adopt": {func(ctx context.Context, db *kvstore.DB[int]) (*kvstore.Session[int], error) {
			return db.Adopt(ctx, "s")
		}, kvstore.ErrNotFound},
		"Steal": {func(ctx context.Context, db *kvstore.DB[int]) (*kvstore.Session[int], error) {
			return db.Steal(ctx, "s")
		}, kvstore.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				line := &tap{Store: memory.New()}
				line.load = func(ctx context.Context, id string, keys []string) (store.Snapshot, error) {
					time.Sleep(time.Second)
					return line.Store.Load(ctx, id, keys...)
				}
				o := brisk("a")
				o.MaxResident = 1
				db := openInts(t, line, o)
				defer db.Close(ctx)
				s, err := db.AdoptOrCreate(ctx, "s")
				check(t, err)
				check(t, s.Put(ctx, "", 1))
				check(t, s.Expire(ctx, time.Now().Add(time.Minute)))
				check(t, s.Sync(ctx))
				crowd(ctx, t, db)
				time.Sleep(time.Hour)
				go db.Get(ctx, "s")
				time.Sleep(time.Millisecond)
				h, err := c.ask(ctx, db)
				want(t, err, c.want)
				if err == nil {
					check(t, h.Put(ctx, "", 2))
					check(t, h.Sync(ctx))
				}
			})
		})
	}
}
