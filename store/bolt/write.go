package bolt

import (
	"cmp"
	"slices"

	"github.com/seed-6f1f505d/kvstore/store"
)

// fillPercent is how full bbolt leaves the pages that it splits.
const fillPercent = 0.5

// write writes what was decided for the session whose header record is key. All of it
// is visible together or not at all, as it is one transaction's.
func (b *batch) write(key []byte, p *plan, puts []store.Entry, deletes []string) error {
	b.dirty = true
	old := &p.old
	if p.wipe && old.flags&flagEntries != 0 {
		if err := b.deleteEntries(key); err != nil {
			return err
		}
	}
	var h header
	h.set(&p.next)
	if !p.wipe {
		// The main entry stays where it is unless the change says otherwise, and so do the others.
		h.flags |= old.flags & (flagInline | flagInlineExpires | flagApart | flagEntries)
		h.inline, h.inlineExpires = old.inline, old.inlineExpires
	}
	wasApart := h.flags&flagApart != 0
	dropMain := func() {
		h.flags &^= flagInline | flagInlineExpires | flagApart
		h.inline, h.inlineExpires = nil, 0
	}
	if slices.Contains(deletes, "") {
		dropMain()
	}
	apart := puts // those with records of their own
	for i := range puts {
		e := &puts[i]
		if e.Key != "" {
			continue
		}
		dropMain()
		if len(e.Value) > maxInline {
			h.flags |= flagApart
			continue
		}
		h.flags |= flagInline
		h.inline = e.Value
		if e.Expires != 0 {
			h.flags |= flagInlineExpires
			h.inlineExpires = e.Expires
		}
		if len(puts) == 1 {
			apart = nil
		} else {
			apart = slices.Delete(slices.Clone(puts), i, i+1)
		}
		break
	}
	if len(apart) > 0 {
		h.flags |= flagEntries
	}
	if err := b.bury(key, old, &h); err != nil {
		return err
	}
	if err := b.sessions.Put(key, appendHeader(b.store.arena.space(h.size()), key, &h)); err != nil {
		return err
	}
	if wasApart && h.flags&flagApart == 0 {
		if err := b.sessions.Delete(appendEntryKey(nil, key, "")); err != nil {
			return err
		}
	}
	return b.writeEntries(key, apart, deletes, !p.wipe && old.flags&flagEntries != 0)
}

// writeEntries puts and deletes entry records. present tells whether there may be any to delete.
func (b *batch) writeEntries(key []byte, puts []store.Entry, deletes []string, present bool) error {
	byKey := func(a, b store.Entry) int { return cmp.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(puts, byKey) {
		puts = slices.SortedFunc(slices.Values(puts), byKey) // a copy: the argument is the caller's
	}
	var k []byte
	for i := range puts {
		e := &puts[i]
		k = appendEntryKey(k[:0], key, e.Key)
		if err := b.sessions.Put(k, appendEntry(b.store.arena.space(len(e.Value)+entryOverhead), k, e.Value, e.Expires)); err != nil {
			return err
		}
	}
	if !present {
		return nil
	}
	for _, d := range deletes {
		k = appendEntryKey(k[:0], key, d)
		if err := b.sessions.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// deleteEntries deletes all entry records of a session.
func (b *batch) deleteEntries(key []byte) error {
	var all [][]byte // bbolt's cursor cannot delete while it goes on
	for k, _ := b.cursor.Seek(appendEntryKey(nil, key, "")); isEntryOf(k, key); k, _ = b.cursor.Next() {
		all = append(all, slices.Clone(k))
	}
	for _, k := range all {
		if err := b.sessions.Delete(k); err != nil {
			return err
		}
	}
	return nil
}
