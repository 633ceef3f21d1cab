package nats

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// mountSmall makes dir a disk of its own, with a file "ballast" that takes a quarter of it.
func mountSmall(t *testing.T, dir string, size int) {
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
