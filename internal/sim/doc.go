// Package sim plays whole clusters in one process and in virtual time, and judges what they do.
//
// A seed makes a Plan: a cluster of two to four nodes with options of its own, and some hundred steps. Clients ask for everything
// that a DB and a Session can do, at the right node and at wrong ones; operators drain, close, kill and start nodes; nodes are
// paused, their way to the store is cut, calls are lost, answered to nobody, late and doubled, clocks run ahead. Run lets it
// happen in a bubble of testing/synctest, where a minute takes no time. A violation ends it; Shrink finds the few steps that
// matter, and the story that Run writes tells what they did.
//
//	plan.go     what is going to happen
//	cluster.go  it happens; what is judged between steps and at the end
//	line.go     a node's way to the store, and what becomes of each call on it
//	desk.go     what clients ask a node for, and what the answer must be
//	inside.go   likewise, of what is in a session beside values under keys
//	slide.go    likewise, of sessions that end when they are not touched
//	ear.go      what a node tells of changes
//	doubt.go    what they know of the session after that, and what not
//	truth.go    the store, and what it decided
//	model.go    what a session may be, and the checkers
//
// The approach is that of FoundationDB (Zhou et al., SIGMOD 2021) and of TigerBeetle: the code under test is the real one,
// and everything around it obeys the seed. Only the order of goroutines that wake in the same nanosecond does not.
//
// It cannot stop a goroutine: a node that is paused goes on thinking, but nothing that it does leaves it, and nothing reaches
// it. There is one store, the reference. Nodes' monotonic clocks drift and jump, and so does the store's; the wall clocks by which
// things expire agree.
package sim
