package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// This file puts one entry that can never be stored, or not for long, among thousands. It alone may suffer.

// picky is Msgpack, but for the values that it cannot encode.
type picky struct{ kvstore.Msgpack }

var errPicky = errors.New("cannot be encoded")

func (c picky) Append(dst []byte, v any) ([]byte, error) {
	s := ""
	switch v := v.(type) {
	case *string:
		s = *v
	case string:
		s = v
	}
	switch {
	case strings.HasPrefix(s, "error"):
		return append(dst, "half of"...), errPicky
	case strings.HasPrefix(s, "grow"):
		return append(dst, make([]byte, 2000)...), nil
	case strings.HasPrefix(s, "panic"):
		panic("a codec's panic")
	}
	return c.Msgpack.Append(dst, v)
}

// fussy is a store that refuses changes which have the value "refuse" anywhere.
type fussy struct {
	store.Store
	name bool // it says which entries
}

var errFussy = errors.New("refused for good")

func (f fussy) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	rs := make([]store.Result, len(cs))
	var good []store.Change
	var at []int
	for i, c := range cs {
		var bad []string
		for _, e := range c.Puts {
			if strings.Contains(string(e.Value), "refuse") {
				bad = append(bad, e.Key)
			}
		}
		if len(bad) == 0 {
			good, at = append(good, c), append(at, i)
			continue
		}
		if rs[i] = (store.Result{Outcome: store.Rejected, Err: errFussy}); f.name {
			rs[i].Keys = bad
		}
	}
	answers, err := f.Store.Apply(ctx, good)
	for i, r := range answers {
		rs[at[i]] = r
	}
	return rs, err
}

// newPoisoned is an outpost whose store may be fussy.
func newPoisoned(t *testing.T, opt kvstore.Options, names bool) *outpost {
	o := newOutpost(t, opt)
	o.ok(o.db.Close(o.ctx))
	opt.Hooks.Lost = func(l kvstore.Lost) { o.hear(func() { o.lost = append(o.lost, l) }) }
	opt.Codec = picky{}
	opt.StoreTimeout = time.Second
	o.db = o.node(fussy{o.line, names}, opt)
	return o
}

// crowd puts an entry into each of many sessions.
func (o *outpost) crowd(n int, v string) {
	o.t.Helper()
	for i := range n {
		o.ok(o.db.Put(o.ctx, fmt.Sprint("crowd", i), v))
	}
}

func (o *outpost) crowdHas(n int, v string) {
	o.t.Helper()
	for i := range n {
		o.holds(fmt.Sprint("crowd", i), map[string]string{"": v})
	}
}

func TestPoisonedEntry(t *testing.T) {
	poisons := []struct {
		name  string
		value string
		names bool
		want  error
	}{
		{"codec error", "error", false, errPicky},
		{"codec panic", "panic", false, nil},
		{"too large", "grow", false, kvstore.ErrTooLarge},
		{"rejected with keys", "refuse", true, errFussy},
		{"rejected without keys", "refuse", false, errFussy},
	}
	for _, p := range poisons {
		for _, key := range []string{"", "m"} { // the main entry, and one in the middle
			for _, stored := range []bool{false, true} {
				t.Run(fmt.Sprint(p.name, "/key=", key, "/stored=", stored), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						o := newPoisoned(t, kvstore.Options{MaxValue: 1000, MaxBatch: 100}, p.names)
						poisonEntry(o, key, p.value, stored, p.want)
					})
				})
			}
		}
	}
}

