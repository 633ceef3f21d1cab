package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// This file crosses each fault of a store with each operation. The two that cost others their data are
// the time-out of a call that was applied, and of one that will be, later (late twin). Whatever
// happened, when the fault is over the store has what memory has, and nobody was told of a loss.

var linefaults = []struct {
	name string
	storetest.Fault
}{
	{"refused", storetest.Fault{Fail: storetest.Before}},
	{"applied, answer lost", storetest.Fault{Fail: storetest.After}},
	{"timed out", storetest.Fault{Hang: true}},
	{"timed out, applied", storetest.Fault{Fail: storetest.After, Hang: true}},
	{"timed out, applied with the next attempt", storetest.Fault{Fail: storetest.Late, Hang: true, Late: 1010 * time.Millisecond}},
	{"timed out, applied later", storetest.Fault{Fail: storetest.Late, Hang: true, Late: 9 * time.Second}},
	{"failed, applied at the very end", storetest.Fault{Fail: storetest.Late}},
	{"twice", storetest.Fault{Twice: true}},
	{"slow", storetest.Fault{Delay: 300 * time.Millisecond}},
	{"undecided", storetest.Fault{Split: func(int) bool { return true }}},
	{"undecided for some", storetest.Fault{Split: func(i int) bool { return i%2 == 0 }}},
}

// act is something that is done to session "s", and to a map.
type act struct {
	name  string
	do    func(o *outpost, s *kvstore.Session[string], v string) error
	model func(m map[string]string, v string) map[string]string
}

func putAct(key string) act {
	return act{"put " + key,
		func(o *outpost, s *kvstore.Session[string], v string) error { return s.Put(o.ctx, key, v) },
		func(m map[string]string, v string) map[string]string { m[key] = v; return m }}
}

var acts = []act{
	putAct("a"),
	putAct("new"),
	{"delete",
		func(o *outpost, s *kvstore.Session[string], v string) error { return s.Delete(o.ctx, "a") },
		func(m map[string]string, v string) map[string]string { delete(m, "a"); return m }},
	{"update",
		func(o *outpost, s *kvstore.Session[string], v string) error {
			return s.Update(o.ctx, func(tx *kvstore.Tx[string]) error {
				return errors.Join(tx.Put("a", v), tx.Delete("b"), tx.Put("new", v), tx.Put("", v))
			})
		},
		func(m map[string]string, v string) map[string]string {
			delete(m, "b")
			m["a"], m["new"], m[""] = v, v, v
			return m
		}},
	{"make and delete",
		func(o *outpost, s *kvstore.Session[string], v string) error {
			return errors.Join(s.Put(o.ctx, "new", v), s.Delete(o.ctx, "new"))
		},
		func(m map[string]string, v string) map[string]string { delete(m, "new"); return m }},
	{"touch",
		func(o *outpost, s *kvstore.Session[string], v string) error {
			return s.Expire(o.ctx, time.Now().Add(time.Hour))
		},
		func(m map[string]string, v string) map[string]string { return m }},
	{"delete session",
		func(o *outpost, s *kvstore.Session[string], v string) error { return o.db.Delete(o.ctx, "s") },
		func(map[string]string, string) map[string]string { return nil }},
	{"another life",
		func(o *outpost, s *kvstore.Session[string], v string) error {
			return errors.Join(o.db.Delete(o.ctx, "s"), o.db.Put(o.ctx, "s", v))
		},
		func(_ map[string]string, v string) map[string]string { return map[string]string{"": v} }},
}

// A flush that fails in any way, before, under and after other changes.
func TestFaultsFlush(t *testing.T) {
	for _, fault := range linefaults {
		for _, times := range []int{1, 3} {
			t.Run(fmt.Sprint(fault.name, "/", times), func(t *testing.T) {
				for _, created := range []bool{false, true} {
					for _, first := range acts {
						for _, second := range acts {
							synctest.Test(t, func(t *testing.T) {
								flushUnderFault(t, storetest.First(times, fault.Fault, storetest.Apply), created, first, second)
							})
							if t.Failed() {
								t.Fatalf("created %v, %s, then %s", created, first.name, second.name)
							}
						}
					}
				}
			})
		}
	}
}

