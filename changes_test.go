package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// ear is a listener that keeps what it was told.
type ear struct {
	mu   sync.Mutex
	told []kvstore.Commit[int]
}

func (e *ear) hear(c kvstore.Commit[int]) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told = append(e.told, c)
}

// listens has a new ear told of what changes in db.
func listens(t testing.TB, db *kvstore.DB[int]) *ear {
	t.Helper()
	e := new(ear)
	_, err := db.OnCommit(e.hear)
	check(t, err)
	return e
}

// news returns, in a bubble, what was told since the last time, one line for each commit.
func (e *ear) news() (lines []string) {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.told {
		lines = append(lines, lineOf(c))
	}
	e.told = nil
	return lines
}

// lineOf writes a commit as text.
func lineOf(c kvstore.Commit[int]) string {
	s := fmt.Sprintf("%s %s@%d", c.Cause, c.Session, c.Epoch)
	if c.Whole {
		s = "whole " + s
	}
	for _, ch := range c.Changes {
		s += fmt.Sprintf("; %s %s %q: %s → %s", ch.Cause, ch.Kind, ch.Key, contentOf(ch.Kind, ch.Old), contentOf(ch.Kind, ch.New))
	}
	if !c.Expires.IsZero() {
		s += "; expires"
	}
	for _, a := range c.AddedAliases {
		s += "; +" + a
	}
	for _, a := range c.RemovedAliases {
		s += "; -" + a
	}
	return s
}

func contentOf(kind kvstore.EntryKind, c kvstore.Content[int]) (s string) {
	switch {
	case c.Unknown && !c.Exists:
		return "?"
	case !c.Exists:
		return "none"
	case kind == kvstore.Plain, kind == kvstore.QueueItem:
		s = fmt.Sprint(c.Value)
	case kind == kvstore.Counter:
		s = fmt.Sprint("=", c.Number)
	case kind == kvstore.KeyQueueItem:
		s = "to " + c.Ref
	default:
		s = "some"
	}
	if !c.Expires.IsZero() {
		s += " for a time"
	}
	return s
}

