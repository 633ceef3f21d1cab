package kvstore

import (
	"context"
	"errors"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// inspector is everything that a DB calls and that is not its own: store, codec, hooks and functions of the application. On
// each call it takes every lock of the DB. One that a caller holds it never gets.
type inspector struct {
	store.Store
	t *testing.T

	mu    sync.Mutex
	db    *DB[int]
	calls map[string]int
}

// called is the first thing in each call.
func (i *inspector) called(what string) {
	i.mu.Lock()
	db := i.db
	i.calls[what]++
	i.mu.Unlock()
	if db == nil {
		return // it is about to be opened
	}
	free := func(lock string, mu *sync.Mutex) {
		for range 1 << 20 { // others may have it for a moment
			if mu.TryLock() {
				mu.Unlock()
				return
			}
			runtime.Gosched()
		}
		i.t.Errorf("%s is called under the lock of %s", what, lock)
	}
	for n := range db.stripes {
		free("a stripe", &db.stripes[n].mu)
	}
	for n := range db.sessions.shards {
		free("the index", &db.sessions.shards[n].mu)
	}
	for s := range db.sessions.all() {
		free("session "+s.id(), &s.mu)
	}
	for _, l := range db.lanes {
		free("a lane", &l.mu)
	}
	for lock, mu := range map[string]*sync.Mutex{
		"the sieve": &db.sieve.mu, "the expirer": &db.expirer.mu, "the clock": &db.clock.mu, "the notifier": &db.notes.mu, "the budget": &db.budget.mu,
		"the lifelines": &db.lifelines.mu, "the catalogue": &db.terms.mu, "the lease": &db.lease.mu, "the tasks": &db.tasks.mu,
	} {
		free(lock, mu)
	}
}

func (i *inspector) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	i.called("Claim")
	return i.Store.Claim(ctx, r)
}

func (i *inspector) Load(ctx context.Context, id string, keys ...string) (store.Snapshot, error) {
	i.called("Load")
	return i.Store.Load(ctx, id, keys...)
}

func (i *inspector) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	i.called("Apply")
	return i.Store.Apply(ctx, changes)
}

func (i *inspector) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	i.called("Sessions")
	return i.Store.Sessions(ctx, q)
}

func (i *inspector) Find(ctx context.Context, r store.AliasRange) (store.Found, error) {
	i.called("Find")
	return i.Store.(store.Finder).Find(ctx, r)
}

func (i *inspector) terms(v int) []string {
	i.called("Terms")
	return []string{strconv.Itoa(v % 2)}
}

func (i *inspector) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
	i.called("KeepAlive")
	return i.Store.KeepAlive(ctx, n, ttl)
}

func (i *inspector) Nodes(ctx context.Context) ([]store.Node, error) {
	i.called("Nodes")
	return i.Store.Nodes(ctx)
}

const unencodable = 666

func (i *inspector) Append(dst []byte, v any) ([]byte, error) {
	i.called("Append")
	if *v.(*int) == unencodable {
		return dst, errors.New("it cannot be encoded")
	}
	return plain{}.Append(dst, v)
}

func (i *inspector) Decode(src []byte, v any) error {
	i.called("Decode")
	return plain{}.Decode(src, v)
}

// plain is the codec for other nodes.
type plain struct{}

func (plain) Append(dst []byte, v any) ([]byte, error) {
	return strconv.AppendInt(dst, int64(*v.(*int)), 10), nil
}

func (plain) Decode(src []byte, v any) (err error) {
	*v.(*int), err = strconv.Atoi(string(src))
	return err
}

