package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// Everything against sessions that leave: eviction, Close, Drain, Release.

// Far more sessions than may be resident, and the only node that there is. Every read gives
// what was written last, from memory or after a reload, and no session is ever missing.
func TestEvictionAgainstEverything(t *testing.T) {
	ctx := context.Background()
	for _, max := range []int{1, 3, 8} {
		t.Run(fmt.Sprintf("MaxResident=%d", max), func(t *testing.T) {
			mem := memory.New()
			o := brisk("a")
			o.MaxResident = max
			db := openInts(t, mem, o)
			const writers, each = 4, 10
			together(writers, func(w int) {
				type state struct{ main, key int } // 0: not there
				var now [each]state
				var handles [each]*kvstore.Session[int]
				for n := 1; n <= rounds(250) && !t.Failed(); n++ {
					i := rand.IntN(each)
					id := fmt.Sprintf("%d.%d", w, i)
					s := handles[i]
					if s == nil || rand.IntN(8) == 0 {
						var err error
						if s == nil && rand.IntN(2) == 0 {
							s, err = db.Create(ctx, id)
						} else if s == nil {
							s, err = db.AdoptOrCreate(ctx, id)
						} else {
							s, err = db.Session(ctx, id)
						}
						if err != nil {
							t.Errorf("session %s, which is ours: %v", id, err)
							return
						}
						handles[i] = s
					}
					var err error
					var got int
					expect := func(v int) {
						if errors.Is(err, kvstore.ErrNotFound) {
							got, err = 0, nil
						}
						if err == nil && got != v {
							t.Errorf("session %s: read %d, wrote %d", id, got, v)
						}
					}
					switch rand.IntN(8) {
					case 0:
						if err = db.Put(ctx, id, n); err == nil {
							now[i].main = n
						}
					case 1:
						if err = s.Put(ctx, "k", n); err == nil {
							now[i].key = n
						}
					case 2:
						got, err = db.Get(ctx, id)
						expect(now[i].main)
					case 3:
						got, err = s.Get(ctx, "k")
						expect(now[i].key)
					case 4:
						err = s.Update(ctx, func(tx *kvstore.Tx[int]) error {
							a, _ := tx.Get("")
							b, err := tx.Get("k")
							if err == nil && (a != now[i].main || b != now[i].key) {
								t.Errorf("session %s: a transaction read %d, %d; wrote %v", id, a, b, now[i])
							}
							return errors.Join(tx.Put("", -n), tx.Put("k", -n))
						})
						if err == nil {
							now[i] = state{-n, -n}
						}
					case 5:
						if err = s.Delete(ctx, "k"); err == nil {
							now[i].key = 0
						}
					case 6:
						err = s.Sync(ctx)
					case 7:
						var all func(func(string, int) bool)
						all, err = s.All(ctx)
						if err == nil {
							m := maps.Collect(all)
							if m[""] != now[i].main || m["k"] != now[i].key {
								t.Errorf("session %s: All gives %v, wrote %v", id, m, now[i])
							}
						}
					}
					if err != nil {
						t.Errorf("session %s, which is ours: %v", id, err)
					}
				}
				for i, v := range now {
					if handles[i] == nil {
						continue
					}
					check(t, handles[i].Sync(ctx))
					if _, got := ints(t, mem, fmt.Sprintf("%d.%d", w, i)); got[""] != v.main || got["k"] != v.key {
						t.Errorf("session %d.%d is stored as %v, want %v", w, i, got, v)
					}
				}
			})
			if s := db.Stats(); s.Evicted == 0 || s.Reloaded == 0 {
				t.Errorf("the test evicts nothing: %+v", s)
			}
			check(t, db.Close(ctx))
		})
	}
}

// While a sick store keeps sessions dirty none of them may be evicted, and new ones must come in all the
// same, without asking the store for ever.
func TestEvictionWithEverythingPinned(t *testing.T) {
	ctx := context.Background()
	mem := memory.New()
	st := &tap{Store: mem}
	heal := make(chan struct{})
	st.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
		select {
		case <-heal:
			return mem.Apply(ctx, cs)
		default:
			return nil, errors.New("down")
		}
	}
	var claims atomic.Int32
	st.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
		claims.Add(1)
		return mem.Claim(ctx, r)
	}
	o := brisk("a")
	o.MaxResident = 1
	o.RetryMin, o.RetryMax = time.Millisecond, 2*time.Millisecond
	db := openInts(t, st, o)
	const n = 20
	for i := range n {
		if i%2 == 0 {
			s, err := db.Create(ctx, fmt.Sprint(i))
			check(t, err)
			check(t, s.Put(ctx, "", i))
		} else {
			check(t, db.Put(ctx, fmt.Sprint(i), i))
		}
	}
	for i := range n {
		if v, err := db.Get(ctx, fmt.Sprint(i)); err != nil || v != i {
			t.Errorf("session %d: read %d, %v", i, v, err)
		}
	}
	if c := claims.Load(); c > 2*n {
		t.Errorf("%d sessions were claimed %d times", n/2, c)
	}
	if r := db.Stats().Resident; r != n {
		t.Errorf("%d sessions are resident, %d are unsaved", r, n)
	}
	close(heal)
	check(t, db.Flush(ctx))
	for i := range n {
		if _, got := ints(t, mem, fmt.Sprint(i)); got[""] != i {
			t.Errorf("session %d is stored as %v", i, got)
		}
	}
	check(t, db.Close(ctx))
}

