package split_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/split"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return split.New(memory.New(), memory.New()) })
}

// Whatever is asked of it, the two together answer as one does.
func TestAgainstMemory(t *testing.T) {
	for range 5 {
		st := split.New(memory.New(), memory.New())
		storetest.Compare(t, st, rand.Uint64(), 500)
		st.Close()
	}
	for _, seed := range []uint64{12223378834398441709, 3157150373513799561} { // in which data refused creations that owners had
		st := split.New(memory.New(), memory.New())
		storetest.Compare(t, st, seed, 500)
		st.Close()
	}
}

// replicated is a store with a replica, which hears of all until it is cut off.
type replicated struct {
	store.Store // the master
	replica     store.Store
	cut         bool
}

func (r *replicated) Claim(ctx context.Context, q store.ClaimRequest) (store.Claim, error) {
	if !r.cut {
		r.replica.Claim(ctx, q)
	}
	return r.Store.Claim(ctx, q)
}

func (r *replicated) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	if !r.cut {
		r.replica.Apply(ctx, cs)
	}
	return r.Store.Apply(ctx, cs)
}

func (r *replicated) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
	r.replica.KeepAlive(ctx, n, ttl)
	return r.Store.KeepAlive(ctx, n, ttl)
}

// failOver has the replica take the master's place.
func (r *replicated) failOver() { r.Store, r.cut = r.replica, true }

func owner(name string) store.Owner {
	return store.Owner{Node: name, Incarnation: store.NewIncarnation()}
}

func claim(t *testing.T, st store.Store, o store.Owner, want store.ClaimOutcome, epoch uint64) store.Claim {
	t.Helper()
	c, err := st.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: o, All: true})
	if err != nil || c.Outcome != want || c.Header.Epoch != epoch {
		t.Errorf("claim by %s: %v, %+v, %v; want %v, epoch %d", o.Node, c.Outcome, c.Header, err, want, epoch)
	}
	return c
}

func put(t *testing.T, st store.Store, o store.Owner, epoch, seq uint64, value string, want store.Outcome) {
	t.Helper()
	c := store.Change{Session: "s", Owner: o, Epoch: epoch, Seq: seq, Puts: []store.Entry{{Value: []byte(value)}}}
	if epoch == 1 && seq <= 2 {
		c.Create, c.Birth = true, 1
	}
	rs, err := st.Apply(t.Context(), []store.Change{c})
	if err != nil || rs[0].Outcome != want {
		t.Errorf("put of %s by %s in epoch %d: %+v, %v; want %v", value, o.Node, epoch, rs, err, want)
	}
}

func live(t *testing.T, st store.Store, o store.Owner, ttl time.Duration) {
	t.Helper()
	if _, err := st.KeepAlive(t.Context(), store.Node{Name: o.Node, Incarnation: o.Incarnation}, ttl); err != nil {
		t.Fatal(err)
	}
}

// refusing is a store that may reject all changes.
type refusing struct {
	*memory.Store
	all bool
}

func (r *refusing) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	if !r.all {
		return r.Store.Apply(ctx, cs)
	}
	rs := make([]store.Result, len(cs))
	for i := range rs {
		rs[i] = store.Result{Outcome: store.Rejected, Err: errors.New("too large")}
	}
	return rs, nil
}

// create proposes a creation in the place of a session that is gone.
func create(t *testing.T, st store.Store, id string, o store.Owner, epoch, seq uint64, want store.Outcome, aliases ...string) store.Header {
	t.Helper()
	c := store.Change{Session: id, Owner: o, Epoch: epoch, Seq: seq, Create: true, Birth: seq, Aliases: aliases}
	rs, err := st.Apply(t.Context(), []store.Change{c})
	if err != nil || rs[0].Outcome != want {
		t.Errorf("%+v: %+v, %v; want %v", c, rs, err, want)
	}
	return rs[0].Header
}

