package kvstore

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// What Msgpack refuses: values that cannot be encoded, bytes that are no value.

type codecFails struct{}

func (codecFails) MarshalBinary() ([]byte, error) { return nil, io.ErrClosedPipe }

func (*codecFails) UnmarshalBinary([]byte) error { return io.ErrClosedPipe }

// codecSilent encodes to nothing.
type codecSilent struct{}

func (*codecSilent) CodecEncodeSelf(*codec.Encoder) {}

func (*codecSilent) CodecDecodeSelf(*codec.Decoder) {}

type codecPanics struct{}

func (codecPanics) MarshalBinary() ([]byte, error) { panic("marshal") }

func (*codecPanics) UnmarshalBinary([]byte) error { panic("unmarshal") }

func TestMsgpackAppendErrors(t *testing.T) {
	self := &codecSession{}
	self.Next = self
	m := map[string]any{}
	m["m"] = []any{m}
	var p any
	p = &p
	type pointer *pointer
	var ring pointer
	ring = &ring
	type node struct{ Next *node }
	longest := &node{}
	for range msgpackDepth - 1 {
		longest = &node{longest}
	}
	tooLong := &node{longest}
	type failed struct{ Err error }
	var stringer fmt.Stringer = time.Second
	for _, tc := range []struct {
		v    any // a pointer
		want string
	}{
		{nil, "pointer"},
		{1, "pointer"},
		{(*int)(nil), "pointer"},
		{new(complex128), "complex"},
		{new(chan int), "chan int"},
		{&struct{ C chan int }{}, "chan int"},
		{&struct{ N *big.Int }{}, "big.Int"},
		{&struct{ big.Int }{}, "big.Int"},
		{&[]any{big.NewInt(1)}, "big.Int"},
		{&map[string]any{"k": struct{ F *big.Float }{}}, "big.Float"},
		{&codecFails{}, "closed pipe"},
		{&codecPanics{}, "marshal"},
		{&codecSilent{}, "decode again"},
		{self, "levels"},
		{&m, "levels"},
		{&p, "levels"},
		{&ring, "levels"},
		{tooLong, "levels"},
		{&[]any{longest}, "levels"},
		{&failed{io.EOF}, "a *errors.errorString in a error"},
		{&[]*failed{nil, {}, {io.EOF}}, "a *errors.errorString in a error"},
		{&map[string]any{"k": failed{io.EOF}}, "a *errors.errorString in a error"},
		{&map[fmt.Stringer]int{time.Second: 1}, "a time.Duration in a fmt.Stringer"},
		{&stringer, "a time.Duration in a fmt.Stringer"},
		{&struct{ io.Reader }{strings.NewReader("")}, "a *strings.Reader in a io.Reader"},
		{&struct{ B encoding.BinaryMarshaler }{codecFails{}}, "a kvstore.codecFails in a encoding.BinaryMarshaler"},
	} {
		dst := []byte("dst")
		out, err := Msgpack{}.Append(dst, tc.v)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%T: error %v, want one with %q", tc.v, err, tc.want)
		}
		if string(out) != "dst" {
			t.Errorf("%T: dst is %q after the error", tc.v, out)
		}
	}
	comesBack(t, codecLeg{Name: "after errors"})
	comesBack(t, longest)
}

func TestMsgpackDecodeErrors(t *testing.T) {
	for _, tc := range []struct {
		src  string // in hex
		into any
		want string
	}{
		{"01", nil, "pointer"},
		{"01", 1, "pointer"},
		{"01", (*int)(nil), "pointer"},
		{"", new(int), "short"},
		{"c1", new(any), "0xc1"},
		{"0101", new(int), "after the value"},
		{"0101", new(any), "after the value"},
		{"c0c0", new(*int), "after the value"},
		{"8080", new(map[string]codecLeg), "after the value"},
		{"a161", new(int), "decode"},
		{"a161", new(map[string]codecLeg), "type byte"},
		{"9101", new(map[string]codecLeg), "type byte"},
		{"cd0100", new(uint8), "overflow"},
		{"ff", new(uint), "negative"},
		{"81a16101", new(map[string]codecLeg), "type byte 0x1"},
		{"8181010102", new(map[any]any), "decode"},
		{"81c0c0", new(struct{ S map[string]codecLeg }), "name"},
		{"c40101", new(codecFails), "closed pipe"},
		{"c40101", new(codecPanics), "unmarshal"},
		{"81a161c40101", new(map[string]codecPanics), "unmarshal"},
		{"a161", new(error), "methods"},
		{strings.Repeat("91", msgpackDepth) + "90", new(any), ""},
		{strings.Repeat("91", msgpackDepth+1) + "90", new(any), "levels"},
		{strings.Repeat("81a45375622081a0", msgpackDepth) + "80", new(codecLeg), "levels"},
	} {
		src, err := hex.DecodeString(tc.src)
		if err != nil {
			t.Fatal(err)
		}
		err = Msgpack{}.Decode(src, tc.into)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.40s into a %T: error %v, want one with %q", tc.src, tc.into, err, tc.want)
		}
	}
	comesBack(t, codecLeg{Name: "after errors"})
}

