package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/seed-6f1f505d/kvstore"
	"github.com/seed-6f1f505d/kvstore/internal/world"
	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
)

// cluster is a plan as it happens.
type cluster struct {
	plan    Plan
	truth   *truth
	nodes   []*node
	starts  []int
	travels sync.WaitGroup // calls on their way
	asked   sync.WaitGroup // requests of clients
	count   counters

	mu            sync.Mutex
	byIncarnation map[store.Incarnation]*node
	tenures       map[tenureKey]*tenure
	grants        map[string][]grant
	violation     *Violation
	step          int
	values        int
	story         *strings.Builder // nil: nobody wants to read it
	begun         time.Time
}

type counters struct {
	steps, requests, sentOn, handOffs, fenced             atomic.Int64
	lost, unheard, doubled, late, kills, pauses, lostTold atomic.Int64
	commits, touches                                      atomic.Int64
}

// Counts is how much happened, summed over plans.
type Counts struct {
	Plans, Steps, Requests, SentOn, HandOffs, Fenced, Faults, Kills, Reported, Commits, Touches int64

	dbs []weak.Pointer[kvstore.DB[string]]
}

// Left returns how many DBs were closed and are not garbage.
func (a *Counts) Left() (n int) {
	runtime.GC()
	for _, p := range a.dbs {
		if p.Value() != nil {
			n++
		}
	}
	a.dbs = nil
	return n
}

func (a *Counts) add(c *counters, nodes map[store.Incarnation]*node) {
	for _, n := range nodes {
		a.dbs = append(a.dbs, weak.Make(n.db))
	}
	a.Plans++
	a.Steps += c.steps.Load()
	a.Requests += c.requests.Load()
	a.SentOn += c.sentOn.Load()
	a.HandOffs += c.handOffs.Load()
	a.Fenced += c.fenced.Load()
	a.Faults += c.lost.Load() + c.unheard.Load() + c.doubled.Load() + c.late.Load() + c.pauses.Load()
	a.Kills += c.kills.Load()
	a.Reported += c.lostTold.Load()
	a.Commits += c.commits.Load()
	a.Touches += c.touches.Load()
}

func (a Counts) String() string {
	return fmt.Sprintf("%d histories, %d steps, %d requests, %d of them sent on, %d hand-offs, %d late writes fenced, %d faults, %d kills, %d losses reported, %d commits told, %d touches",
		a.Plans, a.Steps, a.Requests, a.SentOn, a.HandOffs, a.Fenced, a.Faults, a.Kills, a.Reported, a.Commits, a.Touches)
}

// node is one process: from its start until it is closed or killed. The next one of the same name is another.
type node struct {
	c     *cluster
	i     int
	name  string
	inc   store.Incarnation
	line  *line
	db    *kvstore.DB[string]
	desks map[string]*desk // by session; under cluster.mu

	gone    bool // closing, closed or killed: nobody asks it any more
	ended   bool // there is no such process any more
	killed  bool
	drained bool // Drain was called
	lapsed  bool // the store's clock was wrong about its lease

	ahead atomic.Int64 // of its clock
	drift float64

	rndMu sync.Mutex
	rnd   *rand.Rand

	// What Hooks.Lost was given, and how often; under cluster.mu.
	ear   *ear
	told  map[string]int // session/key=value
	wiped map[string]int // deletions: session/key, or session
}

func (c *cluster) logf(format string, args ...any) {
	if c.story != nil {
		fmt.Fprintf(c.story, "%12v  %s\n", time.Since(c.begun), fmt.Sprintf(format, args...))
	}
}

// log is logf for who does not hold mu.
func (c *cluster) log(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logf(format, args...)
}

func (c *cluster) fail(k checker, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(k, format, args...)
}

// failLocked is fail for who holds mu. The first violation counts.
func (c *cluster) failLocked(k checker, format string, args ...any) {
	if c.violation == nil {
		c.violation = &Violation{string(k), fmt.Sprintf(format, args...), c.step}
		c.logf("BROKEN: %s: %s", k, c.violation.What)
	}
}

