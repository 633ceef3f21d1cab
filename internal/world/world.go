// Package world is where a DB gets its chance and its clock from, so that a simulation can decide both. Without one they
// are the machine's.
package world

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"time"
)

// World is what one DB lives in. A nil World is the real one. Its functions are called from several goroutines.
type World struct {
	// Int64N returns a random number in [0, n), for waits.
	Int64N func(n int64) int64

	// Elapsed returns what the node's monotonic clock shows when really d has passed since it started. It never
	// falls.
	Elapsed func(d time.Duration) time.Duration
}

type key struct{}

// With returns a context from which Open takes its World.
func With(ctx context.Context, w *World) context.Context { return context.WithValue(ctx, key{}, w) }

// From returns the World that ctx has; nil if it has none.
func From(ctx context.Context) *World {
	w, _ := ctx.Value(key{}).(*World)
	return w
}

// Rand returns a random number in [0, n).
func (w *World) Rand(n int64) int64 {
	if w == nil {
		return rand.Int64N(n)
	}
	return w.Int64N(n)
}

// Since returns the time since start by the node's monotonic clock.
func (w *World) Since(start time.Time) time.Duration {
	d := time.Since(start)
	if w != nil {
		d = w.Elapsed(d)
	}
	return d
}

// Bytes fills b at random; in the real world it leaves it as it is.
func (w *World) Bytes(b []byte) {
	if w == nil {
		return
	}
	for len(b) > 0 {
		b = b[copy(b, binary.LittleEndian.AppendUint64(nil, uint64(w.Int64N(1<<62)))):]
	}
}