// Close in the middle of everything: what was told to be done is stored, to the last write.
func TestCloseAgainstEverything(t *testing.T) {
	ctx := context.Background()
	for round := range rounds(40) {
		mem := memory.New()
		o := brisk("a")
		o.MaxResident = round % 4 * 2
		if round%5 == 0 {
			o.MaxDelay = time.Minute // only Close flushes
			o.MaxBuffer = 16 << 10
		}
		l := newLedger()
		o.Hooks = l.hooks()
		db := openInts(t, mem, o)
		const writers = 4
		var last [writers][3]int
		var wg sync.WaitGroup
		started := make(chan struct{}, writers)
		for w := range writers {
			wg.Go(func() {
				for n := 1; ; n++ {
					i := n % 3
					if err := db.Put(ctx, fmt.Sprintf("%d.%d", w, i), n); err != nil {
						want(t, err, kvstore.ErrClosed)
						break
					}
					last[w][i] = n
					runtime.Gosched()
					if n == 5 {
						started <- struct{}{}
					}
				}
			})
		}
		for i := range 4 { // noise
			wg.Go(func() {
				for n := 0; ; n++ {
					runtime.Gosched()
					id := fmt.Sprintf("noise%d", n%3)
					var err error
					switch (i + n) % 5 {
					case 0:
						err = db.Flush(ctx)
					case 1:
						_, err = db.AdoptOrCreate(ctx, id)
					case 2:
						err = db.Delete(ctx, id)
					case 3:
						err = db.Release(ctx, id)
					case 4:
						_, err = db.Create(ctx, id)
					}
					if errors.Is(err, kvstore.ErrClosed) {
						return
					}
					if err != nil {
						// Fenced: what was released here exists, and Create did not ask.
						want(t, err, kvstore.ErrReleased, kvstore.ErrExists, kvstore.ErrNotResident, kvstore.ErrNotFound, kvstore.ErrFenced)
					}
				}
			})
		}
		for range writers {
			<-started
		}
		dither(60)
		together(3, func(int) { // and thrice at once
			// What was made by Create, and exists, is fenced in the last flush.
			want(t, db.Close(ctx), nil, kvstore.ErrFenced)
		})
		wg.Wait()
		for w := range writers {
			for i, n := range last[w] {
				if _, got := ints(t, mem, fmt.Sprintf("%d.%d", w, i)); got[""] != n {
					t.Errorf("round %d: %d.%d was last put to %d, stored: %v", round, w, i, n, got)
				}
			}
		}
		if len(l.lost) > 0 {
			t.Errorf("round %d: the store was healthy, and %v were lost", round, l.lost)
		}
		if t.Failed() {
			return
		}
	}
}

// Close with a store that fails, and a context that is over: each write that was told to be done is stored,
// or handed over with its value.
func TestCloseOnAFailingStore(t *testing.T) {
	ctx := context.Background()
	for round := range rounds(60) {
		mem := memory.New()
		st := &tap{Store: mem}
		var calls atomic.Int32
		st.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			dither(50)
			if calls.Add(1) > int32(round%7) {
				return nil, errors.New("down")
			}
			return mem.Apply(ctx, cs)
		}
		l := newLedger()
		o := brisk("a")
		o.Hooks = l.hooks()
		db := openInts(t, st, o)
		const writers = 4
		var last [writers]map[string]int
		var wg sync.WaitGroup
		started := make(chan struct{}, writers)
		for w := range writers {
			last[w] = map[string]int{}
			wg.Go(func() {
				s, err := db.Create(ctx, fmt.Sprint(w))
				check(t, err)
				for n := 1; ; n++ {
					k := fmt.Sprint(n % 3)
					if err := s.Put(ctx, k, n); err != nil {
						want(t, err, kvstore.ErrClosed)
						return
					}
					last[w][k] = n
					runtime.Gosched()
					if n == 10 {
						started <- struct{}{}
					}
				}
			})
		}
		for range writers {
			<-started
		}
		dither(60)
		err := db.Close(over())
		wg.Wait()
		lost := 0
		for w := range writers {
			_, got := ints(t, mem, fmt.Sprint(w))
			for k, n := range last[w] {
				back := l.lost[fmt.Sprintf("%d/%s", w, k)]
				if got[k] != n && !slices.Equal(back, []int{n}) || len(back) > 1 {
					t.Errorf("round %d: %d/%s was last put to %d, stored: %d, handed over: %v", round, w, k, n, got[k], back)
				}
				lost += len(back)
			}
		}
		var unsaved *kvstore.UnsavedError
		if errors.As(err, &unsaved) && unsaved.Entries != lost || unsaved == nil && lost > 0 {
			t.Errorf("round %d: %d entries were handed over, Close says %v", round, lost, err)
		}
		if t.Failed() {
			return
		}
	}
}

