package kvstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

// bells note what fires.
type bells struct {
	mu   sync.Mutex
	rung []string // session, name, payload and how late
}

func (b *bells) ring(_ context.Context, tx *kvstore.Tx[int], t kvstore.Firing[int]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rung = append(b.rung, fmt.Sprintf("%s/%s=%d+%v", t.Session, t.Name, t.Payload, time.Since(t.At)))
	return nil
}

// take returns what has fired since it was last called.
func (b *bells) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.rung
	b.rung = nil
	return got
}

func (b *bells) want(t *testing.T, want ...string) {
	t.Helper()
	if got := b.take(); !slices.Equal(got, want) {
		t.Errorf("fired: %q, want %q", got, want)
	}
}

func onTimer(t *testing.T, db *kvstore.DB[int], f func(context.Context, *kvstore.Tx[int], kvstore.Firing[int]) error) (stop func()) {
	t.Helper()
	stop, err := db.OnTimer(f)
	check(t, err)
	return stop
}

// die ends a DB as a crash does: nothing more is stored, and others may have its sessions.
func die(t *testing.T, f *storetest.Faults, db *kvstore.DB[int]) {
	t.Helper()
	f.Inject(func(storetest.Call) storetest.Fault { return storetest.Fault{Fail: storetest.Before} })
	db.Close(over())
}

// Timers fire at their times, in their order, with their payloads: not before, not twice, not when they were cancelled or set anew; over days.
func TestTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		st := memory.New()
		db := openInts(t, st, kvstore.Options{Node: "a", Lease: time.Hour})
		defer closeDB(t, db)
		var b bells
		onTimer(t, db, b.ring)
		s, err := db.Create(ctx, "s")
		check(t, err)
		r, err := db.Create(ctx, "r")
		check(t, err)
		start := time.Now()
		check(t, s.After(ctx, "day", 24*time.Hour, 4, kvstore.InMemory))
		check(t, s.After(ctx, "hour", time.Hour, 3, kvstore.Stored))
		check(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error {
			return errors.Join(tx.After("second", time.Second, 1), tx.After("gone", time.Second, -1), tx.After("minute", time.Second, -1), tx.Cancel("gone"), tx.Cancel("none"),
				tx.After("minute", time.Minute, 2))
		}))
		check(t, r.At(ctx, "past", start.Add(-time.Hour), 9, kvstore.InMemory))
		check(t, r.After(ctx, "moved", time.Minute, -1, kvstore.InMemory))
		check(t, r.After(ctx, "cancelled", time.Minute, -1, kvstore.InMemory))
		check(t, s.After(ctx, "half a millisecond", 1500*time.Microsecond, 0, kvstore.InMemory))
		var names []string
		for _, x := range s.Timers() {
			names = append(names, x.Name, x.At.Sub(start).String())
		}
		if want := []string{"half a millisecond", "2ms", "second", "1s", "minute", "1m0s", "hour", "1h0m0s", "day", "24h0m0s"}; !slices.Equal(names, want) {
			t.Errorf("timers: %q, want %q", names, want)
		}
		synctest.Wait()
		b.want(t, "r/past=9+1h0m0s")
		time.Sleep(1999 * time.Microsecond)
		synctest.Wait()
		b.want(t)
		time.Sleep(time.Second - 2*time.Millisecond)
		synctest.Wait()
		b.want(t, "s/half a millisecond=0+0s")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		b.want(t, "s/second=1+0s")
		check(t, r.After(ctx, "moved", 3*24*time.Hour, 5, kvstore.InMemory))
		check(t, r.Cancel(ctx, "cancelled", kvstore.Stored))
		time.Sleep(2 * 24 * time.Hour)
		synctest.Wait()
		b.want(t, "s/minute=2+0s", "s/hour=3+0s", "s/day=4+0s")
		time.Sleep(2 * 24 * time.Hour)
		synctest.Wait()
		b.want(t, "r/moved=5+0s")
		if len(s.Timers())+len(r.Timers()) > 0 || db.Stats().Fired != 7 {
			t.Errorf("set are %v and %v; %d fired", s.Timers(), r.Timers(), db.Stats().Fired)
		}
		check(t, db.Flush(ctx))
		for _, id := range []string{"s", "r"} {
			if snap, err := st.Load(ctx, id); err != nil || len(snap.Entries)+len(snap.Header.Aliases) > 0 {
				t.Errorf("%s is left with %d entries and the names %q (error %v)", id, len(snap.Entries), snap.Header.Aliases, err)
			}
		}
	})
}

