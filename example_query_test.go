package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

var (
	byState = kvstore.Index[Call]{Name: "byState", Terms: func(c Call) []string { return []string{c.State} }}
	byParty = kvstore.Index[Call]{Name: "byParty", Terms: func(c Call) []string { return []string{c.From, c.To} }}
)

// Sessions are found by what is in their values: on this node as they are now, on others as they are stored. The pages of an answer are put together by its cursor.
func ExampleDB_Merged() {
	ctx := context.Background()
	st := memory.New()
	a, err := kvstore.Open(ctx, st, kvstore.Options{Node: "a"}, byState, byParty)
	b, err2 := kvstore.Open(ctx, st, kvstore.Options{Node: "b"}, byState, byParty)
	if err := errors.Join(err, err2); err != nil {
		log.Fatal(err)
	}
	defer a.Close(ctx)
	defer b.Close(ctx)
	err = errors.Join(
		a.Put(ctx, "call-1", Call{"ann", "bob", "ringing"}),
		a.Put(ctx, "call-2", Call{"bob", "carl", "talking"}),
		a.Flush(ctx),
		b.Put(ctx, "call-3", Call{"dora", "ann", "ringing"}), // of which others know soon
	)

	answer, err2 := b.Merged(ctx, kvstore.Query[Call]{Index: "byState", Term: "ringing"})
	for _, row := range answer.Rows {
		fmt.Println(row.Session, row.Value.From, "to", row.Value.To, "on node", row.Owner)
	}
	fmt.Println(errors.Join(err, err2))

	q := kvstore.Query[Call]{Index: "byParty", From: "a", To: "c", Limit: 2}
	for {
		page, err := b.Merged(ctx, q)
		if err != nil {
			log.Fatal(err)
		}
		var rows []string
		for _, row := range page.Rows {
			rows = append(rows, row.Term+" "+row.Session)
		}
		fmt.Println(strings.Join(rows, ", "))
		if page.Next == "" {
			break
		}
		q.After = page.Next
	}
	// Output:
	// call-1 ann to bob on node a
	// call-3 dora to ann on node b
	// <nil>
	// ann call-1, ann call-3
	// bob call-1, bob call-2
}

// A program gets an index that it did not have.
func ExampleDB_Reindex() {
	ctx := context.Background()
	st := memory.New()
	old, err := kvstore.Open[Call](ctx, st, kvstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	err = errors.Join(old.Put(ctx, "call-1", Call{From: "ann"}), old.Put(ctx, "call-2", Call{From: "bob"}), old.Close(ctx))

	db, err2 := kvstore.Open(ctx, st, kvstore.Options{}, byParty)
	if err := errors.Join(err, err2); err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)
	q := kvstore.Query[Call]{Index: "byParty", Term: "ann"}
	before, err := db.Stored(ctx, q)
	fmt.Println("found:", len(before.Rows), "all is indexed:", before.Covered.Indexed)
	done, err2 := db.Reindex(ctx, kvstore.Reindexing{})
	fmt.Println("indexed:", done.Marked, "complete:", done.Complete)
	after, err3 := db.Stored(ctx, q)
	fmt.Println("found:", len(after.Rows), "all is indexed:", after.Covered.Indexed, errors.Join(err, err2, err3))
	// Output:
	// found: 0 all is indexed: false
	// indexed: 2 complete: true
	// found: 1 all is indexed: true <nil>
}
