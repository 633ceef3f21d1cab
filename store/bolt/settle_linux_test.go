//go:build amd64 || arm64

package bolt

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
)

func init() { children["look"] = lookChild }

// lookChild opens its file, says what it finds, and ends without closing it.
func lookChild() error {
	s, err := Open(os.Getenv("FILE"), nil)
	if err != nil {
		return err
	}
	snap, err := s.Load(context.Background(), "s")
	fmt.Println(snap.Header.Seq)
	return err
}

// TestOpenAsksTheDisk opens a file of whose last change the disk knows nothing. What a store builds on must be on the disk.
func TestOpenAsksTheDisk(t *testing.T) {
	needTraps(t)
	for _, c := range []struct {
		name  string
		left  func(d *disk, memory []byte)
		finds string
	}{
		{"after a kill", func(d *disk, memory []byte) {
			for n := int64(0); n*diskPage < int64(len(memory)); n++ {
				if page := memory[n*diskPage:][:diskPage]; n*diskPage >= int64(len(d.durable)) || !bytes.Equal(page, d.durable[n*diskPage:][:diskPage]) {
					d.dirty[n] = [][]byte{page}
				}
			}
			d.sizes = []int64{int64(len(memory))}
		}, "2\n"},
		{"after a sync that failed", func(*disk, []byte) {}, "1\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			d := newDisk(filepath.Join(dir, "sessions.db"))
			change := store.Change{Session: "s", Owner: owner("a"), Epoch: 1, Create: true}
			var versions [][]byte
			for change.Seq = 1; change.Seq <= 2; change.Seq++ {
				s, err := Open(d.path, nil)
				if err != nil {
					t.Fatal(err)
				}
				apply(t, s, change, store.Applied)
				s.Close()
				b, err := os.ReadFile(d.path)
				if err != nil {
					t.Fatal(err)
				}
				versions = append(versions, b)
			}
			d.durable = bytes.Clone(versions[0])
			c.left(d, versions[1])
			p := &stead{t: t, disk: d}
			child, err := startTrapped(child(t, "look", "FILE="+d.path))
			if err != nil {
				t.Fatal(err)
			}
			defer child.kill()
			for event := trapCall; event != trapDead; {
				var call trapped
				if event, call, err = child.next(); err != nil {
					t.Fatal(err)
				}
				if event != trapCall {
					continue
				}
				a := answer{pass: true}
				if ours, _ := p.concerns(child, call); ours {
					a = p.do(child, call, false)
				}
				if err := child.answer(call, a); err != nil {
					t.Fatal(err)
				}
			}
			memory, err := os.ReadFile(d.path)
			if err != nil {
				t.Fatal(err)
			}
			if string(child.said) != c.finds {
				t.Errorf("Open finds seq %q, want %q", child.said, c.finds)
			}
			if len(d.dirty) > 0 || !bytes.Equal(memory, d.durable) {
				t.Error("what is read is not what the disk has")
			}
			if !d.named {
				t.Error("the file's name is not on the disk")
			}
		})
	}
}
