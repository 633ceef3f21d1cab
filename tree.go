package kvstore

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// This file is nested keys: keys as paths in a tree.
//
// A key is below a path if it begins with the path and a separator, "/"; every key but the empty one is below the empty path, the
// main entry's. Bytes decide, and nothing is made equal to anything else: "a//b" has an element that is empty, and "a/" is another
// path than "a". A separator at the very beginning of a key belongs to its first element, since the empty path before it is the main entry's. [JoinKey] makes
// keys of elements that may hold separators.

// Child is what Children tells of a path one level below another.
type Child struct {
	Path  string // whole, from the session's root: the key of its own entry, and the path of what is below
	Entry bool   // there is an entry of that key
	Below bool   // there are entries below it
}

// Children returns what is one level below a path, in the order of paths as bytes. No value is loaded; the keys below the path are, once, if they are not
// known. The path itself need not have an entry.
//
// What a transaction has seen of a tree holds until it commits: if a key came or went meanwhile it runs again. (Any key of the session: a
// change of a value does not matter.)
func (tx *Tx[V]) Children(path string) ([]Child, error) {
	keys, err := tx.keys(path)
	if err != nil {
		return nil, err
	}
	var cs []Child
	for _, key := range keys {
		child, whole := childOf(path, key)
		if n := len(cs); n == 0 || cs[n-1].Path != child {
			cs = append(cs, Child{Path: child})
		}
		c := &cs[len(cs)-1]
		c.Entry, c.Below = c.Entry || whole, c.Below || !whole
	}
	// In the order of keys "a-b" is between "a" and "a/b".
	slices.SortStableFunc(cs, func(a, b Child) int { return cmp.Compare(a.Path, b.Path) })
	merged := cs[:0]
	for _, c := range cs {
		if n := len(merged); n > 0 && merged[n-1].Path == c.Path {
			merged[n-1].Entry, merged[n-1].Below = merged[n-1].Entry || c.Entry, merged[n-1].Below || c.Below
			continue
		}
		merged = append(merged, c)
	}
	return merged, nil
}

// childOf returns the path one level below path on the way to key, which is below it, and whether that is the key.
func childOf(path, key string) (child string, whole bool) {
	from := len(path) + 1
	if path == "" {
		from = 0
		if key[0] == '/' {
			from = 1 // it belongs to the first element
		}
	}
	if i := strings.IndexByte(key[from:], '/'); i >= 0 {
		return key[:from+i], false
	}
	return key, true
}

// Walk returns the entries below a path, in the order of their keys as bytes, as this transaction sees them. Values that are not in
// memory are loaded, many at a time.
func (tx *Tx[V]) Walk(path string) (iter.Seq2[string, V], error) {
	keys, err := tx.keys(path)
	if err != nil {
		return nil, err
	}
	cells, err := tx.cells(keys)
	if err != nil {
		return nil, err
	}
	now, n := time.Now(), 0
	for i, c := range cells {
		if c != tx.db.absent && !c.expires.Past(now) {
			keys[n], cells[n] = keys[i], c
			n++
		}
	}
	keys, cells = keys[:n], cells[:n]
	return func(yield func(string, V) bool) {
		for i, key := range keys {
			if !yield(key, cells[i].val) {
				return
			}
		}
	}, nil
}

// DeleteTree deletes the entry of a path and all below it, and returns how many there were. No value is loaded. The empty path
// stands for the main entry and all others; the session itself remains.
func (tx *Tx[V]) DeleteTree(path string) (n int, err error) {
	keys, err := tx.keys(path)
	if err != nil {
		return 0, err
	}
	there, err := tx.has(path)
	if err != nil {
		return 0, err
	}
	if there {
		keys = append(keys, path)
	}
	for _, key := range keys {
		tx.set(key, tx.db.absent)
	}
	return len(keys), nil
}

