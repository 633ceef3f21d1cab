// Package callsim is a telephone network in small, for the examples and for what they
// prove. It has three parts:
//
//   - a [Node] is the application: an HTTP server that keeps calls in a kvstore.DB;
//   - a [Driver] is the network: it sends numbered events to the nodes over real
//     connections, and notes every answer in a [Ledger];
//   - the Ledger is the judge: what a call looks like after its n-th event follows from
//     (seed, call, n) alone, so whatever a node shows of a call can be recomputed and compared,
//     entry by entry, with what the driver was promised.
//
// The calls of an example may have a further name, a log and a timer that charges for them, too (Inside).
//
// It knows nothing of engines and processes. An example opens a store, decides which
// process runs which node, and whom to kill when.
package callsim

import (
	"fmt"
	"slices"
)

// Part is an entry of a call. A call has a dialog under the empty key, two legs and
// timers. An event changes several of them in one transaction, and leaves its number in each.
type Part struct {
	N     uint64 `json:"n"` // the last event that changed this entry
	State string `json:"state,omitempty"`
	From  string `json:"from,omitempty"` // of a dialog
	To    string `json:"to,omitempty"`
	Sum   uint32 `json:"sum"` // over all events that changed this entry, in their order

	// By is the tenure in which event N happened, if the node marks its changes (Node.Marks). It is no part of
	// what the model knows, and what tells a late write from the owner's own.
	By string `json:"by,omitempty"`
}

// Keys of a call's entries. A timer is there while it runs.
const (
	Dialog       = ""
	Leg1         = "leg/1"
	Leg2         = "leg/2"
	TimerRing    = "timer/ring"
	TimerSession = "timer/session"
	TimerHold    = "timer/hold"
)

// parts are the keys besides the dialog's: what a node loads when it adopts a call.
var parts = []string{Leg1, Leg2, TimerRing, TimerSession, TimerHold}

// Kind says what happened to a call.
type Kind string

// Kinds of events.
const (
	Invite  Kind = "invite" // begins a call
	Ringing Kind = "ringing"
	Answer  Kind = "answer"
	Media   Kind = "media"
	Hold    Kind = "hold"
	Resume  Kind = "resume"
	Refresh Kind = "refresh"
	Tone    Kind = "tone"
	Bye     Kind = "bye" // ends it: it is deleted
)

// Event is one thing that happens to a call.
type Event struct {
	// N is its number in the call, from 1. A node takes event N only after N-1, so that an
	// event that is sent twice counts once, and a call that went back is noticed.
	// Zero means the next one: for people, who do not count.
	N     uint64 `json:"n,omitempty"`
	Kind  Kind   `json:"kind"`
	From  string `json:"from,omitempty"` // Invite
	To    string `json:"to,omitempty"`   // Invite
	Value uint32 `json:"value,omitempty"`
}

// rule is what a kind of event does.
type rule struct {
	in    []string // the dialog's states in which it may happen
	to    string   // the dialog's next state; empty: the same
	legs  []leg
	start []string // timers, started anew if they run
	stop  []string // timers and other entries that end
}

type leg struct{ key, to string } // an empty to: the same state

const (
	calling = "calling"
	ringing = "ringing"
	up      = "up"
	held    = "held"
	ended   = "ended"
)

var rules = map[Kind]rule{
	Invite:  {in: []string{""}, to: calling, legs: []leg{{Leg1, calling}, {Leg2, "invited"}}, start: []string{TimerRing}},
	Ringing: {in: []string{calling}, to: ringing, legs: []leg{{Leg2, ringing}}},
	Answer: {in: []string{calling, ringing}, to: up, legs: []leg{{Leg1, up}, {Leg2, up}},
		stop: []string{TimerRing}, start: []string{TimerSession}},
	Media:   {in: []string{up, held}, legs: []leg{{Leg1, ""}, {Leg2, ""}}},
	Hold:    {in: []string{up}, to: held, legs: []leg{{Leg1, held}}, stop: []string{TimerSession}, start: []string{TimerHold}},
	Resume:  {in: []string{held}, to: up, legs: []leg{{Leg1, up}}, stop: []string{TimerHold}, start: []string{TimerSession}},
	Refresh: {in: []string{up}, start: []string{TimerSession}},
	Tone:    {in: []string{up, held}, legs: []leg{{Leg2, ""}}},
	Bye:     {in: []string{calling, ringing, up, held}, to: ended, stop: parts},
}

// entries is where a call lies while an event is applied: a transaction in a node, a map in the model.
type entries interface {
	get(key string) (Part, error) // the zero Part if there is none
	put(key string, p Part) error
	remove(key string) error
}

// refusal is an event that makes no sense in the call's state.
type refusal string

func (r refusal) Error() string { return string(r) }

// apply makes e, whose number is known to be the next, happen.
func (e Event) apply(s entries) error {
	rule, ok := rules[e.Kind]
	if !ok {
		return refusal(fmt.Sprintf("there is no event of kind %q", e.Kind))
	}
	d, err := s.get(Dialog)
	if err != nil {
		return err
	}
	if !slices.Contains(rule.in, d.State) {
		return refusal(fmt.Sprintf("%q cannot happen to a call in state %q", e.Kind, d.State))
	}
	if e.Kind == Invite {
		d.From, d.To = e.From, e.To
	}
	if err := s.put(Dialog, e.mark(d, rule.to)); err != nil {
		return err
	}
	for _, l := range rule.legs {
		p, err := s.get(l.key)
		if err != nil {
			return err
		}
		if err := s.put(l.key, e.mark(p, l.to)); err != nil {
			return err
		}
	}
	for _, key := range rule.stop {
		if err := s.remove(key); err != nil {
			return err
		}
	}
	for _, key := range rule.start {
		if err := s.put(key, e.mark(Part{}, "running")); err != nil {
			return err
		}
	}
	if x, ok := s.(insider); ok {
		return e.inside(x)
	}
	return nil
}

// mark returns p as changed by e. The sum is a chain: an event that is missing, doubled or out of
// order shows in it for as long as the entry lives.
func (e Event) mark(p Part, to string) Part {
	p.N = e.N
	if to != "" {
		p.State = to
	}
	p.Sum = uint32(mix(uint64(p.Sum)<<32|uint64(e.Value)) + e.N)
	return p
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
// Generators", 2014): every bit of the result depends on every bit of x.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
