package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
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

var errNo = errors.New("not so")

// ways are the ways in which an application changes the session "s", which has the entries "" and "k", a counter "n", the queues "q" and an alias "a". Each
// with what BeforeCommit is told of it.
var ways = map[string]struct {
	do   func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error
	told string
}{
	"DB.Put": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
		return db.Put(ctx, "s", 7)
	}, `update s@1; put entry "": 1 → 7`},
	"DB.Delete": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
		return db.Delete(ctx, "s")
	}, `whole delete s@1; -a`},
	"DB.Create": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
		_, err := db.Create(ctx, "new")
		return err
	}, `whole create new@1`},
	"Put": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
		return s.PutUntil(ctx, "x", 7, time.Now().Add(time.Hour))
	}, `update s@1; put entry "x": none → 7 for a time`},
	"Delete": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
		return s.Delete(ctx, "k")
	}, `update s@1; delete entry "k": 2 → none`},
	"Expire": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
		return s.Expire(ctx, time.Now().Add(time.Hour))
	}, `update s@1; expires`},
	"Update": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
		return s.Update(ctx, func(tx *kvstore.Tx[int]) error {
			return errors.Join(tx.Put("x", 7), tx.Delete("k"))
		})
	}, `update s@1; put entry "x": none → 7; delete entry "k": 2 → none`},
	"CompareAndSwap": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
		return kvstore.CompareAndSwap(ctx, s, "k", 2, 7, kvstore.Stored)
	}, `update s@1; put entry "k": 2 → 7`},
	"Add": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
		_, err := s.Add(ctx, "n", 1, kvstore.InMemory)
		return err
	}, `update s@1; put counter "n": =3 → =4`},
	"Queue": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
		_, err := s.Queue("q").PopFront(ctx)
		return err
	}, `update s@1; delete item of queue "q": 4 → none; delete ends of queue "q": some → none`},
	"KeyQueue": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
		_, err := s.KeyQueue("q").RemoveFront(ctx, 1)
		return err
	}, `update s@1; delete item of key queue "q": to k → none; delete ends of queue "q": some → none`},
	"AddAlias": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
		return s.AddAlias(ctx, "b", kvstore.InMemory)
	}, `update s@1; +b`},
	"RemoveAlias": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
		return s.RemoveAlias(ctx, "a", kvstore.InMemory)
	}, `update s@1; -a`},
	"DeleteTree": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
		_, err := s.DeleteTree(ctx, "k")
		return err
	}, `update s@1; delete entry "k": 2 → none`},
}

// full returns a DB with the session of ways.
func full(t *testing.T, mem *memory.Store) (*kvstore.DB[int], *kvstore.Session[int]) {
	ctx := context.Background()
	db := openInts(t, mem, kvstore.Options{Node: "a", MaxDelay: time.Hour, LagAlarm: time.Hour})
	s, err := db.AdoptOrCreate(ctx, "s")
	check(t, err)
	check(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error {
		_, err := tx.Add("n", 3)
		return errors.Join(err, tx.Put("", 1), tx.Queue("q").PushBack(4), tx.KeyQueue("q").PushBack("k", 2), tx.AddAlias("a"))
	}))
	return db, s
}

// stateOf returns all that can be seen of the session of ways, and of the DB.
func stateOf(t *testing.T, db *kvstore.DB[int], s *kvstore.Session[int]) string {
	ctx := context.Background()
	all, err := s.All(ctx)
	check(t, err)
	n, err := s.Counter(ctx, "n")
	check(t, err)
	q, err := s.Queue("q").Len(ctx)
	check(t, err)
	k, err := s.KeyQueue("q").Len(ctx)
	check(t, err)
	st := db.Stats()
	return fmt.Sprint(maps.Collect(all), n, q, k, s.Aliases(), s.Expires(), st.Resident, st.Buffered)
}

