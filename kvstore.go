package kvstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/seed-6f1f505d/kvstore/internal/world"
	"github.com/seed-6f1f505d/kvstore/store"
)

// DB is the in-memory database of one process: a map of sessions, each owned by this
// node, and behind it a store. All methods may be called concurrently.
//
// Values are immutable once they are put. The DB hands out the value that was put, shares it
// with whoever reads, and encodes it later. Do not change what a value points to;
// put a new value. (Options.DetectMutation finds those who do.)
type DB[V any] struct {
	store store.Store
	opt   Options
	self  store.Owner
	log   *slog.Logger

	listeners listeners[V] // here nothing is written that a commit would have to wait for
	judges    judges[V]

	sessions index[V]      // the map
	names    names[V]      // and by aliases
	terms    *catalogue[V] // and by indexes; nil: none is declared
	stripes  [64]stripe[V]
	absent   *cell[V]     // stands for "known not to exist"
	size     func(*V) int // of a value in memory
	isNil    func(*V) bool
	exact    bool // size is the exact length of a string or []byte
	prefix   int  // bytes of the version before each stored value

	lanes     []*lane[V]
	budget    budget
	sieve     *sieve[V]  // nil without Options.MaxResident
	lifelines *lifelines // of the sessions that it evicted; an object of its own: the runtime holds it
	expirer   expirer[V]
	clock     clock[V]
	supported supported
	lease     lease
	hard      hardening
	notes     *notifier
	count     counters
	seq       atomic.Uint64 // of the last change handed to the store
	rangeless atomic.Bool   // the store turned out to read no ranges
	astray    atomic.Bool   // a claim had no answer: the store may have given us a session that is not here

	world    *world.World // nil but in a simulation
	start    time.Time    // now counts from here, monotonically
	slow     atomic.Bool
	closing  atomic.Bool  // no new changes
	draining atomic.Bool  // no new sessions
	sealed   atomic.Int32 // and if not 0, no reloads of evicted ones
	demand   atomic.Int64 // calls of the application that wait for the store to bring a session
	preloads preloads     // that are under way
	closed   closed

	ctx      context.Context // of all calls to the store that no caller waits for
	cancel   context.CancelFunc
	stopping chan struct{} // closed when closing is set

	tasks struct {
		mu   sync.Mutex
		over bool // no new tasks
		wg   sync.WaitGroup
	}
}

// Session is a handle on a session that this node owns. It may be used concurrently, and kept:
// after the session has been fenced, released or deleted its methods say so. Keys,
// the empty one included, may hold up to 1024 arbitrary bytes, but not begin with a zero byte; "/" separates levels.
type Session[V any] struct {
	db  *DB[V]
	cur atomic.Pointer[bond[V]]
}

// bond is what a handle is on: one life of a session in memory.
type bond[V any] struct {
	s    *session[V]
	life uint32
}

// Open opens a database on st. It takes part in the store's leases from now on, so it asks
// the store; ctx bounds only that. The caller closes st, after Close. Several DBs may use one
// st: each is a node of its own. An Options or a V that cannot be right is an error that matches ErrInvalid: a
// V, too, of which the codec Msgpack would lose something.
//
// With indexes, sessions are found by what is in their values: see Index. Their declarations hold for this DB: nodes that share a store should have the
// same ones. An error that wraps errors.ErrUnsupported says that st cannot keep any.
func Open[V any](ctx context.Context, st store.Store, o Options, indexes ...Index[V]) (*DB[V], error) {
	t := reflect.TypeFor[V]()
	o, err := o.resolve(t, st)
	if err != nil {
		return nil, err
	}
	if ctx == nil {
		return nil, errNilContext
	}
	if st == nil {
		return nil, fmt.Errorf("%w: the store is nil", ErrInvalid)
	}
	db := &DB[V]{
		store: st, opt: o,
		self:     store.Owner{Node: o.Node, Incarnation: store.NewIncarnation()},
		absent:   new(cell[V]),
		size:     sizerOf[V](),
		isNil:    nilTest[V](t),
		exact:    t.Kind() == reflect.String || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8,
		prefix:   len(appendVersion(nil, o.Schema)),
		world:    world.From(ctx),
		start:    time.Now(),
		stopping: make(chan struct{}),
	}
	db.world.Bytes(db.self.Incarnation[:])
	db.hard.store, _ = st.(store.Barrier)
	if db.self.Node == "" {
		db.self.Node = "node-" + db.self.Incarnation.String()[:8]
	}
	db.sessions.init()
	db.closed.done = make(chan struct{})
	db.lease.quit, db.lease.idle = make(chan struct{}), make(chan struct{})
	db.log = o.Logger.With("node", db.self.Node)
	db.budget.max = o.MaxBuffer
	db.expirer.wake, db.clock.wake = make(chan struct{}, 1), make(chan struct{}, 1)
	db.slow.Store(o.Strict)
	for i := range db.stripes {
		db.stripes[i].calls = make(map[string]*call[V])
	}
	if o.MaxResident > 0 {
		db.sieve, db.lifelines = &sieve[V]{max: o.MaxResident}, new(lifelines)
	}
	if db.terms, err = newCatalogue(indexes); err != nil {
		return nil, err
	}
	if db.terms != nil {
		if err := db.keepsMarks(ctx, "indexes"); err != nil {
			return nil, err
		}
	}
	if err := db.join(ctx); err != nil {
		return nil, err
	}

	db.ctx, db.cancel = context.WithCancel(context.Background())
	db.notes = newNotifier(func(v any) {
		db.count.hookPanics.Add(1)
		db.log.Error("kvstore: a hook panicked", "panic", v)
	})
	for range o.Flushers {
		l := &lane[V]{db: db, wake: make(chan struct{}, 1), limit: o.MaxBatch, turn: 1}
		db.lanes = append(db.lanes, l)
		db.closed.lanes.Go(func() { l.run(db.ctx) })
	}
	db.spawn(func(context.Context) { db.expire() })
	db.spawn(db.keepAlive)
	return db, nil
}

