//go:build amd64 || arm64

package bolt

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// stead does the calls of a trapped child on a disk, in the child's stead.
type stead struct {
	t    *testing.T
	disk *disk
	what string // for failures: what was done last
}

// concerns tells whether a call is about the file or its directory, and whether it may change what is on the disk.
func (p *stead) concerns(c *trap, call trapped) (ours, changes bool) {
	name := ""
	switch call.nr {
	case syscall.SYS_OPENAT:
		name = p.text(c, call, call.args[1])
		return name == p.disk.path || name == filepath.Dir(p.disk.path), name == p.disk.path
	case syscall.SYS_TRUNCATE:
		name = p.text(c, call, call.args[0])
	case syscall.SYS_MMAP:
		name, _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", call.pid, int32(call.args[4])))
	default:
		name, _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", call.pid, int32(call.args[0])))
	}
	if name == filepath.Dir(p.disk.path) {
		return call.nr == syscall.SYS_FSYNC, true
	}
	return name == p.disk.path, call.nr != syscall.SYS_PREAD64 && call.nr != syscall.SYS_MMAP
}

// text reads a string of the child's that is no longer than the file's path.
func (p *stead) text(c *trap, call trapped, at uint64) string {
	for n := len(p.disk.path) + 1; n > 0; n-- { // it may be the last in its memory
		if b, err := c.memory(call, at, uint64(n)); err == nil {
			s, _, _ := bytes.Cut(b, []byte{0})
			return string(s)
		}
	}
	return ""
}

// do does a call in the child's stead; half of a write, if that is wanted.
func (p *stead) do(c *trap, call trapped, half bool) answer {
	var err error
	switch call.nr {
	case syscall.SYS_PWRITE64:
		n := call.args[2]
		if half {
			n = n / 2 / diskSector * diskSector
		}
		b, merr := c.memory(call, call.args[1], n)
		if err = merr; err == nil {
			err = p.disk.write(b, int64(call.args[3]))
		}
		if err == nil {
			return answer{val: int(n)}
		}
	case syscall.SYS_FTRUNCATE, syscall.SYS_TRUNCATE:
		err = p.disk.truncate(int64(call.args[1]))
	case syscall.SYS_FSYNC, syscall.SYS_FDATASYNC:
		if name, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", call.pid, int32(call.args[0]))); name != p.disk.path {
			_, err := os.Stat(p.disk.path)
			p.disk.named = p.disk.named || err == nil
		} else {
			p.disk.sync()
		}
	case syscall.SYS_FADVISE64:
		maps, merr := os.ReadFile(fmt.Sprintf("/proc/%d/maps", call.pid))
		if err = merr; err == nil && !bytes.Contains(maps, []byte(p.disk.path)) {
			err = p.disk.forget()
		}
	default:
		return answer{pass: true}
	}
	if err != nil {
		p.t.Fatalf("%s: call %d in the child's stead: %v", p.what, call.nr, err)
	}
	return answer{}
}
