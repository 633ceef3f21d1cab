//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package bolt

import (
	"os"
	"syscall"
	"time"

	berrors "go.etcd.io/bbolt/errors"
)

const (
	settles         = true
	fadviseDontNeed = 4 // POSIX_FADV_DONTNEED
)

// settle takes the file's lock, as bbolt does, who then finds it taken by itself. Unless noSync is set it also makes the file, as it
// will be read, the same as what is on the disk:
//
//   - What a process wrote that was killed before its fsync is only in the system's memory. It is synced.
//   - What an fsync that failed was about is there, too, and passes for written ever after (Rebello and others, "Can
//     Applications Recover from fsync Failures?", 2020). So memory is dropped, and the disk asked.
//
// What some process has mapped is not dropped. So this must come before bbolt maps the file, and under the lock.
func settle(f *os.File, readOnly, noSync bool, deadline time.Time) error {
	how := syscall.LOCK_EX
	if readOnly {
		how = syscall.LOCK_SH
	}
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if err != syscall.EWOULDBLOCK {
			return os.NewSyscallError("flock", err)
		}
		wait := time.Until(deadline)
		if wait <= 0 {
			return berrors.ErrTimeout
		}
		time.Sleep(min(wait, 50*time.Millisecond)) // as bbolt does
	}
	if noSync {
		return nil
	}
	if err := f.Sync(); err != nil {
		return err
	}
	// An error is that of a file system that has no such memory.
	syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, fadviseDontNeed, 0, 0)
	return nil
}
