package etcd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/internal/outage"
	"github.com/seed-6f1f505d/kvstore/store"
)

// Tombstones go when they are old enough, with all that is of them, and sessions that were made again stay.
func TestTombstonesGo(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	o := fresh()
	kept := open(t, c.url(), o)
	owner := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	for i := range 300 {
		id := fmt.Sprint("gone/\x00", i)
		apply(t, kept, store.Change{Session: id, Owner: owner, Epoch: 1, Seq: 1, Create: true, Delete: true}, store.Applied)
	}
	apply(t, kept, store.Change{Session: "again", Owner: owner, Epoch: 1, Seq: 1, Create: true, Delete: true}, store.Applied)
	apply(t, kept, store.Change{Session: "again", Owner: owner, Epoch: 1, Seq: 2, Create: true}, store.Applied)
	keys := func() int64 {
		t.Helper()
		r, err := kept.client.Get(t.Context(), o.Prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		return r.Count
	}
	node := store.Node{Incarnation: owner.Incarnation}
	before := keys()
	if _, err := kept.KeepAlive(t.Context(), node, 0); err != nil || keys() != before {
		t.Errorf("there were %d keys, and with tombstones that are to be kept for days there are %d, %v", before, keys(), err)
	}
	hasty := *o
	hasty.TombstoneRetention = time.Nanosecond
	st := open(t, c.url(), &hasty)
	outage.Until(t, "the tombstones go", func() bool {
		if _, err := st.KeepAlive(t.Context(), node, 0); err != nil {
			t.Fatal(err)
		}
		return keys() == 3 // the format, and the head and the index of the session
	})
	if snap, err := st.Load(t.Context(), "again"); err != nil || !snap.Header.Exists() {
		t.Errorf("the session that was made again is %+v, %v", snap, err)
	}
}

// flood writes a session over and over, as the load of months.
type flood struct {
	st *Store
	c  store.Change
}

func newFlood(t *testing.T, st *Store) *flood {
	f := &flood{st, store.Change{Session: "s", Owner: store.Owner{Node: "a", Incarnation: store.NewIncarnation()}, Epoch: 1, Seq: 1, Create: true}}
	apply(t, st, f.c, store.Applied)
	f.c.Create = false
	return f
}

const floodBytes = 100 << 10 // of one write

func (f *flood) write(t *testing.T) error {
	noise := make([]byte, floodBytes)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	f.c.Seq++
	f.c.Puts = []store.Entry{{Key: fmt.Sprint(f.c.Seq % 3), Value: noise}}
	_, err := f.st.Apply(t.Context(), []store.Change{f.c})
	return err
}

// With Options.Compact many times the server's quota is written.
func TestCompacts(t *testing.T) {
	const quota = 8 << 20
	c := start(t, 1, member{NoFsync: true, Quota: quota})
	o := fresh()
	o.Compact = time.Millisecond
	st := open(t, c.url(), o)
	f := newFlood(t, st)
	for written := 0; written < 3*quota; written += floodBytes {
		if err := f.write(t); err != nil {
			t.Fatalf("after %d bytes: %v", written, err)
		}
		if written/floodBytes%10 == 0 {
			outage.Until(t, "former values are removed", func() bool {
				if _, err := st.KeepAlive(t.Context(), store.Node{Incarnation: f.c.Owner.Incarnation}, time.Hour); err != nil {
					t.Fatal(err)
				}
				r, err := st.client.Status(t.Context(), c.endpoint(0))
				return err == nil && r.DbSizeInUse < quota/2
			})
		}
	}
}

// A quota that is used up is an error that says so, and what to do; what was acknowledged stays; a lease that runs is renewed; and it goes
// on when that was done.
func TestQuota(t *testing.T) {
	c := start(t, 1, member{NoFsync: true, Quota: 4 << 20})
	o := fresh()
	o.Compact = -1
	st := open(t, c.url(), o)
	f := newFlood(t, st)
	node := store.Node{Incarnation: f.c.Owner.Incarnation}
	if _, err := st.KeepAlive(t.Context(), node, time.Hour); err != nil {
		t.Fatal(err)
	}
	var full error
	acked := f.c.Seq
	for full == nil {
		if full = f.write(t); full == nil {
			acked = f.c.Seq
		} else if f.c.Seq > 1000 {
			t.Fatal("the quota is not used up")
		}
	}
	if !errors.Is(full, rpctypes.ErrNoSpace) || !strings.Contains(full.Error(), "--quota-backend-bytes") {
		t.Errorf("the error is %v", full)
	}
	snap, err := st.Load(t.Context(), "s")
	if err != nil || snap.Header.Seq < acked || len(snap.Entries) != 3 {
		t.Errorf("%d were acknowledged, and on record are %+v, %d entries, %v", acked, snap.Header, len(snap.Entries), err)
	}
	if ran, err := st.KeepAlive(t.Context(), node, time.Hour); err != nil || !ran {
		t.Errorf("a lease that runs is renewed: %t, %v", ran, err)
	}
	apply := func() store.Outcome {
		rs, err := st.Apply(t.Context(), []store.Change{f.c})
		if err != nil {
			return store.Undecided
		}
		return rs[0].Outcome
	}
	admin := c.client(t, c.endpoint(0))
	if _, err := admin.Compact(t.Context(), revision(t, admin), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Defragment(t.Context(), c.endpoint(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
	outage.Until(t, "there is room again", func() bool { o := apply(); return o == store.Applied || o == store.Already })
	if snap, err = st.Load(t.Context(), "s"); err != nil || snap.Header.Seq != f.c.Seq {
		t.Errorf("on record are %+v, %v", snap.Header, err)
	}
}

func revision(t *testing.T, c *clientv3.Client) int64 {
	t.Helper()
	r, err := c.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}
