package bolt

import (
	"errors"
	"log/slog"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

// A deleted session leaves its header as a tombstone, and a record in the bucket "graves" that finds it by
// age. The two always come and go together:
//
//	{(died, ID) in graves} = {(header.died, ID) of tombstones}
//
// Each commit collects the few oldest that are due, so that no call ever pays for many.

const maxCollect = 64 // tombstones that one commit removes at most

// bury keeps the graves in step with a header that replaces old. It sets next.died.
func (b *batch) bury(key []byte, old, next *header) error {
	_, session, _, _, err := parseKey(key)
	if err != nil {
		return err
	}
	if old.flags&flagDeleted != 0 {
		if err := b.graves.Delete(appendGrave(nil, old.died, session)); err != nil {
			return err
		}
	}
	if next.flags&flagDeleted == 0 {
		return nil
	}
	next.died = uint64(max(0, b.wall.UnixMilli()))
	if due := b.due(next.died); !b.store.nextGrave.IsZero() && due.Before(b.store.nextGrave) {
		b.store.nextGrave = due
	}
	grave := appendGrave(nil, next.died, session)
	return b.graves.Put(grave, seal(grave, nil))
}

func (b *batch) due(died uint64) time.Time {
	return time.UnixMilli(int64(died)).Add(b.store.opt.TombstoneRetention)
}

// collect removes the oldest tombstones that are due. Sessions matter more: what it meets must not stop their changes, so
// it sets gravesOff, and the commit of what it did, which it reports, clears that.
func (b *batch) collect(tx *bbolt.Tx, items []*item) (did bool, err error) {
	s := b.store
	damaged := func(err error) (bool, error) {
		s.log(slog.LevelWarn, "store/bolt: damage met: tombstones are not removed any more", "err", err)
		return false, nil
	}
	if s.gravesOff || b.wall.Before(s.nextGrave) {
		return false, nil
	}
	s.gravesOff = true
	type grave struct{ key, header []byte }
	var due []grave
	next := b.wall.Add(s.opt.TombstoneRetention) // the earliest for one that does not exist yet
	c := b.graves.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		died, session, err := decodeGrave(k, v)
		if err != nil {
			return damaged(err)
		}
		if t := b.due(died); b.wall.Before(t) || len(due) == maxCollect {
			next = t
			break
		}
		g := grave{key: slices.Clone(k)}
		// Only if it is that tombstone still.
		key := appendPrefix(nil, string(session))
		h, err := b.find(key)
		if err == nil && h.flags&flagDeleted != 0 && h.died == died {
			g.header = key
			err = b.soundBeside(key, true)
		}
		if isFault(err) {
			return damaged(err)
		}
		due = append(due, g)
	}
	tx.DB().MaxSize = limit(tx, items, len(due))
	for _, g := range due {
		err := b.graves.Delete(g.key)
		if g.header != nil {
			err = errors.Join(err, b.sessions.Delete(g.header))
		}
		if err != nil {
			return false, &faultError{cause: err}
		}
	}
	s.nextGrave = next
	return true, nil
}
