package kvstore

import (
	"math"
	"reflect"
	"sync"
	"unsafe"
)

// How much memory a value pins: the unit in which the write buffer is bounded, and the map reported.

const (
	// sizeSteps bounds the work on one value: how many nested parts (elements with parts of their own, pointees,
	// contents of interfaces, map entries) are looked at. What is beyond is estimated, or not counted.
	sizeSteps = 1 << 12

	// sizeSample is how many elements of a slice, sizeMapSample how many entries of a map, are measured one by
	// one; the rest are taken to be like them.
	sizeSample    = 256
	sizeMapSample = 32

	// sizeDepth bounds how many pointers, slices, maps and interfaces are followed one into the other.
	sizeDepth = 1024

	// sizeUnchecked is the depth from which on every address is remembered, so that none counts twice. Values
	// that are not that deep need no such set, and hence no allocation.
	sizeUnchecked = 4

	mapHeaderSize = 48
)

// Sizer is what a V or a *V may implement to say how much memory a value takes, which is what Options.MaxBuffer counts.
// Else that is estimated, by walking through the value. A method of its own is for values whose parts
// are shared with others, so that they would count too often, or which are so large that the walk takes too long.
type Sizer interface {
	// MemSize returns the bytes of memory that a value takes: its own, as unsafe.Sizeof has them, and those of
	// what it leads to. It is called for each write, by the goroutine that writes and under no
	// lock, possibly for many values at a time, and must not change the value. Less than 0 counts as 0, more than
	// 2 GiB as 2 GiB. A value whose MemSize panics counts as unsafe.Sizeof(V).
	MemSize() int
}

// sizerOf returns the function that says how many bytes of memory a *V pins: unsafe.Sizeof(V), and what it
// leads to through strings, slices, pointers, maps and interfaces, whether in exported fields or not. It is an
// estimate: memory that is reached twice may count twice, spare capacity and the allocator's rounding do not
// count, long slices and maps are sampled, and channels, functions, unsafe pointers and the innards of package
// sync, time and the like are not looked into.
//
// A V or *V that is a Sizer says it itself.
//
// The function is safe for concurrent use, does not change the value, never panics, and terminates whatever
// points to what. Since maps are walked in random order, two calls on the same value may differ: whoever
// adds a size to a sum must subtract that same figure later, not measure again.
func sizerOf[V any]() func(*V) int {
	t := reflect.TypeFor[V]()
	shallow := int(t.Size())
	if _, ok := any((*V)(nil)).(Sizer); ok {
		return func(v *V) int {
			if v == nil {
				return 0
			}
			return askSize(any(v).(Sizer), shallow)
		}
	}
	if t.Implements(reflect.TypeFor[Sizer]()) { // V is a pointer or an interface: methods of others are *V's, too
		return func(v *V) int {
			if v == nil {
				return 0
			}
			s, ok := any(*v).(Sizer)
			if !ok { // a nil interface
				return shallow
			}
			return askSize(s, shallow)
		}
	}
	plan := sizePlanOf(t)
	if len(plan.ops) == 0 {
		return func(*V) int { return shallow }
	}
	return func(v *V) int {
		if v == nil {
			return 0
		}
		w := sizeWalk{left: sizeSteps}
		n := shallow + w.parts(unsafe.Pointer(v), plan)
		if n < 0 { // slices that share their memory can add up to more than there is
			return math.MaxInt
		}
		return n
	}
}

func askSize(s Sizer, otherwise int) (n int) {
	defer func() {
		if recover() != nil {
			n = otherwise
		}
	}()
	return max(0, s.MemSize())
}

// sizePlan says where a type has parts outside of itself. It is compiled once per type, and never changes after.
type sizePlan struct {
	typ     reflect.Type
	shallow int      // unsafe.Sizeof
	ops     []sizeOp // of nested structs and arrays, too; empty if a value has no parts
}

type sizeKind uint8

const (
	sizeString sizeKind = iota
	sizeSlice
	sizePointer
	sizeStringMap // both keys and elements are strings
	sizeMap
	sizeInterface
	sizeArray // with elements that have parts, and too many of them to list
)

type sizeOp struct {
	kind sizeKind
	loop bool      // what is reached may lead back to here: remember addresses from the start
	off  uintptr   // from the start of the value
	elem *sizePlan // of the slice's or array's elements, the pointee, the map's elements
	key  *sizePlan // of the map's keys
	typ  reflect.Type
	n    int // elements of the array
}

var sizePlans sync.Map // reflect.Type → *sizePlan, complete ones only

func sizePlanOf(t reflect.Type) *sizePlan {
	if p, ok := sizePlans.Load(t); ok {
		return p.(*sizePlan)
	}
	c := sizeCompiler{}
	plan := c.plan(t)
	for _, p := range c {
		for i := range p.ops {
			op := &p.ops[i]
			op.loop = op.elem.recursive() || op.key.recursive()
		}
	}
	// Only the root is published. The plans below it are its own, even if they have twins under other roots,
	// so that no goroutine ever sees one that is still being compiled.
	p, _ := sizePlans.LoadOrStore(t, plan)
	return p.(*sizePlan)
}

