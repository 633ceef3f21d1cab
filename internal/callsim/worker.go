package callsim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// burst is the largest number of events that a call gets one after the other.
const burst = 12

// setup is the number of events that set a call up.
const setup = 3

// pause is how long a worker waits before it asks again.
const pause = 5 * time.Millisecond

// hops bounds how often an event is redirected.
const hops = 8

// errStopped ends a worker.
var errStopped = errors.New("callsim: stopped")

// worker sends the events of its calls.
type worker struct {
	d     *Driver
	rng   *rand.Rand
	calls []*record // in an order of its own
	next  int       // the next call to set up
	over  []bool    // has told that it has taken over what a dead node had
}

func (w *worker) run(ctx context.Context) error {
	for !w.d.stopping.Load() {
		if err := w.takeOver(ctx); err != nil {
			return err
		}
		var r *record
		n := 2 + w.rng.IntN(burst-1)
		if w.next < len(w.calls) { // first, each call is set up
			r, n = w.calls[w.next], setup
		} else if r = w.pick(); r == nil {
			time.Sleep(pause) // all are over
		}
		for ; n > 0 && r != nil && !r.over && !w.still(r) && !w.d.stopping.Load(); n-- {
			if err := w.event(ctx, r); err != nil {
				return err
			}
		}
		if w.next < len(w.calls) {
			if w.next++; w.next == len(w.calls) {
				w.d.begun.Done()
			}
		}
	}
	return nil
}

// still reports whether a call gets no events now.
func (w *worker) still(r *record) bool { return r.i%2 == 0 && w.d.still.Load() }

// pick returns a call that is not over, and may get an event; nil if there is none.
func (w *worker) pick() *record {
	start := w.rng.IntN(len(w.calls))
	for k := range w.calls {
		if r := w.calls[(start+k)%len(w.calls)]; !r.over && !w.still(r) {
			return r
		}
	}
	return nil
}

// takeOver sees to the calls of nodes that died: each is looked at, or gets its next event. Calls that
// are over are looked at too: they must not be back.
func (w *worker) takeOver(ctx context.Context) error {
	for i := range w.d.peers {
		if w.over[i] || !w.d.peers[i].dead.Load() {
			continue
		}
		for k := range w.calls {
			r := w.calls[k]
			if r.node != i {
				continue
			}
			var err error
			if r.over || k%2 == 0 || w.still(r) {
				err = w.look(ctx, r)
			} else {
				err = w.event(ctx, r)
			}
			if err != nil {
				return err
			}
		}
		w.over[i] = true
		w.d.peers[i].pending.Done()
	}
	return nil
}

// event sends a call's next event until it is known what became of it.
func (w *worker) event(ctx context.Context, r *record) error {
	ev := w.d.Model.Event(r.i, r.acked+1)
	sync := w.d.Model.Synced(r.i, ev.N)
	if w.d.byCall.Load() {
		sync = w.d.Model.Always(r.i)
	}
	r.begin(ev.N)
	stray := w.d.Stray > 0 && ev.N > 1 && !w.d.straight.Load() && w.rng.IntN(1000) < w.d.Stray
	return w.ask(ctx, r, stray, func(ctx context.Context, addr string) (bool, int, Reply, error) {
		sent := w.d.Ledger.now()
		status, re, err := w.d.Client.Feed(ctx, addr, r.id, ev, sync)
		if err == nil && status == http.StatusOK && re.N >= ev.N {
			w.settle(r, &re, addr, min(re.N, ev.N-1), true) // what was there before it
			r.begin(ev.N)
			w.d.Ledger.ack(r, ev, sync)
			w.d.events.Add(1)
			if sync {
				w.d.synced.Add(1)
				if int64(sent) > w.d.marked.Load() {
					w.d.answered.CompareAndSwap(0, int64(w.d.Ledger.now()))
				}
			}
			return true, status, re, nil
		}
		return false, status, re, err
	})
}

