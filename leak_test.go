package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"reflect"
	"runtime"
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

// This file ends DBs in all the ways in which a program may, and looks at what stays behind: no
// goroutine, no bytes of the buffer, no value that nobody has. Each test runs in a bubble, which fails
// by itself if a goroutine outlives it.

func TestStartStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, mem := t.Context(), memory.New()
		rnd := rand.New(rand.NewPCG(5, 5))
		base, _ := bubbled()
		for i := range 500 {
			line := storetest.NewFaults(mem)
			if i%3 == 0 {
				line.Inject(func(storetest.Call) storetest.Fault {
					return storetest.Fault{Delay: time.Duration(i%7) * time.Millisecond}
				})
			}
			db, err := kvstore.Open[string](ctx, line, kvstore.Options{
				Node: "n", Flushers: 1 + i%5, MaxResident: i % 4, Overflow: kvstore.Overflow(i % 3), Mode: kvstore.Mode(i % 2),
			})
			if err != nil {
				t.Fatal(err)
			}
			for range rnd.IntN(8) {
				id := fmt.Sprint(rnd.IntN(20))
				switch rnd.IntN(9) {
				case 0, 1, 2:
					err = db.Put(ctx, id, strings.Repeat("v", rnd.IntN(300)))
				case 3:
					_, err = db.AdoptOrCreate(ctx, id)
				case 4:
					_, err = db.AdoptOrphans(ctx, kvstore.Takeover{All: true})
				case 5:
					err = db.Flush(ctx)
				case 6:
					s, err := db.AdoptOrCreate(ctx, id)
					if err == nil {
						err = s.PutUntil(ctx, "soon", "gone", time.Now().Add(time.Duration(rnd.IntN(100))*time.Millisecond))
					}
					if err != nil {
						t.Fatal(err)
					}
				case 7:
					time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
				case 8: // which Drain or Close may have to end
					_, err = db.Preload(ctx, kvstore.Preload{Share: kvstore.Share(i % 3), Rate: 10, Progress: func(kvstore.Preloaded) {}})
				}
				if err != nil {
					t.Fatalf("cycle %d: %v", i, err)
				}
			}
			if i%10 == 9 {
				err = db.Drain(ctx)
			}
			if err = errors.Join(err, db.Close(ctx)); err != nil {
				t.Fatalf("cycle %d: %v", i, err)
			}
			if st := db.Stats(); st.Buffered != 0 || st.Resident != 0 || st.Lag != 0 {
				t.Fatalf("cycle %d: closed, and %+v", i, st)
			}
			synctest.Wait()
			if n, stacks := bubbled(); n > base {
				t.Fatalf("cycle %d leaves %d goroutines:\n%s", i, n-base, stacks)
			}
		}
	})
}

// bubbled returns how many goroutines there are in the bubble, and their stacks.
func bubbled() (int, string) {
	buf := make([]byte, 1<<20)
	stacks := string(buf[:runtime.Stack(buf, true)])
	return strings.Count(stacks, ", synctest bubble "), stacks
}

// deaf is a store whose calls of one kind do not return, not even when their context is over, until
// it is let go.
type deaf struct {
	store.Store
	mu    sync.Mutex
	kind  storetest.Kind
	on    bool
	letGo chan struct{}
}

func (d *deaf) wait(kind storetest.Kind) {
	d.mu.Lock()
	stuck := d.on && kind == d.kind
	d.mu.Unlock()
	if stuck {
		<-d.letGo
	}
}

func (d *deaf) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	d.wait(storetest.Apply)
	return d.Store.Apply(ctx, cs)
}

func (d *deaf) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	d.wait(storetest.Claim)
	return d.Store.Claim(ctx, r)
}

func (d *deaf) Load(ctx context.Context, id string, keys ...string) (store.Snapshot, error) {
	d.wait(storetest.Load)
	return d.Store.Load(ctx, id, keys...)
}

func (d *deaf) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
	d.wait(storetest.KeepAlive)
	return d.Store.KeepAlive(ctx, n, ttl)
}

