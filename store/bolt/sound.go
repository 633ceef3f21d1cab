package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file looks at pages before a transaction writes them anew. bbolt takes from a page what its numbers say
// and writes that elsewhere: of a count that lost a bit, nothing would be left but a sound page that lacks
// sessions, whose epochs would begin again at 1, or aliases, which would be free. So no page of the buckets "sessions" and "aliases" is rewritten, and no record taken
// for absent, before the pages from the root to it were found to be whole: gapless, in order, and within
// the bounds that the page above sets. What the records themselves hold, their checksums tell.

// sound has the pages of a bucket as they were when the transaction began.
type sound struct {
	data     []byte // the map of the file, up to the end of what is in use
	pageSize int
	root     uint64
	inline   []byte // if root is 0: the bucket's only page
	path     []span // from the root to the leaf that was looked at last; each within the one before
}

// span is a page that is whole, and the keys that belong on it: those in [lo, hi), nil being no bound.
type span struct {
	page    []byte
	lo, hi  []byte
	sides   bool     // the pages beside it are whole, too
	buckets [][]byte // the records that damage has made buckets; bbolt moves them as they are, and writes to none
}

func (s *span) has(key []byte) bool {
	return bytes.Compare(s.lo, key) <= 0 && (s.hi == nil || bytes.Compare(key, s.hi) < 0)
}

// newSound is for the time of tx. A write transaction has changed nothing in the map before it commits.
func newSound(tx *bbolt.Tx, bucket *bbolt.Bucket, name []byte) (*sound, error) {
	info := tx.DB().Info()
	base := *(*unsafe.Pointer)(unsafe.Pointer(&info.Data)) // bbolt has no other door to whole pages
	s := &sound{
		data:     unsafe.Slice((*byte)(base), tx.Size()),
		pageSize: info.PageSize,
		root:     uint64(bucket.Root()),
	}
	if s.root != 0 {
		return s, nil
	}
	page, err := s.load(uint64(tx.Cursor().Bucket().Root()), pageLeaf)
	if err != nil {
		return nil, err
	}
	err = elements(page, func(e element) error {
		if e.bucket && bytes.Equal(e.key, name) && len(e.value) >= 16+pageHeader {
			s.inline = e.value[16:]
		}
		return nil
	})
	if err == nil && s.inline == nil {
		err = errors.New("a bucket is missing")
	}
	return s, err
}

// at makes path lead to the leaf where key belongs. If merges is set, the pages beside those of path
// are looked at as well: bbolt merges with them what a deletion leaves small.
func (s *sound) at(key []byte, merges bool) error {
	for len(s.path) > 0 && !s.path[len(s.path)-1].has(key) {
		s.path = s.path[:len(s.path)-1]
	}
	if len(s.path) == 0 {
		root := s.inline
		if s.root != 0 {
			var err error
			if root, err = s.load(s.root, pageBranch|pageLeaf); err != nil {
				return err
			}
		}
		top := span{page: root, sides: true}
		if err := s.whole(&top, nil); err != nil {
			return fmt.Errorf("page %d: %w", s.root, err)
		}
		s.path = append(s.path, top)
	}
	for {
		top := &s.path[len(s.path)-1]
		if native.Uint16(top.page[8:]) == pageLeaf {
			break
		}
		if len(s.path) > maxDepth {
			return errors.New("branches without end")
		}
		child, err := s.child(top, search(top.page, key))
		if err != nil {
			return err
		}
		s.path = append(s.path, child)
	}
	for i := 1; merges && i < len(s.path); i++ {
		if s.path[i].sides {
			continue
		}
		above := &s.path[i-1]
		n := search(above.page, key)
		for _, side := range []int{n - 1, n + 1} {
			if side < 0 || side >= int(native.Uint16(above.page[10:])) {
				continue
			}
			if _, err := s.child(above, side); err != nil {
				return err
			}
		}
		s.path[i].sides = true
	}
	return nil
}

// through makes sure of all pages from the one where from belongs to the one where to does; nil is the last one. If bbolt
// says that to is the next key from there on, it is so.
func (s *sound) through(from, to []byte) error {
	for {
		if err := s.at(from, false); err != nil {
			return err
		}
		hi := s.leaf().hi
		if hi == nil || to != nil && bytes.Compare(to, hi) < 0 {
			return nil
		}
		from = hi
	}
}

// leaf returns the page that path leads to.
func (s *sound) leaf() *span { return &s.path[len(s.path)-1] }

