package kvstore

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// This file looks at a type once: which of its parts the msgpack library decodes rightly, and which must be taken apart.

// msgpackShape says how values of a type are decoded.
//
// The library decodes the structs that are the elements or the keys of one map all into the same variable, which
// it does not reset: fields that an entry has not got it takes from the entry before, and slices, maps and
// pointers in different entries come back as the same memory. (v2.1.5 and before: immutableKindsSet in helper.go
// contains structs.) So it is never shown such a map. What leads to one is taken apart here, down to the elements,
// and those are decoded by the library, each into a variable of its own.
type msgpackShape struct {
	typ   reflect.Type
	apart bool  // is such a map, or leads to one
	naked bool  // leads to an interface
	deep  bool  // naked, or leads to a type that leads to itself: the value decides how deep it is
	err   error // why no value of it can be stored; only of the type that msgpackShapeOf was asked for

	fault string // what is wrong with the type itself, as the end of a sentence that starts with a path; or empty

	elem   *msgpackShape // of a pointer, slice, array or map
	key    *msgpackShape // of a map
	fields []msgpackField
}

// msgpackField is a field of a struct, or of the structs that are embedded in it, which are encoded as one.
type msgpackField struct {
	name  string // on the wire
	path  string // in Go, from the struct on: ".Base.ID"
	index []int
	shape *msgpackShape
}

var msgpackShapes sync.Map // reflect.Type → *msgpackShape, complete ones only

func msgpackShapeOf(t reflect.Type) *msgpackShape {
	if s, ok := msgpackShapes.Load(t); ok {
		return s.(*msgpackShape)
	}
	all := map[reflect.Type]*msgpackShape{}
	root := msgpackCompile(t, all)
	for _, s := range all {
		s.deep = s.naked || s.recursive()
	}
	for changed := true; changed; { // types refer to each other in circles: repeat until nothing spreads any more
		changed = false
		for _, s := range all {
			for _, sub := range s.parts() {
				was := *s
				s.apart = s.apart || sub.apart
				s.naked = s.naked || sub.naked
				s.deep = s.deep || sub.deep
				changed = changed || s.apart != was.apart || s.naked != was.naked || s.deep != was.deep
			}
		}
	}
	root.err = root.storable()
	s, _ := msgpackShapes.LoadOrStore(t, root)
	return s.(*msgpackShape)
}

// recursive reports whether values of s's type can contain others of it.
func (s *msgpackShape) recursive() bool {
	seen := map[*msgpackShape]bool{}
	var reach func(*msgpackShape) bool
	reach = func(from *msgpackShape) bool {
		for _, sub := range from.parts() {
			if sub == s {
				return true
			}
			if !seen[sub] {
				seen[sub] = true
				if reach(sub) {
					return true
				}
			}
		}
		return false
	}
	return reach(s)
}

func (s *msgpackShape) parts() []*msgpackShape {
	var parts []*msgpackShape
	if s.elem != nil {
		parts = append(parts, s.elem)
	}
	if s.key != nil {
		parts = append(parts, s.key)
	}
	for _, f := range s.fields {
		parts = append(parts, f.shape)
	}
	return parts
}

func msgpackCompile(t reflect.Type, all map[reflect.Type]*msgpackShape) *msgpackShape {
	if s := all[t]; s != nil {
		return s
	}
	s := &msgpackShape{typ: t}
	all[t] = s
	if msgpackOpaque(t) {
		s.fault = msgpackOpaqueFault(t, all)
		return s
	}
	switch t.Kind() {
	case reflect.Interface:
		s.naked = true
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		s.fault = msgpackKindFault(t)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		s.elem = msgpackCompile(t.Elem(), all)
	case reflect.Map:
		s.key, s.elem = msgpackCompile(t.Key(), all), msgpackCompile(t.Elem(), all)
		for _, part := range []reflect.Type{t.Key(), t.Elem()} {
			if part.Kind() == reflect.Struct && part != reflect.TypeFor[time.Time]() {
				s.apart = true
			}
		}
	case reflect.Struct:
		w := msgpackFields{all: all}
		w.walk(t, nil, "", []reflect.Type{t})
		s.fields = w.resolve()
		s.fault = w.fault
		if s.fault == "" && len(s.fields) == 0 && !msgpackVoid(t) {
			s.fault = msgpackHiddenFault(t)
		}
	}
	return s
}

// msgpackOpaque reports whether the library leaves a type's values to their own methods, or knows the type.
func msgpackOpaque(t reflect.Type) bool {
	if t.Kind() == reflect.Interface || t.Kind() == reflect.Pointer {
		return false
	}
	switch t {
	case reflect.TypeFor[time.Time](), reflect.TypeFor[codec.RawExt](), reflect.TypeFor[codec.Raw]():
		return true
	}
	has := func(i reflect.Type) bool { return t.Implements(i) || reflect.PointerTo(t).Implements(i) }
	return has(reflect.TypeFor[codec.Selfer]()) ||
		has(reflect.TypeFor[encoding.BinaryMarshaler]()) && has(reflect.TypeFor[encoding.BinaryUnmarshaler]())
}

