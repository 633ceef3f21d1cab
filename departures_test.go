package kvstore_test

import (
	"context"
	"errors"
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

// departures collects what Departures yields.
type departures struct {
	mu  sync.Mutex
	all []string
}

func (d *departures) follow(ctx context.Context, db *kvstore.DB[int]) {
	for n, err := range db.Departures(ctx) {
		what := n.Name
		if err != nil {
			what = "error"
		} else if n.Lease != 0 || n.Addr != n.Name+".example:1" {
			what = fmt.Sprintf("%+v", n)
		}
		d.mu.Lock()
		d.all = append(d.all, what)
		d.mu.Unlock()
	}
}

func (d *departures) are(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if fmt.Sprint(d.all) != fmt.Sprint(want) {
		t.Errorf("Departures has yielded %q, want %q", d.all, want)
	}
}

// unwatched is a store that does not watch.
type unwatched struct{ store.Store }

// Who closes its DB is told at once, and who is killed at the end of its lease, by a store that watches; by another one within a third of a lease more. Who
// stays is not, nor is oneself.
func TestDepartures(t *testing.T) {
	for _, watches := range []bool{true, false} {
		t.Run(fmt.Sprintf("watches=%t", watches), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const ttl = 3 * time.Second
				mem := memory.New()
				open := func(name string, st store.Store) *kvstore.DB[int] {
					return openInts(t, st, kvstore.Options{Node: name, Addr: name + ".example:1", Lease: ttl})
				}
				early := open("early", mem)
				var st store.Store = mem
				delay := time.Duration(0)
				if !watches {
					st, delay = unwatched{mem}, ttl/3
				}
				a := open("a", st)
				closeDB(t, early) // before anybody asks
				ctx, cancel := context.WithCancel(t.Context())
				var got departures
				ended := make(chan struct{})
				go func() {
					got.follow(ctx, a)
					close(ended)
				}()
				b, stays := open("b", mem), open("stays", mem)
				j := newJournal(mem)
				killed := open("killed", j)
				time.Sleep(10 * ttl)
				got.are(t)

				closeDB(t, b)
				time.Sleep(delay)
				got.are(t, "b")

				j.set(func(j *journal) { j.cut = true })
				end := j.lease.Add(ttl)
				time.Sleep(time.Until(end) - time.Millisecond)
				got.are(t, "b")
				time.Sleep(time.Millisecond + delay)
				got.are(t, "b", "killed")

				time.Sleep(10 * ttl)
				got.are(t, "b", "killed")
				cancel()
				<-ended
				j.set(func(j *journal) { j.cut = false })
				closeDB(t, killed)
				closeDB(t, stays)
				closeDB(t, a)
				got.are(t, "b", "killed")
			})
		})
	}
}

// What a slow survivor does meanwhile costs it no departure; a break ends the walk; and so does Close, from another goroutine.
func TestDeparturesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memory.New()
		a := openInts(t, mem, kvstore.Options{Node: "a", Lease: 3 * time.Second})
		var others []*kvstore.DB[int]
		for _, name := range []string{"b", "c", "d"} {
			others = append(others, openInts(t, mem, kvstore.Options{Node: name}))
		}
		time.AfterFunc(time.Second, func() {
			for _, db := range others {
				closeDB(t, db)
			}
		})
		var names []string
		for n, err := range a.Departures(t.Context()) {
			check(t, err)
			names = append(names, n.Name)
			time.Sleep(time.Hour)
			if len(names) == 3 {
				break
			}
		}
		if fmt.Sprint(names) != "[b c d]" {
			t.Errorf("told of %q", names)
		}

		done := make(chan struct{})
		go func() {
			for n, err := range a.Departures(context.Background()) {
				if !errors.Is(err, kvstore.ErrClosed) {
					t.Errorf("Departures yields %+v, %v", n, err)
				}
			}
			close(done)
		}()
		synctest.Wait()
		closeDB(t, a)
		<-done
		var last error
		for _, last = range a.Departures(t.Context()) {
		}
		want(t, last, kvstore.ErrClosed)
		var none context.Context
		for _, last = range a.Departures(none) {
		}
		want(t, last, kvstore.ErrInvalid)
	})
}

// unsteady is a store that sometimes does not list its nodes, and whose watches end.
type unsteady struct {
	*memory.Store
	down    atomic.Bool // it lists no nodes
	mute    atomic.Bool // it renews no lease
	watches atomic.Int64
}

func (u *unsteady) Nodes(ctx context.Context) ([]store.Node, error) {
	if u.down.Load() {
		return nil, errDown
	}
	return u.Store.Nodes(ctx)
}

func (u *unsteady) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
	if u.mute.Load() {
		return false, errDown
	}
	return u.Store.KeepAlive(ctx, n, ttl)
}

func (u *unsteady) WatchNodes(ctx context.Context, changed func()) error {
	u.watches.Add(1)
	ctx, cancel := context.WithTimeoutCause(ctx, time.Second, errDown)
	defer cancel()
	u.Store.WatchNodes(ctx, changed)
	return context.Cause(ctx)
}

// While the store does not answer that is told once, and what ended meanwhile afterwards. A watch that ends is begun again. The end of one's own lease
// is no departure.
func TestDeparturesInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 3 * time.Second
		u := &unsteady{Store: memory.New()}
		a := openInts(t, u, kvstore.Options{Node: "a", Lease: ttl, RetryMax: time.Second})
		b := openInts(t, u.Store, kvstore.Options{Node: "b", Addr: "b.example:1", Lease: ttl})
		ctx, cancel := context.WithCancel(t.Context())
		var got departures
		ended := make(chan struct{})
		go func() {
			got.follow(ctx, a)
			close(ended)
		}()
		time.Sleep(time.Minute)
		got.are(t)
		if n := u.watches.Load(); n < 10 {
			t.Errorf("watches that end after a second were begun %d times in a minute", n)
		}
		u.down.Store(true)
		time.Sleep(time.Minute)
		got.are(t, "error")
		closeDB(t, b)
		time.Sleep(time.Minute)
		got.are(t, "error")
		u.down.Store(false)
		time.Sleep(ttl / 3)
		got.are(t, "error", "b")
		u.mute.Store(true)
		time.Sleep(3 * ttl) // its own lease is over
		u.mute.Store(false)
		time.Sleep(ttl)
		got.are(t, "error", "b")
		cancel()
		<-ended
		closeDB(t, a)
	})
}
