package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// register is a store that keeps who has which alias itself: to the store behind it gives each session aliases of its own. One thing is wrong with it.
type register struct {
	store.Store
	mu sync.Mutex // held while a change is decided, unless it is racy
	of map[string]string

	racy    bool                                                                  // looks, and then writes
	judge   func(r *register, c *store.Change, h store.Header, is error) error    // nil: is
	alive   func(is bool) bool                                                    // whether the owner of a session that has an alias lives
	after   func(r *register, c *store.Change, was store.Header, o store.Outcome) // instead of rename, after a change
	claimed func(r *register, was store.Header, c store.Claim)
	found   func(h store.Header) store.Header
}

const mark = "\x00of "

func (r *register) hide(session string, aliases []string) (hidden []string) {
	for _, a := range aliases {
		hidden = append(hidden, a+mark+session)
	}
	return hidden
}

func (r *register) show(h store.Header) store.Header {
	for i, a := range h.Aliases {
		h.Aliases[i] = strings.TrimSuffix(a, mark+h.Session)
	}
	return h
}

func (r *register) header(session string) store.Header {
	s, _ := r.Store.Load(context.Background(), session)
	return r.show(s.Header)
}

func (r *register) lives(o store.Owner) bool {
	ns, _ := r.Store.Nodes(context.Background())
	return slices.ContainsFunc(ns, func(n store.Node) bool { return n.Incarnation == o.Incarnation && n.Lease > 0 })
}

// rename is what is right after a change that was applied, and after a claim that began a new life.
func (r *register) rename(session string, was, is []string) {
	for _, a := range was {
		if r.of[a] == session {
			delete(r.of, a)
		}
	}
	for _, a := range is {
		r.of[a] = session
	}
}

func (r *register) has(alias string) (store.Header, bool) {
	session, ok := r.of[alias]
	if !ok {
		return store.Header{}, false
	}
	h := r.header(session)
	alive := r.lives(h.Owner)
	if r.alive != nil {
		alive = r.alive(alive)
	}
	return h, alive
}

func (r *register) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	rs := make([]store.Result, len(cs))
	for i, c := range cs {
		if _, err := c.Check(); err != nil || ctx.Err() != nil {
			got, err := r.Store.Apply(ctx, cs[i:i+1])
			if err != nil {
				return nil, err
			}
			rs[i] = got[0]
			continue
		}
		var err error
		if rs[i], err = r.apply(ctx, c); err != nil {
			return nil, err
		}
	}
	return rs, nil
}

func (r *register) apply(ctx context.Context, c store.Change) (store.Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, now := r.header(c.Session), time.Now()
	outcome, _, _ := c.Judge(was, r.lives(was.Owner), now)
	var err error
	if outcome == store.Applied {
		err = c.JudgeAliases(r.has, now)
	}
	if r.judge != nil {
		err = r.judge(r, &c, was, err)
	}
	if err != nil {
		return store.Result{Outcome: store.Rejected, Err: err}, nil
	}
	if r.racy {
		r.mu.Unlock()
		pause()
		r.mu.Lock()
	}
	hidden := c
	hidden.Aliases = r.hide(c.Session, c.Aliases)
	got, err := r.Store.Apply(ctx, []store.Change{hidden})
	if err != nil {
		return store.Result{}, err
	}
	if r.after != nil {
		r.after(r, &c, was, got[0].Outcome)
	} else if got[0].Outcome == store.Applied {
		r.applied(&c, was)
	}
	got[0].Header = r.show(got[0].Header)
	return got[0], nil
}

func (r *register) applied(c *store.Change, was store.Header) {
	is := c.Aliases
	if c.Delete {
		is = nil
	}
	r.rename(c.Session, was.Aliases, is)
}

func (r *register) Claim(ctx context.Context, q store.ClaimRequest) (store.Claim, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.header(q.Session)
	c, err := r.Store.Claim(ctx, q)
	c.Header = r.show(c.Header)
	if r.claimed != nil {
		r.claimed(r, was, c)
	} else if c.Created {
		r.rename(q.Session, was.Aliases, nil)
	}
	return c, err
}

func (r *register) Load(ctx context.Context, id string, keys ...string) (store.Snapshot, error) {
	s, err := r.Store.Load(ctx, id, keys...)
	s.Header = r.show(s.Header)
	return s, err
}

func (r *register) Lookup(ctx context.Context, alias string) (store.Header, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h, alive := r.has(alias)
	if r.found != nil {
		return r.found(h), nil
	}
	return store.JudgeLookup(h, alive, time.Now()), nil
}

