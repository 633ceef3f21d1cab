package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// What the application is told by hooks: what they hold, in which order, and what they
// may do.

// lostBy collects what Hooks.Lost is given. Read it after Close, or after synctest.Wait.
type lostBy []kvstore.Lost

func (l *lostBy) hooks() kvstore.Hooks {
	return kvstore.Hooks{Lost: func(lost kvstore.Lost) { *l = append(*l, lost) }}
}

// texts writes entries as text, sorted: what was lost, whatever its order.
func texts(es []kvstore.LostEntry) []string {
	var s []string
	for _, e := range es {
		s = append(s, strings.TrimSpace(fmt.Sprintf("%q=%v deleted=%v %v", e.Key, e.Value, e.Deleted, e.Expires.UnixMilli())))
	}
	slices.Sort(s)
	return s
}

var never = time.Time{}.UnixMilli()

// steal takes a session from whoever has it, by a node that exists only for that.
func steal(t *testing.T, st store.Store, id string) {
	t.Helper()
	thief := openInts(t, st, kvstore.Options{Node: "thief"})
	_, err := thief.Steal(context.Background(), id)
	check(t, err)
	closeDB(t, thief)
}

// A fence hands over everything that is not stored, and nothing that is: what waits, what was in
// flight, deletes and expiries, each entry once, with its last value.
func TestLostByAFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		j := newJournal(mem)
		var lost lostBy
		var fenced []kvstore.FencedError
		hooks := lost.hooks()
		hooks.Fenced = func(e kvstore.FencedError) {
			if len(lost) == 0 {
				t.Error("Fenced came before Lost")
			}
			fenced = append(fenced, e)
		}
		db := openInts(t, j, kvstore.Options{Node: "a", Hooks: hooks, MaxDelay: time.Second})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		for _, k := range []string{"stored", "gone", "superseded", "twice"} {
			check(t, s.Put(ctx, k, 1))
		}
		check(t, s.Sync(ctx))
		epoch := s.Epoch()
		at := time.Now().Add(time.Hour)
		j.set(func(j *journal) { j.takes = 100 * time.Millisecond })
		check(t, s.Put(ctx, "flying", 2))
		check(t, s.Put(ctx, "superseded", 2))
		check(t, s.Delete(ctx, "twice"))
		go s.Sync(ctx)
		time.Sleep(50 * time.Millisecond)
		check(t, s.Put(ctx, "superseded", 3))
		check(t, s.Put(ctx, "", 3))
		check(t, s.Delete(ctx, "gone"))
		check(t, s.PutUntil(ctx, "brief", 3, at))
		steal(t, mem, "s") // before the flush arrives there
		time.Sleep(time.Second)
		synctest.Wait()

		if len(lost) != 1 || len(fenced) != 1 {
			t.Fatalf("lost: %+v; fenced: %+v", lost, fenced)
		}
		l := lost[0]
		wantEntries := []string{
			fmt.Sprintf(`""=3 deleted=false %d`, never),
			fmt.Sprintf(`"brief"=3 deleted=false %d`, at.UnixMilli()),
			fmt.Sprintf(`"flying"=2 deleted=false %d`, never),
			fmt.Sprintf(`"gone"=<nil> deleted=true %d`, never),
			fmt.Sprintf(`"superseded"=3 deleted=false %d`, never),
			fmt.Sprintf(`"twice"=<nil> deleted=true %d`, never),
		}
		if got := texts(l.Entries); !slices.Equal(got, wantEntries) {
			t.Errorf("lost:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(wantEntries, "\n"))
		}
		var why *kvstore.FencedError
		if !errors.As(l.Cause, &why) || why.By.Owner.Node != "thief" || why.By.Epoch != epoch+1 || l.Epoch != epoch || l.Session != "s" || l.Created || l.Deleted {
			t.Errorf("lost: %+v", l)
		}
		if fenced[0].Session != "s" || fenced[0].Epoch != epoch {
			t.Errorf("fenced: %+v", fenced[0])
		}
		if n := db.Stats(); n.Fenced != 1 || n.Lost != 6 || n.Buffered != 0 || n.Resident != 0 {
			t.Errorf("stats: %+v", n)
		}
		closeDB(t, db)
	})
}

