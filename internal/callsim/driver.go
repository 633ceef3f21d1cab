package callsim

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Driver is the network: workers that send the events of calls to the nodes, one call's events one
// after the other, as fast as they are answered. Each call belongs to one worker.
//
// A call's events come in bursts, as they do when it is set up or torn down. They go to the
// node that answered last; if that one is dead, stands still, or cannot be reached, to another; and to
// its owner, if a node says who that is. Some go astray first, if that is asked for.
type Driver struct {
	Model   Model
	Ledger  *Ledger
	Client  *Client
	Nodes   []string // addresses
	Workers int
	Home    func(call int) int // the node that a call begins at; nil is the first
	Stray   int                // of 1000 events, how many are sent to a wrong node on purpose, which is to say who is right

	peers    []peer
	begun    sync.WaitGroup // workers that have calls to set up
	stopping atomic.Bool
	byCall   atomic.Bool
	straight atomic.Bool     // nothing is sent to a wrong node
	still    atomic.Bool     // see Still
	ctx      context.Context // of the workers
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	once     sync.Once
	err      error         // the first
	failed   chan struct{} // closed when err is set

	events, synced, adopted, strayed, redirected atomic.Int64

	marked, answered atomic.Int64 // ledger time; see Mark
}

// peer is what the network knows of a node.
type peer struct {
	died    atomic.Int64 // ledger time; 0 if it lives
	dead    atomic.Bool  // send it nothing more
	fell    atomic.Int64 // when it died or was suspended last
	first   atomic.Int64 // when a call was first taken over from it
	pending sync.WaitGroup

	suspended atomic.Bool // it was, once

	// Requests to it run under this, which ends when it is suspended: nobody waits for what stands still.
	reach atomic.Pointer[reach]
}

type reach struct {
	ctx context.Context
	cut context.CancelFunc
}

func newReach(ctx context.Context) *reach {
	ctx, cut := context.WithCancel(ctx)
	return &reach{ctx, cut}
}

// Start starts the workers. They run until Stop, or until one meets what it cannot go on with.
func (d *Driver) Start(ctx context.Context) {
	d.Workers = max(1, min(d.Workers, len(d.Ledger.calls)))
	d.peers = make([]peer, len(d.Nodes))
	ctx, d.cancel = context.WithCancel(ctx)
	for i := range d.peers {
		d.peers[i].pending.Add(d.Workers)
		d.peers[i].reach.Store(newReach(ctx))
	}
	if d.Home != nil {
		for i := range d.Ledger.calls {
			d.Ledger.calls[i].node = d.Home(i)
		}
	}
	d.ctx = ctx
	d.failed = make(chan struct{})
	d.begun.Add(d.Workers)
	for i := range d.Workers {
		w := &worker{d: d, rng: rand.New(rand.NewPCG(d.Model.Seed, uint64(i))), over: make([]bool, len(d.Nodes))}
		for k := i; k < len(d.Ledger.calls); k += d.Workers {
			w.calls = append(w.calls, &d.Ledger.calls[k])
		}
		w.rng.Shuffle(len(w.calls), func(i, j int) { w.calls[i], w.calls[j] = w.calls[j], w.calls[i] })
		d.wg.Go(func() {
			if err := w.run(ctx); err != nil && !errors.Is(err, errStopped) {
				d.once.Do(func() { d.err = err; close(d.failed) })
				d.cancel()
			}
			if w.next < len(w.calls) {
				d.begun.Done()
			}
			for i := range d.peers {
				if !w.over[i] {
					d.peers[i].pending.Done()
				}
			}
		})
	}
}

// Stop has the workers end when their events are answered, and returns the first error of any.
func (d *Driver) Stop() error {
	d.stopping.Store(true)
	d.wg.Wait()
	d.cancel()
	return d.err
}

// Abort ends the workers at once, whatever they are waiting for, and returns the first error of any.
func (d *Driver) Abort() error {
	d.cancel()
	return d.Stop()
}

// Failed is closed when a worker could not go on. Stop tells why.
func (d *Driver) Failed() <-chan struct{} { return d.failed }

// SyncByCall says which events wait until they are stored, from the next one on: all of a share of the calls,
// which the model picks, and none of the others; or, as at first, a share of every call's.
//
// What only waits for its time shows in the others, after a while; and up to the last
// moment there are calls that were synced in it.
func (d *Driver) SyncByCall(on bool) { d.byCall.Store(on) }

