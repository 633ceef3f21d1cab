//go:build race

package etcd

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// Under the race detector a server takes many times as long, and that it has no races is not what is tested: so servers are built without.
var server = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kvstore-etcd")
	if err != nil {
		return "", err
	}
	atExit = func() { os.RemoveAll(dir) }
	exe := filepath.Join(dir, "server.test")
	cmd := exec.Command("go", "test", "-c", "-o", exe, ".")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return os.Executable() // as slow as that is
	}
	return exe, nil
})
