package etcd

import (
	"encoding/binary"

	"github.com/seed-6f1f505d/kvstore/store"
)

// An entry's value is a byte that says what it is, the expiry, and the caller's bytes.
const entryMark = 'v'

func encodeEntry(v value) string {
	b := make([]byte, 0, 1+binary.MaxVarintLen64+len(v.bytes))
	b = binary.AppendVarint(append(b, entryMark), int64(v.expires))
	return string(append(b, v.bytes...))
}

// decodeEntry is the inverse. One that no program of ours wrote is a CorruptError. The bytes are the result's own.
func decodeEntry(session, key string, b []byte) (store.Entry, error) {
	r := reader{b: b}
	mark := r.byte()
	e := store.Entry{Key: key, Expires: store.Time(r.varint())}
	if mark != entryMark || r.bad {
		return store.Entry{Key: key}, wrap(&store.CorruptError{Session: session, Key: key, Reason: "it is no entry of ours"})
	}
	e.Value = append([]byte{}, r.b...)
	return e, nil
}

// A part of a large change is a list of puts and deletes.
const (
	partPut    = 'p'
	partDelete = 'd'
)

func appendPut(b []byte, e *store.Entry) []byte {
	b = binary.AppendVarint(appendText(append(b, partPut), e.Key), int64(e.Expires))
	return append(binary.AppendUvarint(b, uint64(len(e.Value))), e.Value...)
}

func appendDelete(b []byte, key string) []byte { return appendText(append(b, partDelete), key) }

// decodePart is the inverse of both. The values are still the input's.
func decodePart(session string, b []byte) (puts []store.Entry, deletes []string, err error) {
	for r := (reader{b: b}); len(r.b) > 0; {
		switch r.byte() {
		case partPut:
			e := store.Entry{Key: r.text(), Expires: store.Time(r.varint())}
			e.Value = r.next(r.uvarint())
			puts = append(puts, e)
		case partDelete:
			deletes = append(deletes, r.text())
		default:
			r.bad = true
		}
		if r.bad {
			return nil, nil, wrap(&store.CorruptError{Session: session, Header: true, Reason: "a part of a large change is damaged"})
		}
	}
	return puts, deletes, nil
}
