package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// Leases, in virtual time.

// A node that stops renewing: its sessions are its own until the lease is over, to the millisecond, and
// from then on whoever asks first has them. Health says why, step by step.
func TestLeaseRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 3 * time.Second
		ctx := context.Background()
		mem := memory.New()
		j := newJournal(mem)
		var mu sync.Mutex
		var told []string
		a := openInts(t, j, kvstore.Options{Node: "a", Lease: ttl, Hooks: kvstore.Hooks{Health: func(h kvstore.Health) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, h.String())
		}}})
		b := openInts(t, mem, kvstore.Options{Node: "b"})
		check(t, a.Put(ctx, "s", 1))
		check(t, a.Flush(ctx))
		time.Sleep(10 * ttl) // renewed, it does not end
		if h := a.Health(); !h.OK() || h.LeaseLeft < ttl/2 {
			t.Errorf("a node that is well says %v, %v left", h, h.LeaseLeft)
		}
		_, err := b.Adopt(ctx, "s")
		want(t, err, kvstore.ErrOwned)

		j.set(func(j *journal) { j.cut = true })
		end := j.lease.Add(ttl)
		time.Sleep(time.Until(end) - time.Millisecond)
		var owned *kvstore.OwnedError
		if _, err := b.Adopt(ctx, "s"); !errors.As(err, &owned) || owned.Lease != time.Millisecond {
			t.Errorf("1 ms before the end of the lease: %v, %+v", err, owned)
		}
		h := a.Health()
		if !slices.Equal(h.Problems, []kvstore.Problem{kvstore.StoreUnreachable, kvstore.LeaseLate}) || !errors.Is(h.LastError, errDown) {
			t.Errorf("1 ms before the end of its lease the node says %q, %v", h, h.LastError)
		}
		if v, err := a.Get(ctx, "s"); err != nil || v != 1 {
			t.Errorf("not strict, it serves what it has: %d, %v", v, err)
		}
		time.Sleep(time.Millisecond)
		s, err := b.Adopt(ctx, "s")
		check(t, err)
		if v, err := s.Get(ctx, ""); err != nil || v != 1 {
			t.Errorf("adopted: %d, %v", v, err)
		}
		if h := a.Health(); !slices.Contains(h.Problems, kvstore.LeaseOver) || h.LeaseLeft > 0 {
			t.Errorf("at the end of its lease the node says %q, %v left", h, h.LeaseLeft)
		}
		time.Sleep(ttl)
		j.set(func(j *journal) { j.cut = false })
		time.Sleep(ttl)
		if h := a.Health(); !h.OK() {
			t.Errorf("with the store back the node says %q", h)
		}
		closeDB(t, a)
		closeDB(t, b)
		mu.Lock()
		defer mu.Unlock()
		wantTold := []string{"store unreachable", "store unreachable, lease late", "store unreachable, lease over", "ok"}
		if got := slices.Compact(told); len(got) < len(wantTold) || !isSubsequence(wantTold, got) {
			t.Errorf("Hooks.Health was told %q, want %q among it", got, wantTold)
		}
	})
}

func isSubsequence(sub, of []string) bool {
	for _, s := range of {
		if len(sub) > 0 && s == sub[0] {
			sub = sub[1:]
		}
	}
	return len(sub) == 0
}

