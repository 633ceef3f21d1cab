package nats

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/internal/proc"
)

// program is the server itself, as its makers have it.
var program = sync.OnceValues(func() (string, error) { return proc.Tool("server", "nats-server") })

// node is a server.
type node struct {
	name   string
	port   int
	dir    string
	config string
	*proc.Process
}

func newNode(t testing.TB, name, extra string) *node {
	t.Helper()
	return newNodeAt(t, t.TempDir(), name, extra)
}

func newNodeAt(t testing.TB, dir, name, extra string) *node {
	t.Helper()
	n := &node{name: name, dir: dir}
	var err error
	if n.port, err = proc.FreePort(); err != nil {
		t.Fatal(err)
	}
	n.config = filepath.Join(n.dir, "server.conf")
	n.configure(t, fmt.Sprintf("server_name: %q\nlisten: \"127.0.0.1:%d\"\njetstream: {store_dir: %q}\n%s\n", name, n.port, n.dir, extra))
	t.Cleanup(func() {
		if n.Process != nil {
			if n.Kill(); t.Failed() {
				t.Logf("the server %s printed:\n%s", n.name, n.Log())
			}
		}
	})
	return n
}

func (n *node) configure(t testing.TB, text string) {
	t.Helper()
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run starts the server, again if it was killed.
func (n *node) run(t testing.TB) {
	t.Helper()
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	if n.Process, err = proc.Run(exec.Command(exe, "--config", n.config)); err != nil {
		t.Fatal(err)
	}
}

func (n *node) stop() { n.Stop(syscall.SIGTERM) }

func (n *node) url() string { return urlAt(n.port) }

func urlAt(port int) string { return fmt.Sprint("nats://127.0.0.1:", port) }

// start returns a server that runs alone, with extra settings, and answers.
func start(t testing.TB, extra string) *node {
	t.Helper()
	n := newNode(t, "alone", extra)
	n.run(t)
	n.await(t)
	return n
}

// await waits until the server takes connections.
func (n *node) await(t testing.TB) {
	t.Helper()
	outage.Until(t, "the server answers", func() bool {
		select {
		case <-n.Ended():
			t.Fatalf("the server has ended: %s", n.Log())
		default:
		}
		nc, err := nats.Connect(n.url())
		if err != nil {
			return strings.Contains(err.Error(), "Authorization") || strings.Contains(err.Error(), "tls") || strings.Contains(err.Error(), "secure")
		}
		nc.Close()
		return true
	})
}