// Data refuses a creation that owners has already. What it has of the life before is there all the same, and the next life begins above the epoch that owners
// has: who is fenced is told of that one.
func TestRefusedCreation(t *testing.T) {
	data := &refusing{Store: memory.New()}
	st := split.New(memory.New(), data)
	defer st.Close()
	a, b := owner("a"), owner("b")
	create(t, st, "s", a, 1, 1, store.Applied)
	end := store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 2, Delete: true}
	if rs, err := st.Apply(t.Context(), []store.Change{end}); err != nil || rs[0].Outcome != store.Applied {
		t.Fatalf("%+v, %v", rs, err)
	}
	data.all = true
	create(t, st, "s", a, 2, 3, store.Rejected)
	data.all = false
	create(t, st, "s", a, 1, 1, store.Already)
	create(t, st, "s", b, 1, 1, store.Fenced)
	create(t, st, "s", a, 1, 4, store.Fenced)
	if h := create(t, st, "s", b, 2, 1, store.Fenced); h.Epoch != 2 || h.Exists() {
		t.Errorf("fenced by %+v, want what is left of epoch 2", h)
	}
	create(t, st, "s", b, 3, 1, store.Applied)
}

// What fails by an alias leaves nothing in owners.
func TestCreationWithATakenAlias(t *testing.T) {
	st := split.New(memory.New(), memory.New())
	defer st.Close()
	a, b := owner("a"), owner("b")
	create(t, st, "other", b, 1, 1, store.Applied, "name")
	create(t, st, "s", a, 7, 1, store.Rejected, "free", "name")
	create(t, st, "s", b, 1, 2, store.Applied, "free")
}

// unread is a store of which nothing can be read.
type unread struct{ *memory.Store }

var errUnread = errors.New("it does not answer")

func (unread) Load(context.Context, string, ...string) (store.Snapshot, error) {
	return store.Snapshot{}, errUnread
}

// If data cannot be asked for the aliases, nothing is known: as when it cannot be written, that is the error of the call if it is so of all changes.
func TestCreationWithAliasesThatCannotBeAskedFor(t *testing.T) {
	owners := memory.New()
	st := split.New(owners, unread{memory.New()})
	defer st.Close()
	named := store.Change{Session: "s", Owner: owner("a"), Epoch: 1, Seq: 1, Create: true, Birth: 1, Aliases: []string{"name"}}
	other := store.Change{Session: "other", Owner: named.Owner, Epoch: 1, Seq: 1, Create: true, Birth: 1}
	if _, err := st.Apply(t.Context(), []store.Change{named}); !errors.Is(err, errUnread) {
		t.Errorf("error %v, want that of data", err)
	}
	rs, err := st.Apply(t.Context(), []store.Change{named, other})
	if err != nil || rs[0].Outcome != store.Undecided || !errors.Is(rs[0].Err, errUnread) || rs[1].Outcome != store.Applied {
		t.Errorf("%+v, %v", rs, err)
	}
	if snap, err := owners.Load(t.Context(), "s"); err != nil || snap.Header.Epoch != 0 {
		t.Errorf("owners has %+v, %v", snap.Header, err)
	}
}

// Of a session that somebody has claimed, and data has not heard of it, the aliases do not matter: who would create it is fenced.
func TestCreationOfAClaimedSession(t *testing.T) {
	owners := memory.New()
	st := split.New(owners, memory.New())
	defer st.Close()
	a, b := owner("a"), owner("b")
	live(t, st, b, time.Hour)
	create(t, st, "other", b, 1, 1, store.Applied, "name")
	if c, err := owners.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: b, Create: true, Epoch: 2}); err != nil || c.Outcome != store.Granted {
		t.Fatalf("%+v, %v", c, err)
	}
	for epoch := uint64(1); epoch <= 3; epoch++ {
		create(t, st, "s", a, epoch, 1, store.Fenced, "name")
	}
}

