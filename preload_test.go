package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
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
)

// Preload: what comes in, how fast, and how far, in virtual time.

// fast is a preload that no rate holds up.
func fast(p kvstore.Preload) kvstore.Preload {
	p.Rate = math.MaxInt32
	return p
}

// preload does a whole preload.
func preload(t testing.TB, db *kvstore.DB[int], p kvstore.Preload) (kvstore.Preloaded, error) {
	t.Helper()
	job, err := db.Preload(context.Background(), p)
	check(t, err)
	done, err := job.Wait(context.Background())
	if again, err2 := job.Wait(over()); again != done || err2 != err {
		t.Errorf("Wait gives %+v, %v, and then %+v, %v", done, err, again, err2)
	}
	if done.Done() > done.Total || err == nil && !done.Full && (done.Done() != done.Total || !done.Complete) || done.Left != 0 {
		t.Errorf("%+v does not add up, error %v", done, err)
	}
	return done, err
}

// bare hides the optional powers of a store.
type bare struct{ store.Store }

// walker is a store that lets a test see its walks.
type walker struct {
	*claimer
	sessions func(ctx context.Context, q store.Query) iter.Seq2[store.Header, error]
}

func (w *walker) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	if w.sessions != nil {
		return w.sessions(ctx, q)
	}
	return w.claimer.Sessions(ctx, q)
}

// stores are those with which a preload is tried: one claim at a time, and many.
func stores(t *testing.T, f func(t *testing.T, wrap func(*claimer) store.Store)) {
	for name, wrap := range map[string]func(*claimer) store.Store{
		"single":  func(c *claimer) store.Store { return bare{c} },
		"claimer": func(c *claimer) store.Store { return c },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, wrap) })
		})
	}
}

// A node that was restarted finds what it had, and nothing else, in memory: with the entries that were asked for no event asks the store.
func TestPreloadFormer(t *testing.T) {
	for _, line := range []struct {
		name string
		p    kvstore.Preload
		hot  []string // keys that are in memory afterwards
		cold []string
	}{
		{"main", kvstore.Preload{}, []string{""}, []string{"k", "l", "none"}},
		{"keys", kvstore.Preload{Keys: []string{"l", "", "k", "l", "none"}}, []string{"", "k", "l", "none"}, []string{"m"}},
		{"whole", kvstore.Preload{Whole: true, Keys: []string{"k"}}, []string{"", "k", "l", "m", "none"}, nil},
	} {
		t.Run(line.name, func(t *testing.T) {
			stores(t, func(t *testing.T, wrap func(*claimer) store.Store) {
				const n = 700
				ctx := context.Background()
				c := newClaimer()
				other := openInts(t, c, kvstore.Options{Node: "b"})
				old := openInts(t, c, kvstore.Options{Node: "a"})
				for i := range n {
					check(t, other.Put(ctx, fmt.Sprint("b", i), i))
					s, err := old.AdoptOrCreate(ctx, fmt.Sprint("a", i))
					check(t, err)
					for j, k := range []string{"", "k", "l", "m"} {
						check(t, s.Put(ctx, k, i+j))
					}
				}
				brief, err := old.Session(ctx, "a0")
				check(t, err)
				check(t, brief.Expire(ctx, time.Now().Add(time.Second)))
				check(t, old.Delete(ctx, "a1"))
				check(t, old.Release(ctx, "a2")) // nobody took it
				check(t, old.Flush(ctx))
				closeDB(t, other)
				closeDB(t, old)
				time.Sleep(2 * time.Second)

				var asked atomic.Int64
				c.load = func(ctx context.Context, id string, keys []string) (store.Snapshot, error) {
					asked.Add(1)
					return c.Store.Load(ctx, id, keys...)
				}
				db := openInts(t, wrap(c), kvstore.Options{Node: "a", Lease: time.Hour})
				done, err := preload(t, db, fast(line.p))
				if err != nil || done.Adopted != n-2 || done.Total != n-2 || db.Stats().Resident != n-2 || asked.Load() != 0 {
					t.Fatalf("%+v, %v; resident: %d; %d loads beside the claims", done, err, db.Stats().Resident, asked.Load())
				}
				c.claim = func(context.Context, store.ClaimRequest) (store.Claim, error) { return store.Claim{}, errDown }
				for i := 2; i < n; i++ {
					s, err := db.Session(ctx, fmt.Sprint("a", i))
					check(t, err)
					for j, k := range []string{"", "k", "l", "m"} {
						before := asked.Load()
						if v, err := s.Get(ctx, k); v != i+j || err != nil {
							t.Fatalf("session %d, key %q: %d, %v", i, k, v, err)
						}
						if hot := asked.Load() == before; hot != contains(line.hot, k) {
							t.Fatalf("session %d, key %q: in memory is %v", i, k, hot)
						}
					}
					before := asked.Load()
					_, err = s.Get(ctx, "none")
					want(t, err, kvstore.ErrNotFound)
					if hot := asked.Load() == before; hot != contains(line.hot, "none") {
						t.Fatalf("session %d: that a key is absent is known is %v", i, hot)
					}
					before = asked.Load()
					all, err := s.All(ctx)
					check(t, err)
					sum := 0
					for _, v := range all {
						sum += v
					}
					if sum != 4*i+6 || line.p.Whole != (asked.Load() == before) {
						t.Fatalf("session %d: all entries are %d, asked %d times", i, sum, asked.Load()-before)
					}
				}
				c.claim = nil
				again, err := preload(t, db, fast(kvstore.Preload{Share: kvstore.Unowned}))
				if err != nil || again.Adopted != n || db.Stats().Resident != 2*n-2 {
					t.Errorf("what b left: %+v, %v", again, err)
				}
				closeDB(t, db)
			})
		})
	}
}

