package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// Preload when something fails, ends, or is wanted at once.

// Whatever call fails, and however: a preload that says that all is here is right, one that does not says what is missing or that it did not come
// to its end, and another one, when the fault is over, brings the rest.
func TestFaultsPreload(t *testing.T) {
	const n = 40
	for _, kind := range []storetest.Kind{storetest.Sessions, storetest.Nodes, storetest.Claim, storetest.Load} {
		for _, fault := range linefaults {
			if fault.Split != nil {
				continue
			}
			for _, times := range []int{1, 5, -1} {
				t.Run(fmt.Sprint(kind, "/", fault.name, "/", times), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						o := newOutpost(t, kvstore.Options{Node: "a", Lease: time.Hour})
						prev := o.node(o.mem, kvstore.Options{Node: "a"})
						for i := range n {
							s, err := prev.AdoptOrCreate(o.ctx, fmt.Sprint(i))
							o.ok(err)
							o.ok(errors.Join(s.Put(o.ctx, "", "v"), s.Put(o.ctx, "k", "w")))
						}
						o.ok(prev.Close(o.ctx))
						o.line.Inject(storetest.First(times, fault.Fault, kind))
						here := func() (whole int) {
							o.line.Down(true)
							defer o.line.Down(false)
							for i := range n {
								s, err := o.db.Session(o.ctx, fmt.Sprint(i))
								if err != nil {
									continue
								}
								if v, err := s.Get(o.ctx, ""); err != nil || v != "v" {
									continue
								}
								if v, err := s.Get(o.ctx, "k"); err == nil && v == "w" {
									whole++
								}
							}
							return whole
						}
						short, cancel := context.WithTimeout(o.ctx, time.Minute)
						defer cancel()
						p, err := o.db.Preload(short, kvstore.Preload{Whole: true, Match: func(h store.Header) bool {
							if h.Session == "3" {
								o.db.Adopt(o.ctx, "3") // an event has it brought in, and not whole; if the store answers
							}
							return true
						}})
						o.ok(err)
						done, err := p.Wait(o.ctx)
						var failed *kvstore.PreloadError
						switch {
						case err == nil:
							if done.Adopted+done.Here != n || here() != n {
								t.Errorf("%d of %d are here, and the preload says nothing but %+v", here(), n, done)
							}
						case !errors.As(err, &failed):
							t.Errorf("the error is %v", err)
						case failed.Failed != done.Failed || len(failed.Missing) != done.Failed || failed.Err == nil && (done.Failed == 0 || !done.Complete || done.Done() != done.Total):
							t.Errorf("%+v, and the error is %v", done, err)
						case failed.Err != nil && !errors.Is(err, storetest.ErrInjected) && !errors.Is(err, context.DeadlineExceeded):
							t.Errorf("the preload ended with %v", err)
						case done.Adopted+done.Here > here():
							t.Errorf("%d are here, not %+v", here(), done)
						}
						if failed != nil {
							for id, why := range failed.Missing {
								if why == nil || !strings.Contains(why.Error(), strconv.Quote(id)) {
									t.Errorf("session %s is missing because %v", id, why)
								}
							}
						}
						if times < 0 && fault.Fail != storetest.Never && (err == nil || kind != storetest.Load && failed != nil && failed.Err == nil) {
							t.Errorf("no %v was answered, and the preload says %v, %+v", kind, err, done)
						}
						if times == 1 && kind == storetest.Claim && err != nil {
							t.Errorf("a claim that fails once is not repeated: %v", err)
						}
						o.line.Inject(nil)
						time.Sleep(time.Minute) // and what is late has come
						p, err = o.db.Preload(o.ctx, kvstore.Preload{Whole: true})
						o.ok(err)
						partly := 0 // what is here, and was told to be not whole, is not met any more
						if failed != nil && failed.Missing["3"] != nil {
							partly = 1
						}
						if done, err := p.Wait(o.ctx); err != nil || here() < n-partly {
							t.Errorf("the second time: %+v, %v; %d are here", done, err, here())
						}
						o.quiet()
					})
				})
			}
		}
	}
}