// No lock is held while a DB calls what is not its own. So nothing of that, be it as slow as it likes, keeps anybody
// waiting who does not need it, and all of it may call the DB.
func TestNoLockIsHeldOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		ok := func(err error, kinds ...error) {
			t.Helper()
			if err != nil && !slices.ContainsFunc(kinds, func(k error) bool { return errors.Is(err, k) }) {
				t.Fatal(err)
			}
		}
		mem := memory.New()
		i := &inspector{Store: mem, t: t, calls: make(map[string]int)}
		db, err := Open[int](ctx, i, Options{
			Node: "a", Codec: i, MaxResident: 4,
			Hooks: Hooks{
				Lost:   func(Lost) { i.called("Lost") },
				Fenced: func(FencedError) { i.called("Fenced") },
				Health: func(Health) { i.called("Health") },
			},
		}, Index[int]{Name: "parity", Terms: i.terms}, Index[int]{Name: "of k", Key: "k", Terms: i.terms})
		ok(err)
		i.mu.Lock()
		i.db = db
		i.mu.Unlock()
		other, err := Open[int](ctx, mem, Options{Node: "b", Codec: plain{}})
		ok(err)
		for n := range 8 {
			id := strconv.Itoa(n)
			s, err := db.AdoptOrCreate(ctx, id)
			ok(err)
			ok(s.Put(ctx, "", n))
			ok(s.Update(ctx, func(tx *Tx[int]) error {
				i.called("Update's function")
				tx.Put("k", n)
				tx.Put("l", n)
				return nil
			}))
			ok(s.Sync(ctx))
			synctest.Wait() // some are evicted
		}
		for n := range 8 { // which are loaded again
			s, err := db.Session(ctx, strconv.Itoa(n))
			ok(err)
			_, err = s.Get(ctx, "k")
			ok(err)
			_, err = s.All(ctx)
			ok(err)
			synctest.Wait()
		}
		for _, q := range []Query[int]{{Index: "parity"}, {Index: "of k"}, {}} {
			q.Where = func(string, int) bool { i.called("Where"); return true }
			for _, ask := range []func(context.Context, Query[int]) (Answer[int], error){db.Stored, db.Merged} {
				if a, err := ask(ctx, q); err != nil || len(a.Rows) != 8 {
					t.Errorf("a query finds %d rows (error %v), want 8", len(a.Rows), err)
				}
			}
		}
		_, err = db.Reindex(ctx, Reindexing{Progress: func(Reindexed) { i.called("Reindex's progress") }})
		ok(err)
		for range db.Resident(func(string, int) bool { i.called("Resident's function"); return true }) {
			i.called("Resident's loop")
		}
		_, err = other.Steal(ctx, "0")
		ok(err)
		ok(db.Put(ctx, "0", 1), ErrFenced, ErrOwned)
		ok(db.Put(ctx, "1", 1))
		_, err = other.Steal(ctx, "1")
		ok(err)
		ok(db.Flush(ctx), ErrFenced)
		ok(db.Put(ctx, "2", unencodable))
		ok(db.Flush(ctx), ErrRejected)
		ok(other.Close(ctx))
		_, err = db.AdoptOrphans(ctx, Takeover{Progress: func(Orphans) { i.called("Progress") }})
		ok(err)
		third, err := Open[int](ctx, mem, Options{Node: "c", Codec: plain{}})
		ok(err)
		ok(third.Put(ctx, "more", 1))
		ok(third.Close(ctx))
		p, err := db.Preload(ctx, Preload{Share: Unowned, Whole: true,
			Match: func(store.Header) bool { i.called("Match"); return true }, Progress: func(Preloaded) { i.called("Preload's Progress") }})
		ok(err)
		_, err = p.Wait(ctx)
		ok(err)
		s, err := db.Session(ctx, "3")
		ok(err)
		ok(s.Expire(ctx, time.Now().Add(time.Second)))
		time.Sleep(time.Minute)
		ok(db.Delete(ctx, "4"))
		ok(db.Release(ctx, "5"))
		ok(db.Drain(ctx))
		time.Sleep(time.Minute)
		ok(db.Close(ctx))
		all := []string{"Claim", "Load", "Apply", "Sessions", "KeepAlive", "Nodes", "Append", "Decode", "Lost", "Fenced", "Health", "Progress", "Match", "Preload's Progress", "Update's function",
			"Find", "Terms", "Reindex's progress", "Where", "Resident's function", "Resident's loop"}
		slices.Sort(all)
		if got := slices.Sorted(maps.Keys(i.calls)); !slices.Equal(got, all) {
			t.Errorf("called were %q, want %q", got, all)
		}
	})
}

// No session's lock is waited for under a lane's: sessions take them the other way round.
func TestLaneWaitsForNoSession(t *testing.T) {
	ctx := context.Background()
	db, err := Open[int](ctx, memory.New(), Options{MaxDelay: time.Hour, Codec: plain{}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)
	if err := db.Put(ctx, "s", 1); err != nil {
		t.Fatal(err)
	}
	s := db.sessions.load("s")
	l := db.lane(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	l.kick()
	for range 1 << 22 { // until the lane has seen that
		if l.mu.TryLock() {
			taken := len(l.queue) == 0
			l.mu.Unlock()
			if taken {
				return
			}
		}
		runtime.Gosched()
	}
	t.Error("a lane keeps its lock while it waits for a session's")
}
