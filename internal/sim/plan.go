package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/seed-6f1f505d/kvstore"
)

// A Plan is a history before it happens: the cluster, and the steps in their order. It depends on nothing but its seed, and
// any of its steps may be taken out: what is left is a plan, too.
type Plan struct {
	Seed  uint64
	Setup Setup
	Steps []Step
}

// Setup is the cluster that a plan is for. Each seed draws its own, so that small buffers meet long leases (swarm
// testing; Groce et al., ISSTA 2012).
type Setup struct {
	Nodes, Sessions, Keys int

	Options kvstore.Options
	Padding int             // bytes by which values are longer than they need be
	Latency time.Duration   // of the way to the store, one way, at most
	Drift   []float64       // how fast each node's clock runs; 1 is right
	Weights map[Verb]uint32 // how often each verb is drawn

	// Sabotage breaks the cluster on purpose, to show that a checker notices. Empty: nothing is broken.
	Sabotage string
}

// Step is one thing that happens, After the one before it. What the numbers mean depends on the verb; those
// that are too high wrap around.
type Step struct {
	After         time.Duration
	Verb          Verb
	Node, Session int
	Key           int
	N             uint32
}

// Verb says what a step does.
type Verb uint8

const (
	// What clients ask a node for.
	Event    Verb = iota // adopt or create, and a transaction over several keys; sent on if the session lives elsewhere
	Put                  // one key
	Expiring             // one key that expires
	Remove               // one key
	Expire               // the session expires, or does not any more
	Read                 // one key
	ReadAll              // all keys
	MainPut              // DB.Put
	MainGet              // DB.Get
	Forget               // DB.Delete: the session is deleted
	Create               // DB.Create
	Adopt                // DB.Adopt, some keys with it
	Steal                // DB.Steal
	Sync                 // Session.Sync
	Crowd                // transactions on one session at once
	Poison               // a value that cannot be encoded
	Count                // Session.Add
	Push                 // at the end of a queue
	Pop                  // at its beginning
	Fell                 // Session.DeleteTree of the root
	Arm                  // Session.At: nobody is there for whom it would fire
	Disarm               // Session.Cancel
	Idle                 // Session.ExpireIdle
	Touch                // Session.Touch

	// What operators do.
	Flush
	Release
	Drain
	Close
	Kill
	Start
	Orphans
	Preload
	Sweep

	// What fails.
	Pause   // nothing leaves the node, and nothing reaches it
	CutOut  // what it sends to the store is lost
	CutBack // what the store answers is lost
	Flaky   // some calls are refused, lost, answered to nobody, late, doubled
	Lapse   // the store's clock runs ahead: the node's lease is over
	Jump    // the node's clock runs ahead
	Mend    // all that failed at the node is well again

	verbs = iota
)

var verbNames = [verbs]string{"event", "put", "put, expiring", "remove", "expire", "read", "read all", "main put", "main get", "delete",
	"create", "adopt", "steal", "sync", "crowd", "poison", "count", "push", "pop", "fell", "arm", "disarm", "idle", "touch", "flush", "release", "drain", "close", "kill", "start", "orphans",
	"preload", "sweep",
	"pause", "cut out", "cut back", "flaky", "lapse", "jump", "mend"}

func (v Verb) String() string { return verbNames[v] }

// ofSession reports whether the verb is about a session.
func (v Verb) ofSession() bool { return v <= Touch || v == Release }

func nodeName(i int) string    { return string(rune('a' + i)) }
func sessionName(i int) string { return fmt.Sprint("s", i) }

// keyName returns a key; the first is the main entry.
func keyName(i int) string { return []string{"", "leg", "dialog", "timer"}[i] }

func (s Step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "after %v, node %s: %v", s.After, nodeName(s.Node), s.Verb)
	if s.Verb.ofSession() {
		fmt.Fprintf(&b, " %s", sessionName(s.Session))
	}
	switch s.Verb {
	case Put, Expiring, Remove, Read:
		fmt.Fprintf(&b, " %q", keyName(s.Key))
	}
	return b.String()
}

