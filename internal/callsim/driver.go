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
// node that answered last; if that one is dead, or cannot be reached, to another; and to
// its owner, if a node says who that is.
type Driver struct {
	Model   Model
	Ledger  *Ledger
	Client  *Client
	Nodes   []string // addresses
	Workers int
	Home    func(call int) int // the node that a call begins at; nil is the first

	peers    []peer
	begun    sync.WaitGroup // workers that have calls to set up
	stopping atomic.Bool
	byCall   atomic.Bool
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	once     sync.Once
	err      error         // the first
	failed   chan struct{} // closed when err is set

	events, synced, adopted atomic.Int64
}

// peer is what the network knows of a node.
type peer struct {
	died    atomic.Int64 // ledger time; 0 if it lives
	dead    atomic.Bool  // send it nothing more
	first   atomic.Int64 // when a call was first taken over from it
	pending sync.WaitGroup
}

// Start starts the workers. They run until Stop, or until one meets what it cannot go on with.
func (d *Driver) Start(ctx context.Context) {
	d.Workers = max(1, min(d.Workers, len(d.Ledger.calls)))
	d.peers = make([]peer, len(d.Nodes))
	for i := range d.peers {
		d.peers[i].pending.Add(d.Workers)
	}
	if d.Home != nil {
		for i := range d.Ledger.calls {
			d.Ledger.calls[i].node = d.Home(i)
		}
	}
	d.failed = make(chan struct{})
	d.begun.Add(d.Workers)
	ctx, d.cancel = context.WithCancel(ctx)
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
	now := time.Now()
	d.peers[i].died.Store(int64(now.Sub(d.Ledger.start)))
	err := kill()
	d.peers[i].dead.Store(true)
	return now, err
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
	return time.Duration(first - d.peers[i].died.Load())
}

// Progress is how far a Driver has come.
type Progress struct {
	Events  int // answered
	Synced  int // of them, those answered after they were stored
	Adopted int // calls that were adopted for an event, or to be looked at
}

// Progress returns how far the driver has come.
func (d *Driver) Progress() Progress {
	return Progress{int(d.events.Load()), int(d.synced.Load()), int(d.adopted.Load())}
}

// alive returns the first node from i on that is not known to be dead; i if all are.
func (d *Driver) alive(i int) int {
	for k := range d.Nodes {
		if j := (i + k) % len(d.Nodes); !d.peers[j].dead.Load() {
			return j
		}
	}
	return i % len(d.Nodes)
}

func (d *Driver) index(addr string) int {
	for i, a := range d.Nodes {
		if a == addr {
			return i
		}
	}
	return -1
}