func (c *cluster) failed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.violation != nil
}

// Run lets a plan happen, in virtual time, and returns the first violation; nil if there was none. If story is not
// nil, it is told what happened. counts may be nil.
func Run(t *testing.T, p Plan, story *strings.Builder, counts *Counts) (v *Violation) {
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if why := recover(); why != nil {
				fmt.Fprintf(os.Stderr, "seed %d, %d steps: panic\n", p.Seed, len(p.Steps))
				panic(why)
			}
		}()
		c := &cluster{plan: p, byIncarnation: map[store.Incarnation]*node{}, tenures: map[tenureKey]*tenure{}, grants: map[string][]grant{},
			story: story, begun: time.Now()}
		c.truth = &truth{c: c, st: memory.New()}
		c.nodes, c.starts = make([]*node, p.Setup.Nodes), make([]int, p.Setup.Nodes)
		for i := range c.nodes {
			c.start(i)
		}
		for i, s := range p.Steps {
			time.Sleep(s.After)
			synctest.Wait()
			c.mu.Lock()
			c.step = i + 1
			c.logf("%4d  %v", i+1, s)
			c.mu.Unlock()
			c.do(s)
			synctest.Wait()
			c.check()
			c.count.steps.Add(1)
			if c.failed() {
				break
			}
		}
		c.end()
		v = c.violation
		if counts != nil {
			counts.add(&c.count, c.byIncarnation)
		}
	})
	return v
}

// start starts the process of a node.
func (c *cluster) start(i int) {
	n := &node{c: c, i: i, name: nodeName(i), desks: map[string]*desk{}, drift: c.plan.Setup.Drift[i], told: map[string]int{}, wiped: map[string]int{}}
	c.starts[i]++
	chance := func() *rand.Rand { return rand.New(rand.NewPCG(c.plan.Seed, uint64(i)<<32|uint64(c.starts[i]))) }
	n.rnd = chance()
	(&world.World{Int64N: chance().Int64N}).Bytes(n.inc[:]) // as Open will draw it
	n.line = &line{c: c, node: n.name + fmt.Sprint(c.starts[i]), dead: make(chan struct{}), calls: map[string]uint64{}}
	w := &world.World{
		Int64N: func(m int64) int64 {
			n.rndMu.Lock()
			defer n.rndMu.Unlock()
			return n.rnd.Int64N(m)
		},
		Elapsed: func(d time.Duration) time.Duration {
			return time.Duration(float64(d)*n.drift) + time.Duration(n.ahead.Load())
		},
	}
	c.mu.Lock()
	c.byIncarnation[n.inc] = n
	c.mu.Unlock()
	o := c.plan.Setup.Options
	o.Node, o.Addr, o.Codec = n.name, n.name, codec{}
	o.Hooks.Lost = n.lost
	if c.plan.Setup.Sabotage == "no bound" {
		o.MaxBuffer *= 1000
	}
	ctx, cancel := context.WithTimeout(world.With(context.Background(), w), time.Minute)
	defer cancel()
	var err error
	if n.db, err = kvstore.Open[string](ctx, n.line, o); err != nil {
		panic(fmt.Sprintf("sim: open: %v", err))
	}
	n.listen()
	c.mu.Lock()
	c.nodes[i] = n
	c.mu.Unlock()
}

