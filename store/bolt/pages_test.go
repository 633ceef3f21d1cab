package bolt

import (
	"os"
	"testing"
)

// pageSamples are pages that bbolt wrote: leaves and branches.
func pageSamples(t testing.TB) (pages [][]byte) {
	path := temp(t)
	s, err := Open(path, &Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, owner("a"), 500)
	s.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := os.Getpagesize(); len(b) >= size; b = b[size:] {
		if kind := native.Uint16(b[8:]); kind == pageBranch || kind == pageLeaf {
			pages = append(pages, b[:size])
		}
	}
	return pages
}

// FuzzPage reads pages that may hold anything.
func FuzzPage(f *testing.F) {
	for i, b := range pageSamples(f) {
		if i < 3 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < pageHeader {
			return
		}
		total := pageHeader
		err := elements(b, func(e element) error {
			total += elemSize + len(e.key) + len(e.value)
			return nil
		})
		if err == nil && total > len(b) {
			t.Fatalf("elements of %d bytes in a page of %d", total, len(b))
		}
		if werr := new(sound).whole(&span{page: b}, nil); (err == nil) != (werr == nil) {
			t.Fatalf("elements gives %v, whole %v", err, werr)
		}
	})
}

// TestEveryStructuralBit flips each bit of a leaf and of a branch that is a number of bbolt's, and wants it noticed,
// save those that a record's checksum covers: how a key and a value share their bytes, and the last length.
func TestEveryStructuralBit(t *testing.T) {
	for _, b := range pageSamples(t)[:4] {
		n := int(native.Uint16(b[10:]))
		branch := native.Uint16(b[8:]) == pageBranch
		sum := func() (sum int, err error) {
			err = elements(b, func(e element) error {
				sum = sum*31 + len(e.key)*7 + len(e.value)*3 + int(e.child)
				if e.bucket {
					sum++
				}
				return nil
			})
			return sum, err
		}
		want, err := sum()
		if err != nil {
			t.Fatal(err)
		}
		for bit := 10 * 8; bit < (pageHeader+n*elemSize)*8; bit++ {
			if bit >= 12*8 && bit < 16*8 {
				continue // the overflow, which the pager checks
			}
			b[bit/8] ^= 1 << (bit % 8)
			got, err := sum()
			if werr := new(sound).whole(&span{page: b}, nil); (err == nil) != (werr == nil) {
				t.Errorf("branch %v: bit %d of byte %d was flipped, and elements gives %v, whole %v", branch, bit%8, bit/8, err, werr)
			}
			if err == nil && got == want {
				t.Errorf("branch %v, %d elements: bit %d of byte %d was flipped, and neither is it noticed nor does anything else come out", branch, n, bit%8, bit/8)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}