// TestMsgpackCutShort decodes every prefix, and every encoding with a byte too many.
func TestMsgpackCutShort(t *testing.T) {
	v := codecSession{Name: "n", At: time.Unix(1, 1), List: []codecLeg{{Name: "x", Attrs: map[string]int{"k": 1 << 40}}},
		codecBase: codecBase{Legs: map[string]codecLeg{"a": {Tags: []string{strings.Repeat("long", 100)}}}}}
	b, err := Msgpack{}.Append(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		if err := (Msgpack{}).Decode(b[:n], new(codecSession)); err == nil {
			t.Fatalf("%d of %d bytes decode", n, len(b))
		}
	}
	for c := range 256 {
		if err := (Msgpack{}).Decode(append(b[:len(b):len(b)], byte(c)), new(codecSession)); err == nil {
			t.Fatalf("decodes with %#x behind it", c)
		}
	}
}

// TestMsgpackLies decodes headers that claim more than there is, and counts what is allocated.
func TestMsgpackLies(t *testing.T) {
	type wide struct{ A [10_000]int64 }
	nested := bytes.Repeat([]byte{0xdd, 0xff, 0xff, 0xff, 0xff}, 1000)
	for _, src := range [][]byte{
		nested,
		nested[:5],
		{0xdf, 0xff, 0xff, 0xff, 0xff},
		{0xdf, 0x80, 0x00, 0x00, 0x00}, // twice that is 0 in 32 bits
		{0xdc, 0xff, 0xff, 1, 2, 3},
		{0xdb, 0xff, 0xff, 0xff, 0xff, 'a'},
		{0xc6, 0xff, 0xff, 0xff, 0xff, 1},
		{0xc9, 0xff, 0xff, 0xff, 0xff, 1, 1},
		{0x81, 0xa1, 'M', 0xdf, 0x7f, 0xff, 0xff, 0xff},
	} {
		for _, into := range []any{new(any), new([]any), new([][]string), new([]wide), new(map[string]wide), new([]byte), new(string), new(struct{ M map[string]string }), new(map[int]int), new([]struct{})} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := Msgpack{}.Decode(src, into)
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Errorf("%.10x decodes into a %T", src, into)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
				t.Errorf("%.10x into a %T allocates %d bytes", src, into, n)
			}
		}
	}
}

// TestMsgpackCheck compares with a second reading of the specification: the table of the formats.
func TestMsgpackCheck(t *testing.T) {
	// The length of a value with a header of each byte, whose length or count fields, if any, say 2.
	want := func(c byte) int {
		switch {
		case c <= 0x7f || c >= 0xe0 || c == 0xc0 || c == 0xc2 || c == 0xc3:
			return 1
		case c == 0xc1:
			return -1
		case c >= 0x80 && c <= 0x8f:
			return 1 + 2*int(c&15)
		case c >= 0x90 && c <= 0x9f:
			return 1 + int(c&15)
		case c >= 0xa0 && c <= 0xbf:
			return 1 + int(c&31)
		}
		return map[byte]int{
			0xc4: 1 + 1 + 2, 0xc5: 1 + 2 + 2, 0xc6: 1 + 4 + 2,
			0xc7: 1 + 1 + 1 + 2, 0xc8: 1 + 2 + 1 + 2, 0xc9: 1 + 4 + 1 + 2,
			0xca: 5, 0xcb: 9, 0xcc: 2, 0xcd: 3, 0xce: 5, 0xcf: 9, 0xd0: 2, 0xd1: 3, 0xd2: 5, 0xd3: 9,
			0xd4: 3, 0xd5: 4, 0xd6: 6, 0xd7: 10, 0xd8: 18,
			0xd9: 1 + 1 + 2, 0xda: 1 + 2 + 2, 0xdb: 1 + 4 + 2,
			0xdc: 1 + 2 + 2, 0xdd: 1 + 4 + 2, 0xde: 1 + 2 + 4, 0xdf: 1 + 4 + 4,
		}[c]
	}
	size := map[byte]int{0xc4: 1, 0xc5: 2, 0xc6: 4, 0xc7: 1, 0xc8: 2, 0xc9: 4, 0xd9: 1, 0xda: 2, 0xdb: 4, 0xdc: 2, 0xdd: 4, 0xde: 2, 0xdf: 4}
	for c := range 256 {
		src := append([]byte{byte(c)}, make([]byte, 40)...)
		switch size[byte(c)] {
		case 1:
			src[1] = 2
		case 2:
			binary.BigEndian.PutUint16(src[1:], 2)
		case 4:
			binary.BigEndian.PutUint32(src[1:], 2)
		}
		n, err := msgpackSkip(src, 0)
		if err != nil {
			n = -1
		}
		if n != want(byte(c)) {
			t.Errorf("a value that starts with %#x has %d bytes, want %d (%v)", c, n, want(byte(c)), err)
			continue
		}
		for cut := range max(n, 0) {
			if _, err := msgpackSkip(src[:cut], 0); err == nil {
				t.Errorf("%d of the %d bytes of a value that starts with %#x are enough", cut, n, c)
			}
		}
	}
}

