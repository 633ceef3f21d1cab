package kvstore_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// What Close and a fence must do with what is under way.

// deafen is a store whose Apply ignores its context from now on.
func deafen(mem store.Store) (*tap, *atomic.Bool, chan struct{}) {
	var on atomic.Bool
	gate := make(chan struct{})
	line := &tap{Store: mem}
	line.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
		if on.Load() {
			<-gate
			return nil, errors.New("at last")
		}
		return mem.Apply(ctx, cs)
	}
	return line, &on, gate
}

func (l *losses) count(id, key string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.list {
		for _, e := range x.Entries {
			if x.Session == id && e.Key == key {
				n++
			}
		}
	}
	return n
}

func (l *losses) hook(x kvstore.Lost) { l.mu.Lock(); l.list = append(l.list, x); l.mu.Unlock() }

type losses struct {
	mu   sync.Mutex
	list []kvstore.Lost
}

func (c slowCodec) Append(dst []byte, v any) ([]byte, error) {
	switch *v.(*int) {
	case 666:
		return dst, errors.New("666 cannot be encoded")
	case 99:
		time.Sleep(c.by)
	}
	return strconv.AppendInt(dst, int64(*v.(*int)), 10), nil
}

type slowCodec struct {
	intCodec
	by time.Duration
}

// What is being encoded when Close gives up is handed over.
func TestCloseWhileEncoding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		var l losses
		db := openInts(t, mem, kvstore.Options{Node: "a", Codec: slowCodec{by: 5 * time.Second}, Hooks: kvstore.Hooks{Lost: l.hook}})
		check(t, db.Put(ctx, "s", 99))
		time.Sleep(200 * time.Millisecond)
		err := db.Close(over())
		time.Sleep(time.Minute)
		_, m := ints(t, mem, "s")
		if m[""] != 99 && l.count("s", "") != 1 {
			t.Errorf("the value is not stored (%v), and was reported lost %d times; Close: %v", m, l.count("s", ""), err)
		}
	})
}

// What was handed over before Close gave up is not handed over once more.
func TestCloseReportsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		line, on, gate := deafen(memory.New())
		var l losses
		db := openInts(t, line, kvstore.Options{Node: "a", Flushers: 1, Codec: slowCodec{}, Hooks: kvstore.Hooks{Lost: l.hook}})
		check(t, db.Put(ctx, "s", 1))
		check(t, db.Put(ctx, "other", 1))
		check(t, db.Flush(ctx))
		on.Store(true)
		check(t, db.Put(ctx, "other", 2))
		s, err := db.Session(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "bad", 666))
		time.Sleep(200 * time.Millisecond)
		check(t, s.Put(ctx, "k", 3))
		db.Close(over())
		if n := l.count("s", "bad"); n != 1 {
			t.Errorf("a value that cannot be encoded was reported lost %d times; Buffered is %d", n, db.Stats().Buffered)
		}
		close(gate)
	})
}

// What was in flight of a session that was fenced meanwhile is handed over.
func TestCloseReportsTheFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		line, on, gate := deafen(mem)
		var l losses
		db := openInts(t, line, kvstore.Options{Node: "a", Codec: slowCodec{}, Hooks: kvstore.Hooks{Lost: l.hook}})
		b := openInts(t, mem, kvstore.Options{Node: "b"})
		defer b.Close(ctx)
		check(t, db.Put(ctx, "s", 1))
		check(t, db.Flush(ctx))
		on.Store(true)
		check(t, db.Put(ctx, "s", 2))
		time.Sleep(200 * time.Millisecond)
		_, err := b.Steal(ctx, "s")
		check(t, err)
		s, err := db.Session(ctx, "s")
		check(t, err)
		_, _ = s.Get(ctx, "not here")
		_, err = db.Steal(ctx, "s")
		check(t, err)
		db.Close(over())
		if n := l.count("s", ""); n != 1 {
			t.Errorf("a value that was fenced in flight was reported lost %d times", n)
		}
		close(gate)
	})
}

// A value that cannot be encoded is handed over also if its session was fenced before the flush, which left it out, was
// answered.
func TestFencedBesideTheUnencodable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		var l losses
		line := &tap{Store: mem}
		line.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
			rs, err := mem.Apply(ctx, cs)
			time.Sleep(time.Second) // the answer takes its time
			return rs, err
		}
		a := openInts(t, line, kvstore.Options{Node: "a", Codec: slowCodec{}, Hooks: kvstore.Hooks{Lost: l.hook}})
		b := openInts(t, mem, kvstore.Options{Node: "b"})
		s, err := a.AdoptOrCreate(ctx, "s")
		check(t, err)
		check(t, s.Put(ctx, "good", 1))
		check(t, s.Put(ctx, "bad", 666))
		time.Sleep(500 * time.Millisecond)
		_, err = b.Steal(ctx, "s")
		check(t, err)
		_, err = s.All(ctx) // finds it fenced, or not: the entries are all here
		want(t, err, nil, kvstore.ErrFenced)
		_, err = a.Steal(ctx, "s")
		check(t, err)
		time.Sleep(time.Minute)
		if n, m := l.count("s", "bad"), l.count("s", "good"); n != 1 || m != 0 {
			t.Errorf("what cannot be encoded was reported lost %d times, and what is stored %d times", n, m)
		}
		check(t, b.Close(ctx))
		a.Close(ctx)
		if n := a.Stats().Buffered; n != 0 {
			t.Errorf("%d bytes of the buffer are held", n)
		}
	})
}