// What a fence finds unsaved beside entries: a deletion of the session, an expiry, nothing.
func TestLostHeaders(t *testing.T) {
	cases := map[string]struct {
		do   func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error
		want func(l kvstore.Lost) bool
		none bool
	}{
		"delete": {
			do: func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
				return db.Delete(ctx, "s")
			},
			want: func(l kvstore.Lost) bool { return l.Deleted && !l.Created && len(l.Entries) == 0 },
		},
		"expiry": {
			do: func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
				return s.Expire(ctx, time.Now().Add(time.Hour))
			},
			want: func(l kvstore.Lost) bool { return !l.Deleted && !l.Created && len(l.Entries) == 0 },
		},
		"delete and put": { // that what was there before is gone is lost, too
			do: func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
				return errors.Join(db.Delete(ctx, "s"), db.Put(ctx, "s", 7))
			},
			want: func(l kvstore.Lost) bool { return l.Deleted && len(l.Entries) == 1 && l.Entries[0].Value == 7 },
		},
		"nothing": {
			do:   func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error { return nil },
			none: true,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				mem := memory.New()
				j := newJournal(mem)
				var lost lostBy
				db := openInts(t, j, kvstore.Options{Node: "a", Hooks: lost.hooks()})
				s, err := db.AdoptOrCreate(ctx, "s")
				check(t, err)
				check(t, s.Put(ctx, "old", 1))
				check(t, s.Sync(ctx))
				check(t, c.do(ctx, db, s))
				steal(t, mem, "s")
				time.Sleep(time.Second)
				synctest.Wait()
				if c.none && len(lost) > 0 || !c.none && (len(lost) != 1 || !c.want(lost[0])) {
					t.Errorf("lost: %+v", lost)
				}
				closeDB(t, db)
			})
		})
	}
}

// A session whose creation had no answer may be stored. If it was deleted meanwhile, and made anew, its end is lost with the new life.
func TestLostEndOfWhatMayBeStored(t *testing.T) {
	for _, inFlight := range []bool{true, false} {
		for _, again := range []bool{true, false} { // the new life is on its way, too
			t.Run(fmt.Sprintf("in flight %v, again %v", inFlight, again), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := context.Background()
					line := &tap{Store: memory.New()}
					calls := 0
					line.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
						if calls++; calls == 1 {
							line.Store.Apply(ctx, cs)
						}
						if inFlight || calls > 1 {
							time.Sleep(time.Hour) // it does not even hear that it is called off
						}
						return nil, errors.New("no answer")
					}
					var lost lostBy
					o := kvstore.Options{Node: "a", Hooks: lost.hooks(), MaxDelay: 10 * time.Millisecond, RetryMin: time.Second, RetryMax: time.Second}
					db := openInts(t, line, o)
					s, err := db.Create(ctx, "s")
					check(t, err)
					check(t, s.Put(ctx, "leg", 1))
					time.Sleep(20 * time.Millisecond) // the store has it, and nobody knows
					check(t, db.Delete(ctx, "s"))
					check(t, db.Put(ctx, "s", 2))
					if again {
						time.Sleep(5 * time.Second)
					}
					limit, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
					defer cancel()
					if err := db.Close(limit); err == nil {
						t.Error("Close says that all is stored")
					}
					if _, es := ints(t, line.Store, "s"); es["leg"] != 1 {
						t.Errorf("the store has %v", es)
					}
					time.Sleep(time.Hour) // the calls end, long after Close
					if len(lost) != 1 || !lost[0].Created || !lost[0].Deleted || len(lost[0].Entries) != 1 || lost[0].Entries[0].Value != 2 {
						t.Errorf("lost: %+v", lost)
					}
				})
			})
		}
	}
}

