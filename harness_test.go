package kvstore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
)

// What the tests of this package share.

// tap is a store whose calls a test may watch, delay and fail. A nil field lets the call through.
type tap struct {
	store.Store
	claim     func(ctx context.Context, r store.ClaimRequest) (store.Claim, error)
	apply     func(ctx context.Context, cs []store.Change) ([]store.Result, error)
	load      func(ctx context.Context, id string, keys []string) (store.Snapshot, error)
	keepAlive func(ctx context.Context, n store.Node, ttl time.Duration) (bool, error)
}

func (t *tap) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	if t.claim != nil {
		return t.claim(ctx, r)
	}
	return t.Store.Claim(ctx, r)
}

func (t *tap) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	if t.apply != nil {
		return t.apply(ctx, cs)
	}
	return t.Store.Apply(ctx, cs)
}

func (t *tap) Load(ctx context.Context, id string, keys ...string) (store.Snapshot, error) {
	if t.load != nil {
		return t.load(ctx, id, keys)
	}
	return t.Store.Load(ctx, id, keys...)
}

func (t *tap) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
	if t.keepAlive != nil {
		return t.keepAlive(ctx, n, ttl)
	}
	return t.Store.KeepAlive(ctx, n, ttl)
}

// intCodec and textCodec keep these tests independent of the default codec.
type intCodec struct{}

func (intCodec) Append(dst []byte, v any) ([]byte, error) {
	return strconv.AppendInt(dst, int64(*v.(*int)), 10), nil
}

func (intCodec) Decode(src []byte, v any) (err error) {
	*v.(*int), err = strconv.Atoi(string(src))
	return err
}

// brisk are options under which much happens in little time, and leases are out of the game.
func brisk(node string) kvstore.Options {
	return kvstore.Options{Node: node, Addr: node + ":1", MaxDelay: time.Millisecond, Lease: time.Hour, Codec: intCodec{}}
}

func openInts(t testing.TB, st store.Store, o kvstore.Options) *kvstore.DB[int] {
	t.Helper()
	if o.Codec == nil {
		o.Codec = intCodec{}
	}
	db, err := kvstore.Open[int](context.Background(), st, o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// over is a context that has ended: Close with it hands over what it cannot store at once.
func over() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// want fails the test unless err is one of kinds; nil is one only if it is named.
func want(t testing.TB, err error, kinds ...error) {
	t.Helper()
	for _, k := range kinds {
		if err == nil && k == nil || k != nil && errors.Is(err, k) {
			return
		}
	}
	t.Errorf("the error is %v, want one of %v", err, kinds)
}

// ints returns what the store has of a session, without the library's own entries.
func ints(t testing.TB, st store.Store, id string) (store.Header, map[string]int) {
	t.Helper()
	snap, err := st.Load(context.Background(), id)
	check(t, err)
	m := map[string]int{}
	for _, e := range snap.Entries {
		if strings.HasPrefix(e.Key, "\x00") {
			continue
		}
		m[e.Key], err = strconv.Atoi(string(e.Value))
		check(t, err)
	}
	return snap.Header, m
}

// endLease ends a node's lease as if it had run out. The node does not know.
func endLease(t testing.TB, st store.Store, node string) {
	t.Helper()
	nodes, err := st.Nodes(context.Background())
	check(t, err)
	for _, n := range nodes {
		if n.Name == node {
			_, err := st.KeepAlive(context.Background(), n, 0)
			check(t, err)
		}
	}
}

// dither gives other goroutines a random number of turns.
func dither(most int) {
	for range rand.IntN(most) {
		runtime.Gosched()
	}
}

// together runs f(0) … f(n-1) at once and waits for them.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-gate; f(i) })
	}
	close(gate)
	wg.Wait()
}

// rounds shortens a race under -short.
func rounds(n int) int {
	if testing.Short() {
		return max(n/10, 1)
	}
	return n
}