// Data forgets a claim that it had granted. With the ownership elsewhere nobody else is granted the session for that, and the owner gets
// its own epoch back; without, it has two owners.
func TestForgottenClaim(t *testing.T) {
	for _, apart := range []bool{true, false} {
		data := &replicated{Store: memory.New(), replica: memory.New()}
		var st store.Store = data
		if apart {
			st = split.New(memory.New(), data)
		}
		defer st.Close()
		a, b, c := owner("a"), owner("b"), owner("c")
		live(t, st, a, time.Hour)
		live(t, st, b, time.Hour)
		live(t, st, c, time.Hour)
		put(t, st, a, 1, 1, "one", store.Applied)
		live(t, st, a, 0)
		data.cut = true
		claim(t, st, b, store.Granted, 2)
		data.failOver()

		if !apart {
			claim(t, st, c, store.Granted, 2) // as b was
			continue
		}
		claim(t, st, c, store.Held, 2)
		if snap, err := st.Load(t.Context(), "s"); err != nil || !snap.Header.HeldBy(b, 2) {
			t.Errorf("asked for the owner, it is %+v, %v", snap.Header, err)
		}
		put(t, st, a, 1, 3, "late", store.Applied) // what data forgot it cannot refuse
		put(t, st, b, 2, 1, "two", store.Fenced)   // and what follows from the claim neither takes effect
		got := claim(t, st, b, store.Granted, 2)
		if len(got.Entries) != 1 || string(got.Entries[0].Value) != "late" {
			t.Errorf("b finds %+v", got.Entries)
		}
		put(t, st, a, 1, 4, "later", store.Fenced)
		put(t, st, b, 2, 2, "two", store.Applied)
	}
}

// Data has forgotten all tenures after an earlier one of the claimant itself.
func TestForgottenTenures(t *testing.T) {
	data := &replicated{Store: memory.New(), replica: memory.New()}
	st := split.New(memory.New(), data)
	defer st.Close()
	a, b := owner("a"), owner("b")
	put(t, st, a, 1, 1, "one", store.Applied)
	data.cut = true
	claim(t, st, b, store.Granted, 2)
	claim(t, st, a, store.Granted, 3)
	data.failOver()
	claim(t, st, a, store.Granted, 3)
	put(t, st, a, 3, 2, "three", store.Applied)
	put(t, st, b, 2, 3, "two", store.Fenced)
}

// A call that fails in one of the two stores leaves what can be repeated, by the same node or by another.
func TestHalfDone(t *testing.T) {
	for _, part := range []string{"owners", "data"} {
		for _, fail := range []storetest.Failure{storetest.Before, storetest.After} {
			owners, data := storetest.NewFaults(memory.New()), storetest.NewFaults(memory.New())
			st := split.New(owners, data)
			defer st.Close()
			broken := map[string]*storetest.Faults{"owners": owners, "data": data}[part]
			failing := func(kind storetest.Kind, do func() error) {
				t.Helper()
				broken.Inject(storetest.Every(storetest.Fault{Fail: fail}, kind))
				if err := do(); !errors.Is(err, storetest.ErrInjected) {
					t.Errorf("%s fails: %v", part, err)
				}
				broken.Inject(nil)
			}
			apply := func(c store.Change) error {
				rs, err := st.Apply(t.Context(), []store.Change{c})
				if err == nil && rs[0].Outcome == store.Undecided {
					err = rs[0].Err
				}
				return err
			}
			a, b := owner("a"), owner("b")

			// A creation: nobody has heard of it, or it is there.
			failing(storetest.Apply, func() error {
				return apply(store.Change{Session: "s", Owner: a, Epoch: 1, Seq: 1, Create: true, Birth: 1, Puts: []store.Entry{{Value: []byte("one")}}})
			})
			put(t, st, a, 1, 2, "one", store.Applied)

			// A claim.
			failing(storetest.Claim, func() error {
				_, err := st.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: b})
				return err
			})
			claim(t, st, b, store.Granted, 2)
			put(t, st, a, 1, 3, "late", store.Fenced)
			put(t, st, b, 2, 4, "two", store.Applied)

			// A deletion.
			del := store.Change{Session: "s", Owner: b, Epoch: 2, Seq: 5, Delete: true}
			failing(storetest.Apply, func() error { return apply(del) })
			if del.Seq++; apply(del) != nil {
				t.Error("the deletion cannot be repeated")
			}
			claim(t, st, a, store.NotFound, 2)
			c, err := st.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: a, Create: true})
			if err != nil || !c.Created || c.Header.Epoch != 3 {
				t.Errorf("after the deletion it is made: %+v, %v", c, err)
			}
		}
	}
}

