package seal_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
	"github.com/seed-6f1f505d/kvstore/store/seal"
)

type call struct {
	Caller string
	Hops   []string
}

// A DB on a sealed file: all comes back after it was closed, also with a new key, and nothing of it can be read in the file.
func TestDB(t *testing.T) {
	path := filepath.Join(t.TempDir(), "calls.db")
	var file *bolt.Store
	open := func(o seal.Options) *kvstore.DB[call] {
		t.Helper()
		var err error
		if file, err = bolt.Open(path, &bolt.Options{NoSync: true}); err != nil {
			t.Fatal(err)
		}
		db, err := kvstore.Open[call](t.Context(), sealed(t, file, o), kvstore.Options{Node: "node-a", MaxDelay: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	shut := func(db *kvstore.DB[call]) {
		t.Helper()
		if err := db.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	const sessions = 50
	id := func(i int) string { return fmt.Sprint("secret-session-", i) }
	want := func(i int, hop string) call {
		return call{fmt.Sprint("secret-caller-", i), []string{hop, "secret-hop-2"}}
	}
	for name, o := range rings {
		os.Remove(path)
		db := open(with(o, one))
		for i := range sessions {
			s, err := db.AdoptOrCreate(t.Context(), id(i))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Update(t.Context(), func(tx *kvstore.Tx[call]) error {
				if err := tx.Put("", want(i, "secret-hop-main")); err != nil {
					return err
				}
				return tx.Put("secret-key/leg", want(i, "secret-hop-leg"))
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		shut(db)

		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		hidden := []string{"secret-caller", "secret-hop"}
		if o.NameKey != nil {
			hidden = append(hidden, "secret-session", "secret-key", "secret")
		} else if !bytes.Contains(raw, []byte("secret-session")) {
			t.Error("the file is not the one with the sessions")
		}
		for _, s := range hidden {
			if bytes.Contains(raw, []byte(s)) {
				t.Errorf("%s: the file has %q in clear", name, s)
			}
		}
		if !bytes.Contains(raw, []byte("node-a")) {
			t.Error("the node's name is not in clear, as is documented")
		}

		db = open(with(o, one, two))
		for i := range sessions {
			s, err := db.Adopt(t.Context(), id(i))
			if err != nil {
				t.Fatal(err)
			}
			for key, hop := range map[string]string{"": "secret-hop-main", "secret-key/leg": "secret-hop-leg"} {
				if got, err := s.Get(t.Context(), key); err != nil || fmt.Sprint(got) != fmt.Sprint(want(i, hop)) {
					t.Errorf("%s: session %d, key %q is %+v, %v", name, i, key, got, err)
				}
			}
		}
		shut(db)
	}
}
