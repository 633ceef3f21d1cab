package kvstore_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// Loads are shared.

// All is asked of the store once, however many want it.
func TestAllAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		line := storetest.NewFaults(mem)
		orphan(t, mem, "s", 42)
		a := openInts(t, line, kvstore.Options{Node: "a"})
		defer a.Close(ctx)
		s, err := a.Adopt(ctx, "s")
		check(t, err)
		line.Inject(storetest.Every(storetest.Fault{Delay: time.Second}, storetest.Load))
		before := line.Calls(storetest.Load)
		together(100, func(int) { s.All(ctx) })
		if n := line.Calls(storetest.Load) - before; n > 1 {
			t.Errorf("100 goroutines ask for the same session: %d loads of all of it", n)
		}
	})
}
