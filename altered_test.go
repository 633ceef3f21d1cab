package kvstore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
)

// An entry whose key was damaged is found under what the key has become, and is missing under its own. However a session's keys became known, that one
// is not taken for absent: who asks for it is told, and nothing is put in its place unseen.
func TestAlteredKeyIsNotAbsent(t *testing.T) {
	type session = kvstore.Session[int]
	for way, learn := range map[string]func(ctx context.Context, t *testing.T, db *kvstore.DB[int]) *session{
		"a whole preload": func(ctx context.Context, t *testing.T, db *kvstore.DB[int]) *session {
			done, err := preload(t, db, kvstore.Preload{Whole: true})
			var missing *kvstore.PreloadError
			if done.Failed != 1 || !errors.As(err, &missing) || !corrupt(missing.Missing["s"]) { // it is here, and not whole
				t.Errorf("%+v, %v", done, err)
			}
			s, err := db.Session(ctx, "s")
			check(t, err)
			return s
		},
		"all entries": func(ctx context.Context, t *testing.T, db *kvstore.DB[int]) *session {
			s, err := db.Adopt(ctx, "s")
			check(t, err)
			if _, err := s.All(ctx); !corrupt(err) {
				t.Errorf("All gives %v", err)
			}
			return s
		},
		"all keys": func(ctx context.Context, t *testing.T, db *kvstore.DB[int]) *session {
			s, err := db.Adopt(ctx, "s")
			check(t, err)
			_, err = s.Children(ctx, "")
			check(t, err)
			return s
		},
		"the keys before": func(ctx context.Context, t *testing.T, db *kvstore.DB[int]) *session {
			s, err := db.Adopt(ctx, "s")
			check(t, err)
			_, err = s.Children(ctx, "dir")
			check(t, err)
			return s
		},
	} {
		t.Run(way, func(t *testing.T) {
			ctx, path := t.Context(), filepath.Join(t.TempDir(), "db")
			st, err := bolt.Open(path, nil)
			check(t, err)
			db := openInts(t, st, brisk("a"))
			s, err := db.AdoptOrCreate(ctx, "s")
			check(t, err)
			for i, k := range []string{"", "dir/k", "dir/z", "file", "zoo"} {
				check(t, s.Put(ctx, k, i))
			}
			check(t, db.Close(ctx))
			check(t, st.Close())
			alterKey(t, path, "s", "dir/z", "dir0z") // which is not below dir any more

			st, err = bolt.Open(path, nil)
			check(t, err)
			defer st.Close()
			db = openInts(t, st, brisk("a"))
			defer db.Close(ctx)
			s = learn(ctx, t, db)
			if v, err := s.Get(ctx, "dir/z"); !corrupt(err) {
				t.Errorf("Get of it: %d, %v", v, err)
			}
			if _, err := s.Rename(ctx, "file", "dir/z"); !corrupt(err) {
				t.Errorf("Rename to it: %v", err)
			}
			if v, err := s.Get(ctx, "dir/none"); !errors.Is(err, kvstore.ErrNotFound) {
				t.Errorf("Get of what never was: %d, %v", v, err)
			}
			if v, err := s.Get(ctx, "zoo"); v != 4 || err != nil {
				t.Errorf("Get of another: %d, %v", v, err)
			}
		})
	}
}

func corrupt(err error) bool {
	var damaged *store.CorruptError
	return errors.As(err, &damaged)
}

// alterKey damages the key of an entry in a file that nobody has open.
func alterKey(t *testing.T, path, session, key, altered string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	check(t, err)
	defer db.Close()
	prefix := string(binary.AppendUvarint(nil, uint64(len(session)))) + session + "\x00"
	check(t, db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("sessions"))
		v := append([]byte(nil), b.Get([]byte(prefix+key))...)
		if len(v) == 0 {
			t.Fatalf("there is no record of %q", key)
		}
		return errors.Join(b.Delete([]byte(prefix+key)), b.Put([]byte(prefix+altered), v))
	}))
}
