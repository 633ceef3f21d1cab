package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// The races that the guarantees are about, with real goroutines and many rounds: run
// them with -race. Nothing here waits for a time to pass, only for what must happen.

// However many goroutines read the keys of an adopted session, each is loaded once, and what is
// loaded never covers what was written meanwhile.
func TestLoadAgainstPut(t *testing.T) {
	ctx := context.Background()
	const keys, readers = 12, 5
	for round := range rounds(80) {
		mem := memory.New()
		former := openInts(t, mem, brisk("former"))
		s, err := former.AdoptOrCreate(ctx, "s")
		check(t, err)
		for k := range keys {
			check(t, s.Put(ctx, fmt.Sprint(k), 1))
		}
		check(t, former.Release(ctx, "s"))

		var mu sync.Mutex
		loads := map[string]int{}
		var written, finished [keys]chan struct{}
		for k := range written {
			written[k], finished[k] = make(chan struct{}), make(chan struct{})
		}
		st := &tap{Store: mem}
		st.load = func(ctx context.Context, id string, ks []string) (store.Snapshot, error) {
			snap, err := mem.Load(ctx, id, ks...)
			for _, k := range ks {
				mu.Lock()
				loads[k]++
				mu.Unlock()
				if n, _ := strconv.Atoi(k); n%3 == 0 {
					<-written[n] // what was read is out of date when it arrives
				}
			}
			dither(200)
			return snap, err
		}
		db := openInts(t, st, brisk("reader"))
		s, err = db.Adopt(ctx, "s")
		check(t, err)
		var final [keys]int
		together(keys*(readers+1), func(i int) {
			k := i % keys
			key := fmt.Sprint(k)
			if i >= keys { // a reader
				for seen, last := 0, false; seen < 4; {
					select {
					case <-finished[k]:
						last = true
					default:
					}
					v, err := s.Get(ctx, key)
					if errors.Is(err, kvstore.ErrNotFound) && k%4 == 1 {
						continue // between its delete and the put after that
					}
					if err != nil {
						t.Errorf("get: %v", err)
						return
					}
					if v < max(seen, 1) || last && v != 4 {
						t.Errorf("key %s: read %d after %d; all was written: %v", key, v, seen, last)
						return
					}
					seen = v
					dither(10)
				}
				return
			}
			defer close(finished[k])
			dither(300)
			for v := 2; v <= 4; v++ { // the writer
				if err := s.Put(ctx, key, v); err != nil {
					t.Errorf("put: %v", err)
				}
				if v == 2 {
					close(written[k])
				}
				if got, err := s.Get(ctx, key); err != nil || got != v {
					t.Errorf("key %s: the writer reads %d, %v after putting %d", key, got, err, v)
				}
				if v == 3 && k%4 == 1 { // leaves memory's view, and must not come back
					check(t, s.Delete(ctx, key))
					if _, err := s.Get(ctx, key); !errors.Is(err, kvstore.ErrNotFound) {
						t.Errorf("key %s: read %v after its delete", key, err)
					}
					check(t, s.Put(ctx, key, 3))
				}
				final[k] = v
				dither(50)
			}
		})
		mu.Lock()
		for k, n := range loads {
			if n > 1 {
				t.Errorf("round %d: key %s was loaded %d times", round, k, n)
			}
		}
		mu.Unlock()
		st.load = nil
		check(t, db.Close(ctx))
		_, got := ints(t, mem, "s")
		for k, v := range final {
			if got[fmt.Sprint(k)] != v {
				t.Errorf("round %d: key %d is stored as %d, want %d", round, k, got[fmt.Sprint(k)], v)
			}
		}
		check(t, former.Close(ctx))
		if t.Failed() {
			return
		}
	}
}

