package redo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// forgetful is a server that has lost, after a crash, all since the last time that it hardened. Claims are durable.
type forgetful struct {
	mu     sync.Mutex
	st     *memory.Store
	memory Memory
	hard   []func(st *memory.Store) // what is durable
	soft   []func(st *memory.Store)
	rand   *rand.Rand
	faulty bool          // it crashes and fails now and then
	lazy   bool          // it hardens nothing, whatever it says
	slow   time.Duration // what a Write takes
	after  func()        // called when it has hardened, before it says so
}

func newForgetful(seed uint64) *forgetful {
	return &forgetful{st: memory.New(), memory: Memory(store.NewIncarnation()), rand: rand.New(rand.NewPCG(seed, 0))}
}

var errDown = errors.New("the server is down")

// trouble has the server crash, perhaps, or the call fail. Caller holds mu.
func (f *forgetful) trouble() error {
	if !f.faulty {
		return nil
	}
	switch f.rand.IntN(100) {
	case 0:
		f.crash()
		return errDown
	case 1:
		f.crash() // and it is there again before anybody asks
	case 2:
		return errDown
	}
	return nil
}

// crash forgets. Caller holds mu.
func (f *forgetful) crash() {
	f.st, f.memory, f.soft = memory.New(), Memory(store.NewIncarnation()), nil
	for _, do := range f.hard {
		do(f.st)
	}
}

func (f *forgetful) harden() { f.hard, f.soft = append(f.hard, f.soft...), nil }

func (f *forgetful) Memory(context.Context) (Memory, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.memory, f.trouble()
}

func (f *forgetful) Write(ctx context.Context, of Memory, cs []store.Change) ([]store.Result, error) {
	select {
	case <-time.After(f.slow):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.trouble(); err != nil {
		return nil, err
	}
	if f.memory != of {
		return nil, ErrForgot
	}
	rs, err := f.st.Apply(ctx, cs)
	if err != nil {
		return nil, err
	}
	own := slices.Clone(cs) // the values of these tests are never written to again
	f.soft = append(f.soft, func(st *memory.Store) { st.Apply(context.Background(), own) })
	return rs, f.trouble() // the answer is lost
}

func (f *forgetful) Harden(_ context.Context, of Memory) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.trouble(); err != nil {
		return err
	}
	if f.memory != of {
		return ErrForgot
	}
	if !f.lazy {
		f.harden()
	}
	if f.after != nil {
		f.mu.Unlock()
		f.after()
		f.mu.Lock()
	}
	return f.trouble()
}

func (f *forgetful) claim(t *testing.T, id string, o store.Owner) store.Header {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	r := store.ClaimRequest{Session: id, Owner: o, Create: true, Force: true}
	c, err := f.st.Claim(t.Context(), r)
	if err != nil || c.Outcome != store.Granted {
		t.Fatalf("claim: %+v, %v", c, err)
	}
	f.harden()
	f.hard = append(f.hard, func(st *memory.Store) { st.Claim(context.Background(), r) })
	return c.Header
}

func (f *forgetful) value(t *testing.T, id, key string) string {
	t.Helper()
	s, err := f.st.Load(t.Context(), id, key)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Entries) == 0 {
		return ""
	}
	return string(s.Entries[0].Value)
}

// Whatever was acknowledged is there in the end, however often the server crashes: each key that was written only once, too.
func TestNothingAcknowledgedIsForgotten(t *testing.T) {
	for seed := range uint64(30) {
		f := newForgetful(seed)
		l := New(f, 0)
		o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
		const writers, writes = 4, 100
		for g := range writers {
			f.claim(t, strconv.Itoa(g), o)
		}
		f.mu.Lock()
		f.faulty = true
		f.mu.Unlock()
		var wg sync.WaitGroup
		for g := range writers {
			wg.Go(func() {
				for n := range writes {
					c := store.Change{Session: strconv.Itoa(g), Owner: o, Epoch: 1, Seq: uint64(n + 1), Puts: []store.Entry{{Key: fmt.Sprint("k", n), Value: []byte("v")}}}
					for {
						rs, err := l.Write(t.Context(), []store.Change{c})
						if err == nil && (rs[0].Outcome == store.Applied || rs[0].Outcome == store.Already) {
							break
						}
						if err == nil {
							t.Errorf("%+v", rs[0])
							return
						}
					}
					if n%20 == 10 {
						l.Barrier(t.Context())
					}
				}
			})
		}
		wg.Wait()
		for l.Barrier(t.Context()) != nil {
		}
		l.Close()
		f.mu.Lock()
		f.faulty = false
		f.crash() // what a barrier has made durable is there
		f.mu.Unlock()
		for g := range writers {
			for n := range writes {
				if v := f.value(t, strconv.Itoa(g), fmt.Sprint("k", n)); v != "v" {
					t.Fatalf("seed %d: session %d, key %d is %q", seed, g, n, v)
				}
			}
		}
		if len(l.kept) != 0 || l.bytes != 0 {
			t.Errorf("after a barrier %d changes of %d bytes are kept", len(l.kept), l.bytes)
		}
	}
}

