package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// An index that the program keeps beside its sessions: who is in which call.
func ExampleDB_OnCommit() {
	ctx := context.Background()
	db := openCalls(memory.New(), "a")

	callers := map[string]string{} // used on the goroutine of OnCommit only, until Close
	_, err := db.OnCommit(func(c kvstore.Commit[Call]) {
		for _, ch := range c.Changes {
			if ch.Old.Exists {
				delete(callers, ch.Old.Value.From)
			}
			if ch.New.Exists {
				callers[ch.New.Value.From] = c.Session
			}
			fmt.Println(c.Cause, c.Session, ch.Cause, ch.New.Value.State)
		}
		if len(c.Changes) == 0 {
			fmt.Println(c.Cause, c.Session)
		}
	})
	must(err)

	must(db.Put(ctx, "call-1", Call{From: "anna", To: "ben", State: "ringing"}))
	must(db.Put(ctx, "call-1", Call{From: "anna", To: "ben", State: "answered"}))
	must(db.Put(ctx, "call-2", Call{From: "carl", To: "dora", State: "ringing"}))
	must(db.Delete(ctx, "call-1"))
	must(db.Close(ctx)) // returns when all has been told

	fmt.Println(callers["carl"])
	// Output:
	// create call-1
	// update call-1 put ringing
	// update call-1 put answered
	// create call-2
	// update call-2 put ringing
	// delete call-1
	// call-2
}

// The calls that are answered, as it happens.
func ExampleDB_Watch() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db := openCalls(memory.New(), "a")
	defer db.Close(ctx)

	changes := db.Watch(ctx, kvstore.Filter{Sessions: "call-"}) // from now on
	must(db.Put(ctx, "call-1", Call{State: "ringing"}))
	must(db.Put(ctx, "cart-7", Call{State: "full"}))
	must(db.Put(ctx, "call-1", Call{State: "answered"}))

	for c, err := range changes {
		must(err) // the DB was closed
		if c.Missed > 0 {
			fmt.Println("too slow: read everything again")
		}
		for _, ch := range c.Changes {
			fmt.Printf("%s: %q, was %q\n", c.Session, ch.New.Value.State, ch.Old.Value.State)
			if ch.New.Value.State == "answered" {
				return
			}
		}
	}
	// Output:
	// call-1: "ringing", was ""
	// call-1: "answered", was "ringing"
}

// The legs of one call.
func ExampleSession_Watch() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db := openCalls(memory.New(), "a")
	defer db.Close(ctx)
	s, err := db.AdoptOrCreate(ctx, "call-1")
	must(err)

	legs := s.Watch(ctx, "leg/")
	must(s.Put(ctx, "leg/1", Call{State: "ringing"}))
	must(s.Put(ctx, "bill", Call{}))
	must(s.Delete(ctx, "leg/1"))
	must(db.Delete(ctx, "call-1"))

	for c, err := range legs {
		must(err)
		for _, ch := range c.Changes {
			fmt.Println(ch.Cause, ch.Key)
		}
		if c.Cause == kvstore.CauseDelete {
			fmt.Println("the call is over")
			break
		}
	}
	// Output:
	// put leg/1
	// delete leg/1
	// the call is over
}

// A rule that holds for every change, wherever in the program it is made: a call that has ended stays so.
func ExampleDB_BeforeCommit() {
	ctx := context.Background()
	db := openCalls(memory.New(), "a")
	defer db.Close(ctx)

	errEnded := errors.New("the call has ended")
	_, err := db.BeforeCommit(func(ctx context.Context, c kvstore.Commit[Call]) error {
		for _, ch := range c.Changes {
			if ch.Old.Exists && ch.Old.Value.State == "ended" {
				return errEnded
			}
		}
		return nil
	})
	must(err)

	must(db.Put(ctx, "call-1", Call{State: "ended"}))
	err = db.Put(ctx, "call-1", Call{State: "ringing"})
	fmt.Println(err)
	fmt.Println(errors.Is(err, kvstore.ErrRefused), errors.Is(err, errEnded))

	call, err := db.Get(ctx, "call-1")
	must(err)
	fmt.Println(call.State)
	// Output:
	// kvstore: refused: session "call-1": the call has ended
	// true true
	// ended
}
