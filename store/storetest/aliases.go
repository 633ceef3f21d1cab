package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/seed-6f1f505d/kvstore/store"
)

// keepsAliases asks whether the store does, with a change that is to be refused either way.
func (k *kit) keepsAliases() bool {
	k.t.Helper()
	if k.nameless == nil {
		c := unclaimed("no session has this name", 1).change()
		c.Aliases = []string{"no session has this alias"}
		r := k.apply(c)[0]
		is := r.Outcome == store.Rejected && errors.Is(r.Err, errors.ErrUnsupported)
		k.nameless = &is
	}
	return !*k.nameless
}

// aliases returns them, or none if the store keeps none.
func (k *kit) aliases(aliases ...string) []string {
	k.t.Helper()
	if !k.keepsAliases() {
		return nil
	}
	return slices.Clone(aliases)
}

// naming has a change name aliases, if the store keeps any.
func (k *kit) naming(c store.Change, aliases ...string) store.Change {
	k.t.Helper()
	c.Aliases = k.aliases(aliases...)
	return c
}

// kinds has all kinds of changes that the store has.
func (k *kit) kinds() []kind {
	k.t.Helper()
	return slices.DeleteFunc(slices.Clone(kinds), func(x kind) bool { return x.name == aliasChange && !k.keepsAliases() })
}

// directory skips the case if the store keeps no aliases.
func (k *kit) directory() store.Directory {
	k.t.Helper()
	if !k.keepsAliases() {
		k.t.Skipf("the store keeps no aliases")
	}
	d, ok := k.st.(store.Directory)
	if !ok {
		k.fail("the store keeps aliases, and is no store.Directory")
	}
	return d
}

func (k *kit) lookup(d store.Directory, alias string) store.Header {
	k.t.Helper()
	h, err := d.Lookup(k.ctx, alias)
	if err != nil {
		k.fail("Lookup(%.40q) gives error %v", alias, err)
	}
	return h
}

// has checks whose an alias is; "" is nobody's.
func (k *kit) has(alias, session string) {
	k.t.Helper()
	h := k.lookup(k.directory(), alias)
	switch {
	case session == "" && h.Epoch != 0:
		k.fail("alias %q is that of %+v, want nobody's", alias, h)
	case session != "" && h.Session != session:
		k.fail("alias %q is that of %+v, want session %q's", alias, h, session)
	case session != "":
		k.sameHeader(h, k.load(session).Header)
	}
}

// denied applies a change that must be Rejected for an alias, with nothing written.
func (k *kit) denied(c store.Change, alias, holder string) {
	k.t.Helper()
	k.unchanged(c.Session, "a rejected change", func() {
		r := k.gets(store.Rejected, c)
		var taken *store.AliasError
		if !errors.As(r.Err, &taken) || *taken != (store.AliasError{Alias: alias, Session: c.Session, Holder: holder}) || len(r.Keys) > 0 {
			k.fail("Apply(%s) is rejected with %v for keys %q, want an AliasError of alias %q and session %q", describe(c), r.Err, r.Keys, alias, holder)
		}
		for _, word := range []string{fmt.Sprintf("%q", alias), fmt.Sprintf("%q", holder)} {
			if !strings.Contains(r.Err.Error(), word) {
				k.fail("the error says %q, and not %s", r.Err, word)
			}
		}
	})
	k.has(alias, holder)
}

// named makes a session, which has the aliases then.
func (k *kit) named(id string, aliases ...string) *tenure {
	k.t.Helper()
	k.directory()
	t := k.own(id, "k", "v")
	k.applied(k.naming(t.change(), aliases...))
	return t
}

// expired has a session end, under an owner without a lease, and keep its aliases.
func (k *kit) expired(t *tenure, aliases ...string) {
	k.t.Helper()
	k.applied(k.naming(ending(t.change(), anHourAgo()), aliases...))
}

