// Package storetest is the contract of [store.Store] as a test suite, and a
// wrapper that makes a store fail on command.
//
// # The contract
//
// Who writes a Store runs [Run] in a test of it:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) store.Store {
//			st, err := mine.Open(t.TempDir())
//			if err != nil {
//				t.Fatal(err)
//			}
//			return st
//		})
//	}
//
// Each sentence of the contract has a case of its own or several, and a case
// that fails opens its message with that sentence. Each case has a store to
// itself: open must return one that is empty, and Run closes it. Cases run one after the other, so
// that open may also clear a database that all of them share.
//
// The suite waits for conditions and never for a time, hence a slow store is
// not a failing one. It presumes that the store's clock and the test's agree, and that leases of
// some ten milliseconds are possible. Run it with -race, too.
//
// A store that keeps no aliases is asked for none, but for those that it has to reject.
//
// Some sentences are about damaged data, which nothing in the interface can
// make. A store that is also a [Damager] has them tested; else those cases are skipped.
//
// # The race
//
// The fence has to hold while former owners are writing. [Race], which is part of
// Run, lets owners chase each other off a session while every one of them goes on
// writing, and compares afterwards what each was told with what each has read.
// Call it by itself, with more rounds, to soak a store. [RaceAliases] does the same for an alias that two sessions want.
//
// # Real engines
//
// Two things need more than one way to an engine. [LateArrival] has flushes arrive, over a path on which they were held back, when their caller has given up and
// somebody else has the session. [Pinned] reads at one server what was acknowledged by another. [Compare] runs a store beside the reference.
//
// # Faults
//
// Who writes a program on top of a Store tests it with [Faults] between the
// two: calls that are slow, fail, hang, fail although they were applied, are
// applied long after they failed, arrive twice, or succeed in part. See [Fault].
package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// T is what the cases use of a [testing.T].
type T interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any) // must not return
	Skipf(format string, args ...any)  // must not return
}

// Run tests the contract. open returns a new, empty store, which Run closes.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, m := range contract {
		t.Run(m.name, func(t *testing.T) {
			for _, r := range m.rules {
				for _, c := range r.cases {
					t.Run(c.name, func(t *testing.T) {
						st := open(t)
						t.Cleanup(func() { st.Close() })
						r.check(t, st, c)
					})
				}
			}
		})
	}
}

// contract is the comment on store.Store, in its order.
var contract = []struct {
	name  string
	rules []rule
}{
	{"General", generalRules},
	{"Context", contextRules},
	{"Bytes", bytesRules},
	{"Expiry", expiryRules},
	{"Damage", damageRules},
	{"Claim", claimRules},
	{"ClaimEpoch", claimEpochRules},
	{"ClaimCreate", claimCreateRules},
	{"ClaimAll", claimAllRules},
	{"Apply", applyRules},
	{"ApplyFence", fenceRules},
	{"ApplyRepeat", repeatRules},
	{"ApplyTombstone", tombstoneRules},
	{"ApplyBatch", batchRules},
	{"ApplyAliases", aliasRules},
	{"Lookup", lookupRules},
	{"Find", findRules},
	{"Load", loadRules},
	{"LoadRange", rangeRules},
	{"Sessions", sessionsRules},
	{"KeepAlive", leaseRules},
	{"WatchNodes", watchRules},
	{"Close", closeRules},
	{"Race", raceRules},
	{"RaceAliases", raceAliasRules},
}

// rule is a sentence of the contract and what shows that it is kept.
type rule struct {
	says  string
	cases []testcase
}

type testcase struct {
	name string
	run  func(k *kit)
}

// patience bounds how long a case may wait for something that must come. It is
// far beyond what any store needs: only a broken one meets it.
const patience = time.Minute

func (r rule) check(t T, st store.Store, c testcase) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c.run(&kit{t: t, st: st, ctx: ctx, says: r.says})
}