// Every cause, with what was and what is.
func TestCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := context.Background(), memory.New()
		line := &tap{Store: mem}
		db := openInts(t, line, kvstore.Options{Node: "a", MaxDelay: time.Hour, LagAlarm: time.Hour})
		defer db.Close(ctx)
		e := listens(t, db)
		var s *kvstore.Session[int]
		update := func(f func(tx *kvstore.Tx[int]) error) error { return s.Update(ctx, f) }
		at := time.Now().Add(time.Minute)
		verdict := store.Result{}
		judge := func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			rs, err := mem.Apply(ctx, nil)
			for range cs {
				rs = append(rs, verdict)
				verdict = store.Result{Outcome: store.Rejected, Err: errors.New("no"), Keys: []string{"nothing of it"}}
			}
			line.apply = nil
			return rs, err
		}
		for _, step := range []struct {
			name string
			do   func() error
			want []string
		}{
			{"create", func() (err error) { s, err = db.Create(ctx, "s"); return err }, []string{"whole create s@1"}},
			{"put", func() error { return s.Put(ctx, "k", 1) }, []string{`update s@1; put entry "k": none → 1`}},
			{"put again", func() error { return s.Put(ctx, "k", 2) }, []string{`update s@1; put entry "k": 1 → 2`}},
			{"main entry", func() error { return db.Put(ctx, "s", 3) }, []string{`update s@1; put entry "": none → 3`}},
			{"transaction", func() error {
				return update(func(tx *kvstore.Tx[int]) error {
					tx.Expire(at)
					return errors.Join(tx.Delete("k"), tx.PutUntil("t", 4, at))
				})
			}, []string{`update s@1; delete entry "k": 2 → none; put entry "t": none → 4 for a time; expires`}},
			{"nothing", func() error { return update(func(tx *kvstore.Tx[int]) error { _, err := tx.Get(""); return err }) }, nil},
			{"refused by itself", func() error {
				if err := update(func(tx *kvstore.Tx[int]) error { tx.Put("k", 5); return errors.New("no") }); err == nil {
					return errors.New("it was made")
				}
				return nil
			}, nil},
			{"expire never", func() error { return s.Expire(ctx, time.Time{}) }, []string{`update s@1`}},
			{"swap", func() error { return kvstore.CompareAndSwap(ctx, s, "", 3, 5, kvstore.InMemory) }, []string{`update s@1; put entry "": 3 → 5`}},
			{"counter", func() error { _, err := s.Add(ctx, "n", 7, kvstore.InMemory); return err }, []string{`update s@1; put counter "n": none → =7`}},
			{"queue", func() error { return s.Queue("q").PushBack(ctx, 8) }, []string{`update s@1; put item of queue "q": none → 8; put ends of queue "q": none → some`}},
			{"pop", func() error { _, err := s.Queue("q").PopFront(ctx); return err }, []string{`update s@1; delete item of queue "q": 8 → none; delete ends of queue "q": some → none`}},
			{"key queue", func() error { return s.KeyQueue("q").PushBack(ctx, "k", 9) },
				[]string{`update s@1; put item of key queue "q": none → to k; put ends of queue "q": none → some; put entry "k": none → 9`}},
			{"alias", func() error { return s.AddAlias(ctx, "also", kvstore.InMemory) }, []string{`update s@1; +also`}},
			{"alias again", func() error { return s.AddAlias(ctx, "also", kvstore.InMemory) }, []string{`update s@1`}},
			{"no alias", func() error { return s.RemoveAlias(ctx, "also", kvstore.InMemory) }, []string{`update s@1; -also`}},
			{"entry's time", func() error { time.Sleep(2 * time.Minute); return nil }, []string{`expire s@1; expire entry "t": 4 for a time → none`}},
			{"release", func() error { return db.Release(ctx, "s") }, []string{`whole release s@1`}},
			{"adopt", func() (err error) { s, err = db.Adopt(ctx, "s"); return err }, []string{`whole adopt s@2`}},
			{"put over the unknown", func() error { return s.Put(ctx, "k", 10) }, []string{`update s@2; put entry "k": ? → 10`}},
			{"put over the known", func() error { return s.Put(ctx, "", 11) }, []string{`update s@2; put entry "": 5 → 11`}},
			{"an entry is rejected", func() error {
				if err := errors.Join(s.Sync(ctx), s.Put(ctx, "k", 12)); err != nil {
					return err
				}
				verdict, line.apply = store.Result{Outcome: store.Rejected, Err: errors.New("no"), Keys: []string{"k"}}, judge
				want(t, s.Sync(ctx), kvstore.ErrRejected)
				return nil
			}, []string{`update s@2; put entry "k": 10 → 12`, `reject s@2; reject entry "k": 12 → ?`}},
			{"a new one is rejected", func() error {
				check(t, s.Sync(ctx))
				check(t, s.Delete(ctx, "k"))
				check(t, s.Sync(ctx))
				check(t, s.Put(ctx, "k", 12))
				e.news()
				verdict, line.apply = store.Result{Outcome: store.Rejected, Err: errors.New("no"), Keys: []string{"k"}}, judge
				want(t, s.Sync(ctx), kvstore.ErrRejected)
				return nil
			}, []string{`reject s@2; reject entry "k": 12 → none`}},
			{"an alias is rejected", func() error {
				check(t, s.AddAlias(ctx, "mine", kvstore.Stored))
				verdict, line.apply = store.Result{Outcome: store.Rejected, Err: &store.AliasError{Alias: "taken", Holder: "other"}}, judge
				want(t, s.AddAlias(ctx, "taken", kvstore.Stored), kvstore.ErrAlias)
				return nil
			}, []string{`update s@2; +mine`, `update s@2; +taken`, `reject s@2; -taken`}},
			{"delete", func() error { return db.Delete(ctx, "s") }, []string{`whole delete s@2; -mine`}},
			{"a new life", func() error { return db.Put(ctx, "s", 13) }, []string{`whole create s@2; put entry "": none → 13`}},
			{"its time", func() (err error) {
				s, err = db.Session(ctx, "s")
				check(t, err)
				check(t, s.Expire(ctx, time.Now().Add(time.Second)))
				time.Sleep(2 * time.Second)
				return nil
			}, []string{`update s@2; expires`, `whole expire s@2`}},
			{"its end is stored", func() error { db.Flush(ctx); return db.Flush(ctx) }, nil},
			{"made in the store", func() (err error) { s, err = db.AdoptOrCreate(ctx, "s"); return err }, []string{`whole create s@3`}},
			{"fence", func() error {
				steal(t, mem, "s")
				check(t, s.Put(ctx, "k", 14))
				want(t, s.Sync(ctx), kvstore.ErrFenced)
				return nil
			}, []string{`update s@3; put entry "k": none → 14`, `whole fence s@3`}},
			{"the session is rejected", func() error {
				_, err := db.Create(ctx, "r")
				check(t, err)
				verdict, line.apply = store.Result{Outcome: store.Rejected, Err: &store.CorruptError{Session: "r", Header: true}}, judge
				want(t, db.Flush(ctx), kvstore.ErrRejected)
				return nil
			}, []string{`whole create r@1`, `whole reject r@1`}},
		} {
			if err := step.do(); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			if got := e.news(); !slices.Equal(got, step.want) {
				t.Errorf("%s: told\n\t%s\nwant\n\t%s", step.name, strings.Join(got, "\n\t"), strings.Join(step.want, "\n\t"))
			}
		}
		if n := db.Stats(); n.Missed != 0 || n.HookPanics != 0 {
			t.Errorf("stats: %+v", n)
		}
	})
}

