package pack

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/seed-6f1f505d/kvstore/store"
)

// maxSample is the size in bytes above which a value is no sample. A dictionary is for the beginning of a value: it saves little of a long one.
const maxSample = 64 << 10

// Sample returns up to n values that st has, chosen at random, for [Train]. Ask the Store itself, not the one behind it, whose values are packed.
//
// It walks the headers of all sessions, loads n sessions of them, chosen at random, one after the other, and draws from all their entries of up to 64 KiB; both by
// algorithm R of Vitter, "Random sampling with a reservoir" (1985). It claims and changes nothing, and may run while the store is in use. What is damaged
// is passed over. After an error of the store it returns what it has, too. The samples are the caller's.
func Sample(ctx context.Context, st store.Store, n int) ([][]byte, error) {
	if n <= 0 {
		return nil, errors.New("store/pack: Sample of no values")
	}
	var failed error
	ids := reservoir[string]{size: n}
	for h, err := range st.Sessions(ctx, store.Query{}) {
		switch {
		case err == nil:
			ids.add(h.Session)
		case !damagedOnly(err):
			failed = err
		}
	}
	values := reservoir[[]byte]{size: n}
	for _, id := range ids.kept {
		snap, err := st.Load(ctx, id)
		for _, e := range snap.Entries {
			if len(e.Value) <= maxSample {
				values.add(e.Value)
			}
		}
		if err != nil && !damagedOnly(err) {
			return values.kept, err
		}
	}
	return values.kept, failed
}

// damagedOnly reports whether an error is of a sound store that has damaged records.
func damagedOnly(err error) bool {
	if _, ok := err.(*store.CorruptError); ok {
		return true
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range many.Unwrap() {
			if !damagedOnly(err) {
				return false
			}
		}
		return true
	}
	inner := errors.Unwrap(err)
	return inner != nil && damagedOnly(inner)
}

// reservoir keeps size of the items that are added to it, each with the same chance.
type reservoir[T any] struct {
	size, seen int
	kept       []T
}

func (r *reservoir[T]) add(item T) {
	r.seen++
	if len(r.kept) < r.size {
		r.kept = append(r.kept, item)
	} else if i := rand.IntN(r.seen); i < r.size {
		r.kept[i] = item
	}
}
