package kvstore

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// sizeIs compares the size of v with what it has beyond unsafe.Sizeof(V).
func sizeIs[V any](t *testing.T, name string, v V, beyond int) {
	t.Helper()
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the figures are those of 64-bit machines")
	}
	want := int(unsafe.Sizeof(v)) + beyond
	if got := sizerOf[V]()(&v); got != want {
		t.Errorf("%s: size %d, want %d", name, got, want)
	}
}

type sizeInner struct {
	s string
	b []byte
}

type sizeOuter struct {
	ID     int64
	Name   string
	inner  sizeInner
	ptr    *sizeInner
	two    [2]sizeInner
	ten    [10]string
	nested [][]string
	flat   []int64
	any    any
}

type sizeNode struct {
	next *sizeNode
	data string
}

type sizeTree struct {
	parent   *sizeTree
	children []*sizeTree
	name     string
}

func TestSizeParts(t *testing.T) {
	s := func(n int) string { return strings.Repeat("x", n) }
	sizeIs(t, "int", 7, 0)
	sizeIs(t, "empty struct", struct{}{}, 0)
	sizeIs(t, "array of ints", [100]int{}, 0)
	sizeIs(t, "string", s(100), 100)
	sizeIs(t, "bytes", make([]byte, 10, 50), 10)
	sizeIs(t, "nil slice", []string(nil), 0)
	sizeIs(t, "slice of empty structs", make([]struct{}, 1000), 0)
	sizeIs(t, "strings", []string{s(3), s(4)}, 2*16+7)
	sizeIs(t, "long array", [20]string{19: s(9)}, 9)
	sizeIs(t, "array of arrays", [20][2]string{19: {1: s(9)}}, 9)
	sizeIs(t, "empty array of pointers", [0]*int{}, 0)
	sizeIs(t, "pointer", new(int64), 8)
	sizeIs(t, "nil pointer", (*sizeInner)(nil), 0)
	sizeIs(t, "pointer to pointer", func() **sizeInner { p := &sizeInner{s: s(5)}; return &p }(), 8+40+5)
	sizeIs(t, "time", time.Now(), 0)
	sizeIs(t, "pointer to time", func() *time.Time { n := time.Now(); return &n }(), 24)
	sizeIs(t, "address", netip.MustParseAddr("fe80::1%eth0"), 0)
	sizeIs(t, "chan", make(chan string, 100), 0)
	sizeIs(t, "func", func() {}, 0)
	sizeIs(t, "mutex", &sync.Mutex{}, 8)

	sizeIs(t, "nested", sizeOuter{
		Name:   s(1),
		inner:  sizeInner{s(2), make([]byte, 4)},
		ptr:    &sizeInner{s(8), nil},
		two:    [2]sizeInner{1: {s(16), nil}},
		ten:    [10]string{9: s(32)},
		nested: [][]string{{s(64)}, nil},
		flat:   make([]int64, 3),
		any:    s(128),
	}, 1+2+4+8+40+16+32+(2*24+16+64)+24+16+128)
}

func TestSizeInterfaces(t *testing.T) {
	type one struct{ p *sizeInner }
	type word struct{ n int64 }
	inner := &sizeInner{s: "12345"}
	str := "0123456789"
	sizeIs(t, "nil", any(nil), 0)
	sizeIs(t, "string", any(str), 16+10)
	sizeIs(t, "int", any(int64(1)<<40), 8)
	sizeIs(t, "word", any(word{1}), 8)
	sizeIs(t, "pointer", any(inner), 40+5)
	sizeIs(t, "nil pointer", any((*sizeInner)(nil)), 0)
	sizeIs(t, "struct of one pointer", any(one{inner}), 8+40+5)
	sizeIs(t, "array of one pointer", any([1]*sizeInner{inner}), 8+40+5)
	sizeIs(t, "struct", any(*inner), 40+5)
	sizeIs(t, "slice", any([]string{str}), 24+16+10)
	sizeIs(t, "map", any(map[string]string(nil)), 0)
	sizeIs(t, "time", any(time.Now()), 24)
	sizeIs(t, "func", any(func() {}), 0)
	sizeIs(t, "nested", any([]any{str, any(inner)}), 24+2*16+(16+10)+(40+5))
	sizeIs(t, "error", errors.New(str), 16+10)
	sizeIs(t, "stringer", fmt.Stringer(time.Second), 8)
}

