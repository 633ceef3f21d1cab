package kvstore

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// This file finds what is wrong with a type: what the msgpack library cannot encode, or what it would leave out, so that
// the value that another node adopts is not the one that was put.

// msgpackStorable returns why no value of type t can be stored, as far as the type tells, or nil.
func msgpackStorable(t reflect.Type) error {
	if t.Kind() == reflect.Interface && t.NumMethod() > 0 { // as a part it may be nil; a value that is put may not
		return fmt.Errorf("values of type %s cannot be stored by Msgpack: it is an interface with methods, into which nothing can be decoded", msgpackName(t))
	}
	return msgpackShapeOf(t).err
}

// storable returns why no value of s's type can be stored, with the path to the field or the part that is to blame; or nil.
func (s *msgpackShape) storable() error {
	root := s.typ
	for root.Kind() == reflect.Pointer && root.Name() == "" {
		root = root.Elem()
	}
	name, _, _ := strings.Cut(root.Name(), "[") // without type arguments
	at := s.blame(name, map[*msgpackShape]bool{})
	if at == "" {
		return nil
	}
	if rest := strings.TrimPrefix(at, name); rest[0] == ' ' { // it has no path
		at = "it" + rest
	}
	return fmt.Errorf("values of type %s cannot be stored by Msgpack: %s", msgpackName(s.typ), strings.TrimPrefix(at, "."))
}

// blame returns the first fault of s, which is reached by path, and of what s leads to, as a sentence; or "".
func (s *msgpackShape) blame(path string, seen map[*msgpackShape]bool) string {
	if s == nil || seen[s] {
		return ""
	}
	seen[s] = true
	if s.fault != "" {
		return path + s.fault
	}
	for _, f := range s.fields {
		if at := f.shape.blame(path+f.path, seen); at != "" {
			return at
		}
	}
	if at := s.key.blame(path+"[key]", seen); at != "" {
		return at
	}
	if s.typ.Kind() != reflect.Pointer {
		path += "[]"
	}
	return s.elem.blame(path, seen)
}

// msgpackName is t's name for people, who do not want to see all of an anonymous struct.
func msgpackName(t reflect.Type) string {
	const most = 80
	s := t.String()
	if t.Name() != "" || len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

func msgpackKindFault(t reflect.Type) string {
	if t.PkgPath() == "" {
		return " is a " + t.String()
	}
	return fmt.Sprintf(" is of type %v, which is of kind %v", t, t.Kind())
}

// msgpackHiddenFault is about a struct with something in it, and nothing to encode.
func msgpackHiddenFault(t reflect.Type) string {
	return fmt.Sprintf(" is of type %s: none of its fields would be encoded, and it has no MarshalBinary and UnmarshalBinary", msgpackName(t))
}

// msgpackVoid reports whether values of t have nothing to lose: they have no bits, or are locks, or are said not to matter.
func msgpackVoid(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[sync.Mutex](), reflect.TypeFor[sync.RWMutex](), reflect.TypeFor[sync.Once](), reflect.TypeFor[sync.WaitGroup]():
		return true
	}
	switch {
	case t.Size() == 0:
		return true
	case t.Kind() == reflect.Array:
		return msgpackVoid(t.Elem())
	case t.Kind() != reflect.Struct:
		return false
	}
	for i := range t.NumField() {
		if f := t.Field(i); f.Name != "_" && msgpackTag(f.Tag) != "-" && !msgpackVoid(f.Type) {
			return false
		}
	}
	return true
}