// An optimistic Create that another node was ahead of hands everything back, and leaves the other's alone.
func TestLostCreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		var lost lostBy
		a := openInts(t, mem, kvstore.Options{Node: "a", Hooks: lost.hooks()})
		b := openInts(t, mem, kvstore.Options{Node: "b"})
		check(t, b.Put(ctx, "s", 1))
		s, err := a.Create(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "k", 2))
		want(t, s.Sync(ctx), kvstore.ErrFenced)
		_, err = a.Get(ctx, "s")
		want(t, err, kvstore.ErrNotResident)
		_, err = a.Create(ctx, "empty")
		check(t, err)
		_, err = b.AdoptOrCreate(ctx, "empty")
		check(t, err)
		want(t, a.Flush(ctx), kvstore.ErrFenced)
		check(t, b.Flush(ctx))
		synctest.Wait()
		if len(lost) != 2 || !lost[0].Created || !lost[1].Created || len(lost[0].Entries) != 1 || lost[0].Entries[0].Value != 2 || len(lost[1].Entries) != 0 {
			t.Errorf("lost: %+v", lost)
		}
		if _, got := ints(t, mem, "s"); !maps.Equal(got, map[string]int{"": 1}) {
			t.Errorf("the first one's session is %v", got)
		}
		closeDB(t, a)
		closeDB(t, b)
	})
}

// Close with the store down hands over all that is unsaved, says how much that was, and returns soon.
func TestLostAtShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		j := newJournal(memory.New())
		var lost lostBy
		db := openInts(t, j, kvstore.Options{Node: "a", Hooks: lost.hooks()})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "stored", 1))
		check(t, s.Put(ctx, "k", 1))
		check(t, s.Sync(ctx))
		check(t, db.Put(ctx, "doomed", 1))
		check(t, db.Flush(ctx))
		j.set(func(j *journal) { j.down = errDown })
		check(t, s.Put(ctx, "k", 2))
		time.Sleep(5 * time.Second) // it was tried, and merged back
		check(t, s.Put(ctx, "k", 3))
		check(t, s.Put(ctx, "n", 3))
		check(t, s.Delete(ctx, "stored"))
		check(t, db.Delete(ctx, "doomed"))
		_, err = db.Create(ctx, "new")
		check(t, err)
		limit, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		start := time.Now()
		err = db.Close(limit)
		if d := time.Since(start); d < 10*time.Second || d > 11*time.Second {
			t.Errorf("Close took %v", d)
		}
		var unsaved *kvstore.UnsavedError
		if !errors.As(err, &unsaved) || unsaved.Sessions != 3 || unsaved.Entries != 3 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v, %+v", err, unsaved)
		}
		if again := db.Close(ctx); again != err {
			t.Errorf("the second Close says %v", again)
		}
		got := map[string]kvstore.Lost{}
		for _, l := range lost {
			got[l.Session] = l
			if !errors.Is(l.Cause, kvstore.ErrClosed) {
				t.Errorf("the cause is %v", l.Cause)
			}
		}
		wantEntries := []string{
			fmt.Sprintf(`"k"=3 deleted=false %d`, never),
			fmt.Sprintf(`"n"=3 deleted=false %d`, never),
			fmt.Sprintf(`"stored"=<nil> deleted=true %d`, never),
		}
		if e := texts(got["s"].Entries); len(lost) != 3 || !slices.Equal(e, wantEntries) {
			t.Errorf("lost: %+v", lost)
		}
		if !got["doomed"].Deleted || !got["new"].Created {
			t.Errorf("lost: %+v", lost)
		}
	})
}