// Rename moves the entry of a path and all below it to another path, with their expiries, and returns how many there were. Values are loaded, since they
// are stored anew under their new keys.
//
//   - ErrNotFound: there is nothing at or below from.
//   - ErrExists: there is something at or below to. Nothing is written over.
//   - ErrInvalid: one path is empty, or lies within the other. ErrTooLarge: a key would become too long.
func (tx *Tx[V]) Rename(from, to string) (n int, err error) {
	if err := tx.usable(from, to); err != nil {
		return 0, err
	}
	switch id := tx.s.id(); {
	case from == "" || to == "":
		return 0, fmt.Errorf("%w: session %q: rename of %q to %q: the empty path cannot be renamed", ErrInvalid, id, from, to)
	case from == to, below(from).has(to), below(to).has(from):
		return 0, fmt.Errorf("%w: session %q: rename of %q to %q: one lies within the other", ErrInvalid, id, from, to)
	}
	taken, err := tx.keys(to)
	if err != nil {
		return 0, err
	}
	there, err := tx.has(to)
	if err != nil {
		return 0, err
	}
	if there || len(taken) > 0 {
		return 0, keyError(tx.s.id(), to, ErrExists)
	}
	keys, err := tx.keys(from)
	if err != nil {
		return 0, err
	}
	keys = append(keys, from)
	for _, key := range keys {
		if err := checkKey(tx.s.id(), to+key[len(from):]); err != nil {
			return 0, err
		}
	}
	cells, err := tx.cells(keys)
	if err != nil {
		return 0, err
	}
	moved, now := make(map[string]*cell[V], len(keys)), time.Now()
	for i, key := range keys {
		if c := cells[i]; c != tx.db.absent && !c.expires.Past(now) {
			if moved[key], err = tx.db.newCell(tx.s.id(), to+key[len(from):], c.val, c.expires.Std()); err != nil {
				return 0, err
			}
		}
	}
	if len(moved) == 0 {
		return 0, keyError(tx.s.id(), from, ErrNotFound)
	}
	for _, key := range keys {
		if c := moved[key]; c != nil {
			tx.set(key, tx.db.absent)
			tx.set(to+key[len(from):], c)
		}
	}
	return len(moved), nil
}

// keys returns the keys below a path, in order, as this transaction sees them. Those that are known to have expired are left out.
func (tx *Tx[V]) keys(path string) ([]string, error) {
	if err := tx.usable(path); err != nil {
		return nil, err
	}
	return tx.keysIn(below(path))
}

// keysIn is keys for a span. It sees to it that the set of keys does not change until the transaction commits.
func (tx *Tx[V]) keysIn(sp span) ([]string, error) {
	now, there := time.Now(), map[string]bool{}
	for known := false; !known; {
		var err error
		if known, err = tx.look(sp, now, there); err == nil && !known {
			err = tx.db.learn(tx.ctx, tx.s, tx.life, sp, false)
		}
		if err != nil {
			return nil, tx.read(err)
		}
	}
	for i := range tx.writes {
		if w := &tx.writes[i]; sp.has(w.key) && !isOwn(w.key) {
			there[w.key] = w.cell != tx.db.absent && !w.cell.expires.Past(now)
		}
	}
	keys := make([]string, 0, len(there))
	for key, is := range there {
		if is {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// look puts the keys of a span that exist in memory into there, if all are known.
func (tx *Tx[V]) look(sp span, now time.Time, there map[string]bool) (known bool, err error) {
	s := tx.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(tx.life); err != nil {
		return false, err
	}
	if err := tx.holds(); err != nil {
		return false, err
	}
	if !s.knows(sp) {
		return false, nil
	}
	tx.tree = true
	tx.shape = s.shape()
	for key, e := range s.x.rest {
		if !sp.has(key) {
			continue
		}
		if c := e.cell.Load(); c == nil || c != tx.db.absent && !c.expires.Past(now) {
			there[key] = true
		}
	}
	return true, nil
}

// has reports whether there is an entry of a key, as this transaction sees it. But for the main entry, and one that may be damaged, it does not load its value.
func (tx *Tx[V]) has(key string) (bool, error) {
	if key != "" {
		keys, err := tx.keysIn(span{key, key + "\x00"})
		if err != nil || len(keys) > 0 || !tx.s.doubts(key) {
			return len(keys) > 0, err
		}
	}
	c, err := tx.cell(key)
	return err == nil && c != tx.db.absent && !c.expires.Past(time.Now()), err
}

// Children is Tx.Children, at one moment.
func (h *Session[V]) Children(ctx context.Context, path string) (cs []Child, err error) {
	err = h.Update(ctx, func(tx *Tx[V]) (err error) {
		cs, err = tx.Children(path)
		return err
	})
	return cs, err
}

// Walk is Tx.Walk, at one moment: what is yielded is the state of when it returned.
func (h *Session[V]) Walk(ctx context.Context, path string) (all iter.Seq2[string, V], err error) {
	err = h.Update(ctx, func(tx *Tx[V]) (err error) {
		all, err = tx.Walk(path)
		return err
	})
	return all, err
}

// DeleteTree is Tx.DeleteTree, as a transaction of its own.
func (h *Session[V]) DeleteTree(ctx context.Context, path string) (n int, err error) {
	err = h.Update(ctx, func(tx *Tx[V]) (err error) {
		n, err = tx.DeleteTree(path)
		return err
	})
	return n, err
}

// Rename is Tx.Rename, as a transaction of its own.
func (h *Session[V]) Rename(ctx context.Context, from, to string) (n int, err error) {
	err = h.Update(ctx, func(tx *Tx[V]) (err error) {
		n, err = tx.Rename(from, to)
		return err
	})
	return n, err
}
