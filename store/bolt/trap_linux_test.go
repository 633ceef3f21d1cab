//go:build amd64 || arm64

package bolt

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"unsafe"
)

// This file stops a child's system calls, by the kernel's own hand: a seccomp filter hands them to the parent, which does them in the
// child's stead, lets them pass, refuses them, or kills the child there. So a test sees each write and each sync as it
// is, whoever makes it, and needs no privilege for that. See seccomp_unotify(2).

const (
	sysSeccomp = 317*amd64 + 277*(1-amd64)
	auditArch  = 0xC000003E*amd64 + 0xC00000B7*(1-amd64)

	seccompSetFilter    = 1
	seccompFlags        = 1 | 8 | 16 | 32 // TSYNC, NEW_LISTENER, TSYNC_ESRCH, WAIT_KILLABLE_RECV: or Go's own signals would repeat the calls
	seccompReceive      = 0xC0502100
	seccompSend         = 0xC0182101
	seccompContinue     = 1
	seccompNotify       = 0x7FC00000
	seccompAllow        = 0x7FFF0000
	prSetNoNewPrivs     = 38
	trapEnv             = "TRAP"
	trapFD              = 3 // the child's end of the socket
	sysMmapNoFile       = 0xFFFFFFFF
	loadWord, jumpEqual = 0x20, 0x15
	giveBack            = 0x06
)

// trappedCalls are those with which a store touches its file. Of the calls of mmap only those that map a file are stopped.
var trappedCalls = []uintptr{syscall.SYS_PWRITE64, syscall.SYS_PREAD64, syscall.SYS_FSYNC, syscall.SYS_FDATASYNC,
	syscall.SYS_FTRUNCATE, syscall.SYS_TRUNCATE, syscall.SYS_FALLOCATE, syscall.SYS_FADVISE64, syscall.SYS_OPENAT}

func init() {
	children["nothing"] = func() error { return nil }
	if os.Getenv(trapEnv) != "" {
		beforeChild = setTrap
	}
}

// setTrap has this process be trapped, in all its threads, and gives the parent the other end.
func setTrap() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	type insn struct {
		code   uint16
		jt, jf uint8
		k      uint32
	}
	prog := []insn{{loadWord, 0, 0, 4}, {jumpEqual, 1, 0, auditArch}, {giveBack, 0, 0, seccompAllow}, {loadWord, 0, 0, 0}}
	for _, nr := range trappedCalls {
		prog = append(prog, insn{jumpEqual, 0, 1, uint32(nr)}, insn{giveBack, 0, 0, seccompNotify})
	}
	prog = append(prog, insn{jumpEqual, 0, 2, uint32(syscall.SYS_MMAP)},
		insn{loadWord, 0, 0, 16 + 4*8}, insn{jumpEqual, 0, 1, sysMmapNoFile},
		insn{giveBack, 0, 0, seccompAllow}, insn{giveBack, 0, 0, seccompNotify})
	fprog := struct {
		n    uint16
		prog *insn
	}{uint16(len(prog)), &prog[0]}
	if _, _, errno := syscall.Syscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		return os.NewSyscallError("prctl", errno)
	}
	fd, _, errno := syscall.Syscall(sysSeccomp, seccompSetFilter, seccompFlags, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	err := syscall.Sendmsg(trapFD, []byte{0}, syscall.UnixRights(int(fd)), nil, 0)
	return errors.Join(err, syscall.Close(int(fd)), syscall.Close(trapFD))
}

// trapped is a call that was stopped.
type trapped struct {
	id   uint64
	pid  int
	nr   uintptr
	args [6]uint64
}

// answer is what becomes of a call: it passes, or it has been done, or it fails.
type answer struct {
	pass  bool
	val   int
	errno syscall.Errno
}

// trap is a child whose calls are stopped.
type trap struct {
	cmd      *exec.Cmd
	listener int
	out      int // what the child says
	said     []byte
}

// trapEvent is what next met.
type trapEvent int

const (
	trapCall trapEvent = iota
	trapSaid           // the child said something
	trapDead           // the child is dead: there will be no more calls
)