func TestSizeMaps(t *testing.T) {
	sizeIs(t, "nil", map[string]string(nil), 0)
	sizeIs(t, "empty", map[string]string{}, mapHeaderSize)
	sizeIs(t, "flat", map[int32]int64{1: 2, 2: 3}, mapHeaderSize+2*13*3/2)
	sizeIs(t, "strings", map[string]string{"ab": "cde", "f": ""}, mapHeaderSize+2*33*3/2+6)
	sizeIs(t, "named strings", map[time.Month]string{1: "abc"}, mapHeaderSize+25*3/2+3)
	sizeIs(t, "structs", map[string]sizeInner{"k": {s: "abc"}}, mapHeaderSize+57*3/2+4)
	sizeIs(t, "pointers", map[string]*sizeInner{"k": {s: "abc"}, "": nil}, mapHeaderSize+2*25*3/2+1+40+3)
	sizeIs(t, "interfaces", map[any]any{"k": "abc"}, mapHeaderSize+33*3/2+16+1+16+3)

	// A map that is larger than the sample is estimated; equal entries make the estimate exact.
	large := map[string]sizeInner{}
	for i := range 1000 {
		large[fmt.Sprintf("%04d", i)] = sizeInner{s: "123456"}
	}
	sizeIs(t, "large", large, mapHeaderSize+1000*57*3/2+1000*10)
	text := map[string]string{}
	for k := range large {
		text[k] = "12"
	}
	sizeIs(t, "large strings", text, mapHeaderSize+1000*33*3/2+1000*6)
}

func TestSizeSamples(t *testing.T) {
	long := make([]string, 100_000)
	for i := range long {
		long[i] = "1234567"
	}
	sizeIs(t, "long slice", long, 100_000*(16+7))

	// More parts than sizeSteps: the first ones stand for all.
	wide := make([][][]string, 200)
	for i := range wide {
		wide[i] = make([][]string, 200)
		for j := range wide[i] {
			wide[i][j] = []string{"abcd"}
		}
	}
	full := 24 + 200*24 + 200*200*24 + 200*200*(16+4)
	got := sizerOf[[][][]string]()(&wide)
	if got < full/2 || got > full*2 {
		t.Errorf("wide slices: estimated %d, full walk %d", got, full)
	}
}

func TestSizeCycles(t *testing.T) {
	ring := &sizeNode{data: "abc"}
	ring.next = ring
	sizeIs(t, "node that is its own next", ring, 24+3)
	ring.next = &sizeNode{ring, "de"}
	sizeIs(t, "two nodes in a ring", ring, 2*24+5)

	root := &sizeTree{name: "root"}
	for range 10 {
		child := &sizeTree{parent: root, name: "leaf"}
		root.children = append(root.children, child)
		for range 10 {
			child.children = append(child.children, &sizeTree{parent: child, name: "x"})
		}
	}
	node := int(unsafe.Sizeof(sizeTree{}))
	sizeIs(t, "tree with parents", root, 111*node+110*8+4+40+100)

	list := &sizeNode{}
	for range 1_000_000 {
		list = &sizeNode{next: list}
	}
	if got := sizerOf[*sizeNode]()(&list); got < 500*24 {
		t.Errorf("long list: %d", got)
	}

	// What leads back to itself through an interface, a map or a slice is seen a few times too often, not for ever.
	bounded := func(name string, v any, limit int) {
		if got := sizerOf[any]()(&v); got <= 0 || got > limit {
			t.Errorf("%s: size %d", name, got)
		}
	}
	slice := make([]any, 10)
	for i := range slice {
		slice[i] = slice
	}
	bounded("slice of itself", slice, 10<<20)
	m := map[string]any{}
	m["m"], m["s"] = m, slice
	bounded("map of itself", m, 10<<20)
	var p any
	p = &p
	bounded("pointer to itself", p, 1<<10)
	type named []named
	n := make(named, 3)
	n[0], n[1], n[2] = n, n, n
	sizeIs(t, "slices of themselves", n, 3*24)
}