// An eviction and a reload change nothing, and are told in their places. Lives and epochs tell apart what has one name.
func TestCommitsOfTheEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db := openInts(t, memory.New(), kvstore.Options{Node: "a", MaxResident: 1})
		defer db.Close(ctx)
		e := listens(t, db)
		settle := func(err error) { // stored, and who came has pushed out whom he did
			t.Helper()
			check(t, errors.Join(err, db.Flush(ctx)))
			synctest.Wait()
		}
		settle(db.Put(ctx, "s", 1))
		for range 2 { // by a load, and by a claim
			settle(db.Put(ctx, "t", 2))
			v, err := db.Get(ctx, "s")
			if settle(err); v != 1 {
				t.Fatalf("the evicted has %d", v)
			}
			settle(db.Put(ctx, "t", 2))
			settle(db.Put(ctx, "s", 1))
		}
		of := slices.DeleteFunc(e.news(), func(line string) bool { return !strings.Contains(line, "s@1") })
		here, reloads := true, 0 // which of the two is evicted, is not this test's affair
		for _, line := range slices.Clone(of)[min(2, len(of)):] {
			switch {
			case line == `evict s@1` && here:
				here = false
			case line == `reload s@1` && !here:
				here = true
				reloads++
			case line == `update s@1; put entry "": 1 → 1` && here:
			default:
				t.Errorf("out of place: %s", line)
			}
		}
		if reloads < 2 {
			t.Error("it did not come to it")
		}
		if t.Failed() {
			t.Logf("told of one session\n\t%s", strings.Join(of, "\n\t"))
		}

		check(t, db.Delete(ctx, "s"))
		check(t, db.Put(ctx, "s", 4))
		synctest.Wait()
		e.mu.Lock()
		last := slices.DeleteFunc(slices.Clone(e.told), func(c kvstore.Commit[int]) bool { return c.Session != "s" })
		e.mu.Unlock()
		if len(last) < 2 {
			t.Fatal("not told of the end")
		}
		if a, b := last[len(last)-2], last[len(last)-1]; a.Cause != kvstore.CauseDelete || b.Cause != kvstore.CauseCreate || a.Life == b.Life {
			t.Errorf("two lives are told as %+v and %+v", a, b)
		}
	})
}

// A session that was evicted, that others had since, and whose claim was granted without an answer, is in the store as this node's. It comes back as one of which nothing is known.
func TestCommitsAfterALostClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := context.Background(), memory.New()
		line := storetest.NewFaults(mem)
		a := openInts(t, line, kvstore.Options{Node: "a", MaxResident: 1, StoreTimeout: time.Second})
		b := openInts(t, mem, kvstore.Options{Node: "b"})
		defer a.Close(ctx)
		defer b.Close(ctx)
		e := listens(t, a)
		check(t, errors.Join(a.Put(ctx, "s", 1), a.Flush(ctx), a.Put(ctx, "t", 2), a.Flush(ctx)))
		synctest.Wait()
		_, err := b.Steal(ctx, "s")
		check(t, errors.Join(err, b.Put(ctx, "s", 3), b.Release(ctx, "s")))
		line.Inject(func(c storetest.Call) (f storetest.Fault) {
			if c.Kind == storetest.Claim {
				f.Fail = storetest.After
			}
			return f
		})
		_, err = a.Adopt(ctx, "s")
		want(t, err, storetest.ErrInjected)
		line.Inject(nil)
		h, err := a.Session(ctx, "s")
		check(t, err)
		check(t, h.Put(ctx, "", 4))
		synctest.Wait()
		of := slices.DeleteFunc(e.news(), func(line string) bool { return !strings.Contains(line, "s@") })
		if want := []string{`whole adopt s@3`, `update s@3; put entry "": 3 → 4`}; len(of) < 2 || !slices.Equal(of[len(of)-2:], want) {
			t.Errorf("told\n\t%s\nwant at the end\n\t%s", strings.Join(of, "\n\t"), strings.Join(want, "\n\t"))
		}
	})
}

// Whoever replays what is told has what is there: whatever is done, by whomever, in whichever order, the mirror is the session.
func TestReplay(t *testing.T) {
	for _, resident := range []int{0, 2} {
		for seed := range uint64(rounds(20)) {
			t.Run(fmt.Sprint(resident, "/", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { replay(t, seed, resident) })
			})
		}
	}
}

