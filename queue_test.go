package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

func items(t *testing.T, q *kvstore.Queue[int]) (vs []int) {
	t.Helper()
	for v, err := range q.All(t.Context()) {
		check(t, err)
		vs = append(vs, v)
	}
	return vs
}

func TestQueue(t *testing.T) {
	ctx := t.Context()
	st := memory.New()
	db := openInts(t, st, brisk("a"))
	s, err := db.AdoptOrCreate(ctx, "s")
	check(t, err)
	q := s.Queue("jobs")
	_, err = q.PopFront(ctx)
	want(t, err, kvstore.ErrEmpty)
	_, err = q.Back(ctx)
	want(t, err, kvstore.ErrEmpty)
	for i := range 4 {
		check(t, q.PushBack(ctx, i))
	}
	check(t, q.PushFront(ctx, -1))
	check(t, s.Queue("other").PushBack(ctx, 77))
	check(t, s.Put(ctx, "jobs", 5)) // a key is no queue
	if got := items(t, q); !slices.Equal(got, []int{-1, 0, 1, 2, 3}) {
		t.Errorf("items: %v", got)
	}
	for i, op := range []func(context.Context) (int, error){q.Front, q.PopFront, q.Back, q.PopBack, q.PopFront, q.Len} {
		if v, err := op(ctx); err != nil || v != []int{-1, -1, 3, 3, 0, 2}[i] {
			t.Errorf("step %d: %d, %v", i, v, err)
		}
	}
	check(t, db.Close(ctx))

	db = openInts(t, st, brisk("b"))
	s, err = db.Adopt(ctx, "s")
	check(t, err)
	q = s.Queue("jobs")
	if got := items(t, q); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("after the adoption: %v", got)
	}
	if n, err := q.RemoveFront(ctx, 5); n != 2 || err != nil {
		t.Errorf("RemoveFront: %d, %v", n, err)
	}
	_, err = q.RemoveBack(ctx, -1)
	want(t, err, kvstore.ErrInvalid)
	all, err := s.All(ctx)
	check(t, err)
	for k, v := range all {
		if k != "jobs" || v != 5 {
			t.Errorf("All shows %q = %d", k, v)
		}
	}
	if got := children(t, s, ""); !slices.Equal(got, []string{"jobs!"}) {
		t.Errorf("Children: %q", got)
	}
	check(t, db.Close(ctx))
	if snap, err := st.Load(ctx, "s"); err != nil || len(snap.Entries) != 3 { // "jobs", and the other queue's ends and item
		t.Errorf("stored: %+v, %v", snap.Entries, err)
	}
}

// A queue in a transaction goes with the rest of it, or not at all.
func TestQueueInTx(t *testing.T) {
	ctx := t.Context()
	db := openInts(t, memory.New(), brisk("a"))
	s, err := db.AdoptOrCreate(ctx, "s")
	check(t, err)
	q := s.Queue("q")
	check(t, errors.Join(q.PushBack(ctx, 1), q.PushBack(ctx, 2)))
	no := errors.New("no")
	move := func(end error) error {
		return s.Update(ctx, func(tx *kvstore.Tx[int]) error {
			v, err := tx.Queue("q").PopFront()
			if err != nil {
				return err
			}
			if n, err := tx.Queue("q").Len(); n != 1 || err != nil {
				t.Errorf("within: %d, %v", n, err)
			}
			return errors.Join(tx.Queue("done").PushBack(v), tx.Put("last", v), end)
		})
	}
	want(t, move(no), no)
	if got := items(t, q); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("after a refusal: %v", got)
	}
	check(t, move(nil))
	if got, done := items(t, q), items(t, s.Queue("done")); !slices.Equal(got, []int{2}) || !slices.Equal(done, []int{1}) {
		t.Errorf("after: %v, %v", got, done)
	}
	var kept *kvstore.TxQueue[int]
	check(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error { kept = tx.Queue("q"); return nil }))
	want(t, kept.PushBack(1), kvstore.ErrInvalid)
	want(t, s.Queue(string(make([]byte, store.MaxKey))).PushBack(ctx, 1), kvstore.ErrTooLarge)
	check(t, db.Close(ctx))
}

// changes counts the entries that were written.
func entriesWritten(st *storetest.Faults, n *int) {
	st.OnApply(func(cs []store.Change) {
		for _, c := range cs {
			*n += len(c.Puts) + len(c.Deletes)
		}
	})
}