// lost is the node's Hooks.Lost.
func (n *node) lost(l kvstore.Lost) {
	c := n.c
	if c.plan.Setup.Sabotage == "untold" {
		return
	}
	times := 1
	if c.plan.Setup.Sabotage == "told twice" {
		times = 2
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.killed {
		return
	}
	c.logf("        node %s: lost %s", n.name, strings.ReplaceAll(fmt.Sprint(l), "~", ""))
	for range times {
		for _, e := range l.Entries {
			c.count.lostTold.Add(1)
			key := ownKeyOf(e)
			if e.Deleted {
				n.wiped[l.Session+"/"+key]++
				continue
			}
			if e.Kind == kvstore.Counter || e.Kind == kvstore.QueueEnds || e.Kind == kvstore.IdleTime { // what they are comes again
				n.told[l.Session+"/"+key]++
				continue
			}
			v := e.Value.(string)
			if e.Kind == kvstore.QueueItem {
				n.tell(l.Session + "/" + key + "=" + v)
				continue // a fence in flight, and what was pushed since: it may stand in both
			}
			if at := l.Session + "/" + key + "=" + v; n.tell(at) > 1 {
				c.failLocked(told, "node %s: %s, %q = %s is reported lost twice", n.name, l.Session, e.Key, v)
			}
		}
		if l.Deleted {
			n.wiped[l.Session]++
		}
	}
}

// tell counts what was reported. Caller holds mu.
func (n *node) tell(what string) int {
	n.told[what]++
	return n.told[what]
}

// codec is of strings; one that begins with "poison" cannot be encoded.
type codec struct{}

var errPoison = errors.New("sim: it is poison")

func (codec) Append(dst []byte, v any) ([]byte, error) {
	s := *v.(*string)
	if strings.HasPrefix(s, "poison") {
		return nil, errPoison
	}
	return append(dst, s...), nil
}

func (codec) Decode(src []byte, v any) error {
	*v.(*string) = string(src)
	return nil
}

// value returns one that was never used.
func (c *cluster) value() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.values++
	return fmt.Sprint("v", c.values, strings.Repeat("~", c.plan.Setup.Padding))
}

// do lets a step happen. What may take time goes on beside the steps that follow.
func (c *cluster) do(s Step) {
	n := c.nodes[s.Node]
	c.mu.Lock()
	gone, ended := n.gone, n.ended
	c.mu.Unlock()
	switch s.Verb {
	case Start:
		if ended {
			c.start(s.Node)
		}
		return
	case Mend:
		n.line.mend()
		return
	}
	if gone {
		return
	}
	switch s.Verb {
	case Pause:
		c.count.pauses.Add(1)
		n.line.set(func() {
			if n.line.frozen == nil {
				n.line.frozen = make(chan struct{})
			}
		})
	case CutOut:
		n.line.set(func() { n.line.cutOut = true })
	case CutBack:
		n.line.set(func() { n.line.cutBack = true })
	case Flaky:
		n.line.set(func() { n.line.flaky = true })
	case Lapse:
		n.lapsed = true
		c.truth.lapse(n.name)
	case Jump:
		n.ahead.Add(int64(s.N) % int64(2*c.plan.Setup.Options.Lease))
	case Kill:
		c.count.kills.Add(1)
		c.kill(n)
	case Flush, Drain, Close, Orphans, Preload, Sweep:
		c.asked.Go(func() { n.operate(s) })
	default:
		n.request(s, false)
	}
}

// kill ends a process: nothing that it does reaches the store any more, or a client.
func (c *cluster) kill(n *node) {
	c.mu.Lock()
	n.gone, n.killed, n.ended = true, true, true
	c.mu.Unlock()
	close(n.line.dead)
	c.asked.Go(func() { // for the sake of its goroutines
		over, cancel := context.WithCancel(context.Background())
		cancel()
		n.db.Close(over)
	})
}

// marks are the last states of all tenures that the node may have in memory.
func (n *node) marks() map[*tenure]int {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	m := map[*tenure]int{}
	for _, d := range n.desks {
		if t := d.t; t != nil && n.c.current(t) {
			m[t] = len(t.states) - 1
			if t.unsure {
				m[t]--
			}
		}
	}
	return m
}

// current reports whether nobody has taken the session from the tenure. Caller holds mu.
func (c *cluster) current(t *tenure) bool {
	g := c.grants[t.id]
	if t.epoch == 0 {
		return len(g) == 0
	}
	return g[len(g)-1].t == t
}

