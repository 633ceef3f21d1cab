package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strconv"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// exampleSession returns a new session for the examples, and what ends it.
func exampleSession() (*kvstore.DB[string], *kvstore.Session[string]) {
	ctx := context.Background()
	db, err := kvstore.Open[string](ctx, memory.New(), kvstore.Options{Node: "a"})
	if err != nil {
		log.Fatal(err)
	}
	s, err := db.AdoptOrCreate(ctx, "call-1")
	if err != nil {
		log.Fatal(err)
	}
	return db, s
}

func ExampleSession_Children() {
	ctx := context.Background()
	db, s := exampleSession()
	defer db.Close(ctx)
	err := s.Update(ctx, func(tx *kvstore.Tx[string]) error {
		return errors.Join(
			tx.Put("leg/1", "alice"), tx.Put("leg/1/dialog", "confirmed"), tx.Put("leg/1/media/audio", "opus"),
			tx.Put("leg/2/dialog", "early"))
	})
	legs, err2 := s.Children(ctx, "leg")
	for _, leg := range legs {
		fmt.Println(leg.Path, leg.Entry, leg.Below)
	}
	n, err3 := s.Rename(ctx, "leg/1", "held/1")
	fmt.Println("moved", n)
	all, err4 := s.Walk(ctx, "held")
	for key, v := range all {
		fmt.Println(key, "=", v)
	}
	n, err5 := s.DeleteTree(ctx, "held")
	fmt.Println("deleted", n, errors.Join(err, err2, err3, err4, err5))
	// Output:
	// leg/1 true true
	// leg/2 false true
	// moved 3
	// held/1 = alice
	// held/1/dialog = confirmed
	// held/1/media/audio = opus
	// deleted 3 <nil>
}

func ExampleJoinKey() {
	key := kvstore.JoinKey("user", "a/b", "")
	elems, err := kvstore.SplitKey(key)
	fmt.Printf("%s %q %v\n", key, elems, err)
	// Output: user/a%2Fb/% ["user" "a/b" ""] <nil>
}

func ExampleSession_Queue() {
	ctx := context.Background()
	db, s := exampleSession()
	defer db.Close(ctx)
	events := s.Queue("events")
	for _, e := range []string{"invite", "ringing", "answer"} {
		if err := events.PushBack(ctx, e); err != nil {
			log.Print(err)
		}
	}
	first, err := events.PopFront(ctx)
	n, err2 := events.Len(ctx)
	fmt.Println(first, n, errors.Join(err, err2))

	// An event is done, and what came of it is put, or neither.
	err = s.Update(ctx, func(tx *kvstore.Tx[string]) error {
		e, err := tx.Queue("events").PopFront()
		if err != nil {
			return err
		}
		return tx.Put("state", "after "+e)
	})
	state, err2 := s.Get(ctx, "state")
	fmt.Println(state, errors.Join(err, err2))
	// Output:
	// invite 2 <nil>
	// after ringing <nil>
}

func ExampleSession_KeyQueue() {
	ctx := context.Background()
	db, s := exampleSession()
	defer db.Close(ctx)
	waiting := s.KeyQueue("waiting")
	err := errors.Join(waiting.PushBack(ctx, "caller/7", "bob"), waiting.PushBack(ctx, "caller/9", "carol"))
	err2 := s.Put(ctx, "caller/9", "carol, in a hurry") // while it waits
	err3 := s.Delete(ctx, "caller/7")                   // hung up
	key, v, err4 := waiting.PopFront(ctx)
	fmt.Println(key, v, errors.Join(err, err2, err3, err4))
	_, _, err = waiting.PopFront(ctx)
	fmt.Println(errors.Is(err, kvstore.ErrEmpty))
	// Output:
	// caller/9 carol, in a hurry <nil>
	// true
}

func ExampleSession_Add() {
	ctx := context.Background()
	db, s := exampleSession()
	defer db.Close(ctx)
	n, err := s.Add(ctx, "retries", 3, kvstore.InMemory)
	fmt.Println(n, err)
	n, err = s.Add(ctx, "credit", -5, kvstore.Stored) // in the store when it returns
	fmt.Println(n, err)
	// Output:
	// 3 <nil>
	// -5 <nil>
}

func ExampleSession_CompareAndSwap() {
	ctx := context.Background()
	db, s := exampleSession()
	defer db.Close(ctx)
	free := kvstore.Version{} // there is no such entry
	mine, err := s.CompareAndSwap(ctx, "lock", free, "agent-1", kvstore.Stored)
	fmt.Println(err)
	_, err = s.CompareAndSwap(ctx, "lock", free, "agent-2", kvstore.Stored)
	fmt.Println(errors.Is(err, kvstore.ErrConflict))
	_, err = s.CompareAndSwap(ctx, "lock", mine, "agent-1, again", kvstore.Stored)
	fmt.Println(err)
	err = kvstore.CompareAndSwap(ctx, s, "lock", "agent-1, again", "agent-3", kvstore.InMemory)
	fmt.Println(err)
	// Output:
	// <nil>
	// true
	// <nil>
	// <nil>
}