func contains(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}

// Nodes that preload their shares at once have each session exactly once: that of the ring, and nothing is missing.
func TestPreloadShares(t *testing.T) {
	for _, weights := range [][]int{{1}, {1, 1}, {1, 2, 1}, {3, 1, 1, 2, 1}} {
		t.Run(fmt.Sprint(weights), func(t *testing.T) {
			stores(t, func(t *testing.T, wrap func(*claimer) store.Store) {
				const n = 600
				ctx := context.Background()
				c := newClaimer()
				leave(t, c, n)
				var mu sync.Mutex
				granted := map[string]string{}
				see := func(r store.ClaimRequest, cl store.Claim) {
					mu.Lock()
					defer mu.Unlock()
					if cl.Outcome == store.Granted {
						if by, twice := granted[r.Session]; twice {
							t.Errorf("%s has session %s, and %s had it", r.Owner.Node, r.Session, by)
						}
						granted[r.Session] = r.Owner.Node
					}
				}
				c.all = func(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
					time.Sleep(time.Millisecond)
					cs, err := c.inner.ClaimAll(ctx, rs)
					for i := range cs {
						see(rs[i], cs[i])
					}
					return cs, err
				}
				c.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
					time.Sleep(time.Millisecond)
					cl, err := c.inner.Claim(ctx, r)
					see(r, cl)
					return cl, err
				}
				var members []kvstore.Member
				dbs := map[string]*kvstore.DB[int]{}
				for i, w := range weights {
					m := kvstore.Member{Name: fmt.Sprint("n", i), Weight: w}
					members = append(members, m)
					dbs[m.Name] = openInts(t, wrap(c), kvstore.Options{Node: m.Name, Weight: w, Lease: time.Hour})
				}
				ring, err := kvstore.NewRing(members...)
				check(t, err)
				var wg sync.WaitGroup
				for name, db := range dbs {
					wg.Go(func() {
						if done, err := preload(t, db, fast(kvstore.Preload{Share: kvstore.ByRing})); err != nil || done.Adopted != done.Total || done.Adopted != db.Stats().Resident {
							t.Errorf("%s: %+v, %v", name, done, err)
						}
					})
				}
				wg.Wait()
				for i := range n {
					id := strconv.Itoa(i)
					if granted[id] != ring.Owner(id) {
						t.Errorf("session %s is %q's, the ring says %q", id, granted[id], ring.Owner(id))
					}
					if v, err := dbs[ring.Owner(id)].Get(ctx, id); v != i || err != nil {
						t.Errorf("session %s is %d, %v", id, v, err)
					}
				}
				for _, db := range dbs {
					closeDB(t, db)
				}
			})
		})
	}
}