// FuzzMsgpackDecode decodes anything into types of all kinds. What decodes must encode, and be stable from then on.
func FuzzMsgpackDecode(f *testing.F) {
	for _, v := range []any{
		&codecSession{Name: "n", At: time.Unix(1, 1), List: []codecLeg{{Sub: map[string]codecLeg{"a": {}, "b": {Name: "x"}}}}},
		&codecTuple{A: 1, Legs: map[string]codecLeg{"a": {}}},
		&map[any]any{int64(1): []any{"a", []byte("b")}, "t": time.Unix(1, 0)},
		&map[codecKey]string{{1, "a"}: "b"},
	} {
		b, err := Msgpack{}.Append(nil, v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	targets := []reflect.Type{
		reflect.TypeFor[any](), reflect.TypeFor[codecSession](), reflect.TypeFor[codecTuple](), reflect.TypeFor[codecNumbers](),
		reflect.TypeFor[map[codecKey]codecLeg](), reflect.TypeFor[[]string](), reflect.TypeFor[map[string][]byte](),
		reflect.TypeFor[string](), reflect.TypeFor[*time.Time](), reflect.TypeFor[[3]byte](), reflect.TypeFor[int32](), reflect.TypeFor[map[any]codecKey](),
		reflect.TypeFor[map[string]netip.Addr](),
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		was := bytes.Clone(src)
		values, errs := make([]reflect.Value, len(targets)), make([]error, len(targets))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i, typ := range targets {
			values[i] = reflect.New(typ)
			errs[i] = decode(Msgpack{}, src, values[i].Interface())
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<23+uint64(len(src))*1<<16 {
			t.Fatalf("to decode %d bytes takes %d bytes of memory", len(src), n)
		}
		for i, typ := range targets {
			if errs[i] != nil {
				if strings.Contains(errs[i].Error(), "panic in") {
					t.Fatal(errs[i])
				}
				continue
			}
			v := values[i]
			first := reencode(t, v, nil)
			second := reencode(t, reflect.New(typ), first)
			// In interfaces an int64 and a uint64 can be different keys with one encoding: one round more.
			if msgpackShapeOf(typ).naked {
				first, second = second, reencode(t, reflect.New(typ), second)
			}
			if !bytes.Equal(first, second) {
				t.Fatalf("a %v, encoded as %x, came back as %x", typ, first, second)
			}
		}
		if !bytes.Equal(src, was) {
			t.Fatal("src was changed")
		}
	})
}

// reencode returns the encoding of what v points to, after it was set from src if there is one.
func reencode(t *testing.T, v reflect.Value, src []byte) []byte {
	if src != nil {
		if err := decode(Msgpack{}, src, v.Interface()); err != nil {
			t.Fatalf("a %v, encoded as %x, does not decode: %v", v.Type().Elem(), src, err)
		}
	}
	b, err := encode(Msgpack{}, nil, v.Interface())
	if err != nil {
		t.Fatalf("a %v that was decoded does not encode: %v", v.Type().Elem(), err)
	}
	return b
}