// Whatever the application does is put before the judges, as it is; if they refuse, nothing has changed, nothing is held, nothing is told, and the caller has their reason.
func TestBeforeCommitRefuses(t *testing.T) {
	for name, way := range ways {
		for _, stored := range []bool{false, true} { // what is there, is stored
			t.Run(fmt.Sprint(name, "/", stored), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := context.WithValue(context.Background(), errNo, "the caller's")
					db, s := full(t, memory.New())
					if stored {
						check(t, db.Flush(ctx))
					}
					e, before := listens(t, db), stateOf(t, db, s)
					var told []string
					stop, err := db.BeforeCommit(func(ctx context.Context, c kvstore.Commit[int]) error {
						if ctx.Value(errNo) != "the caller's" {
							t.Error("it has another context than the caller")
						}
						told = append(told, lineOf(c))
						return errNo
					})
					check(t, err)
					err = way.do(ctx, db, s)
					if !errors.Is(err, kvstore.ErrRefused) || !errors.Is(err, errNo) || !strings.Contains(err.Error(), `"s"`) && name != "DB.Create" {
						t.Errorf("it was refused, and gives %v", err)
					}
					if !slices.Equal(told, []string{way.told}) {
						t.Errorf("told before %q, want %q", told, way.told)
					}
					if after := stateOf(t, db, s); after != before {
						t.Errorf("refused, and there is\n%s\nand there was\n%s", after, before)
					}
					if got := e.news(); len(got) > 0 {
						t.Errorf("refused, and told %q", got)
					}
					if stored && db.Stats().Lag != 0 {
						t.Error("refused, and something is to be stored")
					}
					stop()
					stop()
					check(t, way.do(ctx, db, s))
					if got := e.news(); !slices.Equal(got, []string{way.told}) || len(told) != 1 {
						t.Errorf("told after %q, before %q, want %q", got, told, way.told)
					}
					closeDB(t, db)
				})
			})
		}
	}
}

// An error of a judge is a refusal, whatever it looks like: none passes for success, for a reason to try again, or for something of the DB's.
func TestBeforeCommitErrors(t *testing.T) {
	for _, kind := range []error{kvstore.ErrNotFound, kvstore.ErrFenced, kvstore.ErrConflict, kvstore.ErrEmpty, kvstore.ErrNotResident, kvstore.ErrFull, context.Canceled} {
		t.Run(kind.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				db, s := full(t, memory.New())
				check(t, db.Put(ctx, "deleted", 1))
				check(t, db.Delete(ctx, "deleted"))
				_, err := db.BeforeCommit(func(context.Context, kvstore.Commit[int]) error { return kind })
				check(t, err)
				for name, way := range ways {
					if err := way.do(ctx, db, s); !errors.Is(err, kvstore.ErrRefused) || !errors.Is(err, kind) {
						t.Errorf("%s gives %v", name, err)
					}
				}
				_, err = db.AdoptOrCreate(ctx, "deleted")
				want(t, err, kvstore.ErrRefused)
				want(t, db.Put(ctx, "deleted", 2), kvstore.ErrRefused)
				closeDB(t, db)
			})
		})
	}
}

// What was approved is what is committed: a judge who allows only what is larger than what it replaces sees every other change before, though nobody reads before he puts.
func TestBeforeCommitRace(t *testing.T) {
	ctx := context.Background()
	db := openInts(t, memory.New(), brisk("a"))
	e := listens(t, db)
	_, err := db.BeforeCommit(func(_ context.Context, c kvstore.Commit[int]) error {
		dither(10)
		for _, ch := range c.Changes {
			if ch.New.Value <= ch.Old.Value {
				return errNo
			}
		}
		return nil
	})
	check(t, err)
	var made atomic.Int64
	n := rounds(500)
	together(6, func(hand int) {
		rnd := rand.New(rand.NewPCG(uint64(hand), 7))
		for i := range n {
			switch err := db.Put(ctx, "s", 10*i+rnd.IntN(100)+1); {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, errNo):
				t.Error(err)
			}
		}
	})
	closeDB(t, db)
	last := 0
	for _, c := range e.told[1:] {
		if ch := c.Changes[0]; ch.Old.Value != last || ch.New.Value <= last {
			t.Fatalf("%d was replaced by %d; told of as %s", last, ch.New.Value, lineOf(c))
		}
		last = c.Changes[0].New.Value
	}
	if len(e.told)-1 != int(made.Load()) {
		t.Errorf("%d puts were made, and %d told", made.Load(), len(e.told)-1)
	}
}