// A timer goes with the session that it is of, or with the life of it.
func TestTimersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db := openInts(t, memory.New(), kvstore.Options{})
		defer closeDB(t, db)
		var b bells
		onTimer(t, db, b.ring)
		for _, id := range []string{"deleted", "expired", "anew", "released"} {
			s, err := db.Create(ctx, id)
			check(t, err)
			check(t, s.After(ctx, "t", time.Hour, 1, kvstore.Stored))
		}
		check(t, db.Delete(ctx, "deleted"))
		check(t, db.Delete(ctx, "anew"))
		s, err := db.Create(ctx, "anew")
		check(t, err)
		if got := s.Timers(); len(got) > 0 {
			t.Errorf("a new life has the timers %v", got)
		}
		check(t, s.After(ctx, "u", 2*time.Hour, 2, kvstore.InMemory))
		e, err := db.Session(ctx, "expired")
		check(t, err)
		check(t, e.ExpireAfter(ctx, time.Minute))
		check(t, db.Release(ctx, "released"))
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		b.want(t)
		time.Sleep(time.Minute + 3*time.Second) // what nobody owns, AdoptDue finds within one Lease
		synctest.Wait()
		if got := b.take(); len(got) != 1 || !strings.HasPrefix(got[0], "released/t=1+") {
			t.Errorf("fired: %q", got)
		}
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		b.want(t, "anew/u=2+0s")
	})
}

// What the function changes, and that the timer has fired, are one commit. After an error, or a panic, nothing is changed, and the timer fires again, while
// other timers of the session fire in their time. What it sets anew fires again.
func TestTimersFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db := openInts(t, memory.New(), kvstore.Options{RetryMax: time.Minute})
		defer closeDB(t, db)
		calls := map[string]int{}
		start := time.Now()
		var mu sync.Mutex
		onTimer(t, db, func(ctx context.Context, tx *kvstore.Tx[int], f kvstore.Firing[int]) error {
			mu.Lock()
			defer mu.Unlock()
			calls[f.Name]++
			n := calls[f.Name]
			if _, err := tx.Add(f.Name, 1); err != nil {
				return err
			}
			switch {
			case f.Name == "again" && n < 5:
				return tx.After("again", time.Second, f.Payload+1)
			case f.Name == "fails" && n < 30:
				return errors.New("not yet")
			case f.Name == "panics" && n < 3:
				panic("in the function of OnTimer")
			case f.Name == "once" && time.Since(start) > 2*time.Second+5*time.Millisecond:
				t.Errorf("it fires after %v", time.Since(start))
			}
			return nil
		})
		s, err := db.Create(ctx, "s")
		check(t, err)
		for i, name := range []string{"fails", "panics", "once", "again"} {
			check(t, s.After(ctx, name, time.Second+time.Duration(i)*500*time.Millisecond, 1, kvstore.InMemory))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		mu.Lock()
		if want := map[string]int{"fails": 30, "panics": 3, "once": 1, "again": 5}; !maps.Equal(calls, want) {
			t.Errorf("calls: %v, want %v", calls, want)
		}
		mu.Unlock()
		for name, want := range map[string]int64{"fails": 1, "panics": 1, "once": 1, "again": 5} {
			if n, err := s.Counter(ctx, name); n != want || err != nil {
				t.Errorf("%s is counted %d times, want %d (error %v)", name, n, want, err)
			}
		}
		if st := db.Stats(); st.Fired != 8 || st.TimerFails != 31 || st.HookPanics != 2 || len(s.Timers()) > 0 {
			t.Errorf("%d fired, %d failed, %d panics, %v set", st.Fired, st.TimerFails, st.HookPanics, s.Timers())
		}
	})
}

