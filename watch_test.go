package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// walks has an ear walk until the end; err gets how it ended.
func walks(walk iter.Seq2[kvstore.Commit[int], error]) (e *ear, end chan error) {
	e, end = new(ear), make(chan error, 1)
	go func() {
		var last error
		for c, err := range walk {
			if last = err; err == nil {
				e.hear(c)
			}
		}
		end <- last
	}()
	return e, end
}

// What a filter lets through: of entries those under the keys, of sessions those whose IDs begin so; what a session as a whole does, always.
func TestWatchFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db := openInts(t, memory.New(), kvstore.Options{Node: "a"})
		_, err := db.Create(ctx, "a/1")
		check(t, err)
		s, err := db.Session(ctx, "a/1")
		check(t, err)
		ears := map[string]*ear{}
		for name, walk := range map[string]iter.Seq2[kvstore.Commit[int], error]{
			"all":      db.Watch(ctx, kvstore.Filter{}),
			"a/":       db.Watch(ctx, kvstore.Filter{Sessions: "a/"}),
			"leg/":     db.Watch(ctx, kvstore.Filter{Keys: "leg/"}),
			"a/ leg/":  db.Watch(ctx, kvstore.Filter{Sessions: "a/", Keys: "leg/"}),
			"one":      s.Watch(ctx, ""),
			"one leg/": s.Watch(ctx, "leg/"),
			"one own":  s.Watch(ctx, "\x00"),
		} {
			ears[name], _ = walks(walk)
		}
		check(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error {
			return errors.Join(tx.Put("leg/1", 1), tx.Put("other", 2), tx.Put("leg/2", 3))
		}))
		check(t, s.Put(ctx, "other", 4))
		_, err = s.Add(ctx, "leg/n", 5, kvstore.InMemory)
		check(t, err)
		o, err := db.Create(ctx, "a/11")
		check(t, err)
		check(t, o.Put(ctx, "leg/1", 6))
		o, err = db.Create(ctx, "b")
		check(t, err)
		check(t, o.Put(ctx, "leg/1", 7))
		check(t, db.Delete(ctx, "a/1"))
		var (
			three  = `update a/1@1; put entry "leg/1": none → 1; put entry "other": none → 2; put entry "leg/2": none → 3`
			two    = `update a/1@1; put entry "leg/1": none → 1; put entry "leg/2": none → 3`
			other  = `update a/1@1; put entry "other": 2 → 4`
			number = `update a/1@1; put counter "leg/n": none → =5`
			eleven = []string{`whole create a/11@1`, `update a/11@1; put entry "leg/1": none → 6`}
			b      = []string{`whole create b@1`, `update b@1; put entry "leg/1": none → 7`}
			end    = `whole delete a/1@1`
		)
		for name, want := range map[string][]string{
			"all":      slices.Concat([]string{three, other, number}, eleven, b, []string{end}),
			"a/":       slices.Concat([]string{three, other, number}, eleven, []string{end}),
			"leg/":     slices.Concat([]string{two}, eleven, b, []string{end}),
			"a/ leg/":  slices.Concat([]string{two}, eleven, []string{end}),
			"one":      {three, other, number, end},
			"one leg/": {two, end},
			"one own":  {end},
		} {
			if got := ears[name].news(); !slices.Equal(got, want) {
				t.Errorf("%s is told\n\t%q\nwant\n\t%q", name, got, want)
			}
		}
		closeDB(t, db)
	})
}

