//go:build unix

// Package redisserver starts real Redis servers for tests and measurements, alone and as a Cluster, each in a directory of its own and on a free
// port of the loopback, and stops them, kills them and freezes them.
package redisserver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/proc"
)

// Server is a running server.
type Server struct {
	*proc.Process // the running one
	Dir           string
	Port          int

	bin      string
	settings []string
	bus      int // its port for other servers of a Cluster, or 0
}

// ErrMissing: this machine has no server.
var ErrMissing = errors.New("redis-server is missing")

// find returns the server's program: redis-server, or what REDIS_SERVER names.
func find() (string, error) {
	name := os.Getenv("REDIS_SERVER")
	if name == "" {
		name = "redis-server"
	}
	bin, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: %w. Debian has it: apt-get install redis-server (make test does that)", ErrMissing, err)
	}
	return bin, nil
}

// Open starts a server with its data in dir, an append-only file and the given settings ("name value"). Its caller ends it, by Kill or Stop. ErrMissing: there is none
// on this machine.
func Open(dir string, settings ...string) (*Server, error) {
	bin, err := find()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, Dir: dir, settings: append([]string{"appendonly yes"}, settings...)}
	return s, s.start()
}

// Start is Open for a test, and stops the server when the test ends. If there is none on this machine the test is skipped, loudly; where the environment
// says CI it fails.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	return StartAt(t, t.TempDir(), settings...)
}

// StartAt is Start with the server's data in dir.
func StartAt(t testing.TB, dir string, settings ...string) *Server {
	t.Helper()
	s, err := Open(dir, settings...)
	must(t, err)
	s.endWith(t)
	return s
}

// must ends the test if a server could not be started.
func must(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case !errors.Is(err, ErrMissing):
		t.Fatal(err)
	case os.Getenv("CI") != "":
		t.Fatalf("under CI Redis must be there: %v", err)
	default:
		t.Skipf("NOT TESTED: %v", err)
	}
}

// endWith ends the server with the test.
func (s *Server) endWith(t testing.TB) {
	t.Cleanup(func() {
		s.Process.Kill()
		if t.Failed() {
			t.Logf("the log of the server at %d ends so:\n%s", s.Port, s.Log())
		}
	})
}

// start runs the server on ports that nobody has.
func (s *Server) start() (err error) {
	for range 5 { // somebody else may take a port first
		if s.Port, err = proc.FreePort(); err != nil {
			return err
		}
		if s.bus != 0 {
			if s.bus, err = proc.FreePort(); err != nil {
				return err
			}
		}
		if err = s.Run(); err == nil {
			return nil
		}
	}
	return err
}

// Run starts the server, again after Kill or Stop, and returns when it answers.
func (s *Server) Run() error {
	args := []string{"--port", strconv.Itoa(s.Port), "--bind", "127.0.0.1", "--dir", s.Dir, "--save", ""}
	if s.bus != 0 {
		args = append(args, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(s.bus))
	}
	for _, kv := range s.settings {
		name, value, _ := strings.Cut(kv, " ")
		args = append(args, "--"+name)
		args = append(args, strings.Fields(value)...)
	}
	cmd := exec.Command(s.bin, args...)
	cmd.Dir = s.Dir
	p, err := proc.Run(cmd)
	if err != nil {
		return err
	}
	s.Process = p
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", fmt.Sprint("127.0.0.1:", s.Port), time.Second)
		if err == nil {
			err = answers(c)
			c.Close()
		}
		if err == nil {
			return nil
		}
		select {
		case <-p.Ended():
			return fmt.Errorf("the server ended at once:\n%s", p.Log())
		default:
		}
		if time.Now().After(end) {
			p.Kill()
			return fmt.Errorf("the server does not answer: %w\n%s", err, p.Log())
		}
	}
}

// Repair has the server's own tool cut off what cannot be read at the end of its append-only file: a power cut may leave zeros there, for what was written and not
// synced, and the server does not start with those.
func (s *Server) Repair(t testing.TB) {
	t.Helper()
	tool := strings.TrimSuffix(s.bin, "-server") + "-check-aof"
	cmd := exec.Command(tool, "--fix", filepath.Join(s.Dir, "appendonlydir", "appendonly.aof.manifest"))
	cmd.Stdin = strings.NewReader("y\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", tool, err, out)
	}
}

// answers reports whether a server is ready; with TLS or a password it need only be there.
func answers(c net.Conn) error {
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if strings.HasPrefix(line, "-LOADING") {
		return errors.New(line)
	}
	if nerr := net.Error(nil); errors.As(err, &nerr) && nerr.Timeout() {
		return err
	}
	return nil
}

// URL returns where the server is.
func (s *Server) URL() string { return s.URLAt(s.Port) }

