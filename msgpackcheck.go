package kvstore

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// This file checks that bytes are one well-formed MessagePack value, before anything is allocated for it.

var (
	errMsgpackShort    = errors.New("msgpack: value is cut short, or claims a length beyond its end")
	errMsgpackTrailing = errors.New("msgpack: bytes after the value")
	errMsgpackDeep     = fmt.Errorf("msgpack: more than %d levels", msgpackDepth)
	errMsgpackByte     = errors.New("msgpack: the unused type byte 0xc1")
)

// msgpackCheck returns nil if b is exactly one well-formed value. Then every element that it claims is there, in
// at least one byte: the library, which allocates by the claims, cannot be made to by lies. (Left to itself it allocates
// up to 256 KiB for each 5 bytes, at each of the levels that it allows.)
func msgpackCheck(b []byte) error {
	n, err := msgpackSkip(b, 0)
	if err == nil && n != len(b) {
		err = errMsgpackTrailing
	}
	return err
}

// msgpackSkip returns the length of the first value of b, which lies below depth arrays and maps.
func msgpackSkip(b []byte, depth int) (n int, err error) {
	h, err := msgpackHead(b)
	if err != nil {
		return 0, err
	}
	if h.values > 0 && depth == msgpackDepth {
		return 0, errMsgpackDeep
	}
	n = h.len
	for range h.values {
		m, err := msgpackSkip(b[n:], depth+1)
		if err != nil {
			return 0, err
		}
		n += m
	}
	return n, nil
}

// msgpackHeader is what stands before the values of an array or a map, or all of another value.
type msgpackHeader struct {
	kind   byte // 'm'ap, 'a'rray, 's'tring or bytes, 'n'il, or 0
	len    int  // bytes
	values int  // that follow: the elements of an array, the keys and elements of a map
}

// msgpackHead reads the first header of b. All that it claims is bounded by b's length.
func msgpackHead(b []byte) (h msgpackHeader, err error) {
	if len(b) == 0 {
		return h, errMsgpackShort
	}
	// The length of what follows is known, or stands in size bytes, and is of data bytes or of each × it values.
	size, data, extra, each, count := 0, false, 0, 0, 0
	switch c := b[0]; {
	case c <= 0x7f, c >= 0xe0: // small integers
	case c <= 0x8f:
		h.kind, each, count = 'm', 2, int(c&0x0f)
	case c <= 0x9f:
		h.kind, each, count = 'a', 1, int(c&0x0f)
	case c <= 0xbf:
		h.kind, data, count = 's', true, int(c&0x1f)
	case c == 0xc0:
		h.kind = 'n'
	case c == 0xc1:
		return h, errMsgpackByte
	case c <= 0xc3: // false, true
	case c <= 0xc6: // bytes
		h.kind, data, size = 's', true, 1<<(c-0xc4)
	case c <= 0xc9: // extensions, with a type byte
		data, size, extra = true, 1<<(c-0xc7), 1
	case c <= 0xcb: // floats
		extra = 4 << (c - 0xca)
	case c <= 0xcf: // unsigned integers
		extra = 1 << (c - 0xcc)
	case c <= 0xd3: // signed integers
		extra = 1 << (c - 0xd0)
	case c <= 0xd8: // extensions of 1 to 16 bytes, with a type byte
		extra = 1 + 1<<(c-0xd4)
	case c <= 0xdb: // strings
		h.kind, data, size = 's', true, 1<<(c-0xd9)
	case c <= 0xdd: // arrays
		h.kind, each, size = 'a', 1, 2<<(c-0xdc)
	default: // maps
		h.kind, each, size = 'm', 2, 2<<(c-0xde)
	}
	rest := b[1:]
	if len(rest) < size {
		return h, errMsgpackShort
	}
	left := uint64(len(rest) - size)
	n := uint64(count)
	switch size {
	case 1:
		n = uint64(rest[0])
	case 2:
		n = uint64(binary.BigEndian.Uint16(rest))
	case 4:
		n = uint64(binary.BigEndian.Uint32(rest))
	}
	h.len = 1 + size
	if data {
		if n+uint64(extra) > left {
			return h, errMsgpackShort
		}
		h.len += int(n) + extra
		return h, nil
	}
	if n *= uint64(each); n+uint64(extra) > left { // a value takes at least a byte
		return h, errMsgpackShort
	}
	h.len += extra
	h.values = int(n)
	return h, nil
}
