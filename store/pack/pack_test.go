package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

func TestOptions(t *testing.T) {
	d := dictionaryOf(t, 256)
	for _, c := range []struct {
		inner store.Store
		o     Options
		want  string // "": it works
	}{
		{memory.New(), Options{}, ""},
		{memory.New(), Options{MinSize: math.MaxInt, MinGain: 0.999, MaxValue: 1 << 30, Dictionaries: [][]byte{d}}, ""},
		{memory.New(), Options{MinSize: math.MinInt}, ""},
		{nil, Options{}, "no store"},
		{memory.New(), Options{MinGain: -0.1}, "Options.MinGain is -0.1"},
		{memory.New(), Options{MinGain: 1}, "Options.MinGain is 1"},
		{memory.New(), Options{MinGain: math.NaN()}, "Options.MinGain is NaN"},
		{memory.New(), Options{MaxValue: -1}, "Options.MaxValue is -1"},
		{memory.New(), Options{MaxValue: 1<<30 + 1}, "Options.MaxValue is 1073741825"},
		{memory.New(), Options{Dictionaries: [][]byte{d, nil}}, "Options.Dictionaries[1]"},
		{memory.New(), Options{Dictionaries: [][]byte{d[:100]}}, "Options.Dictionaries[0]"},
		{memory.New(), Options{Dictionaries: [][]byte{bytes.Repeat([]byte("text"), 100)}}, "Options.Dictionaries[0]"},
		{memory.New(), Options{Dictionaries: [][]byte{d, bytes.Clone(d)}}, "Options.Dictionaries[1] has the ID"},
	} {
		s, err := New(c.inner, c.o)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+.80v: %v, want %q", c.o, err, c.want)
		}
		if err == nil {
			put(t, s, "s", "", strings.Repeat("x", 1000))
			s.Close()
		}
	}
}

// recorder keeps what reaches the store behind, copied, and the slices themselves.
type recorder struct {
	store.Store
	got []store.Change
}

func (r *recorder) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	r.got = nil
	for _, c := range cs {
		puts := make([]store.Entry, len(c.Puts))
		for i, e := range c.Puts {
			puts[i] = store.Entry{Key: e.Key, Value: bytes.Clone(e.Value), Expires: e.Expires}
			if i > 0 && cap(e.Value) > len(e.Value) && kindOf(e.Value) != raw {
				_ = append(e.Value, 0xee) // may reach no other value
			}
		}
		for i, e := range c.Puts {
			if !bytes.Equal(e.Value, puts[i].Value) {
				panic("an append to one value changes another")
			}
		}
		c.Puts = puts
		r.got = append(r.got, c)
	}
	return r.Store.Apply(ctx, cs)
}

// A batch of values that are packed and that are not, in several changes, is stored as it should be; nothing of the caller's is altered.
func TestApply(t *testing.T) {
	rec := &recorder{Store: memory.New()}
	s := wrap(t, rec, Options{})
	long := bytes.Repeat([]byte("words and "), 50)
	values := [][]byte{[]byte("short"), long, noise(300), marked(markPlain, "x"), nil, append(bytes.Clone(long), "more"...)}
	o := owner()
	var cs []store.Change
	for i := range 12 {
		c := store.Change{Session: fmt.Sprint("s", i), Owner: o, Epoch: 1, Seq: 1, Create: true, Schema: uint32(i), Deletes: []string{"none"}}
		for k := range i { // the first has none
			c.Puts = append(c.Puts, store.Entry{Key: fmt.Sprint("k", k), Value: bytes.Clone(values[(i*k)%len(values)]), Expires: store.Time(math.MaxInt64)})
		}
		cs = append(cs, c)
	}
	before := fmt.Sprintf("%+v", cs)
	rs, err := s.Apply(t.Context(), cs)
	if err != nil {
		t.Fatal(err)
	}
	if after := fmt.Sprintf("%+v", cs); after != before {
		t.Errorf("the caller's changes are altered from\n%.2000s\nto\n%.2000s", before, after)
	}
	for i, c := range cs {
		if rs[i].Outcome != store.Applied {
			t.Errorf("%d: %+v", i, rs[i])
		}
		got := rec.got[i]
		if got.Session != c.Session || got.Schema != c.Schema || len(got.Puts) != len(c.Puts) || len(got.Deletes) != 1 {
			t.Errorf("%d: the store behind gets %+v of %+v", i, got, c)
		}
		snap, err := s.Load(t.Context(), c.Session)
		if err != nil || len(snap.Entries) != len(c.Puts) {
			t.Fatalf("%d: %+v, %v", i, snap, err)
		}
		for j, e := range snap.Entries {
			k := 0
			fmt.Sscanf(e.Key, "k%d", &k)
			if want := c.Puts[k]; e.Key != want.Key || !bytes.Equal(e.Value, want.Value) || e.Expires != want.Expires {
				t.Errorf("%d: entry %d is %+v, want %+v", i, j, e, want)
			}
			if p := got.Puts[k]; (kindOf(p.Value) == packed) != bytes.HasPrefix(e.Value, []byte("words")) {
				t.Errorf("%d: entry %d: %.20q is stored as %.20q", i, j, e.Value, p.Value)
			}
		}
	}
}

