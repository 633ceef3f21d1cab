package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
)

// This file reads bbolt's pages without bbolt: by ordinary reads of the file instead of the map, and
// trusting nothing. bbolt follows page numbers and lengths wherever they lead; a
// damaged one can lead it into an endless recursion, which ends the program. So
// what it will follow is checked before it is let loose on the file.
//
// The format (bbolt's version 2, native byte order): a page begins with
// {id u64, flags u16, count u16, overflow u32} and takes 1+overflow units. Pages 0 and 1 are the
// metas. A branch has elements {pos u32, ksize u32, child u64}, a leaf {flags u32, pos u32, ksize u32, vsize u32},
// of 16 bytes; pos counts from the element itself, and keys and values follow the last element in the
// order of the elements and without gaps. A leaf element with flag 1 is a bucket: {root u64, sequence u64}, and if
// root is 0 a leaf page of its own behind them. All leaves of a tree are equally deep.

const (
	pageHeader = 16
	elemSize   = 16
	metaSize   = 64 // up to its checksum
	maxDepth   = 32
	noFreelist = math.MaxUint64
	sector     = 512 // bytes: what a disk writes whole

	pageBranch   = 0x01
	pageLeaf     = 0x02
	pageMeta     = 0x04
	pageFreelist = 0x10

	bboltMagic   = 0xED0CDAED
	bboltVersion = 2

	// maxPageBytes bounds one leaf with its overflow: bbolt leaves at most four large values together.
	maxPageBytes = 5 * (maxValue + 1<<20)
)

var native = binary.NativeEndian

// pager reads one file. Errors are collected by report; a method goes on as far as it can.
type pager struct {
	file     io.ReaderAt
	size     int64 // of the file
	pageSize int
	root     uint64
	freelist uint64
	end      uint64 // the first page number never used: bbolt's high-water mark
	txid     uint64
	used     bitmap // pages referred to
	free     bitmap
	bufs     [maxDepth + 2][]byte // one for each level of the tree: a parent is in use while its children are read
	report   func(error)
	stop     func() error // asked before each page; its error ends the walk
}

type bitmap []uint64

func (b bitmap) has(i uint64) bool { return b[i/64]>>(i%64)&1 != 0 }
func (b bitmap) set(i uint64)      { b[i/64] |= 1 << (i % 64) }

// meta reads both meta pages and takes the newer one. Both must be whole: bbolt is content
// with one, but if it is the other that is newer, the last transaction is silently undone. A torn
// write does not do that: what counts of a meta page lies within one sector.
func (p *pager) meta() error {
	for i := range uint64(2) {
		b := make([]byte, pageHeader+metaSize+8)
		if _, err := p.file.ReadAt(b, int64(i)*int64(p.pageSize)); err != nil {
			return fmt.Errorf("meta page %d cannot be read: %w", i, err)
		}
		m := b[pageHeader:]
		sum := fnv.New64a()
		sum.Write(m[:metaSize-8])
		switch {
		case native.Uint64(b) != i || native.Uint16(b[8:]) != pageMeta || native.Uint32(m) != bboltMagic,
			native.Uint64(m[metaSize-8:]) != sum.Sum64():
			return fmt.Errorf("meta page %d is damaged, so the last transaction may be lost (bbolt's own tool can go back to the other one)", i)
		case native.Uint32(m[4:]) != bboltVersion:
			return fmt.Errorf("bbolt's format version is %d, want %d", native.Uint32(m[4:]), bboltVersion)
		case native.Uint32(m[8:]) != uint32(p.pageSize):
			return fmt.Errorf("the meta pages disagree over the page size")
		}
		if txid := native.Uint64(m[48:]); i == 0 || txid > p.txid {
			p.root, p.freelist, p.end, p.txid = native.Uint64(m[16:]), native.Uint64(m[32:]), native.Uint64(m[40:]), txid
		}
	}
	if p.end > uint64(p.size)/uint64(p.pageSize) {
		return fmt.Errorf("the file is truncated: it has %d bytes, and %d pages of %d are in use", p.size, p.end, p.pageSize)
	}
	p.used, p.free = make(bitmap, p.end/64+1), make(bitmap, p.end/64+1)
	return nil
}

// readFreelist reads which pages are free.
func (p *pager) readFreelist() error {
	if p.freelist == noFreelist {
		return errors.New("it has no list of free pages")
	}
	b, err := p.read(0, p.freelist, pageFreelist)
	if err != nil {
		return fmt.Errorf("list of free pages: %w", err)
	}
	n, ids := uint64(native.Uint16(b[10:])), b[pageHeader:]
	if n == 0xFFFF && len(ids) >= 8 {
		n, ids = native.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		return fmt.Errorf("list of free pages: %d of them in %d bytes", n, len(ids))
	}
	// With the list bbolt frees as many pages as its header says. When it reserved them the list was longer by the pages that it took.
	if more := uint64(len(b)/p.pageSize) - 1; more*uint64(p.pageSize) > pageHeader+8*(n+more+2) {
		return fmt.Errorf("list of free pages: %d of them on %d pages", n, more+1)
	}
	last := uint64(1)
	for ; n > 0; n-- {
		id := native.Uint64(ids)
		ids = ids[8:]
		if id <= last || id >= p.end {
			return fmt.Errorf("list of free pages: page %d follows page %d, of %d", id, last, p.end)
		}
		p.free.set(id)
		last = id
	}
	p.refer(p.freelist, len(b))
	return nil
}