// A timer that is cancelled, or set anew, while its function runs is not taken for one that has fired.
func TestTimerChangesWhileItFires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db := openInts(t, memory.New(), kvstore.Options{})
		defer closeDB(t, db)
		s, err := db.Create(ctx, "s")
		check(t, err)
		var runs []string
		onTimer(t, db, func(ctx context.Context, tx *kvstore.Tx[int], f kvstore.Firing[int]) error {
			runs = append(runs, fmt.Sprint(f.Name, f.Payload))
			if f.Payload == 0 {
				time.Sleep(time.Second)
			}
			_, err := tx.Add(f.Name, 1)
			return err
		})
		for _, name := range []string{"cancelled", "later", "same"} {
			runs = nil
			check(t, s.After(ctx, name, time.Minute, 0, kvstore.InMemory))
			at := s.Timers()[0].At
			time.Sleep(time.Minute + time.Millisecond)
			synctest.Wait()
			if len(runs) != 1 {
				t.Fatalf("%s: runs %q", name, runs)
			}
			want := []string{name + "0", name + "1"}
			switch name {
			case "cancelled":
				check(t, s.Cancel(ctx, name, kvstore.InMemory))
				want = want[:1]
			case "later":
				check(t, s.After(ctx, name, time.Hour, 1, kvstore.InMemory))
			case "same":
				check(t, s.At(ctx, name, at, 1, kvstore.InMemory))
			}
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			n, err := s.Counter(ctx, name)
			if !slices.Equal(runs, want) || int(n) != len(want)-1 || err != nil || len(s.Timers()) > 0 {
				t.Errorf("%s: runs %q, want %q; counted %d times (error %v); set are %v", name, runs, want, n, err, s.Timers())
			}
		}
	})
}

// The timers of a node that died fire on those that live, each on one, though no event comes; what it had fired, and not stored, fires once more, and
// the state shows it once.
func TestTimersOfTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		st := memory.New()
		f := storetest.NewFaults(st)
		dead := openInts(t, f, kvstore.Options{Node: "dead"})
		count := func(b *bells) func(context.Context, *kvstore.Tx[int], kvstore.Firing[int]) error {
			return func(ctx context.Context, tx *kvstore.Tx[int], f kvstore.Firing[int]) error {
				b.ring(ctx, tx, f)
				_, err := tx.Add("fired", 1)
				return err
			}
		}
		var before bells
		onTimer(t, dead, count(&before))
		const n = 300
		for i := range n {
			s, err := dead.Create(ctx, fmt.Sprint("s", i))
			check(t, err)
			check(t, s.After(ctx, "due", time.Minute, i, kvstore.InMemory))
			check(t, s.After(ctx, "later", time.Hour, i, kvstore.InMemory))
		}
		quiet, err := dead.Create(ctx, "quiet")
		check(t, err)
		check(t, quiet.After(ctx, "later", 2*time.Hour, 7, kvstore.InMemory))
		check(t, dead.Flush(ctx))
		f.Inject(func(c storetest.Call) storetest.Fault {
			if c.Kind == storetest.Apply {
				return storetest.Fault{Fail: storetest.Before}
			}
			return storetest.Fault{}
		})
		time.Sleep(time.Minute + time.Millisecond)
		synctest.Wait()
		if got := len(before.take()); got != n {
			t.Errorf("%d timers fired on their owner, want %d", got, n)
		}
		die(t, f, dead)
		var b, c bells
		others := []*kvstore.DB[int]{openInts(t, st, kvstore.Options{Node: "b"}), openInts(t, st, kvstore.Options{Node: "c"})}
		defer closeDB(t, others[0])
		defer closeDB(t, others[1])
		onTimer(t, others[0], count(&b))
		onTimer(t, others[1], count(&c))
		time.Sleep(10 * time.Second) // the lease of the dead, and one round
		synctest.Wait()
		rb, rc := b.take(), c.take()
		if len(rb)+len(rc) != n || len(rb) < n/5 || len(rc) < n/5 {
			t.Errorf("%d and %d timers fired on two survivors, want %d, shared", len(rb), len(rc), n)
		}
		if r0, r1 := others[0].Stats().Resident, others[1].Stats().Resident; r0+r1 != n {
			t.Errorf("they have adopted %d and %d sessions: want the %d that had a timer due", r0, r1, n)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		for i, got := range [][]string{b.take(), c.take()} {
			for _, g := range got {
				if late := strings.HasPrefix(g, "quiet/"); !late && !strings.HasSuffix(g, "+0s") {
					t.Errorf("node %d: %s: late, though its session was here", i, g)
				}
			}
			rb = append(rb, got...)
		}
		if len(rb)+len(rc) != 2*n+1 {
			t.Errorf("%d timers fired in all, want %d", len(rb)+len(rc), 2*n+1)
		}
		for _, db := range others {
			check(t, db.Flush(ctx))
		}
		for i := range n {
			for _, db := range others {
				s, err := db.Session(ctx, fmt.Sprint("s", i))
				if err != nil {
					continue
				}
				if got, err := s.Counter(ctx, "fired"); got != 2 || err != nil {
					t.Errorf("s%d has counted %d timers (error %v), want 2", i, got, err)
				}
			}
		}
	})
}

