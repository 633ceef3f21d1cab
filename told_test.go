package kvstore_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// What is lost is told, once by each way in which one can hear of it: the hook, the next Sync, the next Flush, Close, and if
// there is no other way, the program's log.

const bad = 666 // slowCodec does not encode it

func TestSyncTellsOfAnEarlierRejection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		db := openInts(t, memory.New(), kvstore.Options{Codec: slowCodec{}, Hooks: kvstore.Hooks{Lost: func(kvstore.Lost) {}}})
		defer db.Close(ctx)
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "k", 1))
		check(t, s.Sync(ctx))
		check(t, s.Put(ctx, "k", bad))
		time.Sleep(time.Second) // it was rejected long ago

		var rejected *kvstore.RejectedError
		if err := s.Sync(ctx); !errors.As(err, &rejected) || rejected.Session != "s" || len(rejected.Keys) != 1 || rejected.Keys[0] != "k" {
			t.Errorf("Sync after a rejection: %v", err)
		} else if strings.Count(err.Error(), "kvstore:") > 2 {
			t.Errorf("it says so over and over: %v", err)
		}
		want(t, s.Sync(ctx), nil)
		if v, err := s.Get(ctx, "k"); v != 1 || err != nil {
			t.Errorf("the entry is %d, %v; the store has 1", v, err)
		}
		want(t, db.Flush(ctx), kvstore.ErrRejected)
		want(t, db.Flush(ctx), nil)
	})
}

func TestCloseTellsOfAFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem := memory.New()
		a, b := openInts(t, mem, brisk("a")), openInts(t, mem, brisk("b"))
		defer b.Close(ctx)
		check(t, a.Put(ctx, "s", 1))
		check(t, a.Flush(ctx))
		_, err := b.Steal(ctx, "s")
		check(t, err)
		check(t, a.Put(ctx, "s", 2))
		want(t, a.Close(ctx), kvstore.ErrFenced)
	})
}

func TestCloseTellsWhatItCouldNotStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		o := kvstore.Options{Codec: slowCodec{}, MaxDelay: time.Hour, Hooks: kvstore.Hooks{Lost: func(kvstore.Lost) {}}}
		db := openInts(t, memory.New(), o)
		check(t, db.Put(ctx, "s", bad))
		want(t, db.Close(ctx), kvstore.ErrRejected)
		want(t, db.Close(ctx), kvstore.ErrRejected)
		if h := db.Health(); h.LeaseLeft > 0 {
			t.Errorf("after Close %v of the lease are left", h.LeaseLeft)
		}

		// What was told before is not Close's affair.
		db = openInts(t, memory.New(), o)
		check(t, db.Put(ctx, "s", bad))
		want(t, db.Flush(ctx), kvstore.ErrRejected)
		check(t, db.Close(ctx))
	})
}

// A program that has set neither a hook nor a logger finds its losses in its log.
func TestLossesReachTheProgramsLog(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(o *kvstore.Options, own *slog.Logger)
		told bool
	}{
		{"neither", func(*kvstore.Options, *slog.Logger) {}, true},
		{"a hook", func(o *kvstore.Options, _ *slog.Logger) { o.Hooks.Lost = func(kvstore.Lost) {} }, false},
		{"a logger", func(o *kvstore.Options, own *slog.Logger) { o.Logger = own }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var program, own bytes.Buffer
			was := slog.Default()
			slog.SetDefault(slog.New(slog.NewTextHandler(&program, nil)))
			defer slog.SetDefault(was)
			o := kvstore.Options{Codec: slowCodec{}}
			c.set(&o, slog.New(slog.NewTextHandler(&own, nil)))
			db := openInts(t, memory.New(), o)
			check(t, db.Put(t.Context(), "lost-session", bad))
			want(t, db.Close(t.Context()), kvstore.ErrRejected)
			if got := strings.Contains(program.String(), "lost-session"); got != c.told {
				t.Errorf("the program's log: %q", program.String())
			}
		})
	}
}

