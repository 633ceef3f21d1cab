package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// These tests enumerate every state of a header that makes a difference, and every
// request, and compare the verdict with the contract's sentences, written
// down once more as a list of conditions without any cleverness.

var (
	testNow = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	me      = Owner{Node: "me", Incarnation: Incarnation{1}}
	other   = Owner{Node: "other", Incarnation: Incarnation{2}}
	expired = TimeOf(testNow.Add(-time.Hour))
	future  = TimeOf(testNow.Add(time.Hour))
)

// state is a header on record and whether its owner lives.
type state struct {
	h     Header
	alive bool
}

func (s state) String() string { return fmt.Sprintf("{%+v alive:%v}", s.h, s.alive) }

// states has the absent header, and all others of epochs and seqs below and above those that requests name.
func states() (all []state) {
	all = append(all, state{h: Header{Session: "s"}}, state{h: Header{Session: "s"}, alive: true})
	for _, epoch := range []uint64{1, 4, 5, 6, 9} {
		for _, seq := range []uint64{0, 6, 7, 8} {
			for _, owner := range []Owner{me, other} {
				for bits := range 8 {
					h := Header{Session: "s", Epoch: epoch, Seq: seq, Owner: owner, Aliases: []string{"x"}, Schema: 3, Expires: future}
					h.Deleted, h.Released = bits&1 != 0, bits&2 != 0
					if h.Deleted {
						h = Header{Session: "s", Epoch: epoch, Seq: seq, Owner: owner, Deleted: true}
					}
					all = append(all, state{h, bits&4 != 0})
					if h.Exists() {
						h.Expires = expired
						all = append(all, state{h, bits&4 != 0})
					}
				}
			}
		}
	}
	return all
}

func same(a, b Header) bool {
	return slices.Equal(a.Aliases, b.Aliases) && a.Session == b.Session && a.Epoch == b.Epoch && a.Seq == b.Seq && a.Owner == b.Owner &&
		a.Released == b.Released && a.Deleted == b.Deleted && a.Expires == b.Expires && a.Schema == b.Schema
}

func TestJudgeChange(t *testing.T) {
	n := 0
	for _, s := range states() {
		for bits := range 48 {
			c := Change{Session: "s", Owner: me, Epoch: 5, Seq: 7, Aliases: []string{"new"}, Schema: 4, Expires: future + 1}
			c.Create, c.Delete, c.Wipe, c.Release = bits&1 != 0, bits&2 != 0, bits&4 != 0, bits&8 != 0
			c.Birth = []uint64{0, 6, 7}[bits>>4]
			o, next, wipe := c.Judge(s.h, s.alive, testNow)
			n++
			if want := naiveChange(s, c); o != want {
				t.Errorf("%v on %v is %v, want %v", c, s, o, want)
				continue
			}
			if o != Applied {
				if !same(next, s.h) {
					t.Errorf("%v on %v is %v, and changes the header to %+v", c, s, o, next)
				}
				continue
			}
			want := Header{Session: "s", Owner: me, Epoch: 5, Seq: 7, Deleted: true}
			if !c.Delete {
				want = Header{Session: "s", Owner: me, Epoch: 5, Seq: 7, Released: c.Release, Aliases: c.Aliases, Schema: 4, Expires: c.Expires}
			}
			if !same(next, want) {
				t.Errorf("%v on %v leaves %+v, want %+v", c, s, next, want)
			}
			if next.Epoch < s.h.Epoch || next.Epoch == s.h.Epoch && next.Seq <= s.h.Seq {
				t.Errorf("%v on %v goes back to %+v", c, s, next)
			}
			ours := s.h.Epoch == 5 && s.h.Owner.Incarnation == me.Incarnation
			if !ours && (!c.Create || s.h.Exists() && s.h.Expires != expired || s.h.Epoch >= 5) {
				t.Errorf("%v on %v is applied for one who has no right to", c, s)
			}
			if mustWipe := c.Wipe || c.Delete || !ours; wipe != mustWipe {
				t.Errorf("%v on %v: wipe is %v, want %v", c, s, wipe, mustWipe)
			}
			if again, _, _ := c.Judge(next, s.alive, testNow); again != Already {
				t.Errorf("%v, repeated on what it left, is %v", c, again)
			}
		}
	}
	if n < 5000 {
		t.Errorf("only %d cases", n)
	}
}

