package pack_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/pack"
)

// A DB on a file whose values are packed.
func ExampleNew() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file, err := bolt.Open(filepath.Join(dir, "sessions.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	st, err := pack.New(file, pack.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer st.Close() // which closes the file, too
	db, err := kvstore.Open[string](ctx, st, kvstore.Options{Node: "a"})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close(ctx)
	if err := db.Put(ctx, "call-1", strings.Repeat("hello ", 1000)); err != nil {
		log.Fatal(err)
	}
	if err := db.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	snap, err := file.Load(ctx, "call-1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(snap.Entries[0].Value) < 100)
	// Output: true
}

// fill makes a few hundred sessions in a store.
func fill(ctx context.Context, st store.Store) error {
	me := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	var cs []store.Change
	for i := range 300 {
		value := fmt.Sprintf(`{"state":"ringing","from":"sip:%d@example.org","to":"sip:%d@example.org","codecs":["opus/48000","PCMA/8000"]}`, i*7919, i*104729)
		cs = append(cs, store.Change{Session: fmt.Sprint("call-", i), Owner: me, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{{Value: []byte(value)}}})
	}
	_, err := st.Apply(ctx, cs)
	return err
}

// A dictionary is made of what a store has, kept, and given to New from then on, after those of before.
func ExampleTrain() {
	ctx := context.Background()
	st := memory.New()
	if err := fill(ctx, st); err != nil {
		log.Fatal(err)
	}
	samples, err := pack.Sample(ctx, st, 1000)
	if err != nil {
		log.Fatal(err)
	}
	dictionary, err := pack.Train(samples)
	if err != nil {
		log.Fatal(err)
	}
	// Every node that has the store is given the dictionary before one packs with it.
	packed, err := pack.New(st, pack.Options{Dictionaries: [][]byte{dictionary}})
	if err != nil {
		log.Fatal(err)
	}
	defer packed.Close()
	if err := fill(ctx, packed); err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(samples), "samples")
	// Output: 300 samples
}

// Sample reads values, and changes nothing.
func ExampleSample() {
	ctx := context.Background()
	st := memory.New()
	defer st.Close()
	if err := fill(ctx, st); err != nil {
		log.Fatal(err)
	}
	samples, err := pack.Sample(ctx, st, 20)
	fmt.Println(len(samples), err)
	// Output: 20 <nil>
}
