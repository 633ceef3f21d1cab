package storetest

import (
	"errors"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// ErrInjected is the error of a call that was made to fail, unless its Fault names another.
var ErrInjected = errors.New("storetest: injected fault")

// Kind is a method of a store.
type Kind uint8

// The methods that can fail.
const (
	Claim Kind = iota
	Apply
	Load
	Sessions
	KeepAlive
	Nodes
	Lookup // of a store.Directory
	numKinds
)

func (k Kind) String() string {
	return [...]string{"Claim", "Apply", "Load", "Sessions", "KeepAlive", "Nodes", "Lookup", "?"}[min(k, numKinds)]
}

// Call is a call of a store, as the rule of [Faults.Inject] sees it: a copy, which it may keep.
type Call struct {
	Kind Kind
	N    int // the first call of its kind is 1

	Claim   store.ClaimRequest // Claim
	Changes []store.Change     // Apply
	Session string             // Load
	Keys    []string           // Load
	Query   store.Query        // Sessions
	Node    store.Node         // KeepAlive
	TTL     time.Duration      // KeepAlive
	Alias   string             // Lookup
}

// Failure is when a call fails.
type Failure uint8

const (
	Never  Failure = iota // it succeeds, as far as the store lets it
	Before                // before it is applied: it never will be
	After                 // after it was applied: only the answer is lost
	Late                  // now, and is applied later: see Fault.Late. A call that only reads fails
)

// Fault is what happens to one call. The zero Fault is none. Its parts work together, in the order of the
// fields; those that say how a call is applied do so also to one that is applied late.
type Fault struct {
	// Delay passes first. The context's end, or Close, ends it early, and the call with it.
	Delay time.Duration
	// Fail makes the call fail.
	Fail Failure
	// Late is when a call that fails Late is applied by itself; if it is 0, only ReplayLate does it.
	Late time.Duration
	// Err is the error of the failure; nil is ErrInjected.
	Err error
	// Hang delays the answer until the context is over, whose error it then is. Without
	// Fail nothing is applied; together with After it is the time-out of a call that was.
	Hang bool
	// Twice makes the call twice, as a network may, and answers with the second answer. A walk is not repeated.
	Twice bool
	// Split chooses the changes of an Apply, by their index, that are not
	// applied and Undecided. The others are applied.
	Split func(i int) bool
}

// Every is a rule for Inject: each call of one of the kinds, or each at all if none is named, has the fault.
func Every(f Fault, of ...Kind) func(Call) Fault { return First(-1, f, of...) }

// First is a rule for Inject: the first n calls that it sees of the kinds, or of any if none is named, have the fault.
func First(n int, f Fault, of ...Kind) func(Call) Fault {
	var chosen [numKinds]bool
	for _, k := range of {
		chosen[k] = true
	}
	return func(c Call) Fault {
		if n == 0 || len(of) > 0 && !chosen[c.Kind] {
			return Fault{}
		}
		n--
		return f
	}
}
