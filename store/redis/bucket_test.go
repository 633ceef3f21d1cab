package redis

import (
	"fmt"
	"testing"

	"github.com/seed-6f1f505d/kvstore/internal/redisserver"
)

// Buckets are where a Cluster says that they are, and each of as many servers has as many.
func TestSlots(t *testing.T) {
	srv := redisserver.Start(t, "cluster-enabled yes")
	for _, n := range []int{1, 3, clusterBuckets, maxBuckets} {
		for i, b := range newBuckets("kvstore", n) {
			if n == maxBuckets && i%50 != 0 {
				continue
			}
			want := fmt.Sprint(slot(newTag("kvstore", i, n)))
			if got := srv.Must(t, "CLUSTER", "KEYSLOT", b.session+"s{x}"); got != want {
				t.Errorf("bucket %d of %d is in slot %s, want %s", i, n, got, want)
			}
		}
	}
	counts := map[int]int{}
	for i := range clusterBuckets {
		counts[slot(newTag("x", i, clusterBuckets))*3/slots]++
	}
	if counts[0] != clusterBuckets/3 || counts[1] != clusterBuckets/3 {
		t.Errorf("three servers have %v", counts)
	}
}

// What a keyspace's keys are named is kept in it for ever.
func TestNames(t *testing.T) {
	bs := newBuckets("kvstore", 24)
	for i, want := range map[int]string{0: "{kvstore:0.63}:live", 23: "{kvstore:23.52}:live"} {
		if bs[i].live != want {
			t.Errorf("bucket %d has %s, want %s", i, bs[i].live, want)
		}
	}
	s := &Store{buckets: bs}
	if got := s.bucketOf("call-1"); got != 16 {
		t.Errorf("call-1 is in bucket %d, want 16", got)
	}
}
