package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// version returns the options of a program of that version. Version 2 stores ints in a form of its own, "n=7", and reads that of 1 by Upgrade.
func version(node string, n uint32) kvstore.Options {
	o := kvstore.Options{Node: node, MaxDelay: time.Millisecond, Lease: time.Hour, Codec: intCodec{}, Schema: n, DetectMutation: true}
	if n == 2 {
		o.Codec = namedCodec{}
		o.Upgrade = func(version uint32, stored []byte, v any) error {
			if version > 1 {
				return fmt.Errorf("asked to upgrade version %d", version)
			}
			return intCodec{}.Decode(stored, v)
		}
	}
	return o
}

type namedCodec struct{}

func (namedCodec) Append(dst []byte, v any) ([]byte, error) {
	return strconv.AppendInt(append(dst, "n="...), int64(*v.(*int)), 10), nil
}

func (namedCodec) Decode(src []byte, v any) (err error) {
	digits, ok := strings.CutPrefix(string(src), "n=")
	if !ok {
		return fmt.Errorf("%q is not of version 2", src)
	}
	*v.(*int), err = strconv.Atoi(digits)
	return err
}

// TestSchema is a rolling deploy and back: programs without a version, of version 1, and of 2, one after the other.
func TestSchema(t *testing.T) {
	ctx := t.Context()
	st := memory.New()
	for n, keys := range [][]string{{"", "a", "q"}, {"b"}, {"c"}} {
		db := openInts(t, st, version(fmt.Sprint("v", n), uint32(n)))
		s, err := db.AdoptOrCreate(ctx, "s")
		check(t, err)
		for _, k := range keys {
			check(t, s.Put(ctx, k, n))
		}
		check(t, s.Queue("q").PushBack(ctx, n))
		check(t, db.Close(ctx))
		if h, err := st.Load(ctx, "s"); err != nil || h.Header.Schema != uint32(n) {
			t.Errorf("the session is of version %d on record, %v; want %d", h.Header.Schema, err, n)
		}
		if m := db.Stats().Mutated; m != 0 {
			t.Errorf("version %d: %d values were found changed", n, m)
		}
	}
	snap, err := st.Load(ctx, "s", "a", "b", "c")
	check(t, err)
	for i, want := range []string{"0", "\xc1v\x011", "\xc1v\x02n=2"} {
		if got := string(snap.Entries[i].Value); got != want {
			t.Errorf("%q is stored as %q, want %q", snap.Entries[i].Key, got, want)
		}
	}

	for _, old := range []uint32{0, 1} { // they find out, and take nothing
		db := openInts(t, st, version("old", old))
		before, err := st.Load(ctx, "s")
		check(t, err)
		for name, ask := range map[string]func() error{
			"Adopt":         func() error { _, err := db.Adopt(ctx, "s"); return err },
			"AdoptOrCreate": func() error { _, err := db.AdoptOrCreate(ctx, "s"); return err },
			"Put":           func() error { return db.Put(ctx, "s", 9) },
			"Delete":        func() error { return db.Delete(ctx, "s") },
		} {
			var newer *kvstore.SchemaError
			if err := ask(); !errors.As(err, &newer) || *newer != (kvstore.SchemaError{Session: "s", Stored: 2, Known: old}) || !errors.Is(err, kvstore.ErrSchema) {
				t.Errorf("version %d: %s gives %v", old, name, err)
			}
		}
		if n, err := db.AdoptOrphans(ctx, kvstore.Takeover{}); err != nil || n.Adopted != 0 || n.Others != 0 {
			t.Errorf("version %d: AdoptOrphans: %+v, %v", old, n, err)
		}
		check(t, db.Close(ctx))
		after, err := st.Load(ctx, "s")
		check(t, err)
		if h := after.Header; !h.Released || h.Schema != 2 || len(after.Entries) != len(before.Entries) {
			t.Errorf("version %d leaves %+v, %d entries", old, h, len(after.Entries))
		}
	}

	db := openInts(t, st, version("new", 2))
	s, err := db.Adopt(ctx, "s")
	check(t, err)
	for k, v := range map[string]int{"": 0, "a": 0, "b": 1, "c": 2} {
		if got, err := s.Get(ctx, k); got != v || err != nil {
			t.Errorf("%q is %d, %v; want %d", k, got, err, v)
		}
	}
	if got := items(t, s.Queue("q")); len(got) != 3 || got[2] != 2 {
		t.Errorf("the queue has %v", got)
	}
	old := openInts(t, st, version("thief", 1))
	_, err = old.Steal(ctx, "s")
	want(t, err, kvstore.ErrSchema)
	check(t, s.Put(ctx, "a", 5)) // its owner has it still
	check(t, s.Sync(ctx))
	check(t, errors.Join(old.Close(ctx), db.Close(ctx)))

	o := version("back", 1)
	o.AcceptNewer, o.Codec = true, namedCodec{}
	o.Upgrade = func(_ uint32, stored []byte, v any) error { return intCodec{}.Decode(stored, v) }
	db = openInts(t, st, o)
	s, err = db.Adopt(ctx, "s")
	check(t, err)
	if v, err := s.Get(ctx, "c"); v != 2 || err != nil {
		t.Errorf("c is %d, %v", v, err)
	}
	check(t, s.Put(ctx, "d", 1))
	check(t, db.Close(ctx))
	if h, _ := st.Load(ctx, "s", "d"); h.Header.Schema != 2 || string(h.Entries[0].Value) != "\xc1v\x01n=1" {
		t.Errorf("who accepts newer leaves %+v", h) // the others' values are still of version 2
	}
}