func flushUnderFault(t *testing.T, rule func(storetest.Call) storetest.Fault, created bool, first, second act) {
	o := newOutpost(t, kvstore.Options{Flushers: 1})
	model := map[string]string{"": "0", "a": "0", "b": "0"}
	s, err := o.db.Create(o.ctx, "s")
	o.ok(err)
	for k, v := range model {
		o.ok(s.Put(o.ctx, k, v))
	}
	if created {
		o.ok(s.Sync(o.ctx))
	}
	o.line.Inject(rule)
	v := 0
	do := func(a act) {
		t.Helper()
		if model == nil {
			model = map[string]string{}
		}
		s, err := o.db.AdoptOrCreate(o.ctx, "s")
		o.ok(err)
		v++
		o.ok(a.do(o, s, fmt.Sprint(v)))
		model = a.model(model, fmt.Sprint(v))
		o.ok(o.db.Put(o.ctx, "bystander", fmt.Sprint(v)))
		o.remembers(o.db, "s", model)
	}
	do(first)
	time.Sleep(150 * time.Millisecond) // it hangs, or is about to be repeated
	do(second)
	time.Sleep(1500 * time.Millisecond)
	do(putAct("b"))
	time.Sleep(2 * time.Second)

	o.line.Inject(nil)
	o.ok(o.db.Flush(o.ctx))
	check := func() {
		t.Helper()
		o.holds("s", model)
		o.holds("bystander", map[string]string{"": fmt.Sprint(v)})
		o.remembers(o.db, "s", model)
		o.quiet()
	}
	check()
	time.Sleep(20 * time.Second) // late twins
	o.line.ReplayLate(o.ctx)
	check()
	do(putAct("a")) // it is still ours, and not stuck
	o.ok(o.db.Flush(o.ctx))
	check()
}

// What is changed while a flush flies, and then is as in that flush again, is written if the flush does not arrive.
func TestFaultsSameAsFlies(t *testing.T) {
	for _, fault := range linefaults {
		t.Run(fault.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOutpost(t, kvstore.Options{Flushers: 1})
				s, err := o.db.Create(o.ctx, "s")
				o.ok(err)
				add := func(delta int64, ack kvstore.Ack) {
					t.Helper()
					_, err := s.Add(o.ctx, "n", delta, ack)
					o.ok(err)
				}
				add(1, kvstore.Stored)
				o.line.Inject(storetest.First(1, fault.Fault, storetest.Apply))
				add(1, kvstore.InMemory)
				time.Sleep(150 * time.Millisecond) // it hangs, or is about to be repeated
				add(1, kvstore.InMemory)
				add(-1, kvstore.InMemory)
				time.Sleep(3 * time.Second)
				o.line.Inject(nil)
				o.ok(s.Sync(o.ctx))
				o.ok(o.db.Close(o.ctx))
				s, err = o.neighbour().Adopt(o.ctx, "s")
				o.ok(err)
				if n, err := s.Counter(o.ctx, "n"); n != 2 || err != nil {
					t.Errorf("the counter is %d, %v; want 2", n, err)
				}
			})
		})
	}
}

// A hand-over that fails in any way is done in the end, with all that was unsaved, and
// its late twin does not disturb who has the session then.
func TestFaultsRelease(t *testing.T) {
	for _, fault := range linefaults {
		for _, times := range []int{1, 3} {
			t.Run(fmt.Sprint(fault.name, "/", times), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOutpost(t, kvstore.Options{Flushers: 1})
					next := o.neighbour()
					o.ok(o.db.Put(o.ctx, "s", "1"))
					o.ok(o.db.Flush(o.ctx))
					o.ok(o.db.Put(o.ctx, "s", "2"))
					o.line.Inject(storetest.First(times, fault.Fault, storetest.Apply))
					o.ok(o.db.Release(o.ctx, "s"))
					s, err := next.Adopt(o.ctx, "s")
					o.ok(err)
					o.remembers(next, "s", map[string]string{"": "2"})
					o.ok(s.Put(o.ctx, "", "3"))
					o.ok(s.Sync(o.ctx))
					time.Sleep(20 * time.Second)
					o.line.ReplayLate(o.ctx)
					o.holds("s", map[string]string{"": "3"})
					o.ok(s.Put(o.ctx, "", "4"))
					o.ok(s.Sync(o.ctx))
					o.quiet()
				})
			})
		}
	}
}

