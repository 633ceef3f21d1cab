package storetest

import (
	"errors"
	"strings"
	"sync"

	"github.com/seed-6f1f505d/kvstore/store"
)

var claimEpochRules = []rule{
	{"Otherwise the epoch is raised: to req.Epoch if it is proposed, else to one more than the highest that the session ever had, deleted lives included.", []testcase{
		{"by one", func(k *kit) {
			for n, t := uint64(1), k.own("s"); n < 5; n, t = n+1, k.take("s") {
				if t.epoch != n {
					k.fail("claim %d is granted at epoch %d", n, t.epoch)
				}
			}
		}},
		{"to the proposed one", func(k *kit) {
			k.own("s")
			for _, epoch := range []uint64{2, 3, 70, 1 << 40} {
				c := k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: newOwner("b"), Force: true, Epoch: epoch})
				if c.Header.Epoch != epoch {
					k.fail("proposed %d, granted %d", epoch, c.Header.Epoch)
				}
			}
			if t := k.take("s"); t.epoch != 1<<40+1 {
				k.fail("epoch is %d, want one more than %d", t.epoch, uint64(1<<40))
			}
		}},
		{"to the proposed one of a new session", func(k *kit) {
			k.alive(newOwner("other"))
			t := k.claimed(store.ClaimRequest{Session: "s", Owner: newOwner("a"), Create: true, Epoch: 12})
			if t.epoch != 12 {
				k.fail("proposed 12, granted %d", t.epoch)
			}
		}},
		{"deleted lives included", func(k *kit) {
			last := uint64(0)
			for life := range 4 {
				t := k.own("s", "k", "v")
				if t.epoch != last+1 {
					k.fail("life %d has epoch %d, want %d", life, t.epoch, last+1)
				}
				last = t.epoch
				k.applied(erasing(t.change()))
			}
		}},
		{"lives that changes made are included", func(k *kit) {
			a := unclaimed("s", 40)
			k.applied(creating(a.change("k", "v")))
			k.applied(erasing(a.change()))
			if t := k.own("s"); t.epoch != 41 {
				k.fail("epoch is %d, want 41", t.epoch)
			}
		}},
		{"expired lives are included", func(k *kit) {
			a := k.own("s", "k", "v")
			k.applied(ending(a.change(), anHourAgo()))
			if b := k.own("s"); b.epoch != a.epoch+1 {
				k.fail("epoch is %d, want %d", b.epoch, a.epoch+1)
			}
		}},
	}},
	{"A proposal that is not above that highest epoch is Outbid.", []testcase{
		{"of a session", func(k *kit) {
			k.claimed(store.ClaimRequest{Session: "s", Owner: newOwner("a"), Create: true, Epoch: 10})
			k.outbid(10)
		}},
		{"of a deleted session", func(k *kit) {
			a := k.claimed(store.ClaimRequest{Session: "s", Owner: newOwner("a"), Create: true, Epoch: 10})
			k.applied(erasing(a.change()))
			k.outbid(10)
		}},
		{"of an expired session", func(k *kit) {
			a := k.claimed(store.ClaimRequest{Session: "s", Owner: newOwner("a"), Create: true, Epoch: 10})
			k.applied(ending(a.change("k", "v"), anHourAgo()))
			k.outbid(10)
		}},
		{"of a released session, by its last owner", func(k *kit) {
			a := k.claimed(store.ClaimRequest{Session: "s", Owner: newOwner("a"), Create: true, Epoch: 10})
			k.applied(releasing(a.change()))
			k.claims(store.Outbid, store.ClaimRequest{Session: "s", Owner: a.owner, Epoch: 10})
		}},
	}},
	{"So is every claim that would raise an epoch beyond MaxEpoch.", []testcase{
		{"the last epoch", func(k *kit) {
			a := k.claimed(store.ClaimRequest{Session: "s", Owner: newOwner("a"), Create: true, Epoch: store.MaxEpoch})
			k.claims(store.Outbid, store.ClaimRequest{Session: "s", Owner: newOwner("b")})
			k.claims(store.Outbid, store.ClaimRequest{Session: "s", Owner: newOwner("b"), Force: true, Epoch: store.MaxEpoch})
			k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: a.owner})
			k.applied(a.change("k", "still mine"))
		}},
	}},
	{"Of any number of concurrent claimants of one epoch exactly one is granted.", []testcase{
		{"claimants of an orphan", func(k *kit) {
			k.contest(func(k *kit) { k.own("s", "k", "v") }, store.ClaimRequest{})
		}},
		{"claimants of a released session", func(k *kit) {
			k.contest(func(k *kit) { k.applied(releasing(k.own("s", "k", "v").change())) }, store.ClaimRequest{})
		}},
		{"claimants of a deleted session", func(k *kit) {
			k.contest(func(k *kit) { k.applied(erasing(k.own("s", "k", "v").change())) }, store.ClaimRequest{Create: true})
		}},
		{"claimants of a proposed epoch", func(k *kit) {
			k.contest(func(k *kit) { k.own("s", "k", "v") }, store.ClaimRequest{Force: true, Epoch: 1})
		}},
		{"by force", func(k *kit) {
			k.own("s", "k", "v")
			epochs := map[uint64]bool{}
			for range 20 {
				for _, c := range k.rush(store.ClaimRequest{Force: true}) {
					if c.Outcome != store.Granted || epochs[c.Header.Epoch] {
						k.fail("claim is %s at epoch %d, want granted at one of its own", c.Outcome, c.Header.Epoch)
					}
					epochs[c.Header.Epoch] = true
				}
			}
		}},
	}},
	{"ErrInvalid is what a malformed request's error wraps. Nothing of it was applied.", []testcase{
		{"claims", func(k *kit) {
			a, long := k.own("s", "k", "v"), strings.Repeat("x", 1025)
			for what, r := range map[string]store.ClaimRequest{
				"no session":         {Owner: newOwner("b")},
				"a long session ID":  {Session: long, Owner: newOwner("b")},
				"nobody as owner":    {Session: "s"},
				"a name as an owner": {Session: "s", Owner: store.Owner{Node: "b"}},
				"a long key":         {Session: "s", Owner: newOwner("b"), Keys: []string{"k", long}},
				"too high an epoch":  {Session: "s", Owner: newOwner("b"), Epoch: store.MaxEpoch + 1},
			} {
				r.Create, r.Force = true, true
				if c, err := k.st.Claim(k.ctx, r); !errors.Is(err, store.ErrInvalid) {
					k.fail("a claim with %s gives %+v and error %v, want ErrInvalid", what, c, err)
				}
			}
			k.applied(a.change("k", "still mine"))
			if n := len(k.walk(store.Query{})); n != 1 {
				k.fail("the walk has %d sessions, want 1", n)
			}
		}},
	}},
}

