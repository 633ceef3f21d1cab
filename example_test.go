package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// Call is a telephone call, as a program that routes calls would keep it.
type Call struct {
	From, To string
	State    string
}

// must keeps the examples short. A real program looks at each error.
func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// openCalls opens a database of calls. The memory store is for trying things out; a real program
// gives each of its nodes a store that they all reach.
func openCalls(st *memory.Store, node string) *kvstore.DB[Call] {
	db, err := kvstore.Open[Call](context.Background(), st, kvstore.Options{
		Node: node,
		Addr: node + ".example.net:5060",
	})
	must(err)
	return db
}

func ExampleOpen() {
	ctx := context.Background()
	st := memory.New()
	defer st.Close()

	db, err := kvstore.Open[Call](ctx, st, kvstore.Options{
		Node:     "a",                    // the same after a restart
		Addr:     "10.0.0.1:5060",        // where other nodes send the events of our calls
		MaxDelay: 200 * time.Millisecond, // what a crash may cost
	})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)

	fmt.Println(db.Health())
	// Output: ok
}

func ExampleDB_Put() {
	ctx := context.Background()
	db := openCalls(memory.New(), "a")
	defer db.Close(ctx)

	// In memory at once, in the store a moment later.
	must(db.Put(ctx, "call-1", Call{From: "anna", To: "ben", State: "ringing"}))

	// To change a value, put a new one.
	call, err := db.Get(ctx, "call-1")
	must(err)
	call.State = "answered"
	must(db.Put(ctx, "call-1", call))

	fmt.Println(db.Get(ctx, "call-1"))
	// Output: {anna ben answered} <nil>
}

func ExampleDB_Get() {
	ctx := context.Background()
	db := openCalls(memory.New(), "a")
	defer db.Close(ctx)
	must(db.Put(ctx, "call-1", Call{State: "ringing"}))

	call, err := db.Get(ctx, "call-1")
	fmt.Println(call.State, err)

	// Get does not go looking for sessions that are not here: Adopt does.
	_, err = db.Get(ctx, "call-2")
	fmt.Println(errors.Is(err, kvstore.ErrNotResident))
	// Output:
	// ringing <nil>
	// true
}

func ExampleDB_Delete() {
	ctx := context.Background()
	db := openCalls(memory.New(), "a")
	defer db.Close(ctx)
	must(db.Put(ctx, "call-1", Call{State: "ended"}))

	must(db.Delete(ctx, "call-1"))
	must(db.Delete(ctx, "call-1")) // that it is gone already is no error

	_, err := db.Get(ctx, "call-1")
	fmt.Println(err != nil)
	// Output: true
}

func ExampleDB_Create() {
	ctx := context.Background()
	db := openCalls(memory.New(), "a")
	defer db.Close(ctx)

	// A call that has just begun is new for sure: nobody needs to be asked.
	s, err := db.Create(ctx, "call-1")
	must(err)
	must(s.Put(ctx, "", Call{From: "anna", To: "ben"}))

	_, err = db.Create(ctx, "call-1")
	fmt.Println(errors.Is(err, kvstore.ErrExists))
	// Output: true
}

// An event comes in for a call that this node does not know.
func ExampleDB_Adopt() {
	ctx := context.Background()
	st := memory.New()
	a, b := openCalls(st, "a"), openCalls(st, "b")
	must(a.Put(ctx, "call-1", Call{State: "ringing"}))

	event := func(id string) {
		s, err := b.Adopt(ctx, id)
		var owned *kvstore.OwnedError
		switch {
		case err == nil:
			call, _ := s.Get(ctx, "")
			fmt.Println(id, "is ours now, and", call.State)
		case errors.Is(err, kvstore.ErrNotFound):
			fmt.Println(id, "does not exist")
		case errors.As(err, &owned):
			fmt.Println(id, "lives on", owned.Node, "- send the event to", owned.Addr)
		default:
			fmt.Println(id, "cannot be looked up now:", err)
		}
	}
	event("call-1")
	event("call-2")
	must(a.Close(ctx)) // its node goes away
	event("call-1")
	must(b.Close(ctx))
	// Output:
	// call-1 lives on a - send the event to a.example.net:5060
	// call-2 does not exist
	// call-1 is ours now, and ringing
}

