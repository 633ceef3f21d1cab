package nats

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

var streams atomic.Int64

// fresh returns options with a stream of their own.
func fresh() *Options { return &Options{Stream: fmt.Sprint("test-", streams.Add(1))} }

func open(t testing.TB, url string, o *Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestContract(t *testing.T) {
	t.Parallel()
	srv := start(t, "")
	storetest.Run(t, func(t *testing.T) store.Store { return damager{open(t, srv.url(), fresh())} })
}

// damager can spoil what is stored.
type damager struct{ *Store }

func (s damager) Damage(session, key string, header bool) error {
	ctx := context.Background()
	a := s.last(s.documentSubject(session))
	if err := s.ask(ctx, a); err != nil {
		return err
	}
	m, err := a.found()
	if err != nil {
		return err
	}
	b := m.Data
	if header {
		b[20] ^= 1
	} else {
		d, err := decode(session, m)
		if err != nil {
			return err
		}
		for i := range d.slots {
			if d.slots[i].key == key {
				d.slots[i].sum ^= 1
			}
		}
		b = d.encode()
	}
	return s.ask(ctx, put(s.documentSubject(session), b))
}

var whole = flag.Bool("whole", false, "run the whole contract in a cluster, too, which takes some minutes")

// In a cluster several servers have to agree, and answers come from where the leader is.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	if *whole {
		storetest.Run(t, func(t *testing.T) store.Store { return damager{c.open(t, fresh())} })
	}
	storetest.Race(t, c.open(t, fresh()), 10)
	storetest.Compare(t, c.open(t, fresh()), rand.Uint64(), 100)

	o := fresh()
	c.open(t, o)
	var at []store.Store // each server
	for _, n := range c.nodes {
		at = append(at, open(t, n.url(), o))
	}
	storetest.Pinned(t, at...)
}

func TestAgainstMemory(t *testing.T) {
	t.Parallel()
	srv := start(t, "")
	storetest.Compare(t, open(t, srv.url(), fresh()), rand.Uint64(), 500)
}

// Several nodes start at once on a server where nothing is yet.
func TestStartsAtOnce(t *testing.T) {
	srv := start(t, "")
	o := fresh()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			s, err := Open(t.Context(), srv.url(), o)
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wg.Wait()
}