// child returns the page that the i-th element of a branch leads to, if it is whole.
func (s *sound) child(above *span, i int) (span, error) {
	first, id := branch(above.page, i)
	c := span{lo: first, hi: above.hi}
	if i == 0 {
		c.lo = above.lo
	}
	if i+1 < int(native.Uint16(above.page[10:])) {
		c.hi, _ = branch(above.page, i+1)
	}
	var err error
	if c.page, err = s.load(id, pageBranch|pageLeaf); err != nil {
		return c, err
	}
	if err = s.whole(&c, first); err == nil {
		if native.Uint16(c.page[10:]) == 0 {
			err = errors.New("damaged: no elements")
		} else if !bytes.Equal(firstKey(c.page), first) {
			err = errLed
		}
	}
	if err != nil {
		return c, fmt.Errorf("page %d: %w", id, err)
	}
	return c, nil
}

// whole looks at all elements of a page, as elements does; it is in the way of every flush, and so calls nothing for each. Keys
// must lie in [lo, c.hi).
func (s *sound) whole(c *span, lo []byte) error {
	b := c.page
	branch, n := native.Uint16(b[8:]) == pageBranch, int(native.Uint16(b[10:]))
	at := uint64(pageHeader + n*elemSize)
	if at > uint64(len(b)) {
		return fmt.Errorf("damaged: %d elements", n)
	}
	last := lo
	for off := pageHeader; off < pageHeader+n*elemSize; off += elemSize {
		x := b[off : off+elemSize : off+elemSize]
		flags, pos, ksize, vsize := native.Uint32(x), native.Uint32(x[4:]), native.Uint32(x[8:]), native.Uint32(x[12:])
		if branch {
			flags, pos, ksize, vsize = 0, flags, pos, 0
		}
		end := at + uint64(ksize) + uint64(vsize)
		if uint64(off)+uint64(pos) != at || ksize == 0 || end > uint64(len(b)) || flags > 1 {
			return elements(b, func(element) error { return nil }) // says what
		}
		key := b[at : at+uint64(ksize)]
		if order := bytes.Compare(last, key); order > 0 || order == 0 && off > pageHeader {
			return errors.New("damaged: a key is not above the one before it, or does not belong here")
		}
		if flags == 1 {
			c.buckets = append(c.buckets, key)
		}
		last, at = key, end
	}
	if n > 0 && c.hi != nil && bytes.Compare(last, c.hi) >= 0 {
		return errors.New("damaged: a key does not belong here")
	}
	return nil
}

// load returns a page with its overflow.
func (s *sound) load(id uint64, kinds uint16) ([]byte, error) {
	end := uint64(len(s.data) / s.pageSize)
	if id < 2 || id >= end {
		return nil, fmt.Errorf("page %d: there are %d pages", id, end)
	}
	b := s.data[id*uint64(s.pageSize):]
	overflow, err := checkPage(b, id, end, s.pageSize, kinds)
	if err != nil {
		return nil, err
	}
	return b[:(overflow+1)*uint64(s.pageSize)], nil
}

// branch returns the i-th element of a branch that is whole.
func branch(page []byte, i int) (key []byte, child uint64) {
	x := page[pageHeader+i*elemSize:]
	pos, size := native.Uint32(x), native.Uint32(x[4:])
	return x[pos : pos+size], native.Uint64(x[8:])
}

// firstKey returns the first key of a page that is whole and has one.
func firstKey(page []byte) []byte {
	if native.Uint16(page[8:]) == pageBranch {
		key, _ := branch(page, 0)
		return key
	}
	x := page[pageHeader:]
	pos, size := native.Uint32(x[4:]), native.Uint32(x[8:])
	return x[pos : pos+size]
}

// record returns the i-th record of a leaf that is whole.
func record(page []byte, i int) (k, v []byte) {
	x := page[pageHeader+i*elemSize:]
	pos, ksize, vsize := native.Uint32(x[4:]), native.Uint32(x[8:]), native.Uint32(x[12:])
	return x[pos : pos+ksize : pos+ksize], x[pos+ksize : pos+ksize+vsize : pos+ksize+vsize]
}

// above returns the first record of a leaf, which is whole, whose key is above key.
func above(page, key []byte) int {
	i, n := 0, int(native.Uint16(page[10:]))
	for i < n {
		m := int(uint(i+n) / 2)
		if k, _ := record(page, m); bytes.Compare(k, key) <= 0 {
			i = m + 1
		} else {
			n = m
		}
	}
	return i
}

