//go:build unix

package bolt

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
)

func init() {
	children["fill"] = fillChild
	children["make"] = makeChild
}

// fillChild writes beyond the size that its files may have, as into a disk that is full, and then less.
func fillChild() error {
	ctx := context.Background()
	s, err := Open(os.Getenv("FILE"), nil)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGXFSZ)
	lim := syscall.Rlimit{Cur: 8 << 20, Max: 8 << 20}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &lim); err != nil {
		return err
	}
	o := owner("child")
	put := func(id string, size int) error {
		_, err := s.Apply(ctx, []store.Change{{Session: id, Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{{Key: "k", Value: make([]byte, size)}}}})
		return err
	}
	for range 3 {
		if err := put("big", 10<<20); err == nil || !strings.Contains(err.Error(), os.Getenv("FILE")) {
			return errors.New("writing beyond the limit gives " + errText(err))
		}
		if err := put("small", 1000); err != nil {
			return errors.New("after a commit that failed: " + errText(err))
		}
		if err := s.Check(ctx); err != nil {
			return err
		}
	}
	if snap, err := s.Load(ctx, "big"); err != nil || snap.Header.Epoch != 0 {
		return errors.New("what failed is there: " + errText(err))
	}
	return s.Close()
}

func errText(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

// TestFullDisk is about commits that fail before anything of them is synced.
func TestFullDisk(t *testing.T) {
	path := temp(t)
	cmd := child(t, "fill", "FILE="+path)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path, &Options{Check: true})
	if snap, err := s.Load(t.Context(), "small"); err != nil || len(snap.Entries) != 1 {
		t.Errorf("what was written is %+v, %v", snap, err)
	}
}

// makeChild makes its file where there is no room even for the first pages, and again when there is.
func makeChild() error {
	signal.Ignore(syscall.SIGXFSZ)
	for lim := (syscall.Rlimit{Max: 8 << 20}); lim.Cur <= 64<<10; lim.Cur += 4 << 10 {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &lim); err != nil {
			return err
		}
		s, err := Open(os.Getenv("FILE"), nil)
		if lim.Cur == 0 && err == nil {
			return errors.New("a file was made where there is no room")
		}
		if err == nil {
			return s.Close()
		}
		if text := err.Error(); !strings.Contains(text, "file too large") {
			return errors.New("with room for some pages: " + text)
		}
	}
	return errors.New("the file cannot be made where there is room")
}

func TestMadeOnFullDisk(t *testing.T) {
	path := temp(t)
	if err := child(t, "make", "FILE="+path).Run(); err != nil {
		t.Fatal(err)
	}
	open(t, path, &Options{Check: true})
}
