package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// specimen is a file with a bit of everything, and what is in it.
type specimen struct {
	bytes    []byte
	pageSize int
	owner    store.Owner
	truth    map[string]store.Snapshot
}

func newSpecimen(t testing.TB, n int) *specimen {
	t.Helper()
	path := temp(t)
	s, err := Open(path, &Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sp := &specimen{pageSize: os.Getpagesize(), owner: owner("node"), truth: map[string]store.Snapshot{}}
	for seq := uint64(1); seq <= 4; seq++ { // several rounds leave free pages, and old versions on them
		var cs []store.Change
		for i := range n {
			c := store.Change{Session: fmt.Sprintf("session-%d", i), Owner: sp.owner, Epoch: 1, Seq: seq, Create: true, Schema: uint32(seq)}
			if i%2 == 1 {
				c.Aliases = []string{fmt.Sprint("alias-", i), fmt.Sprintf("alias-%d at %d", i, seq)}
			}
			switch {
			case i%10 == 0 && seq == 4:
				c.Delete = true
			case i%(int(seq)+1) == 0:
				continue
			default:
				c.Puts = entries("", fmt.Sprintf("main %d %d", i, seq))
				if i%3 == 0 {
					c.Puts = append(c.Puts, entries("a", strings.Repeat("a", int(seq)*40), "b", fmt.Sprint(seq))...)
				}
				if i%50 == 1 {
					c.Puts = append(c.Puts, entries("long", strings.Repeat(fmt.Sprint(seq), 6000))...)
				}
			}
			cs = append(cs, c)
		}
		for part := range slices.Chunk(cs, 60) {
			if _, err := s.Apply(t.Context(), part); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range n {
		id := fmt.Sprintf("session-%d", i)
		if sp.truth[id], err = s.Load(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Check(t.Context()), s.Close()); err != nil {
		t.Fatal(err)
	}
	if sp.bytes, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return sp
}

// verdict is what became of a damaged file.
type verdict struct {
	refused  error // by Open
	checked  error // by Check
	errs     int   // answers that were errors
	missing  int   // answers that lacked something and were no error
	examined int
}

// examine opens a damaged file, reads and writes all of it, and fails the test if anything is returned that was
// not written, or anything is missing that neither the answer nor Check speaks of.
func (sp *specimen) examine(t *testing.T, path, what string) (v verdict) {
	t.Helper()
	damaged, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fail := func(format string, args ...any) {
		t.Helper()
		kept := filepath.Join(os.TempDir(), "kvstore-bolt-damaged.db")
		os.WriteFile(kept, damaged, 0o600)
		t.Fatalf("%s (the file is kept as %s): %s", what, kept, fmt.Sprintf(format, args...))
	}
	s, err := Open(path, &Options{NoSync: true, LockTimeout: time.Minute})
	if err != nil {
		if !strings.Contains(err.Error(), path) {
			fail("Open's error does not name the file: %v", err)
		}
		v.refused = err
		return v
	}
	defer s.Close()
	v.checked = s.Check(t.Context())
	wrong := func(id string, snap store.Snapshot, err error) {
		want := sp.truth[id]
		for _, e := range snap.Entries {
			if !slices.ContainsFunc(want.Entries, func(w store.Entry) bool { return w.Key == e.Key && bytes.Equal(w.Value, e.Value) }) {
				fail("session %q, key %q has the value %.40q (%d bytes), which it never had at the end", id, e.Key, e.Value, len(e.Value))
			}
		}
		if err != nil {
			v.errs++
			return
		}
		if h := snap.Header; h.Epoch != 0 && (h.Epoch != want.Header.Epoch || h.Seq != want.Header.Seq || h.Owner != want.Header.Owner || h.Deleted != want.Header.Deleted) {
			fail("session %q has the header %+v, want %+v", id, h, want.Header)
		}
		if len(snap.Entries) != len(want.Entries) || snap.Header.Epoch == 0 {
			v.missing++
			if v.checked == nil {
				fail("session %q lacks something, has %d entries of %d, and Check finds nothing", id, len(snap.Entries), len(want.Entries))
			}
		}
	}
	for id := range sp.truth {
		v.examined++
		snap, err := s.Load(t.Context(), id)
		wrong(id, snap, err)
	}
	for id, w := range sp.truth {
		for _, a := range w.Header.Aliases {
			switch h, err := s.Lookup(t.Context(), a); {
			case err != nil:
				v.errs++
			case h.Epoch == 0 && v.checked == nil:
				fail("alias %q is nobody's, and Check finds nothing", a)
			case h.Epoch != 0 && (h.Session != id || h.Epoch != w.Header.Epoch || h.Seq != w.Header.Seq):
				fail("alias %q is that of %+v, want session %q", a, h, id)
			}
		}
	}
	sp.find(s, &v, fail)
	seen := map[string]bool{}
	complete := true
	for h, err := range s.Sessions(t.Context(), store.Query{}) {
		switch w, ok := sp.truth[h.Session]; {
		case err != nil:
			complete = false
		case !ok || h.Epoch != w.Header.Epoch || h.Seq != w.Header.Seq || seen[h.Session]:
			fail("the walk gives %+v, seen before: %v", h, seen[h.Session])
		default:
			seen[h.Session] = true
		}
	}
	for id, w := range sp.truth {
		if complete && !w.Header.Deleted && !seen[id] && v.checked == nil {
			fail("the walk lacks %q, and neither it nor Check gives an error", id)
		}
	}
	// Writing to it may fail, but what is acknowledged is there, and nothing else became wrong. If
	// records could not be found Check has said so, and they are not asked for again.
	i := 0
	for id, w := range sp.truth {
		if i++; i > 6 || w.Header.Deleted {
			break
		}
		for _, a := range w.Header.Aliases {
			thief := store.Change{Session: "thief of " + a, Owner: sp.owner, Epoch: 1, Seq: 1, Create: true, Aliases: []string{a}}
			if rs, err := s.Apply(t.Context(), []store.Change{thief}); err == nil && rs[0].Outcome == store.Applied {
				fail("alias %q of session %q, which damage may hide, was given to another", a, id)
			}
		}
		c := store.Change{Session: id, Owner: sp.owner, Epoch: 1, Seq: w.Header.Seq + 1, Puts: entries("new", id), Aliases: w.Header.Aliases}
		rs, err := s.Apply(t.Context(), []store.Change{c, {Session: "fresh" + id, Owner: sp.owner, Epoch: 1, Seq: 1, Create: true, Puts: entries("", "v")}})
		if err != nil || rs[0].Outcome != store.Applied {
			continue
		}
		if snap, err := s.Load(t.Context(), id, "new"); v.checked == nil && (err != nil || len(snap.Entries) != 1 || string(snap.Entries[0].Value) != id) {
			fail("after a change was applied, Load gives %+v, %v", snap, err)
		}
	}
	switch err := s.Check(t.Context()); {
	case v.checked == nil && err != nil:
		fail("Check found nothing, and after changes finds: %v", err)
	case v.checked != nil && err == nil && !mendable(v.checked):
		fail("changes removed every trace of: %v", v.checked)
	}
	if err := s.Close(); err != nil {
		v.errs++
	}
	return v
}

// find reads all aliases in their order, and looks that none is wrong, nor missing without an error.
func (sp *specimen) find(s *Store, v *verdict, fail func(format string, args ...any)) {
	missing := map[string]string{}
	for id, w := range sp.truth {
		for _, a := range w.Header.Aliases {
			missing[a] = id
		}
	}
	silent := true
	for r := (store.AliasRange{}); ; {
		p, err := s.Find(context.Background(), r)
		if err != nil {
			v.errs++
			silent = false
		}
		for _, n := range p.Aliases {
			id := missing[n.Alias]
			if w := sp.truth[id].Header; id == "" || n.Header.Session != id || n.Header.Epoch != w.Epoch || n.Header.Seq != w.Seq {
				fail("Find gives alias %q as that of %+v, want session %q", n.Alias, n.Header, id)
			}
			delete(missing, n.Alias)
		}
		if p.Next == "" {
			break
		}
		if p.Next <= r.From {
			fail("Find from %q on says that the rest begins at %q", r.From, p.Next)
		}
		r.From = p.Next
	}
	if silent && len(missing) > 0 {
		fail("Find lacks %q, and gives no error; Check says: %v", missing, v.checked)
	}
}

// mendable reports whether all that Check has found is records of aliases, which their sessions' changes write anew.
func mendable(checked error) bool {
	for line := range strings.Lines(checked.Error()) {
		if !strings.Contains(line, "alias") {
			return false
		}
	}
	return true
}

// trials damages the specimen in many ways and examines each.
func trials(t *testing.T, rounds, short int, damage func(round int, b []byte, rnd func(int) int) (damaged []byte, what string)) {
	t.Helper()
	rng, rounds := random(t, rounds, short, false)
	sp := newSpecimen(t, 300)
	path := temp(t)
	var refused, noticed, survived int
	for round := range rounds {
		b, what := damage(round, bytes.Clone(sp.bytes), rng.IntN)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		v := sp.examine(t, path, fmt.Sprintf("round %d: %s", round, what))
		switch {
		case v.refused != nil:
			refused++
		case v.checked != nil:
			noticed++
		case v.errs > 0:
			t.Errorf("round %d: %s: %d answers are errors, but Check finds nothing", round, what, v.errs)
		default:
			survived++
		}
	}
	t.Logf("of %d damaged files (%d KiB) Open refused %d, Check found something in %d, and %d were hit where nothing is stored",
		rounds, len(sp.bytes)>>10, refused, noticed, survived)
}

func TestFlippedBits(t *testing.T) {
	trials(t, 400, 60, func(round int, b []byte, rnd func(int) int) ([]byte, string) {
		what := "bits"
		for range 1 + round%3 {
			bit := rnd(len(b) * 8)
			b[bit/8] ^= 1 << (bit % 8)
			what += fmt.Sprintf(" %d.%d", bit/8, bit%8)
		}
		return b, what + " flipped"
	})
}

// FuzzFile opens a file with some bytes changed, and reads and writes all of it. The input is a list of changes, of at most 16: three bytes
// say where, modulo the length of the file, and one what is changed there.
func FuzzFile(f *testing.F) {
	sp := newSpecimen(f, 40)
	f.Add([]byte{0, 0, 0, 0})
	for page := range 8 { // kind, count, overflow and the first element of a few pages
		for _, at := range []int{8, 10, 12, 16, 20, 24, 28} {
			at += page * sp.pageSize
			f.Add([]byte{byte(at >> 16), byte(at >> 8), byte(at), 0x11})
		}
	}
	f.Fuzz(func(t *testing.T, changes []byte) {
		b := slices.Clone(sp.bytes)
		for n := 0; len(changes) >= 4 && n < 16; n++ {
			at := int(changes[0])<<16 | int(changes[1])<<8 | int(changes[2])
			b[at%len(b)] ^= changes[3]
			changes = changes[4:]
		}
		path := temp(t)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		sp.examine(t, path, "fuzz")
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<30 {
			t.Fatalf("a file of %d bytes takes %d bytes of memory", len(b), n)
		}
	})
}

// TestFlippedStructure flips bits where bbolt keeps numbers: of meta pages, of page headers, of elements. Few of
// the random ones above hit them.
func TestFlippedStructure(t *testing.T) {
	trials(t, 600, 100, func(round int, b []byte, rnd func(int) int) ([]byte, string) {
		pageSize := os.Getpagesize()
		page := rnd(len(b)/pageSize) * pageSize
		bit := page*8 + rnd(160*8)
		b[bit/8] ^= 1 << (bit % 8)
		return b, fmt.Sprintf("bit %d.%d flipped, %d of page %d", bit/8, bit%8, bit/8-page, page/pageSize)
	})
}

func TestWrongPages(t *testing.T) {
	trials(t, 200, 40, func(round int, b []byte, rnd func(int) int) ([]byte, string) {
		pageSize := os.Getpagesize()
		at := func() int { return rnd(len(b)/pageSize) * pageSize }
		i, j := at(), at()
		page := b[i : i+pageSize]
		switch round % 4 {
		case 0:
			clear(page)
			return b, fmt.Sprintf("page %d zeroed", i/pageSize)
		case 1:
			if native.Uint64(page) != uint64(i/pageSize) {
				// Not the beginning of a page, but a further part of a long one: an old version of that part
				// is as good as a write that the disk dropped. Nothing can tell it, see the package comment.
				clear(page)
				return b, fmt.Sprintf("part %d of a page zeroed", i/pageSize)
			}
			copy(page, b[j:j+pageSize])
			return b, fmt.Sprintf("page %d overwritten with page %d", i/pageSize, j/pageSize)
		case 2:
			for k := range page {
				page[k] = byte(rnd(256))
			}
			return b, fmt.Sprintf("page %d overwritten with noise", i/pageSize)
		default:
			sector := page[512*rnd(pageSize/512):][:512]
			clear(sector)
			return b, fmt.Sprintf("a sector of page %d zeroed", i/pageSize)
		}
	})
}

// TestNumbersThatMislead has, for each page, one number wrong in a way that bbolt follows: to the old records behind a page, to a
// second place for it, to pages that it would free with it.
func TestNumbersThatMislead(t *testing.T) {
	sp := newSpecimen(t, 300)
	path := temp(t)
	noticed := map[string]int{}
	for i := 2; i < len(sp.bytes)/sp.pageSize; i++ {
		for what, change := range map[string]func(page []byte, flags uint16) bool{
			"a count too high": func(page []byte, flags uint16) bool {
				page[11] |= 4
				return flags == pageLeaf || flags == pageBranch
			},
			"an overflow too long": func(page []byte, flags uint16) bool {
				page[12]++
				return true
			},
			"a separator that is not the page's first key": func(page []byte, flags uint16) bool {
				if flags != pageBranch || native.Uint16(page[10:]) < 2 {
					return false
				}
				key, _ := branch(page, 1)
				key[len(key)-1]-- // and still above what is before it, as a rule
				return true
			},
		} {
			b := bytes.Clone(sp.bytes)
			page := b[i*sp.pageSize:][:sp.pageSize]
			if native.Uint64(page) != uint64(i) || !change(page, native.Uint16(page[8:])) {
				continue
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if v := sp.examine(t, path, fmt.Sprintf("page %d has %s", i, what)); v.refused != nil || v.checked != nil {
				noticed[what]++
			}
		}
	}
	if len(noticed) != 3 {
		t.Errorf("noticed were only %v", noticed)
	}
}

func TestTruncated(t *testing.T) {
	sp := newSpecimen(t, 300)
	path := temp(t)
	used := 0 // pages below bbolt's high-water mark
	for i := range 2 {
		meta := sp.bytes[i*sp.pageSize+pageHeader:]
		used = max(used, int(binary.NativeEndian.Uint64(meta[40:])))
	}
	for _, size := range []int{1, 100, 4095, 4096, 8192, 12288, used * sp.pageSize / 2, (used - 1) * sp.pageSize, used*sp.pageSize - 1} {
		if err := os.WriteFile(path, sp.bytes[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		v := sp.examine(t, path, fmt.Sprintf("cut to %d bytes", size))
		if v.refused == nil {
			t.Errorf("cut to %d bytes, Open takes it", size)
		} else if size >= 2*sp.pageSize && !strings.Contains(v.refused.Error(), "truncated") {
			t.Errorf("cut to %d bytes, Open says %v", size, v.refused)
		}
	}
	// What bbolt has grown ahead may be cut.
	if err := os.WriteFile(path, sp.bytes[:used*sp.pageSize], 0o600); err != nil {
		t.Fatal(err)
	}
	if v := sp.examine(t, path, "cut to what is used"); v.refused != nil || v.checked != nil || v.errs > 0 {
		t.Errorf("cut to what is used: %+v", v)
	}
}

// TestCutWhileOpen takes the file away from under its map.
func TestCutWhileOpen(t *testing.T) {
	for _, size := range []int64{100 << 10, 8 << 10, 0} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			sp := newSpecimen(t, 300)
			path := temp(t)
			if err := os.WriteFile(path, sp.bytes, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(path, &Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
			errs := 0
			for id, w := range sp.truth {
				snap, err := s.Load(t.Context(), id)
				if err != nil {
					errs++
					if !strings.Contains(err.Error(), path) {
						t.Fatalf("the error does not name the file: %v", err)
					}
				} else if snap.Header.Epoch != w.Header.Epoch || len(snap.Entries) != len(w.Entries) {
					t.Fatalf("session %q is %+v, want %+v", id, snap, w)
				}
			}
			if errs == 0 {
				t.Error("no call gave an error")
			}
			walkErr := error(nil)
			for _, err := range s.Sessions(t.Context(), store.Query{}) {
				walkErr = err
			}
			if walkErr == nil {
				t.Error("the walk ends without an error")
			}
			if err := s.Check(t.Context()); err == nil {
				t.Error("Check finds nothing")
			}
			for id, w := range sp.truth {
				rs, err := s.Apply(t.Context(), []store.Change{{Session: id, Owner: sp.owner, Epoch: 1, Seq: w.Header.Seq + 1}})
				_, _ = rs, err // either will do; it must return
			}
			s.Close() // may give an error; must return
			if _, err := s.Load(t.Context(), "s"); !errors.Is(err, store.ErrClosed) {
				t.Errorf("after Close, Load gives %v", err)
			}
		})
	}
}

// TestOneBadPageStopsNoOther puts changes that hit a damaged leaf into one call with others.
func TestOneBadPageStopsNoOther(t *testing.T) {
	sp := newSpecimen(t, 300)
	path := temp(t)
	// The leaf that "session-1"'s header is on: clear its kind.
	key := appendPrefix(nil, "session-1")
	hit := 0
	for at := 2 * sp.pageSize; at < len(sp.bytes); at += sp.pageSize {
		page := sp.bytes[at : at+sp.pageSize]
		if binary.NativeEndian.Uint16(page[8:]) == pageLeaf && bytes.Contains(page, append(slices.Clone(key), 0)) {
			page[8] = 0 // old versions of the page as well
			hit++
		}
	}
	if hit == 0 {
		t.Fatal("the page was not found")
	}
	if err := os.WriteFile(path, sp.bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, &Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var cs []store.Change
	for id, w := range sp.truth {
		if !w.Header.Deleted {
			cs = append(cs, store.Change{Session: id, Owner: sp.owner, Epoch: 1, Seq: w.Header.Seq + 1, Puts: entries("new", "v")})
		}
	}
	rs, err := s.Apply(t.Context(), cs)
	if err != nil {
		t.Fatalf("a call with changes to good pages and bad ones gives %v", err)
	}
	applied, bad := 0, 0
	for i, r := range rs {
		var corrupt *store.CorruptError
		switch {
		case r.Outcome == store.Applied:
			applied++
			if snap, err := s.Load(t.Context(), cs[i].Session, "new"); err != nil || len(snap.Entries) != 1 {
				t.Errorf("an applied change of %q is not there: %+v, %v", cs[i].Session, snap, err)
			}
		case errors.As(r.Err, &corrupt) && corrupt.Session == cs[i].Session:
			bad++
		default:
			t.Errorf("%q: %+v", cs[i].Session, r)
		}
	}
	t.Logf("%d applied, %d not", applied, bad)
	if applied < len(cs)/2 || bad == 0 {
		t.Errorf("%d changes were applied, %d met damage", applied, bad)
	}
}

// TestAlteredKeys has the key of a record be another one, in its place, while all else of the page is whole: the session, or the alias, is not absent.
func TestAlteredKeys(t *testing.T) {
	alter := func(t *testing.T, s *Store, bucket, key, altered []byte) {
		rewrite(t, s, func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucket)
			v := bytes.Clone(b.Get(key))
			if v == nil {
				t.Fatalf("there is no record under %q", key)
			}
			return errors.Join(b.Delete(key), b.Put(altered, v))
		})
	}
	ids := []string{"a", "e", "m", "q", "z"}
	for i, id := range ids {
		for _, bit := range []byte{1, 2} { // some leave it above its own place, some below
			altered := string(id[0] ^ bit)
			if i > 0 && altered <= ids[i-1] || i < len(ids)-1 && altered >= ids[i+1] {
				continue
			}
			t.Run(id+" as "+altered, func(t *testing.T) {
				s, o := open(t, temp(t), nil), owner("a")
				defer s.Close()
				whole := func(id string, seq uint64) store.Change { // all of it is one record
					return store.Change{Session: "s" + id, Owner: o, Epoch: 1, Seq: seq, Create: seq == 1, Aliases: []string{id}, Puts: entries("", "v")}
				}
				for _, id := range ids {
					apply(t, s, whole(id, 1), store.Applied)
				}
				alter(t, s, bucketAliases, []byte(id), []byte(altered))
				var damaged *store.CorruptError
				if _, err := s.Lookup(t.Context(), id); !errors.As(err, &damaged) || damaged.Alias != id {
					t.Errorf("Lookup gives %v", err)
				}
				apply(t, s, naming("thief", o, 1, id), store.Rejected)
				has(t, s, "b", "")
				apply(t, s, naming("other", o, 1, "b"), store.Applied)
				apply(t, s, whole(id, 2), store.Applied) // whose it is names it again
				has(t, s, id, "s"+id)

				apply(t, s, store.Change{Session: "entries", Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: entries("a", "v", "e", "v", "m", "v", "q", "v", "z", "v")}, store.Applied)
				prefix := appendPrefix(nil, "entries")
				alter(t, s, bucketSessions, appendEntryKey(nil, prefix, id), appendEntryKey(nil, prefix, altered))
				if snap, err := s.Load(t.Context(), "entries", "b", id, "none"); !errors.As(err, &damaged) || damaged.Key != id || len(snap.Entries) > 0 {
					t.Errorf("Load of the entry gives %v", err)
				}
				for what, r := range map[string]store.Range{"it": {From: id, To: id + "\x00"}, "all up to it": {From: "\x01", To: id + "\x00"}, "all from it on": {From: id}, "all": {}} {
					if p, err := s.LoadRange(t.Context(), "entries", r); !errors.As(err, &damaged) || damaged.Session != "entries" || damaged.Header {
						t.Errorf("LoadRange of %s gives %+v, %v", what, p, err)
					}
				}

				alter(t, s, bucketSessions, appendPrefix(nil, "s"+id), appendPrefix(nil, "s"+altered))
				for what, err := range map[string]error{
					"Load": func() error { _, err := s.Load(t.Context(), "s"+id); return err }(),
					"Claim": func() error {
						_, err := s.Claim(t.Context(), store.ClaimRequest{Session: "s" + id, Owner: o, Create: true})
						return err
					}(),
				} {
					if !errors.As(err, &damaged) || damaged.Session != "s"+id || !damaged.Header {
						t.Errorf("%s gives %v", what, err)
					}
				}
				rs, err := s.Apply(t.Context(), []store.Change{{Session: "s" + id, Owner: o, Epoch: 1, Seq: 1, Create: true}})
				if err == nil && rs[0].Outcome == store.Applied {
					t.Error("it is made again")
				}
			})
		}
	}
}
