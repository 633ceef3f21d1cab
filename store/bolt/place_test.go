package bolt

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
)

// TestReplacedWhileOpen takes the file's name away. Nobody would find what is written after that.
func TestReplacedWhileOpen(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file keeps its name there")
	}
	another := func(t *testing.T, path string) {
		if err := os.WriteFile(path+".new", []byte("another file"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		says string
		take func(t *testing.T, path string)
	}{
		"renamed":         {"removed or renamed", func(*testing.T, string) {}},
		"renamed over":    {"another file", another},
		"a directory now": {"another file", func(t *testing.T, path string) { os.Mkdir(path, 0o700) }},
	} {
		t.Run(name, func(t *testing.T) {
			path := temp(t)
			s := open(t, path, nil)
			o := owner("a")
			change := store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: entries("", "v")}
			apply(t, s, change, store.Applied)
			if err := os.Rename(path, path+".away"); err != nil {
				t.Fatal(err)
			}
			c.take(t, path)
			change.Seq = 2
			refused := func() {
				t.Helper()
				_, err := s.Apply(t.Context(), []store.Change{change})
				if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.says) {
					t.Fatalf("Apply gives %v, want that the file %s is %s", err, path, c.says)
				}
			}
			refused()
			before := commits(t, s)
			refused()
			if claim, err := s.Claim(t.Context(), store.ClaimRequest{Session: "new", Owner: o, Create: true}); err == nil {
				t.Errorf("Claim gives %+v", claim)
			}
			if n := commits(t, s) - before; n != 0 {
				t.Errorf("%d commits were made into a file that nobody finds", n)
			}
			if snap, err := s.Load(t.Context(), "s"); err != nil || snap.Header.Epoch != 1 {
				t.Errorf("Load gives %+v, %v", snap, err)
			}
			os.Remove(path)
			if err := os.Rename(path+".away", path); err != nil {
				t.Fatal(err)
			}
			change.Seq = 3
			apply(t, s, change, store.Applied)
		})
	}
	t.Run("for good", func(t *testing.T) {
		path := temp(t)
		s, err := Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		change := store.Change{Session: "s", Owner: owner("a"), Epoch: 1, Seq: 1, Create: true}
		apply(t, s, change, store.Applied)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		change.Seq = 2
		if rs, err := s.Apply(t.Context(), []store.Change{change}); err == nil {
			t.Errorf("Apply into a removed file gives %+v", rs)
		}
		s.Close()
		apply(t, open(t, path, nil), change, store.Applied) // a new file
	})
}

// TestReplacedByRelativePath: the name is the one that the file had at Open, whatever the working directory is now.
func TestReplacedByRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	s := open(t, "sessions.db", nil)
	t.Chdir(filepath.Dir(s.place.path) + "/..")
	apply(t, s, store.Change{Session: "s", Owner: owner("a"), Epoch: 1, Seq: 1, Create: true}, store.Applied)
}

// TestWrittenOver restores an older copy into the file that is open. Of the pages that are in use there bbolt takes some for free.
func TestWrittenOver(t *testing.T) {
	path := temp(t)
	s, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := store.Change{Session: "s", Owner: owner("a"), Epoch: 1, Create: true}
	var old []byte
	for c.Seq = 1; c.Seq < 10; c.Seq++ {
		c.Puts = entries("k", strings.Repeat("v", int(c.Seq)*100))
		apply(t, s, c, store.Applied)
		if c.Seq == 3 {
			if old, err = os.ReadFile(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(old, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.Apply(t.Context(), []store.Change{c}); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "was replaced") {
			t.Errorf("Apply gives %v", err)
		}
	}
	s.Close()
	s = open(t, path, &Options{Check: true})
	if snap, err := s.Load(t.Context(), "s"); err != nil || snap.Header.Seq != 3 {
		t.Errorf("Load gives %+v, %v; want seq 3", snap.Header, err)
	}
	c.Seq = 4
	apply(t, s, c, store.Applied)
}
