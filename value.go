package kvstore

import (
	"fmt"
	"reflect"
	"time"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"github.com/seed-6f1f505d/kvstore/store"
)

// summed is what newCell makes under Options.DetectMutation: a cell with the sum of its encoding.
type summed[V any] struct {
	cell cell[V]
	sum  uint64
}

// newCell makes a version of an entry, after checking what can be checked at once. A panic in a function of the application reaches its caller.
func (db *DB[V]) newCell(id, key string, v V, expires time.Time) (*cell[V], error) {
	if err := checkKey(id, key); err != nil {
		return nil, err
	}
	return db.makeCell(id, key, db.terms.of(key), v, expires)
}

// newItem makes a version of an entry of the library's own that has a value: no index is about it.
func (db *DB[V]) newItem(id string, v V) (*cell[V], error) {
	return db.makeCell(id, "", nil, v, time.Time{})
}

// makeCell is newCell, of a key that the indexes of are about.
func (db *DB[V]) makeCell(id, key string, of []*declared[V], v V, expires time.Time) (*cell[V], error) {
	var c *cell[V]
	switch {
	case of != nil:
		c = &new(indexed[V]).cell
	case db.opt.DetectMutation:
		c = &new(summed[V]).cell
	default:
		c = new(cell[V])
	}
	c.val = v
	if !expires.IsZero() {
		c.expires = store.TimeOf(expires)
	}
	if db.isNil != nil && db.isNil(&c.val) {
		return nil, fmt.Errorf("%w: session %q, key %q: the value is nil; Delete removes an entry", ErrInvalid, id, key)
	}
	if db.exact {
		if n := reflect.ValueOf(&c.val).Elem().Len(); n > db.opt.MaxValue {
			return nil, fmt.Errorf("%w: session %q, key %q: the value has %d bytes, Options.MaxValue is %d", ErrTooLarge, id, key, n, db.opt.MaxValue)
		}
	}
	if db.opt.DetectMutation {
		if b, err := db.append(nil, key, c); err == nil {
			(*summed[V])(unsafe.Pointer(c)).sum = xxhash.Sum64(b)
		}
	}
	if of != nil {
		if err := (*indexed[V])(unsafe.Pointer(c)).find(id, key, of, db.before(id, key)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// checkSum compares a value's encoding with the one that it had when it was put.
func (db *DB[V]) checkSum(id, key string, c *cell[V], encoded []byte) {
	// Only newCell makes dirty cells.
	if sum := (*summed[V])(unsafe.Pointer(c)).sum; sum != 0 && sum != xxhash.Sum64(encoded) {
		db.count.mutated.Add(1)
		db.log.Error("kvstore: a value was changed in place after it was put", "session", id, "key", key)
	}
}

// nilTest returns a function that tells whether a value is nil; nil for types that cannot be.
func nilTest[V any](t reflect.Type) func(*V) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
		// Each of them is nil if and only if its first word is.
		return func(v *V) bool { return *(*unsafe.Pointer)(unsafe.Pointer(v)) == nil }
	}
	return nil
}