// AdoptDue takes in what is due, and nothing else; All takes other nodes' shares.
func TestAdoptDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		st := memory.New()
		f := storetest.NewFaults(st)
		dead := openInts(t, f, kvstore.Options{Node: "dead"})
		living := openInts(t, st, kvstore.Options{Node: "living"})
		defer closeDB(t, living)
		for i := range 600 { // more than a page
			db := dead
			if i%3 == 0 {
				db = living
			}
			s, err := db.Create(ctx, fmt.Sprint("s", i))
			check(t, err)
			check(t, s.After(ctx, "a", time.Duration(1+i%2)*time.Hour, i, kvstore.InMemory))
			check(t, s.After(ctx, "b", time.Duration(1+i%2)*time.Hour, i, kvstore.InMemory))
		}
		check(t, dead.Flush(ctx))
		check(t, living.Flush(ctx))
		die(t, f, dead)
		db := openInts(t, st, kvstore.Options{Node: "db"})
		defer closeDB(t, db)
		time.Sleep(time.Hour)
		o, err := db.AdoptDue(ctx, kvstore.Takeover{})
		if err != nil || o.Seen != 200 || o.Adopted+o.Others != 200 || o.Adopted == 0 || o.Others == 0 || db.Stats().Resident != o.Adopted {
			t.Errorf("%+v (error %v), %d resident; want a share of 200", o, err, db.Stats().Resident)
		}
		others := o.Others
		if o, err = db.AdoptDue(ctx, kvstore.Takeover{All: true}); err != nil || o.Seen != others || o.Adopted != others {
			t.Errorf("%+v (error %v), want the other %d", o, err, others)
		}
		if _, err := db.AdoptDue(ctx, kvstore.Takeover{Rate: -1}); !errors.Is(err, kvstore.ErrInvalid) {
			t.Errorf("with a rate below 0: %v", err)
		}
	})
}

// Timers of sessions that were evicted fire in their time, and a thing that is not in memory holds no more than its alarm.
func TestTimersOfTheEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db := openInts(t, memory.New(), kvstore.Options{MaxResident: 10})
		defer closeDB(t, db)
		var b bells
		onTimer(t, db, b.ring)
		for i := range 200 {
			id := fmt.Sprintf("s%03d", i)
			s, err := db.Create(ctx, id)
			check(t, err)
			check(t, s.After(ctx, "t", time.Hour+time.Duration(i)*time.Second, i, kvstore.Stored))
			_, err = db.Adopt(ctx, id)
			check(t, err)
		}
		if n := db.Stats().Resident; n > 20 {
			t.Fatalf("%d sessions are resident", n)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		got := b.take()
		for i, g := range got {
			if want := fmt.Sprintf("s%03d/t=%d+0s", i, i); g != want {
				t.Errorf("%s, want %s", g, want)
			}
		}
		if len(got) != 200 {
			t.Errorf("%d timers fired, want 200", len(got))
		}
	})
}