// A hand-over that is given up leaves the session here, and the store is told so: it may have heard
// of the hand-over, or be about to.
func TestFaultsReleaseGivenUp(t *testing.T) {
	for _, fault := range linefaults {
		for _, times := range []int{1, -1} { // -1: until the line is mended
			for _, put := range []bool{false, true} {
				t.Run(fmt.Sprint(fault.name, "/", times, "/put=", put), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						releaseGivenUp(t, storetest.First(times, fault.Fault, storetest.Apply), put)
					})
				})
			}
		}
	}
}

func releaseGivenUp(t *testing.T, rule func(storetest.Call) storetest.Fault, put bool) {
	o := newOutpost(t, kvstore.Options{Flushers: 1})
	want := "1"
	o.ok(o.db.Put(o.ctx, "s", want))
	o.ok(o.db.Flush(o.ctx))
	o.line.Inject(rule)
	short, cancel := context.WithTimeout(o.ctx, 250*time.Millisecond)
	defer cancel()
	if o.db.Release(short, "s") == nil {
		if _, h := o.stored("s"); !h.Released {
			t.Fatalf("Release says it is done, the store has %+v", h)
		}
		return
	}
	if put {
		want = "2"
		o.ok(o.db.Put(o.ctx, "s", want))
	}
	time.Sleep(3 * time.Second)
	o.line.Inject(nil)
	o.ok(o.db.Flush(o.ctx))
	time.Sleep(20 * time.Second)
	o.line.ReplayLate(o.ctx)
	check := func() {
		t.Helper()
		o.holds("s", map[string]string{"": want})
		if _, h := o.stored("s"); h.Released {
			t.Fatalf("the session is here, and the store has it released: %+v", h)
		}
		o.quiet()
	}
	check()
	want = "3"
	o.ok(o.db.Put(o.ctx, "s", want))
	o.ok(o.db.Flush(o.ctx))
	check()
}

// A session that turns out to be another's while its flush is under way leaves at once. What the flush
// held is handed over when it is known that it was not stored, and all else at once; nothing twice.
func TestFaultsFencedInFlight(t *testing.T) {
	for _, fault := range linefaults {
		if !fault.Hang && fault.Delay == 0 {
			continue // no answer is outstanding
		}
		t.Run(fault.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOutpost(t, kvstore.Options{Flushers: 1})
				prev := o.node(o.mem, kvstore.Options{})
				s, err := prev.Create(o.ctx, "s")
				o.ok(err)
				o.ok(errors.Join(s.Put(o.ctx, "a", "0"), s.Put(o.ctx, "b", "0"), s.Put(o.ctx, "c", "0"), prev.Close(o.ctx)))
				s, err = o.db.Adopt(o.ctx, "s")
				o.ok(err)
				o.line.Inject(storetest.First(1, fault.Fault, storetest.Apply))
				o.ok(errors.Join(s.Put(o.ctx, "a", "1"), s.Put(o.ctx, "b", "1")))
				time.Sleep(150 * time.Millisecond) // it is under way
				o.ok(errors.Join(s.Put(o.ctx, "b", "2"), s.Put(o.ctx, "new", "2")))
				_, err = o.neighbour().Steal(o.ctx, "s")
				o.ok(err)
				before, _ := o.stored("s")
				if _, err := s.Get(o.ctx, "c"); !errors.Is(err, kvstore.ErrFenced) {
					t.Fatalf("a read that has to ask the store gives %v", err)
				}
				if err := s.Put(o.ctx, "a", "3"); !errors.Is(err, kvstore.ErrFenced) {
					t.Fatalf("a put gives %v", err)
				}
				time.Sleep(20 * time.Second)
				o.line.ReplayLate(o.ctx)
				o.holds("s", before)
				lost, fenced := o.heard()
				got := map[string]string{}
				for _, l := range lost {
					for _, e := range l.Entries {
						if _, twice := got[e.Key]; twice {
							t.Errorf("handed over twice: %q", e.Key)
						}
						got[e.Key] = e.Value.(string)
					}
				}
				if want := map[string]string{"a": "1", "b": "2", "new": "2"}; !maps.Equal(got, want) {
					t.Errorf("handed over: %v, want %v", got, want)
				}
				if len(fenced) != 1 {
					t.Errorf("fenced: %v", fenced)
				}
				if n := o.db.Stats().Buffered; n != 0 {
					t.Errorf("%d bytes are held", n)
				}
			})
		})
	}
}

