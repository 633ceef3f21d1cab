package kvstore

import (
	"sync/atomic"
	"unsafe"
)

// front is what a read touches of a session: the index holds it, and it ends with the bytes of the ID, so that an ID of up to 26
// bytes is in the same cache line.
//
// It is an object of its own for the garbage collector's sake. The index is in the order of hashes, so from there the
// collector goes to and fro in memory. It is faster if it does so among small objects, and finds what they lead to in
// the order in which that was allocated: with five million sessions, 1.5 times the marking of a map's entries, and 2.5
// times if the index leads to whole sessions (see bench, gc/put).
//
// The ID that the caller gave is copied: it may be a part of something larger, which would be kept by it. An ID that is handed out
// keeps the front, and no more once the session has left: remove cuts it off.
type front[V any] struct {
	main     entry[V] // the entry of the empty key
	session  atomic.Pointer[session[V]]
	expires  atomic.Int64  // of the session: store.Time; written under its mu
	verified atomic.Uint32 // the lease's gen in which the store last confirmed the ownership
	size     uint16        // of the ID
	text     [2]byte       // the ID begins here, and goes on behind the front
}

// fronted is a front with room for a longer ID.
type fronted[V, Room any] struct {
	front[V]
	_ Room
}

// newFront returns the front of a session of that ID, which its caller has checked. The rooms fill the runtime's size classes.
func newFront[V any](id string) (f *front[V]) {
	switch n := len(id) - len(f.text); {
	case n <= 8:
		f = &new(fronted[V, [8]byte]).front
	case n <= 24:
		f = &new(fronted[V, [24]byte]).front
	case n <= 40:
		f = &new(fronted[V, [40]byte]).front
	case n <= 56:
		f = &new(fronted[V, [56]byte]).front
	case n <= 88:
		f = &new(fronted[V, [88]byte]).front
	case n <= 152:
		f = &new(fronted[V, [152]byte]).front
	case n <= 344:
		f = &new(fronted[V, [344]byte]).front
	case n <= 1104:
		f = &new(fronted[V, [1104]byte]).front
	default:
		panic(checkID(id)) // it would go on in memory that is not the front's
	}
	f.size = uint16(len(id))
	copy(unsafe.Slice(&f.text[0], len(id)), id)
	return f
}

// id returns the session's ID.
func (f *front[V]) id() string { return unsafe.String(&f.text[0], int(f.size)) }

// is reports whether the session's ID is id.
//
// Few instructions, and none that wait for each other: while the processor compares it has the next lookups under way, as many as
// it has room for.
func (f *front[V]) is(id string) bool {
	n := len(id)
	if n != int(f.size) {
		return false
	}
	p, q := unsafe.Pointer(&f.text), unsafe.Pointer(unsafe.StringData(id))
	if n < 16 || n > 32 {
		return f.id() == id
	}
	return *(*[16]byte)(p) == *(*[16]byte)(q) && *(*[16]byte)(unsafe.Add(p, n-16)) == *(*[16]byte)(unsafe.Add(q, n-16))
}

// whole returns the session; nil if it has left, or there is none.
func (f *front[V]) whole() *session[V] {
	if f == nil {
		return nil
	}
	return f.session.Load()
}

// visit tells the sieve, which there is, that the session was used.
func (f *front[V]) visit() {
	if s := f.session.Load(); s != nil {
		s.visit()
	}
}
