package kvstore

import (
	"reflect"
	"testing"

	"github.com/seed-6f1f505d/kvstore/store/memory"
)

type writers struct {
	*memory.Store
	n int
}

func (w writers) Writers() int { return w.n }

// There are as many lanes as the store has writers, four if it does not say, 64 at most, and as many as were asked for if any were.
func TestLanes(t *testing.T) {
	st := memory.New()
	defer st.Close()
	for _, c := range []struct{ writers, asked, want int }{
		{1, 0, 1}, {7, 0, 7}, {0, 0, 4}, {-1, 0, 4}, {100, 0, 64}, {7, 3, 3},
	} {
		o, err := Options{Flushers: c.asked}.resolve(reflect.TypeFor[string](), writers{st, c.writers})
		if err != nil || o.Flushers != c.want {
			t.Errorf("of a store with %d writers, asked for %d: %d lanes, %v; want %d", c.writers, c.asked, o.Flushers, err, c.want)
		}
	}
}
