package kvstore

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// This file walks values along their shapes: what cannot be encoded, and the decoding of what the library would mix up.

// encodable returns why v, of s's type and below depth levels, cannot be encoded, or nil. The library has no limit
// on levels: a value that leads back to itself would exhaust its stack, which no recover survives.
func (s *msgpackShape) encodable(v reflect.Value, depth int) error {
	if s.err != nil || !s.deep {
		return s.err
	}
	for hops := 0; v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface; hops++ {
		if v.IsNil() {
			return nil
		}
		if hops == msgpackDepth {
			return errMsgpackDeep
		}
		if v.Kind() == reflect.Interface {
			if v.NumMethod() > 0 {
				return fmt.Errorf("msgpack: a %v in a %v could not be decoded: an interface with methods must be nil", v.Elem().Type(), v.Type())
			}
			v = v.Elem()
			s = msgpackShapeOf(v.Type())
		} else {
			v, s = v.Elem(), s.elem
		}
		if s.err != nil || !s.deep {
			return s.err
		}
	}
	if depth++; depth > msgpackDepth {
		return errMsgpackDeep
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if err := s.elem.encodable(v.Index(i), depth); err != nil {
				return err
			}
		}
	case reflect.Map:
		for iter := v.MapRange(); iter.Next(); {
			if err := s.key.encodable(iter.Key(), depth); err != nil {
				return err
			}
			if err := s.elem.encodable(iter.Value(), depth); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for i := range s.fields {
			f, err := v.FieldByIndexErr(s.fields[i].index)
			if err != nil {
				continue // in a nil embedded pointer
			}
			if err := s.fields[i].shape.encodable(f, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

// decode decodes src, one well-formed value, into what ptr points to, a zero value of s's type.
func (s *msgpackShape) decode(h *codec.MsgpackHandle, src []byte, ptr reflect.Value) error {
	if !s.apart {
		return msgpackLibrary(h, src, ptr)
	}
	head, err := msgpackHead(src)
	if err != nil {
		return err
	}
	if head.kind == 'n' {
		return nil
	}
	v := ptr.Elem()
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(s.typ.Elem()))
		return s.elem.decode(h, src, v)
	}
	if head.kind != 'm' && (head.kind != 'a' || v.Kind() == reflect.Map) {
		return fmt.Errorf("msgpack: type byte %#x cannot be decoded into a %v", src[0], s.typ)
	}
	values := src[head.len:]
	next := func() []byte {
		n, _ := msgpackSkip(values, 0) // cannot fail: all of it was checked
		value := values[:n:n]
		values = values[n:]
		return value
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		if v.Kind() == reflect.Slice {
			v.Set(reflect.MakeSlice(s.typ, head.values, head.values))
		}
		for i := range min(head.values, v.Len()) {
			if err := s.elem.decode(h, next(), v.Index(i).Addr()); err != nil {
				return err
			}
		}
	case reflect.Map:
		v.Set(reflect.MakeMapWithSize(s.typ, head.values/2))
		for range head.values / 2 {
			key, elem := reflect.New(s.typ.Key()), reflect.New(s.typ.Elem())
			if err := s.key.decode(h, next(), key); err != nil {
				return err
			}
			if err := s.elem.decode(h, next(), elem); err != nil {
				return err
			}
			if b, ok := key.Elem().Interface().([]byte); ok && s.typ.Key().Kind() == reflect.Interface {
				key.Elem().Set(reflect.ValueOf(string(b))) // as the library does: bytes are no key
			}
			v.SetMapIndex(key.Elem(), elem.Elem())
		}
	case reflect.Struct:
		return s.decodeStruct(h, head, src, next, ptr)
	}
	return nil
}

// decodeStruct decodes the fields that must be taken apart by themselves, and the rest, in one piece, by the library.
func (s *msgpackShape) decodeStruct(h *codec.MsgpackHandle, head msgpackHeader, src []byte, next func() []byte, ptr reflect.Value) error {
	type part struct {
		field *msgpackField
		value []byte
	}
	var parts []part
	count := head.values
	rest := make([]byte, 5, len(src)+5) // a header of the longest form comes first
	if head.kind == 'a' {
		rest[0] = 0xdd
		for i := range count {
			value := next()
			if i < len(s.fields) && s.fields[i].shape.apart {
				parts = append(parts, part{&s.fields[i], value})
				value = []byte{0xc0} // nil: the place must be held
			}
			rest = append(rest, value...)
		}
	} else {
		rest[0] = 0xdf
		count /= 2
		for range head.values / 2 {
			key, value := next(), next()
			i, err := s.fieldOf(key)
			if err != nil {
				return err
			}
			if i >= 0 && s.fields[i].shape.apart {
				parts = append(parts, part{&s.fields[i], value})
				count--
				continue
			}
			rest = append(append(rest, key...), value...)
		}
	}
	binary.BigEndian.PutUint32(rest[1:], uint32(count))
	if err := msgpackLibrary(h, rest, ptr); err != nil {
		return err
	}
	for _, p := range parts {
		v := ptr.Elem()
		for _, i := range p.field.index {
			for v.Kind() == reflect.Pointer { // an embedded one
				if v.IsNil() {
					v.Set(reflect.New(v.Type().Elem()))
				}
				v = v.Elem()
			}
			v = v.Field(i)
		}
		v.SetZero() // of a name that occurs twice the last one counts
		if err := p.field.shape.decode(h, p.value, v.Addr()); err != nil {
			return err
		}
	}
	return nil
}

// fieldOf returns the index of the field with an encoded name, or -1.
func (s *msgpackShape) fieldOf(key []byte) (int, error) {
	head, err := msgpackHead(key)
	if err != nil {
		return 0, err
	}
	var name string
	if head.kind == 's' {
		var v []byte
		if err := msgpackLibrary(msgpackStringMaps, key, reflect.ValueOf(&v)); err != nil {
			return 0, err
		}
		name = string(v)
	} else { // a number, if the struct's tags say so
		var v any
		if err := msgpackLibrary(msgpackStringMaps, key, reflect.ValueOf(&v)); err != nil {
			return 0, err
		}
		switch v := v.(type) {
		case int64:
			name = strconv.FormatInt(v, 10)
		case uint64:
			name = strconv.FormatUint(v, 10)
		case float64:
			name = strconv.FormatFloat(v, 'f', -1, 64)
		default:
			return 0, fmt.Errorf("msgpack: %T is no name for a field of %v", v, s.typ)
		}
	}
	return slices.IndexFunc(s.fields, func(f msgpackField) bool { return f.name == name }), nil
}
