package kvstore

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// wheelModel is a wheel and, beside it, a list of what is in it.
type wheelModel struct {
	t    *testing.T
	w    wheel[int]
	list map[int]store.Time // what → at
	id   map[int]uint32
	next int
	now  store.Time
}

func (m *wheelModel) insert(at store.Time) {
	m.next++
	m.list[m.next], m.id[m.next] = at, m.w.insert(at, m.next)
}

func (m *wheelModel) any(rnd *rand.Rand) int {
	k := rnd.IntN(m.next) + 1
	if _, ok := m.list[k]; ok {
		return k
	}
	return 0
}

// advance pops what goes off until now, a few steps at a time, and compares it with the list.
func (m *wheelModel) advance(now store.Time, steps int) {
	m.t.Helper()
	m.now = max(m.now, now)
	var due []int
	for what, at := range m.list {
		if at <= m.now {
			due = append(due, what)
		}
	}
	for {
		left := steps
		what, ok, next := m.w.pop(m.now, &left)
		if !ok && next <= m.now && left == 0 {
			continue
		}
		if !ok {
			for what, at := range m.list {
				if at < next && at > m.now {
					m.t.Fatalf("at %d the wheel says that nothing goes off before %d: %d does at %d", m.now, next, what, at)
				}
			}
			if len(m.list) > len(due) && next == math.MaxInt64 {
				m.t.Fatalf("at %d the wheel says that there are no alarms", m.now)
			}
			break
		}
		at, known := m.list[what]
		if !known || at > m.now {
			m.t.Fatalf("at %d the alarm %d of %d goes off (known: %v)", m.now, what, at, known)
		}
		delete(m.list, what)
		delete(m.id, what)
		due = slices.DeleteFunc(due, func(w int) bool { return w == what })
	}
	if len(due) > 0 {
		m.t.Fatalf("at %d %d alarms are late: %v, of %d", m.now, len(due), due[0], m.list[due[0]])
	}
	if m.w.n != len(m.list) {
		m.t.Fatalf("the wheel has %d alarms, want %d", m.w.n, len(m.list))
	}
}

// The wheel does what a list does, however alarms are set, moved and taken out, and however time passes: no alarm goes off early, none is late, none is lost,
// and it never sleeps for longer than until the next one.
func TestWheelAgainstAList(t *testing.T) {
	for seed := range uint64(rnds(300)) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		m := &wheelModel{t: t, list: map[int]store.Time{}, id: map[int]uint32{}}
		m.w.now = store.Time(rnd.Int64N(1 << rnd.IntN(62)))
		m.now = m.w.now
		when := func() store.Time { // of every magnitude, the past included
			d := rnd.Int64N(1 << (1 + rnd.IntN(45)))
			switch rnd.IntN(20) {
			case 0:
				return math.MaxInt64
			case 1:
				return max(1, m.now-store.Time(d))
			}
			return max(1, m.now+store.Time(d))
		}
		for range 300 {
			switch op := rnd.IntN(10); {
			case op < 4 || m.next == 0:
				m.insert(when())
			case op < 6:
				if k := m.any(rnd); k != 0 {
					m.list[k] = when()
					m.w.move(m.id[k], m.list[k])
				}
			case op < 7:
				if k := m.any(rnd); k != 0 {
					m.w.remove(m.id[k])
					delete(m.list, k)
					delete(m.id, k)
				}
			default:
				m.advance(m.now+store.Time(rnd.Int64N(1<<rnd.IntN(40))), 1+rnd.IntN(5))
			}
			for k, i := range m.id {
				if m.w.at(i) != m.list[k] {
					t.Fatalf("alarm %d is at %d, want %d", k, m.w.at(i), m.list[k])
				}
			}
		}
		got := map[int]store.Time{}
		for at, what := range m.w.all() {
			got[what] = at
		}
		if len(got) != len(m.list) {
			t.Fatalf("all yields %d alarms, there are %d", len(got), len(m.list))
		}
		m.advance(math.MaxInt64, 3)
	}
}