// What was forgotten, and is somebody else's when it could be written again, is told: once.
func TestTheForgottenAndClaimed(t *testing.T) {
	f := newForgetful(1)
	l := New(f, 0)
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	for _, id := range []string{"mine", "taken"} {
		f.claim(t, id, o)
		rs, err := l.Write(t.Context(), []store.Change{{Session: id, Owner: o, Epoch: 1, Seq: 1, Puts: []store.Entry{{Value: []byte("v")}}}})
		if err != nil || rs[0].Outcome != store.Applied {
			t.Fatal(rs, err)
		}
	}
	f.soft = nil
	f.crash()
	f.claim(t, "taken", store.Owner{Node: "b", Incarnation: store.NewIncarnation()})
	err := l.Barrier(t.Context())
	var lost *store.ForgottenError
	if !errors.As(err, &lost) || len(lost.Sessions) != 1 || lost.Sessions[0] != "taken" {
		t.Fatalf("the barrier says %v", err)
	}
	if err := l.Barrier(t.Context()); err != nil {
		t.Errorf("it says so twice: %v", err)
	}
	if v := f.value(t, "mine", ""); v != "v" {
		t.Errorf("what could be written again is %q", v)
	}
	l.Close()
}

// What is acknowledged while a barrier is under way is not covered by it.
func TestWrittenDuringABarrier(t *testing.T) {
	f := newForgetful(1)
	l := New(f, 0)
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	f.claim(t, "s", o)
	write := func(seq uint64, key string) {
		rs, err := l.Write(t.Context(), []store.Change{{Session: "s", Owner: o, Epoch: 1, Seq: seq, Puts: []store.Entry{{Key: key, Value: []byte("v")}}}})
		if err != nil || rs[0].Outcome != store.Applied {
			t.Error(rs, err)
		}
	}
	write(1, "before")
	f.after = func() { f.after = nil; write(2, "during") }
	if err := l.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.crash()
	if err := l.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"before", "during"} {
		if v := f.value(t, "s", key); v != "v" {
			t.Errorf("%s is %q", key, v)
		}
	}
	l.Close()
}

// However short the contexts are of those who have it written again, it comes to an end.
func TestRecallGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newForgetful(1)
		l := New(f, 0)
		o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
		f.claim(t, "s", o)
		f.slow = time.Millisecond
		const keys = 10_000 // so 40 calls
		for n := range keys / 100 {
			var cs []store.Change
			for i := range 100 {
				seq := uint64(n*100 + i + 1)
				cs = append(cs, store.Change{Session: "s", Owner: o, Epoch: 1, Seq: seq, Puts: []store.Entry{{Key: fmt.Sprint(seq), Value: []byte("v")}}})
			}
			if _, err := l.Write(context.Background(), cs); err != nil {
				t.Fatal(err)
			}
		}
		f.mu.Lock()
		f.crash()
		f.mu.Unlock()
		for try := 0; ; try++ {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			err := l.Barrier(ctx)
			cancel()
			if err == nil {
				break
			}
			if try == 10 {
				t.Fatalf("it does not come to an end: %v", err)
			}
		}
		for seq := range keys {
			if v := f.value(t, "s", fmt.Sprint(seq+1)); v != "v" {
				t.Fatalf("key %d is %q", seq+1, v)
			}
		}
		l.Close()
	})
}

// What nobody asks a barrier for is kept for a second, and no longer.
func TestKeptForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newForgetful(1)
		l := New(f, 0)
		o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
		f.claim(t, "s", o)
		write := func(seq uint64) {
			t.Helper()
			rs, err := l.Write(context.Background(), []store.Change{{Session: "s", Owner: o, Epoch: 1, Seq: seq, Puts: []store.Entry{{Value: []byte("v")}}}})
			if err != nil || rs[0].Outcome != store.Applied {
				t.Fatal(rs, err)
			}
		}
		are := func(want int) {
			t.Helper()
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(l.kept) != want || len(f.soft) != want {
				t.Errorf("%d are kept, and %d not durable, want %d", len(l.kept), len(f.soft), want)
			}
		}
		write(1)
		time.Sleep(maxAge / 2)
		write(2)
		are(2)
		time.Sleep(maxAge/2 + 1)
		are(0)
		write(3)
		are(1)
		time.Sleep(maxAge + 1)
		are(0)
		l.Close()
	})
}

