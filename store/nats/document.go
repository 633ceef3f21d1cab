package nats

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/seed-6f1f505d/kvstore/store"
)

// A session is one message, its document:
//
//	format      1 byte
//	head        its length as a uvarint, then the header, the index message's sequence, a table of pages, a table of entries
//	checksum    CRC-32C of all that is before it
//	values      one after the other, as the table of entries has their lengths
//
// A page is the same without a header: a part of the entries of a session that is too large for one message. Each value has a checksum of its own in
// the table, so that one that is damaged leaves the others readable.
//
// Numbers are uvarints, and strings have their length before them.

// format is the version of the stream's contents, in its metadata and in each message.
const format = 1

// document is a session as it is in the stream.
type document struct {
	seq    uint64       // of its message; 0 if there is none
	header store.Header // absent if there is none
	index  uint64       // the sequence of the index message that the owner has for it. It is 0 exactly if there is no session
	pages  []page       // sorted by first. If there are any, entries is empty
	slots  []slot       // sorted by key
	raw    []byte       // the message, once there is one
}

// slot is an entry. What it refers to is never changed.
type slot struct {
	key     string
	expires store.Time
	value   []byte
	sum     uint32
}

// page is a message with some of the entries: those from first on, to where the next page begins. It is never changed, only replaced.
type page struct {
	first string
	seq   uint64
	tag   uint64 // chosen at random: it makes its subject one that no other page ever had
	size  int    // of the message
}

var table = crc32.MakeTable(crc32.Castagnoli)

func sumOf(b []byte) uint32 { return crc32.Checksum(b, table) }

func newSlot(e *store.Entry) slot {
	return slot{key: e.Key, expires: e.Expires, value: e.Value, sum: sumOf(e.Value)}
}

// weight is about what a slot takes in a message.
func (sl *slot) weight() int { return len(sl.key) + len(sl.value) + 20 }

func weigh(slots []slot) (n int) {
	for i := range slots {
		n += slots[i].weight()
	}
	return n
}

const (
	flagReleased = 1 << iota
	flagDeleted
)

// encode returns the message of the document.
func (d *document) encode() []byte {
	h := &d.header
	n := 128 + len(h.Owner.Node) + weigh(d.slots)
	for _, a := range h.Aliases {
		n += len(a) + 5
	}
	for i := range d.pages {
		n += len(d.pages[i].first) + 40
	}
	var flags uint64
	if h.Released {
		flags |= flagReleased
	}
	if h.Deleted {
		flags |= flagDeleted
	}
	return seal(n, d.slots, func(b []byte) []byte {
		b = binary.AppendUvarint(b, h.Epoch)
		b = binary.AppendUvarint(b, h.Seq)
		b = append(b, h.Owner.Incarnation[:]...)
		b = appendString(b, h.Owner.Node)
		b = binary.AppendUvarint(b, flags)
		b = binary.AppendUvarint(b, uint64(h.Expires))
		b = binary.AppendUvarint(b, uint64(h.Schema))
		b = binary.AppendUvarint(b, uint64(len(h.Aliases)))
		for _, a := range h.Aliases {
			b = appendString(b, a)
		}
		b = binary.AppendUvarint(b, d.index)
		b = binary.AppendUvarint(b, uint64(len(d.pages)))
		for i := range d.pages {
			p := &d.pages[i]
			b = appendString(b, p.first)
			b = binary.AppendUvarint(b, p.seq)
			b = binary.BigEndian.AppendUint64(b, p.tag)
			b = binary.AppendUvarint(b, uint64(p.size))
		}
		return b
	})
}

// encodePage returns the message of a page.
func encodePage(slots []slot) []byte {
	return seal(32+weigh(slots), slots, func(b []byte) []byte { return b })
}

// maxLength is how many bytes the length of a head takes at most.
const maxLength = 5