func ExampleDB_AdoptBy() {
	ctx := context.Background()
	db, s := exampleSession()
	err := s.AddAlias(ctx, "sip:4711@example.com", kvstore.Stored)
	id, err2 := db.Lookup(ctx, "sip:4711@example.com")
	fmt.Println(id, errors.Join(err, err2))
	h, err := db.AdoptBy(ctx, "sip:4711@example.com") // on any node; here it is resident
	fmt.Println(h.ID(), err)

	other, err := db.AdoptOrCreate(ctx, "call-2")
	err2 = other.AddAlias(ctx, "sip:4711@example.com", kvstore.Stored)
	var taken *kvstore.AliasError
	fmt.Println(err, errors.As(err2, &taken) && taken.Holder == "call-1")
	err = db.Close(ctx)
	fmt.Println(err)
	// Output:
	// call-1 <nil>
	// call-1 <nil>
	// <nil> true
	// <nil>
}

// Version 1 of a program stored seconds; version 2 stores text with a unit.
func ExampleDB_OnTimer() {
	ctx := context.Background()
	db, s := exampleSession()
	defer db.Close(ctx)
	done := make(chan struct{})
	_, err := db.OnTimer(func(ctx context.Context, tx *kvstore.Tx[string], t kvstore.Firing[string]) error {
		n, err := tx.Add("rings", 1) // with the timer's end: both, or neither
		if err != nil {
			return err
		}
		fmt.Println(t.Session, t.Name, t.Payload, n)
		if n < 3 {
			return tx.After(t.Name, time.Millisecond, t.Payload)
		}
		close(done)
		return tx.Put("state", "no answer")
	})
	err2 := s.After(ctx, "ring", time.Millisecond, "bob", kvstore.Stored) // whoever has the session next knows of it
	err3 := s.After(ctx, "give up", time.Hour, "", kvstore.InMemory)
	<-done
	err4 := s.Cancel(ctx, "give up", kvstore.InMemory)
	state := ""
	for state == "" { // until the last firing is committed
		state, _ = s.Get(ctx, "state")
	}
	fmt.Println(state, len(s.Timers()), errors.Join(err, err2, err3, err4))
	// Output:
	// call-1 ring bob 1
	// call-1 ring bob 2
	// call-1 ring bob 3
	// no answer 0 <nil>
}

func ExampleDB_AdoptDue() {
	ctx := context.Background()
	st := memory.New()
	a, err := kvstore.Open[string](ctx, st, kvstore.Options{Node: "a"})
	if err != nil {
		log.Fatal(err)
	}
	due, err := a.Create(ctx, "call-1")
	if err != nil {
		log.Fatal(err)
	}
	later, err := a.Create(ctx, "call-2")
	if err != nil {
		log.Fatal(err)
	}
	err = errors.Join(due.At(ctx, "bill", time.Now().Add(-time.Second), "alice", kvstore.InMemory), later.After(ctx, "bill", time.Hour, "bob", kvstore.InMemory))
	err2 := a.Close(ctx) // nobody has them now
	b, err3 := kvstore.Open[string](ctx, st, kvstore.Options{Node: "b"})
	if err3 != nil {
		log.Fatal(err3)
	}
	defer b.Close(ctx)
	o, err4 := b.AdoptDue(ctx, kvstore.Takeover{})
	fmt.Println(o.Seen, o.Adopted, errors.Join(err, err2, err3, err4))
	// Output:
	// 1 1 <nil>
}

func ExampleOptions_schema() {
	ctx := context.Background()
	st := memory.New()
	old, err := kvstore.Open[int](ctx, st, kvstore.Options{Schema: 1})
	if err != nil {
		log.Fatal(err)
	}
	err = errors.Join(old.Put(ctx, "call-1", 90), old.Close(ctx))

	db, err2 := kvstore.Open[string](ctx, st, kvstore.Options{
		Schema: 2,
		Upgrade: func(version uint32, stored []byte, v any) error {
			var seconds int
			err := kvstore.Msgpack{}.Decode(stored, &seconds)
			*v.(*string) = strconv.Itoa(seconds) + " s"
			return err
		},
	})
	if err2 != nil {
		log.Fatal(err2)
	}
	_, err3 := db.Adopt(ctx, "call-1")
	v, err4 := db.Get(ctx, "call-1")
	fmt.Println(v, errors.Join(err, err3, err4))
	err = errors.Join(db.Put(ctx, "call-1", "2 min"), db.Close(ctx))

	old, err2 = kvstore.Open[int](ctx, st, kvstore.Options{Schema: 1}) // still running somewhere
	if err2 != nil {
		log.Fatal(err2)
	}
	_, err2 = old.Adopt(ctx, "call-1")
	fmt.Println(err, errors.Is(err2, kvstore.ErrSchema))
	old.Close(ctx)
	// Output:
	// 90 s <nil>
	// <nil> true
}