// Close returns soon after its context is over, however deaf the store is. What it leaves behind it
// tells, and what is unsaved is handed over before it returns.
func TestCloseOnADeafStore(t *testing.T) {
	for _, kind := range []storetest.Kind{storetest.Apply, storetest.Claim, storetest.Load, storetest.KeepAlive} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				d := &deaf{Store: memory.New(), kind: kind, letGo: make(chan struct{})}
				before, err := kvstore.Open[string](ctx, d, kvstore.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(before.Put(ctx, "s", "v"), before.Close(ctx)); err != nil {
					t.Fatal(err)
				}
				lost := map[string]any{}
				db, err := kvstore.Open[string](ctx, d, kvstore.Options{Flushers: 1, Hooks: kvstore.Hooks{
					Lost: func(l kvstore.Lost) {
						for _, e := range l.Entries {
							if _, twice := lost[l.Session+e.Key]; twice {
								t.Errorf("handed over twice: %q %q", l.Session, e.Key)
							}
							lost[l.Session+e.Key] = e.Value
						}
					},
				}})
				if err != nil {
					t.Fatal(err)
				}
				s, err := db.Adopt(ctx, "s")
				if err != nil {
					t.Fatal(err)
				}
				d.mu.Lock()
				d.on = true
				d.mu.Unlock()
				var calls sync.WaitGroup
				calls.Go(func() { s.Put(ctx, "a", "in flight") })
				calls.Go(func() { s.Get(ctx, "unknown") })
				calls.Go(func() { db.Adopt(ctx, "other") })
				time.Sleep(2 * time.Second)
				if err := s.Put(ctx, "b", "dirty"); err != nil {
					t.Fatal(err)
				}
				short, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				start := time.Now()
				err = db.Close(short)
				if took := time.Since(start); took > 4*time.Second {
					t.Errorf("Close took %v, its context one second", took)
				}
				if err == nil {
					t.Error("Close leaves a goroutine behind, and does not say so")
				}
				if kind == storetest.Apply {
					var unsaved *kvstore.UnsavedError
					if !errors.As(err, &unsaved) || unsaved.Sessions != 1 || unsaved.Entries != 2 || !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("Close gives %v, want two entries of one session", err)
					}
					if len(lost) != 2 || lost["sa"] != "in flight" || lost["sb"] != "dirty" {
						t.Errorf("handed over: %v", lost)
					}
				} else if len(lost) > 0 {
					t.Errorf("all could be stored, and %v was handed over", lost)
				}
				if n := db.Stats().Buffered; n != 0 {
					t.Errorf("%d bytes of the buffer are held", n)
				}
				close(d.letGo)
				calls.Wait()
				synctest.Wait()
			})
		})
	}
}

// A context that is over is no reason to wait, nor to lose what is unsaved silently.
func TestCloseInNoTime(t *testing.T) {
	for _, line := range []struct {
		name  string
		fault storetest.Fault
		over  time.Duration // when the context is over
		saved bool
	}{
		{"nothing unsaved", storetest.Fault{}, 0, true},
		{"unsaved, context over", storetest.Fault{Delay: time.Second}, 0, false},
		{"unsaved, store hangs", storetest.Fault{Hang: true}, 3 * time.Second, false},
		{"unsaved, store refuses", storetest.Fault{Fail: storetest.Before}, 3 * time.Second, false},
		{"unsaved, store slow", storetest.Fault{Delay: 300 * time.Millisecond}, 3 * time.Second, true},
	} {
		t.Run(line.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOutpost(t, kvstore.Options{MaxBuffer: 4 << 10})
				want := map[string]string{}
				for i := range 20 {
					id := fmt.Sprint("s", i)
					o.ok(o.db.Put(o.ctx, id, "v"))
					want[id] = "v"
				}
				o.ok(o.db.Flush(o.ctx))
				o.line.Inject(storetest.Every(line.fault, storetest.Apply))
				if line.name != "nothing unsaved" {
					for id := range want {
						o.ok(o.db.Put(o.ctx, id, "w"))
						want[id] = "w"
					}
				}
				var blocked sync.WaitGroup
				if !line.saved {
					blocked.Go(func() { // it waits for room that there will never be
						if err := o.db.Put(o.ctx, "s0", strings.Repeat("x", 3000)); !errors.Is(err, kvstore.ErrClosed) {
							t.Errorf("a put that waits for room when the DB closes gives %v", err)
						}
					})
				}
				time.Sleep(150 * time.Millisecond) // some of it is in flight
				ctx, cancel := context.WithTimeout(o.ctx, line.over)
				defer cancel()
				start := time.Now()
				errs := make([]error, 3)
				var closers sync.WaitGroup
				for i := range errs {
					closers.Go(func() { errs[i] = o.db.Close(ctx) })
				}
				closers.Wait()
				blocked.Wait()
				if took := time.Since(start); took > line.over+time.Second/2 && !line.saved {
					t.Errorf("Close took %v, its context %v", took, line.over)
				}
				again := o.db.Close(o.ctx)
				for _, err := range errs {
					if err != again {
						t.Errorf("one Close gives %v, another %v", err, again)
					}
				}
				if n := o.db.Stats().Buffered; n != 0 {
					t.Errorf("%d bytes of the buffer are held", n)
				}
				lost, _ := o.heard()
				n := 0
				for _, l := range lost {
					if !errors.Is(l.Cause, kvstore.ErrClosed) {
						t.Errorf("the cause of a loss by Close is %v", l.Cause)
					}
					for _, e := range l.Entries {
						if n++; e.Value != want[l.Session] {
							t.Errorf("handed over: %q of %q, want %q", e.Value, l.Session, want[l.Session])
						}
						delete(want, l.Session)
					}
				}
				for id, v := range want { // the rest
					o.holds(id, map[string]string{"": v})
				}
				var unsaved *kvstore.UnsavedError
				switch {
				case line.saved && again != nil:
					t.Errorf("Close gives %v", again)
				case !line.saved && (!errors.As(again, &unsaved) || unsaved.Entries != n || n == 0 || !errors.Is(again, ctx.Err())):
					t.Errorf("Close gives %v, and %d entries were handed over", again, n)
				}
			})
		})
	}
}