func rnds(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// An alarm is touched a few times in its life, whatever its distance, and not at all while nothing is due.
func TestWheelSteps(t *testing.T) {
	var w wheel[int]
	w.now = 1_800_000_000_000
	const n, day = 10_000, store.Time(24 * 60 * 60 * 1000)
	for i := range n {
		w.insert(w.now+day+store.Time(i*7919%int(30*day)), i)
	}
	steps := 1 << 30
	for now, end := w.now, w.now+1000; now < end; now++ { // hours before the first
		w.pop(now, &steps)
	}
	if used := 1<<30 - steps; used != 0 {
		t.Errorf("nothing is due, and the wheel turned by %d steps", used)
	}
	popped := 0
	for now := w.now; popped < n; now += 60_000 {
		for {
			if _, ok, _ := w.pop(now, &steps); !ok {
				break
			}
			popped++
		}
	}
	if used := 1<<30 - steps; used > wheelLevels*n {
		t.Errorf("%d alarms took %d steps, want at most %d for each", n, used, wheelLevels)
	}
}

// A mass of alarms that is over gives its memory back, and a thing never has two.
func TestExpirerShrinks(t *testing.T) {
	x := new(expirer[int])
	x.wake = make(chan struct{}, 1)
	sessions := make([]session[int], 20_000)
	for i := range sessions {
		x.arm(&sessions[i], "", nil, store.Time(1000+i))
		x.arm(&sessions[i], "", nil, store.Time(2000+i)) // later: it has one before
		x.arm(&sessions[i], "", nil, store.Time(500+i))
	}
	if x.wheel.n != len(sessions) || len(x.places) != len(sessions) {
		t.Fatalf("%d alarms, %d places for %d sessions", x.wheel.n, len(x.places), len(sessions))
	}
	for i := range len(sessions) - 10 {
		x.cancel(unsafe.Pointer(&sessions[i]))
	}
	if n := len(x.wheel.nodes) * nodeChunk; n > 4096+nodeChunk {
		t.Errorf("10 alarms hold the places of %d", n)
	}
	some, _ := x.due(time.UnixMilli(100_000), nil)
	if len(some) != 10 || len(x.places) != 0 || x.wheel.n != 0 {
		t.Errorf("%d alarms went off, %d places are left", len(some), len(x.places))
	}
}

// A wall clock that goes back by much has the alarms set anew, so that one before the time that it showed goes off at its own.
func TestExpirerClockGoesBack(t *testing.T) {
	x := new(expirer[int])
	x.wake = make(chan struct{}, 1)
	a, b := &session[int]{}, &session[int]{}
	start := time.UnixMilli(1_800_000_000_000)
	x.arm(a, "", nil, store.TimeOf(start.Add(2*time.Hour)))
	if some, wait := x.due(start.Add(time.Hour), nil); len(some) != 0 || wait <= 0 || wait > lookAgain {
		t.Fatalf("%d alarms, wait %v", len(some), wait)
	}
	x.arm(b, "", nil, store.TimeOf(start.Add(30*time.Minute)))
	if some, wait := x.due(start, nil); len(some) != 0 || wait <= 0 || wait > lookAgain {
		t.Fatalf("the clock went back by an hour: %d alarms, wait %v", len(some), wait)
	}
	if some, _ := x.due(start.Add(30*time.Minute-time.Millisecond), nil); len(some) != 0 {
		t.Error("an alarm goes off early")
	}
	if some, _ := x.due(start.Add(30*time.Minute), nil); len(some) != 1 || some[0].s != b {
		t.Errorf("%d alarms", len(some))
	}
	// By a moment: it is waited for.
	if some, wait := x.due(start.Add(30*time.Minute-500*time.Millisecond), nil); len(some) != 0 || wait <= 0 {
		t.Errorf("%d alarms, wait %v", len(some), wait)
	}
	if some, _ := x.due(start.Add(2*time.Hour), nil); len(some) != 1 || some[0].s != a {
		t.Errorf("%d alarms", len(some))
	}
}

// What leaves memory leaves no alarms behind, for it would be kept by them: sessions and entries that are evicted, released, deleted.
func TestAlarmsOfWhatLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		db, err := Open[int](ctx, memory.New(), Options{MaxResident: 10})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close(ctx)
		try := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		soon := time.Now().Add(time.Hour)
		for i := range 100 {
			s, err := db.Create(ctx, fmt.Sprint(i))
			try(err)
			try(s.Expire(ctx, soon))
			try(s.PutUntil(ctx, "", i, soon))
			try(s.PutUntil(ctx, "timer", i, soon))
		}
		try(db.Flush(ctx))
		synctest.Wait()
		alarms := func() int {
			db.expirer.mu.Lock()
			defer db.expirer.mu.Unlock()
			if db.expirer.wheel.n != len(db.expirer.places) {
				t.Errorf("%d alarms, %d places", db.expirer.wheel.n, len(db.expirer.places))
			}
			return db.expirer.wheel.n
		}
		if n, r := alarms(), db.Stats().Resident; r > 20 || n != 3*int(r) {
			t.Errorf("%d sessions are resident, and there are %d alarms", r, n)
		}
		s, err := db.AdoptOrCreate(ctx, "whole") // of which nothing is evicted meanwhile
		try(err)
		before := alarms()
		try(s.Expire(ctx, soon))
		try(s.PutUntil(ctx, "timer", 1, soon))
		if n := alarms(); n != before+2 {
			t.Errorf("%d alarms more, want 2", n-before)
		}
		try(s.Expire(ctx, time.Time{}))
		try(s.Put(ctx, "timer", 1))
		if n := alarms(); n != before {
			t.Errorf("%d alarms of what does not expire any more", n-before)
		}
		try(s.PutUntil(ctx, "timer", 1, soon))
		try(db.Put(ctx, "other", 1))
		try(db.Delete(ctx, "whole"))
		if n := alarms(); n > before {
			t.Errorf("%d alarms of a session that was deleted", n-before)
		}
		try(db.Drain(ctx))
		if n := alarms(); n != 0 {
			t.Errorf("%d alarms of sessions that are gone", n)
		}
	})
}