type (
	sizeOwn      struct{ n int }
	sizeOwnPtr   struct{ n int }
	sizePanics   [3]int
	sizeNegative [4]byte
	sizeCart     []string
)

func (s sizeOwn) MemSize() int      { return s.n }
func (s *sizeOwnPtr) MemSize() int  { return s.n }
func (s *sizePanics) MemSize() int  { panic("no size") }
func (s sizeNegative) MemSize() int { return -1 }
func (s sizeCart) Size() int        { return len(s) } // of something else

func TestSizeMethod(t *testing.T) {
	check := func(name string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: size %d, want %d", name, got, want)
		}
	}
	check("method of V", sizerOf[sizeOwn]()(&sizeOwn{1234}), 1234)
	check("method of *V", sizerOf[sizeOwnPtr]()(&sizeOwnPtr{1234}), 1234)
	p := &sizeOwnPtr{77}
	check("V is the pointer", sizerOf[*sizeOwnPtr]()(&p), 77)
	p = nil
	check("V is a nil pointer, MemSize panics", sizerOf[*sizeOwnPtr]()(&p), 8)
	var i Sizer = sizeOwn{5}
	check("V is an interface", sizerOf[Sizer]()(&i), 5)
	i = nil
	check("V is a nil interface", sizerOf[Sizer]()(&i), 16)
	check("panic", sizerOf[sizePanics]()(&sizePanics{}), 24)
	check("negative", sizerOf[sizeNegative]()(&sizeNegative{}), 0)
	check("another method", sizerOf[sizeCart]()(&sizeCart{"abc"}), 24+16+3)
	check("nil *V", sizerOf[string]()(nil), 0)
	check("nil *V with a method", sizerOf[sizeOwn]()(nil), 0)
}

// TestSizeShared adds up to more than any address space: the same slices again and again.
func TestSizeShared(t *testing.T) {
	alias := func(v any) any {
		s := make([]any, 1<<16)
		for i := range s {
			s[i] = v
		}
		return s
	}
	v := any(make([]byte, 1<<16))
	for range 3 { // more levels than this are told apart by address
		v = alias(v)
	}
	if got := sizerOf[any]()(&v); got < 1<<30 {
		t.Errorf("size %d", got)
	}
	for range 3 {
		v = alias(v)
	}
	if got := sizerOf[any]()(&v); got < 0 {
		t.Errorf("size %d", got)
	}
}

func TestSizeConcurrent(t *testing.T) {
	type fresh struct { // not compiled by another test
		a []*sizeTree
		b map[string]any
		c *struct{ X []any }
	}
	v := fresh{a: []*sizeTree{{name: "x"}}, b: map[string]any{"k": []string{"v"}}, c: &struct{ X []any }{}}
	want := sizerOf[fresh]()(&v)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			f := sizerOf[fresh]()
			for range 100 {
				if got := f(&v); got != want {
					t.Errorf("size %d, want %d", got, want)
				}
			}
		})
	}
	wg.Wait()
}

// sizeCall is shaped like a value of a session: what Put measures all the time.
type sizeCall struct {
	ID, From, To, State, Node string
	Started                   time.Time
	Legs                      []string
	Peer                      *sizeInner
	Attempts                  int
}

var (
	sizeFive = struct{ A, B, C, D, E string }{"one", "two", "three", "four", "five"}
	sizeLong = sizeCall{"id", "from", "to", "state", "node", time.Now(), []string{"leg/1", "leg/2"}, &sizeInner{s: "peer"}, 3}
)

