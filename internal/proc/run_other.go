//go:build unix && !linux

package proc

import "os/exec"

func run(cmd *exec.Cmd, started chan<- error, done chan<- struct{}) {
	err := cmd.Start()
	started <- err
	if err == nil {
		cmd.Wait()
		close(done)
	}
}