// Without an OnTimer nothing fires; there is one at a time; what has become due meanwhile fires for the next.
func TestOnTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db := openInts(t, memory.New(), kvstore.Options{})
		s, err := db.Create(ctx, "s")
		check(t, err)
		for i, name := range []string{"a", "b", "c"} {
			check(t, s.After(ctx, name, time.Duration(1+i)*time.Hour, i, kvstore.InMemory))
		}
		time.Sleep(90 * time.Minute)
		if _, err := db.OnTimer(nil); !errors.Is(err, kvstore.ErrInvalid) {
			t.Errorf("with nil: %v", err)
		}
		var b, c bells
		stop := onTimer(t, db, b.ring)
		if _, err := db.OnTimer(c.ring); !errors.Is(err, kvstore.ErrInvalid) {
			t.Errorf("a second function: %v", err)
		}
		synctest.Wait()
		b.want(t, "s/a=0+30m0s")
		stop()
		time.Sleep(time.Hour)
		synctest.Wait()
		b.want(t)
		onTimer(t, db, c.ring)
		stop() // once more: it is not the other's
		synctest.Wait()
		c.want(t, "s/b=1+30m0s")
		time.Sleep(time.Hour)
		synctest.Wait()
		c.want(t, "s/c=2+0s")
		closeDB(t, db)
		if _, err := db.OnTimer(b.ring); !errors.Is(err, kvstore.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// At most 16 sessions are rung at a time, and a slow function keeps none of the others from what it does beside.
func TestTimersAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db := openInts(t, memory.New(), kvstore.Options{})
		defer closeDB(t, db)
		var mu sync.Mutex
		running, most, fired := 0, 0, 0
		of := map[string]int{}
		onTimer(t, db, func(ctx context.Context, tx *kvstore.Tx[int], f kvstore.Firing[int]) error {
			mu.Lock()
			running++
			of[f.Session]++
			most = max(most, running)
			if of[f.Session] > 1 {
				t.Errorf("two timers of %s fire at a time", f.Session)
			}
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			running--
			of[f.Session]--
			fired++
			mu.Unlock()
			return nil
		})
		for i := range 40 {
			s, err := db.Create(ctx, fmt.Sprint("s", i))
			check(t, err)
			check(t, s.After(ctx, "a", time.Minute, i, kvstore.InMemory))
			check(t, s.After(ctx, "b", time.Minute, i, kvstore.InMemory))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if most != 16 || fired != 80 {
			t.Errorf("%d fired, %d at a time: want 80, and 16", fired, most)
		}
	})
}