// Every method of a closed DB, and of a handle of it, says that it is closed. A method that this test does not
// know fails it.
func TestEveryMethodAfterClose(t *testing.T) {
	exempt := map[string]bool{ // they cannot fail
		"DB.Close": true, "DB.Health": true, "DB.Stats": true, "DB.Resident": true,
		"Session.ID": true, "Session.Epoch": true, "Session.Lag": true, "Session.Expires": true,
		"Session.Queue": true, "Session.KeyQueue": true, "Session.Aliases": true, "Session.Timers": true, "Queue.Name": true, "KeyQueue.Name": true,
	}
	for _, saved := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			o := newOutpost(t, kvstore.Options{})
			s, err := o.db.Create(o.ctx, "s")
			o.ok(errors.Join(err, s.Put(o.ctx, "", "v")))
			ctx, cancel := context.WithCancel(o.ctx)
			if !saved {
				o.line.Down(true)
				cancel()
			}
			if err := o.db.Close(ctx); saved != (err == nil) {
				t.Fatalf("Close gives %v", err)
			}
			cancel()
			args := map[reflect.Type]reflect.Value{}
			for _, v := range []any{o.ctx, "s", 1, int64(1), time.Now(), kvstore.Takeover{}, kvstore.Sweeping{}, time.Hour, kvstore.Preload{}, kvstore.Version{}, kvstore.InMemory, kvstore.Filter{}, kvstore.Query[string]{}, kvstore.Reindexing{},
				func(*kvstore.Tx[string]) error { return nil }, func(kvstore.Commit[string]) {}, func(context.Context, kvstore.Commit[string]) error { return nil },
				func(context.Context, *kvstore.Tx[string], kvstore.Firing[string]) error { return nil }} {
				args[reflect.TypeOf(v)] = reflect.ValueOf(v)
			}
			args[reflect.TypeFor[context.Context]()] = reflect.ValueOf(o.ctx)
			tried := 0
			for name, v := range map[string]reflect.Value{
				"DB": reflect.ValueOf(o.db), "Session": reflect.ValueOf(s),
				"Queue": reflect.ValueOf(s.Queue("q")), "KeyQueue": reflect.ValueOf(s.KeyQueue("q")),
			} {
				for i := range v.NumMethod() {
					full := name + "." + v.Type().Method(i).Name
					m := v.Method(i)
					if exempt[full] {
						continue
					}
					var in []reflect.Value
					for j := range m.Type().NumIn() {
						if m.Type().IsVariadic() && j == m.Type().NumIn()-1 {
							break
						}
						arg, ok := args[m.Type().In(j)]
						if !ok {
							t.Fatalf("%s takes a %v: tell this test how to call it", full, m.Type().In(j))
						}
						in = append(in, arg)
					}
					out := m.Call(in)
					last := out[len(out)-1].Interface()
					switch walk := last.(type) {
					case iter.Seq2[store.Node, error]:
						for _, err := range walk {
							last = err
						}
					case iter.Seq2[kvstore.Commit[string], error]:
						for _, err := range walk {
							last = err
						}
					case iter.Seq2[string, error]:
						for _, err := range walk {
							last = err
						}
					}
					if err, _ := last.(error); !errors.Is(err, kvstore.ErrClosed) {
						t.Errorf("%s after Close gives %v", full, err)
					}
					tried++
				}
			}
			for id := range o.db.Resident(nil) {
				t.Errorf("session %q is resident after Close", id)
			}
			if tried < 47 {
				t.Errorf("only %d methods were tried", tried)
			}
		})
	}
}
