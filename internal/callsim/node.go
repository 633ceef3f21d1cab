package callsim

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/store"
)

// Node is the application: calls, kept in a kvstore.DB and fed with events over HTTP.
//
//	POST /calls/{id}/events[?sync=1]   feeds a call with an Event; with sync it is stored when answered
//	GET  /calls/{id}                   shows a call
//	GET  /stats                        NodeStats
//
// A call that is not here is adopted, or answered with its owner's address (307). Until it has been
// given a store, and after Close, a node answers 503.
type Node struct {
	// Shared says that other nodes serve from the same store at the same time: a new call is claimed from the store before it is
	// answered, so that it is never made twice; and each entry is marked with the tenure that wrote it (Part.By), so that
	// a late write of a former owner can be told from the owner's own. It is set before Open.
	Shared bool

	// Inside says that calls have what inside.go says. It is set before Open.
	Inside bool

	name string
	mux  *http.ServeMux
	on   atomic.Pointer[engine] // nil while there is no store
	why  atomic.Pointer[string] // why there is none
	up   chan struct{}          // closed when it gets one
}

// hold is how long a request waits for a node to get its store, before it is answered 503.
const hold = 100 * time.Millisecond

// engine is what a node has while it has a store.
type engine struct {
	shared  bool
	inside  bool
	charges charges
	lookups atomic.Int64 // calls that were asked for by their Call-ID
	logged  atomic.Int64 // events that were pushed to the logs
	name    string
	db      *kvstore.DB[Part]
	meter   *meter
	changed atomic.Int64 // entries that events changed

	mu         sync.Mutex
	adoptions  []time.Duration // how long each took
	longestLag time.Duration

	stop chan struct{}
	done chan struct{}
}

// NewNode returns a node that waits for a store.
func NewNode(name string) *Node {
	n := &Node{name: name, mux: http.NewServeMux(), up: make(chan struct{})}
	n.Waiting("it has not been given a store yet")
	n.mux.HandleFunc("POST /calls/{id}/events", n.postEvent)
	n.mux.HandleFunc("GET /calls/{id}", n.getCall)
	n.mux.HandleFunc("GET /stats", n.getStats)
	return n
}

// Waiting sets the reason that is given for not serving.
func (n *Node) Waiting(why string) { n.why.Store(&why) }

// Open opens a DB on st, and serves; it is called once. addr is where this node's HTTP server can be
// reached. The caller closes st, after Close.
func (n *Node) Open(ctx context.Context, st store.Store, addr string, o kvstore.Options) error {
	e := &engine{shared: n.Shared, inside: n.Inside, name: n.name, meter: &meter{Store: st, shared: n.Shared}, stop: make(chan struct{}), done: make(chan struct{})}
	o.Node, o.Addr = n.name, addr
	db, err := kvstore.Open[Part](ctx, e.meter, o)
	if err != nil {
		return err
	}
	e.db = db
	if n.Inside {
		if _, err := db.OnTimer(e.charges.ring); err != nil {
			return errors.Join(err, db.Close(ctx))
		}
	}
	go e.watchLag()
	n.on.Store(e)
	close(n.up)
	return nil
}

// engine returns what the node serves from; nil if it has no store.
func (n *Node) engine(ctx context.Context) *engine {
	if e := n.on.Load(); e != nil {
		return e
	}
	timer := time.NewTimer(hold)
	defer timer.Stop()
	select {
	case <-n.up:
	case <-timer.C:
	case <-ctx.Done():
	}
	return n.on.Load()
}

// Close stops serving and closes the DB: everything is stored, and other nodes may
// adopt at once.
func (n *Node) Close(ctx context.Context) error {
	n.Waiting("it is shut down")
	e := n.on.Swap(nil)
	if e == nil {
		return nil
	}
	close(e.stop)
	<-e.done
	return e.db.Close(ctx)
}

// ServeHTTP implements http.Handler.
func (n *Node) ServeHTTP(w http.ResponseWriter, r *http.Request) { n.mux.ServeHTTP(w, r) }

// watchLag keeps the longest lag. The DB reports the present one only.
func (e *engine) watchLag() {
	defer close(e.done)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-tick.C:
		}
		lag := e.db.Stats().Lag
		e.mu.Lock()
		e.longestLag = max(e.longestLag, lag)
		e.mu.Unlock()
	}
}

// find returns the session of a call: the resident one, or the one adopted now, and then
// also what it was like and how long that took.
func (e *engine) find(ctx context.Context, id string) (*kvstore.Session[Part], *Adoption, error) {
	if e.inside && isCallID(id) {
		e.lookups.Add(1)
		var err error
		if id, err = e.db.Lookup(ctx, id); err != nil {
			return nil, nil, err
		}
	}
	s, err := e.db.Session(ctx, id)
	if !errors.Is(err, kvstore.ErrNotResident) {
		return s, nil, err
	}
	start := time.Now()
	s, err = e.db.Adopt(ctx, id, parts...)
	took := time.Since(start)
	if err != nil {
		return nil, nil, err
	}
	e.mu.Lock()
	e.adoptions = append(e.adoptions, took)
	e.mu.Unlock()
	a := &Adoption{TookMS: millis(took)}
	if a.Entries, err = contents(ctx, s); err != nil {
		return nil, nil, err
	}
	a.N = a.Entries[Dialog].N
	return s, a, nil
}

// gapError is an event that is too early: those between are missing.
type gapError struct{ n uint64 }

func (gapError) Error() string { return "events before this one are missing" }

