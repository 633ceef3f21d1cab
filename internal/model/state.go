package model

import (
	"cmp"
	"slices"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is a state of the whole system. It is a plain value without pointers: states are compared, copied and
// hashed whole, so that no field can be forgotten where they are told apart.

// What a State has room for.
const (
	maxNodes    = 3
	maxSessions = 2
	maxLate     = 3
	maxTx       = 8 // transactions of one session: the bits of a set
)

// A transaction puts its own number under both keys of its session, so that half of one shows. Numbers
// grow within a session, whichever node makes the transaction; 0 is no value.
const keys = 2

type pair [keys]uint8

// set is a set of a session's transactions.
type set uint8

func (s set) has(tx uint8) bool { return tx > 0 && s>>(tx-1)&1 != 0 }

func one(tx uint8) set {
	if tx == 0 {
		return 0
	}
	return 1 << (tx - 1)
}

// above returns the transactions after lo, up to hi.
func above(lo, hi uint8) (s set) {
	for tx := lo + 1; tx <= hi; tx++ {
		s |= one(tx)
	}
	return s
}

// State is one state of the system: what the store has, what each node has in memory, and what is between them.
type State struct {
	records [maxSessions]record
	nodes   [maxNodes]node
	late    [maxLate]message // calls whose callers gave up, still on their way; in order, the empty ones first

	made     [maxSessions]uint8 // transactions so far
	claims   [maxSessions]uint8 // claims that may still be made
	steals   uint8              // likewise, and so on
	releases uint8
	timeouts uint8
	twins    uint8
	crashes  uint8

	nodesUsed, sessionsUsed uint8
}

// record is what the store has of a session, and what only an observer knows: in a sound system most of that follows
// from the rest, and costs no states.
type record struct {
	epoch, seq, owner uint8
	released, deleted bool
	val               pair

	tx           uint8 // the transaction after which the session was as it is stored; 0: empty
	high, holder uint8 // the highest epoch that was ever granted, and to whom
	floor        uint8 // tx ≥ floor: what was acknowledged in this tenure, or is what it began with
	landed       set   // were stored
	unseen       set   // were stored, and are no part of what followed: overwritten by older ones, or not read by an adopter
	lost         set   // were reported lost
}

func (r *record) exists() bool { return r.epoch > 0 && !r.deleted }

// node is a process. An incarnation is the pair of the node and gen.
type node struct {
	gen      uint8
	seq      uint8 // as DB.seq
	astray   bool  // as DB.astray: a claim had no answer
	sessions [maxSessions]local
	flights  [maxSessions]flight
	asks     [maxSessions]ask
}

// local is a session in a node's memory. The names are those of the package's session.
type local struct {
	live             bool
	epoch, birth     uint8
	ver, saved       uint8
	val              pair
	dirty            [keys]bool
	creating, blind  bool
	tomb, head, wipe bool
	deleted, release bool
	queued           bool

	tx    uint8 // the last transaction made here; 0 if none
	died  uint8 // the last deletion made here; 0 if none
	retry uint8 // of ReuseSeq alone: the seq of the attempt that had no answer
}

func (l *local) marked() bool { return l.dirty[0] || l.dirty[1] }

// phase says how far a call is.
type phase uint8

const (
	idle   phase = iota
	sent         // on its way to the store
	judged       // the store has done it, and the answer is on its way
)

// flight is one session's part of a batch that the store has not answered.
type flight struct {
	phase   phase
	change  message
	ver     uint8
	head    bool
	void    bool
	past    bool // it is of a former life of the session
	orphan  bool // the session left memory
	newer   bool // orphan: it had a newer transaction, or another life, than the flight
	told    [keys]bool
	outcome store.Outcome

	// The header that refused it, if it is fenced.
	epoch, seq, owner uint8
	exists            bool
}

// ask is a claim that the store has not answered. Judged, the message has the answer: the epoch, and what was read.
type ask struct {
	phase   phase
	claim   message
	outcome store.ClaimOutcome
}

// message is a call of the store for one session: a change, or a claim.
type message struct {
	kind    kind
	session uint8
	owner   uint8
	epoch   uint8
	seq     uint8
	birth   uint8

	create, wipe, del, release, force bool

	has [keys]bool
	val pair

	tx      uint8 // after which the session is as the change makes it; 0: it changes no entries
	twin    bool  // one like it was applied already
	checked bool  // the store has done half of it (CheckThenWrite, ClaimReadsFirst)
}

type kind uint8

const (
	none kind = iota
	change
	claim
)

// rank orders messages. No two that are on their way at one time and differ have the same.
func (m *message) rank() uint64 {
	bit := func(b bool) uint64 {
		if b {
			return 1
		}
		return 0
	}
	return uint64(m.kind)<<48 | uint64(m.owner)<<40 | uint64(m.session)<<32 | uint64(m.seq)<<24 | uint64(m.epoch)<<16 |
		uint64(m.tx)<<8 | bit(m.force)<<2 | bit(m.twin)<<1 | bit(m.checked)
}

// room reports whether so many more calls may be late.
func (s *State) room(n int, b *Bounds) bool {
	for i := range s.late {
		if s.late[i].kind != none {
			n++
		}
	}
	return n <= b.Late
}

// leave puts a message among the late ones.
func (s *State) leave(m message) {
	s.late[0] = m
	s.sort()
}

func (s *State) sort() {
	slices.SortFunc(s.late[:], func(a, b message) int { return cmp.Compare(a.rank(), b.rank()) })
}

// incarnation returns the owner that node n now is.
func (s *State) incarnation(n uint8) uint8 { return 1 + n + maxNodes*s.nodes[n].gen }

// nodeOf is its inverse, as far as the node goes.
func nodeOf(owner uint8) uint8 { return (owner - 1) % maxNodes }