// read reads a page of the given kind into the buffer of a level.
func (p *pager) read(level int, id uint64, kinds uint16) ([]byte, error) {
	if id < 2 || id >= p.end {
		return nil, fmt.Errorf("page %d: there are %d pages", id, p.end)
	}
	if p.stop != nil {
		if err := p.stop(); err != nil {
			return nil, &stopped{err}
		}
	}
	load := func(n int) (b []byte, err error) {
		if cap(p.bufs[level]) < n {
			p.bufs[level] = make([]byte, n)
		}
		b = p.bufs[level][:n]
		_, err = p.file.ReadAt(b, int64(id)*int64(p.pageSize))
		return b, err
	}
	b, err := load(p.pageSize)
	if err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	overflow, err := checkPage(b, id, p.end, p.pageSize, kinds)
	if err != nil {
		return nil, err
	}
	if overflow > 0 {
		if b, err = load(int(overflow+1) * p.pageSize); err != nil {
			return nil, fmt.Errorf("page %d: %w", id, err)
		}
	}
	return b, nil
}

// checkPage looks at the header of page id, of one of the kinds, in a file whose pages end at end.
func checkPage(b []byte, id, end uint64, pageSize int, kinds uint16) (overflow uint64, err error) {
	flags, overflow := native.Uint16(b[8:]), uint64(native.Uint32(b[12:]))
	if native.Uint64(b) != id || flags&(flags-1) != 0 || flags&kinds == 0 {
		return 0, fmt.Errorf("page %d: damaged: it says it is page %d of kind %#x", id, native.Uint64(b), flags)
	}
	if overflow >= end-id || flags != pageFreelist && (overflow+1)*uint64(pageSize) > maxPageBytes {
		return 0, fmt.Errorf("page %d: damaged: %d pages of overflow", id, overflow)
	}
	return overflow, nil
}

// refer notes that n bytes from page id on are referred to. Each page may be so once.
func (p *pager) refer(id uint64, n int) bool {
	ok := true
	for i := id; i < id+uint64(n/p.pageSize); i++ {
		switch {
		case i < 2 || i >= p.end:
			p.report(fmt.Errorf("page %d: there are %d pages", i, p.end))
			return false
		case p.used.has(i):
			p.report(fmt.Errorf("page %d: referred to twice", i))
			ok = false
		case p.free.has(i):
			p.report(fmt.Errorf("page %d: in use and listed as free", i))
			ok = false
		}
		p.used.set(i)
	}
	return ok
}

// element is one element of a page; key and value alias the page.
type element struct {
	bucket     bool
	child      uint64
	key, value []byte
}

// elements takes a page apart. bbolt leaves no gap and no choice in where things lie, so any
// damaged number shows.
func elements(b []byte, f func(element) error) error {
	branch, n := native.Uint16(b[8:]) == pageBranch, int(native.Uint16(b[10:]))
	at := pageHeader + n*elemSize // where the next data must lie
	var last []byte
	for i := range n {
		off := pageHeader + i*elemSize
		if off+elemSize > len(b) {
			return fmt.Errorf("damaged: %d elements", n)
		}
		var e element
		var pos, ksize, vsize uint32
		x := b[off:]
		if branch {
			pos, ksize, e.child = native.Uint32(x), native.Uint32(x[4:]), native.Uint64(x[8:])
		} else {
			e.bucket = native.Uint32(x) == 1
			pos, ksize, vsize = native.Uint32(x[4:]), native.Uint32(x[8:]), native.Uint32(x[12:])
			if native.Uint32(x) > 1 {
				return fmt.Errorf("damaged: element %d has flags %#x", i, native.Uint32(x))
			}
		}
		end := int64(at) + int64(ksize) + int64(vsize)
		if int64(off)+int64(pos) != int64(at) || ksize == 0 || end > int64(len(b)) {
			return fmt.Errorf("damaged: element %d of %d has its key of %d and value of %d bytes at %d, want %d of %d",
				i, n, ksize, vsize, int64(off)+int64(pos), at, len(b))
		}
		e.key, e.value = b[at:at+int(ksize)], b[at+int(ksize):end]
		if i > 0 && bytes.Compare(last, e.key) >= 0 {
			return fmt.Errorf("damaged: key %d is not above the one before it", i)
		}
		last, at = e.key, int(end)
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

// stopped is the error that ended a walk from outside.
type stopped struct{ error }

func (s *stopped) Unwrap() error { return s.error }