// msgpackOpaqueFault returns what is wrong with an opaque type, or "". Methods of its own are trusted.
func msgpackOpaqueFault(t reflect.Type, all map[reflect.Type]*msgpackShape) string {
	if t == reflect.TypeFor[codec.Raw]() { // it would stand in the stored bytes unchecked
		return fmt.Sprintf(" is of type %v, which cannot be encoded", t)
	}
	m := msgpackPromoted(t)
	if m == nil {
		return ""
	}
	var from []int // the embedded fields that have it
	for i := range t.NumField() {
		if f := t.Field(i); f.Anonymous && m.in(f.Type) != nil {
			from = append(from, i)
		}
	}
	switch {
	case len(from) == 0: // then the compiler has other reasons to generate functions than today
		return ""
	case len(from) > 1: // and one is less deep inside than the others
		return fmt.Sprintf(".%s and %s are embedded, and %s of one of them is the whole struct's", t.Field(from[0]).Name, t.Field(from[1]).Name, m.name)
	}
	f := t.Field(from[0])
	if k := f.Type.Kind(); m.decodes && (k == reflect.Pointer || k == reflect.Interface) {
		return fmt.Sprintf(".%s is embedded, and its %s is the whole struct's: it is nil when that is decoded", f.Name, m.name)
	}
	w := msgpackFields{all: all}
	for i := range t.NumField() {
		if i != from[0] {
			w.field(t.Field(i), []int{i}, "."+t.Field(i).Name, []reflect.Type{t})
		}
	}
	for _, lost := range w.found {
		if !msgpackVoid(lost.shape.typ) {
			w.blame(fmt.Sprintf("%s would be lost: %s of the embedded %v is the whole struct's", lost.path, m.name, f.Type))
		}
	}
	if w.fault != "" {
		return w.fault
	}
	if sub := msgpackOpaqueFault(f.Type, all); sub != "" {
		return "." + f.Name + sub
	}
	return ""
}

// msgpackMethod is a method by which the library encodes or decodes a type.
type msgpackMethod struct {
	name    string
	decodes bool
	find    func(t reflect.Type) (reflect.Method, bool) // by a constant name: else the linker keeps all methods of all types
}

var (
	msgpackSelfer = []msgpackMethod{
		{"CodecDecodeSelf", true, func(t reflect.Type) (reflect.Method, bool) { return t.MethodByName("CodecDecodeSelf") }},
		{"CodecEncodeSelf", false, func(t reflect.Type) (reflect.Method, bool) { return t.MethodByName("CodecEncodeSelf") }},
	}
	msgpackBinary = []msgpackMethod{
		{"UnmarshalBinary", true, func(t reflect.Type) (reflect.Method, bool) { return t.MethodByName("UnmarshalBinary") }},
		{"MarshalBinary", false, func(t reflect.Type) (reflect.Method, bool) { return t.MethodByName("MarshalBinary") }},
	}
)

// in returns the method as t has it, or a *t, or nil.
func (m msgpackMethod) in(t reflect.Type) *reflect.Method {
	for _, t := range []reflect.Type{t, reflect.PointerTo(t)} { // in this order: *t's are wrappers of t's
		if found, ok := m.find(t); ok {
			return &found
		}
	}
	return nil
}

// msgpackPromoted returns the first method by which t is encoded or decoded, and which t has only because a field that is
// embedded in it does; or nil.
func msgpackPromoted(t reflect.Type) *msgpackMethod {
	if t.Kind() != reflect.Struct {
		return nil
	}
	methods := msgpackBinary
	if reflect.PointerTo(t).Implements(reflect.TypeFor[codec.Selfer]()) {
		methods = msgpackSelfer
	}
	for i := range methods {
		if m := methods[i].in(t); m != nil && msgpackGenerated(m.Func.Pointer()) {
			return &methods[i]
		}
	}
	return nil
}

// msgpackGenerated reports whether the compiler wrote the function at pc, as it does for a method that is promoted.
func msgpackGenerated(pc uintptr) bool {
	// The first instructions may be those of a function that was inlined. Look for one that was not.
	for at := pc; ; at++ {
		frame, _ := runtime.CallersFrames([]uintptr{at + 1}).Next()
		if frame.Entry != pc {
			return false
		}
		if frame.Func != nil {
			return frame.File == "<autogenerated>"
		}
	}
}