// kept fails if the store has not what the tenures were at marks, though the call said so.
func (n *node) kept(what string, marks map[*tenure]int) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	now := time.Now()
	for t, i := range marks {
		if n.c.current(t) && i >= 0 && i < len(t.states) && !t.holds(i, now) {
			n.c.failLocked(synced, "node %s: %s has returned, and of %s in epoch %d the store has never had %v, but %v",
				n.name, what, t.id, t.epoch, t.states[i], t.states[max(t.high, 0)])
		}
	}
}

// operate does what operators ask for.
func (n *node) operate(s Step) {
	c := n.c
	ctx, cancel := context.WithTimeout(context.Background(), patience(s))
	defer cancel()
	marks := n.marks()
	var err error
	switch s.Verb {
	case Flush:
		if err = n.db.Flush(ctx); err == nil {
			n.kept("Flush", marks)
		}
	case Drain:
		c.mu.Lock()
		n.drained = true
		c.mu.Unlock()
		if err = n.db.Drain(ctx); err == nil {
			n.kept("Drain", marks)
		}
	case Close:
		c.mu.Lock()
		n.gone = true
		c.mu.Unlock()
		n.close(ctx)
		c.mu.Lock()
		n.ended = true
		c.mu.Unlock()
	case Orphans:
		_, err = n.db.AdoptOrphans(ctx, kvstore.Takeover{All: s.N%2 == 0})
	case Sweep:
		_, err = n.db.Sweep(ctx, kvstore.Sweeping{All: s.N%2 == 0})
	case Preload:
		var p *kvstore.Preloading
		if p, err = n.db.Preload(ctx, kvstore.Preload{Share: kvstore.Share(s.N % 3), Whole: s.N%2 == 0, Keys: []string{"leg"}, Count: s.N%5 == 0}); err == nil {
			_, err = p.Wait(ctx)
		}
	}
	c.log("        node %s: %v → %v", n.name, s.Verb, err)
}

// close closes the node. No request is on its way but those that have begun.
func (n *node) close(ctx context.Context) error {
	marks := n.marks()
	err := n.db.Close(ctx)
	n.c.log("        node %s: Close → %v", n.name, err)
	s := n.db.Stats()
	if err == nil {
		n.kept("Close", marks)
		n.ear.audit(s.Missed)
	}
	if s.Buffered != 0 || s.Resident != 0 || s.Lag != 0 {
		n.c.fail(closes, "node %s: after Close, %d bytes are buffered, %d sessions resident, the lag is %v", n.name, s.Buffered, s.Resident, s.Lag)
	}
	return err
}

// patience is how long whoever asked waits for the answer.
func patience(s Step) time.Duration {
	return []time.Duration{20 * time.Millisecond, 500 * time.Millisecond, 3 * time.Second, 30 * time.Second}[s.N>>8%4] + 127
}

// check looks at what can be judged between two steps.
func (c *cluster) check() {
	o := c.plan.Setup.Options
	now := time.Now()
	for _, n := range c.nodes {
		c.mu.Lock()
		gone := n.gone
		c.mu.Unlock()
		if gone {
			continue
		}
		s := n.db.Stats()
		limit := o.MaxBuffer + int64(c.plan.Setup.Sessions*(64+2)) // releases
		if s.Buffered > limit || s.Buffered < 0 {
			c.fail(bounded, "node %s: %d bytes are buffered, at most %d may be", n.name, s.Buffered, limit)
		}
		since, well := n.line.well()
		if !well || now.Sub(since) < c.recovery() {
			continue
		}
		c.mu.Lock()
		for _, d := range n.desks {
			t := d.t
			if t == nil || !c.current(t) || t.crowd != nil {
				continue
			}
			i := len(t.states) - 1
			if t.unsure {
				i--
			}
			for i >= 0 && now.Sub(t.states[i].at) <= c.lag() {
				i--
			}
			if i > 0 && !t.holds(i, now) && t.states[i].at.After(since.Add(c.recovery())) {
				c.failLocked(lagBound, "node %s: %s in epoch %d was %v for %v, and the store has never had that, but %v; the bound is %v",
					n.name, t.id, t.epoch, t.states[i], now.Sub(t.states[i].at), t.states[max(t.high, 0)], c.lag())
			}
		}
		c.mu.Unlock()
	}
}