// The store acknowledges late, out of order between sessions, fails before it applies, or after.
// Whatever a key was last put to is what is stored in the end.
func TestPutAgainstAcknowledgement(t *testing.T) {
	ctx := context.Background()
	const sessions, keys, writers = 12, 4, 4
	for round := range rounds(12) {
		mem := memory.New()
		st := &tap{Store: mem}
		fail := errors.New("no answer")
		var calm atomic.Bool
		st.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			dither(100)
			luck := rand.IntN(10)
			if calm.Load() {
				luck = 9
			}
			if luck == 0 {
				return nil, fail // never applied
			}
			rs, err := mem.Apply(ctx, cs)
			dither(300)
			switch luck {
			case 1:
				return nil, fail // applied all the same
			case 2:
				rs[rand.IntN(len(rs))] = store.Result{Err: fail} // one has no answer
			}
			return rs, err
		}
		o := brisk("a")
		o.RetryMin, o.RetryMax = time.Millisecond, 2*time.Millisecond
		o.MaxBatch = 1 + round%5
		o.MaxBuffer = 8 << 10
		db := openInts(t, st, o)
		handles := make([]*kvstore.Session[int], sessions)
		for i := range handles {
			var err error
			handles[i], err = db.Create(ctx, fmt.Sprint(i))
			check(t, err)
		}
		var last [sessions][keys]int // each written by one goroutine only; 0: not there
		together(writers, func(w int) {
			for n := 1; n <= 400; n++ {
				i, k := rand.IntN(sessions), rand.IntN(keys)/writers*writers+w%keys
				var err error
				if rand.IntN(5) == 0 {
					err = handles[i].Delete(ctx, fmt.Sprint(k))
					last[i][k] = 0
				} else {
					err = handles[i].Put(ctx, fmt.Sprint(k), n)
					last[i][k] = n
				}
				if err != nil {
					t.Errorf("write: %v", err)
					return
				}
				if n%50 == 0 {
					check(t, handles[i].Sync(ctx))
					if _, got := ints(t, mem, fmt.Sprint(i)); got[fmt.Sprint(k)] != last[i][k] {
						t.Errorf("after Sync the store has %d, not %d", got[fmt.Sprint(k)], last[i][k])
					}
				}
				dither(20)
			}
		})
		calm.Store(round%2 == 0)
		check(t, db.Flush(ctx))
		for i := range sessions {
			_, got := ints(t, mem, fmt.Sprint(i))
			for k := range keys {
				if v, ok := got[fmt.Sprint(k)]; v != last[i][k] || ok != (v != 0) {
					t.Errorf("round %d: session %d, key %d: stored %d (%v), last put %d", round, i, k, v, ok, last[i][k])
				}
			}
		}
		if n := db.Stats().Buffered; n != 0 {
			t.Errorf("all is stored, and %d bytes of the buffer are held", n)
		}
		check(t, db.Close(ctx))
		if t.Failed() {
			return
		}
	}
}

// Money is moved between the keys of a session by many at once. None is made or lost, and no
// transaction ever sees a sum that never was, not even one that will run again.
func TestUpdatesConserve(t *testing.T) {
	ctx := context.Background()
	const keys, movers, moves, each = 5, 6, 120, 100
	for round := range rounds(20) {
		mem := memory.New()
		former := openInts(t, mem, brisk("former"))
		s, err := former.AdoptOrCreate(ctx, "s")
		check(t, err)
		for k := range keys {
			check(t, s.Put(ctx, fmt.Sprint(k), each))
		}
		check(t, former.Close(ctx))

		st := &tap{Store: mem}
		st.load = func(ctx context.Context, id string, ks []string) (store.Snapshot, error) {
			dither(100)
			snap, err := mem.Load(ctx, id, ks...)
			dither(100)
			return snap, err
		}
		db := openInts(t, st, brisk("mover"))
		s, err = db.Adopt(ctx, "s") // its keys come while they are moved about
		check(t, err)
		var bonus atomic.Int64
		together(movers+2, func(i int) {
			for range moves {
				var extra int64
				err := s.Update(ctx, func(tx *kvstore.Tx[int]) error {
					extra = 0
					if i >= movers { // audits
						sum, count := 0, 0
						for _, k := range rand.Perm(keys) {
							v, err := tx.Get(fmt.Sprint(k))
							if err != nil {
								return err
							}
							sum += v
						}
						count, err := tx.Get("count")
						if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
							return err
						}
						if sum != keys*each+count {
							t.Errorf("a transaction saw the sum %d with %d made", sum, count)
						}
						return nil
					}
					from, to := rand.IntN(keys), rand.IntN(keys)
					if from == to { // one more for everybody to count
						v, err := tx.Get(fmt.Sprint(to))
						if err != nil {
							return err
						}
						c, err := tx.Get("count")
						if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
							return err
						}
						extra = 1
						return errors.Join(tx.Put(fmt.Sprint(to), v+1), tx.Put("count", c+1))
					}
					a, err := tx.Get(fmt.Sprint(from))
					if err != nil {
						return err
					}
					b, err := tx.Get(fmt.Sprint(to))
					if err != nil {
						return err
					}
					dither(4)
					return errors.Join(tx.Put(fmt.Sprint(from), a-1), tx.Put(fmt.Sprint(to), b+1))
				})
				if err != nil {
					t.Errorf("update: %v", err)
					return
				}
				bonus.Add(extra)
			}
		})
		check(t, db.Close(ctx))
		_, got := ints(t, mem, "s")
		sum := 0
		for k := range keys {
			sum += got[fmt.Sprint(k)]
		}
		if n := int(bonus.Load()); got["count"] != n || sum != keys*each+n {
			t.Errorf("round %d: %d increments were made; stored: %v", round, n, got)
		}
		if t.Failed() {
			return
		}
	}
}