func msgpackTag(tag reflect.StructTag) string {
	if s := tag.Get("codec"); s != "" {
		return s
	}
	return tag.Get("json")
}

// msgpackFields collects the fields of a struct by the library's rules, and what these would lose without a word.
type msgpackFields struct {
	all   map[reflect.Type]*msgpackShape
	found []msgpackField
	fault string // the first one; see msgpackShape
}

func (w *msgpackFields) blame(fault string) {
	if w.fault == "" {
		w.fault = fault
	}
}

// walk collects the fields of t, which is the struct itself, or embedded in it at index and path, inside of the types outer.
func (w *msgpackFields) walk(t reflect.Type, index []int, path string, outer []reflect.Type) {
	for i := range t.NumField() {
		w.field(t.Field(i), append(slices.Clone(index), i), path+"."+t.Field(i).Name, outer)
	}
}

func (w *msgpackFields) field(f reflect.StructField, index []int, path string, outer []reflect.Type) {
	tag := msgpackTag(f.Tag)
	if tag == "-" || !f.IsExported() && !f.Anonymous {
		return
	}
	switch f.Type.Kind() {
	case reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		if f.IsExported() { // the library skips it
			w.blame(path + msgpackKindFault(f.Type))
		}
		return
	}
	name, _, _ := strings.Cut(tag, ",")
	if f.Anonymous && f.Type.Kind() != reflect.Interface {
		inner := f.Type
		for inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		isStruct := inner.Kind() == reflect.Struct
		if !f.IsExported() && (!isStruct || f.Type.Kind() == reflect.Pointer || name != "") {
			if isStruct {
				w.skipped(f, inner, index, path, outer)
			}
			return
		}
		if name == "" && isStruct {
			w.inline(f, inner, index, path, outer)
			return
		}
	}
	if !f.IsExported() {
		return
	}
	if name == "" {
		name = f.Name
	}
	w.found = append(w.found, msgpackField{name, path, index, msgpackCompile(f.Type, w.all)})
}

// inline collects the fields of f, an embedded struct of type inner or a pointer to one.
func (w *msgpackFields) inline(f reflect.StructField, inner reflect.Type, index []int, path string, outer []reflect.Type) {
	// A type may embed itself by pointer. The library goes round once.
	if msgpackCount(outer, inner) >= 2 {
		return
	}
	if msgpackOpaque(inner) { // and the struct around it is not: two such types are embedded, say
		w.blame(fmt.Sprintf("%s is embedded, and the methods that encode a %v would not be used", path, inner))
		return
	}
	before := len(w.found)
	w.walk(inner, index, path, append(slices.Clone(outer), inner))
	if len(w.found) == before && f.IsExported() && !msgpackVoid(inner) {
		w.blame(path + msgpackHiddenFault(inner))
	}
}

// skipped is about f, an embedded struct or pointer to one of the unexported type inner, which the library skips. As
// encoding/json encodes its exported fields, whoever wrote it expects that.
func (w *msgpackFields) skipped(f reflect.StructField, inner reflect.Type, index []int, path string, outer []reflect.Type) {
	if msgpackCount(outer, inner) >= 2 {
		return
	}
	in := msgpackFields{all: w.all}
	in.walk(inner, index, path, append(slices.Clone(outer), inner))
	switch {
	case len(in.found) == 0 && in.fault == "":
	case f.Type.Kind() == reflect.Pointer:
		w.blame(fmt.Sprintf("%s is an embedded pointer to an unexported struct, whose exported fields would not be encoded", path))
	default:
		w.blame(fmt.Sprintf("%s is an embedded unexported struct with a name in its tag, and its exported fields would not be encoded", path))
	}
}

func msgpackCount(types []reflect.Type, t reflect.Type) (n int) {
	for _, u := range types {
		if u == t {
			n++
		}
	}
	return n
}

// resolve drops the fields that one of the same name hides, from less deep inside, as the library does: that takes
// them one by one and compares only with the first, so that of three fields two can remain.
func (w *msgpackFields) resolve() []msgpackField {
	first, hidden := map[string]int{}, map[int]bool{}
	for i, f := range w.found {
		j, ok := first[f.name]
		switch {
		case !ok:
			first[f.name] = i
		case len(f.index) < len(w.found[j].index):
			first[f.name] = i
			hidden[j] = true
		case len(f.index) > len(w.found[j].index):
			hidden[i] = true
		}
	}
	var fields []msgpackField
	named := map[string]string{}
	for i, f := range w.found {
		if hidden[i] {
			continue
		}
		if other, ok := named[f.name]; ok {
			w.blame(fmt.Sprintf("%s would be encoded as %q, as %s is", f.path, f.name, other[1:]))
		}
		named[f.name] = f.path
		fields = append(fields, f)
	}
	return fields
}
