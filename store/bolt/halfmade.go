package bolt

import (
	"bytes"
	"hash/fnv"
	"io"
	"os"
)

// bbolt makes a file with one write of four pages and then syncs it. A power cut before that leaves some of it, and
// zeros where the rest should be, which bbolt does not open. Nothing can be in such a file yet, so it is made anew.

// halfMade reports whether f is a file of which only a part, or nothing, of bbolt's first pages reached the disk.
func halfMade(f *os.File) (bool, error) {
	want := firstPages(os.Getpagesize())
	info, err := f.Stat()
	if err != nil || info.Size() == 0 || info.Size()%sector != 0 || info.Size() > int64(len(want)) {
		return false, err
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return false, err
	}
	if len(b) == len(want) && bytes.Equal(b, want) {
		return false, nil // all of it: bbolt takes it
	}
	zeros := make([]byte, sector)
	for i := 0; i < len(b); i += sector {
		end := i + sector
		if got := b[i:end]; !bytes.Equal(got, want[i:end]) && !bytes.Equal(got, zeros) {
			return false, nil
		}
	}
	return true, nil
}

// firstPages are those of a new file: two meta pages, an empty list of free pages, an empty leaf.
func firstPages(pageSize int) []byte {
	b := make([]byte, 4*pageSize)
	for i, kind := range []uint16{pageMeta, pageMeta, pageFreelist, pageLeaf} {
		page := b[i*pageSize:]
		native.PutUint64(page, uint64(i))
		native.PutUint16(page[8:], kind)
		if kind != pageMeta {
			continue
		}
		m := page[pageHeader:]
		native.PutUint32(m, bboltMagic)
		native.PutUint32(m[4:], bboltVersion)
		native.PutUint32(m[8:], uint32(pageSize))
		native.PutUint64(m[16:], 3) // the root
		native.PutUint64(m[32:], 2) // the list of free pages
		native.PutUint64(m[40:], 4) // pages in use
		native.PutUint64(m[48:], uint64(i))
		sum := fnv.New64a()
		sum.Write(m[:metaSize-8])
		native.PutUint64(m[metaSize-8:], sum.Sum64())
	}
	return b
}
