package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	client "github.com/redis/go-redis/v9"

	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

var prefixes atomic.Int64

// fresh returns options with a keyspace of their own.
func fresh() *Options { return &Options{Prefix: fmt.Sprint("test *\"", prefixes.Add(1))} }

func open(t testing.TB, url string, o *Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// beside opens another store on the client of s.
func beside(t testing.TB, s *Store, o *Options) *Store {
	t.Helper()
	n, err := New(context.Background(), s.client, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// patient is the URL with ten minutes for what a client has three seconds by default, for tests that ask a lot at once, or for long: the machine may be busy.
func patient(url string) string {
	sep := "?"
	if strings.Contains(url, sep) {
		sep = "&"
	}
	return url + sep + "read_timeout=10m&write_timeout=10m"
}

// damager is a Store that the suite can damage.
type damager struct{ *Store }

func (d damager) Damage(session, key string, header bool) error {
	field := fieldOf(key)
	if header {
		field = headerField
	}
	return d.client.HSet(context.Background(), d.buckets[d.bucketOf(session)].session+session, field, "").Err()
}

func TestContract(t *testing.T) {
	srv := redisserver.Start(t)
	first := open(t, patient(srv.URL()), fresh())
	storetest.Run(t, func(t *testing.T) store.Store { return damager{beside(t, first, fresh())} })
}

func TestContractOnCluster(t *testing.T) {
	c := redisserver.StartCluster(t)
	first := open(t, patient(c.URL()), fresh())
	storetest.Run(t, func(t *testing.T) store.Store { return damager{beside(t, first, fresh())} })
	t.Run("Race with replicas that confirm", func(t *testing.T) {
		o := fresh()
		o.Replicas = 1
		storetest.Race(t, open(t, patient(c.URL()), o), 4)
	})
	t.Run("Pinned", func(t *testing.T) {
		o := fresh()
		var at []store.Store
		for i := range c {
			at = append(at, open(t, patient(slices.Concat(c[i:], c[:i]).URL()), o))
		}
		storetest.Pinned(t, at...)
	})
}

// Several nodes start at once on a server where nothing is yet.
func TestStartsAtOnce(t *testing.T) {
	srv := redisserver.Start(t)
	p := fresh().Prefix
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			s, err := Open(t.Context(), srv.URL(), &Options{Prefix: p, Buckets: i + 1})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if other := open(t, srv.URL(), &Options{Prefix: p}); len(other.buckets) != len(s.buckets) {
				t.Errorf("one node has %d buckets, another one %d", len(s.buckets), len(other.buckets))
			}
		})
	}
	wg.Wait()
}

// The scripts decide as store.Judge does.
func TestAgainstMemory(t *testing.T) {
	srv := redisserver.Start(t)
	for range 2 {
		o := fresh()
		o.Buckets = rand.IntN(5)
		storetest.Compare(t, open(t, patient(srv.URL()), o), rand.Uint64(), 500)
	}
	// Over a client as it is without options, of the third version of the protocol.
	c := client.NewClient(&client.Options{Addr: fmt.Sprint("127.0.0.1:", srv.Port)})
	defer c.Close()
	st, err := New(t.Context(), c, fresh())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	storetest.Compare(t, st, rand.Uint64(), 500)
}