func ExampleDB_AdoptOrCreate() {
	ctx := context.Background()
	st := memory.New()
	db, err := kvstore.Open[int](ctx, st, kvstore.Options{})
	must(err)
	defer db.Close(ctx)

	// A customer comes back to a cart, or begins one. One question to the store, either way.
	cart, err := db.AdoptOrCreate(ctx, "cart-of-anna")
	must(err)
	must(cart.Put(ctx, "item/apples", 3))

	cart, err = db.AdoptOrCreate(ctx, "cart-of-anna")
	must(err)
	n, err := cart.Get(ctx, "item/apples")
	fmt.Println(n, "apples", err)
	// Output: 3 apples <nil>
}

// A node does not answer any more, but its lease still runs, and the call cannot wait.
func ExampleDB_Steal() {
	ctx := context.Background()
	st := memory.New()
	a, b := openCalls(st, "a"), openCalls(st, "b")
	must(a.Put(ctx, "call-1", Call{State: "ringing"}))
	must(a.Flush(ctx))

	s, err := b.Steal(ctx, "call-1")
	must(err)
	must(s.Put(ctx, "", Call{State: "answered"}))
	must(s.Sync(ctx))

	// Whatever a writes from now on is refused by the store.
	must(a.Put(ctx, "call-1", Call{State: "busy"}))
	fmt.Println(errors.Is(a.Flush(ctx), kvstore.ErrFenced))
	fmt.Println(b.Get(ctx, "call-1"))
	must(a.Close(ctx))
	must(b.Close(ctx))
	// Output:
	// true
	// {  answered} <nil>
}

func ExampleDB_Flush() {
	ctx := context.Background()
	db := openCalls(memory.New(), "a")
	defer db.Close(ctx)

	for i := range 100 {
		must(db.Put(ctx, fmt.Sprint("call-", i), Call{State: "ringing"}))
	}
	must(db.Flush(ctx)) // all 100 are stored when it returns

	fmt.Println(db.Stats().Buffered, "bytes are not stored")
	// Output: 0 bytes are not stored
}

func ExampleDB_Release() {
	ctx := context.Background()
	st := memory.New()
	a, b := openCalls(st, "a"), openCalls(st, "b")
	must(a.Put(ctx, "call-1", Call{State: "answered"}))

	// Hand one call over: what is unsaved is stored, and any node may take it, at once.
	must(a.Release(ctx, "call-1"))
	_, err := b.Adopt(ctx, "call-1")
	must(err)
	fmt.Println(b.Get(ctx, "call-1"))
	must(a.Close(ctx))
	must(b.Close(ctx))
	// Output: {  answered} <nil>
}

// Before a node is replaced by a new version it hands its sessions over, one by one, and
// goes on answering meanwhile.
func ExampleDB_Drain() {
	ctx := context.Background()
	st := memory.New()
	old, next := openCalls(st, "old"), openCalls(st, "next")
	for i := range 10 {
		must(old.Put(ctx, fmt.Sprint("call-", i), Call{State: "answered"}))
	}

	must(old.Drain(ctx))
	_, err := old.AdoptOrCreate(ctx, "call-10")
	fmt.Println(errors.Is(err, kvstore.ErrDraining), old.Health())

	_, err = next.Adopt(ctx, "call-7")
	fmt.Println(err)
	must(old.Close(ctx))
	must(next.Close(ctx))
	// Output:
	// true draining
	// <nil>
}

// A node died. The others take over what it had, each its share.
func ExampleDB_AdoptOrphans() {
	ctx := context.Background()
	st := memory.New()
	dead := openCalls(st, "dead")
	for i := range 10 {
		must(dead.Put(ctx, fmt.Sprint("call-", i), Call{State: "answered"}))
	}
	must(dead.Close(ctx)) // or its lease ran out

	b, c := openCalls(st, "b"), openCalls(st, "c")
	ofB, err := b.AdoptOrphans(ctx, kvstore.Takeover{Rate: 100_000})
	must(err)
	ofC, err := c.AdoptOrphans(ctx, kvstore.Takeover{Rate: 100_000})
	must(err)

	fmt.Println(ofB.Adopted+ofC.Adopted, "calls found a new home")
	must(b.Close(ctx))
	must(c.Close(ctx))
	// Output: 10 calls found a new home
}

