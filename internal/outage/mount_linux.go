package outage

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// MountSmall makes dir, which must not be there, a disk of its own of so many bytes, until the test ends, with a file "ballast" that takes a quarter of it. Where
// that cannot be done the test is skipped, loudly.
func MountSmall(t testing.TB, dir string, size int) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("NOT TESTED: a small disk cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, size/4), 0o600); err != nil {
		t.Fatal(err)
	}
}