// New returns the plan of a seed, with so many steps.
func New(seed uint64, steps int) Plan {
	rnd, inside := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
	p := Plan{Seed: seed, Setup: newSetup(rnd)}
	// Half of the plans have more in a session than values under keys, and some of the others sessions that end when they are not touched.
	deep, sliding := inside.IntN(2) == 0, inside.IntN(2) == 0
	var all uint32
	for v := range Verb(verbs) {
		all += p.Setup.Weights[v]
	}
	for range steps {
		n := rnd.Uint32N(all)
		v := Verb(0)
		for ; n >= p.Setup.Weights[v]; v++ {
			n -= p.Setup.Weights[v]
		}
		s := Step{Verb: v, Node: rnd.IntN(p.Setup.Nodes), Session: rnd.IntN(p.Setup.Sessions), Key: rnd.IntN(p.Setup.Keys), N: rnd.Uint32()}
		// Mostly a few milliseconds; now and then as long as a lease. Odd nanoseconds keep steps from meeting timers.
		s.After = time.Duration(rnd.Int64N(int64(20*time.Millisecond))) + 13
		if rnd.IntN(20) == 0 {
			s.After = time.Duration(rnd.Int64N(int64(p.Setup.Options.Lease))) + 17
		}
		if deep && (v == Put || v == Read) && inside.IntN(2) == 0 {
			s.Verb = pick(inside, Count, Push, Push, Pop, Pop, Pop, Fell, Arm, Arm, Disarm)
		}
		switch {
		case !deep && sliding && (v == Put || v == Read) && inside.IntN(2) == 0:
			s.Verb = pick(inside, Idle, Touch, Touch, Touch, Touch)
		case v == Orphans:
			s.Verb = pick(inside, Orphans, Preload, Sweep)
		}
		p.Steps = append(p.Steps, s)
	}
	return p
}

func pick[T any](rnd *rand.Rand, of ...T) T { return of[rnd.IntN(len(of))] }

func newSetup(rnd *rand.Rand) Setup {
	ms := time.Millisecond
	s := Setup{
		Nodes:    2 + rnd.IntN(3),
		Sessions: 1 + rnd.IntN(6),
		Keys:     1 + rnd.IntN(4),
		Padding:  pick(rnd, 0, 0, 0, 300, 1500),
		Latency:  pick(rnd, ms/10, ms, 10*ms, 40*ms),
		Options: kvstore.Options{
			MaxDelay:     pick(rnd, ms, 5*ms, 50*ms, 100*ms),
			MaxBuffer:    pick(rnd, int64(4<<10), 64<<10),
			Overflow:     pick(rnd, kvstore.Block, kvstore.Reject, kvstore.Through),
			Mode:         pick(rnd, kvstore.WriteBehind, kvstore.WriteBehind, kvstore.WriteBehind, kvstore.WriteThrough),
			MaxResident:  pick(rnd, 0, 0, 1, 2),
			Lease:        pick(rnd, 300*ms, 1000*ms, 3000*ms),
			Strict:       rnd.IntN(3) == 0,
			StoreTimeout: pick(rnd, 200*ms, 1000*ms, 5000*ms),
			RetryMin:     pick(rnd, ms, 20*ms),
			RetryMax:     pick(rnd, 100*ms, 2000*ms),
			Flushers:     pick(rnd, 1, 2, 4),
			MaxBatch:     pick(rnd, 1, 2, 1024),
		},
		Weights: map[Verb]uint32{
			Event: 60, Put: 60, Expiring: 8, Remove: 15, Expire: 4, Read: 30, ReadAll: 15, MainPut: 25, MainGet: 15, Forget: 6, Create: 8,
			Adopt: 15, Steal: 3, Sync: 15, Crowd: 5, Poison: 2, Flush: 4, Release: 5, Drain: 1, Close: 2, Kill: 3, Start: 12, Orphans: 8,
			Pause: 4, CutOut: 3, CutBack: 3, Flaky: 6, Lapse: 2, Jump: 2, Mend: 15,
		},
	}
	for range s.Nodes {
		s.Drift = append(s.Drift, pick(rnd, 1, 1, 0.97, 1.03))
	}
	// Half of the faults and of the rarer requests do not happen at all: what one of them does is not hidden behind another.
	for _, v := range []Verb{Expiring, Remove, Expire, Forget, Create, Steal, Crowd, Poison, Release, Drain, Close, Kill, Orphans,
		Pause, CutOut, CutBack, Flaky, Lapse, Jump} {
		if rnd.IntN(2) == 0 {
			s.Weights[v] = 0
		}
	}
	return s
}

// String tells the plan as a story: the cluster, and its steps.
func (p Plan) String() string {
	var b strings.Builder
	o := p.Setup.Options
	fmt.Fprintf(&b, "seed %d: %d nodes, %d sessions, %d keys; latency up to %v, MaxDelay %v, MaxBuffer %d, Overflow %d, Mode %d, MaxResident %d, "+
		"Lease %v, Strict %v, StoreTimeout %v, Retry %v to %v, Flushers %d, MaxBatch %d, drift %v\n",
		p.Seed, p.Setup.Nodes, p.Setup.Sessions, p.Setup.Keys, p.Setup.Latency, o.MaxDelay, o.MaxBuffer, o.Overflow, o.Mode, o.MaxResident,
		o.Lease, o.Strict, o.StoreTimeout, o.RetryMin, o.RetryMax, o.Flushers, o.MaxBatch, p.Setup.Drift)
	for i, s := range p.Steps {
		fmt.Fprintf(&b, "%4d  %v\n", i+1, s)
	}
	return b.String()
}