// Everything that can be done to a few sessions, by three nodes at once. Each method may give only the errors that it
// names, epochs never go back, and when all is flushed no buffer is held.
func TestStorm(t *testing.T) {
	ctx := context.Background()
	for _, resident := range []int{0, 1, 3} {
		t.Run(fmt.Sprintf("MaxResident=%d", resident), func(t *testing.T) {
			st := newReign(memory.New())
			var dbs []*kvstore.DB[int]
			for i := range 3 {
				o := brisk(fmt.Sprintf("n%d", i))
				o.MaxResident = resident
				o.Mode = kvstore.Mode(i % 2)
				dbs = append(dbs, openInts(t, st, o))
			}
			together(9, func(i int) {
				db := dbs[i%3]
				for range rounds(300) {
					storm(t, db, fmt.Sprint(rand.IntN(5)))
					if t.Failed() {
						return
					}
				}
			})
			for _, db := range dbs {
				want(t, db.Flush(ctx), nil, kvstore.ErrFenced)
				if n := db.Stats().Buffered; n != 0 {
					t.Errorf("nothing is unsaved, and %d bytes of the buffer are held", n)
				}
				check(t, db.Close(ctx))
				if s := db.Stats(); s.Resident != 0 || s.Buffered != 0 {
					t.Errorf("after Close: %+v", s)
				}
			}
			st.check(t)
		})
	}
}

func storm(t *testing.T, db *kvstore.DB[int], id string) {
	ctx := context.Background()
	use := func(s *kvstore.Session[int], err error, kinds ...error) {
		t.Helper()
		want(t, err, append(kinds, nil)...)
		if err != nil {
			return
		}
		// The session may be taken, released, deleted or evicted and taken at any moment.
		gone := []error{nil, kvstore.ErrFenced, kvstore.ErrReleased, kvstore.ErrNotFound, kvstore.ErrNotResident}
		switch rand.IntN(6) {
		case 0:
			want(t, s.Put(ctx, "k", rand.Int()), gone...)
		case 1:
			_, err := s.Get(ctx, fmt.Sprint(rand.IntN(3)))
			want(t, err, gone...)
		case 2:
			want(t, s.Delete(ctx, "k"), gone...)
		case 3:
			want(t, s.Sync(ctx), gone...)
		case 4:
			want(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error {
				v, err := tx.Get("n")
				if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
					return err
				}
				return tx.Put("n", v+1)
			}), gone...)
		case 5:
			_, err := s.All(ctx)
			want(t, err, gone...)
		}
	}
	// In write-through mode a write also tells that it was fenced.
	switch rand.IntN(9) {
	case 0:
		want(t, db.Put(ctx, id, rand.Int()), nil, kvstore.ErrOwned, kvstore.ErrReleased, kvstore.ErrFenced)
	case 1:
		_, err := db.Get(ctx, id)
		want(t, err, nil, kvstore.ErrNotResident, kvstore.ErrNotFound)
	case 2:
		want(t, db.Delete(ctx, id), nil, kvstore.ErrOwned, kvstore.ErrReleased, kvstore.ErrFenced)
	case 3:
		s, err := db.Create(ctx, id)
		use(s, err, kvstore.ErrExists, kvstore.ErrReleased, kvstore.ErrFenced)
	case 4:
		s, err := db.Adopt(ctx, id)
		use(s, err, kvstore.ErrNotFound, kvstore.ErrOwned, kvstore.ErrReleased)
	case 5:
		s, err := db.AdoptOrCreate(ctx, id, "k", "n")
		use(s, err, kvstore.ErrOwned, kvstore.ErrReleased, kvstore.ErrFenced)
	case 6:
		s, err := db.Steal(ctx, id)
		use(s, err, kvstore.ErrNotFound, kvstore.ErrReleased)
	case 7:
		want(t, db.Release(ctx, id), nil, kvstore.ErrNotResident, kvstore.ErrNotFound, kvstore.ErrFenced)
	case 8:
		s, err := db.Session(ctx, id)
		use(s, err, kvstore.ErrNotResident, kvstore.ErrNotFound, kvstore.ErrReleased, kvstore.ErrFenced)
	}
}