// A claim that fails in any way can be repeated, and its late twin takes nothing
// from whoever took the session over next.
func TestFaultsClaim(t *testing.T) {
	type claim = func(db *kvstore.DB[string], ctx context.Context) (*kvstore.Session[string], error)
	old := map[string]string{"": "1", "a": "1"}
	cases := []struct {
		name  string
		owner string // "dead", "alive" or none
		want  map[string]string
		claim claim
	}{
		{"adopt", "dead", old, func(db *kvstore.DB[string], ctx context.Context) (*kvstore.Session[string], error) {
			return db.Adopt(ctx, "s", "a")
		}},
		{"steal", "alive", old, func(db *kvstore.DB[string], ctx context.Context) (*kvstore.Session[string], error) {
			return db.Steal(ctx, "s", "a")
		}},
		{"steal of the dead", "dead", old, func(db *kvstore.DB[string], ctx context.Context) (*kvstore.Session[string], error) {
			return db.Steal(ctx, "s")
		}},
		{"adoptOrCreate", "dead", old, func(db *kvstore.DB[string], ctx context.Context) (*kvstore.Session[string], error) {
			return db.AdoptOrCreate(ctx, "s")
		}},
		{"create", "none", map[string]string{}, func(db *kvstore.DB[string], ctx context.Context) (*kvstore.Session[string], error) {
			return db.AdoptOrCreate(ctx, "s")
		}},
	}
	for _, fault := range linefaults {
		if fault.Split != nil {
			continue
		}
		for _, c := range cases {
			for _, times := range []int{1, 2, 3} {
				t.Run(fmt.Sprint(fault.name, "/", c.name, "/", times), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						o := newOutpost(t, kvstore.Options{})
						prev := o.node(o.mem, kvstore.Options{Node: "prev"})
						if c.owner != "none" {
							s, err := prev.Create(o.ctx, "s")
							o.ok(err)
							o.ok(errors.Join(s.Put(o.ctx, "", "1"), s.Put(o.ctx, "a", "1"), s.Sync(o.ctx)))
						}
						if c.owner != "alive" {
							o.ok(prev.Close(o.ctx))
						} else {
							defer prev.Close(o.ctx)
						}
						rule := storetest.First(times, fault.Fault, storetest.Claim)
						if c.owner == "alive" { // the claims by force, not the polite ones before
							polite := rule
							rule = func(c storetest.Call) (f storetest.Fault) {
								if c.Claim.Force {
									f = polite(c)
								}
								return f
							}
						}
						claimUnderFault(o, rule, c.claim, c.want)
					})
				})
			}
		}
	}
}

