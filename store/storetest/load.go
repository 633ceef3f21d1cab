package storetest

import (
	"fmt"
	"sync"

	"github.com/seed-6f1f505d/kvstore/store"
)

var loadRules = []rule{
	{"Load reads the named entries of a session, or all if none is named, and the header, in one consistent view.", []testcase{
		{"named or all", func(k *kit) {
			a := k.own("s", "a", "1", "ab", "2", "b", "3")
			k.holds("s", "a", "1", "ab", "2", "b", "3")
			k.same(k.load("s", "ab").Entries, "ab", "2")
			k.same(k.load("s", "b", "none", "a").Entries, "a", "1", "b", "3")
			k.same(k.load("s", "none").Entries)
			for _, s := range []store.Snapshot{k.load("s"), k.load("s", "a"), k.load("s", "none")} {
				k.sameHeader(s.Header, store.Header{Session: "s", Owner: a.owner, Epoch: a.epoch, Seq: a.seq})
			}
		}},
		{"consistent while it is written", consistentLoad},
	}},
	{"It reads at least the state of the last Claim or Apply that was acknowledged to anyone before the call.", []testcase{
		{"the next read", func(k *kit) {
			a := k.own("s")
			for n := range 100 {
				v := fmt.Sprint(n)
				k.applied(a.change("k", v))
				k.holds("s", "k", v)
				k.same(k.load("s", "k").Entries, "k", v)
				if n%10 == 9 {
					a = k.take("s")
					k.sameHeader(k.load("s").Header, store.Header{Session: "s", Owner: a.owner, Epoch: a.epoch})
				}
			}
			k.applied(dropping(a.change(), "k"))
			k.same(k.load("s", "k").Entries)
		}},
		{"what another was told", toldByAnother},
	}},
	{"An absent session has a header with epoch 0; a tombstone is returned as it is.", []testcase{
		{"absent", func(k *kit) {
			k.own("other", "k", "v")
			for _, s := range []store.Snapshot{k.load("s"), k.load("s", "k"), k.load("othe", "r"), k.load("other\x00")} {
				if s.Header.Epoch != 0 || s.Header.Exists() || len(s.Entries) > 0 {
					k.fail("snapshot of an absent session is %+v", s)
				}
			}
		}},
		{"a tombstone", func(k *kit) {
			a := k.lived()
			k.applied(erasing(a.change()))
			for _, s := range []store.Snapshot{k.load("s"), k.load("s", "k")} {
				k.sameHeader(s.Header, store.Header{Session: "s", Owner: a.owner, Epoch: a.epoch, Seq: a.seq, Deleted: true})
				k.same(s.Entries)
			}
		}},
	}},
	{"Entries are returned also if the session's own expiry is past: the reader may own it and judges the header.", []testcase{
		{"an expired session", func(k *kit) {
			a, at := k.own("s", "k", "v"), anHourAgo()
			k.applied(ending(a.change(), at))
			for range 2 {
				k.holds("s", "k", "v")
				k.same(k.load("s", "k").Entries, "k", "v")
				k.sameHeader(k.load("s").Header, store.Header{Session: "s", Owner: a.owner, Epoch: a.epoch, Seq: a.seq, Expires: at})
				k.alive(a.owner)
			}
		}},
	}},
	{"Expired entries are left out.", []testcase{
		{"expired entries", func(k *kit) {
			a := k.own("s", "k", "v")
			k.applied(expiring(a.change("past", "v", "long past", "v"), anHourAgo()))
			k.holds("s", "k", "v")
			k.same(k.load("s", "past", "k", "long past").Entries, "k", "v")
			k.same(k.load("s", "past").Entries)
		}},
	}},
}

// toldByAnother reads what the goroutine that writes says is stored. The writer goes on meanwhile: newer is as good.
func toldByAnother(k *kit) {
	a := k.own("s")
	told := make(chan int)
	go func() {
		defer close(told)
		for n := range 100 {
			rs, err := k.st.Apply(k.ctx, []store.Change{versioned(a.change(), uint32(n))})
			if err != nil || len(rs) != 1 || rs[0].Outcome != store.Applied {
				k.complain("Apply gives %+v, %v", rs, err)
				return
			}
			told <- n
		}
	}()
	defer func() { // the writer ends also if this case fails
		for range told {
		}
	}()
	for n := range told {
		if h := k.load("s").Header; h.Schema < uint32(n) {
			k.fail("Load gives change %d after %d was acknowledged", h.Schema, n)
		}
	}
}

// consistentLoad reads while changes write the same number to each key and to the header.
func consistentLoad(k *kit) {
	a := k.own("s")
	n, rounds := 4, 200
	write := func(i int) store.Change {
		kv := make([]string, 0, 2*n)
		for key := range n {
			kv = append(kv, fmt.Sprint("k", key), fmt.Sprint(i))
		}
		return versioned(a.change(kv...), uint32(i))
	}
	k.applied(write(0))
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		for i := range rounds {
			if _, err := k.st.Apply(k.ctx, []store.Change{write(i)}); err != nil {
				k.complain("Apply gives error %v", err)
				return
			}
		}
	})
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		for _, keys := range [][]string{nil, {"k3", "k0", "k1", "k2"}} {
			s, err := k.st.Load(k.ctx, "s", keys...)
			if err != nil || len(s.Entries) != n {
				k.complain("Load gives %d entries and error %v, want %d entries", len(s.Entries), err, n)
				return
			}
			for _, e := range s.Entries {
				if string(e.Value) != fmt.Sprint(s.Header.Schema) {
					k.complain("a view is torn: key %q is of change %s, the header of change %d", e.Key, e.Value, s.Header.Schema)
					return
				}
			}
		}
	}
}
