package kvstore

import (
	"fmt"
	"reflect"
	"sync"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// Msgpack is the default [Codec]: MessagePack (https://msgpack.org) as the library hashicorp/go-msgpack/v2 maps
// it on Go types. Equal values have equal encodings: the keys of maps are sorted.
//
// Structs are encoded as maps, with the names of the exported fields as keys, so that fields can be added and
// removed between versions: what has no field is skipped, what is not there stays zero. The tags `codec:"name"` and
// `json:"name"`, their option omitempty, and "-" work as in encoding/json.
//
// What comes back is what went in, except:
//
//   - A time.Time keeps its instant, to the nanosecond, and comes back in UTC, with no monotonic reading.
//   - nil pointers, maps and slices come back nil, also as V itself, and empty ones come back empty. But a
//     pointer to what is itself encoded as nil (a nil pointer, map, slice or interface, a zero time) comes back
//     as a nil pointer.
//   - An interface comes back with a value of one of the types nil, bool, int64, uint64, float64, string,
//     []byte, time.Time, []any, and map[string]any, or, when some map has other keys than strings,
//     map[any]any, where keys that differ only in being int64 or uint64 become one.
//   - Unexported fields ARE LOST, as with encoding/json, and so are those with the tag "-", and those that
//     a field of the same name hides, less deep inside. A type with such state that matters needs both
//     MarshalBinary and UnmarshalBinary, of its own, which are then used.
//
// What would be lost beyond that makes a type one that cannot be stored. [Open] refuses it as a V, with an error that
// matches ErrInvalid and has the path to what is to blame; behind an interface, where it is not known before, Append does:
//
//   - Channels, functions, complex numbers and unsafe pointers, in exported fields and wherever else. To leave
//     such a field out give it the tag "-".
//   - Structs with something in them of which no field would be encoded, and without these methods, like big.Int,
//     list.List, time.Location and atomic.Int64. But a sync.Mutex, RWMutex, Once or WaitGroup is accepted, and comes back new.
//   - Structs that have these methods only by way of an embedded field, beside other fields, which they know
//     nothing of: struct{ time.Time; N int }. Give the embedded field a name in front of it. The same if they come from an
//     embedded pointer or interface, or if several embedded fields have them.
//   - Embedded pointers to unexported structs, and embedded unexported structs with a name in their tag, if those have exported fields.
//   - Two fields of one name that are equally deep inside.
//
// An interface with methods must be nil, since nothing can be decoded into it: else Append fails. It fails
// also on values of more than 10,000 levels, which includes those that lead back to themselves.
//
// Decode fails on anything but exactly one well-formed value. It checks all of src first, so it allocates in
// proportion to the number of values that src really has, whatever lengths it claims.
//
// A Msgpack has no state, and all of them are equal.
type Msgpack struct{}

var _ Codec = Msgpack{}

// msgpackDepth is the number of levels that a value may have, for both directions: what can be stored can be loaded.
const msgpackDepth = 10_000

// msgpackScratch is the largest buffer that an idle encoder keeps, in bytes.
const msgpackScratch = 64 << 10

// msgpackHandle returns a configuration of the library, for decoding maps in interfaces as maps of type m.
func msgpackHandle(m reflect.Type) *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true} // tell strings from bytes, and have a type for times
	h.MapType = m
	h.Canonical = true
	h.MaxDepth = msgpackDepth + 1
	h.MapValueReset = true // decode each map entry into a fresh value
	return h
}

var (
	msgpackStringMaps = msgpackHandle(reflect.TypeFor[map[string]any]())
	msgpackAnyMaps    = msgpackHandle(reflect.TypeFor[map[any]any]())

	msgpackEncoders = sync.Pool{New: func() any { return &msgpackEncoder{enc: codec.NewEncoderBytes(new([]byte), msgpackStringMaps)} }}
	msgpackDecoders = sync.Pool{New: func() any { return codec.NewDecoderBytes([]byte{}, msgpackStringMaps) }}
)

