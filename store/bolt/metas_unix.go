//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package bolt

import (
	"os"
	"syscall"
)

// mapMetas maps the two meta pages, apart from bbolt's map, which moves.
func mapMetas(f *os.File, pageSize int) ([]byte, error) {
	return syscall.Mmap(int(f.Fd()), 0, 2*pageSize, syscall.PROT_READ, syscall.MAP_SHARED)
}

func unmapMetas(b []byte) error { return syscall.Munmap(b) }
