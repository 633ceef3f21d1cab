package kvstore

import (
	"runtime"
	"strings"
	"testing"
	"unsafe"
	"weak"

	"github.com/seed-6f1f505d/kvstore/store"
)

// IDs of every length that there is: the front has them, tells them from those that differ in one byte, or are longer or shorter by one, and
// lies wholly in its own memory (the race detector's build checks each pointer that is made).
func TestFrontID(t *testing.T) {
	long := make([]byte, store.MaxSession+1)
	for i := range long {
		long[i] = byte(i*7 + i>>8)
	}
	for n := 1; n <= store.MaxSession; n++ {
		id := string(long[:n])
		f := newFront[[]byte](id)
		if got := f.id(); got != id {
			t.Fatalf("%d bytes: the ID is %q, want %q", n, got, id)
		}
		if unsafe.StringData(f.id()) == unsafe.StringData(id) {
			t.Fatalf("%d bytes: the caller's ID is kept, and with it what that is a part of", n)
		}
		if !f.is(strings.Clone(id)) {
			t.Fatalf("%d bytes: the front does not know its ID", n)
		}
		if f.is(string(long[:n+1])) || n > 1 && f.is(id[:n-1]) || f.is("") {
			t.Fatalf("%d bytes: the front takes an ID of another length for its own", n)
		}
		for i := range n {
			other := []byte(id)
			other[i] ^= 0x10
			if f.is(string(other)) {
				t.Fatalf("%d bytes: the front takes an ID for its own that differs in byte %d", n, i)
			}
		}
	}
}

// Who keeps an ID that the DB handed out does not keep the session, once that has left.
func TestKeptIDKeepsNoSession(t *testing.T) {
	x := newTestIndex(0, false)
	id, ref := func() (string, weak.Pointer[session[int]]) {
		s := newTestSession("call/1")
		x.insert(s)
		return s.id(), weak.Make(s)
	}()
	runtime.GC()
	s := ref.Value()
	if s == nil || x.load(id) != s {
		t.Fatal("the index has lost the session")
	}
	x.remove(s)
	s = nil
	runtime.GC()
	if ref.Value() != nil {
		t.Error("the session is still in memory, and nobody has more of it than the ID")
	}
	if id != "call/1" {
		t.Errorf("the ID is now %q", id)
	}
}
