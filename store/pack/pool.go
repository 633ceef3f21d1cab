package pack

import (
	"context"

	"github.com/seed-6f1f505d/kvstore/store"
)

// pool lends out coders. A coder serves one goroutine at a time and has tables of some megabytes, hence there are no more of them than processors: who finds
// none waits for the end of somebody's computation, never for a store.
type pool[T any] struct {
	slots chan *T // a slot that is nil has no coder yet; closed with the pool
	make  func() (*T, error)
	free  func(*T)
}

func newPool[T any](n int, make_ func() (*T, error), free func(*T)) (*pool[T], error) {
	p := &pool[T]{slots: make(chan *T, n), make: make_, free: free}
	first, err := make_() // which finds out whether there can be any
	if err != nil {
		return nil, err
	}
	p.slots <- first
	for len(p.slots) < n {
		p.slots <- nil
	}
	return p, nil
}

// take returns a coder, which its caller gives back.
func (p *pool[T]) take(ctx context.Context) (*T, error) {
	select {
	case c, open := <-p.slots:
		if !open {
			return nil, store.ErrClosed
		}
		if c != nil {
			return c, nil
		}
		c, err := p.make()
		if err != nil {
			p.slots <- nil
		}
		return c, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pool[T]) give(c *T) { p.slots <- c }

// close frees all coders, those in use when they have been given back. It is called once.
func (p *pool[T]) close() {
	for range cap(p.slots) {
		if c := <-p.slots; c != nil {
			p.free(c)
		}
	}
	close(p.slots) // nobody has a coder, so nobody gives one back
}
