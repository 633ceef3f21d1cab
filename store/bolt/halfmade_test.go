package bolt

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// TestHalfMade opens what a power cut leaves of bbolt's first write, in any of its ways.
func TestHalfMade(t *testing.T) {
	if !settles {
		t.Skip("bbolt's lock is not had in time here")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "bbolt")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(whole, firstPages(os.Getpagesize())) {
		t.Fatal("bbolt makes other first pages")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 50 {
		b := bytes.Clone(whole)
		for i := 0; i < len(b); i += 512 {
			if round == 0 || rng.IntN(2) == 0 {
				clear(b[i:][:512])
			}
		}
		if round%2 == 1 {
			b = b[:512*(1+rng.IntN(len(b)/512))]
		}
		path := filepath.Join(dir, "half")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path, &Options{Check: true})
		if err != nil {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		apply(t, s, store.Change{Session: "s", Owner: owner("a"), Epoch: 1, Seq: 1, Create: true}, store.Applied)
		s.Close()
	}
	b := bytes.Clone(whole)
	b[100] = 1
	clear(b[len(b)/2:])
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, nil); err == nil {
		t.Error("a short file with something else in it was made anew")
	}
}
