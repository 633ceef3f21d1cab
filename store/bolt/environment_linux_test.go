package bolt

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/seed-6f1f505d/kvstore/store"
)

// These tests take away from a store what a system can take: space, the right to write, a file system that is not read-only. They need
// the privilege to do so; TestFaultAtEachCall has the same errors without it.

// mounted returns the directory of a small file system of its own, and a function that makes it read-only, or not.
func mounted(t *testing.T) (dir string, readOnly func(bool)) {
	t.Helper()
	dir = t.TempDir()
	mount := func(flags uintptr) error { return syscall.Mount("kvstore", dir, "tmpfs", flags, "size=2m") }
	if err := mount(0); err != nil {
		t.Skipf("NOT TESTED: no file system can be mounted: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir, func(yes bool) {
		t.Helper()
		flags := uintptr(syscall.MS_REMOUNT)
		if yes {
			flags |= syscall.MS_RDONLY
		}
		if err := mount(flags); err != nil {
			t.Fatal(err)
		}
	}
}

// refuses wants an error of Apply that names the file and is errno, and what was acknowledged to be there all the same.
func refuses(t *testing.T, s *Store, c store.Change, errno syscall.Errno) {
	t.Helper()
	_, err := s.Apply(t.Context(), []store.Change{c})
	if !errors.Is(err, errno) && !(err != nil && strings.Contains(err.Error(), errno.Error())) || !strings.Contains(err.Error(), s.path) {
		t.Errorf("Apply gives %v, want %v about %s", err, errno, s.path)
	}
	if snap, err := s.Load(t.Context(), "s"); err != nil || snap.Header.Seq != c.Seq-1 {
		t.Errorf("Load gives %+v, %v; want seq %d", snap.Header, err, c.Seq-1)
	}
}

func TestFullFileSystem(t *testing.T) {
	dir, _ := mounted(t)
	s := open(t, filepath.Join(dir, "sessions.db"), nil)
	c := store.Change{Session: "s", Owner: owner("a"), Epoch: 1, Seq: 1, Create: true, Puts: entries("", "v")}
	apply(t, s, c, store.Applied)
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 4<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the file system takes more than it should: %v", err)
	}
	c.Seq, c.Puts = 2, entries("k", strings.Repeat("x", 200<<10))
	for range 3 {
		refuses(t, s, c, syscall.ENOSPC)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	apply(t, s, c, store.Applied)
}

func TestReadOnlyFileSystem(t *testing.T) {
	dir, readOnly := mounted(t)
	path := filepath.Join(dir, "sessions.db")
	c := store.Change{Session: "s", Owner: owner("a"), Epoch: 1, Seq: 1, Create: true, Puts: entries("", "v")}
	s, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, s, c, store.Applied)
	s.Close()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	readOnly(true)
	for _, path := range []string{path, filepath.Join(dir, "new.db")} {
		if _, err := Open(path, nil); !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), path) {
			t.Errorf("Open gives %v, want that %s is on a read-only file system", err, path)
		}
	}
	readOnly(false)
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("Open changed a file that it refused: %v", err)
	}
	c.Seq = 2
	apply(t, open(t, path, nil), c, store.Applied)
}

// TestWriteTakenAway has the file made immutable while it is open, which Linux heeds at each write.
func TestWriteTakenAway(t *testing.T) {
	const getFlags, setFlags, immutable = 0x80086601, 0x40086602, 0x10 // FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IMMUTABLE_FL
	path := temp(t)
	s := open(t, path, nil)
	set := func(yes bool) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		var flags uint64 // the kernel takes an int
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), getFlags, uintptr(unsafe.Pointer(&flags))); errno != 0 {
			return errno
		}
		if flags &^= immutable; yes {
			flags |= immutable
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), setFlags, uintptr(unsafe.Pointer(&flags))); errno != 0 {
			return errno
		}
		return nil
	}
	c := store.Change{Session: "s", Owner: owner("a"), Epoch: 1, Seq: 1, Create: true, Puts: entries("", "v")}
	apply(t, s, c, store.Applied)
	if err := set(true); err != nil {
		t.Skipf("NOT TESTED: the file cannot be made immutable: %v", err)
	}
	defer set(false)
	c.Seq = 2
	for range 3 {
		refuses(t, s, c, syscall.EPERM)
	}
	if err := set(false); err != nil {
		t.Fatal(err)
	}
	apply(t, s, c, store.Applied)
}
