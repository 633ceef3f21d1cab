package nats_test

import (
	"context"
	"log"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/nats"
)

type Call struct{ From, To string }

// Two nodes on two machines have the same stream, which three servers keep. When one dies, the other adopts its calls as their events arrive.
func Example() {
	ctx := context.Background()
	st, err := nats.Open(ctx, "tls://calls:secret@n1.internal,tls://calls:secret@n2.internal,tls://calls:secret@n3.internal", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer st.Close()
	db, err := kvstore.Open[Call](ctx, st, kvstore.Options{Node: "a", Addr: "10.0.0.1:5060"})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)
	s, err := db.AdoptOrCreate(ctx, "call-1")
	if err != nil {
		log.Print(err)
		return
	}
	if err := s.Put(ctx, "", Call{"alice", "bob"}); err != nil {
		log.Print(err)
	}
}
