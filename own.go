package kvstore

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is the entries of the library's own. What a session holds beside the values that the application puts under keys (where a
// queue begins and ends, its items, counters) are entries, too: they pass through the same commit, are coalesced, fenced, stored together with whatever
// was changed in the same transaction, and adopted.
//
// Their keys begin with a zero byte, which no key of the application may, and then tell what they are:
//
//	0x00 'c' name             a counter; raw
//	0x00 'q' name             where a queue begins and ends; raw
//	0x00 'i' name position    an item of a queue; a value
//	0x00 'k' name position    an item of a queue of keys: the key; raw
//
// A position is 8 bytes, big endian. A raw entry is not of type V, and no codec sees it. What is of no kind above is taken to be raw: a later version of
// the library wrote it, and whoever does not know it leaves it alone.
const (
	ownMark     = 0
	kindCounter = 'c'
	kindBounds  = 'q'
	kindItem    = 'i'
	kindKey     = 'k'
)

// userKeys begins where the keys of the application do; all but the empty one, the main entry.
const userKeys = "\x01"

// maxOwnName is the longest name of what an own entry is about: its key, with mark, kind and position, has to be short enough for every store.
const maxOwnName = store.MaxKey - 16

func isOwn(key string) bool { return len(key) > 0 && key[0] == ownMark }

func isRaw(key string) bool { return isOwn(key) && (len(key) < 2 || key[1] != kindItem) }

func ownKey(kind byte, name string) string { return string([]byte{ownMark, kind}) + name }

func itemKey(kind byte, name string, pos uint64) string {
	var buf [64]byte
	b := append(append(buf[:0], ownMark, kind), name...)
	return string(binary.BigEndian.AppendUint64(b, pos))
}

func checkName(id, what, name string) error {
	if len(name) > maxOwnName {
		return fmt.Errorf("%w: session %q: the name of the %s %.32q… has %d bytes, at most %d are allowed", ErrTooLarge, id, what, name, len(name), maxOwnName)
	}
	return nil
}

// own is the cell of a raw entry.
type own[V any] struct {
	cell cell[V]
	raw  []byte // never changed; in buf if it fits
	buf  [20]byte
}

// newRaw makes a version of a raw entry. It copies raw.
func newRaw[V any](raw []byte) *cell[V] {
	o := new(own[V])
	o.raw = append(o.buf[:0], raw...)
	return &o.cell
}

// rawOf returns the bytes of a raw entry's cell: one that newRaw made, since isRaw says of its key that it is one.
func rawOf[V any](c *cell[V]) []byte { return (*own[V])(unsafe.Pointer(c)).raw }

// weigh returns the bytes of memory that a cell of key pins.
func (db *DB[V]) weigh(key string, c *cell[V]) int {
	if isRaw(key) {
		return len(rawOf(c))
	}
	return db.size(&c.val)
}

// append appends the stored form of a cell of key to dst. After an error the result is dst.
func (db *DB[V]) append(dst []byte, key string, c *cell[V]) ([]byte, error) {
	if isRaw(key) {
		return append(dst, rawOf(c)...), nil
	}
	return encode(db.opt.Codec, dst, &c.val)
}

// decode is the inverse.
func (db *DB[V]) decode(e *store.Entry) (*cell[V], error) {
	if isRaw(e.Key) {
		c := newRaw[V](e.Value)
		c.expires = e.Expires
		return c, nil
	}
	c := &cell[V]{expires: e.Expires}
	if err := decode(db.opt.Codec, e.Value, &c.val); err != nil {
		return nil, err
	}
	return c, nil
}
