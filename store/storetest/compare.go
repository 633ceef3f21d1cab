package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// Compare has st and the reference, package memory, do the same for the given number of steps, which seed chooses: changes, claims,
// reads and leases of a few sessions by a few owners, right and wrong ones. Every answer of st must be the reference's. It is for a store that
// decides within its engine, in another language than this one. st must be empty.
func Compare(t T, st store.Store, seed uint64, steps int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	probe := &kit{t: t, st: st, ctx: ctx, says: "(whether it keeps aliases)"}
	c := &comparison{
		nameless: !probe.keepsAliases(),
		finds:    canFind(ctx, st),
		rng:      rand.New(rand.NewPCG(seed, 0)),
		sessions: []string{"s", "s\x00", "s\x00k", "a", "ab", string(bytes.Repeat([]byte{0xff}, store.MaxSession))},
		keys:     []string{"", "k", "\x00", "b", "leg/1", string(bytes.Repeat([]byte{1}, store.MaxKey))},
	}
	for i := range 3 {
		c.owners = append(c.owners, store.Owner{Node: fmt.Sprint("node", i), Incarnation: store.NewIncarnation()})
	}
	ref := memory.New()
	defer ref.Close()
	for step := range steps {
		op := c.next(ctx, ref)
		got, err := op.do(ctx, st)
		if err != nil {
			t.Fatalf("step %d of seed %d: %s gives error %v", step, seed, op.what, err)
		}
		want, err := op.do(ctx, ref)
		if err != nil {
			t.Fatalf("step %d of seed %d: %s gives error %v by the reference", step, seed, op.what, err)
		}
		if got != want {
			t.Fatalf("step %d of seed %d: %s\ngives %.2000s\nwant  %.2000s", step, seed, op.what, got, want)
		}
	}
}

type comparison struct {
	rng            *rand.Rand
	sessions, keys []string
	owners         []store.Owner
	nameless       bool // st keeps no aliases
	finds          bool // st finds aliases in their order
}

// operation is one call. Its answer is a text that is the same for the same answer.
type operation struct {
	what string
	do   func(context.Context, store.Store) (string, error)
}

func (c *comparison) one(of int) bool { return c.rng.IntN(of) == 0 }

func pick[T any](c *comparison, of []T) T { return of[c.rng.IntN(len(of))] }

// expiry is far from now, so that both stores find the same that they look at it.
func (c *comparison) expiry() store.Time {
	switch c.rng.IntN(6) {
	case 0:
		return store.TimeOf(time.Now().Add(-time.Hour))
	case 1:
		return store.TimeOf(time.Now().Add(time.Hour))
	}
	return 0
}