// seal builds a message of about n bytes.
func seal(n int, slots []slot, head func([]byte) []byte) []byte {
	b := make([]byte, 1+maxLength, n)
	b = head(b)
	b = binary.AppendUvarint(b, uint64(len(slots)))
	for i := range slots {
		sl := &slots[i]
		b = appendString(b, sl.key)
		b = binary.AppendUvarint(b, uint64(sl.expires))
		b = binary.AppendUvarint(b, uint64(len(sl.value)))
		b = binary.BigEndian.AppendUint32(b, sl.sum)
	}
	// The length has five bytes, whatever it is: then it can be filled in.
	b[0] = format
	for i, l := 1, uint64(len(b)-1-maxLength); i <= maxLength; i, l = i+1, l>>7 {
		b[i] = byte(l) | 0x80
	}
	b[maxLength] &^= 0x80
	b = binary.BigEndian.AppendUint32(b, sumOf(b))
	for i := range slots {
		b = append(b, slots[i].value...)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

var errCut = errors.New("it is cut off")

// reader reads what a head has. After an error it reads zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.err, r.b = errCut, nil
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.err, r.b = errCut, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) text() string { return string(r.take(r.number())) }

func (r *reader) fixed(n uint64) []byte {
	if b := r.take(n); b != nil {
		return b
	}
	return make([]byte, n)
}

// count reads how many things follow, each of at least size bytes.
func (r *reader) count(size int) int {
	n := r.number()
	if n > uint64(len(r.b)/size) {
		r.err, r.b = errCut, nil
		return 0
	}
	return int(n)
}

// unseal returns a message's head and its values.
func unseal(b []byte) (head *reader, values []byte, err error) {
	r := &reader{b: b}
	if v := r.fixed(1)[0]; v != format {
		return nil, nil, fmt.Errorf("it has format %d, and this program knows %d only", v, format)
	}
	h := &reader{b: r.take(r.number())}
	at := len(b) - len(r.b)
	sum := binary.BigEndian.Uint32(r.fixed(4))
	switch {
	case r.err != nil:
		return nil, nil, r.err
	case sum != sumOf(b[:at]):
		return nil, nil, errors.New("its checksum is wrong")
	}
	return h, r.b, nil
}

// decode reads the message of a session's document, which it keeps.
func decode(session string, m message) (*document, error) {
	d := &document{seq: m.Seq, header: store.Header{Session: session}, raw: m.Data}
	if m.Seq == 0 {
		return d, nil
	}
	r, values, err := unseal(m.Data)
	if err == nil {
		h := &d.header
		h.Epoch, h.Seq = r.number(), r.number()
		copy(h.Owner.Incarnation[:], r.fixed(uint64(len(h.Owner.Incarnation))))
		h.Owner.Node = r.text()
		flags := r.number()
		h.Released, h.Deleted = flags&flagReleased != 0, flags&flagDeleted != 0
		h.Expires, h.Schema = store.Time(r.number()), uint32(r.number())
		for range r.count(1) {
			h.Aliases = append(h.Aliases, r.text())
		}
		d.index = r.number()
		for range r.count(11) {
			d.pages = append(d.pages, page{first: r.text(), seq: r.number(), tag: binary.BigEndian.Uint64(r.fixed(8)), size: int(r.number())})
		}
		d.slots, err = readSlots(r, values)
		if err == nil && (h.Epoch == 0 || h.Epoch > store.MaxEpoch || h.Seq > store.MaxEpoch) {
			err = fmt.Errorf("epoch %d, seq %d", h.Epoch, h.Seq)
		}
	}
	if err != nil {
		return nil, wrap(&store.CorruptError{Session: session, Header: true, Reason: err.Error()})
	}
	return d, nil
}

func decodePage(b []byte) ([]slot, error) {
	r, values, err := unseal(b)
	if err != nil {
		return nil, err
	}
	return readSlots(r, values)
}

func readSlots(r *reader, values []byte) (slots []slot, err error) {
	v := &reader{b: values}
	n := r.count(7)
	slots = make([]slot, 0, n)
	for range n {
		sl := slot{key: r.text(), expires: store.Time(r.number())}
		sl.value = v.take(r.number())
		sl.sum = binary.BigEndian.Uint32(r.fixed(4))
		slots = append(slots, sl)
	}
	if err := errors.Join(r.err, v.err); err != nil {
		return nil, err
	}
	if len(r.b) > 0 || len(v.b) > 0 {
		return nil, errors.New("there is more than belongs to it")
	}
	if !slices.IsSortedFunc(slots, func(a, b slot) int { return strings.Compare(a.key, b.key) }) {
		return nil, errors.New("its keys are not in their order")
	}
	return slots, nil
}

// entry returns the slot as its caller's own.
func (sl *slot) entry(session string) (store.Entry, error) {
	if sumOf(sl.value) != sl.sum {
		return store.Entry{}, wrap(&store.CorruptError{Session: session, Key: sl.key, Reason: "its checksum is wrong"})
	}
	return store.Entry{Key: sl.key, Value: append([]byte{}, sl.value...), Expires: sl.expires}, nil
}

// op is what becomes of one key.
type op struct {
	key string
	put *store.Entry // nil: it is deleted
}

// ops returns what a change does, sorted by key.
func ops(c *store.Change) []op {
	os := make([]op, 0, len(c.Puts)+len(c.Deletes))
	for i := range c.Puts {
		os = append(os, op{c.Puts[i].Key, &c.Puts[i]})
	}
	for _, k := range c.Deletes {
		os = append(os, op{key: k})
	}
	if len(os) > 1 {
		slices.SortFunc(os, func(a, b op) int { return strings.Compare(a.key, b.key) })
	}
	return os
}

// merge returns the slots as the ops leave them. The new ones refer to the caller's bytes until they are encoded.
func merge(slots []slot, os []op) []slot {
	merged := make([]slot, 0, len(slots)+len(os))
	for _, o := range os {
		i, there := slices.BinarySearchFunc(slots, o.key, func(sl slot, key string) int { return strings.Compare(sl.key, key) })
		merged = append(merged, slots[:i]...)
		if there {
			i++
		}
		slots = slots[i:]
		if o.put != nil {
			merged = append(merged, newSlot(o.put))
		}
	}
	return append(merged, slots...)
}

// anchor makes the slots' values refer to the message that they were encoded in, and to nothing of a caller's.
func anchor(slots []slot, encoded []byte) []slot {
	anchored := slices.Clone(slots)
	at := len(encoded)
	for i := len(anchored) - 1; i >= 0; i-- {
		sl := &anchored[i]
		at -= len(sl.value)
		sl.value = encoded[at : at+len(sl.value) : at+len(sl.value)]
	}
	return anchored
}