// Of many that fail the first hundred are told, and all are counted. One session's damage, of its header, an entry, or its code, stops no other.
func TestPreloadDamage(t *testing.T) {
	stores(t, func(t *testing.T, wrap func(*claimer) store.Store) {
		const n = 600
		ctx := context.Background()
		w := &walker{claimer: newClaimer()}
		leave(t, w, n)
		old := openInts(t, w, kvstore.Options{Node: "left"})
		s, err := old.AdoptOrCreate(ctx, "undecodable")
		check(t, err)
		check(t, s.Put(ctx, "k", failDecode))
		check(t, s.Put(ctx, "", 1))
		closeDB(t, old)
		damaged := func(id string) bool { i, err := strconv.Atoi(id); return err == nil && i%4 == 0 }
		bad := func(id string) error { return &store.CorruptError{Session: id, Header: true, Reason: "test"} }
		w.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
			if damaged(r.Session) {
				return store.Claim{}, bad(r.Session)
			}
			return w.inner.Claim(ctx, r)
		}
		w.all = func(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
			cs, err := w.inner.ClaimAll(ctx, rs)
			for i, r := range rs {
				if damaged(r.Session) {
					cs[i] = store.Claim{Err: bad(r.Session)}
				}
			}
			return cs, err
		}
		sessions := func(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
			return func(yield func(store.Header, error) bool) {
				if !yield(store.Header{}, bad("unseen")) {
					return
				}
				w.claimer.Sessions(ctx, q)(yield)
			}
		}
		w.sessions = sessions
		var st store.Store = w
		if _, ok := wrap(w.claimer).(store.Claimer); !ok {
			st = bare{w}
		}
		db, err := kvstore.Open[int](ctx, st, kvstore.Options{Node: "left", Lease: time.Hour, Codec: moody{}})
		check(t, err)
		done, err := preload(t, db, fast(kvstore.Preload{Whole: true, Count: true}))
		var e *kvstore.PreloadError
		if !errors.As(err, &e) || e.Err != nil || e.Failed != n/4+2 || len(e.Missing) != 100 || done.Failed != e.Failed || done.Adopted != n-n/4 || done.Total != n+2 || !done.Complete {
			t.Errorf("%+v, %.300v", done, err)
		}
		for id, why := range e.Missing {
			if !damaged(id) && id != "undecodable" && id != "unseen" || why == nil {
				t.Errorf("session %s is missing: %v", id, why)
			}
		}
		var corrupt *store.CorruptError
		if !errors.As(err, &corrupt) || e.Missing["unseen"] == nil {
			t.Errorf("the error is %v", err)
		}
		if says := err.Error(); len(says) > 1000 || !strings.Contains(says, "152 sessions could not be brought in") {
			t.Errorf("it says %.1100q", says)
		}
		for i := range n {
			if v, err := db.Get(ctx, strconv.Itoa(i)); (err == nil && v == i) != (i%4 != 0) {
				t.Errorf("session %d is %d, %v", i, v, err)
			}
		}
		// What can be read of a session of which an entry cannot be is here.
		if s, err := db.Session(ctx, "undecodable"); err != nil {
			t.Error(err)
		} else if v, err := s.Get(ctx, ""); v != 1 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		closeDB(t, db)
	})
}

// Sessions about which the store never answers are failures, and do not end a preload in which it answers about others.
func TestPreloadHalfMute(t *testing.T) {
	stores(t, func(t *testing.T, wrap func(*claimer) store.Store) {
		const n = 400
		c := newClaimer()
		leave(t, c, n)
		mute := func(id string) bool { i, _ := strconv.Atoi(id); return i%8 == 0 }
		c.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
			if mute(r.Session) {
				return store.Claim{}, errDown
			}
			return c.inner.Claim(ctx, r)
		}
		c.all = func(ctx context.Context, rs []store.ClaimRequest) (cs []store.Claim, _ error) {
			for _, r := range rs {
				cl, err := c.claim(ctx, r)
				cl.Err = err
				cs = append(cs, cl)
			}
			return cs, nil
		}
		db := openInts(t, wrap(c), kvstore.Options{Node: "left", Lease: time.Hour})
		done, err := preload(t, db, fast(kvstore.Preload{}))
		var e *kvstore.PreloadError
		if !errors.As(err, &e) || e.Err != nil || e.Failed != n/8 || done.Adopted != n-n/8 || !errors.Is(err, errDown) {
			t.Errorf("%+v, %.300v", done, err)
		}
		closeDB(t, db)
	})
}

