// Package model explores the protocol of ownership and flushes: every order in which its steps can happen, within bounds.
//
// A state holds what the store has, what each node has in memory, and the calls that are on their way. The store's verdicts are not
// a model: they are those of [store.ClaimRequest.Judge] and [store.Change.Judge], called. The node is a
// small copy of commit.go, flush.go, settle.go and adopt.go, with their names. Explore goes from the state in which nothing has
// happened to all others, breadth first, and looks in each, and at each step, for an [Invariant] that does not hold. The way to the
// first one is a shortest one, and is told as a story. That it can find anything is shown by mistakes
// that are made on purpose: see [Bug].
//
// # What can happen
//
//   - A node creates a session without asking, writes to it, deletes it, makes it again, releases it, takes the release back.
//     A transaction writes two keys, which must be equal wherever they are read.
//   - It flushes one session, or two in a batch; the store does the parts of a batch one by one.
//   - A call has an answer, none, or one for a part of the batch. It was done, or is late: then it is done at any
//     time, or never. Late calls are done in any order. A change may be done twice.
//   - A node claims a session (as AdoptOrCreate, of which Adopt does a part), and steals one that it was refused.
//   - Leases are nothing but chance: whenever a claim is decided, the owner's lease runs, or does not. No node
//     looks at its own, so each may believe what it likes.
//   - A node finds that a session is another's, by a load or an audit. It dies, and starts as a new incarnation.
//
// Not in the model: expiry, eviction, loading of single entries, rejected entries, Close, and a session that exists and has no
// entries but one that a claim made: a creation puts the first values in the same step. A load is one step.
//
// # Bounds
//
// Each of the [Shapes] is explored to its end. These are the test's; the deep ones are larger, one way or the other.
//
//	          nodes  sessions  transactions  claims  steals  releases  timeouts  late  twins  crashes
//	pair          2         1             3       2       -         -         1     1      -        -
//	three         3         1             2       2       -         -         1     1      -        -
//	batch         3         2             1       1       -         -         1     1      -        -
//	release       2         1             2       1       -         1         1     1      -        -
//	twins         2         1             2       1       1         -         1     2      1        1
//	revival       2         1             4       1       -         -         1     1      -        -
//
// Transactions and claims are those of one session, by all nodes; the others are of all. Nothing else is bounded: flushes, say,
// are as many as there is something to flush. Nodes and sessions that have done nothing are alike, and come in
// order; so of states that differ by names alone one is visited, or a few. Numbers of which only the order matters are made small.
//
// Two of the bugs are not made up. Exploring found that a session which was deleted and made again within one tenure kept its
// epoch ([SameEpochAfterDeath]), and that a delete could be reported lost twice ([DeleteToldTwice]).
package model

import "fmt"

// Bounds limit how often things can happen. What can happen within them is explored, all of it.
type Bounds struct {
	Nodes        int // 1 to 3
	Sessions     int // 1 or 2
	Transactions int // of each session, by all nodes: creations, writes, deletes; at most 8
	Claims       int // of each session, by all nodes
	Steals       int // claims with force, after one that was refused
	Releases     int
	Timeouts     int // calls that end without an answer
	Late         int // calls that nobody waits for and that are on their way at one time; at most 3
	Twins        int // calls that arrive twice
	Crashes      int // each followed by a restart
}

// Bound is one of the Bounds.
type Bound struct {
	Name  string
	Value *int
	least int
	most  int
}

// Each returns all bounds, to be read or changed.
func (b *Bounds) Each() []Bound {
	return []Bound{
		{"nodes", &b.Nodes, 1, maxNodes},
		{"sessions", &b.Sessions, 1, maxSessions},
		{"transactions", &b.Transactions, 1, maxTx},
		{"claims", &b.Claims, 0, 9},
		{"steals", &b.Steals, 0, 9},
		{"releases", &b.Releases, 0, 9},
		{"timeouts", &b.Timeouts, 0, 9},
		{"late", &b.Late, 0, maxLate},
		{"twins", &b.Twins, 0, 9},
		{"crashes", &b.Crashes, 0, 9},
	}
}

// Check returns an error if there is no room for what could happen.
func (b *Bounds) Check() error {
	for _, x := range b.Each() {
		if *x.Value < x.least || *x.Value > x.most {
			return fmt.Errorf("%d %s: must be from %d to %d", *x.Value, x.Name, x.least, x.most)
		}
	}
	return nil
}

// Shape is a choice of bounds, with a name.
type Shape struct {
	Name string
	Deep bool // it takes from half a minute to a few, and up to some gigabytes
	Bounds
}

