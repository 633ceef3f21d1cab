package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// header is a header record as it stands in the file. Its slices alias the record, so
// in a transaction they point into the map of the file.
type header struct {
	flags         byte
	epoch, seq    uint64
	incarnation   store.Incarnation
	node          []byte
	expires       store.Time
	schema        uint32
	aliases       []byte // encoded: count, then each
	died          uint64 // ms since the Unix epoch
	inlineExpires store.Time
	inline        []byte
}

// head returns the header as the contract has it. It copies.
func (h *header) head(session string) store.Header {
	s := h.fence(session)
	s.Owner.Node = string(h.node)
	s.Aliases = h.names()
	return s
}

// fence returns what of the header decides over a change: all but names and aliases.
func (h *header) fence(session string) store.Header {
	return store.Header{
		Session:  session,
		Epoch:    h.epoch,
		Seq:      h.seq,
		Owner:    store.Owner{Incarnation: h.incarnation},
		Released: h.flags&flagReleased != 0,
		Deleted:  h.flags&flagDeleted != 0,
		Expires:  h.expires,
		Schema:   h.schema,
	}
}

// set takes over what the contract's header says. The main entry's fields and flagEntries are the caller's.
func (h *header) set(s *store.Header) {
	h.epoch, h.seq, h.incarnation, h.node = s.Epoch, s.Seq, s.Owner.Incarnation, []byte(s.Owner.Node)
	h.expires, h.schema = s.Expires, s.Schema
	if s.Deleted {
		h.flags |= flagDeleted
	}
	if s.Released {
		h.flags |= flagReleased
	}
	if s.Expires != 0 {
		h.flags |= flagExpires
	}
	if s.Schema != 0 || len(s.Aliases) > 0 {
		h.flags |= flagExtras
		h.aliases = binary.AppendUvarint(nil, uint64(len(s.Aliases)))
		for _, a := range s.Aliases {
			h.aliases = binary.AppendUvarint(h.aliases, uint64(len(a)))
			h.aliases = append(h.aliases, a...)
		}
	}
}

// size returns an upper bound of the record's content in bytes.
func (h *header) size() int {
	return 1 + len(store.Incarnation{}) + 7*binary.MaxVarintLen64 + len(h.node) + len(h.aliases) + len(h.inline) + sumSize
}

// appendHeader appends the content of the record under key to b, which must be empty but may have capacity.
func appendHeader(b, key []byte, h *header) []byte {
	b = append(b, h.flags)
	b = binary.AppendUvarint(b, h.epoch)
	b = binary.AppendUvarint(b, h.seq)
	b = append(b, h.incarnation[:]...)
	b = binary.AppendUvarint(b, uint64(len(h.node)))
	b = append(b, h.node...)
	if h.flags&flagExpires != 0 {
		b = binary.AppendUvarint(b, uint64(h.expires))
	}
	if h.flags&flagExtras != 0 {
		b = binary.AppendUvarint(b, uint64(h.schema))
		b = append(b, h.aliases...)
	}
	if h.flags&flagDeleted != 0 {
		b = binary.AppendUvarint(b, h.died)
	}
	if h.flags&flagInlineExpires != 0 {
		b = binary.AppendUvarint(b, uint64(h.inlineExpires))
	}
	b = append(b, h.inline...)
	return seal(key, b)
}

// decodeHeader reads the content of a header record. The result aliases content.
func decodeHeader(key, content []byte) (h header, err error) {
	b, err := unseal(key, content)
	if err != nil {
		return h, err
	}
	if len(b) < 1 {
		return h, errShort
	}
	h.flags, b = b[0], b[1:]
	if err := checkFlags(h.flags); err != nil {
		return h, err
	}
	// number takes the next number if its flags are set; the first error stays.
	number := func(flags byte) (n uint64) {
		if err == nil && h.flags&flags == flags {
			n, b, err = uvarint(b)
		}
		return n
	}
	h.epoch, h.seq = number(0), number(0)
	if err == nil && len(b) < len(h.incarnation) {
		err = errShort
	}
	if err != nil {
		return h, err
	}
	b = b[copy(h.incarnation[:], b):]
	if h.node, b, err = take(b); err != nil {
		return h, err
	}
	h.expires = store.Time(number(flagExpires))
	if h.flags&flagExtras != 0 && err == nil {
		schema := number(flagExtras)
		if err != nil || schema > 1<<32-1 {
			return h, errUvarint
		}
		// A record may be as long as the main entry in it, and an alias of one byte takes 16 in memory.
		head := b[:min(len(b), maxHeader)]
		_, rest, err := decodeAliases(head)
		if err != nil {
			return h, err
		}
		h.schema, h.aliases = uint32(schema), head[:len(head)-len(rest)]
		b = b[len(h.aliases):]
	}
	h.died = number(flagDeleted)
	h.inlineExpires = store.Time(number(flagInlineExpires))
	switch {
	case err != nil:
	case h.epoch == 0:
		err = errors.New("epoch 0")
	case h.flags&flagInline != 0:
		h.inline = b
	case len(b) != 0:
		err = fmt.Errorf("%d bytes too many", len(b))
	}
	return h, err
}

// checkFlags refuses combinations that are never written.
func checkFlags(f byte) error {
	if f&flagInline == 0 && f&flagInlineExpires != 0 ||
		f&flagInline != 0 && f&flagApart != 0 ||
		f&flagApart != 0 && f&flagEntries == 0 ||
		f&flagDeleted != 0 && f&^flagDeleted != 0 {
		return fmt.Errorf("flags %08b", f)
	}
	return nil
}

// decodeAliases reads a count and as many names. It copies.
func decodeAliases(b []byte) (aliases []string, rest []byte, err error) {
	n, b, err := uvarint(b)
	for ; n > 0 && err == nil; n-- {
		var a []byte
		if a, b, err = take(b); err == nil {
			aliases = append(aliases, string(a))
		}
	}
	return aliases, b, err
}
