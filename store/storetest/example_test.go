package storetest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// The test of a store is one call.
func ExampleRun() {
	_ = func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store { return memory.New() })
	}
}

// A call times out although the store has applied it; its repetition does no harm.
func ExampleFaults() {
	ctx := context.Background()
	st := storetest.NewFaults(memory.New())
	defer st.Close()
	me := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	change := store.Change{Session: "call-1", Owner: me, Epoch: 1, Seq: 1, Create: true}

	st.Inject(storetest.First(1, storetest.Fault{Fail: storetest.After}, storetest.Apply))
	_, err := st.Apply(ctx, []store.Change{change})
	fmt.Println(errors.Is(err, storetest.ErrInjected))

	results, err := st.Apply(ctx, []store.Change{change})
	fmt.Println(results[0].Outcome, err, st.Calls(storetest.Apply))
	// Output:
	// true
	// already <nil> 2
}

// A flush fails, and arrives when another owner has taken over.
func ExampleFaults_ReplayLate() {
	ctx := context.Background()
	st := storetest.NewFaults(memory.New())
	defer st.Close()
	a := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	b := store.Owner{Node: "b", Incarnation: store.NewIncarnation()}
	c, _ := st.Claim(ctx, store.ClaimRequest{Session: "call-1", Owner: a, Create: true})

	st.Inject(storetest.Every(storetest.Fault{Fail: storetest.Late}, storetest.Apply))
	st.Apply(ctx, []store.Change{{Session: "call-1", Owner: a, Epoch: c.Header.Epoch, Seq: 1}})
	st.Inject(nil)
	st.Claim(ctx, store.ClaimRequest{Session: "call-1", Owner: b})

	for _, late := range st.ReplayLate(ctx) {
		fmt.Println(late.Results[0].Outcome)
	}
	// Output: fenced
}