// startTrapped starts a child that calls setTrap before all else.
func startTrapped(cmd *exec.Cmd) (*trap, error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(pair[1]), "trap")
	defer syscall.Close(pair[0])
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		return nil, err
	}
	stdout := os.NewFile(uintptr(pipe[1]), "stdout")
	cmd.Stdout, cmd.ExtraFiles, cmd.Env = stdout, []*os.File{theirs}, append(cmd.Env, trapEnv+"=1")
	err = cmd.Start()
	theirs.Close()
	stdout.Close()
	if err != nil {
		syscall.Close(pipe[0])
		return nil, err
	}
	c := &trap{cmd: cmd, listener: -1, out: pipe[0]}
	oob := make([]byte, syscall.CmsgSpace(4))
	_, n, _, _, err := syscall.Recvmsg(pair[0], make([]byte, 1), oob, syscall.MSG_CMSG_CLOEXEC)
	var msgs []syscall.SocketControlMessage
	if err == nil {
		msgs, err = syscall.ParseSocketControlMessage(oob[:n])
	}
	if err == nil && len(msgs) == 0 {
		err = errors.New("the child cannot be trapped")
	}
	if err == nil {
		var fds []int
		if fds, err = syscall.ParseUnixRights(&msgs[0]); err == nil {
			c.listener = fds[0]
		}
	}
	if err != nil {
		c.kill()
		return nil, err
	}
	return c, syscall.SetNonblock(c.out, true)
}

// next waits for what the child does next.
func (c *trap) next() (trapEvent, trapped, error) {
	type pollfd struct {
		fd              int32
		events, revents int16
	}
	const in, hup = 1, 16
	for {
		fds := []pollfd{{int32(c.listener), in, 0}, {int32(c.out), in, 0}}
		_, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), 2, 0, 0, 0, 0)
		switch {
		case errno == syscall.EINTR:
		case errno != 0:
			return 0, trapped{}, os.NewSyscallError("ppoll", errno)
		case fds[1].revents&in != 0:
			c.hear()
			return trapSaid, trapped{}, nil
		case fds[0].revents&in != 0:
			var b struct {
				id         uint64
				pid, flags uint32
				nr         int32
				arch       uint32
				ip         uint64
				args       [6]uint64
			}
			_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(c.listener), seccompReceive, uintptr(unsafe.Pointer(&b)))
			if errno == syscall.ENOENT || errno == syscall.EINTR {
				continue // it was killed
			}
			if errno != 0 {
				return 0, trapped{}, os.NewSyscallError("SECCOMP_IOCTL_NOTIF_RECV", errno)
			}
			return trapCall, trapped{b.id, int(b.pid), uintptr(b.nr), b.args}, nil
		case fds[0].revents&hup != 0:
			return trapDead, trapped{}, nil
		}
	}
}

// hear takes what the child has said up to now.
func (c *trap) hear() {
	buf := make([]byte, 64<<10)
	for {
		n, err := syscall.Read(c.out, buf)
		if err == syscall.EINTR {
			continue
		}
		if n <= 0 {
			return
		}
		c.said = append(c.said, buf[:n]...)
	}
}

// answer has the child's call return.
func (c *trap) answer(call trapped, a answer) error {
	b := struct {
		id    uint64
		val   int64
		errno int32
		flags uint32
	}{id: call.id, val: int64(a.val), errno: -int32(a.errno)}
	if a.errno != 0 {
		b.val = 0
	}
	if a.pass {
		b.flags = seccompContinue
	}
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(c.listener), seccompSend, uintptr(unsafe.Pointer(&b)))
	if errno != 0 && errno != syscall.ENOENT {
		return os.NewSyscallError("SECCOMP_IOCTL_NOTIF_SEND", errno)
	}
	return nil
}

// memory reads what lies at an address of the child's.
func (c *trap) memory(call trapped, at, n uint64) ([]byte, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", call.pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, n)
	_, err = f.ReadAt(b, int64(at))
	return b, err
}

// kill ends the child, wherever it is, and returns how it ended.
func (c *trap) kill() error {
	c.cmd.Process.Kill()
	if c.listener >= 0 {
		syscall.Close(c.listener)
	}
	err := c.cmd.Wait()
	c.hear()
	syscall.Close(c.out)
	return err
}

// needTraps skips the test where calls cannot be trapped, but not in CI: a proof that is not made must be seen.
func needTraps(t *testing.T) {
	t.Helper()
	c, err := startTrapped(child(t, "nothing"))
	if err == nil {
		for {
			var event trapEvent
			var call trapped
			if event, call, err = c.next(); err == nil && event == trapCall {
				err = c.answer(call, answer{pass: true})
			}
			if err != nil || event == trapDead {
				break
			}
		}
		c.kill()
	}
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("system calls cannot be trapped here: %v", err)
	}
	t.Skipf("NOT TESTED: system calls cannot be trapped here (Linux 5.19 or later does that): %v", err)
}
