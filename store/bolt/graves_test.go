package bolt

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// counts returns the numbers of records.
func counts(t *testing.T, s *Store) (sessions, graves int) {
	t.Helper()
	err := s.db.View(func(tx *bbolt.Tx) error {
		count := func(n *int) func(k, v []byte) error {
			return func(k, v []byte) error { *n++; return nil }
		}
		if err := tx.Bucket(bucketSessions).ForEach(count(&sessions)); err != nil {
			return err
		}
		return tx.Bucket(bucketGraves).ForEach(count(&graves))
	})
	if err != nil {
		t.Fatal(err)
	}
	return sessions, graves
}

func TestTombstonesAreCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := temp(t)
		s := open(t, path, &Options{NoSync: true})
		o := owner("a")
		const n = 3*maxCollect + 5
		var create, remove []store.Change
		for i := range n {
			c := store.Change{Session: fmt.Sprint("s", i), Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: entries("", "v", "k", "v")}
			create = append(create, c)
			c.Seq, c.Puts, c.Create, c.Delete = 2, nil, false, true
			remove = append(remove, c)
		}
		all := func(cs []store.Change) {
			rs, err := s.Apply(t.Context(), cs)
			for _, r := range rs {
				if r.Outcome != store.Applied {
					t.Fatalf("%+v", r)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		all(create)
		all(remove)
		tick := uint64(0)
		write := func() (sessions, graves int) {
			tick++
			apply(t, s, store.Change{Session: "tick", Owner: o, Epoch: 1, Seq: tick, Create: true}, store.Applied)
			if err := s.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			return counts(t, s)
		}
		const week = 7 * 24 * time.Hour
		time.Sleep(week - time.Minute)
		if sessions, graves := write(); sessions != n+1 || graves != n {
			t.Fatalf("before their time there are %d records and %d graves, want %d and %d", sessions, graves, n+1, n)
		}
		// Two get a new life, one of them dies again: the times of their first deaths are not theirs any more.
		apply(t, s, store.Change{Session: "s0", Owner: o, Epoch: 2, Seq: 1, Create: true, Puts: entries("k", "new")}, store.Applied)
		c, err := s.Claim(t.Context(), store.ClaimRequest{Session: "s1", Owner: o, Create: true})
		if err != nil || !c.Created || c.Header.Epoch != 2 {
			t.Fatalf("a claim over a tombstone gives %+v, %v", c, err)
		}
		apply(t, s, store.Change{Session: "s1", Owner: o, Epoch: 2, Seq: 1, Delete: true}, store.Applied)
		s.Close()
		s = open(t, path, &Options{NoSync: true})
		time.Sleep(time.Minute)
		for left := n - 2; left > 0; {
			left = max(0, left-maxCollect)
			// "tick", "s0" with its entry, and the tombstone of "s1".
			if sessions, graves := write(); sessions != left+4 || graves != left+1 {
				t.Fatalf("there are %d records and %d graves, want %d and %d", sessions, graves, left+4, left+1)
			}
		}
		if snap, err := s.Load(t.Context(), "s0"); err != nil || len(snap.Entries) != 1 {
			t.Errorf("a new life was collected with the old one: %+v, %v", snap, err)
		}
		if snap, err := s.Load(t.Context(), "s1"); err != nil || !snap.Header.Deleted || snap.Header.Epoch != 2 {
			t.Errorf("a tombstone was collected before its time: %+v, %v", snap, err)
		}
		// What is absent fences as well.
		apply(t, s, store.Change{Session: "s2", Owner: o, Epoch: 1, Seq: 3}, store.Fenced)
		time.Sleep(week)
		if sessions, graves := write(); sessions != 3 || graves != 0 {
			t.Errorf("at the end there are %d records and %d graves, want 3 and 0", sessions, graves)
		}
	})
}

// TestRetention is about Options.TombstoneRetention, and about tombstones made over tombstones.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, temp(t), &Options{TombstoneRetention: time.Hour})
		o := owner("a")
		for seq := range uint64(3) {
			apply(t, s, store.Change{Session: "s", Owner: o, Epoch: 1, Seq: seq + 1, Create: true, Delete: true}, store.Applied)
			time.Sleep(40 * time.Minute)
			if _, graves := counts(t, s); graves != 1 {
				t.Errorf("one tombstone has %d graves", graves)
			}
		}
		time.Sleep(20 * time.Minute)
		apply(t, s, store.Change{Session: "tick", Owner: o, Epoch: 1, Seq: 1, Create: true}, store.Applied)
		if sessions, graves := counts(t, s); sessions != 1 || graves != 0 {
			t.Errorf("an hour after the last of them there are %d records and %d graves", sessions, graves)
		}
	})
}

// TestDamageStopsCollectionOnly has tombstones that are due beside a page that is damaged, and an index of them that is.
func TestDamageStopsCollectionOnly(t *testing.T) {
	o := owner("a")
	middle := func(i int) bool { return i >= 60 && i < 450 } // leaves that hold tombstones only
	for what, spoil := range map[string]func(page []byte){
		"a leaf beside them": func(page []byte) {
			if native.Uint16(page[8:]) == pageLeaf && bytes.Contains(page, appendEntryKey(nil, appendPrefix(nil, "x059"), "k")) {
				page[8] = 0
			}
		},
		"a leaf of them": func(page []byte) {
			if native.Uint16(page[8:]) == pageLeaf && bytes.Contains(page, appendPrefix(nil, "x100")) {
				native.PutUint16(page[10:], native.Uint16(page[10:])-1)
			}
		},
		"the index's first leaf": leafOfIndex("x061"),
		"the index's last leaf":  leafOfIndex("x449"), // it is not read, but merged with, when Commit runs
		"records of the index":   bucketsInIndex,
	} {
		t.Run(what, func(t *testing.T) {
			s := orchard(t, o, 500, middle, spoil)
			s.opt.TombstoneRetention = time.Nanosecond
			for seq := uint64(2); seq < 8; seq++ {
				rs, err := s.Apply(t.Context(), []store.Change{header7("x000", o, seq), header7("x499", o, seq)})
				if err != nil || rs[0].Outcome != store.Applied || rs[1].Outcome != store.Applied {
					t.Fatalf("changes on sound pages give %+v, %v", rs, err)
				}
			}
			if err := s.Check(t.Context()); err == nil {
				t.Error("Check finds nothing")
			}
		})
	}
}

// Check tells of each record of the index that has become a bucket, though what it holds is sound.
func TestCheckSeesBucketInIndex(t *testing.T) {
	s := orchard(t, owner("a"), 500, func(i int) bool { return i >= 60 && i < 450 }, bucketsInIndex)
	if err := s.Check(t.Context()); err == nil || strings.Count(err.Error(), "it has become a bucket") != 10 {
		t.Errorf("Check gives %v; want ten records that have become buckets", err)
	}
}

// bucketsInIndex makes buckets of the records of x060 to x069.
func bucketsInIndex(page []byte) {
	i := 0
	elements(page, func(e element) error {
		if len(e.value) == sumSize && bytes.Contains(e.key, []byte("x06")) {
			native.PutUint32(page[pageHeader+i*elemSize:], 1)
		}
		i++
		return nil
	})
}

// leafOfIndex spoils the leaf that has a session's grave.
func leafOfIndex(session string) func(page []byte) {
	return func(page []byte) {
		elements(page, func(e element) error {
			if len(e.value) == sumSize && bytes.HasSuffix(e.key, []byte(session)) { // no other record is that short
				page[8] = 0
			}
			return nil
		})
	}
}
