package seal_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/seal"
)

// secret is a key as it comes from wherever keys are kept.
func secret(first byte) [32]byte { return [32]byte(bytes.Repeat([]byte{first}, 32)) }

// Any store is sealed by one line between it and the DB.
func ExampleNew() {
	ctx := context.Background()
	st, err := seal.New(memory.New(), seal.Options{Keys: []seal.Key{{ID: 1, Secret: secret(0xa1)}}})
	if err != nil {
		log.Fatal(err)
	}
	db, err := kvstore.Open[string](ctx, st, kvstore.Options{Node: "a"})
	if err != nil {
		log.Fatal(err)
	}
	defer st.Close()
	defer db.Close(ctx)

	if err := db.Put(ctx, "call-1", "alice"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(db.Get(ctx, "call-1"))
	// Output: alice <nil>
}

// With a NameKey the inner store sees no names either.
func ExampleOptions_nameKey() {
	ctx := context.Background()
	inner, names := memory.New(), secret(0xee)
	st, err := seal.New(inner, seal.Options{Keys: []seal.Key{{ID: 1, Secret: secret(0xa1)}}, NameKey: &names})
	if err != nil {
		log.Fatal(err)
	}
	defer st.Close()
	me := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	st.Claim(ctx, store.ClaimRequest{Session: "call-1", Owner: me, Create: true})

	for h := range st.Sessions(ctx, store.Query{}) {
		fmt.Println(h.Session)
	}
	for h := range inner.Sessions(ctx, store.Query{}) {
		fmt.Println(len(h.Session), "bytes, in clear:", bytes.Contains([]byte(h.Session), []byte("call")))
	}
	// Output:
	// call-1
	// 22 bytes, in clear: false
}

// A new key is appended to the ring, and what the old one has sealed is rewritten, until the old one is needed no more.
func ExampleStore_Reseal() {
	ctx := context.Background()
	inner := memory.New()
	older := seal.Key{ID: 1, Secret: secret(0xa1)}
	newer := seal.Key{ID: 2, Secret: secret(0xa2)}

	st, err := seal.New(inner, seal.Options{Keys: []seal.Key{older}})
	if err != nil {
		log.Fatal(err)
	}
	me := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	st.Apply(ctx, []store.Change{{
		Session: "call-1", Owner: me, Epoch: 1, Seq: 1, Create: true, Release: true,
		Puts: []store.Entry{{Value: []byte("alice")}},
	}})

	if st, err = seal.New(inner, seal.Options{Keys: []seal.Key{older, newer}}); err != nil {
		log.Fatal(err)
	}
	done, err := st.Reseal(ctx, seal.ResealOptions{})
	fmt.Printf("%+v %v\n", done, err)

	if st, err = seal.New(inner, seal.Options{Keys: []seal.Key{newer}}); err != nil {
		log.Fatal(err)
	}
	defer st.Close()
	snap, err := st.Load(ctx, "call-1")
	fmt.Printf("%s %v\n", snap.Entries[0].Value, err)
	// Output:
	// {Seen:1 Resealed:1 Entries:1 Remaining:0 Failed:0} <nil>
	// alice <nil>
}
