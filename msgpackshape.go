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
	err   error // why no value of it can be encoded

	elem   *msgpackShape // of a pointer, slice, array or map
	key    *msgpackShape // of a map
	fields []msgpackField
}

// msgpackField is a field of a struct, or of the structs that are embedded in it, which are encoded as one.
type msgpackField struct {
	name  string // on the wire
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
				if s.err == nil {
					s.err = sub.err
				}
				changed = changed || s.apart != was.apart || s.naked != was.naked || s.deep != was.deep || s.err != was.err
			}
		}
	}
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
		return s
	}
	switch t.Kind() {
	case reflect.Interface:
		s.naked = true
	case reflect.Chan: // the library would receive all that is in it
		s.err = fmt.Errorf("msgpack: cannot encode a %v", t)
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
		w := msgpackFields{all: all, err: &s.err}
		w.walk(t, nil, []reflect.Type{t})
		s.fields = w.resolve()
		if len(s.fields) == 0 {
			w.hidden(t)
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

// msgpackFields collects the fields of a struct by the library's rules.
type msgpackFields struct {
	all   map[reflect.Type]*msgpackShape
	found []msgpackField
	err   *error
}

func (w *msgpackFields) walk(t reflect.Type, index []int, path []reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		switch f.Type.Kind() {
		case reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
			continue
		}
		tag := msgpackTag(f.Tag)
		if tag == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		name, _, _ := strings.Cut(tag, ",")
		at := append(slices.Clone(index), i)
		if f.Anonymous && f.Type.Kind() != reflect.Interface {
			inner := f.Type
			for inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			isStruct := inner.Kind() == reflect.Struct
			if !f.IsExported() && (!isStruct || f.Type.Kind() == reflect.Pointer) {
				continue
			}
			if name == "" && isStruct {
				// A type may embed itself by pointer. The library goes round once.
				seen := 0
				for _, p := range path {
					if p == inner {
						seen++
					}
				}
				if seen < 2 {
					before := len(w.found)
					w.walk(inner, at, append(path, inner))
					if len(w.found) == before {
						w.hidden(inner)
					}
				}
				continue
			}
		}
		if !f.IsExported() {
			continue
		}
		if name == "" {
			name = f.Name
		}
		w.found = append(w.found, msgpackField{name, at, msgpackCompile(f.Type, w.all)})
	}
}

// resolve drops the fields that one of the same name hides, from less deep inside.
func (w *msgpackFields) resolve() []msgpackField {
	least := map[string]int{}
	for _, f := range w.found {
		if n, ok := least[f.name]; !ok || len(f.index) < n {
			least[f.name] = len(f.index)
		}
	}
	return slices.DeleteFunc(w.found, func(f msgpackField) bool { return len(f.index) > least[f.name] })
}

// hidden notes an error if t, a struct of which no field is encoded, has something to encode: methods say so.
func (w *msgpackFields) hidden(t reflect.Type) {
	if t.NumField() == 0 || *w.err != nil || msgpackOpaque(t) {
		return
	}
	for _, i := range []reflect.Type{
		reflect.TypeFor[encoding.TextMarshaler](),
		reflect.TypeFor[interface{ MarshalJSON() ([]byte, error) }](),
		reflect.TypeFor[interface{ GobEncode() ([]byte, error) }](),
	} {
		if t.Implements(i) || reflect.PointerTo(t).Implements(i) {
			*w.err = fmt.Errorf("msgpack: would lose a %v: it has no exported fields, and no MarshalBinary and UnmarshalBinary", t)
		}
	}
}
