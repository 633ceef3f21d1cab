package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is the binary form of everything that stands in the file. Fixed-width numbers
// are big endian; "uvarint" is that of encoding/binary, in its shortest form only.
//
// Keys of the bucket "sessions". A session's records are adjacent, its header first:
//
//	header   uvarint(len(ID)) ID
//	entry    uvarint(len(ID)) ID 0x00 key
//
// The length in front makes the ID's end plain whatever bytes IDs and keys
// hold, and no session's prefix is the beginning of another's.
//
// Content of a header record, fields in this order, those in brackets if their flag is set:
//
//	1 byte     flags (flag…)
//	uvarint    epoch
//	uvarint    seq
//	16 bytes   the owner's incarnation
//	uvarint n, n bytes: the owner's node
//	[uvarint   flagExpires: expiry of the session, ms since the Unix epoch]
//	[uvarint   flagExtras: schema; uvarint count of aliases; each uvarint n, n bytes]
//	[uvarint   flagDeleted: when it was deleted, ms since the Unix epoch]
//	[uvarint   flagInlineExpires: expiry of the main entry, ms]
//	[…         flagInline: the main entry's value, up to the checksum]
//	8 bytes    checksum
//
// Content of an entry record:
//
//	1 byte     1 if an expiry follows, else 0
//	[uvarint   expiry, ms]
//	…          the value, up to the checksum
//	8 bytes    checksum
//
// The bucket "graves" indexes tombstones by age, for their collection. Key: 8 bytes, when the
// session was deleted in ms, then the ID. Content: the checksum alone.
//
// The bucket "aliases" says which session has an alias. Key: the alias. Content: the session's ID, up to the checksum.
//
// The checksum is XXH64 over the record's key and then its content, seeded with the
// key's length. So a record that stands under another key is as
// damaged as one with a flipped bit.

// Flags of a header record.
const (
	flagDeleted       = 1 << iota // a tombstone
	flagReleased                  // anyone may claim it
	flagExpires                   // the session has an expiry
	flagExtras                    // schema or aliases are set
	flagInline                    // the main entry stands in this record
	flagInlineExpires             // and has an expiry; implies flagInline
	flagApart                     // the main entry has a record of its own; implies flagEntries
	flagEntries                   // entry records may follow; without it there are none
)

const (
	sumSize   = 8        // bytes of a checksum
	maxInline = 1 << 10  // largest main entry, in bytes, that is kept in the header's record
	maxValue  = 32 << 20 // largest value, in bytes, that the store accepts
	maxHeader = 64 << 10 // largest header, in bytes without the main entry

	maxRecord    = maxValue + entryOverhead             // longest content of a record, in bytes
	maxRecordKey = store.MaxSession + store.MaxKey + 16 // above the longest key of a record, in bytes
)

var (
	errShort    = errors.New("the record ends too early")
	errUvarint  = errors.New("a number is malformed")
	errChecksum = errors.New("the checksum does not match")
)

// appendPrefix appends the key of the session's header record to b.
func appendPrefix(b []byte, session string) []byte {
	b = binary.AppendUvarint(b, uint64(len(session)))
	return append(b, session...)
}

// appendEntryKey appends the key of an entry's record to b. prefix is the header's key.
func appendEntryKey(b, prefix []byte, key string) []byte {
	b = append(b, prefix...)
	b = append(b, 0)
	return append(b, key...)
}

// afterEntries appends the smallest key above all records of a session to b.
func afterEntries(b, prefix []byte) []byte {
	b = append(b, prefix...)
	return append(b, 1)
}

// isEntryOf reports whether k is the key of an entry record of the session with that prefix.
func isEntryOf(k, prefix []byte) bool {
	return len(k) > len(prefix) && k[len(prefix)] == 0 && string(k[:len(prefix)]) == string(prefix)
}