// TestSchemaGivenBack: a session that was not to be taken is given back also if the store does not answer at first.
func TestSchemaGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		mem := memory.New()
		db := openInts(t, mem, version("new", 2))
		check(t, db.Put(ctx, "s", 1))
		check(t, db.Close(ctx))
		st := storetest.NewFaults(mem)
		st.Inject(storetest.First(5, storetest.Fault{Fail: storetest.Before}, storetest.Apply))
		old := openInts(t, st, version("old", 1))
		_, err := old.Adopt(ctx, "s")
		want(t, err, kvstore.ErrSchema)
		next := openInts(t, mem, version("next", 2))
		_, err = next.Adopt(ctx, "s")
		want(t, err, kvstore.ErrOwned)
		time.Sleep(time.Minute)
		_, err = next.Adopt(ctx, "s")
		check(t, err)
		check(t, errors.Join(old.Close(ctx), next.Close(ctx)))
	})
}

func TestUpgradeFails(t *testing.T) {
	ctx := t.Context()
	st := memory.New()
	db := openInts(t, st, version("one", 1))
	s, err := db.AdoptOrCreate(ctx, "s")
	check(t, err)
	check(t, errors.Join(s.Put(ctx, "bad", 1), s.Put(ctx, "worse", 2), s.Put(ctx, "good", 3)))
	check(t, db.Close(ctx))
	o := version("two", 2)
	o.Upgrade = func(version uint32, stored []byte, v any) error {
		switch string(stored) {
		case "1":
			return errors.New("cannot")
		case "2":
			panic("will not")
		}
		return intCodec{}.Decode(stored, v)
	}
	db = openInts(t, st, o)
	s, err = db.Adopt(ctx, "s", "bad")
	check(t, err)
	for k, says := range map[string]string{"bad": "cannot", "worse": "will not"} {
		if _, err := s.Get(ctx, k); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), `"`+k+`"`) {
			t.Errorf("%s: %v", k, err)
		}
	}
	if v, err := s.Get(ctx, "good"); v != 3 || err != nil {
		t.Errorf("good: %d, %v", v, err)
	}
	check(t, db.Close(ctx))
	if snap, err := st.Load(ctx, "s"); err != nil || len(snap.Entries) != 3 {
		t.Errorf("stored: %+v, %v", snap, err)
	}
	_, err = kvstore.Open[int](ctx, st, kvstore.Options{Upgrade: o.Upgrade})
	want(t, err, kvstore.ErrInvalid)
}

// FuzzVersion reads values that anybody may have written.
func FuzzVersion(f *testing.F) {
	f.Add([]byte("\xc1v\x017"), uint32(1))
	f.Add([]byte("\xc1v\x807"), uint32(1))
	f.Add([]byte("\xc1v"), uint32(2))
	f.Add([]byte("\xc1v\xff\xff\xff\xff\x0f9"), uint32(0))
	f.Fuzz(func(t *testing.T, value []byte, schema uint32) {
		ctx := context.Background()
		st := memory.New()
		owner := store.Owner{Node: "x", Incarnation: store.NewIncarnation()}
		_, err := st.Apply(ctx, []store.Change{{Session: "s", Owner: owner, Epoch: 1, Seq: 1, Create: true, Release: true, Puts: []store.Entry{{Key: "k", Value: value}}}})
		check(t, err)
		db := openInts(t, st, kvstore.Options{Codec: textual{}, Schema: schema})
		s, err := db.Adopt(ctx, "s")
		check(t, err)
		if _, err := s.Get(ctx, "k"); err == nil && len(value) > 1 && string(value[:2]) == "\xc1v" && schema == 0 {
			t.Errorf("%q is read by a program without a version", value)
		}
		check(t, s.Put(ctx, "k", 7))
		check(t, db.Close(ctx))
		db = openInts(t, st, kvstore.Options{Codec: textual{}, Schema: schema})
		s, err = db.Adopt(ctx, "s", "k")
		check(t, err)
		if v, err := s.Get(ctx, "k"); v != 7 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		check(t, db.Close(ctx))
	})
}

// textual is intCodec, and reads anything.
type textual struct{ intCodec }

func (textual) Decode(src []byte, v any) error {
	*v.(*int), _ = strconv.Atoi(string(src))
	return nil
}
