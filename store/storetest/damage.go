package storetest

import (
	"errors"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Damager is what a store under test may be besides, to have the rules about damaged data tested.
type Damager interface {
	store.Store
	// Damage spoils what is stored of an entry or, if header is set, of a
	// session's header, in a way that the store can notice.
	Damage(session, key string, header bool) error
}

var damageRules = []rule{
	{"Damaged data gives a [*CorruptError] naming session and key; what is not damaged stays readable.", []testcase{
		{"an entry by name", func(k *kit) {
			k.own("other", "k", "v")
			a := k.damaged()
			_, err := k.st.Load(k.ctx, "s", "bad")
			k.names(err, "bad")
			k.same(k.load("s", "good").Entries, "good", "v")
			k.holds("other", "k", "v")
			k.applied(a.change("bad", "new"))
			k.holds("s", "good", "v", "bad", "new")
		}},
	}},
	{"Damaged entries are left out and are the error, joined; the rest is returned beside it.", []testcase{
		{"an entry among all", func(k *kit) {
			k.damaged()
			s, err := k.st.Load(k.ctx, "s")
			k.names(err, "bad")
			k.same(s.Entries, "good", "v")
		}},
	}},
	{"A key that could not be read now, because it is damaged, say, is named in Unread, and nothing is said about its existence.", []testcase{
		{"an entry in a claim", func(k *kit) {
			k.damaged()
			c := k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: newOwner("b"), All: true})
			k.same(c.Entries, "good", "v")
			if len(c.Unread) != 1 || c.Unread[0] != "bad" {
				k.fail("Unread is %q, want [bad]", c.Unread)
			}
		}},
	}},
	{"A damaged header is yielded as an error, and the walk goes on.", []testcase{
		{"a header", func(k *kit) {
			k.own("other")
			k.own("s")
			k.own("third")
			k.damage("s", "", true)
			var good, bad int
			for h, err := range k.st.Sessions(k.ctx, store.Query{}) {
				var corrupt *store.CorruptError
				switch {
				case errors.As(err, &corrupt) && corrupt.Header && corrupt.Session == "s":
					bad++
				case err != nil:
					k.fail("the walk gives error %v", err)
				case h.Session == "other" || h.Session == "third":
					good++
				default:
					k.fail("the walk gives %+v", h)
				}
			}
			if good != 2 || bad != 1 {
				k.fail("the walk has %d good and %d damaged headers, want 2 and 1", good, bad)
			}
		}},
	}},
}

// damaged makes the session "s", of which the entry "bad" is damaged.
func (k *kit) damaged() *tenure {
	k.t.Helper()
	a := k.own("s", "good", "v", "bad", "v")
	k.damage("s", "bad", false)
	return a
}

func (k *kit) damage(session, key string, header bool) {
	k.t.Helper()
	d, ok := k.st.(Damager)
	if !ok {
		k.t.Skipf("the store is not a storetest.Damager")
	}
	if err := d.Damage(session, key, header); err != nil {
		k.fail("Damage gives error %v", err)
	}
}

// names checks that the error blames the entry of session "s".
func (k *kit) names(err error, key string) {
	k.t.Helper()
	var corrupt *store.CorruptError
	if !errors.As(err, &corrupt) || corrupt.Session != "s" || corrupt.Key != key || corrupt.Header {
		k.fail("error is %v, want a CorruptError of key %q", err, key)
	}
}