// What is of no use to pack costs no copy.
func TestApplyAsIs(t *testing.T) {
	rec := &aliases{Store: memory.New()}
	s := wrap(t, rec, Options{})
	cs := []store.Change{{Session: "s", Owner: owner(), Epoch: 1, Seq: 1, Create: true, Puts: []store.Entry{{Value: []byte("short")}, {Key: "k", Value: noise(500)}}}}
	if _, err := s.Apply(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	if &rec.got[0] != &cs[0] {
		t.Error("the changes were copied for nothing")
	}
}

type aliases struct {
	store.Store
	got []store.Change
}

func (a *aliases) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	a.got = cs
	return a.Store.Apply(ctx, cs)
}

// Close waits for those who pack and unpack; no call panics, none is left behind, and what is refused is refused with ErrClosed.
func TestClose(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) { // which sees to it that no goroutine is left
			s, err := New(memory.New(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			value := bytes.Repeat([]byte("many words "), 1000)
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					c := store.Change{Session: fmt.Sprint(i), Owner: owner(), Epoch: 1, Create: true, Puts: []store.Entry{{Value: value}}}
					for c.Seq = 1; ; c.Seq++ {
						if _, err := s.Apply(context.Background(), []store.Change{c}); err != nil {
							if !errors.Is(err, store.ErrClosed) {
								t.Errorf("Apply: %v", err)
							}
							return
						}
						snap, err := s.Load(context.Background(), c.Session)
						if err != nil {
							if !errors.Is(err, store.ErrClosed) {
								t.Errorf("Load: %v", err)
							}
							return
						}
						if !bytes.Equal(snap.Entries[0].Value, value) {
							t.Errorf("read %.40q", snap.Entries[0].Value)
						}
						if c.Seq == 3 && i == 0 {
							wg.Go(func() {
								if err := s.Close(); err != nil {
									t.Errorf("Close: %v", err)
								}
							})
						}
					}
				})
			}
			wg.Wait()
			if err := s.Close(); err != nil {
				t.Errorf("Close again: %v", err)
			}
		})
	}
}

// Who waits for a coder waits no longer than its context.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(memory.New(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, "s", "", strings.Repeat("x", 1000))
		var held []func()
		for range cap(s.coder.encoders.slots) {
			e, err := s.coder.encoders.take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			d, err := s.coder.decoders.take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, func() { s.coder.encoders.give(e); s.coder.decoders.give(d) })
		}
		ctx, stop := context.WithTimeout(t.Context(), 1e9)
		defer stop()
		if _, err := s.Apply(ctx, []store.Change{{Session: "s", Owner: owner(), Epoch: 1, Seq: 2, Puts: []store.Entry{{Value: make([]byte, 1000)}}}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Apply: %v", err)
		}
		if _, err := s.Load(ctx, "s"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Load: %v", err)
		}
		closed := make(chan struct{})
		go func() { s.Close(); close(closed) }()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close does not wait for who has a coder")
		default:
		}
		for _, give := range held {
			give()
		}
		<-closed
	})
}

// A claim that cannot be unpacked now is an error, which says nothing of the claim; it can be repeated.
func TestClaimAfterFault(t *testing.T) {
	f := storetest.NewFaults(memory.New())
	s := wrap(t, f, Options{})
	put(t, s, "s", "", strings.Repeat("x", 1000))
	f.Inject(storetest.First(1, storetest.Fault{Fail: storetest.After}, storetest.Claim))
	r := store.ClaimRequest{Session: "s", Owner: owner(), All: true}
	if _, err := s.Claim(t.Context(), r); !errors.Is(err, storetest.ErrInjected) {
		t.Errorf("Claim: %v", err)
	}
	if c, err := s.Claim(t.Context(), r); err != nil || c.Outcome != store.Granted || len(c.Entries) != 1 || len(c.Entries[0].Value) != 1000 {
		t.Errorf("Claim: %+v, %v", c, err)
	}
}