func poisonEntry(o *outpost, key, value string, stored bool, cause error) {
	t := o.t
	const crowd = 400
	s, err := o.db.Create(o.ctx, "s")
	o.ok(err)
	want := map[string]string{}
	if stored {
		o.ok(s.Put(o.ctx, key, "0"))
		o.ok(s.Put(o.ctx, "z", "0"))
		o.ok(s.Sync(o.ctx))
		want = map[string]string{key: "0"}
	}
	keys := []string{"", "a", "b", "m", "x"}
	// The poison comes alone, in the same window: a transaction that holds what cannot be encoded is refused at once.
	transaction := func(v string) error {
		err := s.Update(o.ctx, func(tx *kvstore.Tx[string]) error {
			for _, k := range keys {
				if v := v; k != key {
					want[k] = v
					o.ok(tx.Put(k, v))
				}
			}
			return tx.Delete("z")
		})
		return errors.Join(err, s.Put(o.ctx, key, value))
	}
	o.crowd(crowd, "1")
	o.ok(transaction("1"))
	err = s.Sync(o.ctx)
	var rejected *kvstore.RejectedError
	if !errors.Is(err, kvstore.ErrRejected) || !errors.As(err, &rejected) || !slices.Equal(rejected.Keys, []string{key}) {
		t.Errorf("Sync of the poisoned session gives %v", err)
	}
	if cause != nil && !errors.Is(err, cause) {
		t.Errorf("Sync gives %v, which is not %v", err, cause)
	}
	if err := o.db.Flush(o.ctx); !errors.Is(err, kvstore.ErrRejected) {
		t.Errorf("the next Flush gives %v", err)
	}
	o.crowdHas(crowd, "1")
	o.holds("s", want)
	lost, fenced := o.heard()
	if len(lost) != 1 || len(lost[0].Entries) != 1 || lost[0].Session != "s" || lost[0].Entries[0].Key != key ||
		lost[0].Entries[0].Value != value || !errors.Is(lost[0].Cause, kvstore.ErrRejected) || len(fenced) > 0 {
		t.Errorf("lost is %+v, fenced %+v; want the poisoned entry alone, once", lost, fenced)
	}
	if v, err := s.Get(o.ctx, key); stored && (err != nil || v != "0") || !stored && !errors.Is(err, kvstore.ErrNotFound) {
		t.Errorf("after the loss of it, the entry is %q, %v; stored before: %v", v, err, stored)
	}
	o.remembers(o.db, "s", want)

	// And it harms nobody later: neither the session, nor the entry itself.
	o.ok(s.Put(o.ctx, key, "good"))
	o.ok(s.Put(o.ctx, "a", "2"))
	o.ok(s.Sync(o.ctx))
	want[key], want["a"] = "good", "2"
	o.holds("s", want)
	o.remembers(o.db, "s", want)
	o.ok(o.db.Flush(o.ctx))
	if n := o.db.Stats().Buffered; n != 0 {
		t.Errorf("%d bytes are held", n)
	}
	if lost, _ := o.heard(); len(lost) != 1 {
		t.Errorf("lost again: %+v", lost[1:])
	}
}

// Several poisoned entries of one session are found one by one, and no good one with them.
func TestPoisonedEntries(t *testing.T) {
	for _, names := range []bool{false, true} {
		t.Run(fmt.Sprint("names=", names), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newPoisoned(t, kvstore.Options{}, names)
				s, err := o.db.Create(o.ctx, "s")
				o.ok(err)
				rnd := rand.New(rand.NewPCG(1, 2))
				want, bad := map[string]string{}, map[string]string{}
				for i := range 60 {
					k := fmt.Sprint("k", i)
					v := []string{"good", "good", "refuse", "error"}[rnd.IntN(4)] + k
					if o.ok(s.Put(o.ctx, k, v)); v[0] == 'g' {
						want[k] = v
					} else {
						bad[k] = v
					}
				}
				if err := s.Sync(o.ctx); !errors.Is(err, kvstore.ErrRejected) {
					t.Errorf("Sync gives %v", err)
				}
				o.db.Flush(o.ctx)
				time.Sleep(time.Minute)
				o.holds("s", want)
				o.remembers(o.db, "s", want)
				lost, _ := o.heard()
				for _, l := range lost {
					for _, e := range l.Entries {
						if bad[e.Key] != e.Value {
							t.Errorf("handed over: %+v; it is not bad, or was handed over before", e)
						}
						delete(bad, e.Key)
					}
				}
				if len(bad) > 0 {
					t.Errorf("not handed over: %v", bad)
				}
			})
		})
	}
}

// What is put while the entries of its session are probed is part of it, codec errors included: the
// session is never forgotten half way.
func TestPoisonWhileProbing(t *testing.T) {
	for _, late := range []string{"good", "error", "refuse"} {
		t.Run(late, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newPoisoned(t, kvstore.Options{Flushers: 1}, false)
				s, err := o.db.Create(o.ctx, "s")
				o.ok(err)
				for i := range 20 {
					o.ok(s.Put(o.ctx, fmt.Sprint("k", i), "good"))
				}
				o.ok(s.Put(o.ctx, "k7", "refuse"))
				o.line.Inject(storetest.Every(storetest.Fault{Delay: 100 * time.Millisecond}, storetest.Apply))
				for i := range 30 {
					time.Sleep(70 * time.Millisecond)
					o.ok(s.Put(o.ctx, fmt.Sprint("late", i%3), late))
					o.ok(s.Put(o.ctx, fmt.Sprint("good", i%3), fmt.Sprint("good", i)))
				}
				time.Sleep(10 * time.Second)
				if lag := o.db.Stats().Lag; lag != 0 {
					t.Errorf("ten seconds after the last put the lag is %v", lag)
				}
				want(t, o.db.Flush(o.ctx), kvstore.ErrRejected)
				got, _ := o.stored("s")
				if got["good2"] != "good29" || got["k19"] != "good" || got["k7"] != "" || got["late0"] != map[string]string{"good": "good"}[late] {
					t.Errorf("the store has %v", got)
				}
				if n := o.db.Stats().Buffered; n != 0 {
					t.Errorf("%d bytes are held", n)
				}
			})
		})
	}
}

