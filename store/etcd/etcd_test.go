package etcd

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// damager spoils what is stored.
type damager struct{ *Store }

func (d damager) Damage(session, key string, header bool) error {
	at := d.keys.entries(session) + key
	if header {
		prefix := d.keys.headsOf(session)
		r, err := d.client.Get(context.Background(), prefix, within(prefix))
		if err != nil || len(r.Kvs) != 1 {
			return fmt.Errorf("the head is %v, %w", r, err)
		}
		at = string(r.Kvs[0].Key)
	}
	_, err := d.client.Put(context.Background(), at, "spoiled")
	return err
}

func TestContract(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	storetest.Run(t, func(t *testing.T) store.Store { return damager{open(t, c.url(), fresh())} })
}

var whole = flag.Bool("whole", false, "run the whole contract in a cluster, too, which takes a minute")

// In a cluster several servers have to agree, and any of them answers.
func TestCluster(t *testing.T) {
	c := start(t, 3, member{NoFsync: true})
	if *whole {
		storetest.Run(t, func(t *testing.T) store.Store { return damager{open(t, c.url(), fresh())} })
	}
	storetest.Race(t, open(t, c.url(), fresh()), 10)
	storetest.Compare(t, open(t, c.url(), fresh()), rand.Uint64(), 100)

	o := fresh()
	var at []store.Store // each server
	for i := range c.members {
		at = append(at, open(t, fmt.Sprint("etcd://127.0.0.1:", c.members[i].Client), o))
	}
	storetest.Pinned(t, at...)
}

// The transactions decide as store.Judge does.
func TestAgainstMemory(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	for range 2 {
		storetest.Compare(t, open(t, c.url(), fresh()), rand.Uint64(), 400)
	}
}

// Several nodes start at once on a server where nothing is yet.
func TestStartsAtOnce(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	o := fresh()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			s, err := Open(t.Context(), c.url(), o)
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wg.Wait()
}
