package model

import "slices"

// world is a state in which a step is made.
type world struct {
	State
	*Bounds
	bug  Bug
	only Invariant // look for nothing else; 0: for all
	bad  violation
}

// Step is one thing that happens. Which of node, session and arg matter depends on the action.
type Step struct {
	action             action
	node, session, arg uint8
}

type action uint8

const (
	create action = iota
	write
	del
	handOver
	keep
	flush // arg: the set of sessions
	deliver
	deliverTwice
	answer
	timeout
	partly
	claims
	deliverClaim
	refuseClaim
	hear
	steal
	giveUp
	audit
	crash
	late // arg: which of them
	lateTwice
	actions
)

// perNode are the actions of a node as a whole, perLate those of calls that nobody waits for.
var (
	perNode = []action{answer, timeout, partly, crash}
	perLate = []action{late, lateTwice}
)

// steps returns all that could happen in any state.
func steps(b *Bounds) (all []Step) {
	for a := range actions {
		if slices.Contains(perLate, a) {
			for i := range uint8(maxLate) {
				all = append(all, Step{action: a, arg: i})
			}
			continue
		}
		for n := range uint8(b.Nodes) {
			switch {
			case a == flush:
				for which := uint8(1); which < 1<<b.Sessions; which++ {
					all = append(all, Step{action: a, node: n, arg: which})
				}
			case slices.Contains(perNode, a):
				all = append(all, Step{action: a, node: n})
			default:
				for s := range uint8(b.Sessions) {
					all = append(all, Step{action: a, node: n, session: s})
				}
			}
		}
	}
	return all
}

// step makes a step. It reports false, and has changed nothing, if that cannot happen now.
func (w *world) step(st Step) bool {
	// Nodes of which none has done anything yet are alike, and so are sessions: they come in order.
	if st.node > w.nodesUsed || st.session > w.sessionsUsed || !w.do(st) {
		return false
	}
	w.nodesUsed, w.sessionsUsed = max(w.nodesUsed, st.node+1), max(w.sessionsUsed, st.session+1)
	w.inspect()
	return true
}

func (w *world) do(st Step) bool {
	n, s := st.node, st.session
	switch st.action {
	case create:
		return w.create(n, s)
	case write:
		return w.write(n, s)
	case del:
		return w.del(n, s)
	case handOver:
		return w.handOver(n, s)
	case keep:
		return w.keep(n, s)
	case flush:
		return w.flush(n, st.arg)
	case deliver, deliverTwice:
		return w.deliver(n, s, st.action == deliverTwice)
	case answer:
		return w.answer(n)
	case timeout, partly:
		return w.timeout(n, st.action == partly)
	case claims:
		return w.claim(n, s)
	case deliverClaim, refuseClaim:
		return w.deliverClaim(n, s, st.action == refuseClaim)
	case hear, steal:
		return w.hear(n, s, st.action == steal)
	case giveUp:
		return w.giveUp(n, s)
	case audit:
		return w.audit(n, s)
	case crash:
		return w.crash(n)
	case late, lateTwice:
		return w.deliverLate(st.arg, st.action == lateTwice)
	}
	panic("unknown action")
}
