package kvstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Takeover configures AdoptOrphans.
type Takeover struct {
	// Rate is the most sessions adopted in a second. Zero: 1000. It keeps the store free
	// for the events that cannot wait.
	Rate int

	// All takes other survivors' shares, too.
	All bool

	// Progress, if not nil, is called after each session, on one of a few goroutines, one call at a time.
	Progress func(Orphans)
}

// Orphans is what AdoptOrphans has done so far.
type Orphans struct {
	Seen    int // sessions in the store that no living node owns
	Adopted int // by this call
	Here    int // adopted meanwhile by an event of this node
	Others  int // of other survivors' shares, or adopted by them meanwhile
	Gone    int // deleted or expired meanwhile
	Damaged int // that the store cannot read; the error names them
}

// takers is the number of background adoptions at a time: few, so that demand finds the store free.
const takers = 4

// AdoptOrphans adopts the stored sessions that no living node owns: those of nodes that died, this one's own of
// before a restart, and released ones. Of these it takes this node's share: by the Ring of all living
// nodes, so that the survivors divide them without asking each other. Entries are loaded when they are touched.
//
// It works in the background of demand: it is limited in rate, and stands back while Adopt or
// Get wait for the store. It makes one pass. Called again, it goes on where it was, since what
// it has adopted is no orphan any more; an error tells that the pass was not complete.
func (db *DB[V]) AdoptOrphans(ctx context.Context, t Takeover) (Orphans, error) {
	return db.adoptAll(ctx, t, db.walkOrphans)
}

// adoptAll adopts what walk yields, of sessions that nobody alive owns, as AdoptOrphans does.
func (db *DB[V]) adoptAll(ctx context.Context, t Takeover, walk func(context.Context, map[store.Incarnation]bool, func(store.Header)) error) (Orphans, error) {
	if ctx == nil {
		return Orphans{}, errNilContext
	}
	if t.Rate < 0 {
		return Orphans{}, fmt.Errorf("%w: Takeover.Rate is %d: 0 for 1000, or more", ErrInvalid, t.Rate)
	}
	if t.Rate == 0 {
		t.Rate = 1000
	}
	if err := db.inTime(); err != nil {
		return Orphans{}, err
	}
	ring, alive, err := db.survivors(ctx)
	if err != nil {
		return Orphans{}, err
	}
	p := &pass[V]{pacer: newPacer(db, t.Rate), t: t}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	unhook := context.AfterFunc(db.ctx, func() { stop(ErrClosed) })
	defer unhook()

	ids := make(chan []string)
	var wg sync.WaitGroup
	for range takers {
		wg.Go(func() {
			for some := range ids {
				if err := p.take(ctx, some); err != nil {
					stop(err)
				}
			}
		})
	}
	size := 1
	if p.claimer, _ = db.store.(store.Claimer); p.claimer != nil {
		size = batchOf(t.Rate)
	}
	var some []string
	give := func() {
		select {
		case ids <- some:
		case <-ctx.Done():
		}
		some = nil
	}
	err = walk(ctx, alive, func(h store.Header) {
		mine := t.All || h.Owner == db.self && !h.Released || ring.Owner(h.Session) == db.self.Node
		p.note(func(o *Orphans) {
			o.Seen++
			if !mine {
				o.Others++
			}
		})
		if mine {
			if some = append(some, h.Session); len(some) == size {
				give()
			}
		}
	})
	if len(some) > 0 {
		give()
	}
	close(ids)
	wg.Wait()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	err = errors.Join(append(p.damaged, err)...)
	if err != nil {
		err = fmt.Errorf("kvstore: the pass over the orphans is not complete: %w", err)
	}
	return p.done, err
}

// survivors returns the ring of the nodes whose leases run, and who they are.
func (db *DB[V]) survivors(ctx context.Context) (*Ring, map[store.Incarnation]bool, error) {
	living, err := db.living(ctx)
	if err != nil {
		return nil, nil, err
	}
	weights := map[string]int{db.self.Node: db.opt.Weight}
	alive := map[store.Incarnation]bool{db.self.Incarnation: true}
	for i, n := range living {
		alive[i] = true
		weights[n.Name] = max(n.Weight, 1)
	}
	members := make([]Member, 0, len(weights))
	for name, w := range weights {
		members = append(members, Member{Name: name, Weight: w})
	}
	ring, err := NewRing(members...)
	return ring, alive, err
}