// Hooks run one after the other, in the order of what happened, and a slow one delays the
// others only: reads, writes, flushes and adoptions go on.
func TestSlowHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 5
		ctx := context.Background()
		mem := memory.New()
		var order []string
		var running atomic.Int32
		release := make(chan struct{})
		enter := func(what string) {
			if running.Add(1) != 1 {
				t.Error("two hooks run at once")
			}
			<-release
			order = append(order, what)
			running.Add(-1)
		}
		db := openInts(t, mem, kvstore.Options{Node: "a", Hooks: kvstore.Hooks{
			Lost:   func(l kvstore.Lost) { enter("lost " + l.Session) },
			Fenced: func(e kvstore.FencedError) { enter("fenced " + e.Session) },
		}})
		var wantOrder []string
		for i := range n {
			id := fmt.Sprint(i)
			check(t, db.Put(ctx, id, 1))
			check(t, db.Flush(ctx))
			check(t, db.Put(ctx, id, 2))
			steal(t, mem, id)
			want(t, db.Flush(ctx), kvstore.ErrFenced)
			wantOrder = append(wantOrder, "lost "+id, "fenced "+id)
		}
		synctest.Wait()
		if len(order) > 0 || running.Load() != 1 {
			t.Fatalf("hooks ran: %q", order)
		}
		start := time.Now()
		check(t, db.Put(ctx, "x", 1))
		check(t, db.Flush(ctx))
		_, err := db.Adopt(ctx, "0")
		check(t, err)
		check(t, db.Release(ctx, "0"))
		if v, err := db.Get(ctx, "x"); err != nil || v != 1 || time.Since(start) > 0 {
			t.Errorf("beside a slow hook: %d, %v, after %v", v, err, time.Since(start))
		}
		close(release)
		closeDB(t, db) // waits for the hooks
		if !slices.Equal(order, wantOrder) {
			t.Errorf("the order is %q", order)
		}
	})
}

// A hook that panics is counted, and the others are called all the same.
func TestPanickingHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		lost, fenced := 0, 0
		db := openInts(t, mem, kvstore.Options{Node: "a", Hooks: kvstore.Hooks{
			Lost:   func(kvstore.Lost) { lost++; panic("in Lost") },
			Fenced: func(kvstore.FencedError) { fenced++; panic(errors.New("in Fenced")) },
		}})
		for i := range 3 {
			check(t, db.Put(ctx, fmt.Sprint(i), 1))
			steal(t, mem, fmt.Sprint(i))
			want(t, db.Flush(ctx), kvstore.ErrFenced)
		}
		check(t, db.Put(ctx, "x", 1))
		check(t, db.Flush(ctx))
		closeDB(t, db)
		if n := db.Stats().HookPanics; n != 6 || lost != 3 || fenced != 3 {
			t.Errorf("%d panics; Lost was called %d times, Fenced %d", n, lost, fenced)
		}
	})
}

// A hook may call the DB: what was lost to a fence is adopted again and put once more.
func TestHookCallsTheDB(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		var db *kvstore.DB[int]
		var failed error
		calls := 0
		db = openInts(t, mem, kvstore.Options{Node: "a", Hooks: kvstore.Hooks{
			Lost: func(l kvstore.Lost) {
				calls++
				failed = func() error {
					s, err := db.Adopt(ctx, l.Session)
					if err != nil {
						return err
					}
					for _, e := range l.Entries {
						if err := s.Put(ctx, e.Key, e.Value.(int)); err != nil {
							return err
						}
					}
					if err := s.Sync(ctx); err != nil {
						return err
					}
					if err := db.Put(ctx, "other", 1); err != nil {
						return err
					}
					db.Stats()
					db.Health()
					return errors.Join(db.Flush(ctx), db.Release(ctx, "other"), db.Delete(ctx, "other"))
				}()
			},
			Fenced: func(e kvstore.FencedError) { db.Get(ctx, e.Session) },
			Health: func(kvstore.Health) { db.Flush(ctx) },
		}})
		check(t, db.Put(ctx, "s", 1))
		check(t, db.Flush(ctx))
		check(t, db.Put(ctx, "s", 2))
		steal(t, mem, "s") // and it is gone again
		want(t, db.Flush(ctx), kvstore.ErrFenced)
		synctest.Wait()
		if v, err := db.Get(ctx, "s"); calls != 1 || failed != nil || err != nil || v != 2 {
			t.Errorf("after %d calls of the hook, which says %v: %d, %v", calls, failed, v, err)
		}
		closeDB(t, db)
		if _, got := ints(t, mem, "s"); got[""] != 2 {
			t.Errorf("stored: %v", got)
		}
	})
}