func claimUnderFault(o *outpost, rule func(storetest.Call) storetest.Fault,
	claim func(*kvstore.DB[string], context.Context) (*kvstore.Session[string], error), want map[string]string) {
	o.line.Inject(rule)
	var s *kvstore.Session[string]
	var err error
	for range 4 {
		if s, err = claim(o.db, o.ctx); err == nil {
			break
		}
		var owned *kvstore.OwnedError
		if errors.Is(err, kvstore.ErrNotFound) || errors.As(err, &owned) {
			o.t.Fatalf("a claim without an answer is taken for one: %v", err)
		}
	}
	o.ok(err)
	o.remembers(o.db, "s", want)
	want = maps.Clone(want)
	want["b"] = "2"
	o.ok(errors.Join(s.Put(o.ctx, "b", "2"), s.Sync(o.ctx)))
	o.holds("s", want)

	next := o.neighbour()
	n, err := next.Steal(o.ctx, "s")
	o.ok(err)
	time.Sleep(20 * time.Second)
	o.line.ReplayLate(o.ctx)
	want["b"] = "3"
	o.ok(errors.Join(n.Put(o.ctx, "b", "3"), n.Sync(o.ctx)))
	o.holds("s", want)
	if lost, _ := o.heard(); len(lost) > 0 {
		o.t.Fatalf("all was stored, and %+v was lost", lost)
	}
}

// What could not be read is not taken for absent, and what is read late does not hide what was written meanwhile.
func TestFaultsLoad(t *testing.T) {
	for _, fault := range linefaults {
		if fault.Split != nil {
			continue
		}
		t.Run(fault.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOutpost(t, kvstore.Options{})
				prev := o.node(o.mem, kvstore.Options{})
				s, err := prev.Create(o.ctx, "s")
				o.ok(err)
				for _, k := range []string{"a", "b", "c"} {
					o.ok(s.Put(o.ctx, k, "1"))
				}
				o.ok(prev.Close(o.ctx))
				s, err = o.db.Adopt(o.ctx, "s")
				o.ok(err)

				o.line.Inject(storetest.First(2, fault.Fault, storetest.Load))
				var wg sync.WaitGroup
				for range 3 { // all three ask, and the store is asked once for all
					wg.Go(func() {
						if v, err := s.Get(o.ctx, "a"); errors.Is(err, kvstore.ErrNotFound) || err == nil && v != "1" {
							t.Errorf("an entry that could not be read: %q, %v", v, err)
						}
					})
				}
				wg.Go(func() {
					if v, err := s.Get(o.ctx, "b"); errors.Is(err, kvstore.ErrNotFound) || err == nil && v != "1" && v != "2" {
						t.Errorf("an entry that is written while it is read: %q, %v", v, err)
					}
				})
				synctest.Wait()
				if n := o.line.Calls(storetest.Load); n > 2 && (fault.Hang || fault.Delay > 0) {
					t.Errorf("%d loads for two entries", n)
				}
				o.ok(s.Put(o.ctx, "b", "2"))
				if v, err := s.Get(o.ctx, "b"); err != nil || v != "2" {
					t.Errorf("a read after the write: %q, %v", v, err)
				}
				wg.Wait()
				o.remembersEventually(s, map[string]string{"a": "1", "b": "2", "c": "1"})
				o.ok(o.db.Flush(o.ctx))
				o.quiet()
			})
		})
	}
}

// A lease that is not renewed costs the sessions that others take over, and only those: the node
// says that it is in danger, and hands over what it had unsaved.
func TestFaultsLease(t *testing.T) {
	for _, fault := range linefaults {
		if fault.Split != nil || fault.Twice || fault.Delay > 0 || fault.Late > 5*time.Second {
			continue
		}
		renewed := fault.Fail == storetest.After || fault.Fail == storetest.Late && fault.Late > 0
		for _, strict := range []bool{false, true} {
			t.Run(fmt.Sprint(fault.name, "/strict=", strict), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					leaseUnderFault(t, fault.Fault, strict, renewed)
				})
			})
		}
	}
}