func TestSizeAllocs(t *testing.T) {
	five, long, list := sizerOf[struct{ A, B, C, D, E string }](), sizerOf[sizeCall](), sizerOf[any]()
	var boxed any = sizeLong
	text, mapped := map[string]string{"a": "b"}, sizerOf[map[string]string]()
	if n := testing.AllocsPerRun(100, func() { five(&sizeFive); long(&sizeLong); list(&boxed); mapped(&text) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestSizeAgainstHeap compares the estimate with what the heap grows by.
func TestSizeAgainstHeap(t *testing.T) {
	measure := func(name string, build func(i int) any) {
		const count = 2000
		values := make([]any, count)
		var before, after runtime.MemStats
		runtime.GC() // twice: what pools hold survives the first
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range values {
			values[i] = build(i)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		f, sum := sizerOf[any](), 0
		for i := range values {
			sum += f(&values[i]) - 16
		}
		ratio := float64(sum) / float64(after.HeapAlloc-before.HeapAlloc)
		t.Logf("%s: %.2f of the heap", name, ratio)
		if ratio < 0.6 || ratio > 1.5 {
			t.Errorf("%s: estimated %d bytes, the heap grew by %d", name, sum, after.HeapAlloc-before.HeapAlloc)
		}
		runtime.KeepAlive(values)
	}
	measure("structs", func(i int) any {
		return &sizeOuter{Name: fmt.Sprintf("name-%030d", i), flat: make([]int64, 20), ptr: &sizeInner{b: make([]byte, 100)}}
	})
	measure("maps", func(i int) any {
		m := map[string]int{}
		for j := range 50 {
			m[fmt.Sprintf("key-%010d-%d", i, j)] = j
		}
		return m
	})
	measure("maps of structs", func(i int) any {
		m := map[int]sizeInner{}
		for j := range 100 {
			m[j] = sizeInner{b: make([]byte, 64)}
		}
		return m
	})
}

func BenchmarkSizer(b *testing.B) {
	b.Run("flat", func(b *testing.B) { benchSizer(b, &[4]int{}) })
	b.Run("5 strings", func(b *testing.B) { benchSizer(b, &sizeFive) })
	b.Run("call", func(b *testing.B) { benchSizer(b, &sizeLong) })
	b.Run("100 strings", func(b *testing.B) { s := make([]string, 100); benchSizer(b, &s) })
	b.Run("map of 20 strings", func(b *testing.B) {
		m := map[string]string{}
		for i := range 20 {
			m[fmt.Sprint(i)] = "value"
		}
		benchSizer(b, &m)
	})
	b.Run("map of 20 any", func(b *testing.B) {
		m := map[string]any{}
		for i := range 20 {
			m[fmt.Sprint(i)] = "value"
		}
		benchSizer(b, &m)
	})
	b.Run("tree", func(b *testing.B) {
		root := &sizeTree{}
		for range 10 {
			root.children = append(root.children, &sizeTree{parent: root})
		}
		benchSizer(b, &root)
	})
}

func benchSizer[V any](b *testing.B, v *V) {
	f := sizerOf[V]()
	b.ReportAllocs()
	for b.Loop() {
		f(v)
	}
}

// FuzzSize sizes whatever values there are: of what bytes decode to. A size is at least the value's own, grows at most as the
// bytes do.
func FuzzSize(f *testing.F) {
	for _, v := range []any{
		&codecSession{Name: "n", List: []codecLeg{{Sub: map[string]codecLeg{"a": {}, "b": {Name: "x"}}}}},
		&map[any]any{int64(1): []any{"a", []byte("b")}, "t": time.Unix(1, 0)},
	} {
		b, err := Msgpack{}.Append(nil, v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	naked, typed := sizerOf[any](), sizerOf[codecSession]()
	f.Fuzz(func(t *testing.T, src []byte) {
		var v any
		if decode(Msgpack{}, src, &v) == nil {
			if n := naked(&v); n < int(unsafe.Sizeof(v)) || n > 1024+len(src)*256 {
				t.Fatalf("%x: size %d", src, n)
			}
		}
		var s codecSession
		if decode(Msgpack{}, src, &s) == nil {
			if n := typed(&s); n < int(unsafe.Sizeof(s)) || n > 4096+len(src)*1024 {
				t.Fatalf("%x: size %d", src, n)
			}
		}
	})
}
