package seal

import (
	"strings"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
)

func testNames(t testing.TB, secret byte) *names {
	t.Helper()
	n, err := newNames(&[32]byte{secret})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A name comes back where it was hidden, is always the same there, and is no other place's.
func TestHiddenNames(t *testing.T) {
	n, again, other := testNames(t, 1), testNames(t, 1), testNames(t, 2)
	seen := map[string]string{}
	for _, c := range []struct {
		k            kind
		parent, name string
	}{
		{sessionName, "", "call-1"}, {keyName, "call-1", "call-1"}, {aliasName, "", "call-1"},
		{keyName, "a", "bc"}, {keyName, "ab", "c"}, {keyName, "", "abc"}, {keyName, "call-2", "call-1"},
		{aliasName, "", ""}, {sessionName, "", "\x00"}, {sessionName, "", "\xff\xff"}, {sessionName, "", strings.Repeat("x", maxHidden)},
	} {
		h := n.hide(c.k, c.parent, c.name)
		if was, twice := seen[h]; twice {
			t.Errorf("%q of %q and %s are hidden as the same", c.name, c.parent, was)
		}
		seen[h] = c.name
		if len(h) != len(c.name)+growth || len(c.name) > 3 && strings.Contains(h, c.name) {
			t.Errorf("%q is hidden as %q", c.name, h)
		}
		if again.hide(c.k, c.parent, c.name) != h {
			t.Errorf("%q is hidden in two ways", c.name)
		}
		if got, err := again.show(c.k, c.parent, h); err != nil || got != c.name {
			t.Errorf("%q comes back as %q, %v", c.name, got, err)
		}
		for place, bad := range map[string]func() (string, error){
			"of another NameKey": func() (string, error) { return other.show(c.k, c.parent, h) },
			"of another kind":    func() (string, error) { return n.show(c.k%3+1, c.parent, h) },
			"of another parent":  func() (string, error) { return n.show(c.k, c.parent+"x", h) },
			"cut":                func() (string, error) { return n.show(c.k, c.parent, h[:len(h)-1]) },
			"longer":             func() (string, error) { return n.show(c.k, c.parent, h+"x") },
			"not hidden":         func() (string, error) { return n.show(c.k, c.parent, "it was not hidden") },
		} {
			if got, err := bad(); err == nil {
				t.Errorf("%s, %q is shown as %q", place, c.name, got)
			}
		}
		for bit := range 8 * min(len(h), 40) {
			b := []byte(h)
			b[bit/8] ^= 1 << (bit % 8)
			if got, err := n.show(c.k, c.parent, string(b)); err == nil {
				t.Errorf("with bit %d flipped %q is shown as %q", bit, c.name, got)
			}
		}
	}
	// No stored form stands for the empty session ID, and the empty key has one only.
	for _, k := range []kind{sessionName, keyName} {
		iv := n.iv(k, "", "")
		if got, err := n.show(k, "", string(iv[:])); err == nil {
			t.Errorf("a second form of the empty name is shown as %q", got)
		}
	}
	if h := n.hide(keyName, "s", ""); h != "" {
		t.Errorf("the empty key is hidden as %q", h)
	}
}

// The longest name that fits is one that the inner store can hold.
func TestNamesFit(t *testing.T) {
	n := testNames(t, 1)
	long := strings.Repeat("x", maxHidden)
	if !n.fits(long) || n.fits(long+"x") || len(n.hide(sessionName, "", long)) != store.MaxSession || len(n.hide(keyName, "s", long)) != store.MaxKey {
		t.Errorf("%d bytes are the most that is hidden", maxHidden)
	}
	if open := (*names)(nil); !open.fits(long+"x") || open.hide(keyName, "s", "k") != "k" {
		t.Error("without a NameKey names are changed")
	}
}

// What is shown was hidden.
func FuzzName(f *testing.F) {
	n := testNames(f, 1)
	f.Add(byte(1), "", n.hide(sessionName, "", "s"))
	f.Add(byte(2), "s", n.hide(keyName, "s", "k"))
	f.Add(byte(3), "", n.hide(aliasName, "", ""))
	f.Add(byte(2), "s", "")
	f.Add(byte(1), "", "0123456789abcdef")
	f.Fuzz(func(t *testing.T, k byte, parent, name string) {
		kind := kind(k%3 + 1)
		if got, err := n.show(kind, parent, name); err == nil && n.hide(kind, parent, got) != name {
			t.Errorf("%q is shown as %q, which is hidden in another way", name, got)
		}
		h := n.hide(kind, parent, name)
		if kind == sessionName && name == "" {
			return // there is none
		}
		if got, err := n.show(kind, parent, h); err != nil || got != name {
			t.Errorf("%q comes back as %q, %v", name, got, err)
		}
	})
}