// TestQueueCoalesces: what is pushed and popped within a flush window is not written, nor are the ends of a queue that are where they were, or a counter
// that is what it was.
func TestQueueCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		st := storetest.NewFaults(memory.New())
		db := openInts(t, st, kvstore.Options{MaxDelay: 100 * time.Millisecond})
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		q, stack := s.Queue("q"), s.Queue("stack")
		check(t, stack.PushBack(ctx, 1))
		_, err = s.Add(ctx, "n", 5, kvstore.Stored)
		check(t, err)
		n := 0
		entriesWritten(st, &n)
		for i := range 100 {
			check(t, q.PushBack(ctx, i))
			if v, err := q.PopFront(ctx); v != i || err != nil {
				t.Fatalf("popped %d, %v", v, err)
			}
			check(t, stack.PushBack(ctx, i))
			if v, err := stack.PopBack(ctx); v != i || err != nil {
				t.Fatalf("popped %d, %v", v, err)
			}
			_, err := s.Add(ctx, "n", 3, kvstore.InMemory)
			check(t, err)
			_, err = s.Add(ctx, "n", -3, kvstore.InMemory)
			check(t, err)
			time.Sleep(7 * time.Millisecond)
		}
		check(t, s.Sync(ctx))
		if n != 0 {
			t.Errorf("%d entries were written", n)
		}
		for i := range 100 {
			check(t, q.PushBack(ctx, i))
		}
		check(t, s.Sync(ctx))
		if n != 101 {
			t.Errorf("%d entries were written for a hundred items and one pair of ends", n)
		}
		check(t, db.Close(ctx))
		if db.Stats().Buffered != 0 {
			t.Errorf("%d bytes of the buffer are held", db.Stats().Buffered)
		}
	})
}

// TestQueueIsNotLoaded: of a long queue an adopter reads what it pops, a page ahead.
func TestQueueIsNotLoaded(t *testing.T) {
	const length = 5000
	ctx := t.Context()
	st := &counting{Store: memory.New()}
	db := openInts(t, st, brisk("a"))
	s, err := db.AdoptOrCreate(ctx, "s")
	check(t, err)
	for i := range length {
		check(t, s.Queue("q").PushBack(ctx, i))
	}
	check(t, db.Close(ctx))
	db = openInts(t, st, brisk("b"))
	s, err = db.Adopt(ctx, "s")
	check(t, err)
	q := s.Queue("q")
	st.values, st.calls = 0, 0
	for i := range 10 {
		if v, err := q.PopFront(ctx); v != i || err != nil {
			t.Fatalf("PopFront: %d, %v", v, err)
		}
		if v, err := q.PopBack(ctx); v != length-1-i || err != nil {
			t.Fatalf("PopBack: %d, %v", v, err)
		}
	}
	if n, err := q.Len(ctx); n != length-20 || err != nil {
		t.Errorf("Len: %d, %v", n, err)
	}
	if st.values > 2*64+1 || st.keys > 0 || st.calls > 3 { // where it begins and ends, and 64 items at each end
		t.Errorf("%d entries and %d keys were read in %d calls", st.values, st.keys, st.calls)
	}
	before := st.values
	if n, err := q.RemoveFront(ctx, 4000); n != 4000 || err != nil {
		t.Errorf("RemoveFront: %d, %v", n, err)
	}
	if st.values != before {
		t.Errorf("RemoveFront read %d entries", st.values-before)
	}
	check(t, s.Sync(ctx))
	if got := items(t, q); len(got) != length-4020 || got[0] != 4010 {
		t.Errorf("%d items, from %d", len(got), got[0])
	}
	check(t, db.Close(ctx))
}

// TestQueueModel compares random operations on queues of both kinds and counters, through flushes whose answers are lost, evictions and adoptions, with slices.
func TestQueueModel(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { queueModel(t, rand.New(rand.NewPCG(seed, 9))) })
		})
	}
}