// A store that fails for a whole batch as long as one certain session is in it is a poisoned session,
// too, and a worse one: nobody names it.
func TestPoisonedBatch(t *testing.T) {
	for _, hot := range []bool{false, true} { // whether the poisoned session changes all the time
		for _, hang := range []bool{false, true} {
			t.Run(fmt.Sprint("hot=", hot, "/hang=", hang), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { poisonBatch(t, hot, hang) })
			})
		}
	}
}

func poisonBatch(t *testing.T, hot, hang bool) {
	o := newOutpost(t, kvstore.Options{Flushers: 1, StoreTimeout: 200 * time.Millisecond, MaxBatch: 256})
	const crowd = 2000
	var mu sync.Mutex
	var tries []time.Time // at the poisoned session
	var company int       // the most sessions in one of the last tries
	poisonous := true
	o.line.Inject(func(c storetest.Call) storetest.Fault {
		if c.Kind != storetest.Apply || !slices.ContainsFunc(c.Changes, func(c store.Change) bool { return c.Session == "poison" }) {
			return storetest.Fault{}
		}
		mu.Lock()
		defer mu.Unlock()
		if !poisonous {
			return storetest.Fault{}
		}
		tries, company = append(tries, time.Now()), len(c.Changes)
		return storetest.Fault{Fail: storetest.Before, Hang: hang}
	})
	o.crowd(crowd/2, "1")
	o.ok(o.db.Put(o.ctx, "poison", "0"))
	for i := crowd / 2; i < crowd; i++ {
		o.ok(o.db.Put(o.ctx, fmt.Sprint("crowd", i), "1"))
	}
	time.Sleep(15 * time.Second) // for the bisection
	o.crowdHas(crowd, "1")

	// Now that it is known, the others hardly notice it.
	last := ""
	var worst time.Duration
	start := time.Now()
	for i := range 600 {
		if hot {
			last = fmt.Sprint(i)
			o.ok(o.db.Put(o.ctx, "poison", last))
		} else {
			last = "0"
		}
		id := fmt.Sprint("crowd", i)
		put := time.Now()
		o.ok(o.db.Put(o.ctx, id, "2"))
		if i%40 == 0 {
			s, err := o.db.Session(o.ctx, id)
			o.ok(err)
			o.ok(s.Sync(o.ctx))
			if i > 0 { // the first may find the lane waiting for its next attempt, for at most RetryMax
				worst = max(worst, time.Since(put))
			} else if took := time.Since(put); took > 2500*time.Millisecond {
				t.Errorf("the first Sync of another session took %v", took)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	mu.Lock()
	recent := tries
	for len(recent) > 0 && recent[0].Before(start) {
		recent = recent[1:]
	}
	if company != 1 {
		t.Errorf("the poisoned session is sent along with %d others", company-1)
	}
	span := time.Since(start)
	if len(recent) < 3 || len(recent) > int(span/(500*time.Millisecond)) {
		t.Errorf("it was tried %d times in %v: it should be with backoff, and for ever", len(recent), span)
	}
	poisonous = false
	mu.Unlock()
	t.Logf("tried %d times in %v; the worst Sync of another session took %v", len(recent), span, worst)
	if worst > 600*time.Millisecond {
		t.Errorf("Sync of another session took %v", worst)
	}
	if h := o.db.Health(); !slices.Contains(h.Problems, kvstore.LagHigh) {
		t.Errorf("a session that has not been stored for %v does not show in Health: %v", span, h)
	}

	time.Sleep(5 * time.Second)
	o.holds("poison", map[string]string{"": last})
	o.quiet()
	if h := o.db.Health(); !h.OK() {
		t.Errorf("all is stored, and health is %v", h)
	}
	for i := range crowd {
		if got, _ := o.stored(fmt.Sprint("crowd", i)); !maps.Equal(got, map[string]string{"": map[bool]string{true: "2", false: "1"}[i < 600]}) {
			t.Fatalf("session %d is %v", i, got)
		}
	}
}
