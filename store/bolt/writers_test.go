package bolt_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/bolt"
)

// watched counts the calls of Apply that run at a time.
type watched struct {
	*bolt.Store
	running, most atomic.Int64
}

func (w *watched) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	n := w.running.Add(1)
	defer w.running.Add(-1)
	for most := w.most.Load(); n > most && !w.most.CompareAndSwap(most, n); most = w.most.Load() {
	}
	time.Sleep(time.Millisecond) // in virtual time: whoever can come meanwhile does
	return w.Store.Apply(ctx, cs)
}

// A DB gives a file one batch at a time, unless it is told otherwise.
func TestOneWriter(t *testing.T) {
	for _, flushers := range []int{0, 8} {
		synctest.Test(t, func(t *testing.T) {
			st, err := bolt.Open(t.TempDir()+"/s.db", &bolt.Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			w := &watched{Store: st}
			db, err := kvstore.Open[int](t.Context(), w, kvstore.Options{Flushers: flushers, MaxBatch: 4})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				if _, err := db.Create(t.Context(), fmt.Sprint(i)); err != nil {
					t.Fatal(err)
				}
			}
			if err := db.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if most := w.most.Load(); (flushers == 0) != (most == 1) {
				t.Errorf("with %d flushers, 0 for the default, up to %d calls of Apply ran at a time", flushers, most)
			}
		})
	}
}