func queueModel(t *testing.T, rnd *rand.Rand) {
	ctx := context.Background()
	st := storetest.NewFaults(memory.New())
	fate := rand.New(rand.NewPCG(rnd.Uint64(), 8)) // the rule runs on other goroutines
	st.Inject(func(c storetest.Call) storetest.Fault {
		f := storetest.Fault{Delay: time.Duration(fate.IntN(2000)) * time.Microsecond}
		if c.Kind == storetest.Apply {
			switch fate.IntN(6) {
			case 0:
				f.Fail = storetest.Before
			case 1:
				f.Fail = storetest.After
			case 2:
				f.Twice = true
			case 3:
				f.Fail, f.Late = storetest.Late, time.Duration(fate.IntN(20))*time.Millisecond
			}
		}
		return f
	})
	opt := kvstore.Options{MaxDelay: 3 * time.Millisecond, MaxResident: rnd.IntN(2), RetryMax: 20 * time.Millisecond}
	open := func() (*kvstore.DB[int], *kvstore.Session[int]) {
		db := openInts(t, st, opt)
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		return db, s
	}
	db, s := open()
	type pair struct {
		key string
		v   int
	}
	var q []int
	var keyed []string // of the key queue
	entries := map[string]int{}
	var sum int64
	for step := range 400 {
		k := fmt.Sprint("k", rnd.IntN(6))
		switch op := rnd.IntN(12); op {
		case 0, 1:
			check(t, s.Queue("q").PushBack(ctx, step))
			q = append(q, step)
		case 2:
			check(t, s.Queue("q").PushFront(ctx, step))
			q = slices.Insert(q, 0, step)
		case 3, 4:
			pop := s.Queue("q").PopFront
			at := 0
			if op == 4 {
				pop, at = s.Queue("q").PopBack, len(q)-1
			}
			v, err := pop(ctx)
			if len(q) == 0 {
				want(t, err, kvstore.ErrEmpty)
				continue
			}
			if v != q[at] || err != nil {
				t.Fatalf("step %d: popped %d, %v of %v", step, v, err, q)
			}
			q = slices.Delete(q, at, at+1)
		case 5:
			n := rnd.IntN(4)
			got, err := s.Queue("q").RemoveBack(ctx, n)
			if n = min(n, len(q)); got != n || err != nil {
				t.Fatalf("step %d: removed %d, %v; want %d", step, got, err, n)
			}
			q = q[:len(q)-n]
		case 6:
			check(t, s.KeyQueue("q").PushBack(ctx, k, step))
			keyed, entries[k] = append(keyed, k), step
		case 7:
			check(t, s.KeyQueue("q").PushFront(ctx, k, step))
			keyed, entries[k] = slices.Insert(keyed, 0, k), step
		case 8:
			if rnd.IntN(3) == 0 {
				check(t, s.Delete(ctx, k))
				delete(entries, k)
				continue
			}
			got, v, err := s.KeyQueue("q").PopFront(ctx)
			var next pair
			found := false
			for len(keyed) > 0 && !found {
				next.key = keyed[0]
				keyed = keyed[1:]
				next.v, found = entries[next.key]
			}
			if !found {
				want(t, err, kvstore.ErrEmpty)
				continue
			}
			delete(entries, next.key)
			if got != next.key || v != next.v || err != nil {
				t.Fatalf("step %d: popped %q = %d, %v; want %+v", step, got, v, err, next)
			}
		case 9:
			delta := int64(rnd.IntN(3) - 1)
			got, err := s.Add(ctx, "n", delta, kvstore.Ack(rnd.IntN(2)))
			if sum += delta; got != sum || err != nil {
				t.Fatalf("step %d: counter %d, %v; want %d", step, got, err, sum)
			}
		case 10:
			check(t, db.Put(ctx, fmt.Sprint("other", rnd.IntN(3)), step)) // it drives this one out of memory, if it is stored
			time.Sleep(time.Duration(rnd.IntN(10)) * time.Millisecond)
		case 11:
			if got := items(t, s.Queue("q")); !slices.Equal(got, q) {
				t.Fatalf("step %d: items %v, want %v", step, got, q)
			}
			if n, err := s.KeyQueue("q").Len(ctx); n != len(keyed) || err != nil {
				t.Fatalf("step %d: %d keys, %v; want %d", step, n, err, len(keyed))
			}
			if rnd.IntN(4) == 0 {
				check(t, db.Close(ctx))
				db, s = open()
			}
		}
	}
	check(t, db.Close(ctx))
	if n := db.Stats().Buffered; n != 0 {
		t.Errorf("%d bytes of the buffer are held", n)
	}
	st.Close()
}