// spawn runs f on a goroutine that Close ends, by ctx, and joins. It reports false after Close.
func (db *DB[V]) spawn(f func(ctx context.Context)) bool {
	db.tasks.mu.Lock()
	defer db.tasks.mu.Unlock()
	if db.tasks.over {
		return false
	}
	db.tasks.wg.Go(func() { f(db.ctx) })
	return true
}

// now returns the nanoseconds since Open, by the monotonic clock; never 0.
func (db *DB[V]) now() int64 { return int64(db.world.Since(db.start)) + 1 }

func (db *DB[V]) stripe(id string) *stripe[V] {
	return &db.stripes[xxhash.Sum64String(id)>>32%uint64(len(db.stripes))]
}

// Get returns the main entry of a session that this node owns. If the session is resident
// and so is the entry, it takes no lock and does no I/O.
//
//   - ErrNotResident: the node does not own it, so far; Adopt asks the store.
//   - ErrNotFound: it does, and there is no main entry, or the session was deleted here or has expired.
//   - ErrSuspended, ErrClosed, or an error of the store, if it had to be asked.
func (db *DB[V]) Get(ctx context.Context, id string) (V, error) {
	// This is index.front, with as few calls and branches as there can be. The caches have little of a million sessions, so that most of the
	// time is waiting for memory; and what the processor can do meanwhile is to begin with the next lookup, if that is not too far off.
	hash := db.sessions.hash(id)
	f := db.sessions.home(hash).guess(hash)
	if f == nil || !f.is(id) {
		f = db.sessions.search(hash, id)
	}
	if f != nil && !db.slow.Load() {
		if c := db.glance(f); c != nil {
			if db.sieve != nil {
				f.visit()
			}
			return c.val, nil
		}
	}
	return db.get(ctx, id)
}

// glance returns the main entry's version if nothing needs to be looked at but itself; else nil.
func (db *DB[V]) glance(f *front[V]) *cell[V] {
	c := f.main.cell.Load()
	if c == nil || c == db.absent || c.expires != 0 || f.expires.Load() != 0 {
		return nil
	}
	return c
}

func (db *DB[V]) get(ctx context.Context, id string) (v V, err error) {
	for {
		s, err := db.resident(ctx, id)
		if err != nil {
			return v, err
		}
		c, err := db.read(ctx, s, anyLife, "")
		if db.retry(s, err) {
			continue
		}
		if err != nil {
			return v, err
		}
		return c.val, nil
	}
}

// resident returns the session if this node owns it, asking the store only where it may have been evicted.
func (db *DB[V]) resident(ctx context.Context, id string) (*session[V], error) {
	if db.closing.Load() {
		return nil, ErrClosed
	}
	if s := db.sessions.load(id); s != nil {
		return s, nil
	}
	if db.sieve == nil {
		if err := checkID(id); err != nil {
			return nil, err
		}
		return nil, sessionError(id, ErrNotResident)
	}
	return db.want(ctx, id, reload, nil)
}

// retry reports whether an operation of the DB on s must look the session up again, because it left
// before anything was done.
func (db *DB[V]) retry(s *session[V], err error) bool {
	if err == nil {
		return false
	}
	if err == errVacant {
		db.vacate(s)
		return true
	}
	if !s.dead() {
		return false
	}
	var made *unstoredError // after the first check: it costs an allocation
	if errors.As(err, &made) {
		return false
	}
	db.out(s)
	return true
}

// read returns an entry's cell, or ErrNotFound. It serves if serving is allowed.
func (db *DB[V]) read(ctx context.Context, s *session[V], life uint32, key string) (*cell[V], error) {
	if err := db.serve(ctx, s); err != nil {
		return nil, err
	}
	c, err := db.fetch(ctx, s, life, key, nil)
	if err != nil {
		return nil, err
	}
	if db.sieve != nil {
		s.visit()
	}
	if c == db.absent || c.expires.Past(time.Now()) {
		return nil, keyError(s.id(), key, ErrNotFound)
	}
	return c, nil
}