// What this incarnation has released is not taken back as one that a former one had; what a claim without an answer gave it, is.
func TestPreloadOwn(t *testing.T) {
	stores(t, func(t *testing.T, wrap func(*claimer) store.Store) {
		ctx := context.Background()
		c := newClaimer()
		leave(t, c, 3)
		db := openInts(t, wrap(c), kvstore.Options{Node: "left", Lease: time.Hour})
		_, err := db.Adopt(ctx, "0")
		check(t, err)
		check(t, db.Release(ctx, "0"))
		c.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
			c.inner.Claim(ctx, r)
			return store.Claim{}, errDown
		}
		_, err = db.Adopt(ctx, "1")
		want(t, err, errDown)
		c.claim = nil
		done, err := preload(t, db, fast(kvstore.Preload{}))
		if _, got := db.Get(ctx, "0"); err != nil || done.Adopted != 2 || !errors.Is(got, kvstore.ErrNotResident) {
			t.Errorf("%+v, %v; what was released: %v", done, err, got)
		}
		for _, id := range []string{"1", "2"} {
			_, err = db.Get(ctx, id)
			check(t, err)
		}
		// As one that nobody owns it is.
		if done, err = preload(t, db, fast(kvstore.Preload{Share: kvstore.Unowned})); err != nil || done.Adopted != 1 {
			t.Errorf("%+v, %v", done, err)
		}
		closeDB(t, db)
	})
}

// An entry that did not come with the claim is loaded, if all are wanted.
func TestPreloadUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		c := newClaimer()
		old := openInts(t, c, kvstore.Options{Node: "a"})
		s, err := old.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "k", 1))
		closeDB(t, old)
		c.all = func(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
			cs, err := c.inner.ClaimAll(ctx, rs)
			cs[0].Entries, cs[0].Unread = nil, []string{"k"}
			return cs, err
		}
		db := openInts(t, c, kvstore.Options{Node: "a"})
		done, err := preload(t, db, kvstore.Preload{Whole: true})
		if err != nil || done.Adopted != 1 {
			t.Errorf("%+v, %v", done, err)
		}
		c.load = func(context.Context, string, []string) (store.Snapshot, error) { return store.Snapshot{}, errDown }
		s, err = db.Session(ctx, "s")
		check(t, err)
		if v, err := s.Get(ctx, "k"); v != 1 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		closeDB(t, db)
	})
}

// A predicate on the header chooses, and is asked about nothing that somebody alive has.
func TestPreloadMatch(t *testing.T) {
	stores(t, func(t *testing.T, wrap func(*claimer) store.Store) {
		ctx := context.Background()
		c := newClaimer()
		leave(t, c, 500)
		alive := openInts(t, c, kvstore.Options{Node: "alive", Lease: time.Hour})
		check(t, alive.Put(ctx, "held", 1))
		check(t, alive.Flush(ctx))
		db := openInts(t, wrap(c), kvstore.Options{Node: "left", Lease: time.Hour})
		p := fast(kvstore.Preload{Share: kvstore.Unowned, Match: func(h store.Header) bool {
			if h.Owner.Node != "left" || h.Epoch != 1 {
				t.Errorf("asked about %+v", h)
			}
			return strings.HasSuffix(h.Session, "7")
		}})
		done, err := preload(t, db, p)
		if err != nil || done.Adopted != 50 || done.Total != 50 {
			t.Errorf("%+v, %v", done, err)
		}
		for i := range 500 {
			_, err := db.Get(ctx, strconv.Itoa(i))
			if here := err == nil; here != (i%10 == 7) {
				t.Errorf("session %d is here is %v", i, here)
			}
		}
		boom := errors.New("boom")
		p.Match = func(store.Header) bool { panic(boom) }
		_, err = preload(t, db, p)
		want(t, err, boom)
		closeDB(t, db)
		closeDB(t, alive)
	})
}

