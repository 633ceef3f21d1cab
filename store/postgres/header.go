package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/seed-6f1f505d/kvstore/store"
)

const headerColumns = `epoch, seq, node, incarnation, released, deleted, expires, schema, aliases`

// header is a row of headerColumns, all of which are NULL if there is none.
type header struct {
	epoch, seq, expires, schema *int64
	node, aliases               []byte
	incarnation                 *[16]byte
	released, deleted           *bool
}

func (h *header) dest() []any {
	return []any{&h.epoch, &h.seq, &h.node, &h.incarnation, &h.released, &h.deleted, &h.expires, &h.schema, &h.aliases}
}

// head returns the row as a header. One that no program of ours wrote is a CorruptError.
func (h *header) head(session string) (store.Header, error) {
	absent := store.Header{Session: session}
	if h.epoch == nil || *h.epoch == 0 {
		return absent, nil
	}
	corrupt := func(reason string) error {
		return wrap(&store.CorruptError{Session: session, Header: true, Reason: reason})
	}
	if h.seq == nil || h.incarnation == nil || h.released == nil || h.deleted == nil || h.expires == nil || h.schema == nil {
		return absent, corrupt("a column is NULL")
	}
	if *h.epoch < 0 || *h.seq < 0 || *h.schema < 0 || *h.schema > math.MaxUint32 {
		return absent, corrupt(fmt.Sprintf("epoch %d, seq %d, schema %d", *h.epoch, *h.seq, *h.schema))
	}
	aliases, err := splitAliases(h.aliases)
	if err != nil {
		return absent, corrupt(err.Error())
	}
	return store.Header{
		Session: session, Epoch: uint64(*h.epoch), Seq: uint64(*h.seq),
		Owner:    store.Owner{Node: string(h.node), Incarnation: *h.incarnation},
		Released: *h.released, Deleted: *h.deleted, Expires: store.Time(*h.expires), Aliases: aliases, Schema: uint32(*h.schema),
	}, nil
}

// joinAliases returns aliases as one value; nil for none.
func joinAliases(aliases []string) (b []byte) {
	for _, a := range aliases {
		b = append(binary.AppendUvarint(b, uint64(len(a))), a...)
	}
	return b
}

func splitAliases(b []byte) (aliases []string, err error) {
	for len(b) > 0 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return nil, errors.New("the aliases are cut off")
		}
		b = b[size:]
		aliases, b = append(aliases, string(b[:n])), b[n:]
	}
	return aliases, nil
}
