package bolt

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/seed-6f1f505d/kvstore/store"
)

// refused opens what is no file of ours, wants an error that names the file and says what, and
// wants the file as it was.
func refused(t *testing.T, path string, says string) {
	t.Helper()
	before, berr := os.ReadFile(path)
	start := time.Now()
	s, err := Open(path, nil)
	if err == nil {
		s.Close()
		t.Fatalf("Open took it; want an error saying %q", says)
	}
	if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), says) {
		t.Errorf("Open gives %q; want it to name %s and to say %q", err, path, says)
	}
	if after, aerr := os.ReadFile(path); !bytes.Equal(before, after) || (berr == nil) != (aerr == nil) {
		t.Errorf("Open changed a file that it refused")
	}
	if d := time.Since(start); d > time.Minute {
		t.Errorf("Open took %v", d)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	made := func(name string, edit func(tx *bbolt.Tx) error, o *bbolt.Options) string {
		path := filepath.Join(dir, name)
		db, err := bbolt.Open(path, 0o600, o)
		if err == nil {
			err = errors.Join(db.Update(edit), db.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	foreign := func(tx *bbolt.Tx) error {
		for _, name := range []string{"users", "meta"} {
			b, err := tx.CreateBucket([]byte(name))
			if err != nil {
				return err
			}
			if err := b.Put([]byte("k"), []byte("v")); err != nil {
				return err
			}
		}
		return nil
	}
	version := func(v []byte) func(tx *bbolt.Tx) error {
		return func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyFormat, v) }
	}
	our := func(name string) string {
		path := filepath.Join(dir, name)
		s, err := Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		return path
	}

	t.Run("text", func(t *testing.T) { refused(t, write("text", []byte("hello, world\n")), "not a bbolt file") })
	t.Run("long text", func(t *testing.T) {
		refused(t, write("long", bytes.Repeat([]byte("hello, world\n"), 5000)), "not a bbolt file")
	})
	t.Run("zeros", func(t *testing.T) { refused(t, write("zeros", make([]byte, 64<<10)), "not a bbolt file") })
	t.Run("directory", func(t *testing.T) { refused(t, dir, "directory") })
	t.Run("under a file", func(t *testing.T) { refused(t, filepath.Join(write("file", nil), "x"), "not a directory") })
	t.Run("no directory", func(t *testing.T) { refused(t, filepath.Join(dir, "none", "x"), "no such file") })
	t.Run("device", func(t *testing.T) { refused(t, os.DevNull, "not a regular file") })
	t.Run("another program's", func(t *testing.T) { refused(t, made("foreign", foreign, nil), `"users"`) })
	t.Run("another program's without a list of free pages", func(t *testing.T) {
		// bbolt would write one when it opens such a file for writing.
		refused(t, made("unlisted", foreign, &bbolt.Options{NoFreelistSync: true}), `"users"`)
	})
	t.Run("a later version", func(t *testing.T) {
		refused(t, made(filepath.Base(our("later")), version(binary.BigEndian.AppendUint32(nil, format+1)), nil), "version is 3")
	})
	t.Run("a strange version", func(t *testing.T) {
		refused(t, made(filepath.Base(our("strange")), version([]byte("one")), nil), `version is "one"`)
	})
	t.Run("a missing bucket", func(t *testing.T) {
		refused(t, made(filepath.Base(our("bucket")), func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketGraves) }, nil), `"graves" is missing`)
	})
	t.Run("a missing bucket of this version", func(t *testing.T) {
		refused(t, made(filepath.Base(our("aliases")), func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketAliases) }, nil), `"aliases" is missing`)
	})
	for _, mode := range []os.FileMode{0, 0o400} {
		t.Run("mode "+mode.String(), func(t *testing.T) {
			if os.Geteuid() == 0 {
				t.Skip("root may read and write everything")
			}
			path := our("mode" + mode.String())
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			refused(t, path, "permission")
		})
	}
}

func TestOpenTakes(t *testing.T) {
	dir := t.TempDir()
	t.Run("an empty file", func(t *testing.T) {
		path := filepath.Join(dir, "empty")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		open(t, path, nil)
	})
	t.Run("an empty bbolt file", func(t *testing.T) {
		path := filepath.Join(dir, "bbolt")
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		db.Close()
		open(t, path, nil)
	})
	t.Run("one with another page size", func(t *testing.T) {
		path := filepath.Join(dir, "pages")
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 16 << 10})
		if err != nil {
			t.Fatal(err)
		}
		db.Close()
		s := open(t, path, &Options{Check: true})
		apply(t, s, store.Change{Session: "s", Owner: owner("a"), Epoch: 1, Seq: 1, Create: true, Puts: entries("", "v")}, store.Applied)
	})
	t.Run("its mode", func(t *testing.T) {
		path := filepath.Join(dir, "mode")
		open(t, path, &Options{FileMode: 0o640})
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o137 != 0 {
			t.Errorf("mode is %v, %v", info.Mode(), err)
		}
	})
}

// TestFileMode: what is in a file is nobody else's business, unless the options say so.
func TestFileMode(t *testing.T) {
	for _, c := range []struct {
		o    *Options
		want os.FileMode
	}{{nil, 0o600}, {&Options{FileMode: 0o660}, 0o660}} {
		path := temp(t)
		open(t, path, c.o)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&^c.want != 0 {
			t.Errorf("%+v: mode %v, %v; want at most %v", c.o, info.Mode(), err, c.want)
		}
	}
}

func TestOptions(t *testing.T) {
	if _, err := Open("", nil); err == nil || !strings.Contains(err.Error(), "path is empty") {
		t.Errorf("without a path Open gives %v", err)
	}
	for field, o := range map[string]*Options{
		"LockTimeout":        {LockTimeout: -1},
		"FileMode":           {FileMode: os.ModeDir},
		"TombstoneRetention": {TombstoneRetention: -1},
	} {
		if _, err := Open(temp(t), o); err == nil || !strings.Contains(err.Error(), "Options."+field) {
			t.Errorf("a wrong %s gives %v", field, err)
		}
	}
}

// holdChild holds a file until its stdin ends.
func holdChild() error {
	s, err := Open(os.Getenv("FILE"), nil)
	if err != nil {
		return err
	}
	os.Stdout.WriteString("open\n")
	bufio.NewReader(os.Stdin).ReadByte()
	return s.Close()
}

func TestLocked(t *testing.T) {
	path := temp(t)
	cmd := child(t, "hold", "FILE="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	_, err = Open(path, &Options{LockTimeout: 100 * time.Millisecond})
	if !errors.Is(err, ErrLocked) || !errors.Is(err, berrors.ErrTimeout) || !strings.Contains(err.Error(), path) {
		t.Errorf("while another process has the file, Open gives %v", err)
	}
	// A Close of the other within the time-out is enough.
	done := make(chan error)
	go func() {
		s, err := Open(path, &Options{LockTimeout: time.Minute})
		if err == nil {
			err = s.Close()
		}
		done <- err
	}()
	in.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	// The same process cannot have it twice, either.
	open(t, path, nil)
	if _, err := Open(path, &Options{LockTimeout: time.Millisecond}); !errors.Is(err, ErrLocked) {
		t.Errorf("a file that is open is opened with error %v", err)
	}
}
