package sim

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/seed-6f1f505d/kvstore/store"
)

// line is one node's way to the store, as a store.Store. What becomes of a call is drawn from the seed and the call's own
// name and number, not from a common stream: so a plan that loses a step keeps the fates of the calls that stay.
type line struct {
	c    *cluster
	node string
	dead chan struct{} // closed when the process is killed

	mu      sync.Mutex
	calls   map[string]uint64
	frozen  chan struct{} // not nil: nothing passes before it is closed
	cutOut  bool
	cutBack bool
	flaky   bool
	badAt   time.Time // when something was wrong at last
}

var (
	errDead    = errors.New("sim: the process died")
	errRefused = errors.New("sim: connection refused")
)

// fate is what becomes of one call.
type fate struct {
	i         uint64 // the call's number, of those of its name
	out, back time.Duration
	refused   bool
	lost      bool          // never arrives
	unheard   bool          // the answer is lost
	twin      time.Duration // not 0: it arrives once more, so much later
	late      time.Duration // it arrives so much later than it could
}

// draw returns a number in [0, n) that the seed and the name decide.
func (c *cluster) draw(name string, i, n uint64) uint64 {
	return xxhash.Sum64String(string([]byte{
		byte(c.plan.Seed), byte(c.plan.Seed >> 8), byte(c.plan.Seed >> 16), byte(c.plan.Seed >> 24), byte(c.plan.Seed >> 32),
		byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)})+name) % n
}

func (l *line) fate(call string) fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[call]++
	i, name := l.calls[call], l.node+call
	latency := uint64(l.c.plan.Setup.Latency)
	f := fate{
		i:    i,
		out:  time.Duration(l.c.draw(name+"out", i, latency)) + 101,
		back: time.Duration(l.c.draw(name+"back", i, latency)) + 103,
		lost: l.cutOut,
	}
	if l.c.plan.Setup.Sabotage == "slow" && strings.HasPrefix(call, "apply") {
		f.out += l.c.plan.Setup.Options.StoreTimeout / 2
	}
	if l.flaky {
		switch l.c.draw(name+"fate", i, 16) {
		case 0:
			f.refused = true
		case 1:
			f.lost = true
		case 2, 3:
			f.unheard = true
		case 4, 5:
			f.twin = time.Duration(l.c.draw(name+"twin", i, uint64(5*time.Second))) + 107
		case 6, 7:
			f.late = time.Duration(l.c.draw(name+"late", i, uint64(8*time.Second))) + 109
		}
	}
	return f
}

// pass waits while the node is paused. It reports false if it was killed meanwhile: then it never sent what it was about to.
// What waited does not go on all at once: the name and number say in which order.
func (l *line) pass(name string, i uint64) bool {
	for {
		l.mu.Lock()
		frozen := l.frozen
		l.mu.Unlock()
		if frozen == nil {
			return true
		}
		select {
		case <-frozen:
			time.Sleep(time.Duration(l.c.draw(name, i, 100_000)))
		case <-l.dead:
			return false
		}
	}
}

func (l *line) isCut(back bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return back && l.cutBack || !back && l.cutOut
}

// set changes the line's condition.
func (l *line) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	l.badAt = time.Now()
}

// well returns since when nothing was wrong with the line; false if something is.
func (l *line) well() (since time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.badAt, l.frozen == nil && !l.cutOut && !l.cutBack && !l.flaky
}

// mend makes the line well again.
func (l *line) mend() {
	l.set(func() {
		if l.frozen != nil {
			close(l.frozen)
			l.frozen = nil
		}
		l.cutOut, l.cutBack, l.flaky = false, false, false
	})
}