// mirror is what commits make of sessions.
type mirror map[string]*image

type image struct {
	epoch   uint64
	expires time.Time
	entries map[string]kvstore.Content[int]
}

func (m mirror) apply(c kvstore.Commit[int]) {
	is := m[c.Session]
	if c.Whole && !(c.Cause == kvstore.CauseAdopt && is != nil && is.epoch == c.Epoch) {
		delete(m, c.Session)
		is = nil
	}
	if is == nil && c.Cause == kvstore.CauseCreate {
		is = &image{entries: map[string]kvstore.Content[int]{}}
		m[c.Session] = is
	}
	if is == nil {
		return
	}
	is.epoch, is.expires = c.Epoch, c.Expires
	for _, ch := range c.Changes {
		is.entries[fmt.Sprint(ch.Kind, " ", ch.Key)] = ch.New
	}
}

// present returns what is in the mirror now.
func (m mirror) present() map[string]map[string]int {
	now, is := time.Now(), map[string]map[string]int{}
	gone := func(at time.Time) bool { return !at.IsZero() && !at.After(now) }
	for id, s := range m {
		if gone(s.expires) {
			continue
		}
		is[id] = map[string]int{}
		for key, c := range s.entries {
			if c.Exists && !gone(c.Expires) {
				is[id][key] = c.Value + int(c.Number)
			}
		}
	}
	return is
}

func replay(t *testing.T, seed uint64, resident int) {
	ctx := context.Background()
	db := openInts(t, memory.New(), kvstore.Options{Node: "a", MaxResident: resident})
	heard, watched := mirror{}, mirror{}
	_, err := db.OnCommit(func(c kvstore.Commit[int]) { heard.apply(c) })
	check(t, err)
	walk := db.Watch(ctx, kvstore.Filter{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for c, err := range walk {
			if err == nil {
				watched.apply(c)
			}
		}
	}()
	var hands sync.WaitGroup
	for hand := range 3 {
		rnd := rand.New(rand.NewPCG(seed, uint64(hand)))
		hands.Go(func() {
			for range 150 {
				id, key := fmt.Sprint("s", rnd.IntN(4)), fmt.Sprint("k", rnd.IntN(5))
				s, err := db.AdoptOrCreate(ctx, id)
				if err != nil {
					t.Errorf("adopt: %v", err)
					return
				}
				switch rnd.IntN(10) {
				case 0, 1, 2:
					err = s.Put(ctx, key, rnd.IntN(100))
				case 3:
					err = s.Delete(ctx, key)
				case 4:
					err = s.PutUntil(ctx, key, rnd.IntN(100), time.Now().Add(time.Duration(rnd.IntN(50))*time.Millisecond))
				case 5:
					err = s.Update(ctx, func(tx *kvstore.Tx[int]) error {
						v, err := tx.Get(key)
						if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
							return err
						}
						return errors.Join(tx.Put("k0", v+1), tx.Delete(key))
					})
				case 6:
					_, err = s.Add(ctx, "n", int64(rnd.IntN(3)-1), kvstore.InMemory)
				case 7:
					time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
				case 8:
					if rnd.IntN(4) == 0 {
						err = db.Delete(ctx, id)
					}
				case 9:
					err = s.Expire(ctx, time.Now().Add(time.Duration(rnd.IntN(1000))*time.Millisecond))
				}
				if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
					t.Errorf("the operation: %v", err)
				}
			}
		})
	}
	hands.Wait()
	time.Sleep(2 * time.Second) // whose time has come has ended
	synctest.Wait()
	present := map[string]map[string]int{}
	for i := range 4 {
		id := fmt.Sprint("s", i)
		s, err := db.Session(ctx, id)
		if errors.Is(err, kvstore.ErrNotFound) || errors.Is(err, kvstore.ErrNotResident) {
			continue
		}
		check(t, err)
		all, err := s.All(ctx)
		check(t, err)
		present[id] = map[string]int{}
		for k, v := range all {
			present[id]["entry "+k] = v
		}
		n, err := s.Counter(ctx, "n")
		check(t, err)
		if n != 0 {
			present[id]["counter n"] = int(n)
		}
	}
	closeDB(t, db)
	<-done
	for what, m := range map[string]mirror{"OnCommit": heard, "Watch": watched} {
		if got := m.present(); !maps.EqualFunc(got, present, maps.Equal) {
			t.Errorf("by %s there is\n%v\nand there is\n%v", what, got, present)
		}
	}
	if n := db.Stats().Missed; n != 0 {
		t.Errorf("%d were missed", n)
	}
}