// What was taken by another node, or deleted, since the walk met it is no failure.
func TestPreloadTooLate(t *testing.T) {
	stores(t, func(t *testing.T, wrap func(*claimer) store.Store) {
		const n = 300
		ctx := context.Background()
		w := &walker{claimer: newClaimer()}
		leave(t, w, n)
		other := openInts(t, w.claimer, kvstore.Options{Node: "other", Lease: time.Hour})
		db := openInts(t, wrapped(w, wrap), kvstore.Options{Node: "left", Lease: time.Hour})
		w.sessions = func(_ context.Context, q store.Query) iter.Seq2[store.Header, error] {
			return func(yield func(store.Header, error) bool) {
				for h, err := range w.claimer.Sessions(ctx, q) {
					check(t, err)
					switch i, _ := strconv.Atoi(h.Session); i % 10 {
					case 0:
						_, err = other.Adopt(ctx, h.Session)
					case 1:
						check(t, other.Delete(ctx, h.Session))
						err = other.Flush(ctx)
					case 2:
						_, err = db.Adopt(ctx, h.Session)
					}
					check(t, err)
					if !yield(h, nil) {
						return
					}
				}
			}
		}
		done, err := preload(t, db, fast(kvstore.Preload{}))
		// Whether one is dealt with as it was met, or as it is found, depends on whose turn it is.
		if err != nil || done.Others != n/10 || done.Gone != n/10 || done.Here != n/10 || done.Adopted != n-3*n/10 {
			t.Errorf("%+v, %v", done, err)
		}
		closeDB(t, db)
		closeDB(t, other)
	})
}

func wrapped(w *walker, wrap func(*claimer) store.Store) store.Store {
	if _, ok := wrap(w.claimer).(store.Claimer); ok {
		return w
	}
	return bare{w}
}

// An event's session comes at once, however much is before it, and while an event waits for the store nothing else is begun.
func TestDemandOvertakesPreload(t *testing.T) {
	stores(t, func(t *testing.T, wrap func(*claimer) store.Store) {
		const n = 2000
		ctx := context.Background()
		c := newClaimer()
		leave(t, c, n)
		var demand atomic.Bool
		var busy, begun atomic.Int32
		var mu sync.Mutex
		claimed := map[string]bool{}
		background := func(rs ...store.ClaimRequest) {
			if demand.Load() {
				busy.Add(1)
			}
			begun.Add(1)
			mu.Lock()
			for _, r := range rs {
				claimed[r.Session] = true
			}
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
		}
		var event atomic.Value
		event.Store("")
		c.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
			if r.Session == event.Load() {
				time.Sleep(40 * time.Millisecond)
			} else {
				background(r)
			}
			return c.inner.Claim(ctx, r)
		}
		c.all = func(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
			background(rs...)
			return c.inner.ClaimAll(ctx, rs)
		}
		db := openInts(t, wrap(c), kvstore.Options{Node: "left", Lease: time.Hour})
		p, err := db.Preload(ctx, kvstore.Preload{Rate: 1000})
		check(t, err)
		for range 5 {
			time.Sleep(30*time.Millisecond + 500*time.Microsecond) // beside everything that the background does
			mu.Lock()
			for i := n - 1; ; i-- {
				if id := strconv.Itoa(i); !claimed[id] {
					claimed[id] = true
					event.Store(id)
					break
				}
			}
			mu.Unlock()
			start := time.Now()
			demand.Store(true)
			_, err := db.Adopt(ctx, event.Load().(string))
			demand.Store(false)
			check(t, err)
			if d := time.Since(start); d > 40*time.Millisecond {
				t.Errorf("an event waited %v for its session", d)
			}
			time.Sleep(500 * time.Microsecond)
		}
		if busy.Load() > 0 || begun.Load() == 0 {
			t.Errorf("%d of %d background questions began while an event waited", busy.Load(), begun.Load())
		}
		done, err := p.Wait(ctx)
		if err != nil || done.Adopted+done.Here < n-5 || db.Stats().Resident != n {
			t.Errorf("in the end: %+v, %v", done, err)
		}
		closeDB(t, db)
	})
}

