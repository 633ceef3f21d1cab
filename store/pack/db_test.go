package pack_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
	"github.com/seed-6f1f505d/kvstore/store/pack"
)

type call struct {
	From, To string
	Notes    string
}

// file is a DB on a file, with the store between them, if there is one.
type file struct {
	*kvstore.DB[call]
	st store.Store
}

func open(t *testing.T, path string, o *pack.Options) file {
	t.Helper()
	var st store.Store
	st, err := bolt.Open(path, &bolt.Options{NoSync: true, Check: true})
	if err != nil {
		t.Fatal(err)
	}
	if o != nil {
		if st, err = pack.New(st, *o); err != nil {
			t.Fatal(err)
		}
	}
	db, err := kvstore.Open[call](t.Context(), st, kvstore.Options{Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	return file{db, st}
}

func (f file) close(t *testing.T) {
	t.Helper()
	if err := errors.Join(f.Close(context.Background()), f.st.Close()); err != nil {
		t.Fatal(err)
	}
}

const text = "the customer asked for a call back in the morning; "

func callOf(i int) call {
	return call{From: fmt.Sprint("alice-", i), To: "bob", Notes: strings.Repeat(text, i%20)}
}

func (f file) put(t *testing.T, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		s, err := f.AdoptOrCreate(t.Context(), fmt.Sprint("call-", i))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Update(t.Context(), func(tx *kvstore.Tx[call]) error {
			if err := tx.Put("", callOf(i)); err != nil {
				return err
			}
			return tx.Put("leg/1", callOf(i+7))
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func (f file) want(t *testing.T, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		s, err := f.Adopt(t.Context(), fmt.Sprint("call-", i))
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]call{"": callOf(i), "leg/1": callOf(i + 7)} {
			if got, err := s.Get(t.Context(), key); err != nil || got != want {
				t.Errorf("call-%d, %q: %+v, %v; want %+v", i, key, got, err, want)
			}
		}
	}
}

// A file is used without the package, with it, with a dictionary made of it, and, when it has no packed values any more, without it again.
func TestDB(t *testing.T) {
	path := filepath.Join(t.TempDir(), "calls.db")
	f := open(t, path, nil)
	f.put(t, 0, 100)
	f.close(t)

	f = open(t, path, &pack.Options{})
	f.want(t, 0, 100)
	f.put(t, 50, 200)
	f.close(t)
	if raw, err := os.ReadFile(path); err != nil || strings.Count(string(raw), text+text) == 0 {
		t.Errorf("the test's premise: values that are not packed are in the file: %v", err)
	}

	f = open(t, path, &pack.Options{})
	f.want(t, 0, 200)
	samples, err := pack.Sample(t.Context(), f.st, 300)
	if err != nil {
		t.Fatal(err)
	}
	dictionary, err := pack.Train(samples)
	if err != nil {
		t.Fatal(err)
	}
	f.close(t)

	f = open(t, path, &pack.Options{Dictionaries: [][]byte{dictionary}})
	f.want(t, 0, 200)
	f.put(t, 150, 300)
	f.close(t)

	f = open(t, path, &pack.Options{Dictionaries: [][]byte{dictionary}, MinSize: -1})
	f.want(t, 0, 300)
	f.put(t, 0, 300)
	f.close(t)

	f = open(t, path, nil)
	f.want(t, 0, 300)
	f.close(t)
}

// Without the package a packed value is not another value, but an error.
func TestWithoutPack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "calls.db")
	f := open(t, path, &pack.Options{})
	f.put(t, 19, 20)
	f.close(t)
	if raw, err := os.ReadFile(path); err != nil || strings.Contains(string(raw), text+text) {
		t.Errorf("the file has the text as it was: %v", err)
	}
	f = open(t, path, nil)
	s, err := f.Adopt(t.Context(), "call-19")
	if err == nil {
		var got call
		got, err = s.Get(t.Context(), "")
		if err == nil {
			t.Errorf("read %+v", got)
		}
	}
	t.Log(err)
	f.close(t)
	f = open(t, path, &pack.Options{})
	f.want(t, 19, 20)
	f.close(t)
}