// call carries a call to the store and its answer back.
func call[R any](ctx context.Context, l *line, name string, do func() (R, error)) (r R, err error) {
	if err := ctx.Err(); err != nil {
		return r, err
	}
	select {
	case <-l.dead:
		return r, errDead
	default:
	}
	type answer struct {
		r   R
		err error
	}
	answers := make(chan answer, 1)
	f := l.fate(name)
	l.c.travels.Go(func() {
		if !l.pass(name+"out", f.i) {
			return
		}
		time.Sleep(f.out + f.late)
		switch {
		case f.refused:
			answers <- answer{err: errRefused}
			return
		case f.lost || l.isCut(false):
			l.c.count.lost.Add(1)
			return
		}
		r, err := do()
		if f.late > 0 {
			l.c.count.late.Add(1)
		}
		if f.twin > 0 {
			l.c.count.doubled.Add(1)
			l.c.travels.Go(func() { time.Sleep(f.twin); do() })
		}
		time.Sleep(f.back)
		l.pass(name+"back", f.i)
		if f.unheard || l.isCut(true) {
			l.c.count.unheard.Add(1)
			return
		}
		answers <- answer{r, err}
	})
	select {
	case a := <-answers:
		select {
		case <-l.dead:
			return r, errDead
		default:
		}
		return a.r, a.err
	case <-ctx.Done():
		return r, ctx.Err()
	case <-l.dead:
		return r, errDead
	}
}

func (l *line) Claim(ctx context.Context, r store.ClaimRequest) (store.Claim, error) {
	return call(ctx, l, "claim "+r.Session, func() (store.Claim, error) { return l.c.truth.claim(r) })
}

func (l *line) Apply(ctx context.Context, cs []store.Change) ([]store.Result, error) {
	sent := make([]store.Change, len(cs)) // the caller uses its buffers again
	for i, c := range cs {
		sent[i] = c
		sent[i].Puts, sent[i].Deletes = slices.Clone(c.Puts), slices.Clone(c.Deletes)
		for j := range c.Puts {
			sent[i].Puts[j].Value = slices.Clone(c.Puts[j].Value)
		}
	}
	return call(ctx, l, "apply "+cs[0].Session, func() ([]store.Result, error) { return l.c.truth.apply(sent) })
}

func (l *line) Load(ctx context.Context, id string, keys ...string) (store.Snapshot, error) {
	return call(ctx, l, "load "+id, func() (store.Snapshot, error) { return l.c.truth.load(id, keys) })
}

func (l *line) LoadRange(ctx context.Context, id string, r store.Range) (store.Page, error) {
	return call(ctx, l, "range "+id, func() (store.Page, error) {
		p, err := l.c.truth.st.(store.Ranger).LoadRange(context.Background(), id, r)
		if l.c.plan.Setup.Sabotage == "stale load" {
			p.Entries = nil
		}
		return p, err
	})
}

func (l *line) Find(ctx context.Context, r store.AliasRange) (store.Found, error) {
	return call(ctx, l, "find", func() (store.Found, error) {
		return l.c.truth.st.(store.Finder).Find(context.Background(), r)
	})
}

func (l *line) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (bool, error) {
	return call(ctx, l, "live", func() (bool, error) { return l.c.truth.live(n, ttl) })
}

func (l *line) Nodes(ctx context.Context) ([]store.Node, error) {
	return call(ctx, l, "nodes", func() ([]store.Node, error) {
		ns, err := l.c.truth.st.Nodes(context.Background())
		slices.SortFunc(ns, func(a, b store.Node) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.Incarnation[:], b.Incarnation[:]))
		})
		return ns, err
	})
}

func (l *line) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		hs, err := call(ctx, l, "walk", func() ([]store.Header, error) {
			var hs []store.Header
			for h, err := range l.c.truth.st.Sessions(context.Background(), q) {
				if err != nil {
					return nil, err
				}
				hs = append(hs, h)
			}
			slices.SortFunc(hs, func(a, b store.Header) int { return cmp.Compare(a.Session, b.Session) })
			return hs, nil
		})
		if err != nil {
			yield(store.Header{}, err)
			return
		}
		for _, h := range hs {
			if !yield(h, nil) {
				return
			}
		}
	}
}

func (l *line) Close() error { return nil }

var (
	_ store.Store  = (*line)(nil)
	_ store.Ranger = (*line)(nil)
	_ store.Finder = (*line)(nil)
)