// TestQueueRace: what many goroutines push and pop at once is popped once each, in the order of each one's pushes.
func TestQueueRace(t *testing.T) {
	const pushers, poppers, each = 4, 4, 300
	ctx := t.Context()
	db := openInts(t, memory.New(), brisk("a"))
	s, err := db.AdoptOrCreate(ctx, "s")
	check(t, err)
	q := s.Queue("q")
	var mu sync.Mutex
	var all []int
	last := [poppers][pushers]int{}
	var left sync.WaitGroup
	left.Add(pushers * each)
	done := make(chan struct{})
	go func() { left.Wait(); close(done) }()
	together(pushers+poppers, func(i int) {
		if i < pushers {
			for n := range each {
				check(t, q.PushBack(ctx, i*each+n+1))
			}
			return
		}
		for {
			v, err := q.PopFront(ctx)
			switch {
			case errors.Is(err, kvstore.ErrEmpty):
				select {
				case <-done:
					return
				default:
					dither(20)
					continue
				}
			case err != nil:
				t.Errorf("pop: %v", err)
				return
			}
			by := (v - 1) / each
			if seen := &last[i-pushers][by]; v <= *seen {
				t.Errorf("%d was popped after %d", v, *seen)
			} else {
				*seen = v
			}
			mu.Lock()
			all = append(all, v)
			mu.Unlock()
			left.Done()
		}
	})
	slices.Sort(all)
	if len(all) != pushers*each || len(slices.Compact(all)) != pushers*each {
		t.Errorf("%d items were popped, of %d", len(all), pushers*each)
	}
	check(t, db.Close(ctx))
}

// TestQueueZombie: owners chase each other off a session with a queue. An item whose pop was acknowledged as stored is popped by nobody else; one
// whose push was is not lost.
func TestQueueZombie(t *testing.T) {
	ctx := t.Context()
	for range rounds(40) {
		mem := memory.New()
		first := openInts(t, mem, brisk("first"))
		_, err := first.AdoptOrCreate(ctx, "s")
		check(t, err)
		var mu sync.Mutex
		pushed, taken, popped := map[int]bool{}, map[int]bool{}, map[int]int{}
		together(3, func(i int) {
			db := first
			if i > 0 {
				db = openInts(t, mem, brisk(fmt.Sprint("n", i)))
			}
			for n := range 40 {
				s, err := db.Steal(ctx, "s")
				if err != nil {
					continue // another was faster
				}
				v := i*1000 + n
				push, _ := s.Add(ctx, "turns", 1, kvstore.InMemory)
				err = s.Queue("q").PushBack(ctx, v)
				if err == nil && s.Sync(ctx) == nil {
					mu.Lock()
					pushed[v] = true
					mu.Unlock()
				}
				var got int
				err = s.Update(ctx, func(tx *kvstore.Tx[int]) (err error) {
					got, err = tx.Queue("q").PopFront()
					return err
				})
				dither(int(push)%7*20 + 1)
				if err != nil {
					continue
				}
				err = s.Sync(ctx)
				mu.Lock()
				taken[got] = true // if it is not known to be stored, it may be
				if err == nil {
					popped[got]++
				}
				mu.Unlock()
			}
			if i > 0 {
				db.Close(over())
			}
		})
		last := openInts(t, mem, brisk("last"))
		s, err := last.Steal(ctx, "s")
		check(t, err)
		left := map[int]bool{}
		for _, v := range items(t, s.Queue("q")) {
			if left[v] {
				t.Errorf("%d stands in the queue twice", v)
			}
			left[v] = true
		}
		check(t, last.Close(ctx))
		first.Close(over())
		for v, n := range popped {
			if n > 1 || left[v] {
				t.Errorf("%d was popped %d times; it is still there: %t", v, n, left[v])
			}
		}
		for v := range pushed {
			if !left[v] && !taken[v] {
				t.Errorf("%d was pushed, and stored, and is gone", v)
			}
		}
	}
}

func TestCounter(t *testing.T) {
	ctx := t.Context()
	st := memory.New()
	db := openInts(t, st, brisk("a"))
	s, err := db.AdoptOrCreate(ctx, "s")
	check(t, err)
	for _, c := range []struct {
		delta, want int64
		overflows   bool
	}{
		{0, 0, false}, {5, 5, false}, {-7, -2, false}, {math.MaxInt64, math.MaxInt64 - 2, false}, {3, 0, true}, {2, math.MaxInt64, false}, {1, 0, true},
		{math.MinInt64, -1, false}, {math.MinInt64, 0, true}, {1, 0, false}, {math.MinInt64, math.MinInt64, false}, {-1, 0, true},
	} {
		n, err := s.Add(ctx, "n", c.delta, kvstore.InMemory)
		if c.overflows {
			want(t, err, kvstore.ErrOverflow)
		} else if n != c.want || err != nil {
			t.Errorf("Add(%d) = %d, %v; want %d", c.delta, n, err, c.want)
		}
	}
	_, err = s.Add(ctx, "n", 1, kvstore.Ack(2))
	want(t, err, kvstore.ErrInvalid)
	together(8, func(int) {
		for range 100 {
			if _, err := s.Add(ctx, "shared", 1, kvstore.InMemory); err != nil {
				t.Errorf("Add: %v", err)
			}
		}
	})
	check(t, db.Close(ctx))
	db = openInts(t, st, brisk("b"))
	s, err = db.Adopt(ctx, "s")
	check(t, err)
	for name, v := range map[string]int64{"n": math.MinInt64, "shared": 800, "none": 0} {
		if n, err := s.Counter(ctx, name); n != v || err != nil {
			t.Errorf("counter %s: %d, %v; want %d", name, n, err, v)
		}
	}
	check(t, db.Close(ctx))
}

