//go:build unix

package callrun

import "syscall"

// Freeze has the process stand still, with all that it has in memory, until Thaw.
func (p *Process) Freeze() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw lets the process go on, if it stands still.
func (p *Process) Thaw() error { return p.cmd.Process.Signal(syscall.SIGCONT) }