func leaseUnderFault(t *testing.T, fault storetest.Fault, strict, renewed bool) {
	o := newOutpost(t, kvstore.Options{Strict: strict, MaxDelay: time.Minute})
	next := o.neighbour()
	for _, id := range []string{"taken", "kept"} {
		o.ok(o.db.Put(o.ctx, id, "1"))
	}
	o.ok(o.db.Flush(o.ctx))
	o.ok(o.db.Put(o.ctx, "taken", "2"))
	o.line.Inject(storetest.Every(fault, storetest.KeepAlive))
	time.Sleep(10 * time.Second)

	h := o.db.Health()
	if !slices.Contains(h.Problems, kvstore.LeaseOver) || h.LeaseLeft > 0 {
		t.Errorf("ten seconds without a renewal of a lease of three: %v, %v left", h, h.LeaseLeft)
	}
	_, err := o.db.Get(o.ctx, "kept")
	if strict && !errors.Is(err, kvstore.ErrSuspended) || !strict && err != nil {
		t.Errorf("with strict %v and the lease over, Get gives %v", strict, err)
	}
	_, err = next.Adopt(o.ctx, "taken")
	if renewed {
		if !errors.Is(err, kvstore.ErrOwned) {
			t.Fatalf("the lease runs, if its owner does not know; Adopt gives %v", err)
		}
		_, err = next.Steal(o.ctx, "taken")
	}
	o.ok(err)

	o.line.Inject(nil)
	time.Sleep(5 * time.Second)
	if h := o.db.Health(); !h.OK() {
		t.Errorf("the lease is renewed again, and health is %v", h)
	}
	if v, err := o.db.Get(o.ctx, "kept"); err != nil || v != "1" {
		t.Errorf("what nobody took: %q, %v", v, err)
	}
	// The audit after the lapse has found what was taken, without any flush of it.
	if v, err := o.db.Get(o.ctx, "taken"); !errors.Is(err, kvstore.ErrNotResident) {
		t.Errorf("what was taken is still here: %q, %v", v, err)
	}
	lost, fenced := o.heard()
	if len(lost) != 1 || len(lost[0].Entries) != 1 || lost[0].Entries[0].Value != "2" || !errors.Is(lost[0].Cause, kvstore.ErrFenced) {
		t.Errorf("lost is %+v, want the one unsaved entry, once", lost)
	}
	if len(fenced) != 1 || fenced[0].Session != "taken" {
		t.Errorf("fenced is %+v, want one session", fenced)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.ContainsFunc(o.health, func(h kvstore.Health) bool { return slices.Contains(h.Problems, kvstore.LeaseOver) }) {
		t.Errorf("nobody was told that the lease is over: %v", o.health)
	}
	if n := len(o.health); n == 0 || !o.health[n-1].OK() {
		t.Errorf("nobody was told that all is well again: %v", o.health)
	}
}

// A pass over the orphans that could not see everything says so, and the next one completes it.
func TestFaultsOrphans(t *testing.T) {
	for _, kind := range []storetest.Kind{storetest.Sessions, storetest.Nodes, storetest.Claim} {
		for _, fault := range linefaults {
			if fault.Split != nil || fault.Twice || fault.Delay > 0 {
				continue
			}
			t.Run(fmt.Sprint(kind, "/", fault.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := newOutpost(t, kvstore.Options{})
					prev := o.node(o.mem, kvstore.Options{})
					for i := range 20 {
						o.ok(prev.Put(o.ctx, fmt.Sprint(i), "v"))
					}
					o.ok(prev.Close(o.ctx))
					o.line.Inject(storetest.First(1, fault.Fault, kind))
					short, cancel := context.WithTimeout(o.ctx, 30*time.Second)
					defer cancel()
					if done, err := o.db.AdoptOrphans(short, kvstore.Takeover{}); err == nil {
						t.Errorf("a pass that saw %+v says that it is complete", done)
					}
					done, err := o.db.AdoptOrphans(o.ctx, kvstore.Takeover{})
					o.ok(err)
					for i := range 20 {
						if v, err := o.db.Get(o.ctx, fmt.Sprint(i)); err != nil || v != "v" {
							t.Fatalf("session %d after a second pass (%+v): %q, %v", i, done, v, err)
						}
					}
					o.quiet()
				})
			})
		}
	}
}