// naiveChange is the list on Store.Apply, rule by rule.
func naiveChange(s state, c Change) Outcome {
	h := s.h
	hasPair := h.Epoch == c.Epoch && h.Owner.Incarnation == c.Owner.Incarnation
	isDeleted := h.Deleted || h.Epoch == 0 // absent being epoch 0 and deleted
	isGone := h.Expires == expired && (!s.alive || h.Released)
	if hasPair && h.Seq >= c.Seq {
		return Already
	}
	if hasPair && h.Epoch > 0 && h.Seq < c.Birth {
		return Fenced
	}
	if hasPair && !isDeleted {
		return Applied
	}
	if hasPair && isDeleted && (c.Delete || c.Create) {
		return Applied
	}
	if (isDeleted || isGone) && c.Create && c.Epoch > h.Epoch {
		return Applied
	}
	return Fenced
}

func TestJudgeClaim(t *testing.T) {
	n := 0
	for _, s := range states() {
		for _, epoch := range []uint64{0, 1, 4, 5, 6, 9, 10, 70} {
			for bits := range 4 {
				r := ClaimRequest{Session: "s", Owner: me, Epoch: epoch, Force: bits&1 != 0, Create: bits&2 != 0}
				o, next, wipe := r.Judge(s.h, s.alive, testNow)
				n++
				want, raised := naiveClaim(s, r)
				if o != want {
					t.Errorf("%+v on %v is %d, want %d", r, s, o, want)
					continue
				}
				if !raised {
					if !same(next, s.h) || wipe {
						t.Errorf("%+v on %v changes the header to %+v, wipe %v", r, s, next, wipe)
					}
					continue
				}
				h := Header{Session: "s", Owner: me, Epoch: s.h.Epoch + 1}
				if epoch != 0 {
					h.Epoch = epoch
				}
				if !wipe {
					h.Aliases, h.Schema, h.Expires = s.h.Aliases, s.h.Schema, s.h.Expires
				}
				if !same(next, h) || next.Epoch <= s.h.Epoch {
					t.Errorf("%+v on %v leaves %+v, want %+v", r, s, next, h)
				}
				owns := s.h.Owner == me && !s.h.Released
				if life := s.h.Exists() && (s.h.Expires != expired || s.alive && !owns && !s.h.Released); wipe == life {
					t.Errorf("%+v on %v: wipe is %v", r, s, wipe)
				}
				if again, after, _ := r.Judge(next, s.alive, testNow); next.Expires != expired && (again != Granted || !same(after, next)) {
					t.Errorf("%+v, repeated on what it left, is %d and leaves %+v", r, again, after)
				}
			}
		}
	}
	if n < 5000 {
		t.Errorf("only %d cases", n)
	}
}

// naiveClaim is the list on Store.Claim, rule by rule, with its order made explicit: what is gone is NotFound
// to everybody, its last owner too; then comes the owner's own claim; then who holds it; then the bid.
func naiveClaim(s state, r ClaimRequest) (o ClaimOutcome, raised bool) {
	h := s.h
	exists := h.Epoch > 0 && !h.Deleted
	owns := exists && !h.Released && h.Owner.Incarnation == r.Owner.Incarnation
	// A claimant that still owned it in memory would not claim it: its own life keeps nothing from being gone.
	if exists && h.Expires == expired && (!s.alive || owns || h.Released) {
		exists = false
	}
	if !exists && !r.Create {
		return NotFound, false
	}
	if exists && owns {
		return Granted, false
	}
	if exists && !h.Released && s.alive && !r.Force {
		return Held, false
	}
	if r.Epoch != 0 && r.Epoch <= h.Epoch {
		return Outbid, false
	}
	return Granted, true
}