// At Options.MaxResident it stops and says so; nothing is evicted for it. A memory that is just large enough is not full.
func TestPreloadFull(t *testing.T) {
	for _, line := range []struct{ max, n, before int }{{100, 1000, 0}, {500, 1000, 0}, {999, 1000, 0}, {1000, 1000, 0}, {2000, 1000, 0}, {600, 1000, 250}, {50, 1000, 50}} {
		t.Run(fmt.Sprint(line), func(t *testing.T) {
			stores(t, func(t *testing.T, wrap func(*claimer) store.Store) {
				ctx := context.Background()
				c := newClaimer()
				leave(t, c, line.n)
				granted := atomic.Int64{}
				claim := func(f func()) { time.Sleep(time.Millisecond); granted.Add(1); f() }
				c.claim = func(ctx context.Context, r store.ClaimRequest) (cl store.Claim, err error) {
					claim(func() { cl, err = c.inner.Claim(ctx, r) })
					return
				}
				c.all = func(ctx context.Context, rs []store.ClaimRequest) (cs []store.Claim, err error) {
					claim(func() { cs, err = c.inner.ClaimAll(ctx, rs) })
					granted.Add(int64(len(rs) - 1))
					return
				}
				db := openInts(t, wrap(c), kvstore.Options{Node: "left", Lease: time.Hour, MaxResident: line.max})
				for i := range line.before {
					check(t, db.Put(ctx, fmt.Sprint("new", i), i))
				}
				check(t, db.Flush(ctx))
				granted.Store(0)
				done, err := preload(t, db, fast(kvstore.Preload{}))
				room := min(line.max-line.before, line.n)
				full := room < line.n
				if err != nil || done.Adopted != room || done.Full != full || int(granted.Load()) != room {
					t.Errorf("%+v, %v; %d were claimed", done, err, granted.Load())
				}
				if full && done.Complete && done.Done() == done.Total {
					t.Errorf("%+v looks like all", done)
				}
				if s := db.Stats(); s.Evicted != 0 || s.Resident != line.before+room {
					t.Errorf("%d evicted, %d resident", s.Evicted, s.Resident)
				}
				closeDB(t, db)
			})
		})
	}
}

// The rate holds exactly, and so do the numbers that are told meanwhile.
func TestPreloadProgress(t *testing.T) {
	stores(t, func(t *testing.T, wrap func(*claimer) store.Store) {
		const n, rate = 2000, 100
		ctx := context.Background()
		c := newClaimer()
		leave(t, c, n)
		db := openInts(t, wrap(c), kvstore.Options{Node: "left", Lease: time.Hour})
		type told struct {
			at time.Time
			is kvstore.Preloaded
		}
		var mu sync.Mutex
		var tells []told
		start := time.Now()
		p, err := db.Preload(ctx, kvstore.Preload{Rate: rate, Count: true, Every: 3 * time.Second, Progress: func(is kvstore.Preloaded) {
			mu.Lock()
			defer mu.Unlock()
			tells = append(tells, told{time.Now(), is})
		}})
		check(t, err)
		time.Sleep(time.Millisecond / 2)
		if is := p.Progress(); is.Total != n || is.Complete {
			t.Errorf("after the count: %+v", is)
		}
		for time.Since(start) < 18*time.Second {
			time.Sleep(500*time.Millisecond + time.Millisecond/7)
			is := p.Progress()
			due := int(time.Since(start) * rate / time.Second)
			if d := is.Done() - due; d < 0 || d > 10 {
				t.Errorf("after %v: %+v", time.Since(start), is)
			}
			left := time.Duration(n-due) * time.Second / rate
			if slack := time.Since(start) / 2; time.Since(start) > 2*time.Second && (is.Rate < 0.9*rate || is.Rate > 1.1*rate || is.Left < left*8/10-slack/100 || is.Left > left*12/10) {
				t.Errorf("after %v: rate %v, left %v, want %v", time.Since(start), is.Rate, is.Left, left)
			}
			if is.Took != time.Since(start) {
				t.Errorf("after %v: took %v", time.Since(start), is.Took)
			}
		}
		done, err := p.Wait(ctx)
		check(t, err)
		took := time.Since(start)
		if done.Adopted != n || done.Took != took || took < (n-10)*time.Second/rate || took > n*time.Second/rate || math.Abs(done.Rate-n/took.Seconds()) > 1e-6 || !done.Complete {
			t.Errorf("%+v after %v", done, took)
		}
		time.Sleep(time.Hour)
		if again := p.Progress(); again != done {
			t.Errorf("an hour later: %+v, want %+v", again, done)
		}
		mu.Lock()
		defer mu.Unlock()
		if want := int(took/(3*time.Second)) + 1; len(tells) != want || tells[len(tells)-1].is != done {
			t.Errorf("told %d times, want %d: %+v", len(tells), want, tells)
		}
		for i := 1; i < len(tells)-1; i++ {
			if d := tells[i].at.Sub(tells[i-1].at); d != 3*time.Second {
				t.Errorf("told after %v", d)
			}
		}
		closeDB(t, db)
	})
}

