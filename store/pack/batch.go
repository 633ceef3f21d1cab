package pack

import (
	"context"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/seed-6f1f505d/kvstore/store"
)

// batch is what one Apply hands to the store behind. That store keeps nothing of it, so the memory is used again.
type batch struct {
	changes []store.Change // the caller's own, if nothing is altered; else own
	own     []store.Change
	puts    []store.Entry // of all changes that are altered
	bytes   []byte        // of all values that are altered
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// keep bounds the memory, in bytes of values, that a batch keeps for the next one.
const keep = 1 << 20

func (b *batch) done() {
	b.changes = nil
	clear(b.own)
	clear(b.puts)
	if cap(b.bytes) <= keep {
		batches.Put(b)
	}
}

// pack sets b.changes. It alters nothing of the caller's.
func (b *batch) pack(ctx context.Context, c *coder, changes []store.Change) error {
	b.changes = changes
	var e *zstd.Encoder
	defer func() {
		if e != nil {
			c.encoders.give(e)
		}
	}()
	b.own, b.puts, b.bytes = b.own[:0], b.puts[:0], b.bytes[:0]
	for i := range changes {
		from := -1 // where in b.puts those of this change begin, if one is altered
		for j := range changes[i].Puts {
			value := changes[i].Puts[j].Value
			if c.asIs(value) {
				continue
			}
			if e == nil {
				var err error
				if e, err = c.encoders.take(ctx); err != nil {
					return err
				}
			}
			start := len(b.bytes)
			var altered bool
			if b.bytes, altered = c.appendStored(b.bytes, e, value); !altered {
				continue
			}
			if from < 0 {
				from = len(b.puts)
				b.puts = append(b.puts, changes[i].Puts...)
			}
			b.puts[from+j].Value = b.bytes[start:len(b.bytes):len(b.bytes)]
		}
		if from < 0 {
			continue
		}
		if len(b.own) == 0 {
			b.own = append(b.own, changes...)
			b.changes = b.own
		}
		b.own[i].Puts = b.puts[from:len(b.puts):len(b.puts)]
	}
	return nil
}