// TestOwnEntriesDamaged: an entry of the library's that is not what it writes is an error that says so, and the rest is served.
func TestOwnEntriesDamaged(t *testing.T) {
	ctx := t.Context()
	st := memory.New()
	db := openInts(t, st, brisk("a"))
	s, err := db.AdoptOrCreate(ctx, "s")
	check(t, err)
	check(t, db.Close(ctx))
	_ = s
	owner := store.Owner{Node: "x", Incarnation: store.NewIncarnation()}
	c, err := st.Claim(ctx, store.ClaimRequest{Session: "s", Owner: owner})
	check(t, err)
	_, err = st.Apply(ctx, []store.Change{{Session: "s", Owner: owner, Epoch: c.Header.Epoch, Seq: 1, Release: true, Puts: []store.Entry{
		{Key: "\x00qjobs", Value: []byte("short")}, {Key: "\x00cn", Value: []byte("123456789")}, {Key: "\x00zlater", Value: []byte("?")}, {Key: "k", Value: []byte("1")},
	}}})
	check(t, err)
	db = openInts(t, st, brisk("b"))
	s, err = db.Adopt(ctx, "s")
	check(t, err)
	var damaged *store.CorruptError
	if _, err := s.Queue("jobs").PopFront(ctx); !errors.As(err, &damaged) {
		t.Errorf("pop: %v", err)
	}
	if err := s.Queue("jobs").PushBack(ctx, 1); !errors.As(err, &damaged) {
		t.Errorf("push: %v", err)
	}
	if _, err := s.Add(ctx, "n", 1, kvstore.InMemory); !errors.As(err, &damaged) {
		t.Errorf("add: %v", err)
	}
	if v, err := s.Get(ctx, "k"); v != 1 || err != nil {
		t.Errorf("get: %d, %v", v, err)
	}
	check(t, db.Close(ctx))
	if snap, err := st.Load(ctx, "s"); err != nil || len(snap.Entries) != 4 {
		t.Errorf("stored: %+v, %v", snap.Entries, err)
	}
}

// TestQueueWithHoles: an item that the store refuses is handed over, with what it was; pops pass over where it was, and a queue of which nothing else is left is empty.
func TestQueueWithHoles(t *testing.T) {
	ctx := t.Context()
	mem := memory.New()
	st := &tap{Store: mem}
	bad := true
	st.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
		rs := make([]store.Result, len(cs))
		for i, c := range cs {
			for _, e := range c.Puts {
				if bad && string(e.Value) == "666" {
					rs[i] = store.Result{Outcome: store.Rejected, Err: store.ErrTooLarge, Keys: append(rs[i].Keys, e.Key)}
				}
			}
			if rs[i].Outcome == 0 {
				one, err := mem.Apply(ctx, []store.Change{c})
				if err != nil {
					return nil, err
				}
				rs[i] = one[0]
			}
		}
		return rs, nil
	}
	var lost []kvstore.LostEntry
	o := brisk("a")
	o.Hooks.Lost = func(l kvstore.Lost) { lost = append(lost, l.Entries...) }
	db := openInts(t, st, o)
	s, err := db.AdoptOrCreate(ctx, "s")
	check(t, err)
	q := s.Queue("q")
	check(t, errors.Join(q.PushBack(ctx, 666), q.PushBack(ctx, 1), q.PushBack(ctx, 666)))
	want(t, s.Sync(ctx), kvstore.ErrRejected)
	if v, err := q.PopFront(ctx); v != 1 || err != nil {
		t.Errorf("PopFront: %d, %v", v, err)
	}
	_, err = q.PopFront(ctx)
	want(t, err, kvstore.ErrEmpty)
	if n, err := q.Len(ctx); n != 0 || err != nil {
		t.Errorf("Len: %d, %v", n, err)
	}
	check(t, db.Close(ctx))
	if len(lost) != 2 || lost[0].Kind != kvstore.QueueItem || lost[0].Key != "q" || lost[0].Value != 666 {
		t.Errorf("handed over: %+v", lost)
	}
	if snap, err := mem.Load(ctx, "s"); err != nil || len(snap.Entries) != 0 {
		t.Errorf("stored: %+v, %v", snap.Entries, err)
	}
}