var aliasRules = []rule{
	{"No two sessions have one alias: a change that would be Applied, and names an alias which another session has that is not gone, is Rejected instead, with an [*AliasError] of the first such alias.", []testcase{
		{"another session's", func(k *kit) {
			k.named("a", "x", "y")
			b := k.named("b", "z")
			k.denied(k.naming(b.change("k", "new", "l", "new"), "y"), "y", "a")
			k.has("z", "b")
			b.seq-- // nothing of it is written: its number is still free
			k.applied(k.naming(b.change("k", "new"), "u", "z"))
			k.holds("b", "k", "new")
			k.has("u", "b")
			k.has("x", "a")
		}},
		{"the first of several", func(k *kit) {
			k.named("a", "x")
			k.named("c", "y")
			b := k.named("b", "z")
			k.denied(k.naming(b.change(), "z", "free", "y", "x"), "y", "c")
			k.denied(k.naming(b.change(), "x", "y"), "x", "a")
			k.has("free", "")
		}},
		{"a creation", func(k *kit) {
			k.named("a", "x")
			b := unclaimed("b", 1)
			k.denied(creating(k.naming(b.change("k", "v"), "y", "x")), "x", "a")
			k.absent("b")
			k.has("y", "")
			k.applied(creating(k.naming(b.change("k", "v"), "y")))
			k.has("y", "b")
		}},
		{"of a session that nobody owns", func(k *kit) {
			a := k.named("a", "x")
			k.alive(a.owner)
			k.dead(a.owner)
			k.denied(k.naming(k.own("b").change(), "x"), "x", "a")
			k.applied(releasing(k.naming(a.change(), "x")))
			k.denied(k.naming(k.own("b").change(), "x"), "x", "a")
		}},
		{"of an expired session whose owner is alive", func(k *kit) {
			a := k.named("a", "x")
			k.alive(a.owner)
			k.expired(a, "x")
			k.denied(k.naming(k.own("b").change(), "x"), "x", "a")
			k.dead(a.owner)
			k.applied(k.naming(k.own("b").change(), "x"))
			k.has("x", "b")
		}},
		{"its own", func(k *kit) {
			a := k.named("a", "x", "y")
			k.applied(k.naming(a.change("k", "new"), "x", "y"))
			k.applied(k.naming(wiping(a.change()), "y", "z", "x"))
			if got := k.load("a").Header.Aliases; !slices.Equal(got, []string{"y", "z", "x"}) {
				k.fail("aliases are %q, want them as the change names them", got)
			}
			for _, x := range []string{"x", "y", "z"} {
				k.has(x, "a")
			}
		}},
		{"spelled as a session", func(k *kit) {
			a := k.named("a", "a", "b")
			b := k.named("b", "c")
			k.has("a", "a")
			k.has("b", "a")
			k.denied(k.naming(b.change(), "b"), "b", "a")
			k.applied(k.naming(a.change()))
			k.applied(k.naming(b.change(), "a"))
			k.has("a", "b")
		}},
		{"a fence comes first", func(k *kit) {
			k.named("a", "x")
			z := k.named("b", "y")
			k.take("b")
			for _, aliases := range [][]string{{"x"}, {"free"}, {"y", "x"}, {}} {
				k.unchanged("b", "a fenced change", func() { k.gets(store.Fenced, k.naming(z.change("k", "late"), aliases...)) })
			}
			k.gets(store.Fenced, erasing(z.change()))
			k.has("x", "a")
			k.has("free", "")
			k.has("y", "b")
		}},
		{"a repetition comes first", func(k *kit) {
			a := k.named("a")
			c := k.naming(a.change(), "x")
			k.applied(c)
			k.applied(k.naming(a.change()))
			k.named("b", "x")
			k.unchanged("a", "a repeated change", func() { k.gets(store.Already, c) })
			k.has("x", "b")
		}},
		{"a deletion that names one", func(k *kit) {
			k.named("a", "x")
			b := k.named("b", "y")
			k.applied(erasing(k.naming(b.change(), "x", "z")))
			k.has("x", "a")
			k.has("y", "")
			k.has("z", "")
		}},
	}},
	{"That is decided in the step that would have written.", []testcase{
		{"of one call", func(k *kit) {
			k.directory()
			cs := []store.Change{
				creating(k.naming(unclaimed("a", 1).change("k", "v"), "x", "a")),
				creating(unclaimed("aside", 1).change("k", "v")),
				creating(k.naming(unclaimed("b", 1).change("k", "v"), "x", "b")),
			}
			rs := k.apply(cs...)
			if rs[1].Outcome != store.Applied {
				k.fail("the change beside them is %+v", rs[1])
			}
			k.oneOf("x", cs[0], rs[0], cs[2], rs[2])
		}},
		{"of two calls", func(k *kit) {
			k.directory()
			for i := range 30 {
				alias := fmt.Sprint("x", i)
				cs := make([]store.Change, 2)
				rs := make([]store.Result, 2)
				var wg sync.WaitGroup
				for j := range cs {
					id := fmt.Sprint("s", i, ".", j)
					cs[j] = creating(k.naming(unclaimed(id, 1).change("k", "v"), alias, id))
					wg.Go(func() {
						got, err := k.st.Apply(k.ctx, cs[j:j+1])
						if err != nil || len(got) != 1 {
							k.complain("concurrent Apply gives %+v, %v", got, err)
							return
						}
						rs[j] = got[0]
					})
				}
				wg.Wait()
				k.oneOf(alias, cs[0], rs[0], cs[1], rs[1])
			}
		}},
	}},
	{"A session has the aliases that its last change named, under its next owners too.", []testcase{
		{"adopted", func(k *kit) {
			k.named("a", "x", "y")
			b := k.take("a")
			k.has("x", "a")
			k.denied(k.naming(k.own("b").change(), "x"), "x", "a")
			k.applied(k.naming(b.change("k", "new"), "y", "z"))
			k.has("x", "")
			k.has("y", "a")
			k.has("z", "a")
		}},
	}},
	{"The step in which a change leaves an alias out, or deletes the session, or in which a new life of it begins, frees the alias.", []testcase{
		{"left out", func(k *kit) {
			a := k.named("a", "x", "y", "z")
			k.applied(k.naming(a.change(), "y"))
			k.named("b", "x", "z")
			k.has("y", "a")
			k.applied(a.change("k", "none at all"))
			k.named("c", "y")
			k.has("x", "b")
		}},
		{"deleted", func(k *kit) {
			k.applied(erasing(k.named("a", "x", "y").change()))
			k.has("x", "")
			k.named("b", "x", "y")
		}},
		{"released, and deleted by the next owner", func(k *kit) {
			k.applied(releasing(k.naming(k.named("a", "x").change(), "x")))
			k.applied(erasing(k.take("a").change()))
			k.named("b", "x")
		}},
		{"claimed as a new session", func(k *kit) {
			k.expired(k.named("s", "x", "y"), "x", "y")
			b := k.claimed(store.ClaimRequest{Session: "s", Owner: newOwner("b"), Create: true})
			if h := k.load("s").Header; len(h.Aliases) > 0 {
				k.fail("a new session has the aliases %q", h.Aliases)
			}
			k.has("x", "")
			k.named("t", "x")
			k.applied(k.naming(b.change(), "y"))
			k.has("y", "s")
			k.denied(k.naming(b.change(), "x"), "x", "t")
		}},
		{"created above an expired session", func(k *kit) {
			a := k.named("s", "x", "y")
			k.expired(a, "x", "y")
			b := unclaimed("s", a.epoch+1)
			k.applied(creating(k.naming(b.change(), "y")))
			k.has("x", "")
			k.has("y", "s")
			k.named("t", "x")
		}},
		{"a tombstone above an expired session", func(k *kit) {
			a := k.named("s", "x")
			k.expired(a, "x")
			k.applied(creating(erasing(unclaimed("s", a.epoch+1).change())))
			k.named("t", "x")
		}},
	}},
	{"A session that is gone by expiry has an alias until a change of another session names it.", []testcase{
		{"taken, and given back", func(k *kit) {
			a := k.named("a", "x", "y")
			k.expired(a, "x", "y")
			b := k.named("b", "x")
			k.has("x", "b")
			k.applied(b.change())
			k.applied(k.naming(ending(a.change(), inAnHour()), "x", "y"))
			k.has("x", "a")
			k.has("y", "a")
		}},
		{"released and expired under a living owner", func(k *kit) {
			a := k.named("a", "x")
			k.alive(a.owner)
			k.applied(releasing(k.naming(ending(a.change(), anHourAgo()), "x")))
			k.named("b", "x")
		}},
	}},
	{"If its owner comes back and extends it, the alias stays the other's: the header lists it, but the next change that names it is Rejected.", []testcase{
		{"taken meanwhile", func(k *kit) {
			a := k.named("a", "x", "y")
			k.expired(a, "x", "y")
			b := k.named("b", "x")
			k.alive(a.owner)
			k.denied(k.naming(ending(a.change("k", "late"), inAnHour()), "x", "y"), "x", "b")
			k.has("x", "b")
			k.has("y", "a")
			k.applied(k.naming(ending(a.change("k", "new"), inAnHour()), "y"))
			k.has("x", "b") // which its leaving out of it does not free
			k.has("y", "a")
			k.applied(k.naming(b.change(), "x"))
		}},
		{"taken meanwhile, and the session deleted", func(k *kit) {
			a := k.named("a", "x", "y")
			k.expired(a, "x", "y")
			k.named("b", "x")
			k.applied(erasing(a.change()))
			k.has("x", "b")
			k.has("y", "")
			k.denied(k.naming(k.own("c").change(), "x"), "x", "b")
		}},
		{"taken meanwhile, and the session made anew", func(k *kit) {
			k.expired(k.named("a", "x", "y"), "x", "y")
			k.named("b", "x")
			k.claimed(store.ClaimRequest{Session: "a", Owner: newOwner("c"), Create: true})
			k.has("x", "b")
			k.has("y", "")
		}},
		{"taken meanwhile, and the session robbed", func(k *kit) {
			a := k.named("a", "x", "y")
			k.expired(a, "x", "y")
			k.named("b", "x")
			k.alive(a.owner)
			c := k.take("a")
			k.has("x", "b")
			k.denied(k.naming(ending(c.change(), inAnHour()), "x", "y"), "x", "b")
			k.applied(k.naming(ending(c.change(), inAnHour()), "y"))
			k.has("x", "b")
		}},
	}},
	{"A change that can never be applied (too large, malformed) is Rejected, with Err,", []testcase{
		{"malformed aliases", func(k *kit) {
			a := k.own("s", "k", "v")
			many := make([]string, store.MaxAliases+1)
			for i := range many {
				many[i] = fmt.Sprint(i)
			}
			large := make([]string, store.MaxAliasBytes/store.MaxAlias+1)
			for i := range large {
				large[i] = fmt.Sprintf("%0*d", store.MaxAlias, i)
			}
			for what, aliases := range map[string][]string{
				"an empty one":          {"x", ""},
				"one that is too long":  {strings.Repeat("x", store.MaxAlias+1)},
				"one twice":             {"x", "y", "x"},
				"one of many twice":     append(slices.Clone(many[:100]), many[50]),
				"too many":              many,
				"too large in all":      large,
				"one twice, in a crowd": append(slices.Clone(many[:store.MaxAliases-1]), many[0]),
			} {
				c := a.change("k", "new")
				c.Aliases = aliases
				k.unchanged("s", what, func() {
					if r := k.gets(store.Rejected, c); r.Err == nil || len(r.Keys) > 0 {
						k.fail("%s: result is %+v, want an Err and no Keys", what, r)
					}
				})
				if !errors.Is(k.apply(c)[0].Err, store.ErrInvalid) && k.keepsAliases() {
					k.fail("%s: the error does not wrap ErrInvalid", what)
				}
			}
		}},
	}},
	{"A store that cannot keep aliases unique Rejects each change that names one, with an Err that wraps errors.ErrUnsupported.", []testcase{
		{"none, or unique ones", func(k *kit) {
			if k.keepsAliases() {
				k.named("a", "x")
				k.denied(k.naming(k.own("b").change(), "x"), "x", "a")
				return
			}
			a := k.own("a", "k", "v")
			for _, c := range []store.Change{a.change("k", "new"), creating(unclaimed("b", 1).change()), erasing(a.change())} {
				c.Aliases = []string{"x"}
				k.unchanged(c.Session, "a rejected change", func() {
					if r := k.gets(store.Rejected, c); !errors.Is(r.Err, errors.ErrUnsupported) || len(r.Keys) > 0 {
						k.fail("result is %+v, want an Err that wraps ErrUnsupported, and no Keys", r)
					}
				})
			}
			k.applied(a.change("k", "new"))
		}},
	}},
}

