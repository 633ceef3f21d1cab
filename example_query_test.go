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

// cart is whose it is, and what is in it.
type cart struct {
	User  string
	Items []string
}

var (
	byUser = kvstore.Index[cart]{Name: "byUser", Terms: func(c cart) []string { return []string{c.User} }}
	byItem = kvstore.Index[cart]{Name: "byItem", Terms: func(c cart) []string { return c.Items }}
)

// Sessions are found by what is in their values: on this node as they are now, on others as they are stored. The pages of an answer are put together by its cursor.
func ExampleDB_Merged() {
	ctx := context.Background()
	st := memory.New()
	a, err := kvstore.Open(ctx, st, kvstore.Options{Node: "a"}, byUser, byItem)
	b, err2 := kvstore.Open(ctx, st, kvstore.Options{Node: "b"}, byUser, byItem)
	if err := errors.Join(err, err2); err != nil {
		log.Fatal(err)
	}
	defer a.Close(ctx)
	defer b.Close(ctx)
	err = errors.Join(
		a.Put(ctx, "cart-1", cart{"ann", []string{"apple", "bread"}}),
		a.Put(ctx, "cart-2", cart{"bob", []string{"bread"}}),
		a.Flush(ctx),
		b.Put(ctx, "cart-3", cart{"ann", []string{"apple"}}), // of which others know soon
	)

	answer, err2 := b.Merged(ctx, kvstore.Query[cart]{Index: "byUser", Term: "ann"})
	for _, row := range answer.Rows {
		fmt.Println(row.Session, row.Value.Items, "of node", row.Owner)
	}
	fmt.Println(errors.Join(err, err2))

	q := kvstore.Query[cart]{Index: "byItem", From: "a", To: "c", Limit: 2}
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
	// cart-1 [apple bread] of node a
	// cart-3 [apple] of node b
	// <nil>
	// apple cart-1, apple cart-3
	// bread cart-1, bread cart-2
}

// A program gets an index that it did not have.
func ExampleDB_Reindex() {
	ctx := context.Background()
	st := memory.New()
	old, err := kvstore.Open[cart](ctx, st, kvstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	err = errors.Join(old.Put(ctx, "cart-1", cart{User: "ann"}), old.Put(ctx, "cart-2", cart{User: "bob"}), old.Close(ctx))

	db, err2 := kvstore.Open(ctx, st, kvstore.Options{}, byUser)
	if err := errors.Join(err, err2); err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)
	q := kvstore.Query[cart]{Index: "byUser", Term: "ann"}
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
