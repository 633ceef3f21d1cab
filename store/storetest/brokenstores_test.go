package storetest

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// pause gives others a chance to come in between.
func pause() {
	runtime.Gosched()
	time.Sleep(20 * time.Microsecond)
}

// brokenStores names for each the cases of Run that must notice it, and the sentence with which Race must, if it can.
var brokenStores = []struct {
	name  string
	make  func(b *broken)
	cases []string
	race  string
}{
	{"no fence", func(b *broken) { b.apply = b.overwrite },
		[]string{"ApplyFence/taken over", "ClaimCreate/deleted", "KeepAlive/a renewal brings no session back", "General/refusals"}, saysNoneLate},

	{"refuses, and writes all the same", func(b *broken) {
		b.apply = func(ctx context.Context, c store.Change) store.Result {
			r := b.inner(ctx, c)
			if r.Outcome == store.Fenced {
				b.overwrite(ctx, c)
			}
			return r
		}
	}, []string{"ApplyFence/taken over"}, saysNoneLate},

	{"checks, then writes", func(b *broken) {
		b.apply = func(ctx context.Context, c store.Change) store.Result {
			h := b.header(ctx, c.Session)
			if !h.HeldBy(c.Owner, c.Epoch) || c.Seq <= h.Seq {
				return b.inner(ctx, c)
			}
			pause()
			return b.overwrite(ctx, c)
		}
	}, nil, saysNoneLate},

	{"reads, then raises the epoch", func(b *broken) {
		b.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
			s, err := b.Store.Load(ctx, r.Session)
			if err != nil {
				return store.Claim{}, err
			}
			pause()
			c, err := b.Store.Claim(ctx, r)
			if c.Outcome == store.Granted && !c.Created {
				c.Entries, c.Header.Expires = s.Entries, s.Header.Expires
			}
			return c, err
		}
	}, nil, saysNoneLate},

	{"grants without comparing", func(b *broken) {
		var mu sync.Mutex
		b.claim = func(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
			mu.Lock()
			h := b.header(ctx, r.Session)
			mu.Unlock()
			pause()
			c, err := b.Store.Claim(ctx, r)
			if r.Epoch == 0 && c.Outcome == store.Held && h.Epoch < c.Header.Epoch { // it decided before the other won
				c.Outcome, c.Header.Owner = store.Granted, r.Owner
			}
			return c, err
		}
	}, []string{"ClaimEpoch/claimants of an orphan"}, saysOneWins},

	{"starts epochs again after a deletion", func(b *broken) { reborn(b) },
		[]string{"ClaimEpoch/deleted lives included", "ClaimCreate/deleted", "ApplyFence/the same epoch of another incarnation, deleted"}, ""},

	{"compares the epoch only", func(b *broken) {
		b.apply = func(ctx context.Context, c store.Change) store.Result {
			if h := b.header(ctx, c.Session); h.Epoch == c.Epoch {
				c.Owner = h.Owner
			}
			return b.inner(ctx, c)
		}
	}, []string{"ApplyFence/the same epoch of another incarnation", "ApplyFence/incarnations that differ in one bit"}, ""},

	{"compares the incarnation only", func(b *broken) {
		b.apply = func(ctx context.Context, c store.Change) store.Result {
			if h := b.header(ctx, c.Session); h.Owner.Incarnation == c.Owner.Incarnation {
				c.Epoch = h.Epoch
			}
			return b.inner(ctx, c)
		}
	}, []string{"ApplyFence/another epoch of the same incarnation", "ApplyFence/released and claimed again by the same owner"}, ""},

	{"takes any higher epoch", func(b *broken) {
		b.apply = func(ctx context.Context, c store.Change) store.Result {
			if h := b.header(ctx, c.Session); c.Epoch > h.Epoch && h.Epoch > 0 {
				return b.overwrite(ctx, c)
			}
			return b.inner(ctx, c)
		}
	}, []string{"ApplyFence/a creation of what another made", "ApplyFence/another epoch of the same incarnation"}, ""},

	{"an absent header is free", func(b *broken) {
		b.apply = func(ctx context.Context, c store.Change) store.Result {
			c.Create = c.Create || b.header(ctx, c.Session).Epoch == 0
			return b.inner(ctx, c)
		}
	}, []string{"ApplyFence/absent", "ApplyBatch/every outcome in one call", "General/nothing is there"}, ""},

	{"fences no deletes", func(b *broken) { b.unfenced(func(c store.Change) bool { return len(c.Deletes) > 0 }) },
		[]string{"ApplyFence/taken over"}, saysNoneLate},
	{"fences no expiry touches", func(b *broken) {
		b.unfenced(func(c store.Change) bool { return c.Expires != 0 && len(c.Puts)+len(c.Deletes) == 0 })
	}, []string{"ApplyFence/taken over"}, saysNoneLate},
	{"fences no releases", func(b *broken) { b.unfenced(func(c store.Change) bool { return c.Release }) },
		[]string{"ApplyFence/taken over"}, ""},
	{"fences no session deletes", func(b *broken) { b.unfenced(func(c store.Change) bool { return c.Delete }) },
		[]string{"ApplyFence/taken over"}, ""},

	{"ignores seq", func(b *broken) {
		b.apply = func(ctx context.Context, c store.Change) store.Result {
			if h := b.header(ctx, c.Session); h.HeldBy(c.Owner, c.Epoch) && c.Seq <= h.Seq {
				c.Seq = h.Seq + 1
			}
			return b.inner(ctx, c)
		}
	}, []string{"ApplyRepeat/a late twin, of every kind", "ApplyRepeat/a late release", "ApplyTombstone/made and deleted unseen"}, saysAlready},

	{"writes a change in two steps", func(b *broken) { // which have the numbers 2·seq-1 and 2·seq below
		b.apply = func(ctx context.Context, c store.Change) store.Result {
			first, n := c, len(c.Puts)/2
			first.Puts, first.Seq = c.Puts[:n], 2*c.Seq-1
			if r := b.inner(ctx, first); r.Outcome != store.Applied {
				return r
			}
			pause()
			c.Wipe, c.Puts, c.Seq = false, c.Puts[n:], 2*c.Seq
			return b.inner(ctx, c)
		}
		b.load = func(_ context.Context, s store.Snapshot) (store.Snapshot, error) {
			s.Header.Seq = (s.Header.Seq + 1) / 2
			return s, nil
		}
	}, []string{"Load/consistent while it is written"}, saysView},

	{"writes behind its answer", func(b *broken) {
		last := map[string]store.Change{}
		var mu sync.Mutex
		b.apply = func(ctx context.Context, c store.Change) store.Result {
			mu.Lock()
			defer mu.Unlock()
			if older, ok := last[c.Session]; ok {
				b.inner(ctx, older)
			}
			if h := b.header(ctx, c.Session); !h.HeldBy(c.Owner, c.Epoch) {
				return b.inner(ctx, c)
			}
			last[c.Session] = c
			return store.Result{Outcome: store.Applied}
		}
	}, []string{"Load/the next read"}, saysLatest},

	{"keeps the caller's bytes", func(b *broken) {
		kept := map[string][]byte{}
		b.apply = func(ctx context.Context, c store.Change) store.Result {
			for _, e := range c.Puts {
				kept[e.Key] = e.Value
			}
			return b.inner(ctx, c)
		}
		b.load = func(_ context.Context, s store.Snapshot) (store.Snapshot, error) {
			for i := range s.Entries {
				s.Entries[i].Value = kept[s.Entries[i].Key]
			}
			return s, nil
		}
	}, []string{"General/arguments are copied", "General/an overwritten value is copied", "General/a changed result of Load"}, ""},

	{"absence is an error", func(b *broken) {
		b.load = func(_ context.Context, s store.Snapshot) (store.Snapshot, error) {
			if s.Header.Epoch == 0 {
				return s, errors.New("redis: nil")
			}
			return s, nil
		}
	}, []string{"General/nothing is there", "Load/absent"}, ""},

	{"an empty value is absence", func(b *broken) {
		b.load = func(_ context.Context, s store.Snapshot) (store.Snapshot, error) {
			s.Entries = slices.DeleteFunc(s.Entries, func(e store.Entry) bool { return len(e.Value) == 0 })
			return s, nil
		}
	}, []string{"Bytes/the empty value is not an absent one"}, ""},

	{"expiry in nanoseconds", func(b *broken) { b.expiry(func(t store.Time) store.Time { return t * 1_000_000 / 1_000_000 }) },
		[]string{"Expiry/beyond what engines' clocks hold"}, ""},
	{"expiry in seconds", func(b *broken) { b.expiry(func(t store.Time) store.Time { return t / 1000 * 1000 }) },
		[]string{"Expiry/it is kept to the millisecond"}, ""},

	{"a large main entry does not replace a small one", func(b *broken) {
		b.puts(func(h store.Header, e *store.Entry) bool { return e.Key != "" || len(e.Value) <= 1024 || h.Seq == 0 })
	}, []string{"Apply/values of all lengths replace each other"}, ""},
	{"the main entry's expiry is lost", func(b *broken) {
		b.apply = func(ctx context.Context, c store.Change) store.Result {
			c.Puts = slices.Clone(c.Puts)
			for i := range c.Puts {
				if c.Puts[i].Key == "" {
					c.Puts[i].Expires = 0
				}
			}
			return b.inner(ctx, c)
		}
	}, []string{"Expiry/at every read of the main entry"}, ""},
	{"an owner's creation wipes its expired session", func(b *broken) {
		b.apply = func(ctx context.Context, c store.Change) store.Result {
			if h := b.header(ctx, c.Session); c.Create && !c.Delete && h.HeldBy(c.Owner, c.Epoch) && h.Expires.Past(time.Now()) {
				c.Wipe = true
			}
			return b.inner(ctx, c)
		}
	}, []string{"Apply/a creating change to its expired session"}, ""},
	{"makes no tombstone above an expired session", func(b *broken) {
		b.apply = func(ctx context.Context, c store.Change) store.Result {
			if h := b.header(ctx, c.Session); c.Create && c.Delete && h.Exists() && !h.HeldBy(c.Owner, c.Epoch) {
				return store.Result{Outcome: store.Fenced, Header: h}
			}
			return b.inner(ctx, c)
		}
	}, []string{"ApplyTombstone/above an expired session"}, ""},
	{"a walk that fails yields its last page twice", func(b *broken) {
		b.walk = func(_ store.Query, inner iter.Seq2[store.Header, error]) iter.Seq2[store.Header, error] {
			return func(yield func(store.Header, error) bool) {
				var page []store.Header
				for h, err := range inner {
					if err != nil {
						for _, h := range page {
							yield(h, nil)
						}
					}
					if page = append(page, h); !yield(h, err) {
						return
					}
					if len(page) == 512 {
						page = page[:0]
					}
				}
			}
		}
	}, []string{"Sessions/cancelled in between"}, ""},
	{"a walk of an owner leaves out what it released", func(b *broken) {
		b.walk = func(q store.Query, inner iter.Seq2[store.Header, error]) iter.Seq2[store.Header, error] {
			return func(yield func(store.Header, error) bool) {
				for h, err := range inner {
					if hidden := h.Released && q.Owner != (store.Incarnation{}); !hidden && !yield(h, err) {
						return
					}
				}
			}
		}
	}, []string{"Sessions/of one owner, released"}, ""},

	{"checks nothing", func(b *broken) { b.unchecked = true },
		[]string{"Apply/a key twice", "Apply/malformed changes", "ApplyAliases/malformed aliases"}, ""},
	{"applies the changes of a session in any order", func(b *broken) { b.backwards = true },
		[]string{"ApplyBatch/a session in many changes", "ApplyBatch/made, deleted and made again"}, ""},

	{"numbers are floats", func(b *broken) {
		b.apply = func(ctx context.Context, c store.Change) store.Result {
			c.Epoch, c.Seq = uint64(float64(c.Epoch)), uint64(float64(c.Seq))
			return b.inner(ctx, c)
		}
	}, []string{"Bytes/the largest numbers"}, ""},

	{"closing twice fails", func(b *broken) {
		closed := false
		b.close = func() error {
			if closed {
				return errors.New("close of closed store")
			}
			closed = true
			return b.Store.Close()
		}
	}, []string{"Close/calls after Close"}, ""},
}
