package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

func TestRaceAliases(t *testing.T) {
	storetest.RaceAliases(t, open(t, temp(t), &Options{NoSync: true}), 10)
}

// rewrite changes what is in the file of a store.
func rewrite(t *testing.T, s *Store, f func(tx *bbolt.Tx) error) {
	t.Helper()
	s.txid = 0
	if err := s.db.Update(f); err != nil {
		t.Fatal(err)
	}
}

func formatOf(t *testing.T, s *Store) (version string, indexed bool) {
	t.Helper()
	err := s.db.View(func(tx *bbolt.Tx) error {
		version, indexed = formatName(string(tx.Bucket(bucketMeta).Get(keyFormat))), tx.Bucket(bucketAliases) != nil
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return version, indexed
}

func naming(id string, o store.Owner, seq uint64, aliases ...string) store.Change {
	return store.Change{Session: id, Owner: o, Epoch: 1, Seq: seq, Create: seq == 1, Aliases: aliases, Puts: entries("k", "v")}
}

func has(t *testing.T, s *Store, alias, session string) {
	t.Helper()
	if h, err := s.Lookup(t.Context(), alias); err != nil || h.Session != session {
		t.Errorf("alias %q is that of %+v, %v; want session %q", alias, h, err, session)
	}
}

// A file from before there were aliases opens, is used as it is, and gets the index with the first change that names one. What
// headers happen to list there is a session's own from its next change on.
func TestFormatBefore(t *testing.T) {
	path, o := temp(t), owner("a")
	s := open(t, path, nil)
	apply(t, s, naming("a", o, 1, "x", "y"), store.Applied)
	apply(t, s, naming("b", o, 1, "z"), store.Applied)
	rewrite(t, s, func(tx *bbolt.Tx) error {
		return errors.Join(tx.DeleteBucket(bucketAliases), tx.Bucket(bucketMeta).Put(keyFormat, formatValue(formatBefore)))
	})
	is := func(version string) {
		t.Helper()
		s.Close()
		s = open(t, path, &Options{Check: version == "1"})
		if got, indexed := formatOf(t, s); got != version || indexed != (version == "2") {
			t.Fatalf("the format is %s, aliases are indexed: %t; want %s", got, indexed, version)
		}
	}
	is("1")
	has(t, s, "x", "")
	apply(t, s, naming("s", o, 1), store.Applied)
	apply(t, s, naming("a", o, 2), store.Applied) // leaves aliases out
	if c, err := s.Claim(t.Context(), store.ClaimRequest{Session: "b", Owner: owner("b")}); err != nil || c.Outcome != store.Granted {
		t.Errorf("a claim gives %+v, %v", c, err)
	}
	is("1")
	rs, err := s.Apply(t.Context(), []store.Change{naming("a", o, 3, "x"), naming("s", o, 2, "x", "y"), naming("t", o, 1, "y")})
	if err != nil || rs[0].Outcome != store.Applied || rs[1].Outcome != store.Rejected || rs[2].Outcome != store.Applied {
		t.Fatalf("in the transaction that makes the index: %+v, %v", rs, err)
	}
	is("2")
	has(t, s, "x", "a")
	has(t, s, "y", "t")
	has(t, s, "z", "")
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), `"z"`) {
		t.Errorf("of an alias that only a header from before has, Check says: %v", err)
	}
	older := naming("b", o, 1, "z")
	older.Epoch, older.Owner = 2, owner("c")
	if c, err := s.Claim(t.Context(), store.ClaimRequest{Session: "b", Owner: older.Owner, Force: true}); err != nil || c.Header.Epoch != 3 {
		t.Fatalf("a claim gives %+v, %v", c, err)
	}
	older.Epoch, older.Create = 3, false
	apply(t, s, older, store.Applied)
	has(t, s, "z", "b")
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("after that change: %v", err)
	}
}

// Changes that nobody's alias is in leave a file of format 1 as it is, deletions and repetitions included.
func TestFormatBeforeStays(t *testing.T) {
	s, o := open(t, temp(t), nil), owner("a")
	rewrite(t, s, func(tx *bbolt.Tx) error {
		return errors.Join(tx.DeleteBucket(bucketAliases), tx.Bucket(bucketMeta).Put(keyFormat, formatValue(formatBefore)))
	})
	for seq := range uint64(5) {
		c := naming("s", o, seq+1)
		if c.Delete = seq == 4; c.Delete {
			c.Puts = nil
			c.Aliases = []string{"x"}
		}
		apply(t, s, c, store.Applied)
	}
	if version, indexed := formatOf(t, s); version != "1" || indexed {
		t.Errorf("the format is %s, aliases are indexed: %t", version, indexed)
	}
}

// An index that is missing where the format has one is damage, and no alias is free for it.
func TestIndexMissing(t *testing.T) {
	s, o := open(t, temp(t), nil), owner("a")
	apply(t, s, naming("s", o, 1, "x"), store.Applied)
	rewrite(t, s, func(tx *bbolt.Tx) error { return tx.DeleteBucket(bucketAliases) })
	rs, err := s.Apply(t.Context(), []store.Change{naming("t", o, 1, "x")})
	if err == nil && rs[0].Outcome == store.Applied {
		t.Error("the alias is given to another")
	}
	if h, err := s.Lookup(t.Context(), "x"); err == nil {
		t.Errorf("Lookup gives %+v", h)
	}
	if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "aliases") {
		t.Errorf("Check gives %v", err)
	}
	s.Close() // or the damage is found once more
}