// outbid proposes epochs for session "s" up to the one it has.
func (k *kit) outbid(has uint64) {
	k.t.Helper()
	for _, epoch := range []uint64{1, has - 1, has} {
		k.unchanged("s", "a claim that is outbid", func() {
			c := k.claims(store.Outbid, store.ClaimRequest{Session: "s", Owner: newOwner("b"), Create: true, Force: true, Epoch: epoch})
			if c.Header.Epoch != has {
				k.fail("header is %+v, want that on record", c.Header)
			}
		})
	}
	k.claims(store.Granted, store.ClaimRequest{Session: "s", Owner: newOwner("b"), Create: true, Force: true, Epoch: has + 1})
}

// rush makes the same claim for many living owners at once.
func (k *kit) rush(r store.ClaimRequest) []store.Claim {
	k.t.Helper()
	answers := make([]store.Claim, 8)
	errs := make([]error, len(answers))
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range answers {
		r := r
		r.Session, r.Owner = "s", newOwner("claimant")
		k.alive(r.Owner)
		wg.Go(func() {
			<-start
			answers[i], errs[i] = k.st.Claim(k.ctx, r)
		})
	}
	close(start)
	wg.Wait()
	for i := range errs {
		if errs[i] != nil {
			k.fail("Claim gives error %v", errs[i])
		}
	}
	return answers
}

// contest lets owners claim session "s", as prepare leaves it, of whom one may win.
func (k *kit) contest(prepare func(k *kit), r store.ClaimRequest) {
	k.t.Helper()
	for range 25 {
		prepare(k)
		winners, highest := 0, k.load("s").Header.Epoch
		if r.Epoch != 0 {
			r.Epoch = highest + 5
		}
		for _, c := range k.rush(r) {
			switch {
			case c.Outcome == store.Granted && c.Header.Epoch != max(highest+1, r.Epoch):
				k.fail("epoch %d was the last one, and %d is granted", highest, c.Header.Epoch)
			case c.Outcome == store.Granted:
				winners++
			case c.Outcome != store.Held && c.Outcome != store.Outbid:
				k.fail("a loser's claim is %s", c.Outcome)
			}
		}
		if winners != 1 {
			k.fail("%d claimants were granted epoch %d", winners, max(highest+1, r.Epoch))
		}
	}
}