// lag is the bound with a store that is well.
func (c *cluster) lag() time.Duration {
	o := c.plan.Setup.Options
	flush := 2 * c.plan.Setup.Latency * time.Duration(1+(c.plan.Setup.Sessions+o.MaxBatch-1)/o.MaxBatch)
	return o.MaxDelay*103/100 + 3*flush + time.Millisecond
}

// recovery is how long a node may need after a fault before the bound holds again.
func (c *cluster) recovery() time.Duration {
	o := c.plan.Setup.Options
	return 2*o.StoreTimeout + 3*o.RetryMax + 10*time.Second // a late call may take 8 s
}

// end lets everything come to rest, and judges the whole.
func (c *cluster) end() {
	for _, n := range c.byIncarnation {
		n.line.mend()
		if c.plan.Setup.Sabotage == "deaf" {
			n.line.set(func() { n.line.cutOut = true })
		}
	}
	if c.failed() {
		for _, n := range c.nodes {
			if !n.gone {
				c.kill(n)
			}
		}
		c.asked.Wait()
		c.travels.Wait()
		return
	}
	c.asked.Wait()
	for _, n := range c.nodes {
		if n.gone {
			continue
		}
		n.gone = true
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		err := n.close(ctx)
		cancel()
		if err != nil && !errors.Is(err, kvstore.ErrFenced) && !errors.Is(err, kvstore.ErrRejected) {
			c.fail(closes, "node %s: all is well, and Close gives: %v", n.name, err)
		}
	}
	c.travels.Wait()
	synctest.Wait()
	c.audit()
}

// audit asks of every value that was put where it went.
func (c *cluster) audit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	all := map[*tenure]bool{}
	for _, t := range c.tenures {
		all[t] = true
	}
	for _, n := range c.byIncarnation {
		for _, d := range n.desks {
			if d.fresh != nil {
				all[d.fresh] = true
			}
		}
	}
	// In an order that is always the same: the first violation is the one that counts.
	for _, t := range slices.SortedFunc(maps.Keys(all), func(a, b *tenure) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.n.line.node, b.n.line.node))
	}) {
		if t.stray != nil {
			c.failLocked(whole, "node %s: %s in epoch %d: the store has had %v, and of the change that would make that its node said that it was not made", t.n.name, t.id, t.epoch, *t.stray)
		}
		if t.n.killed || t.unsure || t.crowd != nil {
			continue
		}
		last := t.last().view(now)
		for _, k := range slices.Sorted(maps.Keys(last.cells)) {
			v := last.cells[k]
			if t.own[v.v] && !t.seen[v.v] && !t.wasTold(k, v.v) {
				c.failLocked(told, "node %s: %s in epoch %d, %q = %s was neither stored nor reported lost", t.n.name, t.id, t.epoch, k, v.v)
			}
		}
		if t.high < 0 || !last.exists {
			continue
		}
		had := t.states[t.high].view(now).cells
		for _, k := range slices.Sorted(maps.Keys(had)) {
			v := had[k]
			if _, there := t.last().cells[k]; !there && !isMark(k) && t.n.wiped[t.id+"/"+toldAs(k)] == 0 && t.n.wiped[t.id] == 0 && !t.ranOut(k, now) {
				c.failLocked(told, "node %s: %s in epoch %d, that %q = %s was deleted was neither stored nor reported lost", t.n.name, t.id, t.epoch, k, v.v)
			}
		}
	}
}
