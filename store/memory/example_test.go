package memory_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// A call is found by the name that its device knows it by, which no other call gets meanwhile.
func ExampleStore_Lookup() {
	ctx := context.Background()
	st := memory.New()
	defer st.Close()
	owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	create := func(session, alias string) store.Change {
		return store.Change{Session: session, Owner: owner, Epoch: 1, Seq: 1, Create: true, Aliases: []string{alias}}
	}
	rs, err := st.Apply(ctx, []store.Change{create("call/7", "device/12"), create("call/8", "device/12")})
	if err != nil {
		fmt.Println(err)
		return
	}
	var taken *store.AliasError
	for _, r := range rs {
		fmt.Println(r.Outcome, errors.As(r.Err, &taken))
	}
	fmt.Println(taken)
	h, err := st.Lookup(ctx, "device/12")
	fmt.Println(h.Session, err)
	// Output:
	// applied false
	// rejected true
	// store: session "call/8": the alias "device/12" is that of session "call/7"
	// call/7 <nil>
}
