//go:build unix

// Package pgserver starts real PostgreSQL servers for tests, each in a directory of its own and on a free port of the loopback,
// and stops them, kills them and freezes them.
package pgserver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/internal/proc"
)

// Server is a running server.
type Server struct {
	Dir  string // of its data
	Port int

	bin  string
	who  *syscall.Credential // nil: whoever we are
	args []string
	*proc.Process
}

// Start starts a server with the given settings ("name=value"), and stops it when the test ends. If there is none on this
// machine the test is skipped, loudly; where the environment says CI it fails.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	return StartAt(t, t.TempDir(), settings...)
}

// StartAt is Start with the server's data in dir.
func StartAt(t testing.TB, dir string, settings ...string) *Server {
	t.Helper()
	bin, err := find()
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("under CI PostgreSQL must be there: %v", err)
		}
		t.Skipf("NOT TESTED: %v. Debian has it: apt-get install postgresql (make test does that)", err)
	}
	s, err := start(bin, dir, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("the server's log ends so:\n%s", s.Log())
		}
	})
	return s
}

// find returns the directory of the newest server's programs.
func find() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		if p, err = filepath.EvalSymlinks(p); err == nil {
			return filepath.Dir(p), nil
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errors.New("no PostgreSQL server is installed")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
}

func start(bin, dir string, settings []string) (*Server, error) {
	s := &Server{Dir: filepath.Join(dir, "data"), bin: bin}
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 { // it refuses to run as root
		if err := s.demote(dir); err != nil {
			return nil, err
		}
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", s.Dir, "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: s.who}
	initdb.Dir = s.Dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	for _, kv := range append([]string{"listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=60", "shared_buffers=32MB"}, settings...) {
		s.args = append(s.args, "-c", kv)
	}
	var err error
	for range 5 { // somebody else may take the port first
		if s.Port, err = proc.FreePort(); err != nil {
			return nil, err
		}
		if err = s.Run(); err == nil {
			return s, nil
		}
	}
	return nil, err
}

// demote has the server run as somebody who is not root.
func (s *Server) demote(dir string) error {
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	s.who = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for d := dir; strings.HasPrefix(d, os.TempDir()) && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			return err
		}
	}
	return os.Chown(s.Dir, int(uid), int(gid))
}

// Run starts the server, again after Kill or Stop, and returns when it takes connections.
func (s *Server) Run() error {
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), append([]string{"-D", s.Dir, "-p", strconv.Itoa(s.Port)}, s.args...)...)
	cmd.Dir = s.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.who}
	p, err := proc.Run(cmd)
	if err != nil {
		return err
	}
	s.Process = p
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err := exec.Command(filepath.Join(s.bin, "pg_isready"), "-q", "-U", "postgres", "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port), "-t", "1").Run()
		if err == nil {
			return nil
		}
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
			s.Stop()
			return err
		}
		select {
		case <-p.Ended():
			return fmt.Errorf("the server ended at once:\n%s", s.Log())
		default:
		}
		if time.Now().After(end) {
			s.Stop()
			return fmt.Errorf("the server does not answer:\n%s", s.Log())
		}
	}
}

// URL returns where the server is, as its superuser.
func (s *Server) URL() string { return s.URLAt(s.Port) }

// URLAt returns the same behind a port that leads to it.
func (s *Server) URLAt(port int) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
}

// Stop shuts the server down, and returns when it has ended.
func (s *Server) Stop() { s.Process.Stop(syscall.SIGQUIT) }

// Own gives a directory to the user that the server runs as.
func (s *Server) Own(t testing.TB, dir string) {
	t.Helper()
	if s.who == nil {
		return
	}
	if err := os.Chown(dir, int(s.who.Uid), int(s.who.Gid)); err != nil {
		t.Fatal(err)
	}
}