// When a preload slows down, the rate follows within ten seconds, and so does the estimate; before anything is done it is unknown.
func TestPreloadRateFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 4000
		ctx := context.Background()
		c := newClaimer()
		leave(t, c, n)
		var takes atomic.Int64
		takes.Store(int64(time.Second))
		c.all = func(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
			time.Sleep(time.Duration(takes.Load()))
			return c.inner.ClaimAll(ctx, rs)
		}
		db := openInts(t, c, kvstore.Options{Node: "left", Lease: time.Hour, StoreTimeout: time.Hour})
		p, err := db.Preload(ctx, fast(kvstore.Preload{InFlight: 40, Count: true}))
		check(t, err)
		time.Sleep(500 * time.Millisecond)
		if is := p.Progress(); is.Left >= 0 || is.Rate != 0 || is.Total != n {
			t.Errorf("before anything is done: %+v", is)
		}
		time.Sleep(20 * time.Second) // 40 in a second
		if is := p.Progress(); is.Done() != 800 || is.Rate < 36 || is.Rate > 44 {
			t.Errorf("at first: %+v", is)
		}
		takes.Store(int64(10 * time.Second))
		time.Sleep(30 * time.Second) // 4 in a second
		if is := p.Progress(); is.Rate < 2.5 || is.Rate > 6 || is.Left != time.Duration(float64(n-is.Done())/is.Rate*1e9) {
			t.Errorf("slow: %+v", is)
		}
		takes.Store(0)
		_, err = p.Wait(ctx)
		check(t, err)
		closeDB(t, db)
	})
}

// Without a count the total is what was met so far, and the walk waits for what it has met: it holds few IDs.
func TestPreloadWalksNoFurther(t *testing.T) {
	for _, inFlight := range []int{1, 7, 100, 0} {
		t.Run(strconv.Itoa(inFlight), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n = 5000
				ctx := context.Background()
				w := &walker{claimer: newClaimer()}
				leave(t, w, n)
				var met, done, flying, most atomic.Int64
				bound := int64(inFlight)
				if inFlight == 0 {
					bound = 1024
				}
				w.sessions = func(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
					return func(yield func(store.Header, error) bool) {
						for h, err := range w.claimer.Sessions(ctx, q) {
							if ahead := met.Add(1) - done.Load(); ahead > 2*bound+2 {
								t.Errorf("the walk is %d sessions ahead", ahead)
							}
							if !yield(h, err) {
								return
							}
						}
					}
				}
				w.all = func(ctx context.Context, rs []store.ClaimRequest) ([]store.Claim, error) {
					most.Store(max(most.Load(), flying.Add(int64(len(rs)))))
					time.Sleep(time.Second)
					flying.Add(-int64(len(rs)))
					done.Add(int64(len(rs)))
					return w.inner.ClaimAll(ctx, rs)
				}
				db := openInts(t, w, kvstore.Options{Node: "left", Lease: time.Hour, StoreTimeout: time.Hour})
				p, err := db.Preload(ctx, fast(kvstore.Preload{InFlight: inFlight}))
				check(t, err)
				time.Sleep(time.Second + time.Millisecond)
				if is := p.Progress(); is.Complete || is.Total >= n || is.Total < is.Done() || is.Total == 0 {
					t.Errorf("under way: %+v", is)
				}
				is, err := p.Wait(ctx)
				if err != nil || is.Total != n || is.Adopted != n || most.Load() > bound || most.Load() < bound/2 {
					t.Errorf("%+v, %v; %d in flight", is, err, most.Load())
				}
				closeDB(t, db)
			})
		})
	}
}

