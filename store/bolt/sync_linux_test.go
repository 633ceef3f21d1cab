package bolt

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
)

// TestFailedSync has the kernel refuse an fsync: the descriptor is made one of /dev/zero, which takes every write
// and cannot be synced. The map is still the file's.
func TestFailedSync(t *testing.T) {
	path := temp(t)
	s, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	o := owner("a")
	c := store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: entries("", "before")}
	for ; c.Seq < 10; c.Seq++ { // so that there are free pages, and the file need not grow
		apply(t, s, c, store.Applied)
	}
	zero, err := os.OpenFile("/dev/zero", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	if err := syscall.Dup3(int(zero.Fd()), int(s.file.Fd()), syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	c.Puts = entries("", "after")
	for range 3 {
		_, err := s.Apply(t.Context(), []store.Change{c})
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "opened anew") {
			t.Errorf("after an fsync failed, Apply gives %v", err)
		}
		for _, by := range []store.Owner{owner("b"), o} { // what o was told before it may not be on the disk
			if c, err := s.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: by}); err == nil {
				t.Errorf("after an fsync failed, Claim by %s gives %+v", by.Node, c)
			}
		}
	}
	if snap, err := s.Load(t.Context(), "s"); err != nil || len(snap.Entries) != 1 {
		t.Errorf("after an fsync failed, Load gives %+v, %v", snap, err)
	}
	s.Close()
	s = open(t, path, &Options{Check: true})
	apply(t, s, c, store.Applied)
}
