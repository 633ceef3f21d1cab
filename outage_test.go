package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// This file takes the store away for an hour, under load. Memory must not grow over its bound, the
// node must say how it is, and when the store is back every put that was acknowledged must be there.

const (
	outage    = time.Hour
	outageBuf = 32 << 10
)

// load is a number of writers, each with its own sessions, that put until they are told to stop.
type load struct {
	o       *outpost
	writers sync.WaitGroup
	stop    chan struct{}

	mu    sync.Mutex
	acked map[string]string   // the last value of each session that was acknowledged
	tried map[string][]string // later ones whose put gave up: with Through they may have been made, and waited to be stored
	calls map[string]int      // by outcome
	waits time.Duration       // the longest Put
}

func newLoad(o *outpost, through bool, writers, sessions int, every time.Duration) *load {
	l := &load{o: o, stop: make(chan struct{}), acked: map[string]string{}, tried: map[string][]string{}, calls: map[string]int{}}
	for w := range writers {
		l.writers.Go(func() { l.write(through, w, sessions, every) })
	}
	return l
}

func (l *load) write(through bool, w, sessions int, every time.Duration) {
	for n := 0; ; n++ {
		select {
		case <-l.stop:
			return
		case <-time.After(every):
		}
		id := fmt.Sprintf("w%d-%d", w, n%sessions)
		v := fmt.Sprint(n, strings.Repeat(".", 100))
		ctx, cancel := context.WithTimeout(l.o.ctx, 10*time.Second)
		start := time.Now()
		err := l.o.db.Put(ctx, id, v)
		cancel()
		l.mu.Lock()
		l.waits = max(l.waits, time.Since(start))
		switch {
		case err == nil:
			l.acked[id] = v
			delete(l.tried, id)
			l.calls["acked"]++
		case errors.Is(err, kvstore.ErrFull):
			l.calls["full"]++
		case errors.Is(err, context.DeadlineExceeded):
			l.calls["late"]++
			if through {
				l.tried[id] = append(l.tried[id], v)
			} else if l.o.db.Stats().Buffered < outageBuf/2 {
				l.calls["late without need"]++
			}
		default:
			l.calls[err.Error()]++
		}
		l.mu.Unlock()
	}
}

func (l *load) end() {
	close(l.stop)
	l.writers.Wait()
}

// watch checks the bound until stop.
func (o *outpost) watch(stop <-chan struct{}, most *atomic.Int64) {
	for {
		n := o.db.Stats().Buffered
		if n > outageBuf || n < 0 {
			o.t.Errorf("%d bytes are unsaved, the bound is %d", n, outageBuf)
			return
		}
		most.Store(max(most.Load(), n))
		select {
		case <-stop:
			return
		case <-time.After(777 * time.Millisecond):
		}
	}
}

func TestOutage(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy kvstore.Overflow
		begin  func(o *outpost)
	}{
		{"block, refused", kvstore.Block, func(o *outpost) { o.line.Down(true) }},
		{"reject, timed out", kvstore.Reject, func(o *outpost) { o.line.Inject(storetest.Every(storetest.Fault{Hang: true})) }},
		{"through, applied, answer lost", kvstore.Through, func(o *outpost) {
			o.line.Inject(storetest.Every(storetest.Fault{Fail: storetest.After}, storetest.Apply))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { surviveOutage(t, c.policy, c.begin) })
		})
	}
}