type msgpackEncoder struct {
	enc     *codec.Encoder
	out     []byte // where enc writes
	scratch []byte // for what does not fit into dst's spare capacity
}

// Append appends the encoding of *v to dst. See [Codec] and [Msgpack].
func (Msgpack) Append(dst []byte, v any) ([]byte, error) {
	if t := reflect.TypeOf(v); t == nil || t.Kind() != reflect.Pointer || reflect.ValueOf(v).IsNil() {
		return dst, fmt.Errorf("msgpack: Append wants a pointer to a value, not %T", v)
	} else if err := msgpackShapeOf(t.Elem()).encodable(reflect.ValueOf(v).Elem(), 0); err != nil {
		return dst, err
	}
	e := msgpackEncoders.Get().(*msgpackEncoder)
	// The library overwrites the slice that it is given. So it gets dst's spare capacity if there is some.
	spare := dst[len(dst):cap(dst):cap(dst)]
	e.out = spare
	if cap(spare) < 64 {
		e.out = e.scratch[:0:cap(e.scratch)]
	}
	if e.out == nil {
		e.out = []byte{}
	}
	e.enc.ResetBytes(&e.out)
	if p := reflect.ValueOf(v).Elem(); p.Kind() == reflect.Interface {
		// Behind a pointer to an interface the library calls methods of what is in it on the pointer instead.
		v = p.Interface()
	}
	if err := e.enc.Encode(v); err != nil {
		return dst, err // and not back into the pool, whatever state it is in
	}
	out := e.out
	e.out = []byte{}
	e.enc.ResetBytes(&e.out)
	// Short values cannot have too many levels, nor parts too long for the format, and need not be looked through.
	if len(out) > msgpackDepth || len(out) == 0 {
		if err := msgpackCheck(out); err != nil {
			return dst, fmt.Errorf("msgpack: %T would not decode again: %w", v, err)
		}
	}
	if len(out) <= cap(spare) && cap(spare) > 0 && &out[0] == &spare[:1][0] {
		dst = dst[:len(dst)+len(out)]
	} else {
		dst = append(dst, out...)
		if cap(out) <= msgpackScratch {
			e.scratch = out[:0]
		}
	}
	msgpackEncoders.Put(e)
	return dst, nil
}

// Decode sets *v from src. See [Codec] and [Msgpack].
func (Msgpack) Decode(src []byte, v any) error {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("msgpack: Decode wants a pointer to a value, not %T", v)
	}
	if err := msgpackCheck(src); err != nil {
		return err
	}
	shape := msgpackShapeOf(rv.Type().Elem())
	err := msgpackDecode(msgpackStringMaps, shape, src, rv)
	if err != nil && shape.naked {
		rv.Elem().SetZero()
		if msgpackDecode(msgpackAnyMaps, shape, src, rv) == nil {
			return nil
		}
	}
	return err
}

func msgpackDecode(h *codec.MsgpackHandle, s *msgpackShape, src []byte, ptr reflect.Value) (err error) {
	defer func() {
		// Of the library, and of the reflection below, when a key cannot be hashed.
		if p := recover(); p != nil {
			err = fmt.Errorf("msgpack: %w", panicError(p))
		}
	}()
	return s.decode(h, src, ptr)
}

// msgpackLibrary decodes src, one well-formed value, into what ptr points to.
func msgpackLibrary(h *codec.MsgpackHandle, src []byte, ptr reflect.Value) error {
	if h != msgpackStringMaps {
		return codec.NewDecoderBytes(src, h).Decode(ptr.Interface()) // rare
	}
	d := msgpackDecoders.Get().(*codec.Decoder)
	d.ResetBytes(src)
	if err := d.Decode(ptr.Interface()); err != nil {
		return err // not back into the pool: its depth is not reset
	}
	if d.NumBytesRead() != len(src) {
		return errMsgpackTrailing
	}
	d.ResetBytes([]byte{}) // does not keep src
	msgpackDecoders.Put(d)
	return nil
}
