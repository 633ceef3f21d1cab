//go:build unix && !linux

package pgserver

import (
	"os/exec"
	"syscall"
)

func (s *Server) attr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Credential: s.who} }

func run(cmd *exec.Cmd, started chan<- error, done chan<- struct{}) {
	err := cmd.Start()
	started <- err
	if err == nil {
		cmd.Wait()
		close(done)
	}
}
