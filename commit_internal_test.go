package kvstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// TestPlacesOfWhatIsGone: what comes and goes within a flush window leaves nothing behind, however much it is, whatever else is dirty. Nothing of the
// budget would pay for it, and with the store away the window is long.
func TestPlacesOfWhatIsGone(t *testing.T) {
	ctx, mem := t.Context(), memory.New()
	db, err := Open[int](ctx, mem, Options{MaxDelay: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	s, err := db.AdoptOrCreate(ctx, "s")
	if err != nil {
		t.Fatal(err)
	}
	q := s.Queue("jobs")
	for i := range 10_000 {
		if i%1000 == 0 {
			err = s.Put(ctx, fmt.Sprint("stays-", i), i)
		}
		if err == nil {
			err = q.PushBack(ctx, i)
		}
		if err == nil && i >= 3 { // there are always some, and the oldest goes
			_, err = q.PopFront(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r := s.cur.Load().s
	r.mu.Lock()
	places, entries := len(r.x.dirty), r.x.own.len()
	r.mu.Unlock()
	const dirty = 10 + 3 + 1 // the values, the items, and where the queue begins and ends
	if places > 2*dirty+32 || entries != 3+1 {
		t.Errorf("%d places for %d dirty entries, %d entries for the queue", places, dirty, entries)
	}
	if err := db.Close(ctx); err != nil {
		t.Fatal(err)
	}
	stored, err := mem.Load(ctx, "s")
	if err != nil || len(stored.Entries) != dirty {
		t.Errorf("%d entries are stored of %d, %v", len(stored.Entries), dirty, err)
	}
}