// A session that is gone is not waited for, though its next attempt was to come much later.
func TestNobodyWaitsForTheFenced(t *testing.T) {
	for _, what := range []string{"flush", "close"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				mem := memory.New()
				var sick atomic.Bool
				line := &tap{Store: mem}
				line.apply = func(ctx context.Context, cs []store.Change) ([]store.Result, error) {
					if sick.Load() && cs[0].Session == "s" {
						return nil, errors.New("this one fails")
					}
					return mem.Apply(ctx, cs)
				}
				a := openInts(t, line, kvstore.Options{Node: "a", RetryMin: time.Second, RetryMax: time.Hour})
				b := openInts(t, mem, kvstore.Options{Node: "b"})
				defer b.Close(ctx)
				check(t, a.Put(ctx, "s", 1))
				check(t, a.Flush(ctx))
				sick.Store(true)
				check(t, a.Put(ctx, "s", 2))
				time.Sleep(5 * time.Hour) // its waits grow
				sick.Store(false)
				_, err := b.Steal(ctx, "s")
				check(t, err)
				_, err = a.Steal(ctx, "s") // finds that it is not here, and takes it back
				check(t, err)
				synctest.Wait()
				start := time.Now()
				if what == "flush" {
					check(t, a.Flush(ctx))
				}
				lag := a.Stats().Lag
				if what == "flush" {
					a.Close(ctx)
				} else {
					check(t, a.Close(ctx))
				}
				if d := time.Since(start); d > time.Minute || lag > time.Minute {
					t.Errorf("nothing is unsaved, the store is well; %s took %v, lag was %v", what, d, lag)
				}
			})
		})
	}
}

// A Drain that waits while Close gives up has not handed over what Close has, and says so. Nothing waits after Close.
func TestCloseEndsDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := storetest.NewFaults(memory.New())
		defer f.Close()
		var lost losses
		o := brisk("a")
		o.Hooks.Lost = lost.hook
		db := openInts(t, f, o)
		check(t, db.Put(t.Context(), "s", 1))
		f.Down(true)
		drained := make(chan error, 1)
		go func() { drained <- db.Drain(context.Background()) }()
		time.Sleep(time.Second)
		want(t, db.Close(over()), context.Canceled)
		want(t, <-drained, kvstore.ErrClosed)
		if n := lost.count("s", ""); n != 1 {
			t.Errorf("the entry was handed over %d times", n)
		}
		if s := db.Stats(); s.Lag != 0 || s.Buffered != 0 || s.Resident != 0 {
			t.Errorf("after Close: lag %v, %d bytes buffered, %d sessions resident", s.Lag, s.Buffered, s.Resident)
		}
	})
}

// A renewal that is on its way when the DB is closed does not outlive the lease: a server does what it was asked although nobody waits for the
// answer any more, and a lease that came back so would keep others from the sessions.
func TestNoRenewalOutlivesTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		const lease, slow = 3 * time.Second, 500 * time.Millisecond
		mem := memory.New()
		st := &tap{Store: mem}
		var opened atomic.Bool
		renewing := make(chan struct{}, 1)
		st.keepAlive = func(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
			if ttl <= 0 || !opened.Load() {
				return mem.KeepAlive(ctx, n, ttl)
			}
			arrived := make(chan struct{})
			go func() {
				time.Sleep(slow)
				mem.KeepAlive(context.WithoutCancel(ctx), n, ttl)
				close(arrived)
			}()
			renewing <- struct{}{}
			select {
			case <-arrived:
				return true, nil
			case <-ctx.Done():
				return false, ctx.Err()
			}
		}
		a := openInts(t, st, kvstore.Options{Node: "a", Lease: lease})
		check(t, a.Put(ctx, "s", 1))
		check(t, a.Flush(ctx))
		opened.Store(true)
		<-renewing
		closeDB(t, a)
		time.Sleep(slow)
		b := openInts(t, mem, kvstore.Options{Node: "b"})
		_, err := b.Adopt(ctx, "s")
		check(t, err)
		closeDB(t, b)
	})
}