// A session that the store gave to this node in a claim whose answer was lost can be adopted by nobody
// else while this node lives. So Drain gives it up, too.
func TestFaultsDrain(t *testing.T) {
	for _, resident := range []int{0, 10} {
		t.Run(fmt.Sprint("resident=", resident), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOutpost(t, kvstore.Options{MaxResident: resident})
				o.line.Inject(storetest.First(1, storetest.Fault{Fail: storetest.After}, storetest.Claim))
				if _, err := o.db.AdoptOrCreate(o.ctx, "s"); err == nil {
					t.Fatal("a claim without an answer succeeds")
				}
				o.ok(o.db.Drain(o.ctx))
				_, err := o.neighbour().Adopt(o.ctx, "s")
				o.ok(err)
				o.quiet()
			})
		})
	}
}

// An Open that fails leaves nothing behind.
func TestFaultsOpen(t *testing.T) {
	for _, kind := range []storetest.Kind{storetest.KeepAlive, storetest.Nodes} {
		for _, fault := range linefaults {
			if fault.Split != nil || fault.Twice || fault.Delay > 0 {
				continue
			}
			t.Run(fmt.Sprint(kind, "/", fault.name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					line := storetest.NewFaults(memory.New())
					defer line.Close()
					line.Inject(storetest.First(1, fault.Fault, kind))
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					defer cancel()
					if _, err := kvstore.Open[string](ctx, line, kvstore.Options{Node: "a"}); err == nil {
						t.Fatal("Open succeeds without an answer of the store")
					}
				})
			})
		}
	}
}

// After an attempt without an answer, a creation that finds a grave may be the grave's own: it must not
// come back, and what was put into it is handed over, once.
func TestFaultsBlindCreation(t *testing.T) {
	for _, blind := range []bool{false, true} {
		t.Run(fmt.Sprint("blind=", blind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOutpost(t, kvstore.Options{})
				next := o.neighbour()
				o.ok(next.Put(o.ctx, "s", "old"))
				o.ok(errors.Join(next.Flush(o.ctx), next.Delete(o.ctx, "s"), next.Flush(o.ctx)))
				if blind {
					o.line.Inject(storetest.First(1, storetest.Fault{Fail: storetest.Before}, storetest.Apply))
				}
				s, err := o.db.Create(o.ctx, "s")
				o.ok(err)
				o.ok(s.Put(o.ctx, "a", "1"))
				err = s.Sync(o.ctx)
				lost, _ := o.heard()
				if !blind {
					o.ok(err)
					o.holds("s", map[string]string{"a": "1"})
					o.quiet()
					return
				}
				if !errors.Is(err, kvstore.ErrFenced) {
					t.Errorf("Sync gives %v, want a fence", err)
				}
				o.holds("s", nil)
				if len(lost) != 1 || !lost[0].Created || len(lost[0].Entries) != 1 || lost[0].Entries[0].Value != "1" {
					t.Errorf("lost is %+v, want the creation with its entry, once", lost)
				}
			})
		})
	}
}

// TestFaultsCreationAboveOwnTombstone creates a session again that this node has deleted in a later epoch than the first. That the
// first flush has no answer does not make it doubtful: above the node's own tombstone nobody was in between.
func TestFaultsCreationAboveOwnTombstone(t *testing.T) {
	for _, fail := range []storetest.Failure{storetest.Before, storetest.After} {
		t.Run(fmt.Sprint("fail=", fail), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOutpost(t, kvstore.Options{})
				o.ok(errors.Join(o.db.Put(o.ctx, "s", "old"), o.db.Release(o.ctx, "s")))
				h, err := o.db.AdoptOrCreate(o.ctx, "s")
				o.ok(err)
				if h.Epoch() < 2 {
					t.Fatalf("epoch %d shows nothing", h.Epoch())
				}
				o.ok(errors.Join(o.db.Delete(o.ctx, "s"), o.db.Flush(o.ctx)))
				o.line.Inject(storetest.First(1, storetest.Fault{Fail: fail}, storetest.Apply))
				s, err := o.db.Create(o.ctx, "s")
				o.ok(err)
				o.ok(errors.Join(s.Put(o.ctx, "a", "1"), s.Sync(o.ctx)))
				o.holds("s", map[string]string{"a": "1"})
				o.quiet()
			})
		})
	}
}
