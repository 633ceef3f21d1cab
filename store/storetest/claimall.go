package storetest

import (
	"context"
	"errors"
	"slices"

	"github.com/seed-6f1f505d/kvstore/store"
)

// inAll is a store whose claims are made by ClaimAll. So all that holds of a claim is tested of it, too.
type inAll struct {
	store.Store
	claimer store.Claimer
}

func (s inAll) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	cs, err := s.claimer.ClaimAll(ctx, []store.ClaimRequest{r})
	if err != nil {
		return store.Claim{}, err
	}
	c := cs[0]
	err, c.Err = c.Err, nil
	return c, err
}

// asDecided returns the rules of claims for a store whose claims are made by ClaimAll.
func asDecided(rules ...[]rule) (all []rule) {
	for _, r := range slices.Concat(rules...) {
		decided := rule{says: r.says}
		for _, c := range r.cases {
			decided.cases = append(decided.cases, testcase{c.name, func(k *kit) {
				in := *k
				in.st = inAll{k.st, k.claimer()}
				c.run(&in)
			}})
		}
		all = append(all, decided)
	}
	return all
}

func (k *kit) claimer() store.Claimer {
	k.t.Helper()
	c, ok := k.st.(store.Claimer)
	if !ok {
		k.t.Skipf("the store is no store.Claimer")
	}
	return c
}

