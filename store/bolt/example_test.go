package bolt_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
)

// A session outlives the process that owned it: the next one claims it, with what was in it.
func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sessions.db")

	st, err := bolt.Open(path, nil)
	if err != nil {
		log.Fatal(err)
	}
	first := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	results, err := st.Apply(ctx, []store.Change{{
		Session: "call-1", Owner: first, Epoch: 1, Seq: 1, Create: true,
		Puts: []store.Entry{{Value: []byte("ringing")}},
	}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(results[0].Outcome)
	st.Close()

	if st, err = bolt.Open(path, &bolt.Options{Check: true}); err != nil {
		log.Fatal(err)
	}
	defer st.Close()
	second := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	claim, err := st.Claim(ctx, store.ClaimRequest{Session: "call-1", Owner: second, All: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("epoch %d, %s\n", claim.Header.Epoch, claim.Entries[0].Value)
	// Output:
	// applied
	// epoch 2, ringing
}