func (c *comparison) next(ctx context.Context, ref store.Store) operation {
	switch n := c.rng.IntN(21); {
	case n < 10:
		changes := make([]store.Change, 1+c.rng.IntN(4))
		for i := range changes {
			changes[i] = c.change(ctx, ref)
			changes[i].Aliases = c.aliases(changes[i].Session, len(changes) == 1)
		}
		return operation{fmt.Sprintf("Apply(%+v)", changes), func(ctx context.Context, st store.Store) (string, error) {
			rs, err := st.Apply(ctx, changes)
			text := ""
			for _, r := range rs {
				text += fmt.Sprintf("%v %s; ", r.Outcome, ofHeader(r.Header))
				if taken := (*store.AliasError)(nil); errors.As(r.Err, &taken) {
					text += fmt.Sprintf("%+v; ", *taken)
				}
			}
			return text, err
		}}
	case n < 15:
		var rs []store.ClaimRequest
		for _, i := range c.rng.Perm(len(c.sessions))[:1+c.rng.IntN(4)/3*c.rng.IntN(4)] {
			r := store.ClaimRequest{Session: c.sessions[i], Owner: pick(c, c.owners), Force: c.one(2), Create: c.one(2), All: c.one(2), Keys: c.keys[:c.rng.IntN(len(c.keys))]}
			if c.one(4) {
				r.Epoch = uint64(1 + c.rng.IntN(100))
			}
			rs = append(rs, r)
		}
		return operation{fmt.Sprintf("Claim(%+v)", rs), func(ctx context.Context, st store.Store) (text string, err error) {
			as, err := claimEach(ctx, st, rs)
			for _, a := range as {
				text += fmt.Sprintf("%v, created %t, %s, held by %q at %q, %s, unread %q; ", a.Outcome, a.Created, ofHeader(a.Header), a.Holder.Name, a.Holder.Addr, ofEntries(a.Entries), a.Unread)
			}
			return text, err
		}}
	case n < 18 && c.one(3):
		id, r := pick(c, c.sessions), store.Range{KeysOnly: c.one(2), Limit: c.rng.IntN(4)}
		if c.one(2) {
			r.From = pick(c, c.keys)
		}
		if c.one(2) {
			r.To = pick(c, c.keys)
		}
		return operation{fmt.Sprintf("LoadRange(%q, %+v)", id, r), func(ctx context.Context, st store.Store) (string, error) {
			p, err := pagesOf(ctx, st, id, r)
			return ofHeader(p.Header) + ofEntries(p.Entries), err
		}}
	case n < 18:
		id, keys := pick(c, c.sessions), c.keys[:c.rng.IntN(len(c.keys))]
		return operation{fmt.Sprintf("Load(%q, %q)", id, keys), func(ctx context.Context, st store.Store) (string, error) {
			s, err := st.Load(ctx, id, keys...)
			return ofHeader(s.Header) + ofEntries(s.Entries), err
		}}
	case n < 19 && c.one(2) && !c.nameless:
		alias := pick(c, append(ofAll, pick(c, c.sessions)))
		return operation{fmt.Sprintf("Lookup(%q)", alias), func(ctx context.Context, st store.Store) (string, error) {
			d, ok := st.(store.Directory)
			if !ok {
				return "no store.Directory", nil
			}
			h, err := d.Lookup(ctx, alias)
			return ofHeader(h), err
		}}
	case n < 19:
		q := store.Query{}
		if c.one(2) {
			q.Owner = pick(c, c.owners).Incarnation
		}
		return operation{fmt.Sprintf("Sessions(%+v)", q), func(ctx context.Context, st store.Store) (string, error) {
			var all []string
			for h, err := range st.Sessions(ctx, q) {
				if err != nil {
					return "", err
				}
				all = append(all, ofHeader(h))
			}
			slices.Sort(all)
			return fmt.Sprint(all), nil
		}}
	case n == 20 && c.finds:
		r := store.AliasRange{Limit: c.rng.IntN(3)}
		if c.one(2) {
			r.From = pick(c, append(ofAll, pick(c, c.sessions)))
		}
		if c.one(2) {
			r.To = pick(c, append(ofAll, pick(c, c.sessions)))
		}
		return operation{fmt.Sprintf("Find(%+v)", r), func(ctx context.Context, st store.Store) (string, error) {
			return foundIn(ctx, st, r)
		}}
	}
	o, ttl := pick(c, c.owners), time.Duration(c.rng.IntN(2))*time.Hour
	return operation{fmt.Sprintf("KeepAlive(%s, %v)", o.Node, ttl), func(ctx context.Context, st store.Store) (string, error) {
		ran, err := st.KeepAlive(ctx, store.Node{Name: o.Node, Incarnation: o.Incarnation, Addr: o.Node + ":1", Weight: 1}, ttl)
		return fmt.Sprint(ran), err
	}}
}

// claimEach makes claims: several in one call, if the store can.
func claimEach(ctx context.Context, st store.Store, rs []store.ClaimRequest) (as []store.Claim, err error) {
	if all, ok := st.(store.Claimer); ok && len(rs) > 1 {
		return all.ClaimAll(ctx, rs)
	}
	for _, r := range rs {
		a, err := st.Claim(ctx, r)
		if err != nil {
			return nil, err
		}
		as = append(as, a)
	}
	return as, nil
}