// How a walk ends, and that nothing is left of it.
func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db := openInts(t, memory.New(), kvstore.Options{Node: "a", MaxBacklog: 300})
		synctest.Wait()
		base, _ := bubbled()

		limited, cancel := context.WithCancel(ctx)
		e, end := walks(db.Watch(limited, kvstore.Filter{}))
		check(t, db.Put(ctx, "s", 1))
		if got := e.news(); len(got) != 2 {
			t.Errorf("told %q", got)
		}
		cancel()
		if err := <-end; err != nil {
			t.Errorf("a walk whose context is over ends with %v", err)
		}

		limited, cancel = context.WithTimeout(ctx, time.Minute)
		walk := db.Watch(limited, kvstore.Filter{}) // it breaks off
		for range 2 {
			check(t, db.Put(ctx, "s", 2))
		}
		for range walk {
			break
		}
		for range walk {
			t.Error("it was walked twice")
		}
		cancel()

		abandoned, cancel := context.WithCancel(ctx)
		db.Watch(abandoned, kvstore.Filter{}) // nobody walks it
		for i := range 100 {
			check(t, db.Put(ctx, "s", i))
		}
		synctest.Wait()
		missed := db.Stats().Missed
		if missed == 0 {
			t.Error("a queue that nobody reads holds everything")
		}
		cancel()
		synctest.Wait()
		check(t, db.Put(ctx, "s", 3))
		if n := db.Stats().Missed; n != missed {
			t.Errorf("a watch whose context is over missed %d", n-missed)
		}
		synctest.Wait()
		if n, stacks := bubbled(); n > base {
			t.Errorf("%d goroutines are left:\n%s", n-base, stacks)
		}
		check(t, db.Flush(ctx))

		var none context.Context
		for _, err := range db.Watch(none, kvstore.Filter{}) {
			want(t, err, kvstore.ErrInvalid)
		}

		e, end = walks(db.Watch(ctx, kvstore.Filter{})) // Close ends it, after what was before
		late := db.Watch(ctx, kvstore.Filter{})         // and nobody has begun to walk this one
		check(t, db.Put(ctx, "s", 4))
		synctest.Wait()
		for i := range 10 {
			check(t, db.Put(ctx, "s", i))
		}
		closeDB(t, db)
		want(t, <-end, kvstore.ErrClosed)
		if got := e.news(); len(got) == 0 {
			t.Error("Close was told, and not what came before it")
		}
		n, told := 0, 0
		for c, err := range late {
			n += int(c.Missed)
			if err == nil {
				told++
			} else {
				want(t, err, kvstore.ErrClosed)
			}
		}
		if n+told != 11 || n == 0 || told == 0 {
			t.Errorf("told %d, missed %d of 11", told, n)
		}
	})
}

// Whoever watches first, and reads then, has missed nothing in between.
func TestWatchThenRead(t *testing.T) {
	ctx := context.Background()
	db := openInts(t, memory.New(), brisk("a"))
	s, err := db.Create(ctx, "s")
	check(t, err)
	n := rounds(2000)
	together(2, func(hand int) {
		if hand == 0 {
			for i := range n {
				check(t, s.Put(ctx, "k", i+1))
			}
			return
		}
		for range n / 20 {
			limit, cancel := context.WithCancel(ctx)
			walk := s.Watch(limit, "k")
			v, err := s.Get(ctx, "k")
			if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
				t.Error(err)
			}
			if v == n {
				cancel()
				return
			}
			for c := range walk {
				if got := c.Changes[0].New.Value; got > v+1 {
					t.Errorf("%d was read, and then %d told", v, got)
				} else if got == v+1 {
					break
				}
			}
			cancel()
		}
	})
	closeDB(t, db)
}

// Who reads slowly is told what there is room for, and nobody waits for him.
func TestSlowWalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db := openInts(t, memory.New(), kvstore.Options{Node: "a", MaxBacklog: 1000})
		walk := db.Watch(ctx, kvstore.Filter{Sessions: "s"})
		told, missed := 0, 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for c, err := range walk {
				missed += int(c.Missed)
				if err == nil {
					told++
					time.Sleep(time.Minute)
				}
			}
		}()
		for i := range 300 {
			check(t, db.Put(ctx, fmt.Sprint("s", i%3), i))
			check(t, db.Put(ctx, "another", i)) // takes no room from it
			time.Sleep(time.Second)
		}
		closeDB(t, db)
		<-done
		if told+missed != 303 || told < 5 || int64(missed) != db.Stats().Missed {
			t.Errorf("told %d, missed %d of 303; Stats says %d", told, missed, db.Stats().Missed)
		}
	})
}
