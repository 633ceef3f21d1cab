package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
)

// These tests damage the numbers of a page and then write what stands on it, or beside it.

// orchard makes a file of n sessions, deletes those that gone chooses, spoils pages, and opens it.
func orchard(t *testing.T, o store.Owner, n int, gone func(i int) bool, spoil func(page []byte)) *Store {
	t.Helper()
	path := temp(t)
	s, err := Open(path, &Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	var cs, deletes []store.Change
	for i := range n {
		c := store.Change{Session: fmt.Sprintf("x%03d", i), Owner: o, Epoch: 7, Seq: 1, Create: true, Puts: entries("", strings.Repeat("x", 100), "k", "v")}
		cs = append(cs, c)
		if gone != nil && gone(i) {
			c.Seq, c.Puts, c.Create, c.Delete = 2, nil, false, true
			deletes = append(deletes, c)
		}
	}
	for _, cs := range [][]store.Change{cs, deletes} {
		if _, err := s.Apply(t.Context(), cs); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Check(t.Context()), s.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for page := range slices.Chunk(b, os.Getpagesize()) {
		if kind := native.Uint16(page[8:]); kind == pageLeaf || kind == pageBranch {
			spoil(page)
		}
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(path, &Options{NoSync: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func header7(id string, o store.Owner, seq uint64) store.Change {
	return store.Change{Session: id, Owner: o, Epoch: 7, Seq: seq, Puts: entries("", "new")}
}

// TestDamageIsNotWrittenAnew has a count that lost a bit: sessions are hidden, and the page looks sound once it is rewritten.
func TestDamageIsNotWrittenAnew(t *testing.T) {
	o := owner("a")
	var first, hidden string
	s := orchard(t, o, 200, nil, func(page []byte) {
		if native.Uint16(page[8:]) != pageLeaf || !bytes.Contains(page, appendPrefix(nil, "x100")) {
			return
		}
		n := native.Uint16(page[10:])
		left := n &^ 4
		if left == n {
			left = n &^ 8
		}
		i := uint16(0)
		elements(page, func(e element) error {
			if _, id, _, entry, err := parseKey(e.key); err == nil && !entry {
				if first == "" {
					first = string(id)
				}
				if i >= left && hidden == "" {
					hidden = string(id)
				}
			}
			i++
			return nil
		})
		native.PutUint16(page[10:], left)
	})
	if err := s.Check(t.Context()); err == nil || first == "" || hidden == "" {
		t.Fatalf("Check gives %v, the first session is %q, a hidden one %q", err, first, hidden)
	}
	r := apply(t, s, header7(first, o, 2), store.Undecided)
	var corrupt *store.CorruptError
	if !errors.As(r.Err, &corrupt) || corrupt.Session != first {
		t.Errorf("a change on the damaged page is undecided with %v", r.Err)
	}
	apply(t, s, header7(hidden, o, 2), store.Undecided) // not fenced: nobody took it from its owner
	c, err := s.Claim(t.Context(), store.ClaimRequest{Session: hidden, Owner: owner("b"), Create: true})
	if err == nil {
		t.Errorf("a claim of a session that damage hides gives %+v", c)
	}
	if c, err := s.Claim(t.Context(), store.ClaimRequest{Session: hidden, Owner: owner("b")}); err == nil {
		t.Errorf("a claim of a session that damage hides gives %+v", c)
	}
	apply(t, s, header7("x000", o, 2), store.Applied)
	apply(t, s, header7("x199", o, 2), store.Applied)
	if err := s.Check(t.Context()); err == nil {
		t.Error("after changes Check finds nothing")
	}
}

// TestMergesLeaveDamageAlone deletes what lies beside a damaged page, so that bbolt would merge with it.
func TestMergesLeaveDamageAlone(t *testing.T) {
	o := owner("a")
	hit := ""
	s := orchard(t, o, 300, nil, func(page []byte) {
		n := native.Uint16(page[10:])
		if native.Uint16(page[8:]) == pageLeaf && bytes.Contains(page, appendPrefix(nil, "x100")) && n > 8 {
			native.PutUint16(page[10:], n-1)
			hit = "x100"
		}
	})
	if hit == "" {
		t.Fatal("the page was not found")
	}
	undecided := 0
	for seq := uint64(2); seq < 4; seq++ {
		for i := range 300 {
			c := store.Change{Session: fmt.Sprintf("x%03d", i), Owner: o, Epoch: 7, Seq: seq}
			if seq == 2 {
				c.Deletes = []string{"k", ""}
			} else {
				c.Delete = true
			}
			rs, err := s.Apply(t.Context(), []store.Change{c})
			if err != nil {
				t.Fatalf("Apply gives %v", err)
			}
			if rs[0].Outcome != store.Applied {
				undecided++
			}
		}
	}
	if err := s.Check(t.Context()); err == nil || undecided == 0 || undecided > 200 {
		t.Errorf("after %d of 600 changes were not applied Check gives %v", undecided, err)
	}
}

// TestRecordBecomesABucket flips the flag of one element. The changes beside it are applied, and in one commit.
func TestRecordBecomesABucket(t *testing.T) {
	for _, key := range [][]byte{appendPrefix(nil, "x100"), appendEntryKey(nil, appendPrefix(nil, "x100"), "k")} {
		o := owner("a")
		hit := 0
		s := orchard(t, o, 200, nil, func(page []byte) {
			if native.Uint16(page[8:]) != pageLeaf {
				return
			}
			i := 0
			elements(page, func(e element) error {
				if bytes.Equal(e.key, key) {
					page[pageHeader+i*elemSize] ^= 1
					hit++
				}
				i++
				return nil
			})
		})
		if hit == 0 {
			t.Fatal("the record was not found")
		}
		before := commits(t, s)
		bad := header7("x100", o, 2)
		bad.Puts = entries("k", "new")
		wiped := bad
		wiped.Wipe, wiped.Puts = true, nil
		rs, err := s.Apply(t.Context(), []store.Change{header7("x000", o, 2), header7("x099", o, 2), bad, header7("x101", o, 2), wiped})
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range rs {
			if bad := i == 2 || i == 4; bad != (r.Outcome != store.Applied) || bad != (r.Err != nil) {
				t.Errorf("result %d is %+v", i, r)
			}
		}
		if n := commits(t, s) - before; n != 1 {
			t.Errorf("Apply took %d commits", n)
		}
		_, _, entry, isEntry, _ := parseKey(key)
		err = s.Check(t.Context())
		if !names(err, store.CorruptError{Session: "x100", Key: string(entry), Header: !isEntry}) {
			t.Errorf("Check gives %v, want the record", err)
		}
	}
}

// names reports whether an error is joined of others, one of which blames the record of want.
func names(err error, want store.CorruptError) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return false
	}
	return slices.ContainsFunc(joined.Unwrap(), func(err error) bool {
		var c *store.CorruptError
		return errors.As(err, &c) && c.Session == want.Session && c.Key == want.Key && c.Header == want.Header
	})
}