// Kill has kill end node i, and says from then on that it is dead. It returns when that was.
func (d *Driver) Kill(i int, kill func() error) (time.Time, error) {
	now, p := time.Now(), &d.peers[i]
	at := int64(now.Sub(d.Ledger.start))
	p.fell.Store(at)
	p.died.Store(at)
	err := kill()
	p.dead.Store(true)
	return now, err
}

// Suspend has stop make node i stand still, with all that it has in memory: for the others that is a death, and so it is
// for the ledger. Requests under way are given up. It returns when that was. A node is suspended once.
func (d *Driver) Suspend(i int, stop func() error) (time.Time, error) {
	d.peers[i].suspended.Store(true)
	at, err := d.Kill(i, stop)
	d.peers[i].reach.Load().cut()
	return at, err
}

// Resume says that node i, which was suspended, is back. That is to be said when its calls were taken over, and
// CheckLate has been called.
func (d *Driver) Resume(i int) {
	p := &d.peers[i]
	p.reach.Store(newReach(d.ctx))
	p.died.Store(0)
	p.dead.Store(false)
}

// Still leaves every other call alone from now on, but for looking who has it when its node dies: what is stored of them is what
// their owners found, and nobody's next write covers what a late one did. See CheckLate.
func (d *Driver) Still(on bool) { d.still.Store(on) }

// Straight has every event go where its call is thought to be, Stray or not.
func (d *Driver) Straight(on bool) { d.straight.Store(on) }

// Mark begins a measurement: see SinceMark.
func (d *Driver) Mark() {
	d.answered.Store(0)
	d.marked.Store(int64(d.Ledger.now()))
}

// SinceMark returns how long after Mark the first event was answered that was sent after it and waited for the store; 0 if none was yet.
func (d *Driver) SinceMark() time.Duration {
	if at := d.answered.Load(); at > 0 {
		return time.Duration(at - d.marked.Load())
	}
	return 0
}

// Begun returns a channel that is closed when every call has been set up, or no worker is left to do it.
func (d *Driver) Begun() <-chan struct{} { return passed(&d.begun) }

// TakenOver returns a channel that is closed when every call of the dead node i has been looked for
// elsewhere, or no worker is left to look.
func (d *Driver) TakenOver(i int) <-chan struct{} { return passed(&d.peers[i].pending) }

// passed returns a channel that is closed when wg's count is 0, as it is at the latest when all workers have ended.
func passed(wg *sync.WaitGroup) <-chan struct{} {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	return done
}

// FirstTakeover returns how long after its death a call of node i was first taken over.
func (d *Driver) FirstTakeover(i int) time.Duration {
	first := d.peers[i].first.Load()
	if first == 0 {
		return 0
	}
	return time.Duration(first - d.peers[i].fell.Load())
}

// Progress is how far a Driver has come.
type Progress struct {
	Events  int // answered
	Synced  int // of them, those answered after they were stored
	Adopted int // calls that were adopted for an event, or to be looked at

	Strayed    int // events that were sent to a wrong node on purpose
	Redirected int // answers that named another node, which lives, as the owner
}

// Progress returns how far the driver has come.
func (d *Driver) Progress() Progress {
	return Progress{
		Events: int(d.events.Load()), Synced: int(d.synced.Load()), Adopted: int(d.adopted.Load()),
		Strayed: int(d.strayed.Load()), Redirected: int(d.redirected.Load()),
	}
}

// alive returns node i, if it is not known to be dead, else one that is not: which of them depends on the call, so that they share a
// dead node's. It returns i if all are.
func (d *Driver) alive(i int, r *record) int {
	n := len(d.Nodes)
	if i %= n; n == 1 || !d.peers[i].dead.Load() {
		return i
	}
	for k := range n - 1 {
		if j := (i + 1 + (r.i/n+k)%(n-1)) % n; !d.peers[j].dead.Load() {
			return j
		}
	}
	return i
}

// other returns a node that is not known to be dead, and is not i; i if there is none.
func (d *Driver) other(i, draw int) int {
	n := len(d.Nodes)
	for k := range n - 1 {
		if j := (i + 1 + (draw+k)%(n-1)) % n; !d.peers[j].dead.Load() {
			return j
		}
	}
	return i
}

func (d *Driver) index(addr string) int {
	for i, a := range d.Nodes {
		if a == addr {
			return i
		}
	}
	return -1
}