// A node comes back, and has its calls in memory before the first event.
func ExampleDB_Preload() {
	ctx := context.Background()
	st := memory.New()
	before := openCalls(st, "a")
	for i := range 1000 {
		must(before.Put(ctx, fmt.Sprint("call-", i), Call{State: "answered"}))
	}
	must(before.Close(ctx)) // or it crashed

	db := openCalls(st, "a")
	p, err := db.Preload(ctx, kvstore.Preload{Rate: 100_000})
	must(err)
	_ = p.Progress() // how far it is, at any time
	done, err := p.Wait(ctx)
	var failed *kvstore.PreloadError
	if errors.As(err, &failed) {
		fmt.Println(failed.Failed, "calls are missing:", failed.Missing)
	}

	fmt.Println(done.Adopted, "calls are back")
	fmt.Println(db.Get(ctx, "call-7"))
	must(db.Close(ctx))
	// Output:
	// 1000 calls are back
	// {  answered} <nil>
}

func ExamplePreloading_Progress() {
	ctx := context.Background()
	st := memory.New()
	before := openCalls(st, "a")
	for i := range 1000 {
		must(before.Put(ctx, fmt.Sprint("call-", i), Call{State: "answered"}))
	}
	must(before.Close(ctx))

	var loading atomic.Int64
	// Only those that match, with all their entries. The hook is called every now and then, and at the end.
	db := openCalls(st, "b")
	p, err := db.Preload(ctx, kvstore.Preload{
		Share:    kvstore.Unowned,
		Match:    func(h store.Header) bool { return strings.HasSuffix(h.Session, "7") },
		Whole:    true,
		Count:    true,                                                                      // so that Total is known from the start
		Progress: func(is kvstore.Preloaded) { loading.Store(int64(is.Total - is.Done())) }, // for a readiness probe, say
	})
	must(err)
	_, err = p.Wait(ctx)
	must(err)
	is := p.Progress()
	fmt.Println(is.Done(), "of", is.Total, is.Complete, is.Left)
	must(db.Close(ctx))
	// Output: 100 of 100 true 0s
}

func ExampleDB_Close() {
	st := memory.New()
	db := openCalls(st, "a")
	must(db.Put(context.Background(), "call-1", Call{State: "answered"}))

	// Give it the time that you have. What is not stored then comes to Hooks.Lost.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := db.Close(ctx)
	var unsaved *kvstore.UnsavedError
	if errors.As(err, &unsaved) {
		fmt.Println(unsaved.Entries, "entries were not stored")
	}
	fmt.Println(err)
	// Output: <nil>
}

func ExampleDB_Health() {
	ctx := context.Background()
	db := openCalls(memory.New(), "a")

	if h := db.Health(); h.OK() {
		fmt.Println("ready; a crash now would cost", h.Lag)
	}
	must(db.Close(ctx))
	h := db.Health()
	fmt.Println(h.OK(), h.Problems[len(h.Problems)-1])
	// Output:
	// ready; a crash now would cost 0s
	// false draining
}

func ExampleDB_Stats() {
	ctx := context.Background()
	db := openCalls(memory.New(), "a")
	defer db.Close(ctx)

	before := db.Stats()
	for _, state := range []string{"ringing", "answered", "on hold", "ended"} {
		must(db.Put(ctx, "call-1", Call{State: state}))
	}
	must(db.Flush(ctx))

	// The puts of a moment become one write of the last value.
	since := db.Stats().Sub(before)
	fmt.Println(since.Changes > since.Puts, since.Resident, "session is resident")
	// Output: true 1 session is resident
}

