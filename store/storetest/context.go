package storetest

import (
	"context"
	"errors"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

var contextRules = []rule{
	{"A context that is over when the call begins gives the context's error, and nothing is changed.", []testcase{
		{"cancelled", func(k *kit) {
			ctx, cancel := context.WithCancel(k.ctx)
			cancel()
			k.overContext(ctx, context.Canceled)
		}},
		{"past its deadline", func(k *kit) {
			ctx, cancel := context.WithDeadline(k.ctx, time.Now().Add(-time.Hour))
			defer cancel()
			k.overContext(ctx, context.DeadlineExceeded)
		}},
		{"cancelled before a malformed claim", func(k *kit) {
			ctx, cancel := context.WithCancel(k.ctx)
			cancel()
			if _, err := k.st.Claim(ctx, store.ClaimRequest{}); !errors.Is(err, context.Canceled) {
				k.fail("Claim gives error %v, want %v", err, context.Canceled)
			}
		}},
	}},
	{"An error means that the outcome is unknown: the call may have been applied, may be applied later, or never. " +
		"It does not mean \"not applied\".", []testcase{
		{"cancelled Apply can be repeated", cancelledApply},
		{"cancelled Claim can be repeated", cancelledClaim},
	}},
}

// call is one method with arguments under which it would change or find something.
type call struct {
	name string
	do   func(ctx context.Context, st store.Store) error
}

func everyMethod(a *tenure) []call {
	stranger := newOwner("stranger")
	node := store.Node{Name: "stranger", Incarnation: stranger.Incarnation}
	change := a.change("k", "changed")
	return []call{
		{"Claim", func(ctx context.Context, st store.Store) error {
			_, err := st.Claim(ctx, store.ClaimRequest{Session: a.session, Owner: stranger, Force: true})
			return err
		}},
		{"Claim that creates", func(ctx context.Context, st store.Store) error {
			_, err := st.Claim(ctx, store.ClaimRequest{Session: "another", Owner: stranger, Create: true})
			return err
		}},
		{"Apply", func(ctx context.Context, st store.Store) error {
			_, err := st.Apply(ctx, []store.Change{change, creating(unclaimed("another", 1).change())})
			return err
		}},
		{"Load", func(ctx context.Context, st store.Store) error {
			_, err := st.Load(ctx, a.session)
			return err
		}},
		{"Load of a key", func(ctx context.Context, st store.Store) error {
			_, err := st.Load(ctx, a.session, "k")
			return err
		}},
		{"Lookup", func(ctx context.Context, st store.Store) error {
			if d, ok := st.(store.Directory); ok {
				if _, err := d.Lookup(ctx, "alias"); !errors.Is(err, errors.ErrUnsupported) {
					return err
				}
			}
			_, err := st.Load(ctx, a.session)
			return err
		}},
		{"Find", func(ctx context.Context, st store.Store) error {
			if f, ok := st.(store.Finder); ok {
				if _, err := f.Find(ctx, store.AliasRange{}); !errors.Is(err, errors.ErrUnsupported) {
					return err
				}
			}
			_, err := st.Load(ctx, a.session)
			return err
		}},
		{"Sessions", func(ctx context.Context, st store.Store) (last error) {
			for _, last = range st.Sessions(ctx, store.Query{}) {
			}
			return last
		}},
		{"Sessions of an owner", func(ctx context.Context, st store.Store) (last error) {
			for _, last = range st.Sessions(ctx, store.Query{Owner: stranger.Incarnation}) {
			}
			return last
		}},
		{"KeepAlive", func(ctx context.Context, st store.Store) error {
			_, err := st.KeepAlive(ctx, node, patience)
			return err
		}},
		{"KeepAlive that ends a lease", func(ctx context.Context, st store.Store) error {
			_, err := st.KeepAlive(ctx, store.Node{Name: a.owner.Node, Incarnation: a.owner.Incarnation}, 0)
			return err
		}},
		{"Nodes", func(ctx context.Context, st store.Store) error {
			_, err := st.Nodes(ctx)
			return err
		}},
	}
}

func (k *kit) overContext(ctx context.Context, want error) {
	k.t.Helper()
	a := k.own("s", "k", "v")
	k.alive(a.owner)
	for _, call := range everyMethod(a) {
		k.unchanged("s", call.name, func() {
			if err := call.do(ctx, k.st); !errors.Is(err, want) {
				k.fail("%s gives error %v, want %v", call.name, err, want)
			}
		})
		k.absent("another")
	}
	k.claims(store.Held, store.ClaimRequest{Session: "s", Owner: newOwner("b")})
	if _, there := k.nodes()["stranger"]; there {
		k.fail("KeepAlive started a lease")
	}
}

// cancelledApply cancels calls at some moment of theirs. Whatever they answered, their repetition decides.
func cancelledApply(k *kit) {
	a := k.own("s")
	for range 50 {
		c := a.change("k", "v", "other", "v")
		ctx, cancel := context.WithCancel(k.ctx)
		go cancel()
		rs, err := k.st.Apply(ctx, []store.Change{c})
		again := k.apply(c)[0]
		switch {
		case again.Outcome != store.Applied && again.Outcome != store.Already:
			k.fail("a repeated change is %v after %v, %v", again.Outcome, rs, err)
		case err == nil && len(rs) == 1 && rs[0].Outcome == store.Applied && again.Outcome != store.Already:
			k.fail("an applied change is %v when repeated", again.Outcome)
		}
		if h := k.load("s").Header; h.Seq != c.Seq {
			k.fail("seq is %d after change %d", h.Seq, c.Seq)
		}
		k.holds("s", "k", "v", "other", "v")
	}
}

func cancelledClaim(k *kit) {
	for range 50 {
		a := k.own("s", "k", "v")
		r := store.ClaimRequest{Session: "s", Owner: newOwner("b"), Force: true, All: true}
		ctx, cancel := context.WithCancel(k.ctx)
		go cancel()
		first, err := k.st.Claim(ctx, r)
		again := k.claims(store.Granted, r)
		if err == nil && again.Header.Epoch != first.Header.Epoch {
			k.fail("a claim granted at epoch %d is granted at %d when repeated", first.Header.Epoch, again.Header.Epoch)
		}
		k.same(k.read(again), "k", "v")
		k.gets(store.Fenced, a.change("k", "late"))
	}
}

// absent checks that a session never was.
func (k *kit) absent(id string) {
	k.t.Helper()
	if s := k.load(id); s.Header.Epoch != 0 || len(s.Entries) > 0 {
		k.fail("session %q is there: %+v", id, s)
	}
}

// nodes returns the nodes by name.
func (k *kit) nodes() map[string]store.Node {
	k.t.Helper()
	list, err := k.st.Nodes(k.ctx)
	if err != nil {
		k.fail("Nodes gives error %v", err)
	}
	ns := map[string]store.Node{}
	for _, n := range list {
		if n.Lease > 0 {
			ns[n.Name] = n
		}
	}
	return ns
}
