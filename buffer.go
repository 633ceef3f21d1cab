package kvstore

import (
	"cmp"
	"context"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

// This file is the write-behind buffer: when what is flushed. The buffer holds no
// values. They are in the sessions; a lane is a list of the sessions that have
// something to flush, and the goroutine that does it. Every session belongs to one
// lane, by the hash of its ID, and a lane has one batch in flight, beside the one that it gathers next: a session is in one of them.
//
//	clean ──commit──▶ queue ──────MaxDelay, Flush─────▶ ready ──batch──▶ in flight ──▶ clean
//	                    └──────someone waits in Sync─────▶──┘▲                 │ no answer
//	                                                         └──backoff── retry ◀┘
//
// A session that someone waits for goes alone, or with others that are waited for, and before all that is ready: Sync
// costs one round trip, however much is dirty, and what nobody waits for goes on coalescing.
//
// A session that changes while it is in flight is queued again at once. The age of a
// change counts from the first one that is not taken yet: a key that changes for ever is
// flushed once every MaxDelay.
type lane[V any] struct {
	db   *DB[V]
	wake chan struct{} // capacity 1
	idle atomic.Bool   // the goroutine waits, or is about to look at the queue: only then it must be woken

	mu       sync.Mutex
	queue    []*session[V] // oldest change first; some may have been flushed before their turn
	waiting  int           // sessions in the queue that were not: those queued in turn
	since    int64         // age of the queue: at least that of its oldest change; 0 if it is empty
	urgent   []*session[V] // someone waits for them. A hint: each is in another list, too, or is done
	kicked   bool          // flush the queue now, not when it is ripe
	draining bool          // Close waits: likewise, until nothing is left
	closed   bool          // nothing is taken any more
	ended    bool          // the goroutine has ended
	watchers []watcher     // Flush
	untold   error         // why something was handed over, and no Flush has said so

	abandoned bool // Close did not wait for what was under way, and has handed it over: nobody is to touch it

	turn uint8 // of the queue: 1 and 2 by turns; written under mu by the goroutine, which may read it without

	// The rest belongs to the lane's goroutine.
	ready   []*session[V] // to be flushed as soon as the store may be called; those not queued any more are to be passed by
	first   []*session[V] // before these: what was urgent
	retry   []delayed[V]  // failed alone; each waits for its own time
	back    []*session[V] // of the last batch, to be sent again
	array   []*session[V] // the array under ready
	spare   []*session[V] // the array for the next queue
	limit   int           // sessions in the next batch: halved by a failure, doubled by a success
	fails   int           // batches of one session that failed since the last success
	pause   int64         // do not call the store before (DB.now)
	batches [2]batch[V]   // the one that is sent next, and the other
	filling uint8         // which of them is which
	owed    *batch[V]     // the other, if the store has answered it and it is not settled
	answers atomic.Int64  // batches that the store answered, for Health

	held atomic.Int64 // age of what was taken from the queue and is not stored; 0 if nothing

	// A flush is all that was taken together, in however many calls. With a healthy store lag ≤ MaxDelay + 2·longest.
	began   atomic.Int64 // when it was taken (DB.now); 0 if none is under way
	longest atomic.Int64 // of those that are over
}

type delayed[V any] struct {
	s     *session[V]
	due   int64
	since int64
}

func (db *DB[V]) lane(s *session[V]) *lane[V] { return db.laneOf(s.id()) }

func (db *DB[V]) laneOf(id string) *lane[V] {
	return db.lanes[xxhash.Sum64String(id)%uint64(len(db.lanes))]
}

// push queues a session whose mu the caller holds and which is not queued. It reports false
// if the lane is closed.
func (l *lane[V]) push(s *session[V], now int64) bool {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	first := len(l.queue) == 0
	if first {
		l.since = now
	}
	l.queue = append(l.queue, s)
	l.waiting++
	s.turn = l.turn
	full := !l.kicked && (l.db.budget.used.Load() > l.db.budget.max/2 || l.db.budget.waiting.Load() > 0)
	if full {
		l.kicked = true
	}
	l.mu.Unlock()
	s.set(queued)
	s.since = now
	if first || full {
		l.rouse()
	}
	return true
}

// kick asks for a flush of all that is queued now.
func (l *lane[V]) kick() {
	l.mu.Lock()
	l.kicked = len(l.queue) > 0 // not for the next change
	l.mu.Unlock()
	l.rouse()
}

// urge asks for a flush of one session now, if it is not in flight. What changes later waits for its time.
func (l *lane[V]) urge(s *session[V]) {
	l.mu.Lock()
	l.urgent = append(l.urgent, s)
	l.mu.Unlock()
	l.rouse()
}

// unqueue notes that a session is taken out of turn, whichever list it was found in. Caller holds the session's mu; it is the
// lane's goroutine.
func (l *lane[V]) unqueue(s *session[V]) {
	if s.turn != l.turn {
		return // it is not in the queue
	}
	s.turn = 0
	l.mu.Lock()
	l.hold(s.since)
	if l.waiting--; l.waiting == 0 {
		clear(l.queue)
		l.queue, l.since, l.kicked = l.queue[:0], 0, false
	}
	l.mu.Unlock()
}

// rouse has the goroutine look at the queue. To wake it costs a Put as much as all the rest; while
// it flushes it need not be, it will look anyway.
func (l *lane[V]) rouse() {
	if !l.idle.Load() {
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run is the lane's goroutine. It ends when it has been drained, or when ctx is over.
func (l *lane[V]) run(ctx context.Context) {
	defer l.end()
	defer l.unload()
	defer l.conclude()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		l.idle.Store(true) // before it looks: whoever comes after that sees it
		wait, done := l.take()
		if done {
			return
		}
		if wait == 0 {
			l.idle.Store(false)
			l.began.CompareAndSwap(0, l.db.now())
			l.flush(ctx)
			continue
		}
		timer.Reset(time.Duration(wait))
		select {
		case <-timer.C:
		case <-l.wake:
		case <-ctx.Done():
		}
	}
}

// take moves what is ripe to ready. It returns how long until there is something
// to flush, 0 if there is now; done if the lane is drained. If an answer is owed, then there is something to flush now.
func (l *lane[V]) take() (wait int64, done bool) {
	now, maxDelay := l.db.now(), int64(l.db.opt.MaxDelay)
	wait = int64(time.Hour)
	sort := false

	l.mu.Lock()
	// What is ready goes first: so its age is known.
	if len(l.ready) == 0 && !l.begun() && len(l.queue) > 0 {
		ripe := l.since + maxDelay - now
		if ripe <= 0 || l.kicked || l.draining {
			l.ready, l.array = l.queue, l.queue
			sort = len(l.ready) > l.db.opt.MaxBatch
			l.queue, l.spare = l.spare[:0], nil
			l.hold(l.since)
			l.since, l.kicked, l.waiting = 0, false, 0
			l.turn = 3 - l.turn
		} else {
			wait = ripe
		}
	}
	l.first = append(l.first, l.urgent...)
	clear(l.urgent)
	l.urgent = l.urgent[:0]
	if l.draining && !l.begun() && len(l.queue)+len(l.ready)+len(l.retry) == 0 {
		l.closed, done = true, true
	}
	l.mu.Unlock()

	if sort {
		l.sort()
	}
	kept := l.retry[:0]
	for _, r := range l.retry {
		if r.due <= now || r.s.dead() {
			l.ready = append(l.ready, r.s)
			continue
		}
		wait = min(wait, r.due-now)
		kept = append(kept, r)
	}
	clear(l.retry[len(kept):])
	l.retry = kept

	if len(l.ready)+len(l.first) > 0 || l.begun() {
		wait = max(l.pause-now, 0)
	}
	return wait, done
}

// sort has each of several batches be of neighbours: a store that keeps an order writes fewer pages so. It compares eight bytes of each
// ID, those behind what many begin with, which lie side by side: to compare the IDs it would fetch two sessions each time.
func (l *lane[V]) sort() {
	type placed struct {
		at uint64
		s  *session[V]
	}
	prefix := l.ready[0].id()
	for i := 0; i < len(l.ready); i += len(l.ready)/64 + 1 {
		n, id := 0, l.ready[i].id()
		for n < len(prefix) && n < len(id) && prefix[n] == id[n] {
			n++
		}
		prefix = prefix[:n]
	}
	all := make([]placed, len(l.ready))
	for i, s := range l.ready {
		all[i] = placed{placeOf(s.id(), prefix), s}
	}
	slices.SortFunc(all, func(a, b placed) int {
		if a.at != b.at {
			return cmp.Compare(a.at, b.at)
		}
		return strings.Compare(a.s.id(), b.s.id())
	})
	for i := range all {
		l.ready[i] = all[i].s
	}
}

// placeOf is the same for two IDs or in their order, whatever the prefix is.
func placeOf(id, prefix string) uint64 {
	rest, ok := strings.CutPrefix(id, prefix)
	switch {
	case ok:
		var place [8]byte
		copy(place[:], rest)
		return binary.BigEndian.Uint64(place[:])
	case id < prefix:
		return 0
	}
	return math.MaxUint64
}

// hold notes that a change of age since is in the goroutine's hands.
func (l *lane[V]) hold(since int64) {
	if h := l.held.Load(); h == 0 || since < h {
		l.held.Store(since)
	}
}

// settled notes what the goroutine still has in its hands after a batch.
func (l *lane[V]) settled() {
	if len(l.back) > 0 {
		if l.limit == 1 && l.fails > outage {
			l.ready = append(l.ready, l.back...) // let others try, too
		} else {
			l.ready = append(l.back, l.ready...) // in the order in which they came
		}
		l.back = nil
	}
	if len(l.ready) > 0 || l.begun() {
		return // an upper bound will do
	}
	if began := l.began.Swap(0); began != 0 {
		l.longest.Store(max(l.longest.Load(), l.db.now()-began))
	}
	var oldest int64
	for _, r := range l.retry {
		if oldest == 0 || r.since < oldest {
			oldest = r.since
		}
	}
	l.held.Store(oldest)
	l.report()
	l.ready = nil
	if l.array != nil {
		l.spare, l.array = l.array[:0], nil
	}
}

// oldest returns the time of the oldest change of the lane that is not stored; 0 if there is none.
func (l *lane[V]) oldest() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.eldest()
}

// eldest is oldest. Caller holds mu.
func (l *lane[V]) eldest() int64 {
	t := l.since
	if h := l.held.Load(); h != 0 && (t == 0 || h < t) {
		t = h
	}
	return t
}

// again sends a session whose flush had no answer back to wait, alone or with
// the batch that it was in. Caller holds the session's mu, and has merged its flush back.
func (l *lane[V]) again(s *session[V], alone bool) {
	if alone {
		x := s.more()
		x.fails = min(x.fails+1, 60)
		x.due = l.db.now() + l.db.backoff(int(x.fails))
	}
	if s.has(queued) { // it changed meanwhile, and is in the queue, or was and is ready
		l.mu.Lock()
		if l.since == 0 || s.since < l.since {
			l.since = s.since
		}
		l.mu.Unlock()
		return
	}
	s.set(queued)
	s.turn = 0
	if !alone {
		l.back = append(l.back, s)
		return
	}
	l.retry = append(l.retry, delayed[V]{s, s.x.due, s.since})
}

// After so many sessions in a row that failed one by one it is the store, not they.
const outage = 3

// failed backs off after a batch of n sessions that had no answer. The next one is the first half
// of it, soon. So a session that spoils every batch that it is in is found by bisection, and from
// then on waits for its own time and travels alone, while the others go on. If the store is
// away, the halving ends at one session after a few attempts, and the waits grow from there.
func (l *lane[V]) failed(n int) {
	l.limit = max(n/2, 1)
	if n == 1 {
		l.fails++
	}
	l.pause = l.db.now() + l.db.backoff(l.fails)
}

func (l *lane[V]) succeeded() {
	l.limit = min(l.limit*2, l.db.opt.MaxBatch)
	l.fails = 0
	l.answers.Add(1)
}

// backoff returns the wait after the n-th failure in a row: exponential, with full
// jitter (Brooker, "Exponential Backoff and Jitter", 2015).
func (db *DB[V]) backoff(n int) int64 {
	ceil := db.opt.RetryMax
	if n < 32 && db.opt.RetryMin <= ceil>>n { // the other way round it may overflow
		ceil = db.opt.RetryMin << n
	}
	return db.world.Rand(int64(ceil)) + 1
}
