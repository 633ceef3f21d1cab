package kvstore

import (
	"bytes"
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
//	0x00 'i' name position    an item of it; a value
//	0x00 'Q' name             where a queue of entries begins and ends; raw
//	0x00 'k' name position    an item of it: the key; raw
//	0x00 't'                  the session's idle time; raw
//	0x00 'T' name             the payload of a timer; a value
//
// A position is 8 bytes, big endian. A raw entry is not of type V, and no codec sees it. What is of no kind above is taken to be raw: a later version of
// the library wrote it, and whoever does not know it leaves it alone.
const (
	ownMark       = 0
	kindCounter   = 'c'
	kindBounds    = 'q'
	kindItem      = 'i'
	kindKeyBounds = 'Q'
	kindKey       = 'k'
	kindIdle      = 't'
	kindTimer     = 'T'
)

// userKeys begins where the keys of the application do; all but the empty one, the main entry.
const userKeys = "\x01"

// maxOwnName is the longest name of what an own entry is about: its key, with mark, kind and position, has to be short enough for every store.
const maxOwnName = store.MaxKey - 16

func isOwn(key string) bool { return len(key) > 0 && key[0] == ownMark }

func isRaw(key string) bool {
	return isOwn(key) && (len(key) < 2 || key[1] != kindItem && key[1] != kindTimer)
}

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

	// stored is the version that the store has, if that is known: what was clean when this one, or the dirty ones before it, came. If a flush finds
	// that both are the same, there is nothing to write. Under the session's mu.
	stored *own[V]
}

// follow tells a raw cell that is about to be put into e what the store has. Caller holds the session's mu.
func (s *session[V]) follow(e *entry[V], next, absent *cell[V]) {
	was := e.cell.Load()
	if was == nil || was == absent || s.has(flying) { // what flies may be stored or not
		return
	}
	o, n := (*own[V])(unsafe.Pointer(was)), (*own[V])(unsafe.Pointer(next))
	if n.stored = o; e.dirty {
		n.stored = o.stored
	}
	o.stored = nil // or each would keep the one before it
}

// unchanged reports whether the store has a cell already that is about to be flushed. If not, it is no longer known what the store has: the flush may
// arrive, and not be heard of. Caller holds the session's mu.
func unchanged[V any](key string, c, absent *cell[V]) bool {
	if c == absent || !isRaw(key) {
		return false
	}
	o := (*own[V])(unsafe.Pointer(c))
	if o.stored != nil && bytes.Equal(o.raw, o.stored.raw) {
		return true
	}
	o.stored = nil
	return false
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
	out, err := encode(db.opt.Codec, appendVersion(dst, db.opt.Schema), &c.val)
	if err != nil {
		return dst, err
	}
	return out, nil
}

// decode is the inverse, of an entry of the session id.
func (db *DB[V]) decode(id string, e *store.Entry) (*cell[V], error) {
	if isRaw(e.Key) {
		c := newRaw[V](e.Value)
		c.expires = e.Expires
		return c, nil
	}
	if of := db.terms.of(e.Key); of != nil {
		return db.decodeIndexed(id, e, of)
	}
	c := &cell[V]{expires: e.Expires}
	if err := db.decodeValue(e.Value, &c.val); err != nil {
		return nil, err
	}
	return c, nil
}

// EntryKind says what an entry of a session is.
type EntryKind uint8

const (
	Plain        EntryKind = iota // what the application has put under a key
	Counter                       // a counter; its value is an int64
	QueueItem                     // an item of a queue; its value is a V
	KeyQueueItem                  // an item of a queue of entries; its value is the entry's key, a string
	QueueEnds                     // where a queue of either kind begins and ends; without a value
	IdleTime                      // the session's idle time, without a name; its value is a time.Duration
	TimerPayload                  // that of a timer; its value is a V
	Unknown                       // something that a later version of this library has written
)

func (k EntryKind) String() string {
	return [...]string{"entry", "counter", "item of queue", "item of key queue", "ends of queue", "idle time", "timer", "unknown entry"}[min(k, Unknown)]
}

// kindOf returns what the entry of a key is, and its name.
func kindOf(key string) (EntryKind, string) {
	if !isOwn(key) {
		return Plain, key
	}
	if len(key) < 2 {
		return Unknown, key
	}
	kind, name := key[1], key[2:]
	if kind == kindItem || kind == kindKey {
		name = name[:max(0, len(name)-8)]
	}
	switch kind {
	case kindCounter:
		return Counter, name
	case kindItem:
		return QueueItem, name
	case kindKey:
		return KeyQueueItem, name
	case kindBounds, kindKeyBounds:
		return QueueEnds, name
	case kindIdle:
		return IdleTime, name
	case kindTimer:
		return TimerPayload, name
	}
	return Unknown, key
}