// A damaged record of the index names its alias, is nobody's to take, and is written anew by the session whose it is.
func TestAliasDamaged(t *testing.T) {
	spoil := func(t *testing.T, s *Store) {
		rewrite(t, s, func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketAliases)
			v := bytes.Clone(b.Get([]byte("x")))
			v[0] ^= 1
			return b.Put([]byte("x"), v)
		})
	}
	names := func(t *testing.T, what string, err error) {
		t.Helper()
		var damaged *store.CorruptError
		if !errors.As(err, &damaged) || damaged.Alias != "x" || !strings.Contains(err.Error(), `"x"`) {
			t.Errorf("%s gives %v, want a CorruptError of the alias", what, err)
		}
	}
	for what, next := range map[string]func(t *testing.T, s *Store, o store.Owner){
		"named again": func(t *testing.T, s *Store, o store.Owner) {
			apply(t, s, naming("s", o, 2, "x", "y"), store.Applied)
			has(t, s, "x", "s")
		},
		"left out": func(t *testing.T, s *Store, o store.Owner) {
			apply(t, s, naming("s", o, 2, "y"), store.Applied)
			has(t, s, "x", "")
			apply(t, s, naming("t", o, 1, "x"), store.Applied)
		},
		"deleted": func(t *testing.T, s *Store, o store.Owner) {
			apply(t, s, store.Change{Session: "s", Owner: o, Epoch: 1, Seq: 2, Delete: true}, store.Applied)
			apply(t, s, naming("t", o, 1, "x"), store.Applied)
		},
	} {
		t.Run(what, func(t *testing.T) {
			s, o := open(t, temp(t), nil), owner("a")
			apply(t, s, naming("s", o, 1, "x", "y"), store.Applied)
			spoil(t, s)
			_, err := s.Lookup(t.Context(), "x")
			names(t, "Lookup", err)
			names(t, "Check", s.Check(t.Context()))
			rs, err := s.Apply(t.Context(), []store.Change{naming("t", o, 1, "z", "x"), naming("u", o, 1, "u")})
			if err != nil || rs[0].Outcome != store.Rejected || rs[1].Outcome != store.Applied {
				t.Fatalf("another session's change: %+v, %v", rs, err)
			}
			names(t, "another session's change", rs[0].Err)
			has(t, s, "z", "")
			has(t, s, "y", "s")
			next(t, s, o)
			if err := s.Check(t.Context()); err != nil {
				t.Errorf("after that: %v", err)
			}
		})
	}
}

// Who has an alias, with a header that is damaged, keeps it.
func TestHolderDamaged(t *testing.T) {
	s, o := open(t, temp(t), nil), owner("a")
	apply(t, s, naming("s", o, 1, "x"), store.Applied)
	if err := (damager{s}).Damage("s", "", true); err != nil {
		t.Fatal(err)
	}
	rs, err := s.Apply(t.Context(), []store.Change{naming("t", o, 1, "x"), naming("u", o, 1, "u")})
	var damaged *store.CorruptError
	if err != nil || rs[0].Outcome != store.Rejected || !errors.As(rs[0].Err, &damaged) || damaged.Session != "s" || rs[1].Outcome != store.Applied {
		t.Errorf("another session's change: %+v, %v", rs, err)
	}
	if _, err := s.Lookup(t.Context(), "x"); !errors.As(err, &damaged) || damaged.Session != "s" {
		t.Errorf("Lookup gives %v", err)
	}
	s.Close() // or the damage is found once more
}

// Check finds where headers and the index disagree.
func TestAliasesDisagree(t *testing.T) {
	for what, f := range map[string]func(b *bbolt.Bucket) error{
		"none has it":     func(b *bbolt.Bucket) error { return b.Delete([]byte("x")) },
		"another has it":  func(b *bbolt.Bucket) error { return b.Put([]byte("x"), appendAlias(nil, []byte("x"), "t")) },
		"none is there":   func(b *bbolt.Bucket) error { return b.Put([]byte("w"), appendAlias(nil, []byte("w"), "none")) },
		"one not listed":  func(b *bbolt.Bucket) error { return b.Put([]byte("w"), appendAlias(nil, []byte("w"), "s")) },
		"a bucket inside": func(b *bbolt.Bucket) error { _, err := b.CreateBucket([]byte("w")); return err },
	} {
		t.Run(what, func(t *testing.T) {
			s, o := open(t, temp(t), nil), owner("a")
			apply(t, s, naming("s", o, 1, "x"), store.Applied)
			apply(t, s, naming("t", o, 1, "y"), store.Applied)
			if err := s.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			rewrite(t, s, func(tx *bbolt.Tx) error { return f(tx.Bucket(bucketAliases)) })
			if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "alias") {
				t.Errorf("Check gives %v", err)
			}
			for _, a := range []string{"w", "x"} {
				if h, err := s.Lookup(t.Context(), a); err == nil && h.Session == "t" {
					t.Errorf("alias %s is that of %+v", a, h)
				}
			}
			s.Close() // or it is found once more
		})
	}
}

// An index of many pages is read and changed as one of few.
func TestManyAliases(t *testing.T) {
	s, o := open(t, temp(t), &Options{NoSync: true}), owner("a")
	alias := func(i, n int) string { return fmt.Sprintf("%0*d.%d", 100+i%300, n, i) }
	seqs := map[int]uint64{}
	for round := range 6 {
		var cs []store.Change
		for i := range 300 {
			seqs[i]++
			c := naming(fmt.Sprint("s", i), o, seqs[i])
			for n := range (i + round) % 8 {
				c.Aliases = append(c.Aliases, alias(i, n))
			}
			cs = append(cs, c)
		}
		rs, err := s.Apply(t.Context(), cs)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range rs {
			if r.Outcome != store.Applied {
				t.Fatalf("change %d: %+v", i, r)
			}
			for n := range 8 {
				want := fmt.Sprint("s", i)
				if n >= (i+round)%8 {
					want = ""
				}
				has(t, s, alias(i, n), want)
			}
		}
		if err := s.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