// While a node drains, and after, it can say where a session went.
func TestDrainingNodeRedirects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem := memory.New()
		a, b := openInts(t, mem, brisk("a")), openInts(t, mem, brisk("b"))
		defer a.Close(ctx)
		defer b.Close(ctx)
		check(t, a.Put(ctx, "s", 1))
		check(t, a.Put(ctx, "nobody's", 1))
		check(t, a.Drain(ctx))
		_, err := b.Adopt(ctx, "s")
		check(t, err)
		for _, ask := range []func() error{
			func() error { _, err := a.Adopt(ctx, "s"); return err },
			func() error { return a.Put(ctx, "s", 2) },
			func() error { return a.Delete(ctx, "s") },
		} {
			var owned *kvstore.OwnedError
			if err := ask(); !errors.As(err, &owned) || owned.Node != "b" || owned.Addr != "b:1" || owned.Lease <= 0 {
				t.Errorf("the error is %v, and does not name b", err)
			}
		}
		for _, id := range []string{"nobody's", "unknown"} {
			_, err = a.Adopt(ctx, id)
			want(t, err, kvstore.ErrDraining)
		}
	})
}

// Close keeps to its context, also if it is the second one, and if a hook does not return.
func TestCloseKeepsToItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line, on, gate := deafen(memory.New())
		hook := make(chan struct{})
		db := openInts(t, line, kvstore.Options{Hooks: kvstore.Hooks{Lost: func(kvstore.Lost) { <-hook }}})
		check(t, db.Put(t.Context(), "s", 1))
		on.Store(true)
		start := time.Now()
		within := func(d time.Duration) context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			t.Cleanup(cancel)
			return ctx
		}
		first := make(chan error)
		go func() { first <- db.Close(within(time.Minute)) }()
		synctest.Wait()
		want(t, db.Close(within(time.Second)), context.DeadlineExceeded)
		if d := time.Since(start); d > 6*time.Second {
			t.Errorf("the second Close returned after %v", d)
		}
		var unsaved *kvstore.UnsavedError
		if err := <-first; !errors.As(err, &unsaved) || !strings.Contains(err.Error(), "a hook has not returned") {
			t.Errorf("the first Close: %v", err)
		}
		if d := time.Since(start); d > time.Minute+10*time.Second {
			t.Errorf("the first Close returned after %v", d)
		}
		close(gate)
		close(hook)
	})
}

// TestLogsHaveNoValues has everything go wrong that is logged about a session, and looks for what was put into it.
func TestLogsHaveNoValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const secret = "the-secret"
		ctx, mem := t.Context(), memory.New()
		line := storetest.NewFaults(mem)
		var log bytes.Buffer
		o := kvstore.Options{MaxDelay: time.Millisecond, MaxValue: 100, DetectMutation: true}
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		open := func(st store.Store) *kvstore.DB[[]byte] {
			db, err := kvstore.Open[[]byte](ctx, st, o)
			check(t, err)
			return db
		}
		db, thief := open(line), open(mem)
		defer thief.Close(ctx)
		var told []error
		try := func(err error) { told = append(told, err) }

		v := []byte(secret + "1")
		check(t, db.Put(ctx, "changed", v))
		v[len(secret)] = '2' // in place
		check(t, db.Flush(ctx))
		try(db.Put(ctx, "large", []byte(strings.Repeat(secret, 11))))
		check(t, db.Put(ctx, "stolen", []byte(secret)))
		check(t, db.Flush(ctx))
		line.Inject(storetest.First(2, storetest.Fault{Fail: storetest.Before}, storetest.Apply))
		check(t, db.Put(ctx, "stolen", []byte(secret+"3")))
		_, err := thief.Steal(ctx, "stolen")
		check(t, err)
		try(db.Flush(ctx))
		check(t, db.Put(ctx, "left", []byte(secret)))
		line.Inject(storetest.Every(storetest.Fault{Fail: storetest.Before}))
		try(db.Close(over()))

		out := log.String()
		for _, said := range []string{"changed in place", "flush failed", "not stored", "is fenced", "kvstore: closed"} {
			if !strings.Contains(out, said) {
				t.Errorf("the log does not say %q, and so shows nothing:\n%s", said, out)
			}
		}
		if strings.Contains(out, secret) {
			t.Errorf("a value is in the log:\n%s", out)
		}
		for _, err := range told {
			if err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("the error is %v", err)
			}
		}
	})
}