// Its context, Drain and Close end a preload, wherever it is, and what was done is told. Each is in a bubble, which fails if a goroutine is left.
func TestPreloadEnds(t *testing.T) {
	const n = 1800
	for _, where := range []string{"in a claim", "in the walk", "in its turn", "in a retry", "in the predicate"} {
		for _, how := range []string{"context", "drain", "close", "both"} {
			t.Run(where+"/"+how, func(t *testing.T) {
				stores(t, func(t *testing.T, wrap func(*claimer) store.Store) {
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					w := &walker{claimer: newClaimer()}
					leave(t, w, n)
					base, _ := bubbled()
					p := fast(kvstore.Preload{Progress: func(kvstore.Preloaded) {}})
					switch where {
					case "in a claim":
						w.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
							if len(r.Session) == 4 {
								<-ctx.Done()
								return store.Claim{}, ctx.Err()
							}
							return w.inner.Claim(ctx, r)
						}
						w.all = func(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
							<-ctx.Done()
							return nil, ctx.Err()
						}
					case "in the walk":
						w.sessions = func(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
							return func(yield func(store.Header, error) bool) {
								for h, err := range w.claimer.Sessions(ctx, q) {
									if !yield(h, err) {
										return
									}
									if h.Session == "1000" {
										<-ctx.Done()
										yield(store.Header{}, ctx.Err())
										return
									}
								}
							}
						}
					case "in its turn":
						p.Rate = 10
					case "in a retry":
						w.claim = func(context.Context, store.ClaimRequest) (store.Claim, error) { return store.Claim{}, errDown }
						w.all = func(context.Context, []store.ClaimRequest) ([]store.Claim, error) { return nil, errDown }
					case "in the predicate":
						p.Match = func(store.Header) bool { time.Sleep(time.Millisecond); return true }
					}
					db := openInts(t, wrapped(w, wrap), kvstore.Options{Node: "left", Lease: time.Hour, StoreTimeout: time.Hour, RetryMin: time.Hour, RetryMax: time.Hour})
					job, err := db.Preload(ctx, p)
					check(t, err)
					time.Sleep(1550*time.Millisecond + time.Microsecond)
					var why error
					start := time.Now()
					switch how {
					case "context":
						cancel()
						why = context.Canceled
					case "drain":
						if where == "in a claim" { // which may have been granted, so Drain waits for its answer
							go func() { time.Sleep(time.Second); closeDB(t, db) }()
							want(t, db.Drain(context.Background()), kvstore.ErrClosed)
						} else {
							check(t, db.Drain(context.Background()))
						}
						why = kvstore.ErrDraining
					case "close":
						closeDB(t, db)
						why = kvstore.ErrClosed
					case "both":
						go cancel()
						closeDB(t, db)
						why = nil
					}
					if how != "context" {
						if is, err := job.Wait(over()); err == context.Canceled {
							t.Errorf("%s does not wait for its end: %+v", how, is)
						}
					}
					done, err := job.Wait(context.Background())
					if why != nil {
						want(t, err, why)
					}
					var e *kvstore.PreloadError
					if !errors.As(err, &e) || e.Err == nil || done.Done() >= n || e.Failed != 0 {
						t.Errorf("%+v, %v", done, err)
					}
					if took := time.Since(start); took > 2*time.Second {
						t.Errorf("it took %v to end", took)
					}
					if how == "context" && done.Adopted != db.Stats().Resident {
						t.Errorf("%+v, and %d are here", done, db.Stats().Resident)
					}
					if (where == "in its turn" || where == "in the predicate") && done.Adopted == 0 {
						t.Errorf("what was done is not told: %+v", done)
					}
					_, err = db.Preload(context.Background(), kvstore.Preload{})
					switch how {
					case "context":
						check(t, err)
					case "drain":
						want(t, err, kvstore.ErrDraining, kvstore.ErrClosed)
					default:
						want(t, err, kvstore.ErrClosed)
					}
					closeDB(t, db)
					synctest.Wait()
					if n, stacks := bubbled(); n > base {
						t.Errorf("%d goroutines are left:\n%s", n-base, stacks)
					}
				})
			})
		}
	}
}

