package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// process is a node as its parent sees it.
type process struct {
	name string
	addr string
	cmd  *exec.Cmd
	in   io.Closer // closing it is what tells the node to end

	serving chan struct{} // closed when it has the store
	done    chan struct{} // closed when it is gone, and err is set
	err     error
}

// patience is how long a process may take to start or to end.
const patience = 15 * time.Second

// start starts a node, and returns when it listens.
func start(ctx context.Context, name, path, addr string, maxDelay time.Duration) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{name: name, serving: make(chan struct{}), done: make(chan struct{})}
	p.cmd = exec.Command(self, nodeRole, "-name", name, "-path", path, "-addr", addr, "-maxdelay", maxDelay.String())
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	listens := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if addr, ok := strings.CutPrefix(lines.Text(), sayAddr); ok {
				listens <- addr
			} else if lines.Text() == sayServing {
				close(p.serving)
			}
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case p.addr = <-listens:
		return p, nil
	case <-p.done:
		err = p.ended()
	case <-timer.C:
		err = fmt.Errorf("node %s did not start within %v", name, patience)
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.kill()
	return nil, err
}

// served waits until the node has the store.
func (p *process) served(ctx context.Context) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.serving:
		return nil
	case <-p.done:
		return p.ended()
	case <-timer.C:
		return fmt.Errorf("node %s did not get the store within %v", p.name, patience)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ended says how a node ended that should not have.
func (p *process) ended() error {
	if p.err == nil {
		return fmt.Errorf("node %s ended by itself", p.name)
	}
	return fmt.Errorf("node %s ended: %w", p.name, p.err)
}

// kill sends SIGKILL and waits until the process is gone. To kill it twice is no error.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	if err == nil {
		<-p.done
	}
	return err
}

// stop ends the node cleanly, and returns how that went. To stop it twice, or after kill, does nothing more.
func (p *process) stop() error {
	p.in.Close()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.err
	case <-timer.C:
		return errors.Join(fmt.Errorf("node %s did not end within %v", p.name, patience), p.kill())
	}
}