func surviveOutage(t *testing.T, policy kvstore.Overflow, begin func(*outpost)) {
	const flushers = 4
	o := newOutpost(t, kvstore.Options{MaxBuffer: outageBuf, Overflow: policy, Flushers: flushers})
	// Eight hundred sessions are resident, and will be touched: more than fit into the buffer.
	for w := range 4 {
		for n := range 200 {
			o.ok(o.db.Put(o.ctx, fmt.Sprintf("w%d-%d", w, n), "before"))
			if n%50 == 49 {
				o.ok(o.db.Flush(o.ctx))
			}
		}
	}

	begin(o)
	before, start := o.line.Calls(storetest.Apply), time.Now()
	stop := make(chan struct{})
	var most atomic.Int64
	var watcher sync.WaitGroup
	watcher.Go(func() { o.watch(stop, &most) })
	l := newLoad(o, policy == kvstore.Through, 4, 200, 1500*time.Millisecond)
	time.Sleep(outage)

	h, st := o.db.Health(), o.db.Stats()
	for _, p := range []kvstore.Problem{kvstore.LagHigh, kvstore.BufferFull} {
		if !slices.Contains(h.Problems, p) {
			t.Errorf("after an hour without the store, health is %q, without %q", h, p)
		}
	}
	if age := time.Since(start); h.Lag > age || h.Lag < age-time.Minute || st.Lag > age || st.Lag < age-time.Minute {
		t.Errorf("the oldest change is of %v ago; the lag is given as %v and %v", age, h.Lag, st.Lag)
	}
	if st.Retries == 0 {
		t.Error("the retries are not counted")
	}
	if most.Load() < outageBuf/2 {
		t.Errorf("only %d bytes of %d were ever used", most.Load(), outageBuf)
	}
	// Each lane waits for RetryMax/2 between two calls, on average.
	if n := o.line.Calls(storetest.Apply) - before; n > flushers*3600*2 || n < flushers*60 {
		t.Errorf("%d calls of the store in an hour in which it was away", n)
	}

	o.line.Inject(nil)
	o.line.Down(false)
	time.Sleep(15 * time.Second)
	if h := o.db.Health(); !h.OK() || h.Lag > time.Second {
		t.Errorf("the store has been back for 15 s, and health is %v, lag %v", h, h.Lag)
	}
	l.end()
	o.ok(o.db.Flush(o.ctx))
	close(stop)
	watcher.Wait()

	for id, v := range l.acked {
		if got, _ := o.stored(id); slices.Contains(l.tried[id], got[""]) {
			continue
		}
		o.holds(id, map[string]string{"": v})
	}
	o.quiet()
	for what, n := range l.calls {
		t.Logf("%s: %d", what, n)
		if what != "acked" && what != "full" && what != "late" {
			t.Errorf("%d puts: %s", n, what)
		}
	}
	switch policy {
	case kvstore.Reject:
		if l.calls["full"] == 0 || l.calls["late"] > 0 || l.waits > time.Millisecond {
			t.Errorf("with Reject: %v; the longest put took %v", l.calls, l.waits)
		}
	case kvstore.Block, kvstore.Through:
		if l.calls["full"] > 0 || l.calls["late"] == 0 {
			t.Errorf("with %v: %v", policy, l.calls)
		}
	}
	o.toldOf(kvstore.LagHigh, kvstore.BufferFull)
}

// toldOf checks that Hooks.Health heard of each problem, and at last that there is none, and never
// twice the same.
func (o *outpost) toldOf(problems ...kvstore.Problem) {
	o.t.Helper()
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range problems {
		if !slices.ContainsFunc(o.health, func(h kvstore.Health) bool { return slices.Contains(h.Problems, p) }) {
			o.t.Errorf("Hooks.Health never heard %q: %v", p, o.health)
		}
	}
	for i, h := range o.health {
		if i > 0 && slices.Equal(h.Problems, o.health[i-1].Problems) {
			o.t.Errorf("Hooks.Health heard the same twice: %v", o.health[i-1:i+1])
		}
	}
	if n := len(o.health); n == 0 || !o.health[n-1].OK() {
		o.t.Errorf("Hooks.Health never heard that all is well again: %v", o.health)
	}
}

// With Through, a put that had to wait for room returns when it is stored; one that had not, at once.
func TestOutageThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutpost(t, kvstore.Options{MaxBuffer: 4 << 10, Overflow: kvstore.Through, MaxDelay: time.Minute})
		for i := range 40 {
			id := fmt.Sprint(i)
			start, before := time.Now(), o.line.Calls(storetest.Apply)
			o.line.Inject(storetest.Every(storetest.Fault{Delay: time.Second}, storetest.Apply))
			o.ok(o.db.Put(o.ctx, id, strings.Repeat("x", 200)))
			if time.Since(start) == 0 {
				continue
			}
			if o.line.Calls(storetest.Apply) == before {
				t.Errorf("a put waited for %v, and nothing was flushed", time.Since(start))
			}
			o.holds(id, map[string]string{"": strings.Repeat("x", 200)})
			return
		}
		t.Error("the buffer never was full")
	})
}

// A hot session whose old value is in flight does not need the room of both for ever: what is put over and
// over again during an outage takes the room of one.
func TestOutageCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutpost(t, kvstore.Options{MaxBuffer: 4 << 10, Overflow: kvstore.Reject})
		o.ok(o.db.Put(o.ctx, "s", "0"))
		o.ok(o.db.Flush(o.ctx))
		o.line.Down(true)
		for i := range 10_000 {
			o.ok(o.db.Put(o.ctx, "s", fmt.Sprint(i, strings.Repeat(".", 500))))
			time.Sleep(10 * time.Millisecond)
		}
		if n := o.db.Stats().Buffered; n > 2000 {
			t.Errorf("one value of 500 bytes holds %d bytes", n)
		}
		o.line.Down(false)
		before := o.line.Calls(storetest.Apply)
		o.ok(o.db.Flush(o.ctx))
		if n := o.line.Calls(storetest.Apply) - before; n > 2 {
			t.Errorf("%d flushes for one key", n)
		}
		o.holds("s", map[string]string{"": fmt.Sprint(9999, strings.Repeat(".", 500))})
		o.quiet()
	})
}
