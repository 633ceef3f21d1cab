// Package callrun runs the nodes of package callsim as processes, for the examples: their start and their end, the main function of
// a node, the moment at which a fault costs the most, and how a run ends. It knows nothing of engines: an example says how
// its nodes open their store.
package callrun

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

// Patience is how long a process may take to start or to end.
const Patience = 15 * time.Second

// Process is a process that this program runs as a part of itself, as its parent sees it: a node, or a server of the store.
type Process struct {
	Name string
	Addr string
	role string
	cmd  *exec.Cmd
	in   io.Closer // closing it is what tells the process to end

	serving chan struct{} // closed when it serves
	done    chan struct{} // closed when it is gone, and err is set
	err     error
}

// Command says what to start.
type Command struct {
	Role string // the program's first argument, which its main function looks at
	Name string
	Args []string
	Env  []string // beside this process's own

	// Leash has the system kill the process when this one ends, however that ends, where the system can. For what may stand still,
	// and so cannot end by itself.
	Leash bool
}

// Start starts a process of this program, and returns when it listens.
func Start(ctx context.Context, c Command) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &Process{Name: c.Name, role: c.Role, serving: make(chan struct{}), done: make(chan struct{})}
	p.cmd = exec.Command(self, append([]string{c.Role, "-name", c.Name}, c.Args...)...)
	p.cmd.Stderr = os.Stderr
	p.cmd.Env = append(os.Environ(), c.Env...)
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	listens := make(chan string, 1)
	started := make(chan error, 1)
	go func() {
		if c.Leash {
			leash(p.cmd)
		}
		err := p.cmd.Start()
		if started <- err; err != nil {
			return
		}
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
	if err := <-started; err != nil {
		return nil, err
	}
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case p.Addr = <-listens:
		return p, nil
	case <-p.done:
		err = p.Ended()
	case <-timer.C:
		err = fmt.Errorf("%s did not start within %v", p, Patience)
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.Kill()
	return nil, err
}

// String returns what the process is, for people: its role and its name.
func (p *Process) String() string { return p.role + " " + p.Name }

// Served waits until the process serves.
func (p *Process) Served(ctx context.Context) error {
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case <-p.serving:
		return nil
	case <-p.done:
		return p.Ended()
	case <-timer.C:
		return fmt.Errorf("%s does not serve after %v", p, Patience)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Pid returns the process's number.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process is gone.
func (p *Process) Done() <-chan struct{} { return p.done }

// State says how it ended, after Done.
func (p *Process) State() *os.ProcessState { return p.cmd.ProcessState }

// Ended says how a process ended that should not have.
func (p *Process) Ended() error {
	if p.err == nil {
		return fmt.Errorf("%s ended by itself", p)
	}
	return fmt.Errorf("%s ended: %w", p, p.err)
}

// Kill sends SIGKILL and waits until the process is gone. To kill it twice is no error.
func (p *Process) Kill() error {
	err := p.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	if err == nil {
		<-p.done
	}
	return err
}

// Stop ends the process cleanly, and returns how that went. To stop it twice, or after Kill, does nothing more. One that was
// frozen is let go on first.
func (p *Process) Stop() error {
	p.Thaw()
	p.in.Close()
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.err
	case <-timer.C:
		return errors.Join(fmt.Errorf("%s did not end within %v", p, Patience), p.Kill())
	}
}