// URLAt returns the same behind a port that leads to it.
func (s *Server) URLAt(port int) string { return fmt.Sprintf("redis://127.0.0.1:%d", port) }

// Stop asks the server to end, and returns when it has.
func (s *Server) Stop() { s.Process.Stop(syscall.SIGTERM) }

// Do has the server carry out a command, over a connection of its own, and returns its answer as text: a list's items each on a line.
func (s *Server) Do(command ...string) (string, error) {
	c, err := net.DialTimeout("tcp", fmt.Sprint("127.0.0.1:", s.Port), time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(command))
	for _, a := range command {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(c, b.String()); err != nil {
		return "", err
	}
	return reply(bufio.NewReader(c))
}

// Must is Do for what cannot fail.
func (s *Server) Must(t testing.TB, command ...string) string {
	t.Helper()
	a, err := s.Do(command...)
	if err != nil {
		t.Fatalf("%q at %d: %v", command, s.Port, err)
	}
	return a
}

// Written waits until all that the server has acknowledged is in its append-only file, if not on the disk: while an fsync
// takes long it keeps that in memory, for up to two seconds.
func (s *Server) Written(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(s.Must(t, "INFO", "persistence"), "aof_buffer_length:0\r\n"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("for a minute the server had something that is not in its append-only file")
		}
	}
}

func reply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, rest := line[0], strings.TrimRight(line[1:], "\r\n")
	switch kind {
	case '-':
		return "", errors.New(rest)
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return "", err
		}
		b := make([]byte, n+2)
		_, err = io.ReadFull(r, b)
		return string(b[:n]), err
	case '*':
		n, err := strconv.Atoi(rest)
		if err != nil {
			return "", err
		}
		var items []string
		for range n {
			item, err := reply(r)
			if err != nil {
				return "", err
			}
			items = append(items, item)
		}
		return strings.Join(items, "\n"), nil
	}
	return rest, nil
}

// Cluster is three masters, in this order, and then a replica of each.
type Cluster []*Server

// After which time without an answer servers take another for dead, in milliseconds.
const (
	quick   = 1000
	patient = 10 * 60 * 1000
)

// StartCluster starts one in which nobody is taken for dead: on a busy machine a server that applies some megabytes is silent for seconds, and
// what a replica that then takes its place has not heard of is lost. See FailsOver.
func StartCluster(t testing.TB, settings ...string) Cluster {
	t.Helper()
	bin, err := find()
	must(t, err)
	c := make(Cluster, 6)
	for i := range c {
		dir := t.TempDir()
		c[i] = &Server{bin: bin, Dir: dir, bus: 1, settings: append([]string{"appendonly yes",
			fmt.Sprint("cluster-node-timeout ", quick), "repl-diskless-sync-delay 0", "repl-ping-replica-period 1"}, settings...)}
		must(t, c[i].start())
		c[i].endWith(t)
	}
	const slots = 16384
	for i, s := range c[:3] {
		s.Must(t, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(slots*i/3), strconv.Itoa(slots*(i+1)/3-1))
		s.Must(t, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
	}
	for _, s := range c[1:] {
		c[0].Must(t, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(s.Port), strconv.Itoa(s.bus))
	}
	for i, s := range c[3:] {
		master := c[i].Must(t, "CLUSTER", "MYID")
		s.until(t, func() bool {
			_, err := s.Do("CLUSTER", "REPLICATE", master)
			return err == nil
		})
	}
	for i, s := range c {
		s.until(t, func() bool { // to everybody's mind
			return strings.Contains(s.Must(t, "CLUSTER", "INFO"), "cluster_state:ok") && strings.Count(s.Must(t, "CLUSTER", "NODES"), "slave") == 3 &&
				(i < 3 || strings.Contains(s.Must(t, "INFO", "replication"), "master_link_status:up"))
		})
	}
	for _, s := range c[:3] {
		s.until(t, func() bool { return strings.Contains(s.Must(t, "INFO", "replication"), "state=online") })
	}
	c.wait(t, patient) // from now on: to form, it waits for as long
	return c
}

// FailsOver has these servers replace, from now on, one that does not answer for a second.
func (c Cluster) FailsOver(t testing.TB) {
	t.Helper()
	c.wait(t, quick)
}

func (c Cluster) wait(t testing.TB, timeout int) {
	t.Helper()
	for _, s := range c {
		s.Must(t, "CONFIG", "SET", "cluster-node-timeout", strconv.Itoa(timeout))
	}
}

func (s *Server) until(t testing.TB, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the Cluster does not form: %s", s.Must(t, "CLUSTER", "NODES"))
		}
	}
}

// URL returns where the Cluster is.
func (c Cluster) URL() string {
	url := c[0].URL()
	for i, s := range c[1:] {
		url += fmt.Sprintf("%caddr=127.0.0.1:%d", "?&&&&"[i], s.Port)
	}
	return url
}