// oneOf checks that of two creations that name an alias one was applied, and the other Rejected for it.
func (k *kit) oneOf(alias string, a store.Change, ra store.Result, b store.Change, rb store.Result) {
	k.t.Helper()
	if ra.Outcome == store.Rejected {
		a, ra, b, rb = b, rb, a, ra
	}
	var taken *store.AliasError
	if ra.Outcome != store.Applied || rb.Outcome != store.Rejected || !errors.As(rb.Err, &taken) || taken.Holder != a.Session {
		k.fail("of two changes that name alias %q one is %+v, the other %+v", alias, ra, rb)
	}
	k.has(alias, a.Session)
	k.has(a.Session, a.Session) // each named its own ID, too
	k.has(b.Session, "")
	k.absent(b.Session)
}

var lookupRules = []rule{
	{"Lookup returns the header of the session that has the alias.", []testcase{
		{"of whatever session", func(k *kit) {
			a := k.named("a", "x", "y")
			k.named("b", "z")
			at := inAnHour()
			k.applied(releasing(versioned(ending(k.naming(a.change(), "x", "y"), at), 7)))
			want := store.Header{Session: "a", Owner: a.owner, Epoch: a.epoch, Seq: a.seq, Released: true, Expires: at, Aliases: []string{"x", "y"}, Schema: 7}
			d := k.directory()
			for _, alias := range []string{"x", "y"} {
				h := k.lookup(d, alias)
				k.sameHeader(h, want)
				h.Aliases[0] = "scribbled"
			}
			k.sameHeader(k.lookup(d, "x"), want)
			k.has("z", "b")
		}},
	}},
	{"Its epoch is 0 if none has it, or if the one that has it is gone.", []testcase{
		{"nobody's", func(k *kit) {
			k.named("a", "x")
			for _, alias := range []string{"", "a", "X", "x\x00", "xx", strings.Repeat("x", store.MaxAlias+1)} {
				k.has(alias, "")
			}
		}},
		{"expired", func(k *kit) {
			a := k.named("a", "x")
			k.alive(a.owner)
			k.expired(a, "x")
			k.has("x", "a")
			k.dead(a.owner)
			k.has("x", "")
			k.applied(k.naming(ending(a.change(), inAnHour()), "x"))
			k.has("x", "a")
		}},
		{"released and expired", func(k *kit) {
			a := k.named("a", "x")
			k.alive(a.owner)
			k.applied(releasing(k.naming(ending(a.change(), anHourAgo()), "x")))
			k.has("x", "")
		}},
	}},
	{"It reads at least what was acknowledged to anyone before the call.", []testcase{
		{"the next lookup", func(k *kit) {
			ts := []*tenure{k.named("a"), k.named("b")}
			for i := range 21 {
				is, was := ts[i%2], ts[(i+1)%2]
				k.applied(was.change())
				k.has("x", "")
				k.applied(k.naming(is.change(), "x"))
				k.has("x", is.session)
			}
			b := k.take("a")
			if h := k.lookup(k.directory(), "x"); h.Session != "a" || h.Epoch != b.epoch {
				k.fail("header is %+v after a claim of epoch %d", h, b.epoch)
			}
		}},
	}},
	{"An error that wraps errors.ErrUnsupported says that the store keeps no aliases.", []testcase{
		{"unsupported", func(k *kit) {
			d, ok := k.st.(store.Directory)
			if !ok && !k.keepsAliases() {
				k.t.Skipf("the store is no store.Directory")
			} else if !ok {
				k.directory()
			}
			if _, err := d.Lookup(k.ctx, "x"); errors.Is(err, errors.ErrUnsupported) == k.keepsAliases() {
				k.fail("Lookup gives error %v, and the store keeps aliases: %t", err, k.keepsAliases())
			}
		}},
	}},
}

func mostAliases(k *kit) {
	k.directory()
	many := make([]string, store.MaxAliases)
	for i := range many {
		many[i] = fmt.Sprintf("%0*d", store.MaxAliasBytes/store.MaxAliases, i)
	}
	long := make([]string, store.MaxAliasBytes/store.MaxAlias)
	for i := range long {
		long[i] = fmt.Sprintf("\xff%0*d", store.MaxAlias-1, i)
	}
	id := strings.Repeat("\xff", store.MaxSession)
	a := k.own(id)
	for _, aliases := range [][]string{many, long} {
		k.applied(k.naming(a.change("k", random(store.MinValue)), aliases...))
		if got := k.load(id).Header.Aliases; !slices.Equal(got, aliases) {
			k.fail("there are %d aliases, want %d", len(got), len(aliases))
		}
		for _, x := range []string{aliases[0], aliases[len(aliases)-1]} {
			k.has(x, id)
		}
		k.denied(k.naming(k.own("b").change(), aliases[len(aliases)/2]), aliases[len(aliases)/2], id)
	}
	k.has(many[0], "")
	k.applied(erasing(a.change()))
	k.named("b", long...)
}