// parseKey splits the key of a record of the bucket "sessions". prefix is the part
// that is the header's key; the results alias k.
func parseKey(k []byte) (prefix, session, key []byte, entry bool, err error) {
	n, rest, err := uvarint(k)
	if err != nil {
		return nil, nil, nil, false, err
	}
	if n == 0 || n > store.MaxSession || n > uint64(len(rest)) {
		return nil, nil, nil, false, fmt.Errorf("an ID of %d bytes in a key of %d", n, len(k))
	}
	session, rest = rest[:n], rest[n:]
	prefix = k[:len(k)-len(rest)]
	if len(rest) == 0 {
		return prefix, session, nil, false, nil
	}
	if rest[0] != 0 || len(rest)-1 > store.MaxKey {
		return nil, nil, nil, false, fmt.Errorf("%d bytes of no known kind behind the ID", len(rest))
	}
	return prefix, session, rest[1:], true, nil
}

// entryOverhead bounds what an entry record's content adds to its value, in bytes.
const entryOverhead = 1 + binary.MaxVarintLen64 + sumSize

// appendEntry appends the content of the record under key to b, which must be empty but may have capacity.
func appendEntry(b, key, value []byte, expires store.Time) []byte {
	if expires == 0 {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		b = binary.AppendUvarint(b, uint64(expires))
	}
	b = append(b, value...)
	return seal(key, b)
}

// decodeEntry reads the content of an entry record. The value aliases content.
func decodeEntry(key, content []byte) (value []byte, expires store.Time, err error) {
	b, err := unseal(key, content)
	if err != nil {
		return nil, 0, err
	}
	if len(b) < 1 {
		return nil, 0, errShort
	}
	switch b[0] {
	case 0:
		return b[1:], 0, nil
	case 1:
		n, rest, err := uvarint(b[1:])
		if err == nil && n == 0 {
			err = errUvarint
		}
		return rest, store.Time(n), err
	}
	return nil, 0, fmt.Errorf("flags %08b", b[0])
}

// appendGrave appends the key of a tombstone in the bucket "graves" to b.
func appendGrave(b []byte, died uint64, session []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, died)
	return append(b, session...)
}

// decodeGrave reads a record of the bucket "graves". The session aliases key.
func decodeGrave(key, content []byte) (died uint64, session []byte, err error) {
	b, err := unseal(key, content)
	if err == nil && (len(b) != 0 || len(key) <= 8 || len(key) > 8+store.MaxSession) {
		err = errShort
	}
	if err != nil {
		return 0, nil, err
	}
	return binary.BigEndian.Uint64(key), key[8:], nil
}

// appendAlias appends the content of the record under alias to b, which must be empty but may have capacity.
func appendAlias(b, alias []byte, session string) []byte {
	return seal(alias, append(b, session...))
}

// decodeAlias reads the content of the record under alias. The session aliases content.
func decodeAlias(alias, content []byte) (session []byte, err error) {
	b, err := unseal(alias, content)
	if err == nil && (len(b) == 0 || len(b) > store.MaxSession || len(alias) == 0 || len(alias) > store.MaxAlias) {
		err = fmt.Errorf("an ID of %d bytes under an alias of %d", len(b), len(alias))
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

func checksum(key, content []byte) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(uint64(len(key)))
	d.Write(key)
	d.Write(content)
	return d.Sum64()
}

// seal appends the checksum to a record's content.
func seal(key, content []byte) []byte {
	return binary.BigEndian.AppendUint64(content, checksum(key, content))
}

// unseal checks the checksum and returns the content before it.
func unseal(key, content []byte) ([]byte, error) {
	n := len(content) - sumSize
	if n < 0 {
		return nil, errShort
	}
	if len(content) > maxRecord {
		return nil, fmt.Errorf("it has %d bytes", len(content))
	}
	if binary.BigEndian.Uint64(content[n:]) != checksum(key, content[:n]) {
		return nil, errChecksum
	}
	return content[:n:n], nil
}

// uvarint reads a number in its shortest form: only what appendUvarint writes is read back.
func uvarint(b []byte) (n uint64, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || size > 1 && b[size-1] == 0 {
		return 0, nil, errUvarint
	}
	return n, b[size:], nil
}

// take reads a length and as many bytes.
func take(b []byte) (s, rest []byte, err error) {
	n, b, err := uvarint(b)
	if err == nil && n > uint64(len(b)) {
		err = errShort
	}
	if err != nil {
		return nil, nil, err
	}
	return b[:n], b[n:], nil
}
