package kvstore_test

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// jsonCodec stores values as JSON, for other programs to read. It has no state: many goroutines use it at a time.
type jsonCodec struct{}

// Append only adds to dst, and keeps neither it nor v.
func (jsonCodec) Append(dst []byte, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return dst, err // the entry comes to Hooks.Lost, with its value
	}
	return append(dst, b...), nil
}

// Decode sets *v, a zero value, from what one Append added.
func (jsonCodec) Decode(src []byte, v any) error { return json.Unmarshal(src, v) }

func ExampleCodec() {
	ctx := context.Background()
	st := memory.New()
	a, err := kvstore.Open[Call](ctx, st, kvstore.Options{Node: "a", Codec: jsonCodec{}})
	must(err)
	must(a.Put(ctx, "call-1", Call{From: "anna", To: "ben", State: "ringing"}))
	must(a.Close(ctx))

	stored, err := st.Load(ctx, "call-1")
	must(err)
	fmt.Printf("%s\n", stored.Entries[0].Value)

	// All nodes that share a store have the same codec.
	b, err := kvstore.Open[Call](ctx, st, kvstore.Options{Node: "b", Codec: jsonCodec{}})
	must(err)
	defer b.Close(ctx)
	_, err = b.Adopt(ctx, "call-1")
	must(err)
	fmt.Println(b.Get(ctx, "call-1"))
	// Output:
	// {"From":"anna","To":"ben","State":"ringing"}
	// {anna ben ringing} <nil>
}

// Cart is what a customer has put into a cart. The prices are not stored, since they are not exported, and are
// the same map in all carts.
type Cart struct {
	Items  []string
	prices map[string]int
}

// MemSize counts what a cart has for itself. The prices would else count once for each cart.
func (c Cart) MemSize() int {
	n := 24 + 8 // the header of the slice, the pointer to the map
	for _, item := range c.Items {
		n += 16 + len(item)
	}
	return n
}

func ExampleSizer() {
	ctx := context.Background()
	prices := map[string]int{}
	for i := range 10_000 {
		prices[fmt.Sprint("item-", i)] = i
	}
	db, err := kvstore.Open[Cart](ctx, memory.New(), kvstore.Options{MaxBuffer: 64 << 10, Overflow: kvstore.Reject})
	must(err)
	defer db.Close(ctx)

	for i := range 10 {
		must(db.Put(ctx, fmt.Sprint("cart-", i), Cart{Items: []string{"item-5", "item-7"}, prices: prices}))
	}
	cart, err := db.Get(ctx, "cart-3")
	must(err)
	fmt.Println(cart.MemSize(), "bytes each, and ten of them fit into the buffer")
	// Output: 76 bytes each, and ten of them fit into the buffer
}