// Put sets the main entry of a session: in memory at once, in the store within
// Options.MaxDelay. A session that is not resident is adopted, or created if there is
// none, for which the store is asked once. It waits while the buffer is full, if
// Options.Overflow says so.
//
//   - ErrOwned: the session lives on another node.
//   - ErrFull, or the context's error: there was no room. ErrTooLarge, ErrInvalid: bad v or id.
func (db *DB[V]) Put(ctx context.Context, id string, v V) error {
	c, err := db.newCell(id, "", v, time.Time{})
	if err != nil {
		return err
	}
	for {
		s := db.sessions.load(id)
		if s == nil {
			if s, err = db.want(ctx, id, adoptOrCreate, nil); err != nil {
				return err
			}
		}
		w := [1]write[V]{{cell: c}}
		err := db.commit(ctx, s, &change[V]{writes: w[:], revive: true})
		if !db.retry(s, err) {
			return err
		}
	}
}

// Delete deletes a session, all its entries with it. What remains in the store is its last epoch. A
// session that is not resident is adopted first. To delete what does not exist is no error.
func (db *DB[V]) Delete(ctx context.Context, id string) error {
	for {
		s, err := db.want(ctx, id, adopt, nil)
		if err == nil {
			err = db.commit(ctx, s, &change[V]{del: true})
			if db.retry(s, err) {
				continue
			}
		}
		if errors.Is(err, ErrNotFound) && !errors.Is(err, ErrRefused) {
			return nil
		}
		return err
	}
}

// Create makes a new session, without asking the store: its first flush does that. If another
// node was first, the session leaves memory again and Hooks.Lost gets what was put into it. Where that
// matters use AdoptOrCreate. A flush may come between Create and the first change: be ready to
// adopt a session without entries. It waits while the buffer is full, like Put.
//
//   - ErrExists: this node owns the session, or is adopting it at this moment.
func (db *DB[V]) Create(ctx context.Context, id string) (*Session[V], error) {
	if err := db.inTime(); err != nil {
		return nil, err
	}
	s, err := db.create(ctx, id)
	return db.handle(s, err)
}

// Adopt makes this node the owner of a stored session that no living node owns, and returns it. Its
// entries are loaded when they are touched; those of the named keys, and the main
// entry, come in the same round trip. If the session is resident, no I/O is done.
//
//   - ErrNotFound: there is no such session.
//   - *OwnedError: its owner is alive; send the event there.
//   - *store.CorruptError: its header is damaged. Asking again does not help.
//   - ErrReleased: this node is just handing it over. ErrDraining, ErrSuspended, ErrClosed: it takes nothing in.
//   - ErrInvalid, ErrTooLarge: a bad ID or key.
//   - Any other error: the store did not answer. Ask again.
//
// Of any number of nodes that adopt a session at once, one succeeds. A context that is over matters only where the call would
// have to wait: what is resident is returned.
func (db *DB[V]) Adopt(ctx context.Context, id string, keys ...string) (*Session[V], error) {
	return db.take(ctx, id, adopt, keys)
}

// AdoptOrCreate is Adopt, and creates the session in the same round trip if there is none. A new
// session is stored when it returns, and has no entries.
func (db *DB[V]) AdoptOrCreate(ctx context.Context, id string, keys ...string) (*Session[V], error) {
	return db.take(ctx, id, adoptOrCreate, keys)
}

// Steal is Adopt, and takes the session from an owner that is alive, too. It asks the store even if the session
// is resident. The store refuses whatever that owner has not stored yet; its Hooks.Lost gets it.
func (db *DB[V]) Steal(ctx context.Context, id string, keys ...string) (*Session[V], error) {
	return db.take(ctx, id, steal, keys)
}

func (db *DB[V]) take(ctx context.Context, id string, how how, keys []string) (*Session[V], error) {
	if err := db.inTime(); err != nil {
		return nil, err
	}
	for {
		s, err := db.want(ctx, id, how, keys)
		if err == nil && !s.hold() {
			db.out(s)
			continue
		}
		return db.handle(s, err)
	}
}

// handle returns a handle on a session that was told by hold.
func (db *DB[V]) handle(s *session[V], err error) (*Session[V], error) {
	if err != nil {
		return nil, err
	}
	h := &Session[V]{db: db}
	h.cur.Store(&bond[V]{s, s.life()})
	return h, nil
}

// Session returns a handle on a session that this node owns, as Get finds it.
func (db *DB[V]) Session(ctx context.Context, id string) (*Session[V], error) {
	for {
		s, err := db.resident(ctx, id)
		if err == nil && !s.hold() {
			db.out(s)
			continue
		}
		if err == nil {
			if err = db.serve(ctx, s); err == nil {
				s.mu.Lock()
				err = s.usable(anyLife)
				s.mu.Unlock()
			}
			if db.retry(s, err) {
				continue
			}
		}
		return db.handle(s, err)
	}
}
