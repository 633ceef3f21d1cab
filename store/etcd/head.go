package etcd

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/seed-6f1f505d/kvstore/store"
)

// A head is what is known of a session. Its key ends with the tenure, and its value begins with the seq in figures of a fixed length:
//
//	s/<length>/<session>/<epoch, 19 digits> <incarnation, 32 hexadecimal digits> <mode>[ <digest of its aliases>]   =   <seq, 19 digits> …
//
// so that one comparison is the fence, and as the server looks a key up for each, it is one that a flush makes:
//
//	the value of a tenure's key is below a seq    ⇔    the head is of this tenure, in this mode, lists these aliases, and has a lower seq
//
// (No value of a key that is not there is below anything.) Who changes the tenure, or the mode, moves the head in one transaction.
//
// The rest is binary: whether it is released, expiry, schema, node, aliases, and what the mode asks for.
type head struct {
	store.Header
	mode    mode
	main    *value // mode single: the main entry, nil if there is none
	pending string // mode pending: the change whose parts are to be applied
}

// mode says where a session's entries are.
type mode byte

const (
	single  mode = 's' // there is none but the main entry, which is in the head
	many    mode = 'm' // under e/, the main entry too
	pending mode = 'p' // as many, but what the parts of a change under p/ say is newer
	dead    mode = 'd' // there are none: it is a tombstone
)

// mainInHead is the size in bytes up to which a main entry is kept in the head. A walk over all sessions reads them.
const mainInHead = 1 << 10

// value is an entry without its key.
type value struct {
	expires store.Time
	bytes   []byte
}

// figures is a number such that the order of texts is that of numbers. All are at most store.MaxEpoch.
func figures(n uint64) string {
	const width = 19
	s := strconv.FormatUint(n, 10)
	return "0000000000000000000"[:width-len(s)] + s
}

// tenure is what the keys of the heads of a tenure in a mode end with.
func tenure(epoch uint64, i store.Incarnation, m mode) string {
	return figures(epoch) + " " + i.String() + " " + string(m)
}

func (h *head) tenure() string {
	return tenure(h.Epoch, h.Owner.Incarnation, h.mode) + aliasDigest(h.Aliases)
}

const (
	tenureBytes = 19 + 1 + 32 + 1 + 1
	fixed       = 19 + 1 // bytes before the binary part
)

const (
	flagReleased = 1 << iota
	flagMain
)

// encode returns the head as it is stored.
func (h *head) encode() string {
	b := make([]byte, 0, fixed+64)
	b = append(append(b, figures(h.Seq)...), ' ')
	var flags byte
	if h.Released {
		flags |= flagReleased
	}
	if h.main != nil {
		flags |= flagMain
	}
	b = binary.AppendVarint(append(b, flags), int64(h.Expires))
	b = binary.AppendUvarint(b, uint64(h.Schema))
	b = appendText(b, h.Owner.Node)
	b = binary.AppendUvarint(b, uint64(len(h.Aliases)))
	for _, a := range h.Aliases {
		b = appendText(b, a)
	}
	b = appendText(b, h.pending)
	if h.main != nil {
		b = append(binary.AppendVarint(b, int64(h.main.expires)), h.main.bytes...)
	}
	return string(b)
}

// decodeHead is the inverse of tenure and encode. One that no program of ours wrote is a CorruptError.
func decodeHead(session, tenure string, b []byte) (head, error) {
	h := head{Header: store.Header{Session: session}}
	err := h.decodeTenure(tenure)
	if err == nil {
		err = h.decode(b)
	}
	if err == nil && h.tenure() != tenure {
		err = fmt.Errorf("its key ends with %.100q, which is not of the aliases %.100q", tenure, h.Aliases)
	}
	if err != nil {
		return head{Header: store.Header{Session: session}}, badHead(session, err.Error())
	}
	return h, nil
}

func badHead(session, reason string) error {
	return wrap(&store.CorruptError{Session: session, Header: true, Reason: reason})
}

func (h *head) decodeTenure(t string) (err error) {
	if len(t) < tenureBytes || t[19] != ' ' || t[52] != ' ' {
		return fmt.Errorf("its key ends with %.80q", t)
	}
	if h.Epoch, err = strconv.ParseUint(t[:19], 10, 63); err != nil || h.Epoch == 0 {
		return fmt.Errorf("the epoch is %q", t[:19])
	}
	if _, err = hex.Decode(h.Owner.Incarnation[:], []byte(t[20:52])); err != nil {
		return fmt.Errorf("the incarnation is %q", t[20:52])
	}
	switch h.mode = mode(t[53]); h.mode {
	case single, many, pending:
	case dead:
		h.Deleted = true
	default:
		return fmt.Errorf("the mode is %q", t[53])
	}
	return nil
}

func (h *head) decode(b []byte) (err error) {
	if len(b) < fixed+1 || b[19] != ' ' {
		return fmt.Errorf("it begins with %.80q", b)
	}
	if h.Seq, err = strconv.ParseUint(string(b[:19]), 10, 63); err != nil {
		return fmt.Errorf("the seq is %q", b[:19])
	}
	r := reader{b: b[fixed:]}
	flags := r.byte()
	h.Released = flags&flagReleased != 0
	h.Expires = store.Time(r.varint())
	h.Schema = uint32(r.uvarint())
	h.Owner.Node = r.text()
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		h.Aliases = append(h.Aliases, r.text())
	}
	h.pending = r.text()
	if flags&flagMain != 0 {
		h.main = &value{expires: store.Time(r.varint()), bytes: append([]byte{}, r.b...)}
	}
	if r.bad {
		return errors.New("it is cut off")
	}
	return nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader takes apart what was put together with append functions. It is bad as soon as something is cut off.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() (v byte) {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	v, r.b = r.b[0], r.b[1:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	return uint64(advance(r, int64(v), n))
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	return advance(r, v, n)
}

func advance(r *reader, v int64, n int) int64 {
	if n <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string { return string(r.next(r.uvarint())) }

// next returns the next n bytes, which are still the input's.
func (r *reader) next(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}