// If what a change replaces moves while it is judged, it is judged again: as it is then.
func TestBeforeCommitAgain(t *testing.T) {
	for name, move := range map[string]struct {
		do   func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error
		then string
	}{
		"the entry": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
			return s.Put(ctx, "x", 5)
		}, `update s@1; put entry "x": 5 → 9`},
		"nothing of it": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
			return s.Put(ctx, "k", 5)
		}, ``},
		"the aliases": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
			return s.AddAlias(ctx, "b", 0)
		}, `update s@1; put entry "x": none → 9`},
		"the session ends": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
			return db.Delete(ctx, "s")
		}, `-`},
		"another judge comes": {func(ctx context.Context, db *kvstore.DB[int], s *kvstore.Session[int]) error {
			_, err := db.BeforeCommit(func(context.Context, kvstore.Commit[int]) error { return nil })
			return err
		}, `update s@1; put entry "x": none → 9`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				db, s := full(t, memory.New())
				var told []string
				moved := false
				_, err := db.BeforeCommit(func(ctx context.Context, c kvstore.Commit[int]) error {
					if len(c.Changes) == 0 || c.Changes[0].Key != "x" || c.Changes[0].New.Value != 9 {
						return nil // it is move's
					}
					told = append(told, lineOf(c))
					if !moved {
						moved = true
						check(t, move.do(ctx, db, s))
					}
					return nil
				})
				check(t, err)
				err = s.Put(ctx, "x", 9)
				w := []string{`update s@1; put entry "x": none → 9`}
				switch move.then {
				case "-":
					want(t, err, kvstore.ErrNotFound)
				case "":
					check(t, err)
				default:
					check(t, err)
					w = append(w, move.then)
				}
				if !slices.Equal(told, w) {
					t.Errorf("told %q, want %q", told, w)
				}
				closeDB(t, db)
			})
		})
	}
}

// What nobody asked for is not put before the judges, nor what does not change anything; what is not in memory is unknown, and is not loaded.
func TestBeforeCommitIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := context.Background(), memory.New()
		other := openInts(t, mem, kvstore.Options{Node: "b"})
		check(t, other.Put(ctx, "s", 1))
		s, err := other.Session(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "k", 2))
		closeDB(t, other)

		db := openInts(t, mem, kvstore.Options{Node: "a", MaxResident: 1})
		var told []string
		_, err = db.BeforeCommit(func(_ context.Context, c kvstore.Commit[int]) error {
			told = append(told, lineOf(c))
			return nil
		})
		check(t, err)
		s, err = db.Adopt(ctx, "s")
		check(t, err)
		loads := db.Stats().Loads
		check(t, s.Put(ctx, "k", 3))
		if want := []string{`update s@2; put entry "k": ? → 3`}; !slices.Equal(told, want) || db.Stats().Loads != loads {
			t.Errorf("told %q, want %q; %d loads", told, want, db.Stats().Loads-loads)
		}
		check(t, s.PutUntil(ctx, "soon", 4, time.Now().Add(time.Second)))
		check(t, s.Expire(ctx, time.Now().Add(time.Minute)))
		told = nil
		time.Sleep(2 * time.Second) // the entry expires
		check(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error { _, err := tx.Get("k"); return err }))
		check(t, db.Flush(ctx))
		_, err = db.AdoptOrCreate(ctx, "evicts") // and makes one in the store
		check(t, err)
		_, err = db.Adopt(ctx, "s")
		check(t, err)
		check(t, db.Release(ctx, "s"))
		_, err = db.Adopt(ctx, "s")
		check(t, err)
		time.Sleep(2 * time.Minute) // it expires
		if st := db.Stats(); st.Expired < 2 || st.Evicted == 0 {
			t.Errorf("it did not come to it: %+v", st)
		}
		steal(t, mem, "evicts")
		check(t, db.Flush(ctx))
		if len(told) > 0 {
			t.Errorf("put before the judges: %q", told)
		}
		closeDB(t, db)
	})
}

