package kvstore

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
)

// The bound holds at every instant, for anyone who looks: many that fail to get room at once must not
// look as if they had it, and when all is given back nothing is left, and nobody waits.
func TestBudgetBound(t *testing.T) {
	const goroutines, turns, largest = 8, 20_000, 40
	b := budget{max: 100}
	stop := make(chan struct{})
	var watcher, takers sync.WaitGroup
	watcher.Go(func() {
		for {
			if n := b.used.Load(); n < 0 || n > b.max {
				t.Errorf("%d bytes are held, the bound is %d", n, b.max)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for g := range goroutines {
		takers.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(g)))
			for i := range turns {
				n := 1 + rng.Int64N(largest)
				if i%64 == 0 { // now and then one waits, in vain or not
					ctx, cancel := context.WithCancel(t.Context())
					if i%128 == 0 {
						cancel()
					}
					err := b.acquire(ctx, nil, n)
					cancel()
					if err != nil {
						continue
					}
				} else if !b.try(n) {
					continue
				}
				b.release(n)
			}
		})
	}
	takers.Wait()
	close(stop)
	watcher.Wait()
	if used, waiting := b.used.Load(), b.waiting.Load(); used != 0 || waiting != 0 {
		t.Errorf("at the end %d bytes are held, and %d wait", used, waiting)
	}
}
