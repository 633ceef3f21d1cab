//go:build unix

// Package proc runs the processes of real servers for tests, and stops, kills and freezes them.
package proc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Tool builds a program that the module in dir names as one of its tools, without the race detector, and returns where it is: in Go's cache. A server
// that is written in Go is had so, and that it has no races is not what its adapter's tests are about.
func Tool(dir, name string) (string, error) {
	cmd := exec.Command("go", "tool", "-n", name)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS="+strings.ReplaceAll(os.Getenv("GOFLAGS"), "-race", ""))
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("go tool -n %s, in %s: %w", name, dir, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Process is a process that was started here, and whatever that starts.
type Process struct {
	cmd  *exec.Cmd
	log  tail
	done chan struct{}
}

// Run starts cmd, and keeps the end of what it prints. It ends when this process does, however that ends. Credential
// may be set in cmd.SysProcAttr.
func Run(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	started := make(chan error)
	go run(cmd, started, p.done)
	return p, <-started
}

// Pid returns the process's number.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.done }

// Log returns the end of what it has printed.
func (p *Process) Log() string { return p.log.String() }

// Stop asks the process to end, and returns when it has. A frozen one is let go on first.
func (p *Process) Stop(ask syscall.Signal) {
	p.cmd.Process.Signal(syscall.SIGCONT)
	p.cmd.Process.Signal(ask)
	<-p.done
}

// Kill kills the process, with those that it has started, in the middle of whatever they do, and returns when it has ended.
func (p *Process) Kill() {
	for _, pid := range p.children() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	p.Stop(syscall.SIGKILL)
}

// Freeze stops the process, and those that it has started, until Thaw. It returns when none of them does anything any more, except for calls to
// the kernel that were under way and whose answers they will not see before.
func (p *Process) Freeze() {
	p.signal(syscall.SIGSTOP)
	for _, pid := range append(p.children(), p.Pid()) {
		for !still(pid) {
			time.Sleep(100 * time.Microsecond)
		}
	}
}

// still reports whether a process is stopped, or gone. One of its threads stops before it has the others do so.
func still(pid int) bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, stat := range stats {
		b, _ := os.ReadFile(stat)
		_, rest, _ := strings.Cut(string(b), ") ")
		if strings.HasPrefix(rest, "T") {
			return true
		}
		if strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X") {
			return true
		}
	}
	return len(stats) == 0
}

// Thaw lets what is frozen go on.
func (p *Process) Thaw() { p.signal(syscall.SIGCONT) }

func (p *Process) signal(sig syscall.Signal) {
	p.cmd.Process.Signal(sig) // first, so that it makes no new ones
	for _, pid := range p.children() {
		syscall.Kill(pid, sig)
	}
}

func (p *Process) children() (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.Pid()))
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		for f := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// FreePort returns a port of the loopback that nobody has now. Somebody else may take it first: try again then.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - 8<<10; over > 0 {
		t.b = t.b[over:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