// The first who refuses decides, in the order in which they came. A panic reaches the caller, nothing is changed, and nothing is held.
func TestJudgesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db, s := full(t, memory.New())
		before := stateOf(t, db, s)
		var asked []int
		say := []error{nil, errNo, nil}
		for i := range say {
			_, err := db.BeforeCommit(func(context.Context, kvstore.Commit[int]) error {
				asked = append(asked, i)
				if say[i] == context.Canceled {
					panic("a bad judge")
				}
				return say[i]
			})
			check(t, err)
		}
		want(t, s.Put(ctx, "x", 1), errNo)
		if !slices.Equal(asked, []int{0, 1}) {
			t.Errorf("asked %v", asked)
		}
		say[1], say[2] = nil, context.Canceled
		func() {
			defer func() {
				if v := recover(); v != "a bad judge" {
					t.Errorf("the panic that reaches the caller is %v", v)
				}
			}()
			s.Put(ctx, "x", 1)
		}()
		if after := stateOf(t, db, s); after != before {
			t.Errorf("there is\n%s\nand there was\n%s", after, before)
		}
		say[2] = nil
		check(t, s.Put(ctx, "x", 1))

		var stop func() // one who leaves while he is asked, and takes nobody with him
		stop, err := db.BeforeCommit(func(context.Context, kvstore.Commit[int]) error { stop(); return nil })
		check(t, err)
		last := 0
		_, err = db.BeforeCommit(func(context.Context, kvstore.Commit[int]) error { last++; return nil })
		check(t, err)
		_, err = db.BeforeCommit(func(context.Context, kvstore.Commit[int]) error { last++; return nil })
		check(t, err)
		check(t, s.Put(ctx, "x", 1))
		if last != 4 { // by those who were there, and, since they are others now, again
			t.Errorf("%d are asked after one who leaves", last)
		}
		_, err = db.BeforeCommit(nil)
		want(t, err, kvstore.ErrInvalid)
		closeDB(t, db)
	})
}

// A change that waits for room is judged by who is there when there is room; if it is refused then, the room is others'.
func TestBeforeCommitAndAFullBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := context.Background(), memory.New()
		line, gate := &tap{Store: mem}, make(chan struct{})
		line.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			<-gate
			return mem.Apply(ctx, cs)
		}
		db := openInts(t, line, kvstore.Options{Node: "a", MaxBuffer: 4 << 10})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		approved := 0
		_, err = db.BeforeCommit(func(context.Context, kvstore.Commit[int]) error { approved++; return nil })
		check(t, err)
		for i := range 3 {
			check(t, s.Put(ctx, fmt.Sprint(strings.Repeat("f", 1000), i), i))
		}
		approved = 0
		room := make(chan error)
		go func() { room <- s.Put(ctx, strings.Repeat("g", 1000), 1) }()
		synctest.Wait()
		if approved != 1 {
			t.Fatalf("approved %d times", approved)
		}
		_, err = db.BeforeCommit(func(context.Context, kvstore.Commit[int]) error { return errNo })
		check(t, err)
		close(gate)
		want(t, <-room, errNo)
		check(t, db.Flush(ctx))
		if n := db.Stats().Buffered; n != 0 {
			t.Errorf("%d bytes of the buffer are held, and all is stored", n)
		}
		closeDB(t, db)
	})
}