// feed applies an event to a call, and fills in the reply.
func (e *engine) feed(ctx context.Context, id string, ev Event, sync bool, re *Reply) error {
	s, adoption, err := e.find(ctx, id)
	if errors.Is(err, kvstore.ErrNotFound) && ev.Kind == Invite {
		if e.shared {
			s, err = e.db.AdoptOrCreate(ctx, id)
		} else {
			s, err = e.db.Create(ctx, id) // no round trip: the first flush stores it
		}
	}
	if err != nil {
		return err
	}
	if adoption != nil {
		re.Adopted, re.Epoch = adoption, s.Epoch()
	}
	by := ""
	if e.shared {
		by = tenureName(e.name, s.Epoch()) // a handle's tenure does not change
	}
	var tx transaction
	err = s.Update(ctx, func(t *kvstore.Tx[Part]) error {
		tx = transaction{Tx: t, by: by} // anew each time: the function may run more than once
		d, err := tx.get(Dialog)
		if err != nil {
			return err
		}
		ev := ev
		if ev.N == 0 {
			ev.N = d.N + 1
		}
		switch {
		case ev.N > d.N+1:
			return gapError{d.N}
		case ev.N <= d.N:
			tx.n, tx.over = d.N, d.State == ended
			return nil // it has happened: it was sent twice
		}
		tx.n, tx.over = ev.N, ev.Kind == Bye
		if e.inside {
			return ev.apply(&furnishing{&tx, id})
		}
		return ev.apply(&tx)
	})
	if err != nil {
		return err
	}
	e.changed.Add(tx.changed)
	e.logged.Add(tx.logged)
	if tx.over {
		// In two steps, so that a bye whose second step was cut off can be repeated.
		if err := e.db.Delete(ctx, id); err != nil {
			return err
		}
	}
	if sync {
		if err := s.Sync(ctx); err != nil {
			return err
		}
	}
	re.about(s, tx.n)
	return nil
}

// transaction is a kvstore.Tx as entries.
type transaction struct {
	*kvstore.Tx[Part]
	by      string
	changed int64
	logged  int64
	n       uint64 // the call's last event, after this one
	over    bool   // it is to be deleted
}

func (t *transaction) get(key string) (Part, error) {
	p, err := t.Get(key)
	if errors.Is(err, kvstore.ErrNotFound) {
		err = nil
	}
	return p, err
}

func (t *transaction) put(key string, p Part) error {
	t.changed++
	p.By = t.by
	return t.Put(key, p)
}

func (t *transaction) remove(key string) error { t.changed++; return t.Delete(key) }

// NodeStats is what GET /stats answers.
type NodeStats struct {
	Node    string        `json:"node"`
	Serving bool          `json:"serving"`
	Why     string        `json:"why,omitempty"` // not
	DB      kvstore.Stats `json:"db"`
	Changed int64         `json:"changed"` // entries that events changed

	LongestLagMS   float64 `json:"longest_lag_ms"`
	LongestFlushMS float64 `json:"longest_flush_ms"` // what is under way included
	Flushing       int     `json:"flushing"`         // calls to the store under way

	Refused int64 `json:"refused"` // changes that the store refused, as they were of a tenure that was over
	Lapses  int64 `json:"lapses"`  // how often the lease was over, by the store's word

	// Of nodes whose calls have timers and further names.
	LatestMS float64 `json:"latest_timer_ms"` // from the time of a timer to when it fired
	Early    int     `json:"early_timers"`    // timers that fired before their time
	Torn     int     `json:"torn_timers"`     // that found another number of charges than they were to
	Lookups  int64   `json:"lookups"`         // of calls by their Call-ID
	Logged   int64   `json:"logged"`          // events that were pushed to the logs

	Adoptions  int     `json:"adoptions"`
	AdoptP50MS float64 `json:"adopt_p50_ms"`
	AdoptP99MS float64 `json:"adopt_p99_ms"`
	AdoptMaxMS float64 `json:"adopt_max_ms"`
}

// Stats returns the node's numbers.
func (n *Node) Stats() NodeStats {
	e := n.on.Load()
	if e == nil {
		return NodeStats{Node: n.name, Why: *n.why.Load()}
	}
	st := NodeStats{
		Node: n.name, Serving: true, DB: e.db.Stats(), Changed: e.changed.Load(),
		Flushing: int(e.meter.running.Load()), Refused: e.meter.refused.Load(), Lapses: e.meter.lapses.Load(),
	}
	st.LongestFlushMS = millis(st.DB.LongestFlush)
	st.Lookups, st.Logged = e.lookups.Load(), e.logged.Load()
	e.charges.mu.Lock()
	st.LatestMS, st.Early, st.Torn = millis(e.charges.latest), e.charges.early, e.charges.torn
	e.charges.mu.Unlock()
	e.mu.Lock()
	st.LongestLagMS = millis(max(e.longestLag, st.DB.Lag))
	took := slices.Clone(e.adoptions)
	e.mu.Unlock()
	slices.Sort(took)
	st.Adoptions = len(took)
	st.AdoptP50MS, st.AdoptP99MS, st.AdoptMaxMS = rank(took, 50), rank(took, 99), rank(took, 100)
	return st
}

// rank returns the p-th percentile of sorted durations in milliseconds: the smallest that p % of them do not exceed.
func rank(sorted []time.Duration, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return millis(sorted[max((len(sorted)*p+99)/100, 1)-1])
}

// millis returns d in milliseconds, to the microsecond.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
