package kvstore_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// A handle is on one life of a session. Whoever holds one from before a deletion does not read what came after, and
// does not write into it, whether or not the store has heard of either.
func TestHandleOfAFormerLife(t *testing.T) {
	ends := map[string]func(db *kvstore.DB[int], s *kvstore.Session[int]) error{
		"deleted": func(db *kvstore.DB[int], s *kvstore.Session[int]) error {
			return db.Delete(context.Background(), s.ID())
		},
		"expired": func(_ *kvstore.DB[int], s *kvstore.Session[int]) error {
			err := s.Expire(context.Background(), time.Now().Add(time.Second))
			time.Sleep(time.Second)
			return err
		},
	}
	begins := map[string]func(db *kvstore.DB[int]) (*kvstore.Session[int], error){
		"Create": func(db *kvstore.DB[int]) (*kvstore.Session[int], error) { return db.Create(context.Background(), "s") },
		"AdoptOrCreate": func(db *kvstore.DB[int]) (*kvstore.Session[int], error) {
			return db.AdoptOrCreate(context.Background(), "s")
		},
		"Put": func(db *kvstore.DB[int]) (*kvstore.Session[int], error) {
			if err := db.Put(context.Background(), "s", 2); err != nil {
				return nil, err
			}
			return db.Session(context.Background(), "s")
		},
	}
	for end, ended := range ends {
		for begin, begun := range begins {
			for _, flush := range []string{"", "before", "between", "before, between"} {
				for _, evict := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s, %s, flushed %s, evicted %v", end, begin, flush, evict), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							ctx := t.Context()
							o := brisk("a")
							o.MaxDelay = time.Hour
							if evict {
								o.MaxResident = 1
							}
							db := openInts(t, memory.New(), o)
							defer db.Close(ctx)
							old, err := db.AdoptOrCreate(ctx, "s")
							check(t, err)
							check(t, old.Put(ctx, "", 1))
							check(t, old.Put(ctx, "leg", 1))
							if flush == "before" || flush == "before, between" {
								check(t, db.Flush(ctx))
							}
							evictIt := func() { // all but the last that comes, if they are clean
								for i := range 20 {
									check(t, db.Put(ctx, fmt.Sprint(i), i))
									check(t, db.Flush(ctx))
									synctest.Wait()
								}
							}
							if evict {
								evictIt()
							}
							check(t, ended(db, old))
							if flush == "between" || flush == "before, between" {
								check(t, db.Flush(ctx))
							}
							fresh, err := begun(db)
							check(t, err)
							check(t, fresh.Put(ctx, "", 2))

							gone := []error{kvstore.ErrNotFound, kvstore.ErrFenced}
							_, err = old.Get(ctx, "")
							want(t, err, gone...)
							_, err = old.Get(ctx, "leg")
							want(t, err, gone...)
							_, err = old.All(ctx)
							want(t, err, gone...)
							want(t, old.Put(ctx, "leg", 9), gone...)
							want(t, old.Delete(ctx, ""), gone...)
							want(t, old.Expire(ctx, time.Now().Add(time.Hour)), gone...)
							want(t, old.Update(ctx, func(tx *kvstore.Tx[int]) error { return tx.Put("leg", 9) }), gone...)
							want(t, old.Update(ctx, func(tx *kvstore.Tx[int]) error { _, err := tx.Get(""); return err }), gone...)

							if evict {
								evictIt()
								_, err = old.Get(ctx, "")
								want(t, err, gone...)
								want(t, old.Put(ctx, "leg", 9), gone...)
								evictIt()
							}
							if v, err := fresh.Get(ctx, ""); v != 2 || err != nil {
								t.Errorf("the new life has %d, %v", v, err)
							}
							if _, err := fresh.Get(ctx, "leg"); err == nil {
								t.Error("the new life has an entry of the former one")
							}
						})
					})
				}
			}
		}
	}
}