// brokenAliases names for each the cases that must notice it; race tells that RaceAliases must.
var brokenAliases = []struct {
	name  string
	make  *register
	cases []string
	race  bool
}{
	{"nothing", &register{}, nil, false},
	{"looks, then writes", &register{racy: true}, nil, true},
	{"looks at nothing", &register{judge: func(_ *register, _ *store.Change, _ store.Header, _ error) error { return nil }},
		[]string{"another session's", "of one call", "of two calls", "none, or unique ones"}, true},
	{"names the last alias", &register{judge: func(r *register, c *store.Change, _ store.Header, is error) error {
		if is != nil {
			back := *c
			back.Aliases = slices.Clone(c.Aliases)
			slices.Reverse(back.Aliases)
			is = back.JudgeAliases(r.has, time.Now())
		}
		return is
	}}, []string{"the first of several"}, false},
	{"rejects before it fences", &register{judge: func(r *register, c *store.Change, _ store.Header, _ error) error {
		return c.JudgeAliases(r.has, time.Now())
	}}, []string{"a fence comes first", "a repetition comes first"}, false},
	{"rejects a deletion", &register{judge: func(r *register, c *store.Change, _ store.Header, is error) error {
		if c.Delete {
			c := *c
			c.Delete = false
			return c.JudgeAliases(r.has, time.Now())
		}
		return is
	}}, []string{"a deletion that names one"}, false},
	{"takes a session for the owner of its ID as an alias", &register{judge: func(_ *register, c *store.Change, _ store.Header, is error) error {
		for _, a := range c.Aliases {
			if is == nil && (a == "b" || a == "a") && a != c.Session {
				is = &store.AliasError{Alias: a, Session: c.Session, Holder: a}
			}
		}
		return is
	}}, []string{"spelled as a session"}, false},
	{"writes what it rejects", &register{judge: func(r *register, c *store.Change, h store.Header, is error) error {
		if is != nil {
			r.Store.Apply(context.Background(), []store.Change{{Session: c.Session, Owner: c.Owner, Epoch: c.Epoch, Seq: c.Seq, Create: c.Create, Puts: c.Puts,
				Aliases: r.hide(c.Session, h.Aliases)}})
		}
		return is
	}}, []string{"another session's", "a creation"}, false},
	{"takes the aliases of what it rejects", &register{judge: func(r *register, c *store.Change, _ store.Header, is error) error {
		if is != nil {
			for _, a := range c.Aliases {
				if r.of[a] == "" {
					r.of[a] = c.Session
				}
			}
		}
		return is
	}}, []string{"the first of several"}, false},
	{"a fenced change takes its aliases", &register{after: func(r *register, c *store.Change, was store.Header, o store.Outcome) {
		if o == store.Fenced && !c.Delete {
			r.rename(c.Session, nil, c.Aliases)
		} else if o == store.Applied {
			r.applied(c, was)
		}
	}}, []string{"a fence comes first"}, true},
	{"a fenced deletion frees them", &register{after: func(r *register, c *store.Change, was store.Header, o store.Outcome) {
		if o == store.Applied || o == store.Fenced && c.Delete {
			r.applied(c, was)
		}
	}}, []string{"a fence comes first"}, false},
	{"a repeated change takes its aliases", &register{after: func(r *register, c *store.Change, was store.Header, o store.Outcome) {
		if o == store.Applied || o == store.Already {
			r.applied(c, was)
		}
	}}, []string{"a repetition comes first"}, false},
	{"what is left out stays taken", &register{after: func(r *register, c *store.Change, was store.Header, o store.Outcome) {
		if o == store.Applied && c.Delete {
			r.applied(c, was)
		} else if o == store.Applied {
			r.rename(c.Session, nil, c.Aliases)
		}
	}}, []string{"left out", "adopted", "the next lookup"}, false},
	{"a deletion frees nothing", &register{judge: func(r *register, c *store.Change, _ store.Header, is error) error {
		for _, a := range c.Aliases {
			if id := r.of[a]; is == nil && id != c.Session && r.header(id).Deleted {
				is = &store.AliasError{Alias: a, Session: c.Session, Holder: id}
			}
		}
		return is
	}, after: func(r *register, c *store.Change, was store.Header, o store.Outcome) {
		if o == store.Applied && !c.Delete {
			r.applied(c, was)
		}
	}}, []string{"deleted", "released, and deleted by the next owner", "a tombstone above an expired session"}, false},
	{"a creation above an expired session keeps them", &register{after: func(r *register, c *store.Change, was store.Header, o store.Outcome) {
		if o == store.Applied && c.Create && was.Exists() && !was.HeldBy(c.Owner, c.Epoch) {
			r.rename(c.Session, nil, c.Aliases)
		} else if o == store.Applied {
			r.applied(c, was)
		}
	}}, []string{"created above an expired session"}, false},
	{"a session without an owner has none", &register{judge: func(r *register, c *store.Change, _ store.Header, is error) error {
		if is == nil {
			return nil
		}
		return c.JudgeAliases(func(alias string) (store.Header, bool) {
			h, alive := r.has(alias)
			if !alive {
				h = store.Header{}
			}
			return h, alive
		}, time.Now())
	}}, []string{"of a session that nobody owns"}, true},
	{"a session that expired after its release keeps them", &register{judge: func(r *register, c *store.Change, _ store.Header, is error) error {
		if is != nil {
			return is
		}
		return c.JudgeAliases(func(alias string) (store.Header, bool) {
			h, alive := r.has(alias)
			h.Released = false
			return h, alive
		}, time.Now())
	}}, []string{"released and expired under a living owner"}, false},
	{"takes a session's own for another's", &register{judge: func(r *register, c *store.Change, _ store.Header, is error) error {
		for _, a := range c.Aliases {
			if r.of[a] == c.Session {
				is = &store.AliasError{Alias: a, Session: c.Session, Holder: c.Session}
			}
		}
		return is
	}}, []string{"its own"}, false},
	{"frees what another took", &register{after: func(r *register, c *store.Change, was store.Header, o store.Outcome) {
		if o == store.Applied {
			for _, a := range was.Aliases {
				delete(r.of, a)
			}
			r.applied(c, was)
		}
	}}, []string{"taken meanwhile", "taken meanwhile, and the session deleted"}, false},
	{"a claim frees them", &register{claimed: func(r *register, was store.Header, c store.Claim) {
		if c.Outcome == store.Granted {
			r.rename(was.Session, was.Aliases, nil)
		}
	}}, []string{"adopted"}, true},
	{"a new life keeps them", &register{claimed: func(*register, store.Header, store.Claim) {}}, []string{"claimed as a new session"}, false},
	{"a new life frees what another took", &register{claimed: func(r *register, was store.Header, c store.Claim) {
		if c.Created {
			for _, a := range was.Aliases {
				delete(r.of, a)
			}
		}
	}}, []string{"taken meanwhile, and the session made anew"}, false},
	{"a claim takes back what another took", &register{claimed: func(r *register, was store.Header, c store.Claim) {
		if c.Created {
			r.rename(was.Session, was.Aliases, nil)
		} else if c.Outcome == store.Granted {
			r.rename(was.Session, nil, was.Aliases)
		}
	}}, []string{"taken meanwhile, and the session robbed"}, false},
	{"an expired session keeps them", &register{alive: func(bool) bool { return true }}, []string{"taken, and given back", "taken meanwhile"}, false},
	{"an expired session has none, though its owner lives", &register{alive: func(bool) bool { return false }},
		[]string{"of an expired session whose owner is alive", "expired"}, false},
	{"finds what is gone", &register{found: func(h store.Header) store.Header { return h }}, []string{"released and expired"}, false},
	{"finds no owner", &register{found: func(h store.Header) store.Header { h.Owner = store.Owner{}; return h }}, []string{"of whatever session"}, false},
	{"finds old epochs", &register{found: func(h store.Header) store.Header { h.Epoch = min(h.Epoch, 1); return h }}, []string{"the next lookup"}, false},
	{"gives away what it has", &register{found: func() func(h store.Header) store.Header {
		kept := map[string]store.Header{}
		return func(h store.Header) store.Header {
			if was, ok := kept[h.Session]; ok && was.Seq == h.Seq && was.Epoch == h.Epoch {
				return was
			}
			kept[h.Session] = h
			return h
		}
	}()}, []string{"of whatever session"}, false},
	{"finds something for every name", &register{found: func(h store.Header) store.Header {
		if h.Epoch == 0 {
			h = store.Header{Session: "a", Epoch: 1}
		}
		return h
	}}, []string{"nobody's"}, false},
}

