package callrun

import (
	"os/exec"
	"runtime"
	"syscall"
)

// leash is called by the goroutine that starts the process and waits for it. The kernel takes the end of the thread that started a process for
// the end of the parent: so this goroutine keeps its own.
func leash(cmd *exec.Cmd) {
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
