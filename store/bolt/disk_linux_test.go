//go:build amd64 || arm64

package bolt

import (
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
)

const (
	diskPage   = 4096
	diskSector = sector
)

// disk is what a disk has of a file. The file itself is the system's memory of it, as processes read and write it. Between the two
// Linux does what is modelled here, as harshly as it is allowed:
//
//   - What is written is in memory at once, and on the disk for certain after the next sync that gives no error.
//   - Until then a power cut leaves of each page any version, whole or mixed by sectors, and the size as it was at any time.
//   - After a sync that failed the disk has something like that, too, and memory passes for written: no sync makes up for it.
//   - Pages that are not to be written can be forgotten: then memory is what the disk has.
//   - The file's name is on the disk once its directory was synced.
type disk struct {
	path    string
	durable []byte
	named   bool
	dirty   map[int64][][]byte // by the page's number: its versions since the last sync
	sizes   []int64            // likewise of the file
}

func newDisk(path string) *disk { return &disk{path: path, dirty: map[int64][][]byte{}} }

// memory opens the file.
func (d *disk) memory() (*os.File, error) { return os.OpenFile(d.path, os.O_RDWR, 0) }

func (d *disk) write(b []byte, off int64) error {
	f, err := d.memory()
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(b, off); err != nil {
		return err
	}
	for n := off / diskPage; n*diskPage < off+int64(len(b)); n++ {
		page := make([]byte, diskPage)
		if _, err := f.ReadAt(page, n*diskPage); err != nil && err != io.EOF {
			return err
		}
		d.dirty[n] = append(d.dirty[n], page)
	}
	return d.resized(f)
}

func (d *disk) truncate(size int64) error {
	f, err := d.memory()
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	maps.DeleteFunc(d.dirty, func(n int64, _ [][]byte) bool { return n*diskPage >= size })
	return d.resized(f)
}

func (d *disk) resized(f *os.File) error {
	info, err := f.Stat()
	if err == nil && (len(d.sizes) > 0 && info.Size() != d.sizes[len(d.sizes)-1] || info.Size() != int64(len(d.durable))) {
		d.sizes = append(d.sizes, info.Size())
	}
	return err
}

// sync is one that gives no error.
func (d *disk) sync() {
	if len(d.sizes) > 0 {
		d.durable = resize(d.durable, d.sizes[len(d.sizes)-1])
	}
	for n, versions := range d.dirty {
		if at := n * diskPage; at < int64(len(d.durable)) {
			copy(d.durable[at:], versions[len(versions)-1])
		}
	}
	clear(d.dirty)
	d.sizes = nil
}

// failSync is one that gives an error.
func (d *disk) failSync(rng *rand.Rand) {
	d.durable = d.image(rng)
	clear(d.dirty) // the size stays to be written: the file system's own log is another matter
}

// forget is what POSIX_FADV_DONTNEED does.
func (d *disk) forget() error {
	f, err := d.memory()
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	lost := resize(slices.Clone(d.durable), info.Size())
	for n := int64(0); n*diskPage < info.Size(); n++ {
		if d.dirty[n] == nil {
			if _, werr := f.WriteAt(lost[n*diskPage:min((n+1)*diskPage, info.Size())], n*diskPage); werr != nil {
				err = errors.Join(err, werr)
			}
		}
	}
	return err
}

// image is what a power cut may leave on the disk now.
func (d *disk) image(rng *rand.Rand) []byte {
	b := slices.Clone(d.durable)
	if len(d.sizes) > 0 && rng.IntN(4) > 0 {
		b = resize(b, d.sizes[rng.IntN(len(d.sizes))])
	}
	// Of everything little, half, or much is there.
	kept, torn := []float64{0, 0.1, 0.5, 0.9, 1}[rng.IntN(5)], []float64{0, 0.1, 1}[rng.IntN(3)]
	for _, n := range slices.Sorted(maps.Keys(d.dirty)) {
		versions := d.dirty[n]
		step := diskPage
		if rng.Float64() < torn {
			step = diskSector
		}
		for i := 0; i < diskPage; i += step {
			if rng.Float64() >= kept {
				continue
			}
			v := versions[len(versions)-1]
			if rng.IntN(2) == 0 {
				v = versions[rng.IntN(len(versions))]
			}
			if at := int(n)*diskPage + i; at < len(b) {
				copy(b[at:], v[i:i+step])
			}
		}
	}
	return b
}

// cut has the power fail: memory and disk are what the image is.
func (d *disk) cut(image []byte) error {
	clear(d.dirty)
	d.sizes, d.durable = nil, image
	if !d.named {
		d.durable = nil
		if err := os.Remove(d.path); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	return os.WriteFile(d.path, image, 0o600) // the same file: it has no other holder
}

// resize cuts b, or appends zeros to it.
func resize(b []byte, size int64) []byte {
	if n := int(size) - len(b); n > 0 {
		return append(b, make([]byte, n)...)
	}
	return b[:size]
}