// Shapes returns those that are explored to their end.
func Shapes() []Shape {
	return []Shape{
		{"pair", false, Bounds{Nodes: 2, Sessions: 1, Transactions: 3, Claims: 2, Timeouts: 1, Late: 1}},
		{"three", false, Bounds{Nodes: 3, Sessions: 1, Transactions: 2, Claims: 2, Timeouts: 1, Late: 1}},
		{"batch", false, Bounds{Nodes: 3, Sessions: 2, Transactions: 1, Claims: 1, Timeouts: 1, Late: 1}},
		{"release", false, Bounds{Nodes: 2, Sessions: 1, Transactions: 2, Claims: 1, Releases: 1, Timeouts: 1, Late: 1}},
		{"twins", false, Bounds{Nodes: 2, Sessions: 1, Transactions: 2, Claims: 1, Steals: 1, Timeouts: 1, Late: 2, Twins: 1, Crashes: 1}},
		{"deep three", true, Bounds{Nodes: 3, Sessions: 1, Transactions: 3, Claims: 2, Timeouts: 1, Late: 1}},
		{"deep batch", true, Bounds{Nodes: 3, Sessions: 2, Transactions: 1, Claims: 1, Timeouts: 2, Late: 2}},
		{"deep pair", true, Bounds{Nodes: 2, Sessions: 1, Transactions: 3, Claims: 3, Timeouts: 1, Late: 1}},
		{"deep twins", true, Bounds{Nodes: 2, Sessions: 1, Transactions: 2, Claims: 1, Steals: 1, Releases: 1, Timeouts: 1, Late: 1, Twins: 1, Crashes: 1}},
		{"deep claims", true, Bounds{Nodes: 3, Sessions: 1, Transactions: 2, Claims: 2, Steals: 1, Timeouts: 1, Late: 1, Crashes: 1}},
		{"revival", false, Bounds{Nodes: 2, Sessions: 1, Transactions: 4, Claims: 1, Timeouts: 1, Late: 1}},
	}
}

// Bug is a mistake in the protocol that is made on purpose. The zero value is none.
type Bug uint8

const (
	ClaimReadsFirst     Bug = iota + 1 // A claim reads the entries, and raises the epoch in a second step.
	CheckThenWrite                     // The store checks the fence, and writes in a second step.
	NoTombstone                        // A delete forgets the epoch.
	ClearDirty                         // An acknowledgement clears the dirty marks, also of what changed in flight.
	NoSeq                              // The store does not compare seq.
	LeaseForEpoch                      // The store asks whether the writer's lease runs, not whose epoch it is.
	SameEpoch                          // A claim changes the owner and not the epoch.
	TornFlush                          // A flush takes one entry of a transaction, and the next flush the other.
	ReleaseUnflushed                   // A release leaves out what is unsaved.
	ReuseSeq                           // A flush after one without an answer has its number, and what has changed since.
	CountAll                           // An acknowledgement counts for changes that were made in flight.
	SilentExpel                        // A fenced session leaves memory without a report.
	BlindRebirth                       // A creation that may have been applied, and ended, is proposed again above the tombstone.
	NoBirth                            // A creation does not tell when it was first tried.
	DeleteToldTwice                    // A delete in flight whose session is expelled is reported then, and by its answer again.
	SameEpochAfterDeath                // A session that is made again above its own tombstone keeps the tombstone's epoch.
)

// Bugs returns all of them.
func Bugs() (all []Bug) {
	for b := ClaimReadsFirst; b <= SameEpochAfterDeath; b++ {
		all = append(all, b)
	}
	return all
}

// planted says of each bug what it is called, in which shape it shows, and which invariant it breaks, first of all.
var planted = [...]struct {
	name, shape string
	breaks      Invariant
}{
	0:                {"none", "", 0},
	ClaimReadsFirst:  {"claim-reads-first", "pair", SyncedStays},
	CheckThenWrite:   {"check-then-write", "pair", FormerOwnerFenced},
	NoTombstone:      {"no-tombstone", "pair", EpochGrows},
	ClearDirty:       {"clear-dirty", "pair", Accounted},
	NoSeq:            {"no-seq", "twins", TwinsIdle},
	LeaseForEpoch:    {"lease-for-epoch", "pair", FormerOwnerFenced},
	SameEpoch:        {"same-epoch", "pair", OneTenure},
	TornFlush:        {"torn-flush", "pair", WholeTransactions},
	ReleaseUnflushed: {"release-unflushed", "release", Accounted},
	ReuseSeq:         {"reuse-seq", "pair", SyncedStays},
	CountAll:         {"count-all", "pair", CleanIsStored},
	SilentExpel:      {"silent-expel", "pair", Accounted},
	BlindRebirth:     {"blind-rebirth", "pair", SyncedStays},
	NoBirth:          {"no-birth", "pair", SyncedStays},
	DeleteToldTwice:  {"delete-told-twice", "pair", Accounted},

	SameEpochAfterDeath: {"same-epoch-after-death", "revival", LostStaysLost},
}

func (b Bug) String() string { return planted[b].name }

// Shape returns the name of the shape in which the bug shows.
func (b Bug) Shape() string { return planted[b].shape }

// Breaks returns the invariant that the bug is about. It may break others, too, some of them sooner.
func (b Bug) Breaks() Invariant { return planted[b].breaks }