// What is kept is the log's own: callers use their memory again.
func TestKeepsCopies(t *testing.T) {
	f := newForgetful(1)
	l := New(f, 0)
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	f.claim(t, "s", o)
	c := store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Puts: []store.Entry{{Key: "k", Value: []byte("kept")}, {Key: "gone", Value: []byte("x")}}, Aliases: []string{"alias"}}
	d := store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 2, Deletes: []string{"gone"}, Aliases: c.Aliases}
	if _, err := l.Write(t.Context(), []store.Change{c, d}); err != nil {
		t.Fatal(err)
	}
	copy(c.Puts[0].Value, "lost")
	c.Puts[0].Key, d.Deletes[0], c.Aliases[0] = "other", "other", "other"
	f.crash()
	if err := l.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := f.st.Load(t.Context(), "s")
	if err != nil || len(s.Entries) != 1 || s.Entries[0].Key != "k" || string(s.Entries[0].Value) != "kept" || s.Header.Aliases[0] != "alias" {
		t.Errorf("written again was %+v, %v", s, err)
	}
	l.Close()
}

// A change that cannot be written again, as another session has taken its alias meanwhile, is told like one that somebody else fences.
func TestTheForgottenAndRenamed(t *testing.T) {
	f := newForgetful(1)
	l := New(f, 0)
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	named := func(id string) []store.Change {
		return []store.Change{{Session: id, Owner: o, Epoch: 1, Seq: 1, Aliases: []string{"x"}}}
	}
	f.claim(t, "s", o)
	f.claim(t, "t", o)
	if rs, err := l.Write(t.Context(), named("s")); err != nil || rs[0].Outcome != store.Applied {
		t.Fatal(rs, err)
	}
	f.crash()
	if rs, err := f.st.Apply(t.Context(), named("t")); err != nil || rs[0].Outcome != store.Applied {
		t.Fatal(rs, err)
	}
	err := l.Barrier(t.Context())
	var lost *store.ForgottenError
	if !errors.As(err, &lost) || len(lost.Sessions) != 1 || lost.Sessions[0] != "s" {
		t.Errorf("the barrier gives %v", err)
	}
	l.Close()
}

// What is to stay is kept although a barrier has covered it, for as long as that, and no longer; but not if it is too much.
func TestStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stays = 3 * time.Second
		f := newForgetful(1)
		l := New(f, stays)
		o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
		f.claim(t, "s", o)
		seq := uint64(0)
		write := func(bytes int) {
			t.Helper()
			seq++
			rs, err := l.Write(context.Background(), []store.Change{{Session: "s", Owner: o, Epoch: 1, Seq: seq, Puts: []store.Entry{{Value: make([]byte, bytes)}}}})
			if err != nil || rs[0].Outcome != store.Applied {
				t.Fatal(rs, err)
			}
		}
		are := func(want int) {
			t.Helper()
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			if len(l.kept) != want {
				t.Errorf("%d are kept, want %d", len(l.kept), want)
			}
		}
		write(1)
		time.Sleep(stays - time.Millisecond)
		if err := l.Barrier(context.Background()); err != nil {
			t.Fatal(err)
		}
		are(1)
		time.Sleep(maxAge + time.Millisecond)
		are(0)
		for range 5 {
			write(maxBytes / 3)
		}
		are(3) // those that were there before the last, as far as they are not too much, and that
		time.Sleep(stays + maxAge)
		are(0)
		l.Close()
	})
}

// What was written again may be forgotten once more: it stays as long as what was written then.
func TestForgottenTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stays = 3 * time.Second
		f := newForgetful(1)
		f.lazy = true
		l := New(f, stays)
		o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
		f.claim(t, "s", o)
		if _, err := l.Write(context.Background(), []store.Change{{Session: "s", Owner: o, Epoch: 1, Seq: 1, Puts: []store.Entry{{Value: []byte("v")}}}}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(stays - 100*time.Millisecond)
			f.mu.Lock()
			f.crash()
			f.mu.Unlock()
			if err := l.Barrier(context.Background()); err != nil {
				t.Fatal(err)
			}
			if v := f.value(t, "s", ""); v != "v" {
				t.Fatalf("it is %q", v)
			}
		}
		l.Close()
	})
}

// A log that is full has the server harden before it takes more.
func TestKeepsNoMoreThanItMay(t *testing.T) {
	f := newForgetful(1)
	l := New(f, 0)
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	f.claim(t, "s", o)
	value := make([]byte, 1<<20)
	for seq := range uint64(3 * maxBytes >> 20) {
		if _, err := l.Write(t.Context(), []store.Change{{Session: "s", Owner: o, Epoch: 1, Seq: seq + 1, Puts: []store.Entry{{Value: value}}}}); err != nil {
			t.Fatal(err)
		}
		l.mu.Lock()
		n := l.bytes
		l.mu.Unlock()
		if n > maxBytes+2<<20 {
			t.Fatalf("%d bytes are kept", n)
		}
	}
	l.Close()
}