// Drain in the middle of everything: what was told to be done is stored, no session is left here, and
// another node adopts each at once, though this one lives.
func TestDrainAgainstEverything(t *testing.T) {
	ctx := context.Background()
	for round := range rounds(40) {
		mem := newReign(memory.New())
		o := brisk("a")
		o.MaxResident = round % 4 * 2
		l := newLedger()
		o.Hooks = l.hooks()
		db := openInts(t, mem, o)
		const writers, each = 4, 5
		handles := [writers][each]*kvstore.Session[int]{}
		var last [writers][each]int
		for w := range writers {
			for i := range each {
				s, err := db.Create(ctx, fmt.Sprintf("%d.%d", w, i))
				check(t, err)
				handles[w][i] = s
			}
		}
		var wg sync.WaitGroup
		started := make(chan struct{}, writers)
		var drained atomic.Bool
		for w := range writers {
			wg.Go(func() {
				open := each
				for n := 1; open > 0; n++ {
					runtime.Gosched()
					i := n % each
					if handles[w][i] == nil {
						continue
					}
					if err := handles[w][i].Put(ctx, "", n); err != nil {
						want(t, err, kvstore.ErrReleased, kvstore.ErrNotResident, kvstore.ErrDraining)
						if drained.Load() || errors.Is(err, kvstore.ErrReleased) {
							handles[w][i] = nil
							open--
						}
						continue
					}
					last[w][i] = n
					if n == 5 {
						started <- struct{}{}
					}
				}
			})
		}
		for i := range 2 { // reads bring evicted sessions in again
			wg.Go(func() {
				for n := i; !drained.Load(); n++ {
					runtime.Gosched()
					_, err := db.Get(ctx, fmt.Sprintf("%d.%d", n%writers, n/writers%each))
					want(t, err, nil, kvstore.ErrNotFound, kvstore.ErrNotResident, kvstore.ErrDraining)
				}
			})
		}
		wg.Go(func() {
			for n := 0; !drained.Load(); n++ {
				_, err := db.AdoptOrCreate(ctx, fmt.Sprintf("new%d", n))
				want(t, err, nil, kvstore.ErrDraining)
				runtime.Gosched()
			}
		})
		for range writers {
			<-started
		}
		dither(60)
		err := db.Drain(ctx)
		drained.Store(true)
		check(t, err)
		wg.Wait()
		if n := db.Stats().Resident; n != 0 {
			t.Errorf("round %d: %d sessions are resident after Drain", round, n)
		}
		other := openInts(t, mem, brisk("b"))
		for h, err := range mem.Sessions(ctx, store.Query{}) {
			check(t, err)
			s, err := other.Adopt(ctx, h.Session)
			if err != nil {
				t.Errorf("round %d: session %s after Drain: %v", round, h.Session, err)
				continue
			}
			if strings.HasPrefix(h.Session, "new") {
				continue
			}
			var w, i int
			fmt.Sscanf(h.Session, "%d.%d", &w, &i)
			v, err := s.Get(ctx, "")
			if errors.Is(err, kvstore.ErrNotFound) {
				err = nil
			}
			if err != nil || v != last[w][i] {
				t.Errorf("round %d: session %s was last put to %d; adopted: %d, %v", round, h.Session, last[w][i], v, err)
			}
		}
		if len(l.lost) > 0 {
			t.Errorf("round %d: lost: %v", round, l.lost)
		}
		check(t, db.Close(ctx))
		check(t, other.Close(ctx))
		mem.check(t)
		if t.Failed() {
			return
		}
	}
}

// A hand-over that one caller gives up, while another waits for it: whoever is told that it is done, for
// him it is.
func TestReleasesRace(t *testing.T) {
	for round := range rounds(100) {
		mem := memory.New()
		st := &tap{Store: mem}
		st.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			dither(100)
			return mem.Apply(ctx, cs)
		}
		db := openInts(t, st, brisk("a"))
		ctx, cancel := context.WithCancel(context.Background())
		check(t, db.Put(context.Background(), "s", round))
		errs := make([]error, 3)
		together(4, func(i int) {
			switch i {
			case 0:
				dither(100)
				cancel()
			case 1:
				errs[0] = db.Release(context.Background(), "s")
			default:
				errs[i-1] = db.Release(ctx, "s")
			}
		})
		want(t, errs[0], nil, kvstore.ErrNotResident)
		if h, got := ints(t, mem, "s"); !h.Released || got[""] != round {
			t.Errorf("round %d: Release returned %v; the store has %+v, %v", round, errs, h, got)
		}
		if n := db.Stats().Resident; n != 0 {
			t.Errorf("round %d: Release returned %v, and the session is here", round, errs)
		}
		check(t, db.Close(context.Background()))
		if t.Failed() {
			return
		}
	}
}
