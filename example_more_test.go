package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// A program that would rather wait than lose an update, and rather be refused than be wrong about who owns a session.
func ExampleOptions() {
	ctx := context.Background()
	db, err := kvstore.Open[Call](ctx, memory.New(), kvstore.Options{
		Node:        "a",
		Mode:        kvstore.WriteThrough, // a Put returns when it is stored
		Strict:      true,                 // nothing is served when the lease may be over
		Overflow:    kvstore.Reject,       // a full buffer is an error, not a wait
		MaxBuffer:   16 << 20,
		MaxResident: 100_000, // the others stay owned, and load again when they are touched
	})
	must(err)
	defer db.Close(ctx)

	must(db.Put(ctx, "call-1", Call{State: "up"}))
	fmt.Println("unsaved:", db.Stats().Buffered)

	_, err = kvstore.Open[Call](ctx, memory.New(), kvstore.Options{Lease: time.Millisecond})
	fmt.Println(err)
	// Output:
	// unsaved: 0
	// kvstore: invalid: Options.Lease is 1ms: from 10ms to 1h
}

func ExampleSession_Epoch() {
	ctx := context.Background()
	st := memory.New()
	a, b := openCalls(st, "a"), openCalls(st, "b")
	defer b.Close(ctx)

	s, err := a.AdoptOrCreate(ctx, "call-1")
	must(err)
	fmt.Println(s.ID(), "on a, epoch", s.Epoch())
	must(a.Close(ctx))

	s, err = b.Adopt(ctx, "call-1")
	must(err)
	fmt.Println(s.ID(), "on b, epoch", s.Epoch())
	// Output:
	// call-1 on a, epoch 1
	// call-1 on b, epoch 2
}

func ExampleSession_Lag() {
	ctx := context.Background()
	db := openCalls(memory.New(), "a")
	defer db.Close(ctx)
	s, err := db.AdoptOrCreate(ctx, "call-1")
	must(err)

	must(s.Put(ctx, "", Call{State: "ringing"}))
	fmt.Println("unsaved:", s.Lag() > 0)
	must(s.Sync(ctx))
	fmt.Println("unsaved:", s.Lag() > 0)
	// Output:
	// unsaved: true
	// unsaved: false
}

// A transaction may delete entries, and set when they, or the session, expire.
func ExampleTx() {
	ctx := context.Background()
	db := openCalls(memory.New(), "a")
	defer db.Close(ctx)
	s, err := db.AdoptOrCreate(ctx, "call-1")
	must(err)
	must(s.Put(ctx, "leg/2", Call{State: "ringing"}))

	must(s.Update(ctx, func(tx *kvstore.Tx[Call]) error {
		if err := tx.Delete("leg/2"); err != nil {
			return err
		}
		if err := tx.PutUntil("timer/answer", Call{}, time.Now().Add(time.Minute)); err != nil {
			return err
		}
		tx.Expire(time.Now().Add(time.Hour))
		return nil
	}))
	_, err = s.Get(ctx, "leg/2")
	fmt.Println("the leg is gone:", errors.Is(err, kvstore.ErrNotFound))
	fmt.Println("the call ends by itself:", s.Expires().After(time.Now()))
	// Output:
	// the leg is gone: true
	// the call ends by itself: true
}

// away is a store that cannot be reached.
type away struct{ *memory.Store }

func (away) Apply(ctx context.Context, _ []store.Change) ([]store.Result, error) {
	return nil, errors.New("connection refused")
}

// A Close that runs out of time says how much is not stored, and Hooks.Lost gets it.
func ExampleUnsavedError() {
	db, err := kvstore.Open[Call](context.Background(), away{memory.New()}, kvstore.Options{Hooks: kvstore.Hooks{
		Lost: func(l kvstore.Lost) { fmt.Println("lost:", l.Session, l.Entries[0].Value) },
	}})
	must(err)
	_, err = db.Create(context.Background(), "call-1")
	must(err)
	must(db.Put(context.Background(), "call-1", Call{State: "up"}))

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err = db.Close(ctx)
	var unsaved *kvstore.UnsavedError
	if errors.As(err, &unsaved) {
		fmt.Println(unsaved.Entries, "entry of", unsaved.Sessions, "session")
	}
	// Output:
	// lost: call-1 {  up}
	// 1 entry of 1 session
}

// The difference of two Stats is about the time between them.
func ExampleStats_Sub() {
	ctx := context.Background()
	db := openCalls(memory.New(), "a")
	defer db.Close(ctx)

	before := db.Stats()
	for range 1000 {
		must(db.Put(ctx, "call-1", Call{State: "up"}))
	}
	must(db.Flush(ctx))
	s := db.Stats().Sub(before)
	fmt.Println(s.Changes > s.Puts, s.Puts > 0, s.Lost)
	// Output: true true 0
}

func ExampleRing_Members() {
	ring, err := kvstore.NewRing(kvstore.Member{Name: "a", Weight: 1}, kvstore.Member{Name: "b", Weight: 2})
	must(err)
	for _, m := range ring.Members() {
		fmt.Println(m.Name, m.Weight)
	}
	// Output:
	// a 1
	// b 2
}