// TestOneWinner: of any two claims that follow each other, the first one's tenure ends with
// the second's grant, whatever state they find. It is the fence in one sentence.
func TestOneWinner(t *testing.T) {
	for _, s := range states() {
		for bits := range 16 {
			a := ClaimRequest{Session: "s", Owner: me, Force: bits&1 != 0, Create: bits&2 != 0}
			b := ClaimRequest{Session: "s", Owner: other, Force: bits&4 != 0, Create: bits&8 != 0}
			o1, h1, _ := a.Judge(s.h, s.alive, testNow)
			o2, h2, _ := b.Judge(h1, false, testNow)
			if o1 != Granted || o2 != Granted {
				continue
			}
			if h2.Epoch <= h1.Epoch {
				t.Errorf("on %v: both are granted epoch %d", s, h1.Epoch)
			}
			for kind := range 16 {
				late := Change{Session: "s", Owner: me, Epoch: h1.Epoch, Seq: 100}
				late.Create, late.Delete, late.Wipe, late.Release = kind&1 != 0, kind&2 != 0, kind&4 != 0, kind&8 != 0
				if o, next, _ := late.Judge(h2, false, testNow); o != Fenced || !same(next, h2) {
					t.Errorf("on %v: late %v is %v", s, late, o)
				}
			}
		}
	}
}

// TestJudgeAliases: who has an alias keeps it from every other session, unless it is gone, and whatever becomes of the change beside that.
func TestJudgeAliases(t *testing.T) {
	for _, s := range states() {
		for _, holder := range []string{"s", "t"} {
			h := s.h
			h.Session = holder
			has := func(alias string) (Header, bool) {
				if alias == "x" && s.h.Epoch > 0 {
					return h, s.alive
				}
				return Header{}, false
			}
			isGone := !h.Exists() || h.Expires == expired && (!s.alive || h.Released)
			for _, aliases := range [][]string{nil, {"free"}, {"x"}, {"free", "x"}} {
				for _, deletes := range []bool{false, true} {
					c := Change{Session: "s", Owner: me, Epoch: 5, Seq: 7, Aliases: aliases, Delete: deletes}
					got := c.JudgeAliases(has, testNow)
					var want error
					if holder == "t" && !isGone && !deletes && slices.Contains(aliases, "x") {
						want = &AliasError{Alias: "x", Session: "s", Holder: "t"}
					}
					if fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("%+v, alias x is that of %+v, alive %t: %v, want %v", c, h, s.alive, got, want)
					}
				}
			}
			if found := JudgeLookup(h, s.alive, testNow); isGone && found.Epoch != 0 || !isGone && !same(found, h) {
				t.Errorf("of %v a lookup finds %+v", s, found)
			}
		}
	}
	first := Change{Session: "s", Aliases: []string{"a", "b", "c"}}
	err := first.JudgeAliases(func(alias string) (Header, bool) {
		return Header{Session: "of " + alias, Epoch: 1, Deleted: alias == "a"}, false
	}, testNow)
	if want := `store: session "s": the alias "b" is that of session "of b"`; err == nil || err.Error() != want {
		t.Errorf("of several it is %v, want %s", err, want)
	}
}

func TestCheckAliases(t *testing.T) {
	of := func(n, length int) (as []string) {
		for i := range n {
			as = append(as, fmt.Sprintf("%0*d", length, i))
		}
		return as
	}
	for name, c := range map[string]struct {
		aliases []string
		says    string // "": they are allowed
	}{
		"none":                {nil, ""},
		"some":                {[]string{"a", "b", "s"}, ""},
		"longest":             {of(MaxAliasBytes/MaxAlias, MaxAlias), ""},
		"most":                {of(MaxAliases, MaxAliasBytes/MaxAliases), ""},
		"empty":               {[]string{"a", ""}, "empty"},
		"too long":            {of(1, MaxAlias+1), "1025 bytes"},
		"twice":               {[]string{"a", "b", "a"}, `"a"`},
		"twice among many":    {append(of(100, 8), "00000099"), `"00000099"`},
		"twice, at 16 and on": {append(of(16, 8), "00000000"), `"00000000"`},
		"too many":            {of(MaxAliases+1, 8), "257 aliases"},
		"too large":           {of(MaxAliasBytes/MaxAlias+1, MaxAlias), "32768"},
	} {
		keys, err := (&Change{Session: "s", Owner: me, Epoch: 1, Seq: 1, Aliases: c.aliases}).Check()
		switch {
		case len(keys) > 0:
			t.Errorf("%s: keys %q are to blame", name, keys)
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.says != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), `"s"`)):
			t.Errorf("%s: %v, want %s named", name, err, c.says)
		}
	}
}
