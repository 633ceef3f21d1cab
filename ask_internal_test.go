package kvstore

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// A session that ends between its claim and its entry into the map does not stay there.
func TestSessionThatEndsOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		mem := memory.New()
		d, _ := Open[string](ctx, mem, Options{Node: "d"})
		d.Put(ctx, "s", "1")
		s, _ := d.Session(ctx, "s")
		s.Expire(ctx, time.Now().Add(time.Second))
		d.Close(ctx)
		db, _ := Open[string](ctx, mem, Options{Node: "a"})
		defer db.Close(ctx)
		time.Sleep(999 * time.Millisecond)
		// The goroutine of ask is not scheduled for a while, between its claim and its entry into the map.
		keys := []string{""}
		r, err := db.askClaim(ctx, "s", adopt, keys)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // the expirer ends it, the lane flushes that, and it departs
		st := db.stripe("s")
		st.mu.Lock()
		db.sessions.insert(r)
		st.mu.Unlock()
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := db.Drain(short); err != nil {
			t.Errorf("Drain: %v; dead: %v, resident: %d", err, r.dead(), db.Stats().Resident)
		}
	})
}

// A change that was made, and handed over because the session was fenced, is not made again.
func TestChangeOfTheGoneIsNotMadeAgain(t *testing.T) {
	ctx := context.Background()
	db, err := Open[string](ctx, memory.New(), Options{MaxDelay: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(ctx)
	db.Put(ctx, "s", "1")
	s := db.sessions.load("s")
	ver := s.ver
	db.expel(s, nil, &FencedError{Session: "s"})
	err = db.sync(ctx, s, ver)
	if db.retry(s, err) {
		t.Errorf("%v: a change that was handed over to Hooks.Lost is made again", err)
	}
}