func ExampleDB_Session() {
	ctx := context.Background()
	db := openCalls(memory.New(), "a")
	defer db.Close(ctx)
	must(db.Put(ctx, "call-1", Call{State: "ringing"}))

	s, err := db.Session(ctx, "call-1") // only if it is here already
	must(err)
	fmt.Println(s.ID(), s.Epoch())

	_, err = db.Session(ctx, "call-2")
	fmt.Println(errors.Is(err, kvstore.ErrNotResident))
	// Output:
	// call-1 1
	// true
}

// aCall makes a session of several entries for the examples below.
func aCall() (*kvstore.DB[Call], *kvstore.Session[Call]) {
	ctx := context.Background()
	db := openCalls(memory.New(), "a")
	s, err := db.Create(ctx, "call-1")
	must(err)
	must(s.Put(ctx, "leg/1", Call{From: "anna", To: "desk", State: "answered"}))
	must(s.Put(ctx, "leg/2", Call{From: "desk", To: "ben", State: "ringing"}))
	return db, s
}

func ExampleSession_Get() {
	ctx := context.Background()
	db, s := aCall()
	defer db.Close(ctx)

	leg, err := s.Get(ctx, "leg/1")
	fmt.Println(leg.State, err)
	_, err = s.Get(ctx, "leg/3")
	fmt.Println(errors.Is(err, kvstore.ErrNotFound))
	// Output:
	// answered <nil>
	// true
}

func ExampleSession_Put() {
	ctx := context.Background()
	db, s := aCall()
	defer db.Close(ctx)

	must(s.Put(ctx, "leg/3", Call{From: "desk", To: "cleo", State: "ringing"}))
	leg, err := s.Get(ctx, "leg/3")
	fmt.Println(leg.To, err)
	// Output: cleo <nil>
}

func ExampleSession_PutUntil() {
	ctx := context.Background()
	db, s := aCall()
	defer db.Close(ctx)

	// Nobody rings for ever.
	must(s.PutUntil(ctx, "ring", Call{To: "ben"}, time.Now().Add(30*time.Second)))
	_, err := s.Get(ctx, "ring")
	fmt.Println(err)

	must(s.PutUntil(ctx, "ring", Call{To: "ben"}, time.Now().Add(-time.Second)))
	_, err = s.Get(ctx, "ring")
	fmt.Println(errors.Is(err, kvstore.ErrNotFound))
	// Output:
	// <nil>
	// true
}

func ExampleSession_Delete() {
	ctx := context.Background()
	db, s := aCall()
	defer db.Close(ctx)

	must(s.Delete(ctx, "leg/2")) // ben did not answer
	_, err := s.Get(ctx, "leg/2")
	fmt.Println(errors.Is(err, kvstore.ErrNotFound))
	// Output: true
}

func ExampleSession_Update() {
	ctx := context.Background()
	db, s := aCall()
	defer db.Close(ctx)

	// Ben answers: his leg changes and the timer goes, together or not at all, here and in the store.
	err := s.Update(ctx, func(tx *kvstore.Tx[Call]) error {
		leg, err := tx.Get("leg/2")
		if err != nil {
			return err
		}
		if leg.State != "ringing" {
			return errors.New("it is too late")
		}
		leg.State = "answered"
		if err := tx.Put("leg/2", leg); err != nil {
			return err
		}
		return tx.Delete("timer/ring")
	})
	leg, _ := s.Get(ctx, "leg/2")
	fmt.Println(leg.State, err)
	// Output: answered <nil>
}

func ExampleSession_Sync() {
	ctx := context.Background()
	db, s := aCall()
	defer db.Close(ctx)

	must(s.Put(ctx, "bill", Call{State: "0.12"}))
	if err := s.Sync(ctx); err != nil { // before the customer is told, it must be stored
		fmt.Println("not known to be stored:", err)
	}
	fmt.Println(s.Lag())
	// Output: 0s
}

func ExampleSession_Expire() {
	ctx := context.Background()
	db, s := aCall()
	defer db.Close(ctx)

	// A call that nobody ends is over after four hours, wherever it is by then.
	must(s.Expire(ctx, time.Now().Add(4*time.Hour)))
	fmt.Println(time.Until(s.Expires()).Round(time.Hour))
	// Output: 4h0m0s
}

