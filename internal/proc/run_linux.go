package proc

import (
	"os/exec"
	"runtime"
	"syscall"
)

// run starts cmd and waits for it. The kernel takes the end of the thread that started it for the end of the parent,
// so that thread stays.
func run(cmd *exec.Cmd, started chan<- error, done chan<- struct{}) {
	runtime.LockOSThread()
	if cmd.SysProcAttr.Pdeathsig == 0 {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	err := cmd.Start()
	started <- err
	if err == nil {
		cmd.Wait()
		close(done)
	}
}