// A creation that owners has taken is still on its way to data when somebody else looks for the session and finds nothing.
func TestLateCreation(t *testing.T) {
	data := storetest.NewFaults(memory.New())
	st := split.New(memory.New(), data)
	defer st.Close()
	a, b := owner("a"), owner("b")
	data.Inject(storetest.Every(storetest.Fault{Fail: storetest.Late}, storetest.Apply))
	if _, err := st.Apply(t.Context(), []store.Change{{Session: "s", Owner: a, Epoch: 1, Seq: 1, Create: true}}); err == nil {
		t.Fatal("it has not failed")
	}
	data.Inject(nil)
	c, err := st.Claim(t.Context(), store.ClaimRequest{Session: "s", Owner: b, Create: true})
	if err != nil || !c.Created || c.Header.Epoch != 2 {
		t.Errorf("b makes it: %+v, %v", c, err)
	}
	for _, r := range data.ReplayLate(t.Context()) {
		if r.Err != nil || r.Results[0].Outcome != store.Fenced {
			t.Errorf("the late creation: %+v", r)
		}
	}
	put(t, st, b, 2, 1, "two", store.Applied)
}

// What follows a change of unknown outcome is not written: repeated, that one would be taken for written.
func TestNothingFollowsTheUnknown(t *testing.T) {
	data := storetest.NewFaults(memory.New())
	st := split.New(memory.New(), data)
	defer st.Close()
	a := owner("a")
	put(t, st, a, 1, 1, "one", store.Applied)
	at := func(seq uint64, key string) store.Change {
		return store.Change{Session: "s", Owner: a, Epoch: 1, Seq: seq, Puts: []store.Entry{{Key: key}}}
	}
	other := store.Change{Session: "t", Owner: a, Epoch: 1, Seq: 1, Create: true}
	data.Inject(storetest.First(1, storetest.Fault{Split: func(i int) bool { return i == 0 }}, storetest.Apply))
	rs, err := st.Apply(t.Context(), []store.Change{at(2, "first"), other, at(3, "second")})
	if err != nil || rs[0].Outcome != store.Undecided || rs[1].Outcome != store.Applied || rs[2].Outcome != store.Undecided {
		t.Fatalf("%+v, %v", rs, err)
	}
	if rs, err = st.Apply(t.Context(), []store.Change{at(2, "first"), at(3, "second")}); err != nil || rs[0].Outcome != store.Applied || rs[1].Outcome != store.Applied {
		t.Errorf("repeated: %+v, %v", rs, err)
	}
	if snap, err := st.Load(t.Context(), "s"); err != nil || len(snap.Entries) != 3 {
		t.Errorf("there is %+v, %v", snap, err)
	}
}

// hard is a store with a barrier.
type hard struct {
	store.Store
	err error
	n   int
}

func (h *hard) Barrier(context.Context) error { h.n++; return h.err }