func ExampleSession_All() {
	ctx := context.Background()
	db, s := aCall()
	defer db.Close(ctx)

	entries, err := s.All(ctx)
	must(err)
	for key, leg := range entries {
		fmt.Println(key, leg.State)
	}
	// Output:
	// leg/1 answered
	// leg/2 ringing
}

// What cannot be stored comes back, with its value: here because another node took the session over.
func ExampleHooks() {
	ctx := context.Background()
	st := memory.New()
	a, err := kvstore.Open[Call](ctx, st, kvstore.Options{Node: "a", Hooks: kvstore.Hooks{
		Lost: func(l kvstore.Lost) {
			for _, e := range l.Entries {
				fmt.Println("not stored:", l.Session, e.Value.(Call).State, errors.Is(l.Cause, kvstore.ErrFenced))
			}
		},
	}})
	must(err)
	b := openCalls(st, "b")
	must(a.Put(ctx, "call-1", Call{State: "ringing"}))
	must(a.Flush(ctx))
	_, err = b.Steal(ctx, "call-1")
	must(err)

	must(a.Put(ctx, "call-1", Call{State: "answered"})) // a does not know yet
	a.Flush(ctx)
	must(a.Close(ctx)) // waits for the hooks
	must(b.Close(ctx))
	// Output: not stored: call-1 answered true
}

// A cart that nobody touches for half an hour is gone, on whichever node it is.
func ExampleSession_Touch() {
	ctx := context.Background()
	db, s := aCall()
	defer db.Close(ctx)

	must(s.ExpireIdle(ctx, 30*time.Minute)) // once; it is stored with the session

	// Whatever counts as a touch says so, in the transaction that it belongs to, or alone. Touches are
	// cheap: most of them write nothing.
	must(s.Update(ctx, func(tx *kvstore.Tx[Call]) error {
		if err := tx.Put("leg/3", Call{State: "ringing"}); err != nil {
			return err
		}
		return tx.Touch()
	}))
	must(s.Touch(ctx))
	fmt.Println(time.Until(s.Expires()).Round(time.Minute))
	// Output: 30m0s
}

func ExampleSession_ExpireAfter() {
	ctx := context.Background()
	db, s := aCall()
	defer db.Close(ctx)

	must(s.ExpireAfter(ctx, 4*time.Hour)) // from now on, once
	fmt.Println(time.Until(s.Expires()).Round(time.Hour))
	// Output: 4h0m0s
}

func ExampleSession_PutFor() {
	ctx := context.Background()
	db, s := aCall()
	defer db.Close(ctx)

	must(s.PutFor(ctx, "code", Call{State: "valid"}, time.Hour))
	_, err := s.Get(ctx, "code")
	fmt.Println(err)
	must(s.PutFor(ctx, "code", Call{State: "valid"}, time.Millisecond))
	for err == nil {
		_, err = s.Get(ctx, "code")
	}
	fmt.Println(errors.Is(err, kvstore.ErrNotFound))
	// Output:
	// <nil>
	// true
}

// What has expired while nobody had it in memory is ended by one of the nodes that live, which is told.
func ExampleDB_Sweep() {
	ctx := context.Background()
	st := memory.New()
	dead := openCalls(st, "dead")
	for i := range 10 {
		s, err := dead.AdoptOrCreate(ctx, fmt.Sprint("call-", i))
		must(err)
		must(s.ExpireAfter(ctx, 2*time.Second))
	}
	must(dead.Close(ctx)) // or its lease ran out

	var told atomic.Int64
	db, err := kvstore.Open[Call](ctx, st, kvstore.Options{Hooks: kvstore.Hooks{
		OnExpired: func(e kvstore.Expired) { told.Add(1) },
	}})
	must(err)
	ended := 0
	for ended < 10 { // every minute, say
		swept, err := db.Sweep(ctx, kvstore.Sweeping{})
		must(err)
		ended += swept.Ended
		time.Sleep(time.Millisecond)
	}
	must(db.Close(ctx))
	fmt.Println(ended, told.Load())
	// Output: 10 10
}