// look asks for a call.
func (w *worker) look(ctx context.Context, r *record) error {
	return w.ask(ctx, r, false, func(ctx context.Context, addr string) (bool, int, Reply, error) {
		status, re, err := w.d.Client.Call(ctx, addr, w.d.Model.asked(r))
		if err == nil && status == http.StatusOK {
			w.settle(r, &re, addr, re.N, true)
			return true, status, re, nil
		}
		return false, status, re, err
	})
}

// ask sends a request to one node after the other until it is answered, first to a wrong one if it is a stray.
func (w *worker) ask(ctx context.Context, r *record, stray bool, send func(ctx context.Context, addr string) (bool, int, Reply, error)) error {
	d := w.d
	at := d.alive(r.node, r)
	if stray = stray && at == r.node; stray {
		if at = d.other(at, w.rng.IntN(len(d.Nodes))); at != r.node {
			d.strayed.Add(1)
		}
	}
	redirects := 0
	for {
		done, status, re, err := send(d.peers[at].reach.Load().ctx, d.Nodes[at])
		switch {
		case done:
			r.node = at
			return nil
		case err != nil && ctx.Err() != nil:
			return errStopped
		case err != nil:
			// It is dead: go on, at another one if there is one.
			if err := rest(ctx); err != nil {
				return err
			}
			at, redirects = d.alive(at+1, r), 0
		case status == http.StatusServiceUnavailable:
			// It is not ready. Another one need not be asked, unless the call's own is dead.
			if err := rest(ctx); err != nil {
				return err
			}
			at, redirects = d.alive(r.node, r), 0
		case status == http.StatusNotFound && stray:
			at, stray = d.alive(r.node, r), false // the wrong one to ask
		case status == http.StatusNotFound:
			w.settle(r, &re, d.Nodes[at], 0, false)
			r.node = at
			return nil
		case status == http.StatusConflict: // it went back
			w.settle(r, &re, d.Nodes[at], re.N, true)
			r.node = at
			return nil
		case status == http.StatusTemporaryRedirect && redirects < hops:
			redirects++
			owner := d.index(re.Owner)
			if owner < 0 {
				return fmt.Errorf("node %s sends call %s to %q, which is none of the nodes", re.Node, r.id, re.Owner)
			}
			if !d.peers[owner].dead.Load() {
				d.redirected.Add(1)
				at, stray = owner, false
				continue
			}
			// Its lease runs on, although it is dead.
			if err := rest(ctx); err != nil {
				return err
			}
			redirects = 0
		default:
			return fmt.Errorf("node %s answered %d for call %s: %s", re.Node, status, r.id, re.Error)
		}
	}
}

// settle judges how far a call had come, if it may have changed hands.
func (w *worker) settle(r *record, re *Reply, addr string, n uint64, found bool) {
	d, l := w.d, w.d.Ledger
	died := lives
	p := &d.peers[r.node]
	if t := p.died.Load(); t > 0 {
		died = time.Duration(t)
	} else if d.index(addr) != r.node {
		died = adopted // if not for this request, then for one whose answer was lost, or for a timer
	}
	entries := re.Entries
	if a := re.Adopted; a != nil {
		d.adopted.Add(1)
		n, found = a.N, true
		if entries == nil {
			entries = a.Entries
		}
		if died >= 0 {
			p.first.CompareAndSwap(0, int64(l.now()))
		}
	}
	if found && re.Epoch > 0 {
		from := re.N
		if re.Adopted != nil {
			from = re.Adopted.N
		}
		r.reign(tenureName(re.Node, re.Epoch), from)
	}
	if found && (entries != nil || re.Adopted != nil) {
		l.inspect(r, entries, "at node "+re.Node)
	}
	l.takeover(r, n, found, died)
	if re.Adopted != nil {
		r.sent = n // nothing that was sent to former owners can come any more
		r.struck = r.struck || died >= 0 && p.suspended.Load()
	}
}

// rest waits for a moment.
func rest(ctx context.Context) error {
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return errStopped
	}
}