func newRegister(of *register) *register {
	return &register{Store: memory.New(), of: map[string]string{}, racy: of.racy, judge: of.judge, alive: of.alive, after: of.after, claimed: of.claimed, found: of.found}
}

// TestAliasesFindFaults shows that each case about aliases is able to fail.
func TestAliasesFindFaults(t *testing.T) {
	able := map[string]bool{"malformed aliases": true, "unsupported": true} // see TestRunFindsFaults, TestNamelessIsToldApart
	for _, b := range brokenAliases {
		for _, name := range b.cases {
			able[name] = true
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			for _, group := range []struct {
				name  string
				rules []rule
			}{{"ApplyAliases", aliasRules}, {"Lookup", lookupRules}} {
				for _, r := range group.rules {
					for _, c := range r.cases {
						st := newRegister(b.make)
						got := record(func(t T) { r.check(t, st, c) })
						st.Store.Close()
						if want := slices.Contains(b.cases, c.name); want && len(got.failures) == 0 {
							t.Errorf("case %q takes the store for sound", c.name)
						} else if len(b.cases) == 0 && !b.race && len(got.failures) > 0 {
							t.Errorf("nothing is wrong, and case %q fails: %q", c.name, got.failures)
						}
						for _, f := range got.failures {
							if !strings.HasPrefix(f, r.says) {
								t.Errorf("case %q fails with %q, want its sentence first", c.name, f)
							}
						}
					}
				}
			}
		})
	}
	for _, r := range slices.Concat(aliasRules, lookupRules) {
		for _, c := range r.cases {
			if !able[c.name] {
				t.Errorf("no fault is planted for case %q", c.name)
			}
		}
	}
}

