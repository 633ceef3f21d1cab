package bolt

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// These tests are about limit: whatever was accepted, the file can always grow by what its pages need to be
// written anew.

// told counts what a logger is told.
type told struct {
	slog.Handler
	n *int
}

func (c told) Enabled(context.Context, slog.Level) bool  { return true }
func (c told) Handle(context.Context, slog.Record) error { *c.n++; return nil }
func (c told) WithAttrs([]slog.Attr) slog.Handler        { return c }
func counting() (o *Options, n *int) {
	n = new(int)
	return &Options{NoSync: true, Logger: slog.New(told{n: n})}, n
}

// values returns entries of n bytes each.
func values(n int, keys ...string) (es []store.Entry) {
	for _, k := range keys {
		es = append(es, store.Entry{Key: k, Value: bytes.Repeat([]byte(k), n)})
	}
	return es
}

func TestLargeValuesStayWritable(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("hundreds of MiB")
	}
	for _, size := range []int{20 << 20, maxValue} {
		t.Run(fmt.Sprint(size>>20, " MiB"), func(t *testing.T) {
			o, damage := counting()
			s := open(t, temp(t), o)
			a, b := owner("a"), owner("b")
			apply(t, s, store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 1, Create: true, Puts: values(size, "a", "b", "c")}, store.Applied)
			apply(t, s, store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 2, Puts: entries("", "small")}, store.Applied)
			apply(t, s, store.Change{Session: "r", Owner: a, Epoch: 1, Seq: 1, Create: true}, store.Applied)
			apply(t, s, store.Change{Session: "r", Owner: a, Epoch: 1, Seq: 2, Delete: true}, store.Applied)
			c, err := s.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: b})
			if err != nil || c.Outcome != store.Granted {
				t.Errorf("Claim gives %v, %v", c.Outcome, err)
			}
			apply(t, s, store.Change{Session: "s", Owner: b, Epoch: 2, Seq: 1, Wipe: true, Puts: entries("", "small")}, store.Applied)
			if *damage > 0 {
				t.Errorf("the logger was told of damage %d times", *damage)
			}
		})
	}
}

// TestManyLargeLeavesInACommit rewrites leaves that hold several values of the size that every store must accept.
func TestManyLargeLeavesInACommit(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("hundreds of MiB")
	}
	o, damage := counting()
	s := open(t, temp(t), o)
	a := owner("a")
	var large, small []store.Change
	for i := range 250 {
		c := store.Change{Session: fmt.Sprintf("s%03d", i), Owner: a, Epoch: 1, Seq: 1, Create: true, Puts: values(store.MinValue, "a", "b", "c")}
		large = append(large, c)
		c.Seq, c.Puts = 2, entries("", "small")
		small = append(small, c)
	}
	if _, err := s.Apply(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	before := commits(t, s)
	rs, err := s.Apply(t.Context(), small)
	if err != nil || rs[0].Outcome != store.Applied {
		t.Fatalf("Apply gives %+v, %v", rs, err)
	}
	if n := commits(t, s) - before; n != 1 || *damage > 0 {
		t.Errorf("one Apply took %d commits, and the logger was told of damage %d times", n, *damage)
	}
}

// TestTombstoneBesideLargeValues collects one whose removal merges pages that are large.
func TestTombstoneBesideLargeValues(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("hundreds of MiB")
	}
	synctest.Test(t, func(t *testing.T) {
		o, damage := counting()
		o.TombstoneRetention = time.Hour
		s := open(t, temp(t), o)
		a := owner("a")
		var cs []store.Change
		for i := range 100 {
			cs = append(cs, store.Change{Session: fmt.Sprintf("other-%03d", i), Owner: a, Epoch: 1, Seq: 1, Create: true, Puts: entries("", strings.Repeat("x", 900))})
		}
		for _, id := range []string{"b", "d"} {
			cs = append(cs, store.Change{Session: id, Owner: a, Epoch: 1, Seq: 1, Create: true, Puts: values(30<<20, "a", "b")},
				store.Change{Session: id + "-", Owner: a, Epoch: 1, Seq: 1, Create: true, Delete: true})
		}
		if _, err := s.Apply(t.Context(), cs); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		apply(t, s, store.Change{Session: "other-077", Owner: a, Epoch: 1, Seq: 2, Puts: entries("", "v")}, store.Applied)
		if _, graves := counts(t, s); graves != 0 || *damage > 0 {
			t.Errorf("%d tombstones are left, and the logger was told of damage %d times", graves, *damage)
		}
	})
}