// below returns the last record of a leaf, which is whole, whose key is below key; -1 if there is none.
func below(page, key []byte) int {
	i := above(page, key) - 1
	if i >= 0 {
		if k, _ := record(page, i); bytes.Equal(k, key) {
			i--
		}
	}
	return i
}

// get returns the content of the record under key on the leaf that path leads to, where key belongs, as it was when the transaction began.
func (s *sound) get(key []byte) (content []byte, ok bool) {
	i := above(s.leaf().page, key)
	if i == 0 {
		return nil, false
	}
	k, v := record(s.leaf().page, i-1)
	return v, bytes.Equal(k, key)
}

// search returns the element of a branch, which is whole, that leads to key.
func search(page []byte, key []byte) int {
	i, n := 0, int(native.Uint16(page[10:])) // elements below i are at or below key, those from n on above
	for i < n {
		m := int(uint(i+n) / 2)
		if k, _ := branch(page, m); bytes.Compare(k, key) <= 0 {
			i = m + 1
		} else {
			n = m
		}
	}
	return max(i-1, 0)
}

// hides reports whether the leaf that path leads to, where key belongs and no record has it, has its record all the same, under a key that damage has
// altered. The order of the keys was found to hold, so that record is beside the place of key; and its checksum, which is of key and content, is
// right with key. Contents above most are no such record.
func (s *sound) hides(key []byte, most int) bool {
	page := s.leaf().page
	n, next := int(native.Uint16(page[10:])), above(page, key)
	for i := max(next-1, 0); i < min(next+1, n); i++ {
		k, v := record(page, i)
		if bytes.Equal(k, key) {
			return false // the transaction has deleted it: these are the pages from before
		}
		if len(v) > most {
			continue
		}
		if _, err := unseal(key, v); err == nil {
			return true
		}
	}
	return false
}

// errHidden is of a record that is there, under a key that damage has altered.
var errHidden = errors.New("the key of its record is damaged")

// record makes sure of the pages where key belongs, and that a record under it is one.
func (s *sound) record(key []byte, merges bool) error {
	if err := s.at(key, merges); err != nil {
		return &faultError{cause: err}
	}
	for _, k := range s.leaf().buckets {
		if bytes.Equal(k, key) {
			return &faultError{cause: "a record has become a bucket"}
		}
	}
	return nil
}

// soundAt makes sure of the pages where key belongs.
func (b *batch) soundAt(key []byte) error { return b.soundBeside(key, false) }

// soundBeside likewise; if merges is set, of those beside them, too.
func (b *batch) soundBeside(key []byte, merges bool) error {
	if b.sound == nil {
		s, err := newSound(b.tx, b.sessions, bucketSessions)
		if err != nil {
			return &faultError{cause: err}
		}
		b.sound = s
	}
	return b.sound.record(key, merges)
}

// soundFor makes sure of all pages that write(key, p, puts, deletes) touches.
func (b *batch) soundFor(key []byte, p *plan, puts []store.Entry, deletes []string) error {
	if err := b.soundAt(key); err != nil {
		return err
	}
	if p.old.flags&flagEntries == 0 {
		deletes = nil
		if len(puts) == 0 || len(puts) == 1 && puts[0].Key == "" && len(puts[0].Value) <= maxInline {
			return nil
		}
	} else if p.wipe {
		// From leaf to leaf, as far as there are entries.
		for k := appendEntryKey(nil, key, ""); isEntryOf(k, key); k = b.sound.leaf().hi {
			if err := b.soundBeside(k, true); err != nil {
				return err
			}
			for _, bucket := range b.sound.leaf().buckets {
				if isEntryOf(bucket, key) {
					return &faultError{cause: "a record has become a bucket"}
				}
			}
		}
	}
	end := afterEntries(nil, key)
	leaf := b.sound.leaf()
	one := len(leaf.buckets) == 0 && (leaf.hi == nil || bytes.Compare(end, leaf.hi) <= 0) // all records of the session are on that leaf
	merges := len(deletes) > 0 || p.old.flags&flagApart != 0
	if one && merges {
		return b.soundBeside(key, true)
	}
	if one {
		return nil
	}
	k := end
	if merges {
		if err := b.soundBeside(appendEntryKey(k[:0], key, ""), true); err != nil {
			return err
		}
	}
	for i := range puts {
		k = appendEntryKey(k[:0], key, puts[i].Key)
		if err := b.soundAt(k); err != nil {
			return err
		}
	}
	for _, d := range deletes {
		k = appendEntryKey(k[:0], key, d)
		if err := b.soundBeside(k, true); err != nil {
			return err
		}
	}
	return nil
}
