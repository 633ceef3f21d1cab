package storetest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// watch is a WatchNodes under way.
type watch struct {
	calls atomic.Int64
	stop  context.CancelFunc
	err   chan error
}

// watch begins one, and returns when it stands.
func (k *kit) watch() *watch {
	k.t.Helper()
	w := k.beginWatch(k.ctx)
	k.until("the watch stands", func() bool { return w.calls.Load() > 0 || w.unsupported(k) })
	return w
}

func (k *kit) beginWatch(ctx context.Context) *watch {
	k.t.Helper()
	st, ok := k.st.(store.Watcher)
	if !ok {
		k.t.Skipf("the store is no store.Watcher")
	}
	ctx, stop := context.WithCancel(ctx)
	w := &watch{stop: stop, err: make(chan error, 1)}
	go func() { w.err <- st.WatchNodes(ctx, func() { w.calls.Add(1) }) }()
	return w
}

// unsupported skips the case if the store never watches.
func (w *watch) unsupported(k *kit) bool {
	select {
	case err := <-w.err:
		if errors.Is(err, errors.ErrUnsupported) {
			k.t.Skipf("the store does not watch: %v", err)
		}
		k.fail("WatchNodes ends by itself, with %v", err)
	default:
	}
	return false
}

// sees waits for a call after do, and returns when Nodes does not have the owner any more.
func (w *watch) sees(k *kit, o store.Owner, do func()) {
	k.t.Helper()
	before := w.calls.Load()
	do()
	for there := true; there; _, there = k.nodes()[o.Node] {
		k.until("a call after the end of a lease", func() bool { return w.calls.Load() > before || w.unsupported(k) })
		before = w.calls.Load() // if the node is there after it, another one must come
	}
}

// ends waits for the end of the watch.
func (w *watch) ends(k *kit, want error) {
	k.t.Helper()
	select {
	case err := <-w.err:
		if !errors.Is(err, want) {
			k.fail("WatchNodes ends with %v, want %v", err, want)
		}
	case <-time.After(patience / 2):
		k.fail("WatchNodes does not end")
	}
}

var watchRules = []rule{
	{"WatchNodes calls changed as soon as it watches, and then after each lease that ends, whether it ran out or was ended.", []testcase{
		{"it ran out", func(k *kit) {
			w := k.watch()
			a := newOwner("a")
			w.sees(k, a, func() { k.lease(a, 30*time.Millisecond) })
			w.stop()
			w.ends(k, context.Canceled)
		}},
		{"it was ended", func(k *kit) {
			a, b := newOwner("a"), newOwner("b")
			k.alive(a)
			k.alive(b)
			w := k.watch()
			w.sees(k, a, func() { k.dead(a) })
			w.sees(k, b, func() { k.dead(b) })
			w.stop()
			w.ends(k, context.Canceled)
		}},
		{"one after the other, of one node too", func(k *kit) {
			w := k.watch()
			for _, name := range []string{"a", "a", "b", "a"} {
				o := newOwner(name)
				k.alive(o)
				w.sees(k, o, func() { k.dead(o) })
			}
			w.stop()
			w.ends(k, context.Canceled)
		}},
		{"by every watch", func(k *kit) {
			ws := []*watch{k.watch(), k.watch(), k.watch()}
			a := newOwner("a")
			k.alive(a)
			before := make([]int64, len(ws))
			for i, w := range ws {
				before[i] = w.calls.Load()
			}
			k.dead(a)
			for i, w := range ws {
				k.until("each watch's call", func() bool { return w.calls.Load() > before[i] || w.unsupported(k) })
				w.stop()
				w.ends(k, context.Canceled)
			}
		}},
	}},
	{"WatchNodes returns when ctx is over, when the store is closed, or when it cannot watch any longer, and says why.", []testcase{
		{"over before it began", func(k *kit) {
			k.watch().stop() // or it does not watch at all
			ctx, stop := context.WithCancel(k.ctx)
			stop()
			k.beginWatch(ctx).ends(k, context.Canceled)
		}},
		{"closed meanwhile", func(k *kit) {
			w := k.watch()
			k.st.Close()
			w.ends(k, store.ErrClosed)
			k.beginWatch(k.ctx).ends(k, store.ErrClosed)
		}},
	}},
}