// recursive reports whether values of p's type can lead to others of it.
func (p *sizePlan) recursive() bool {
	if p == nil {
		return false
	}
	seen := map[*sizePlan]bool{}
	for _, op := range p.ops {
		if op.elem.reaches(p, seen) || op.key.reaches(p, seen) {
			return true
		}
	}
	return false
}

func (p *sizePlan) reaches(target *sizePlan, seen map[*sizePlan]bool) bool {
	if p == nil || seen[p] {
		return false
	}
	if p == target {
		return true
	}
	seen[p] = true
	for _, op := range p.ops {
		if op.elem.reaches(target, seen) || op.key.reaches(target, seen) {
			return true
		}
	}
	return false
}

// sizeCompiler holds the plans of one compilation by type, so that a recursive type finds its own.
type sizeCompiler map[reflect.Type]*sizePlan

func (c sizeCompiler) plan(t reflect.Type) *sizePlan {
	if p := c[t]; p != nil {
		return p
	}
	p := &sizePlan{typ: t, shallow: int(t.Size())}
	c[t] = p
	p.ops = c.appendOps(nil, t, 0)
	return p
}

// sizeUnrolled is the longest array whose elements are listed one by one.
const sizeUnrolled = 8

func (c sizeCompiler) appendOps(ops []sizeOp, t reflect.Type, off uintptr) []sizeOp {
	switch t.Kind() {
	case reflect.String:
		return append(ops, sizeOp{kind: sizeString, off: off})
	case reflect.Slice:
		return append(ops, sizeOp{kind: sizeSlice, off: off, elem: c.plan(t.Elem())})
	case reflect.Pointer:
		return append(ops, sizeOp{kind: sizePointer, off: off, elem: c.plan(t.Elem())})
	case reflect.Map:
		op := sizeOp{kind: sizeMap, off: off, typ: t, key: c.plan(t.Key()), elem: c.plan(t.Elem())}
		if t.Key().Kind() == reflect.String && t.Elem().Kind() == reflect.String {
			op.kind = sizeStringMap
		}
		return append(ops, op)
	case reflect.Interface:
		return append(ops, sizeOp{kind: sizeInterface, off: off, typ: t})
	case reflect.Array:
		elem := t.Elem()
		if t.Len() == 0 {
			return ops
		}
		if t.Len() > sizeUnrolled {
			if p := c.plan(elem); len(p.ops) > 0 {
				ops = append(ops, sizeOp{kind: sizeArray, off: off, elem: p, n: t.Len()})
			}
			return ops
		}
		for i := range t.Len() {
			ops = c.appendOps(ops, elem, off+uintptr(i)*elem.Size())
		}
	case reflect.Struct:
		if sizeOpaque(t) {
			return ops
		}
		for i := range t.NumField() {
			f := t.Field(i)
			ops = c.appendOps(ops, f.Type, off+f.Offset)
		}
	}
	return ops
}

// sizeOpaque reports whether t belongs to a package whose values hold what is shared by the whole program (time
// zones, types, interned values), or change under a lock of their own. Looking into them would count what the
// value does not pin, or race.
func sizeOpaque(t reflect.Type) bool {
	switch t.PkgPath() {
	case "sync", "sync/atomic", "internal/sync", "time", "reflect", "internal/abi", "unique", "weak", "runtime", "context":
		return true
	}
	return false
}

// sizeWalk is the walk through one value. It lives on the caller's stack: its methods must not let it escape.
type sizeWalk struct {
	left  int // of sizeSteps
	depth int
	seen  map[unsafe.Pointer]struct{} // made when first needed
}

// enter reports whether to go on to what is at q, and counts it as one step and one level if so. The caller leaves
// the level by w.depth--.
func (w *sizeWalk) enter(q unsafe.Pointer, loop bool) bool {
	if w.left <= 0 || w.depth >= sizeDepth {
		return false
	}
	if loop || w.depth >= sizeUnchecked {
		if _, again := w.seen[q]; again {
			return false
		}
		if w.seen == nil {
			w.seen = make(map[unsafe.Pointer]struct{})
		}
		w.seen[q] = struct{}{}
	}
	w.left--
	w.depth++
	return true
}

// parts returns the size of what the value at p, of p's plan, has outside of itself.
func (w *sizeWalk) parts(p unsafe.Pointer, plan *sizePlan) (n int) {
	for i := range plan.ops {
		op := &plan.ops[i]
		at := unsafe.Add(p, op.off)
		switch op.kind {
		case sizeString:
			n += len(*(*string)(at))
		case sizeSlice:
			n += w.slice(at, op)
		case sizePointer:
			if q := *(*unsafe.Pointer)(at); q != nil {
				n += w.pointer(q, op)
			}
		case sizeStringMap:
			n += w.stringMap(*(*map[string]string)(at))
		case sizeMap:
			n += w.mapping(at, op)
		case sizeInterface:
			n += w.dynamic(at, op)
		case sizeArray:
			n += w.elements(at, op.n, op.elem)
		}
	}
	return n
}

