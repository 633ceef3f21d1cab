package outage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"
)

// Disk is a disk of its own, with a file system, whose power can be cut: a file as a block device.
type Disk struct {
	Dir string // where it is mounted; everybody may write there

	image   string
	mounted bool
}

// NewDisk makes a disk of so many bytes, and mounts it until the test ends. Where that cannot be done the test is skipped, loudly.
func NewDisk(t testing.TB, bytes int64) *Disk {
	t.Helper()
	dir := t.TempDir()
	d := &Disk{Dir: filepath.Join(dir, "mnt"), image: filepath.Join(dir, "disk")}
	err := os.Mkdir(d.Dir, 0o755)
	if err == nil {
		err = os.Chmod(dir, 0o755) // servers that are not root go through it
	}
	if err == nil {
		err = os.WriteFile(d.image, nil, 0o600)
	}
	if err == nil {
		err = os.Truncate(d.image, bytes)
	}
	if err != nil {
		t.Fatal(err)
	}
	for up := dir; up != os.TempDir() && len(up) > len(os.TempDir()); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", d.image).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: a disk cannot be made here: %v: %s", err, out)
	}
	if err := d.mount(); err != nil {
		t.Skipf("NOT TESTED: a disk cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if d.mounted {
			d.unmount(t)
		}
	})
	return d
}

func (d *Disk) mount() error {
	if out, err := exec.Command("mount", "-o", "loop", d.image, d.Dir).CombinedOutput(); err != nil {
		return fmt.Errorf("mount: %w: %s", err, out)
	}
	d.mounted = true
	return os.Chmod(d.Dir, 0o777)
}

func (d *Disk) unmount(t testing.TB) {
	t.Helper()
	// A process that was killed may have a file open for a moment longer.
	Until(t, "the disk is not in use", func() bool { return !errors.Is(syscall.Unmount(d.Dir, 0), syscall.EBUSY) })
	d.mounted = false
}

// Sync writes to the disk all that was written to files.
func (d *Disk) Sync(t testing.TB) {
	t.Helper()
	if out, err := exec.Command("sync", "-f", d.Dir).CombinedOutput(); err != nil {
		t.Fatalf("sync: %v: %s", err, out)
	}
}

// From the kernel's include/uapi/linux/ext4.h.
const (
	ext4Shutdown          = 0x8004587d // EXT4_IOC_SHUTDOWN
	shutdownWithoutAFlush = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH
)

// Cut cuts the power of the disk and of the server that is on it, in one instant: nothing is written to the disk any more, neither data nor what the
// file system has in its journal. What was not synced before is gone, as far as the kernel did not happen to have written it.
//
// The server is stopped first, and not let go on any more: a sync that is under way when the file system is shut down may return without an error.
func (d *Disk) Cut(t testing.TB, server interface {
	Freeze()
	Kill()
}) {
	t.Helper()
	server.Freeze()
	f, err := os.Open(d.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags := uint32(shutdownWithoutAFlush)
	if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags))); e != 0 {
		t.Fatalf("the power is not cut: %v", e)
	}
	server.Kill()
}

// Restore brings the disk back, with what is on it.
func (d *Disk) Restore(t testing.TB) {
	t.Helper()
	d.unmount(t)
	if err := d.mount(); err != nil {
		t.Fatal(err)
	}
}