// A barrier is one of each of the two that has it, and its error theirs.
func TestBarrier(t *testing.T) {
	boom := errors.New("boom")
	data := &hard{Store: memory.New()}
	st := split.New(memory.New(), data)
	if err := st.Barrier(t.Context()); err != nil || data.n != 1 {
		t.Errorf("%v, asked %d times", err, data.n)
	}
	data.err = boom
	if err := st.Barrier(t.Context()); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	// What one forgot is told when the other is durable, and not instead of that it is not; once.
	owners := &hard{Store: memory.New(), err: boom}
	data.err = &store.ForgottenError{Sessions: []string{"s"}}
	pair := split.New(owners, data)
	var lost *store.ForgottenError
	if err := pair.Barrier(t.Context()); !errors.Is(err, boom) || errors.As(err, &lost) {
		t.Errorf("one has failed, and the other forgot: %v", err)
	}
	owners.err, data.err = nil, nil
	if err := pair.Barrier(t.Context()); !errors.As(err, &lost) || len(lost.Sessions) != 1 || lost.Sessions[0] != "s" {
		t.Errorf("what was forgotten is told so: %v", err)
	}
	if err := pair.Barrier(t.Context()); err != nil {
		t.Errorf("it is told again: %v", err)
	}
	data.err = boom
	st.Close()
	if err := st.Barrier(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// An alias leads to the owner that owners knows, though data has forgotten the claim. Where data keeps no aliases nothing is found, and nothing named.
func TestLookup(t *testing.T) {
	data := &replicated{Store: memory.New(), replica: memory.New()}
	named := directory{data}
	st := split.New(memory.New(), named)
	defer st.Close()
	a, b := owner("a"), owner("b")
	name := func(st store.Store, session string, o store.Owner, epoch, seq uint64) store.Result {
		t.Helper()
		rs, err := st.Apply(t.Context(), []store.Change{{Session: session, Owner: o, Epoch: epoch, Seq: seq, Create: epoch == 1, Aliases: []string{"x"}}})
		if err != nil {
			t.Fatal(err)
		}
		return rs[0]
	}
	if r := name(st, "s", a, 1, 1); r.Outcome != store.Applied {
		t.Fatalf("%+v", r)
	}
	data.cut = true
	claim(t, st, b, store.Granted, 2)
	data.failOver()
	if h, err := st.Lookup(t.Context(), "x"); err != nil || !h.HeldBy(b, 2) || h.Session != "s" || len(h.Aliases) != 1 {
		t.Errorf("the alias leads to %+v, %v", h, err)
	}
	if f, err := st.Find(t.Context(), store.AliasRange{}); err != nil || len(f.Aliases) != 1 || f.Aliases[0].Alias != "x" || !f.Aliases[0].Header.HeldBy(b, 2) {
		t.Errorf("what is found is %+v, %v", f, err)
	}

	// What is rejected for its alias is not made, in neither of the two; without the alias it is.
	var taken *store.AliasError
	if r := name(st, "t", a, 1, 1); r.Outcome != store.Rejected || !errors.As(r.Err, &taken) || taken.Holder != "s" {
		t.Errorf("a creation that names it: %+v", r)
	}
	if snap, err := st.Load(t.Context(), "t"); err != nil || snap.Header.Exists() {
		t.Errorf("what was rejected is %+v, %v", snap.Header, err)
	}
	rs, err := st.Apply(t.Context(), []store.Change{{Session: "t", Owner: a, Epoch: 1, Seq: 2, Create: true, Birth: 1}})
	if err != nil || rs[0].Outcome != store.Applied {
		t.Errorf("without the alias: %+v, %v", rs, err)
	}

	none := split.New(memory.New(), plain{memory.New()})
	defer none.Close()
	if _, err := none.Lookup(t.Context(), "x"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("of data that looks nothing up: %v", err)
	}
	if _, err := none.Find(t.Context(), store.AliasRange{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("of data that finds nothing: %v", err)
	}
}

// deaf is a store that does not answer for one session, and counts how often it is asked.
type deaf struct {
	store.Store
	to    string
	asked atomic.Int32
}

var errDeaf = errors.New("no answer")

func (d *deaf) Load(ctx context.Context, session string, keys ...string) (store.Snapshot, error) {
	if d.asked.Add(1); session == d.to {
		return store.Snapshot{}, errDeaf
	}
	return d.Store.Load(ctx, session, keys...)
}

// Each session's owner is asked for once, and of one that is not told nothing is found: the rest is.
func TestFind(t *testing.T) {
	owners := &deaf{Store: memory.New(), to: "s7"}
	st := split.New(owners, memory.New())
	defer st.Close()
	o := owner("a")
	for i := range 50 {
		id := fmt.Sprint("s", i)
		rs, err := st.Apply(t.Context(), []store.Change{{Session: id, Owner: o, Epoch: 1, Seq: 1, Create: true, Aliases: []string{"a" + id, "b" + id}}})
		if err != nil || rs[0].Outcome != store.Applied {
			t.Fatal(rs, err)
		}
	}
	owners.asked.Store(0)
	f, err := st.Find(t.Context(), store.AliasRange{})
	if !errors.Is(err, errDeaf) || len(f.Aliases) != 98 || owners.asked.Load() != 50 {
		t.Errorf("of 100 aliases of 50 sessions %d are found, with %d questions, error %v", len(f.Aliases), owners.asked.Load(), err)
	}
	for _, n := range f.Aliases {
		if n.Alias[1:] != n.Header.Session || n.Header.Session == "s7" || !n.Header.HeldBy(o, 1) {
			t.Errorf("%q leads to %+v", n.Alias, n.Header)
		}
	}
}

// plain hides the optional powers of a store.
type plain struct{ store.Store }

// directory has a replicated store look up where it is now.
type directory struct{ *replicated }

func (d directory) Lookup(ctx context.Context, alias string) (store.Header, error) {
	return d.Store.(store.Directory).Lookup(ctx, alias)
}

func (d directory) Find(ctx context.Context, r store.AliasRange) (store.Found, error) {
	return d.Store.(store.Finder).Find(ctx, r)
}
