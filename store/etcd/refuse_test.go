package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

// refused checks that Open gives an error that says what to do, and no password.
func refused(t *testing.T, url string, o *Options, says ...string) {
	t.Helper()
	bound := time.Minute
	if slices.Contains(says, "etcds://") {
		bound = time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	st, err := Open(ctx, url, o)
	if err == nil {
		st.Close()
		t.Errorf("Open(%s, %+v) gives no error; want one that says %q", url, o, says)
		return
	}
	for _, word := range says {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("Open(%s, %+v) gives %v; want it to say %q", url, o, err, word)
		}
	}
	if strings.Contains(err.Error(), "geheim") {
		t.Errorf("the error tells the password: %v", err)
	}
}

// What Open cannot work with it refuses, says what to do, and leaves nothing behind.
func TestRefusals(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	admin := c.client(t, c.endpoint(0))
	put := func(key, value string) {
		t.Helper()
		if _, err := admin.Put(t.Context(), key, value); err != nil {
			t.Fatal(err)
		}
	}
	put("shop/orders", "7")
	put("newer/format", "kvstore 7")
	for url, says := range map[string]string{
		"":                                  "etcd://",
		"postgres://x:geheim@127.0.0.1/":    "etcd://",
		"etcd://x:geheim@127.0.0.1":         "host",
		"etcd://x:geh%eim@127.0.0.1:1":      "%XX",
		"etcd://127.0.0.1:1/way":            "host",
		"etcd://127.0.0.1:1,":               "host",
		"etcd://127.0.0.1:1":                "refused",
		fmt.Sprintf("etcds%s", c.url()[4:]): "with TLS",
		fmt.Sprintf("http%s", c.url()[4:]):  "etcd://",
	} {
		refused(t, url, nil, says)
	}
	refused(t, c.url(), &Options{Prefix: "shop/"}, "shop/", "not kvstore's", "Options.Prefix")
	refused(t, c.url(), &Options{Prefix: "newer/"}, "newer/", "kvstore 7", format)
	refused(t, c.url(), &Options{Prefix: strings.Repeat("x", maxPrefix+1)}, "Options.Prefix", "256")
	refused(t, c.url(), &Options{TombstoneRetention: -1}, "TombstoneRetention")
	if _, err := New(t.Context(), nil, nil); err == nil {
		t.Error("New takes no client")
	}
	r, err := admin.Get(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithKeysOnly())
	if err != nil || len(r.Kvs) != 2 {
		t.Errorf("of what was refused there is something left: %v, %v", r, err)
	}
}

func TestLimits(t *testing.T) {
	c := start(t, 1, member{NoFsync: true})
	st := open(t, c.url(), fresh())
	o := store.Owner{Node: "a", Incarnation: store.NewIncarnation()}
	id := strings.Repeat("s", store.MaxSession)
	change := store.Change{Session: id, Owner: o, Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{
		{Key: "large", Value: bytes.Repeat([]byte{1}, MaxValue+1)}, {Key: "small"}}}
	is := func(c store.Change, keys, says string) {
		t.Helper()
		rs, err := st.Apply(t.Context(), []store.Change{c, {Session: "t", Owner: o, Epoch: 1, Seq: 1, Create: true}})
		if err != nil || rs[0].Outcome != store.Rejected || !errors.Is(rs[0].Err, store.ErrTooLarge) || fmt.Sprint(rs[0].Keys) != keys ||
			!strings.Contains(rs[0].Err.Error(), says) || rs[1].Outcome != store.Applied && rs[1].Outcome != store.Already {
			t.Errorf("what is too large: %+v, %v", rs, err)
		}
	}
	is(change, "[large]", fmt.Sprint(MaxValue))
	is(store.Change{Session: id, Owner: store.Owner{Node: strings.Repeat("a", MaxHeader+1), Incarnation: o.Incarnation}, Epoch: 1, Seq: 1, Create: true}, "[]", fmt.Sprint(MaxHeader))
	huge := change
	huge.Puts = nil
	for i := range 50 {
		huge.Puts = append(huge.Puts, store.Entry{Key: fmt.Sprint(i), Value: change.Puts[0].Value[1:]})
	}
	is(huge, "[]", fmt.Sprint(MaxChange))

	// What is not is taken whole, though no request could hold it.
	change.Puts[0].Value = change.Puts[0].Value[1:]
	for i := range 4 {
		change.Puts = append(change.Puts, store.Entry{Key: fmt.Sprint("quite large", i), Value: bytes.Repeat([]byte{byte(i)}, store.MinValue)})
	}
	for i := range 5_000 {
		change.Puts = append(change.Puts, store.Entry{Key: fmt.Sprint(i), Value: []byte("v")})
	}
	apply(t, st, change, store.Applied)
	apply(t, st, change, store.Already)
	same := func(es []store.Entry, err error) {
		t.Helper()
		got := map[string]store.Entry{}
		for _, e := range es {
			got[e.Key] = e
		}
		if err != nil || len(es) != len(change.Puts) || len(got) != len(es) {
			t.Errorf("%d entries, %v; want %d", len(es), err, len(change.Puts))
		}
		for _, e := range change.Puts {
			if !bytes.Equal(got[e.Key].Value, e.Value) {
				t.Errorf("the entry %q is another one", e.Key)
			}
		}
	}
	snap, err := st.Load(t.Context(), id)
	same(snap.Entries, err)
	claim, err := st.Claim(t.Context(), store.ClaimRequest{Session: id, Owner: store.Owner{Incarnation: store.NewIncarnation()}, All: true})
	same(claim.Entries, err)
	apply(t, st, store.Change{Session: id, Owner: claim.Header.Owner, Epoch: 2, Seq: 1, Wipe: true, Puts: change.Puts}, store.Applied)
	snap, err = st.Load(t.Context(), id)
	same(snap.Entries, err)
}
