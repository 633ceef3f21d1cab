package seal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is the form of a sealed value. Numbers are big endian.
//
//	 3 bytes   mark: c1 6b 73. No value in MessagePack begins with c1
//	 1 byte    version of the format: 1
//	 4 bytes   ID of the key in the ring
//	16 bytes   salt of the subkey
//	 5 bytes   count: the lower part of the nonce
//	 8 bytes   epoch in which it was sealed
//	 n bytes   the value, encrypted
//	16 bytes   tag of AES-GCM
//
// What is authenticated beside the value is where it belongs:
//
//	 4 bytes   length of the session ID; the ID
//	 8 bytes   expiry of the entry, ms since the Unix epoch; 0: never
//	 4 bytes   length of the key; the key
//	37 bytes   the head of the record, all that stands before the value
//
// Lengths stand before what they measure, and the rest is fixed: two places never give the same bytes. The names are the true
// ones, whatever the store knows them by.

const (
	version = 1

	saltSize  = 16
	countSize = 5
	epochAt   = 4 + 4 + saltSize + countSize
	headSize  = epochAt + 8
	tagSize   = 16

	// Overhead is what a sealed value is longer than the value, in bytes.
	Overhead = headSize + tagSize
)

var mark = [3]byte{0xc1, 'k', 's'}

var (
	errPlain = errors.New("it was never sealed")
	errShort = errors.New("the sealed value ends too early")
)

// head is the head of a record.
type head struct {
	subkeyID
	count uint64 // below 1<<40
	epoch uint64 // from 1 to MaxEpoch
}

func appendHead(b []byte, h *head) []byte {
	b = append(b, mark[0], mark[1], mark[2], version)
	b = binary.BigEndian.AppendUint32(b, h.key)
	b = append(b, h.salt[:]...)
	b = append(b, byte(h.count>>32))
	b = binary.BigEndian.AppendUint32(b, uint32(h.count))
	return binary.BigEndian.AppendUint64(b, h.epoch)
}

// parseHead reads the head of a record, whose length it checks. Nothing of it is proven yet. What is no record is errPlain.
func parseHead(b []byte) (h head, err error) {
	if len(b) < len(mark) || [3]byte(b) != mark {
		return h, errPlain
	}
	if len(b) < Overhead {
		return h, errShort
	}
	if b[3] != version {
		return h, fmt.Errorf("the format's version is %d, only %d is known", b[3], version)
	}
	h.key = binary.BigEndian.Uint32(b[4:])
	h.salt = [saltSize]byte(b[8:])
	h.count = uint64(b[epochAt-countSize])<<32 | uint64(binary.BigEndian.Uint32(b[epochAt-4:]))
	h.epoch = binary.BigEndian.Uint64(b[epochAt:])
	if h.epoch == 0 || h.epoch > store.MaxEpoch {
		return h, fmt.Errorf("it is of epoch %d, which no session has", h.epoch)
	}
	return h, nil
}

// place is where the entries of one session belong. It also has the room that sealing and opening need: one goroutine uses it.
type place struct {
	data    []byte // what is authenticated beside a value
	session int    // of it, the part that all entries of the session have
	nonce   [12]byte
	last    *subkey // that opened the last record
}

func (p *place) enter(session string) {
	p.data = appendString(p.data[:0], session)
	p.session = len(p.data)
}

// bind returns what is authenticated beside an entry's value, until the next call.
func (p *place) bind(key string, expires store.Time, head []byte) []byte {
	b := binary.BigEndian.AppendUint64(p.data[:p.session], uint64(expires))
	b = appendString(b, key)
	p.data = append(b, head...)
	return p.data
}

// at returns the nonce of that count. A subkey has no other nonces.
func (p *place) at(count uint64) []byte {
	binary.BigEndian.PutUint64(p.nonce[4:], count)
	return p.nonce[:]
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