// A strict node serves nothing from before the end of its lease on. When it has a lease again it
// serves only what it has made sure of.
func TestStrict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 3 * time.Second
		ctx := context.Background()
		mem := memory.New()
		j := newJournal(mem)
		var fenced []string
		o := kvstore.Options{Node: "a", Lease: ttl, Strict: true, MaxDelay: time.Hour, LagAlarm: time.Hour}
		o.Hooks.Fenced = func(e kvstore.FencedError) { fenced = append(fenced, e.Session) }
		a := openInts(t, j, o)
		b := openInts(t, mem, kvstore.Options{Node: "b"})
		handles := map[string]*kvstore.Session[int]{}
		for _, id := range []string{"taken", "kept"} {
			s, err := a.AdoptOrCreate(ctx, id)
			check(t, err)
			check(t, s.Put(ctx, "", 1))
			check(t, s.Sync(ctx))
			handles[id] = s
		}
		j.set(func(j *journal) { j.cut = true })
		end := j.lease.Add(ttl)
		verbs := map[string]func() error{
			"DB.Get":      func() error { _, err := a.Get(ctx, "kept"); return err },
			"DB.Put":      func() error { return a.Put(ctx, "kept", 1) },
			"DB.Delete":   func() error { return a.Delete(ctx, "kept") },
			"DB.Create":   func() error { _, err := a.Create(ctx, "new"); return err },
			"DB.Adopt":    func() error { _, err := a.Adopt(ctx, "kept"); return err },
			"DB.Steal":    func() error { _, err := a.Steal(ctx, "kept"); return err },
			"DB.Session":  func() error { _, err := a.Session(ctx, "kept"); return err },
			"AdoptOrphan": func() error { _, err := a.AdoptOrphans(ctx, kvstore.Takeover{}); return err },
			"Preload":     func() error { _, err := a.Preload(ctx, kvstore.Preload{}); return err },
			"Get":         func() error { _, err := handles["kept"].Get(ctx, ""); return err },
			"Put":         func() error { return handles["kept"].Put(ctx, "", 1) },
			"Delete":      func() error { return handles["kept"].Delete(ctx, "") },
			"Expire":      func() error { return handles["kept"].Expire(ctx, time.Time{}) },
			"All":         func() error { _, err := handles["kept"].All(ctx); return err },
			"Update": func() error {
				return handles["kept"].Update(ctx, func(tx *kvstore.Tx[int]) error { return tx.Put("", 1) })
			},
		}
		last := time.Now()
		for ; time.Now().Before(end.Add(ttl)); time.Sleep(10 * time.Millisecond) {
			_, err := a.Get(ctx, "kept")
			switch {
			case err == nil:
				last = time.Now()
			case !errors.Is(err, kvstore.ErrSuspended):
				t.Fatalf("get: %v", err)
			}
			if !last.Before(end.Add(-ttl / 20)) {
				t.Fatalf("served %v before the end of its lease", time.Until(end))
			}
			if err != nil {
				for name, f := range verbs {
					if err := f(); !errors.Is(err, kvstore.ErrSuspended) {
						t.Errorf("%s without a lease: %v", name, err)
					}
				}
			}
		}
		if last.Before(end.Add(-ttl / 5)) {
			t.Errorf("it stopped serving %v before the end of its lease", end.Sub(last))
		}
		s, err := b.Adopt(ctx, "taken")
		check(t, err)
		check(t, s.Put(ctx, "", 2))
		check(t, s.Sync(ctx))

		// The store is back. Between the renewal and the answer about the session nothing old may be served.
		var asked atomic.Int32
		load := j.load
		j.load = func(ctx context.Context, id string, keys []string) (store.Snapshot, error) {
			asked.Add(1)
			time.Sleep(time.Millisecond)
			return load(ctx, id, keys)
		}
		j.set(func(j *journal) { j.cut = false })
		for {
			v, err := a.Get(ctx, "taken")
			if err == nil {
				t.Fatalf("served %d of a session that is another's", v)
			}
			if !errors.Is(err, kvstore.ErrSuspended) {
				want(t, err, kvstore.ErrNotResident, kvstore.ErrFenced)
				break
			}
			time.Sleep(time.Millisecond)
		}
		if v, err := a.Get(ctx, "kept"); err != nil || v != 1 {
			t.Errorf("what nobody took is served again: %d, %v", v, err)
		}
		if asked.Load() == 0 {
			t.Error("served without asking the store")
		}
		_, err = handles["taken"].Get(ctx, "")
		want(t, err, kvstore.ErrFenced)
		time.Sleep(time.Second)
		n := asked.Load()
		if _, err := a.Get(ctx, "kept"); err != nil || asked.Load() != n {
			t.Errorf("asked the store again: %v", err)
		}
		closeDB(t, a)
		closeDB(t, b)
		if !slices.Equal(fenced, []string{"taken"}) {
			t.Errorf("fenced: %q", fenced)
		}
	})
}

