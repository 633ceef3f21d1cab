package pack

import (
	"encoding/binary"
	"math/bits"
)

// This file tells the stored values that are ours from those that are not.
//
// What a Store writes is either the value as it was, or a record: a mark of eight bytes, the check, and a body. Any bytes may be somebody's value.
// Hence a value that could be taken for a record is itself written as one, and
//
//	stored = value   ⇒   value is not marked
//
// holds for all that a Store writes, with certainty. For what was written without it, it holds by what the mark is:
//
//   - C1 is the one byte that MessagePack never uses; neither it nor FF is ever part of UTF-8 (RFC 3629). C1 FF begins no CBOR (RFC 8949, a tag
//     before a break), and no stream of gob (a count of 63 bytes, where 8 is the most).
//   - All its bytes are above 7F: no message of Protocol Buffers begins so, as a tag has five bytes at most.
//   - Of random bytes, one value in 2⁵² is marked.
//
// A mark of which one byte is wrong is taken for a damaged one, so that no single fault turns a record into a value.

const (
	markSize  = 8
	checkSize = 4
	headSize  = markSize + checkSize // of a record
)

// The kinds of records, which their marks tell. They differ in the last byte alone, and in seven bits of it.
const (
	markPacked = 0x9db4_d3e8_a6ca_ffc1 // the body is a frame of zstd (RFC 8878) without its magic number. Little-endian, as in memory
	markPlain  = 0xe2b4_d3e8_a6ca_ffc1 // the body is the value
)

// kind is what a stored value is.
type kind uint8

const (
	raw     kind = iota // the value as it was
	packed              // a record
	plain               // a record
	strange             // a record of a later version, or of which the mark is damaged
)

func kindOf(stored []byte) kind {
	if len(stored) < markSize {
		return raw
	}
	m := binary.LittleEndian.Uint64(stored)
	switch {
	case m == markPacked:
		return packed
	case m == markPlain:
		return plain
	case near(m^markPacked) || near(m^markPlain):
		return strange
	}
	return raw
}

// near reports whether at most one byte of the difference is not zero.
func near(diff uint64) bool {
	return diff>>(bits.TrailingZeros64(diff)&^7) <= 0xff
}