// A hook that does not return is not called again, and holds nothing up.
func TestPreloadSlowHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		c := newClaimer()
		leave(t, c, 1000)
		db := openInts(t, c, kvstore.Options{Node: "left", Lease: time.Hour})
		var calls atomic.Int64
		p, err := db.Preload(ctx, kvstore.Preload{Rate: 100, Every: 100 * time.Millisecond, Progress: func(kvstore.Preloaded) {
			first := calls.Add(1) == 1
			time.Sleep(time.Minute)
			if first {
				panic("no matter")
			}
		}})
		check(t, err)
		start := time.Now()
		done, err := p.Wait(ctx)
		if took := time.Since(start); err != nil || done.Adopted != 1000 || took > 10*time.Second {
			t.Errorf("%+v, %v after %v", done, err, took)
		}
		time.Sleep(time.Hour)
		if calls.Load() != 2 || db.Stats().HookPanics != 1 {
			t.Errorf("called %d times, %d panics", calls.Load(), db.Stats().HookPanics)
		}
		// One that ends the preload does not wait for itself.
		p, err = db.Preload(ctx, kvstore.Preload{Share: kvstore.Unowned, Every: 100 * time.Millisecond, Match: func(store.Header) bool { time.Sleep(time.Second); return true },
			Progress: func(kvstore.Preloaded) { want(t, db.Drain(ctx), nil, kvstore.ErrClosed) }})
		check(t, err)
		_, err = p.Wait(ctx)
		want(t, err, kvstore.ErrDraining, nil)
		closeDB(t, db)
	})
}

// What cannot be right is refused, and the error names it.
func TestPreloadRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		db, anon := openInts(t, mem, kvstore.Options{Node: "a"}), openInts(t, mem, kvstore.Options{})
		for _, line := range []struct {
			db   *kvstore.DB[int]
			p    kvstore.Preload
			kind error
			says string
		}{
			{db, kvstore.Preload{Share: 3}, kvstore.ErrInvalid, "Preload.Share is 3"},
			{anon, kvstore.Preload{}, kvstore.ErrInvalid, "Preload.Share is Former: a node whose Options.Node is empty"},
			{db, kvstore.Preload{Rate: -1}, kvstore.ErrInvalid, "Preload.Rate is -1"},
			{db, kvstore.Preload{InFlight: -1}, kvstore.ErrInvalid, "Preload.InFlight is -1"},
			{db, kvstore.Preload{Every: -1}, kvstore.ErrInvalid, "Preload.Every is -1ns"},
			{db, kvstore.Preload{Every: time.Microsecond}, kvstore.ErrInvalid, "Preload.Every is 1µs"},
			{db, kvstore.Preload{Keys: []string{"k", strings.Repeat("x", 1025)}}, kvstore.ErrTooLarge, "1025 bytes"},
		} {
			if p, err := line.db.Preload(ctx, line.p); !errors.Is(err, line.kind) || !strings.Contains(err.Error(), line.says) || p != nil {
				t.Errorf("%+v: %v", line.p, err)
			}
		}
		var none context.Context
		_, err := db.Preload(none, kvstore.Preload{})
		want(t, err, kvstore.ErrInvalid)
		p, err := db.Preload(ctx, kvstore.Preload{})
		check(t, err)
		_, err = p.Wait(none)
		want(t, err, kvstore.ErrInvalid)
		if got := fmt.Sprint(kvstore.Former, kvstore.ByRing, kvstore.Unowned, kvstore.Share(9)); got != "Former ByRing Unowned ?" {
			t.Error(got)
		}
		closeDB(t, db)
		closeDB(t, anon)
	})
}