// TestRaceAliasesFindsFaults shows that the race does.
func TestRaceAliasesFindsFaults(t *testing.T) {
	for _, b := range brokenAliases {
		if !b.race {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			st := newRegister(b.make)
			defer st.Store.Close()
			for round := range 500 {
				if r := record(func(t T) { RaceAliases(t, st, 2) }); len(r.failures) > 0 {
					t.Logf("found in attempt %d: %s", round+1, r.failures[0])
					return
				}
			}
			t.Error("the race finds nothing")
		})
	}
}

func TestRaceAliasesFindsNoFault(t *testing.T) {
	t.Parallel()
	for name, st := range map[string]store.Store{"memory": memory.New(), "a register of which nothing is wrong": newRegister(&register{})} {
		if r := record(func(t T) { RaceAliases(t, st, 20) }); len(r.failures) > 0 {
			t.Errorf("%s: the race fails: %q", name, r.failures)
		}
	}
}

var errNone = fmt.Errorf("it keeps no aliases: %w", errors.ErrUnsupported)

// nameless is a store that keeps no aliases.
type nameless struct{ store.Store }

func (n nameless) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	rs := make([]store.Result, len(cs))
	for i := range cs {
		if len(cs[i].Aliases) > 0 && ctx.Err() == nil {
			rs[i] = store.Result{Outcome: store.Rejected, Err: errNone}
			continue
		}
		got, err := n.Store.Apply(ctx, cs[i:i+1])
		if err != nil {
			return nil, err
		}
		rs[i] = got[0]
	}
	return rs, nil
}

// A store without aliases keeps the rest of the contract, and can be compared.
func TestNameless(t *testing.T) {
	t.Parallel()
	Run(t, func(t *testing.T) store.Store { return nameless{memory.New()} })
	t.Run("Compare", func(t *testing.T) { Compare(t, nameless{memory.New()}, 1, 500) })
}

// One that rejects all is not taken for one without; nor one that rejects only some.
func TestNamelessIsToldApart(t *testing.T) {
	lookup, c := find(t, "Lookup/unsupported")
	if r := record(func(t T) { lookup.check(t, rejecting{memory.New(), func(*store.Change) error { return errNone }}, c) }); len(r.failures) == 0 {
		t.Error("it is not noticed that a store that keeps no aliases looks them up")
	}
	for name, st := range map[string]store.Store{
		"rejects with another error": rejecting{memory.New(), func(*store.Change) error { return store.ErrInvalid }},
		"keeps them for who creates": rejecting{memory.New(), func(c *store.Change) error {
			if !c.Create {
				return errNone
			}
			return nil
		}},
	} {
		rule, c := find(t, "ApplyAliases/none, or unique ones")
		if r := record(func(t T) { rule.check(t, st, c) }); len(r.failures) == 0 {
			t.Errorf("it is not noticed that a store %s", name)
		}
	}
}

// rejecting is a memory that rejects changes with aliases for a reason, if it has one.
type rejecting struct {
	*memory.Store
	why func(c *store.Change) error
}

func (s rejecting) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	rs, err := s.Store.Apply(ctx, cs)
	for i := range cs {
		if why := s.why(&cs[i]); err == nil && len(cs[i].Aliases) > 0 && why != nil {
			rs[i] = store.Result{Outcome: store.Rejected, Err: why}
		}
	}
	return rs, err
}
