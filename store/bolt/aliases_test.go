package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
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
	if f, err := s.Find(t.Context(), store.AliasRange{}); err != nil || len(f.Aliases) > 0 || f.Next != "" {
		t.Errorf("without an index Find gives %+v, %v", f, err)
	}
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
			f, err := s.Find(t.Context(), store.AliasRange{})
			names(t, "Find", err)
			if len(f.Aliases) != 1 || f.Aliases[0].Alias != "y" || f.Aliases[0].Header.Session != "s" || f.Next != "" {
				t.Errorf("beside a damaged record Find gives %+v", f)
			}
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

// Whatever is wrong with records of the index, Find gives the others, and says of each what it is.
func TestFindBesideDamage(t *testing.T) {
	s, o := open(t, temp(t), nil), owner("a")
	apply(t, s, naming("s", o, 1, "a", "c", "f", "i"), store.Applied)
	apply(t, s, naming("t", o, 1, "e"), store.Applied)
	rewrite(t, s, func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketAliases)
		_, err := b.CreateBucket([]byte("b"))
		return errors.Join(err,
			b.Put([]byte("d"), nil),
			b.Put([]byte("g"), appendAlias(nil, []byte("g"), "none")),
			b.Put([]byte("h"), appendAlias(nil, []byte("h"), "s")),
			b.Put([]byte("h\x00"), appendAlias(nil, []byte("h"), "s")))
	})
	if err := (damager{s}).Damage("t", "", true); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{0, 1, 3} {
		var got, bad string
		for r := (store.AliasRange{Limit: limit}); ; {
			f, err := s.Find(t.Context(), r)
			for _, n := range f.Aliases {
				got += n.Alias + " of " + n.Header.Session + " "
			}
			if err != nil {
				for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
					var damaged *store.CorruptError
					if !errors.As(err, &damaged) {
						t.Fatalf("error %v is no CorruptError", err)
					}
					bad += fmt.Sprintf("%q %q %t ", damaged.Alias, damaged.Session, damaged.Header)
				}
			}
			if r.From = f.Next; f.Next == "" {
				break
			}
		}
		if want := "a of s c of s f of s i of s "; got != want {
			t.Errorf("limit %d: Find gives %s, want %s", limit, got, want)
		}
		if want := `"b" "" false "d" "" false "" "t" true "g" "" false "h" "" false "h\x00" "" false `; bad != want {
			t.Errorf("limit %d: damaged is %s, want %s", limit, bad, want)
		}
	}
	s.Close() // or the damage is found once more
}

// A page ends after so many records, though nothing of them is found: a read transaction that lasted would have the file grow.
func TestFindPage(t *testing.T) {
	s, o := open(t, temp(t), &Options{NoSync: true}), owner("a")
	var cs []store.Change
	for i := range 3*findPage - 1 {
		c := naming(fmt.Sprint("s", i), o, 1, fmt.Sprintf("%05d", i))
		c.Expires = 1 // and its owner does not live
		cs = append(cs, c)
	}
	cs = append(cs, naming("t", o, 1, "t"))
	if _, err := s.Apply(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{0, 1, 1 << 40} {
		pages := 0
		for r := (store.AliasRange{Limit: limit}); ; pages++ {
			f, err := s.Find(t.Context(), r)
			if last := f.Next == ""; err != nil || last != (pages == 2) || len(f.Aliases) > 0 != last {
				t.Fatalf("limit %d: page %d has %d aliases, the rest begins at %q, error %v", limit, pages, len(f.Aliases), f.Next, err)
			}
			if r.From = f.Next; f.Next == "" {
				break
			}
		}
	}
}

// Of pages that hide records Find says so, wherever a range begins and ends; what bbolt passes by is not absent.
func TestFindMissesNothing(t *testing.T) {
	path := temp(t)
	s := open(t, path, &Options{NoSync: true})
	name := func(i int) string { return fmt.Sprintf("name %04d", i) }
	const n = 500
	for i := range n / 10 {
		c := naming(fmt.Sprint("s", i), owner("a"), 1)
		for j := range 10 {
			c.Aliases = append(c.Aliases, name(10*i+j))
		}
		apply(t, s, c, store.Applied)
	}
	if err := errors.Join(s.Check(t.Context()), s.Close()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	leaves := 0
	for at := 0; at < len(whole); at += os.Getpagesize() {
		was := native.Uint16(whole[at+10:])
		if native.Uint16(whole[at+8:]) != pageLeaf || was < 5 || !bytes.HasPrefix(firstKey(whole[at:]), []byte("name ")) {
			continue
		}
		leaves++
		for _, left := range []uint16{0, was - 4} {
			b := bytes.Clone(whole)
			native.PutUint16(b[at+10:], left)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(path, &Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			find := func(from, to, limit int) {
				t.Helper()
				f, err := s.Find(t.Context(), store.AliasRange{From: name(from), To: name(to), Limit: limit})
				for i, a := range f.Aliases {
					if a.Alias != name(from+i) {
						t.Fatalf("a page has %d of %d records: from %d to %d Find gives %q for number %d, error %v", left, was, from, to, a.Alias, i, err)
					}
				}
				if err == nil && f.Next == "" && len(f.Aliases) < to-from {
					t.Fatalf("a page has %d of %d records: from %d to %d Find gives %d, and no error", left, was, from, to, len(f.Aliases))
				}
			}
			for i := range n {
				find(i, i+1, 0)
				find(max(i-1, 0), i+1, 2)
				find(i, n, 3)
			}
			find(0, n, 0)
			s.Close()
		}
	}
	if leaves < 3 {
		t.Errorf("there are %d pages of aliases", leaves)
	}
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

// In one transaction an alias passes from session to session: its record, which the pages from before still have, is no damage.
func TestAliasPassesWithinABatch(t *testing.T) {
	s, o := open(t, temp(t), nil), owner("a")
	apply(t, s, naming("a", o, 1, "x", "y"), store.Applied)
	rs, err := s.Apply(t.Context(), []store.Change{naming("a", o, 2, "y"), naming("b", o, 1, "x"), naming("b", o, 2), naming("c", o, 1, "x")})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range rs {
		if r.Outcome != store.Applied {
			t.Errorf("change %d: %+v", i, r)
		}
	}
	has(t, s, "x", "c")
	has(t, s, "y", "a")
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