// A node that lapsed and is back finds what others adopted meanwhile, though it lies here clean and no flush
// would ever be refused for it.
func TestAuditAfterALapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		j := newJournal(mem)
		fenced := map[string]kvstore.FencedError{}
		o := kvstore.Options{Node: "a", Hooks: kvstore.Hooks{
			Fenced: func(e kvstore.FencedError) { fenced[e.Session] = e },
			Lost:   func(l kvstore.Lost) { t.Errorf("lost: %+v", l) },
		}}
		a := openInts(t, j, o)
		b := openInts(t, mem, kvstore.Options{Node: "b"})
		const n = 20
		for i := range n {
			check(t, a.Put(ctx, fmt.Sprint(i), i))
		}
		check(t, a.Flush(ctx))
		j.set(func(j *journal) { j.cut = true })
		time.Sleep(5 * time.Second)
		for i := range n / 2 {
			_, err := b.Adopt(ctx, fmt.Sprint(i))
			check(t, err)
		}
		check(t, b.Delete(ctx, "0"))
		check(t, b.Release(ctx, "1"))
		check(t, b.Flush(ctx))
		j.set(func(j *journal) { j.cut = false })
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if got := a.Stats().Resident; got != n/2 || len(fenced) != n/2 {
			t.Errorf("%d sessions are resident, %d were fenced, want %d each", got, len(fenced), n/2)
		}
		for i := range n {
			_, err := a.Get(ctx, fmt.Sprint(i))
			if i < n/2 {
				want(t, err, kvstore.ErrNotResident)
			} else {
				want(t, err, nil)
			}
		}
		if e := fenced["2"]; e.By.Owner.Node != "b" || e.By.Epoch != e.Epoch+1 {
			t.Errorf("fenced by %+v", e.By)
		}
		closeDB(t, a)
		closeDB(t, b)
	})
}

// A node that closes, or that starts again under its name, leaves nobody waiting for a lease.
func TestNobodyWaitsForTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		a := openInts(t, mem, kvstore.Options{Node: "a"})
		check(t, a.Put(ctx, "s", 1))
		closeDB(t, a)
		start := time.Now()
		b := openInts(t, mem, kvstore.Options{Node: "b"})
		if _, err := b.Adopt(ctx, "s"); err != nil {
			t.Errorf("after a clean close: %v", err)
		}

		// a runs again, is cut off, and is started a third time while its lease runs.
		j := newJournal(mem)
		former := openInts(t, j, kvstore.Options{Node: "a"})
		for i := range 10 {
			check(t, former.Put(ctx, fmt.Sprintf("own%d", i), i))
		}
		check(t, former.Flush(ctx))
		j.set(func(j *journal) { j.cut = true })
		a = openInts(t, mem, kvstore.Options{Node: "a"})
		got, err := a.AdoptOrphans(ctx, kvstore.Takeover{All: true, Rate: 1e9})
		if err != nil || got.Adopted != 10 || got.Seen != 10 {
			t.Errorf("a node that starts again adopts %+v, %v", got, err)
		}
		if v, err := a.Get(ctx, "own7"); err != nil || v != 7 {
			t.Errorf("its session: %d, %v", v, err)
		}
		if _, err := b.Adopt(ctx, "own7"); !errors.Is(err, kvstore.ErrOwned) {
			t.Errorf("its session is another's for the taking: %v", err)
		}
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		former.Close(over())
		closeDB(t, a)
		closeDB(t, b)
	})
}