// walkOrphans calls f for every session that nobody alive owns, or that this node was given by a
// claim whose answer was lost: nobody else can adopt it.
func (db *DB[V]) walkOrphans(ctx context.Context, alive map[store.Incarnation]bool, f func(store.Header)) error {
	var damaged []error
	for h, err := range db.store.Sessions(ctx, store.Query{}) {
		var c *store.CorruptError
		switch {
		case errors.As(err, &c):
			damaged = append(damaged, err) // the walk goes on
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case db.orphaned(&h, alive):
			f(h)
		}
	}
	return errors.Join(damaged...)
}

// orphaned reports whether nobody alive owns a session that this program can read, or this node does by a claim whose answer was lost.
func (db *DB[V]) orphaned(h *store.Header, alive map[store.Incarnation]bool) bool {
	if h.Expires != 0 && h.Expires.Past(time.Now()) || db.knows(h) != nil {
		return false
	}
	return h.Released || !alive[h.Owner.Incarnation] || h.Owner.Incarnation == db.self.Incarnation && db.strayed(h.Session)
}

// strayed reports whether a session that is ours in the store never came into memory. Where sessions are evicted
// this cannot be told, and makes no difference: whoever asks for it finds it.
func (db *DB[V]) strayed(id string) bool {
	return db.sessions.load(id) == nil && db.sieve == nil && db.astray.Load()
}

// pass is one call of AdoptOrphans.
type pass[V any] struct {
	*pacer[V]
	t       Takeover
	claimer store.Claimer // nil: the store takes one claim at a time

	mu      sync.Mutex
	done    Orphans
	damaged []error
}

func (p *pass[V]) note(f func(*Orphans)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.done)
	if p.t.Progress != nil {
		p.t.Progress(p.done)
	}
}

// take adopts some orphans, when it is their turn.
func (p *pass[V]) take(ctx context.Context, ids []string) error {
	ids = slices.DeleteFunc(ids, func(id string) bool {
		here := p.db.sessions.load(id) != nil
		if here {
			p.note(func(o *Orphans) { o.Here++ })
		}
		return here
	})
	if len(ids) == 0 {
		return nil
	}
	if err := p.turn(ctx, len(ids)); err != nil {
		return err
	}
	if p.claimer == nil {
		_, err := p.db.bring(ctx, ids[0], adopt, nil)
		return p.became(err)
	}
	var failed error
	for _, err := range p.db.bringAll(ctx, question{claimer: p.claimer}, ids) {
		failed = cmp.Or(p.became(err), failed)
	}
	return failed
}

// became counts what became of an orphan. It returns the error, if that ends the pass.
func (p *pass[V]) became(err error) error {
	var damaged *store.CorruptError
	switch {
	case err == nil:
		p.note(func(o *Orphans) { o.Adopted++ })
	case errors.Is(err, ErrNotFound):
		p.note(func(o *Orphans) { o.Gone++ })
	case errors.Is(err, ErrOwned), errors.Is(err, ErrReleased), errors.Is(err, ErrSchema):
		p.note(func(o *Orphans) { o.Others++ })
	case errors.As(err, &damaged): // another session's turn all the same
		p.note(func(o *Orphans) { o.Damaged++ })
		p.mu.Lock()
		p.damaged = append(p.damaged, err)
		p.mu.Unlock()
	default:
		return err
	}
	return nil
}

// pacer gives background adoptions their turns.
type pacer[V any] struct {
	db    *DB[V]
	every time.Duration
	next  atomic.Int64 // when the next adoption may begin (DB.now)
}

// newPacer returns one that lets so many sessions pass in a second.
func newPacer[V any](db *DB[V], rate int) *pacer[V] {
	return &pacer[V]{db: db, every: time.Second / time.Duration(rate)}
}

// batchOf returns how many sessions are asked for at once at that rate: those of 100 ms, which is how long demand may find the store busy
// with them.
func batchOf(rate int) int { return min(max(rate/10, 1), claimBatch) }

// turn waits until the rate allows n more adoptions and no event waits for the store, for
// at most 50 ms: under constant demand it goes on slowly rather than not at all.
func (p *pacer[V]) turn(ctx context.Context, n int) error {
	now := p.db.now()
	var at int64
	for {
		last := p.next.Load()
		at = max(last, now)
		if p.next.CompareAndSwap(last, at+int64(n)*int64(p.every)) {
			break
		}
	}
	wait := time.Duration(at - now)
	for yielded := time.Duration(0); ; yielded += time.Millisecond {
		if wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return ctx.Err()
			}
		}
		if p.db.demand.Load() == 0 || yielded >= 50*time.Millisecond {
			return ctx.Err()
		}
		wait = time.Millisecond
	}
}