// pagesOf reads a range to its end, if the store can: where it has its pages end is its own affair. Else it chooses among all entries.
func pagesOf(ctx context.Context, st store.Store, id string, r store.Range) (all store.Page, err error) {
	ranger, ok := st.(store.Ranger)
	for ok {
		p, err := ranger.LoadRange(ctx, id, r)
		if errors.Is(err, errors.ErrUnsupported) {
			break
		}
		all.Header, all.Entries = p.Header, append(all.Entries, p.Entries...)
		if err != nil || p.Next <= r.From {
			return all, err
		}
		r.From = p.Next
	}
	all.Snapshot, err = st.Load(ctx, id)
	all.Entries = slices.DeleteFunc(all.Entries, func(e store.Entry) bool { return !r.Has(e.Key) })
	for i := range all.Entries {
		if r.KeysOnly {
			all.Entries[i].Value = nil
		}
	}
	return all, err
}

// canFind reports whether a store finds aliases in their order.
func canFind(ctx context.Context, st store.Store) bool {
	f, ok := st.(store.Finder)
	if ok {
		_, err := f.Find(ctx, store.AliasRange{})
		ok = !errors.Is(err, errors.ErrUnsupported)
	}
	return ok
}

// foundIn reads a range of aliases to its end: where the store has its pages end is its own affair.
func foundIn(ctx context.Context, st store.Store, r store.AliasRange) (text string, err error) {
	for {
		p, err := st.(store.Finder).Find(ctx, r)
		for _, n := range p.Aliases {
			text += fmt.Sprintf("%.10q: %s; ", n.Alias, ofHeader(n.Header))
		}
		if err != nil || p.Next <= r.From {
			return text, err
		}
		r.From = p.Next
	}
}

// change is likely to be one that a session's owner could make next.
func (c *comparison) change(ctx context.Context, ref store.Store) store.Change {
	id := pick(c, c.sessions)
	cur, _ := ref.Load(ctx, id)
	ch := store.Change{Session: id, Owner: cur.Header.Owner, Epoch: cur.Header.Epoch, Seq: cur.Header.Seq + uint64(c.rng.IntN(3))}
	if ch.Owner == (store.Owner{}) || c.one(4) {
		ch.Owner = pick(c, c.owners)
	}
	ch.Epoch = max(ch.Epoch+uint64(c.rng.IntN(8)/6), 1)
	ch.Seq = max(ch.Seq, 1)
	ch.Create, ch.Wipe, ch.Delete, ch.Release = c.one(2), c.one(6), c.one(8), c.one(8)
	ch.Expires, ch.Schema = c.expiry(), uint32(c.rng.IntN(2))
	if ch.Create && c.one(2) {
		ch.Birth = 1 + c.rng.Uint64N(ch.Seq)
	}
	if ch.Delete {
		return ch
	}
	for _, k := range c.keys {
		switch c.rng.IntN(4) {
		case 0:
			ch.Puts = append(ch.Puts, store.Entry{Key: k, Value: bytes.Repeat([]byte{byte(c.rng.IntN(256))}, pick(c, []int{0, 1, 200, 5000})), Expires: c.expiry()})
		case 1:
			ch.Deletes = append(ch.Deletes, k)
		}
	}
	c.rng.Shuffle(len(ch.Puts), func(i, j int) { ch.Puts[i], ch.Puts[j] = ch.Puts[j], ch.Puts[i] })
	return ch
}

// ofAll are aliases that every session wants.
var ofAll = []string{"x", "\xff\x00", "x\x00"}

// aliases are some of those that all want, if the change is alone in its call: else it is the store's choice which is first. One is
// the session's own.
func (c *comparison) aliases(session string, alone bool) (as []string) {
	if c.nameless || !c.one(3) {
		return nil
	}
	for _, i := range c.rng.Perm(len(ofAll)) {
		if alone && c.one(3) {
			as = append(as, ofAll[i])
		}
	}
	if c.one(2) {
		as = append(as, session)
	}
	return as
}

func ofHeader(h store.Header) string {
	if h.Epoch == 0 {
		return "{absent}"
	}
	return fmt.Sprintf("{%.10q epoch %d seq %d owner %v released %t deleted %t expires %d aliases %q schema %d}",
		h.Session, h.Epoch, h.Seq, h.Owner, h.Released, h.Deleted, h.Expires, h.Aliases, h.Schema)
}

func ofEntries(es []store.Entry) (text string) {
	for _, e := range sorted(es) {
		text += fmt.Sprintf(" %.10q=%d×%.1x until %d", e.Key, len(e.Value), e.Value, e.Expires)
	}
	return text
}