var claimAllRules = append(asDecided(claimRules, claimEpochRules, claimCreateRules, raceRules), []rule{
	{"ClaimAll decides each request as Claim does, each for itself, and returns one answer per request, in their order.", []testcase{
		{"of every outcome", func(k *kit) {
			all := k.claimer()
			held, free := k.own("held", "k", "1"), k.own("free", "", "2", "k", "3")
			k.alive(held.owner)
			robbed, mine := k.own("robbed", "k", "4"), k.own("mine", "k", "5")
			k.alive(robbed.owner)
			gone := k.own("gone", "k", "6")
			k.applied(erasing(gone.change()))
			b := mine.owner
			cs, err := all.ClaimAll(k.ctx, []store.ClaimRequest{
				{Session: "held", Owner: b},
				{Session: "free", Owner: b, Keys: []string{"", "k", "x"}},
				{Session: "absent", Owner: b},
				{Session: "new", Owner: b, Create: true},
				{Session: "robbed", Owner: b, Force: true, All: true},
				{Session: "mine", Owner: b, Keys: []string{"k"}},
				{Session: "gone", Owner: b, Create: true, All: true},
				{Session: "free\x00", Owner: b},
			})
			want := []struct {
				outcome store.ClaimOutcome
				epoch   uint64
				created bool
				entries []string
			}{
				{store.Held, 1, false, nil},
				{store.Granted, free.epoch + 1, false, []string{"", "2", "k", "3"}},
				{store.NotFound, 0, false, nil},
				{store.Granted, 1, true, nil},
				{store.Granted, robbed.epoch + 1, false, []string{"k", "4"}},
				{store.Granted, mine.epoch, false, []string{"k", "5"}},
				{store.Granted, gone.epoch + 1, true, nil},
				{store.NotFound, 0, false, nil},
			}
			if err != nil || len(cs) != len(want) {
				k.fail("%d answers, %v; want %d", len(cs), err, len(want))
			}
			for i, w := range want {
				if c := cs[i]; c.Outcome != w.outcome || c.Header.Epoch != w.epoch || c.Created != w.created || c.Err != nil {
					k.fail("answer %d is %+v, want %+v", i, c, w)
				}
				k.same(k.read(cs[i]), w.entries...)
			}
			k.held(cs[0], held)
			k.gets(store.Fenced, robbed.change("k", "late"))
			k.gets(store.Fenced, free.change("k", "late"))
			k.applied(held.change("k", "still mine"))
		}},
		{"many", func(k *kit) {
			all := k.claimer()
			const n = 300
			rs := make([]store.ClaimRequest, n)
			for i := range rs {
				rs[i] = store.ClaimRequest{Session: string(rune('a' + i)), Owner: newOwner("b"), Create: i%2 == 0, All: true}
			}
			cs, err := all.ClaimAll(k.ctx, rs)
			if err != nil || len(cs) != n {
				k.fail("%d answers, %v", len(cs), err)
			}
			for i, c := range cs {
				if want := []store.ClaimOutcome{store.Granted, store.NotFound}[i%2]; c.Outcome != want || i%2 == 0 && (c.Header.Session != rs[i].Session || c.Header.Owner != rs[i].Owner) {
					k.fail("answer %d to %+v is %+v, want %v", i, rs[i], c, want)
				}
			}
		}},
		{"none", func(k *kit) {
			if cs, err := k.claimer().ClaimAll(k.ctx, nil); err != nil || len(cs) != 0 {
				k.fail("answers %+v, %v", cs, err)
			}
		}},
	}},
	{"No session stands twice.", []testcase{
		{"one does", func(k *kit) {
			r := store.ClaimRequest{Session: "s", Owner: newOwner("b"), Create: true}
			if _, err := k.claimer().ClaimAll(k.ctx, []store.ClaimRequest{r, r}); !errors.Is(err, store.ErrInvalid) {
				k.fail("error %v, want one that wraps ErrInvalid", err)
			}
			if h := k.load("s").Header; h.Epoch != 0 {
				k.fail("header is %+v", h)
			}
		}},
		{"one is malformed", func(k *kit) {
			rs := []store.ClaimRequest{{Session: "s", Owner: newOwner("b"), Create: true}, {Session: "t"}}
			if _, err := k.claimer().ClaimAll(k.ctx, rs); !errors.Is(err, store.ErrInvalid) {
				k.fail("error %v, want one that wraps ErrInvalid", err)
			}
			if h := k.load("s").Header; h.Epoch != 0 {
				k.fail("header is %+v", h)
			}
		}},
	}},
	{"A context that is over when the call begins gives the context's error, and nothing is changed.", []testcase{
		{"of many claims", func(k *kit) {
			ctx, cancel := context.WithCancel(k.ctx)
			cancel()
			if _, err := k.claimer().ClaimAll(ctx, []store.ClaimRequest{{Session: "s", Owner: newOwner("b"), Create: true}}); !errors.Is(err, context.Canceled) {
				k.fail("error %v", err)
			}
			if h := k.load("s").Header; h.Epoch != 0 {
				k.fail("header is %+v", h)
			}
		}},
	}},
	{"After Close every method gives [ErrClosed]. Close may be called twice.", []testcase{
		{"many claims", func(k *kit) {
			all := k.claimer()
			k.st.Close()
			if _, err := all.ClaimAll(k.ctx, []store.ClaimRequest{{Session: "s", Owner: newOwner("b")}}); !errors.Is(err, store.ErrClosed) {
				k.fail("error %v", err)
			}
		}},
	}},
	{"A request that has no answer, because the session's header is damaged, say, says why in its Err", []testcase{
		{"one of two", func(k *kit) {
			all := k.claimer()
			d, ok := k.st.(Damager)
			if !ok {
				k.t.Skipf("the store is no Damager")
			}
			k.own("bad", "k", "v")
			k.own("good", "k", "v")
			if err := d.Damage("bad", "", true); err != nil {
				k.fail("Damage: %v", err)
			}
			cs, err := all.ClaimAll(k.ctx, []store.ClaimRequest{{Session: "bad", Owner: newOwner("b")}, {Session: "good", Owner: newOwner("b"), All: true}})
			var damaged *store.CorruptError
			if err != nil || !errors.As(cs[0].Err, &damaged) || damaged.Session != "bad" || cs[0].Outcome != 0 || cs[1].Outcome != store.Granted || cs[1].Err != nil {
				k.fail("answers %+v, %v", cs, err)
			}
		}},
	}},
}...)
