package storetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// watcher is a store whose watch is another one.
type watcher struct {
	*memory.Store
	watch func(ctx context.Context, inner *memory.Store, changed func()) error
}

func (w watcher) WatchNodes(ctx context.Context, changed func()) error {
	return w.watch(ctx, w.Store, changed)
}

// most lets only so many calls through.
func most(n int, changed func()) func() {
	return func() {
		if n--; n >= 0 {
			changed()
		}
	}
}

// Watches that are broken are found out, in virtual time: most of what is wrong is that something never comes.
func TestBrokenWatches(t *testing.T) {
	for name, b := range map[string]struct {
		watch func(ctx context.Context, inner *memory.Store, changed func()) error
		cases []string
	}{
		"it never begins": {func(ctx context.Context, _ *memory.Store, _ func()) error {
			<-ctx.Done()
			return ctx.Err()
		}, []string{"it ran out", "by every watch"}},
		"it tells that it begins, and nothing else": {func(ctx context.Context, in *memory.Store, changed func()) error {
			return in.WatchNodes(ctx, most(1, changed))
		}, []string{"it ran out", "it was ended", "by every watch"}},
		"it tells of the first end only": {func(ctx context.Context, in *memory.Store, changed func()) error {
			return in.WatchNodes(ctx, most(4, changed))
		}, []string{"one after the other, of one node too"}},
		"it gives up": {func(ctx context.Context, in *memory.Store, changed func()) error {
			changed()
			return errors.New("gives up")
		}, []string{"it was ended"}},
		"it does not end with its context": {func(ctx context.Context, in *memory.Store, changed func()) error {
			return in.WatchNodes(context.WithoutCancel(ctx), changed)
		}, []string{"it ran out", "over before it began"}},
		"it does not say why it ends": {func(ctx context.Context, in *memory.Store, changed func()) error {
			in.WatchNodes(ctx, changed)
			return nil
		}, []string{"it ran out", "closed meanwhile"}},
	} {
		for _, c := range b.cases {
			t.Run(name+"/"+c, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					rule, tc := find(t, "WatchNodes/"+c)
					st := watcher{memory.New(), b.watch}
					r := record(func(t T) { rule.check(t, st, tc) })
					st.Close()
					if len(r.failures) == 0 || !strings.HasPrefix(r.failures[0], rule.says) {
						t.Errorf("it fails with %q, want its sentence", r.failures)
					}
				})
			})
		}
	}
}

// A store that says that it does not watch is skipped, and so is one that cannot.
func TestNoWatchIsSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memory.New()
		for _, st := range []store.Store{
			watcher{mem, func(context.Context, *memory.Store, func()) error { return errors.ErrUnsupported }},
			struct{ store.Store }{mem},
		} {
			rule, c := find(t, "WatchNodes/it ran out")
			if r := record(func(t T) { rule.check(t, st, c) }); r.skipped == "" || len(r.failures) > 0 {
				t.Errorf("case is skipped with %q and failures %q, want skipped", r.skipped, r.failures)
			}
		}
	})
}
