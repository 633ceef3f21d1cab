package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/seed-6f1f505d/kvstore/store"
)

var (
	bucketMeta     = []byte("meta")
	bucketSessions = []byte("sessions")
	bucketGraves   = []byte("graves")
	bucketAliases  = []byte("aliases") // from format 2 on

	keyMagic  = []byte("magic")  // → magic
	keyFormat = []byte("format") // → uint32: the version of the layout in record.go
	magic     = []byte("kvstore/store/bolt")
)

const (
	format       = 2
	formatBefore = 1 // which is read and written, too
)

// ErrLocked is what Open's error wraps if another process, or another Open of this one, holds the file.
var ErrLocked = errors.New("another process, or another Open of this one, holds it")

// errHalfMade: see halfMade.
var errHalfMade = errors.New("it was not made to the end")

// Open opens the file at path, and makes it if there is none or if it is empty. A nil o is the zero Options.
//
// A file that is held by another process ([ErrLocked]), is not a bbolt file, is one of another program, has another
// format version, is truncated, or is damaged where it matters to the whole, is an error that says so; nothing
// has been written into it. Damage to single records does not keep Open from opening:
// it shows when they are read. Options.Check makes Open look for that too.
func Open(path string, o *Options) (*Store, error) {
	opt, err := o.withDefaults()
	if err == nil && path == "" {
		err = errors.New("store/bolt: the path is empty")
	}
	if err != nil {
		return nil, err
	}
	s := &Store{
		path:   path,
		opt:    opt,
		turn:   make(chan struct{}, 1),
		leases: map[store.Incarnation]lease{},
		idle:   make(chan struct{}),
		breaks: make(chan struct{}),
	}
	deadline := time.Now().Add(opt.LockTimeout)
	fresh, err := inspect(path, deadline, &opt)
	if err == nil {
		s.db, s.file, err = openFile(path, false, deadline, &opt)
		if fresh && err != nil {
			err = errors.Join(err, unmake(path, err))
		}
	}
	if err != nil {
		return nil, wrap(path, err)
	}
	s.pageSize = s.db.Info().PageSize
	if s.metas, err = mapMetas(s.file, s.pageSize); err == nil {
		s.place, err = newPlace(path, s.file)
	}
	if err == nil {
		err = s.place.look() // the lock is the file's, not the name's
	}
	if err = wrap(path, err); err == nil {
		err = s.prepare()
	}
	if err == nil && !opt.NoSync && !settles {
		err = wrap(path, s.file.Sync()) // what a process left that was killed; nothing was built on it yet
	}
	if err == nil && (fresh || !opt.NoSync) {
		err = wrap(path, syncName(path, fresh))
	}
	if err == nil && opt.Check {
		err = s.Check(context.Background())
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// unmake empties a file for which there was no room: what bbolt leaves of its first pages, no later Open would take. Nor could
// another one have made more of it since: bbolt makes them in an empty file only.
func unmake(path string, why error) error {
	if perr := (*fs.PathError)(nil); !errors.As(why, &perr) || perr.Op != "write" {
		return nil
	}
	if info, err := os.Stat(path); err != nil || info.Size() >= 4*int64(os.Getpagesize()) {
		return err
	}
	return os.Truncate(path, 0)
}

// inspect refuses a file that bbolt should not be let loose on, or that is not ours. It holds the
// file's lock as a reader, and writes nothing. fresh tells that there is nothing yet.
func inspect(path string, deadline time.Time, opt *Options) (fresh bool, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case err != nil:
		return false, err
	case info.IsDir():
		return false, errors.New("it is a directory")
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("it is not a regular file, but %v", info.Mode().Type())
	case info.Size() == 0:
		return true, nil
	}
	db, file, err := openFile(path, true, deadline, opt)
	if err == errHalfMade {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer db.Close()
	if info, err = file.Stat(); err != nil {
		return false, err
	}
	var errs []error
	p := &pager{
		file:     file,
		size:     info.Size(),
		pageSize: db.Info().PageSize,
		report: func(err error) {
			if len(errs) < maxReported {
				errs = append(errs, err)
			}
		},
	}
	if err := p.meta(); err != nil {
		return false, err
	}
	buckets, err := p.buckets()
	if err != nil || len(errs) > 0 {
		return false, errors.Join(append(errs, err)...)
	}
	if len(buckets) == 0 && p.end <= 4 {
		return true, nil // as bbolt makes it
	}
	if err := ours(p, buckets); err != nil || len(errs) > 0 {
		return false, errors.Join(append(errs, err)...)
	}
	if err := p.readFreelist(); err != nil {
		return false, err
	}
	for _, b := range buckets {
		if err := p.bucket(b, nil); err != nil {
			return false, err
		}
	}
	return false, errors.Join(errs...)
}

// ours tells why a file with these buckets is not one of ours in a format that we know.
func ours(p *pager, buckets []element) error {
	var names []string
	found := map[string]string{}
	for _, b := range buckets {
		names = append(names, fmt.Sprintf("%.32q", b.key))
		if string(b.key) != string(bucketMeta) || !b.bucket {
			continue
		}
		err := p.bucket(b, func(e element) { found[string(e.key)] = string(e.value) })
		if err != nil {
			return err
		}
	}
	if found[string(keyMagic)] != string(magic) {
		return fmt.Errorf("it is another program's bbolt file: no %q in it, its buckets are [%.200s]", magic, strings.Join(names, " "))
	}
	v := found[string(keyFormat)]
	if !known(v) {
		return fmt.Errorf("its format version is %s, this program knows the versions %d and %d only", formatName(v), formatBefore, format)
	}
	wanted := [][]byte{bucketSessions, bucketGraves}
	if v == string(formatValue(format)) {
		wanted = append(wanted, bucketAliases)
	}
	for _, want := range wanted {
		if !strings.Contains(strings.Join(names, " "), fmt.Sprintf("%q", want)) {
			return fmt.Errorf("bucket %q is missing", want)
		}
	}
	return nil
}

func formatValue(version uint32) []byte { return binary.BigEndian.AppendUint32(nil, version) }

func known(v string) bool {
	return v == string(formatValue(format)) || v == string(formatValue(formatBefore))
}

func formatName(v string) string {
	if len(v) != 4 {
		return fmt.Sprintf("%q", v)
	}
	return fmt.Sprint(binary.BigEndian.Uint32([]byte(v)))
}

// openFile opens the file with bbolt, which locks it: shared if readOnly, and then nothing is written.
func openFile(path string, readOnly bool, deadline time.Time, opt *Options) (db *bbolt.DB, file *os.File, err error) {
	bopt := &bbolt.Options{
		Timeout:      max(time.Until(deadline), time.Nanosecond), // zero would be for ever
		ReadOnly:     readOnly,
		NoSync:       opt.NoSync,
		FreelistType: bbolt.FreelistMapType, // the other one is slow on large files with many free pages
		NoStatistics: true,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			if err != nil {
				return nil, err
			}
			if err = settle(f, readOnly, opt.NoSync, deadline); err == nil && settles { // under the lock
				var half bool
				if half, err = halfMade(f); half && readOnly {
					err = errHalfMade
				} else if half {
					err = f.Truncate(0)
				}
			}
			if err != nil {
				f.Close()
				return nil, err
			}
			file = f
			return f, nil
		},
	}
	err = safely(func() (err error) {
		db, err = bbolt.Open(path, opt.FileMode, bopt)
		return err
	})
	switch {
	case err == nil:
		return db, file, nil
	case isFault(err) && file != nil:
		file.Close()
	case errors.Is(err, berrors.ErrTimeout):
		err = fmt.Errorf("%w (waited %v): %w", ErrLocked, opt.LockTimeout, err)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		err = fmt.Errorf("it is not a bbolt file, or neither of its meta pages is whole: %w", err)
	case strings.Contains(err.Error(), "file size too small"): // bbolt gives this one as text only
		err = fmt.Errorf("the file is truncated: %w", err)
	}
	return nil, nil, err
}

// prepare makes the buckets of a new file, all in one transaction, so that a file is ours or
// still empty. Of another file it sees to it that nobody changed what it is since inspect looked.
func (s *Store) prepare() error {
	empty := false
	err := s.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketMeta)
		if k, _ := tx.Cursor().First(); k == nil {
			empty = true
		} else if b == nil || string(b.Get(keyMagic)) != string(magic) || !known(string(b.Get(keyFormat))) {
			return errors.New("it was replaced while it was being opened")
		}
		return nil
	})
	if err != nil || !empty {
		return err
	}
	return s.update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketMeta, bucketSessions, bucketGraves, bucketAliases} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		b := tx.Bucket(bucketMeta)
		return errors.Join(b.Put(keyMagic, magic), b.Put(keyFormat, formatValue(format)))
	})
}

// syncName makes the name of the file as durable as what is in it. That of a file which is not fresh may be no older: who made it
// was killed before this.
func syncName(path string, fresh bool) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there, and need not be
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if !fresh && errors.Is(err, fs.ErrPermission) {
		return nil // nor could we have made it
	}
	if err != nil {
		return fmt.Errorf("its directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("its directory: %w", err)
	}
	return nil
}