// A wait that is given up does not end the preload.
func TestPreloadWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClaimer()
		leave(t, c, 100)
		db := openInts(t, c, kvstore.Options{Node: "left", Lease: time.Hour})
		p, err := db.Preload(context.Background(), kvstore.Preload{Rate: 10})
		check(t, err)
		short, cancel := context.WithTimeout(context.Background(), 5*time.Second-time.Millisecond)
		defer cancel()
		is, err := p.Wait(short)
		want(t, err, context.DeadlineExceeded)
		if is.Adopted != 50 {
			t.Errorf("half-way: %+v", is)
		}
		is, err = p.Wait(context.Background())
		if err != nil || is.Adopted != 100 {
			t.Errorf("%+v, %v", is, err)
		}
		closeDB(t, db)
	})
}

// Nodes preload the same sessions while events change, delete and hand over some: every session is in one memory at most, with its last value.
func TestPreloadRace(t *testing.T) {
	for round := range rounds(20) {
		const n, nodes = 400, 3
		ctx := context.Background()
		mem := memory.New()
		leave(t, mem, n)
		var st store.Store = mem
		if round%2 == 1 {
			st = bare{mem}
		}
		dbs := make([]*kvstore.DB[int], nodes)
		for i := range dbs {
			o := brisk([]string{"left", "b", "c"}[i])
			if round%4 == 3 {
				o.MaxResident = 300
			}
			dbs[i] = openInts(t, st, o)
		}
		want := make([]atomic.Int64, n)
		for i := range n {
			want[i].Store(int64(i))
		}
		together(3*nodes, func(g int) {
			db := dbs[g%nodes]
			if g < nodes {
				p, err := db.Preload(ctx, fast(kvstore.Preload{Share: []kvstore.Share{kvstore.Former, kvstore.ByRing, kvstore.Unowned}[(g+round)%3], Whole: round%3 == 0,
					Every: time.Millisecond, Progress: func(kvstore.Preloaded) { runtime.Gosched() }}))
				if err != nil && g%nodes == 0 {
					t.Error(err)
					return
				}
				for !t.Failed() {
					is := p.Progress()
					if is.Done() > is.Total {
						t.Errorf("%+v", is)
					}
					ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
					_, err := p.Wait(ctx)
					cancel()
					if err == nil {
						return
					}
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
				}
				return
			}
			for range n {
				i := rand.IntN(n)/(3*nodes)*(3*nodes) + g // nobody else writes it
				if i >= n {
					continue
				}
				id, v := strconv.Itoa(i), rand.Int64N(1<<30)
				err := db.Put(ctx, id, int(v))
				switch {
				case errors.Is(err, kvstore.ErrOwned):
					_, err = db.Steal(ctx, id) // and its former owner must not serve it any more, once it has heard of that
					if err == nil {
						err = db.Put(ctx, id, int(v))
					}
				case err == nil && i%7 == 0:
					err = db.Release(ctx, id)
				}
				if err != nil {
					t.Errorf("session %d: %v", i, err)
				}
				want[i].Store(v)
			}
		})
		for _, db := range dbs {
			closeDB(t, db)
		}
		owners := 0
		for i := range n {
			h, got := ints(t, mem, strconv.Itoa(i))
			if got[""] != int(want[i].Load()) {
				t.Errorf("session %d is %d, want %d; %+v", i, got[""], want[i].Load(), h)
			}
			if h.Owner.Node != "" {
				owners++
			}
		}
		if owners != n {
			t.Errorf("%d sessions have owners", owners)
		}
	}
}