// What cannot be a timer is told at once, and changes nothing.
func TestTimersInvalid(t *testing.T) {
	ctx := context.Background()
	db := openInts(t, memory.New(), brisk("a"))
	defer closeDB(t, db)
	s, err := db.Create(ctx, "s")
	check(t, err)
	for name, f := range map[string]func() error{
		"After 0":     func() error { return s.After(ctx, "t", 0, 1, kvstore.InMemory) },
		"After -1":    func() error { return s.After(ctx, "t", -1, 1, kvstore.InMemory) },
		"At zero":     func() error { return s.At(ctx, "t", time.Time{}, 1, kvstore.InMemory) },
		"unknown ack": func() error { return s.At(ctx, "t", time.Now(), 1, 9) },
		"an alias that is a mark": func() error {
			return s.AddAlias(ctx, "\x00T", kvstore.InMemory)
		},
	} {
		if err := f(); !errors.Is(err, kvstore.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, f := range map[string]func() error{
		"a long name":   func() error { return s.After(ctx, strings.Repeat("n", 2000), time.Hour, 1, kvstore.InMemory) },
		"a longer mark": func() error { return s.After(ctx, strings.Repeat("\x00", 600), time.Hour, 1, kvstore.InMemory) },
		"Cancel":        func() error { return s.Cancel(ctx, strings.Repeat("n", 2000), kvstore.InMemory) },
		"too many": func() error {
			return s.Update(ctx, func(tx *kvstore.Tx[int]) error {
				for i := range store.MaxAliases + 1 {
					check(t, tx.After(fmt.Sprint(i), time.Hour, i))
				}
				return nil
			})
		},
	} {
		if err := f(); !errors.Is(err, kvstore.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := s.Timers(); len(got) > 0 {
		t.Errorf("set are %v", got)
	}
	check(t, s.AddAlias(ctx, "alias", kvstore.Stored))
	check(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error {
		for i := range store.MaxAliases - 1 {
			check(t, tx.After(fmt.Sprint(i), time.Hour, i))
		}
		return nil
	}))
	if err := s.AddAlias(ctx, "another", kvstore.Stored); !errors.Is(err, kvstore.ErrTooLarge) {
		t.Errorf("one alias more than there is room for: %v", err)
	}
	check(t, s.Sync(ctx))
	if got := s.Aliases(); !slices.Equal(got, []string{"alias"}) || len(s.Timers()) != store.MaxAliases-1 {
		t.Errorf("aliases %q, %d timers", got, len(s.Timers()))
	}
}

// nameless is a store that keeps aliases in no order.
type nameless struct{ store.Store }

// A store that cannot be asked for timers is told of before anything is changed.
func TestTimersUnsupported(t *testing.T) {
	ctx := context.Background()
	for name, st := range map[string]store.Store{"no Finder": nameless{memory.New()}, "a Finder that says so": storetest.NewFaults(nameless{memory.New()})} {
		db := openInts(t, st, brisk("a"))
		s, err := db.Create(ctx, "s")
		check(t, err)
		if err := s.After(ctx, "t", time.Hour, 1, kvstore.InMemory); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: After gives %v", name, err)
		}
		if _, err := db.AdoptDue(ctx, kvstore.Takeover{}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: AdoptDue gives %v", name, err)
		}
		if len(s.Timers()) > 0 {
			t.Errorf("%s: set are %v", name, s.Timers())
		}
		closeDB(t, db)
	}
}

// Nodes steal sessions from each other while their timers fire, and set themselves anew: each of the tenures, the zombies' too, finds a state that has counted as
// many firings as the timer says, and so does the store at the end.
func TestTimersAgainstAZombie(t *testing.T) {
	ctx := context.Background()
	st := memory.New()
	dbs := make([]*kvstore.DB[int], 3)
	for i := range dbs {
		o := brisk(fmt.Sprint("n", i))
		o.Hooks.Lost = func(kvstore.Lost) {}
		dbs[i] = openInts(t, st, o)
		defer dbs[i].Close(ctx)
		onTimer(t, dbs[i], func(ctx context.Context, tx *kvstore.Tx[int], f kvstore.Firing[int]) error {
			n, err := tx.Add("fired", 1)
			if err != nil {
				return err
			}
			if int(n) != f.Payload {
				t.Errorf("%s, epoch %d: firing %d finds %d counted", f.Session, f.Epoch, f.Payload, n)
			}
			return tx.After("t", time.Millisecond, f.Payload+1)
		})
	}
	const sessions = 8
	for i := range sessions {
		s, err := dbs[0].AdoptOrCreate(ctx, fmt.Sprint("s", i))
		check(t, err)
		check(t, s.After(ctx, "t", time.Millisecond, 1, kvstore.Stored))
	}
	together(len(dbs), func(i int) {
		for range rounds(150) {
			for j := range sessions {
				if _, err := dbs[i].Steal(ctx, fmt.Sprint("s", j)); err != nil && !errors.Is(err, kvstore.ErrOwned) && !errors.Is(err, kvstore.ErrFenced) {
					t.Errorf("Steal: %v", err)
				}
				dither(200)
			}
		}
	})
	var fired int64
	for j := range sessions {
		s, err := dbs[0].Steal(ctx, fmt.Sprint("s", j))
		check(t, err)
		check(t, s.Update(ctx, func(tx *kvstore.Tx[int]) error { return tx.Cancel("t") }))
		check(t, s.Sync(ctx))
		n, err := s.Counter(ctx, "fired")
		check(t, err)
		fired += n
	}
	if fired < sessions {
		t.Errorf("%d timers fired", fired)
	}
	t.Logf("%d firings stand, of %d", fired, dbs[0].Stats().Fired+dbs[1].Stats().Fired+dbs[2].Stats().Fired)
}
