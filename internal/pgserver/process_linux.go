package pgserver

import (
	"os/exec"
	"runtime"
	"syscall"
)

// attr has the server end when this process does, however that ends.
func (s *Server) attr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: s.who, Pdeathsig: syscall.SIGQUIT}
}

// run starts cmd and waits for it. The kernel takes the end of the thread that started it for the end of the parent,
// so that thread stays.
func run(cmd *exec.Cmd, started chan<- error, done chan<- struct{}) {
	runtime.LockOSThread()
	err := cmd.Start()
	started <- err
	if err == nil {
		cmd.Wait()
		close(done)
	}
}
