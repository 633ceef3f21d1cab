package redis

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// A header is one string, which the scripts take apart at fixed places:
//
//	epoch 19 digits · incarnation 16 bytes · seq 19 digits · state L, R or D · expiry 20 characters · schema 10 digits ·
//	length of the node's name 10 digits · that name · aliases, each with its length before it, as in encoding/binary's uvarint
const (
	atIncarnation = 19
	atSeq         = atIncarnation + 16
	atState       = atSeq + 19
	atExpires     = atState + 1
	atSchema      = atExpires + 20
	atNode        = atSchema + 10
	leastHeader   = atNode + 10
)

// appendNumber appends n in so many digits, or in one less after a minus.
func appendNumber(b []byte, n int64, width int) []byte {
	var digits [20]byte
	u := uint64(n)
	if n < 0 {
		b, u, width = append(b, '-'), -u, width-1
	}
	for i := width - 1; i >= 0; i-- {
		digits[i] = byte('0' + u%10)
		u /= 10
	}
	return append(b, digits[:width]...)
}

// appendHeader appends the header that stands after a change.
func appendHeader(b []byte, c *store.Change) []byte {
	b = appendNumber(b, int64(c.Epoch), 19)
	b = append(b, c.Owner.Incarnation[:]...)
	b = appendNumber(b, int64(c.Seq), 19)
	switch {
	case c.Delete:
		b = append(b, 'D')
		b = appendNumber(b, 0, 20)
		b = appendNumber(b, 0, 10)
		return appendNode(b, c.Owner.Node)
	case c.Release:
		b = append(b, 'R')
	default:
		b = append(b, 'L')
	}
	b = appendNumber(b, int64(c.Expires), 20)
	b = appendNumber(b, int64(c.Schema), 10)
	b = appendNode(b, c.Owner.Node)
	for _, a := range c.Aliases {
		b = append(binary.AppendUvarint(b, uint64(len(a))), a...)
	}
	return b
}

func appendNode(b []byte, name string) []byte {
	return append(appendNumber(b, int64(len(name)), 10), name...)
}

// parseHeader returns what is on record, as a script answers with it; nil is an absent header. What no program of ours wrote is a CorruptError.
func parseHeader(session string, record any) (store.Header, error) {
	absent := store.Header{Session: session}
	b, there := record.(string)
	if !there {
		return absent, nil
	}
	corrupt := func(reason string) (store.Header, error) {
		return absent, wrap(&store.CorruptError{Session: session, Header: true, Reason: reason})
	}
	if len(b) < leastHeader {
		return corrupt(fmt.Sprintf("it has %d bytes", len(b)))
	}
	epoch, err1 := strconv.ParseUint(b[:atIncarnation], 10, 63)
	seq, err2 := strconv.ParseUint(b[atSeq:atState], 10, 63)
	expires, err3 := strconv.ParseInt(b[atExpires:atSchema], 10, 64)
	schema, err4 := strconv.ParseUint(b[atSchema:atNode], 10, 32)
	node, err5 := strconv.ParseUint(b[atNode:leastHeader], 10, 31)
	rest := b[leastHeader:]
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || err5 != nil || epoch == 0 || node > uint64(len(rest)) {
		return corrupt(fmt.Sprintf("its numbers are %q", b[:atIncarnation]+" "+b[atSeq:leastHeader]))
	}
	h := store.Header{Session: session, Epoch: epoch, Seq: seq, Expires: store.Time(expires), Schema: uint32(schema)}
	copy(h.Owner.Incarnation[:], b[atIncarnation:])
	h.Owner.Node, rest = rest[:node], rest[node:]
	switch b[atState] {
	case 'L':
	case 'R':
		h.Released = true
	case 'D':
		h.Deleted = true
	default:
		return corrupt(fmt.Sprintf("its state is %q", b[atState]))
	}
	for len(rest) > 0 {
		n, size := binary.Uvarint([]byte(rest[:min(len(rest), binary.MaxVarintLen64)]))
		if size <= 0 || n > uint64(len(rest)-size) {
			return corrupt("the aliases are cut off")
		}
		rest = rest[size:]
		h.Aliases, rest = append(h.Aliases, rest[:n]), rest[n:]
	}
	return h, nil
}

// An entry on record is its expiry, as in encoding/binary's varint, and its value.
func appendEntry(b []byte, e *store.Entry) []byte {
	return append(binary.AppendVarint(b, int64(e.Expires)), e.Value...)
}

// parseEntry returns an entry, and whether it is there: one that has expired is not.
func parseEntry(session, key, b string, now time.Time) (e store.Entry, ok bool, err error) {
	expires, size := binary.Varint([]byte(b[:min(len(b), binary.MaxVarintLen64)]))
	if size <= 0 {
		return e, false, wrap(&store.CorruptError{Session: session, Key: key, Reason: fmt.Sprintf("it has %d bytes, and no expiry", len(b))})
	}
	e = store.Entry{Key: key, Value: []byte(b[size:]), Expires: store.Time(expires)}
	return e, !e.Expires.Past(now), nil
}

// A node on record is the end of its lease in milliseconds, in 15 digits, and then what appendNodeRest appends.
const atNodeRest = 15

func appendNodeRest(b []byte, n *store.Node) []byte {
	b = binary.AppendVarint(b, int64(n.Weight))
	b = append(binary.AppendUvarint(b, uint64(len(n.Name))), n.Name...)
	return append(b, n.Addr...)
}

func parseNode(incarnation store.Incarnation, b string, now time.Time) (store.Node, error) {
	n := store.Node{Incarnation: incarnation}
	bad := wrap(fmt.Errorf("what is on record of node %v is damaged", incarnation))
	if len(b) < atNodeRest {
		return n, bad
	}
	ends, err := strconv.ParseInt(b[:atNodeRest], 10, 64)
	rest := []byte(b[atNodeRest:])
	weight, size := binary.Varint(rest)
	if err != nil || size <= 0 {
		return n, bad
	}
	rest = rest[size:]
	length, size := binary.Uvarint(rest)
	if size <= 0 || length > uint64(len(rest)-size) {
		return n, bad
	}
	rest = rest[size:]
	n.Weight, n.Name, n.Addr = int(weight), string(rest[:length]), string(rest[length:])
	n.Lease = time.Duration(ends-now.UnixMilli()) * time.Millisecond
	return n, nil
}
