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
