package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/seed-6f1f505d/kvstore/store"
)

var raceAliasRules = []rule{
	{saysOneHas, []testcase{
		{"owners and zombies race for an alias", func(k *kit) {
			for i := range 4 {
				k.raceAlias(fmt.Sprint("named/", i))
			}
		}},
	}},
}

const saysOneHas = "No two sessions have one alias: a change that would be Applied, and names an alias which another session has that is not gone, is " +
	"Rejected instead, with an [*AliasError] of the first such alias."

// RaceAliases tests by racing, as one case of Run does, for the given number of rounds, that no two sessions have one alias: the owners of two
// sessions name it and leave it out without a pause, while others adopt the sessions, and the former owners go on. A store that keeps no aliases is skipped. It
// leaves its sessions, whose names begin with "race/".
func RaceAliases(t T, st store.Store, rounds int) {
	t.Helper()
	run := store.NewIncarnation()
	for i := range rounds {
		r := rule{says: saysOneHas}
		r.check(t, st, testcase{run: func(k *kit) { k.raceAlias(fmt.Sprint("race/", run, "/", i)) }})
	}
}

const (
	aliasTenures = 4  // of each session, one after the other
	aliasChanges = 10 // tried by each tenure before it is succeeded
	aliasAfter   = 6  // tried by it as a zombie
)

// aliasRace is two sessions and the alias that both want. Whoever was told that it has it looks at its session, at the other, and at its own
// again. The pair (epoch, seq) orders all states of a session and none comes twice, so that
//
//	own₁.(epoch, seq) = own₂.(epoch, seq)  ⇒  own was in that state when the other was read
//	own₁ lists the alias, the other lists it  ⇒  two sessions had it at once
//
// for no session of the race expires.
type aliasRace struct {
	*kit
	alias string
	ids   [2]string
	dir   store.Directory

	mu     sync.Mutex
	failed bool
}

func (k *kit) raceAlias(id string) {
	k.t.Helper()
	r := &aliasRace{kit: k, alias: id, ids: [2]string{id + "/a", id + "/b"}, dir: k.directory()}
	var all sync.WaitGroup
	for i := range r.ids {
		t := k.own(r.ids[i])
		all.Go(func() { r.reign(&all, t, i, 1) })
	}
	all.Wait()
	var has []string
	for _, id := range r.ids {
		if slices.Contains(k.load(id).Header.Aliases, r.alias) {
			has = append(has, id)
		}
	}
	switch h := k.lookup(r.dir, r.alias); {
	case len(has) > 1:
		r.blame("in the end %q have it", has)
	case len(has) == 1 && h.Session != has[0], len(has) == 0 && h.Epoch != 0:
		r.blame("in the end %q list it, and it is that of %+v", has, h)
	}
}

// blame reports the first thing that is wrong.
func (r *aliasRace) blame(format string, args ...any) {
	r.t.Helper()
	r.mu.Lock()
	again := r.failed
	r.failed = true
	r.mu.Unlock()
	if !again {
		r.complain("alias %q: %s", r.alias, fmt.Sprintf(format, args...))
	}
}

// reign is the n-th tenure of session i: it writes, is succeeded, and goes on for a while.
func (r *aliasRace) reign(all *sync.WaitGroup, t *tenure, i, n int) {
	for x := range aliasChanges + aliasAfter {
		if x == aliasChanges && n < aliasTenures {
			q := store.ClaimRequest{Session: t.session, Owner: newOwner(fmt.Sprint("racer", n)), Force: true}
			c, err := r.st.Claim(r.ctx, q)
			if err != nil || c.Outcome != store.Granted {
				r.blame("Claim gives %+v, %v", c, err)
				return
			}
			next := &tenure{session: t.session, owner: q.Owner, epoch: c.Header.Epoch}
			all.Go(func() { r.reign(all, next, i, n+1) })
		}
		if !r.write(t, i) {
			return
		}
	}
}

// write makes the tenure's next change, which names the alias or not, and reports whether the race goes on.
func (r *aliasRace) write(t *tenure, i int) bool {
	c := t.change("k", "v")
	if rand.N(3) > 0 {
		c.Aliases = []string{r.alias}
	}
	rs, err := r.st.Apply(r.ctx, []store.Change{c})
	if err != nil || len(rs) != 1 {
		r.blame("Apply gives %+v, %v", rs, err)
		return false
	}
	switch o := rs[0].Outcome; {
	case o == store.Fenced, o == store.Rejected && len(c.Aliases) > 0:
	case o != store.Applied:
		r.blame("a change is %+v", rs[0])
		return false
	case len(c.Aliases) > 0:
		return r.alone(i)
	}
	return true
}

// alone looks whether session i and the other have the alias at once.
func (r *aliasRace) alone(i int) bool {
	var hs [3]store.Header
	for n, id := range []string{r.ids[i], r.ids[1-i], r.ids[i]} {
		s, err := r.st.Load(r.ctx, id, "none")
		if err != nil {
			r.blame("Load gives error %v", err)
			return false
		}
		hs[n] = s.Header
	}
	still := hs[0].Epoch == hs[2].Epoch && hs[0].Seq == hs[2].Seq
	if still && slices.Contains(hs[0].Aliases, r.alias) && slices.Contains(hs[1].Aliases, r.alias) {
		r.blame("two sessions have it at once: %+v and %+v", hs[0], hs[1])
	}
	return true
}