func (w *sizeWalk) slice(at unsafe.Pointer, op *sizeOp) int {
	s := *(*[]byte)(at) // the length of a slice header is in elements, of whatever type
	n := len(s) * op.elem.shallow
	if n == 0 || len(op.elem.ops) == 0 {
		return n
	}
	data := unsafe.Pointer(unsafe.SliceData(s))
	if !w.enter(data, op.loop) {
		return 0
	}
	n += w.elements(data, len(s), op.elem)
	w.depth--
	return n
}

// elements returns the size of the parts of count > 0 elements in a row, without the elements themselves.
func (w *sizeWalk) elements(data unsafe.Pointer, count int, elem *sizePlan) (n int) {
	if len(elem.ops) == 1 && elem.ops[0].kind == sizeString { // by far the most common: as fast as can be
		w.left--
		data = unsafe.Add(data, elem.ops[0].off)
		done := min(count, sizeSample)
		for i := range done {
			n += len(*(*string)(unsafe.Add(data, i*elem.shallow)))
		}
		return sizeScaled(n, done, count)
	}
	done := 0
	for done < min(count, sizeSample) && (w.left > 0 || done == 0) {
		w.left--
		n += w.parts(unsafe.Add(data, done*elem.shallow), elem)
		done++
	}
	return sizeScaled(n, done, count)
}

func (w *sizeWalk) pointer(q unsafe.Pointer, op *sizeOp) int {
	if len(op.elem.ops) == 0 {
		return op.elem.shallow
	}
	if !w.enter(q, op.loop) {
		return 0
	}
	n := op.elem.shallow + w.parts(q, op.elem)
	w.depth--
	return n
}

func (w *sizeWalk) stringMap(m map[string]string) int {
	n, done := 0, 0
	for k, v := range m {
		if done == sizeMapSample || w.left <= 0 {
			break
		}
		w.left--
		n += len(k) + len(v)
		done++
	}
	return sizeOfMap(m != nil, len(m), 2*int(unsafe.Sizeof(""))) + sizeScaled(n, done, len(m))
}

func (w *sizeWalk) mapping(at unsafe.Pointer, op *sizeOp) int {
	q := *(*unsafe.Pointer)(at)
	if q == nil {
		return 0
	}
	m := reflect.NewAt(op.typ, at).Elem()
	n := sizeOfMap(true, m.Len(), op.key.shallow+op.elem.shallow)
	if m.Len() == 0 || len(op.key.ops) == 0 && len(op.elem.ops) == 0 || !w.enter(q, op.loop) {
		return n
	}
	key, elem := reflect.New(op.key.typ), reflect.New(op.elem.typ)
	parts, done := 0, 0
	for iter := m.MapRange(); done < sizeMapSample && w.left > 0 && iter.Next(); done++ {
		w.left--
		key.Elem().SetIterKey(iter)
		elem.Elem().SetIterValue(iter)
		parts += w.parts(key.UnsafePointer(), op.key) + w.parts(elem.UnsafePointer(), op.elem)
	}
	w.depth--
	return n + sizeScaled(parts, done, m.Len())
}

// sizeOfMap returns the size of a map of n entries that take entry bytes each. Tables are from 7/16 to 7/8 full, and
// have a control byte per slot.
func sizeOfMap(made bool, n, entry int) int {
	if !made {
		return 0
	}
	return mapHeaderSize + n*(entry+1)*3/2
}

func (w *sizeWalk) dynamic(at unsafe.Pointer, op *sizeOp) int {
	v := reflect.NewAt(op.typ, at).Elem().Elem()
	if !v.IsValid() {
		return 0
	}
	t := v.Type()
	plan := sizePlanOf(t)
	// The second word of an interface is the value itself if that is a pointer, else the address of a copy.
	word := unsafe.Add(at, unsafe.Sizeof(uintptr(0)))
	switch t.Kind() {
	case reflect.Pointer, reflect.Map:
		return w.parts(word, plan) // enters what it points to by itself
	case reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return 0
	}
	if len(plan.ops) == 0 {
		return plan.shallow
	}
	q := *(*unsafe.Pointer)(word)
	if k := t.Kind(); (k == reflect.Struct || k == reflect.Array) && t.Size() == unsafe.Sizeof(uintptr(0)) {
		// It may consist of one pointer, and which such types are stored like a pointer is the compiler's affair.
		c := reflect.New(t)
		c.Elem().Set(v)
		return plan.shallow + w.parts(c.UnsafePointer(), plan)
	}
	if !w.enter(q, false) {
		return 0
	}
	n := plan.shallow + w.parts(q, plan)
	w.depth--
	return n
}

// sizeScaled returns the size of count things, of which done have the size n together.
func sizeScaled(n, done, count int) int {
	if done == 0 || done == count {
		return n
	}
	return int(min(float64(n)*float64(count)/float64(done), math.MaxInt/2))
}
