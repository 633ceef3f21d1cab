package model

import (
	"fmt"
	"strings"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file tells the way to a violation in words.

// tell makes the steps once more, and says of each what happens.
func tell(b *Bounds, bug Bug, only Invariant, steps []Step) (lines []string) {
	w := world{State: begin(b), Bounds: b, bug: bug, only: only}
	for _, st := range steps {
		before := w.State
		if !w.step(st) {
			panic("a step cannot be made again")
		}
		lines = append(lines, w.line(&before, st))
	}
	return append(lines, fmt.Sprintf("not so: %s: %s", w.bad.invariant, w.bad.detail))
}

// letter names a node, name the incarnation of one: "b", and "b'" after a restart.
func letter(n uint8) string { return string(rune('a' + n)) }

func name(owner uint8) string {
	return letter(nodeOf(owner)) + strings.Repeat("'", int(owner-1)/maxNodes)
}

// sessionName is the inverse of letter, so to say: sessions are s and t.
func sessionName(s uint8) string { return string(rune('s' + s)) }

func (s set) String() string {
	var names []string
	for tx := uint8(1); tx <= maxTx; tx++ {
		if s.has(tx) {
			names = append(names, fmt.Sprintf("v%d", tx))
		}
	}
	return strings.Join(names, ", ")
}

// line says what a step did that led from before to w.
func (w *world) line(before *State, st Step) string {
	node, id := "node "+name(before.incarnation(st.node)), sessionName(st.session)
	old, now := &before.nodes[st.node], &w.nodes[st.node]
	f, l := &now.flights[st.session], &now.sessions[st.session]
	oldAsk, a := &old.asks[st.session], &now.asks[st.session]
	switch st.action {
	case create:
		if !l.creating && !old.sessions[st.session].live {
			return fmt.Sprintf("%s finds that %s is its own: epoch %d, v%d", node, id, l.epoch, l.val[0])
		}
		return fmt.Sprintf("%s creates %s, with v%d in memory", node, id, l.tx)
	case write:
		return fmt.Sprintf("%s writes v%d to %s in memory", node, l.tx, id)
	case del:
		return fmt.Sprintf("%s deletes %s in memory, which is v%d", node, id, l.tx)
	case handOver:
		return fmt.Sprintf("%s begins to release %s", node, id)
	case keep:
		return fmt.Sprintf("%s takes the release of %s back", node, id)
	case flush:
		var parts []string
		for s := range uint8(w.Sessions) {
			if st.arg>>s&1 != 0 {
				part := now.flights[s].change.String()
				if now.flights[s].phase == judged {
					part = "nothing of " + sessionName(s) + ": the store need not be told"
				}
				parts = append(parts, part)
			}
		}
		return fmt.Sprintf("%s flushes %s", node, strings.Join(parts, " and "))
	case deliver, deliverTwice:
		return fmt.Sprintf("the store gets %s%s: %s", &old.flights[st.session].change, twice(st.action == deliverTwice), half(f.change.checked, f.outcome.String()))
	case answer:
		return fmt.Sprintf("%s hears%s", node, w.heard(before, st.node))
	case timeout:
		return fmt.Sprintf("%s gets no answer%s", node, w.heard(before, st.node))
	case partly:
		return fmt.Sprintf("%s gets an answer for a part only%s", node, w.heard(before, st.node))
	case claims:
		return fmt.Sprintf("%s claims %s", node, id)
	case deliverClaim, refuseClaim:
		return fmt.Sprintf("the store gets the claim of %s for %s: %s", node, id, a.verdict(&oldAsk.claim))
	case hear:
		if l.live {
			return fmt.Sprintf("%s has %s: epoch %d, v%d", node, id, l.epoch, l.val[0])
		}
		return fmt.Sprintf("%s hears that %s is not for it", node, id)
	case steal:
		return fmt.Sprintf("%s hears that %s is not for it, and steals it: claims epoch %d", node, id, a.claim.epoch)
	case giveUp:
		return fmt.Sprintf("%s gets no answer to its claim for %s", node, id)
	case audit:
		return fmt.Sprintf("%s looks, and finds that %s is another's%s", node, id, w.losses(before))
	case crash:
		return fmt.Sprintf("%s dies; %s starts", node, "node "+name(w.incarnation(st.node)))
	case late, lateTwice:
		return w.lateLine(before, st)
	}
	return "?"
}

func twice(t bool) string {
	if t {
		return ", which will come once more"
	}
	return ""
}

func half(checked bool, verdict string) string {
	if checked {
		return "it is in order, and to be written"
	}
	return verdict
}

// String tells what a change carries.
func (m *message) String() string {
	what := []string{fmt.Sprintf("epoch %d, seq %d", m.epoch, m.seq)}
	for _, f := range []struct {
		is   bool
		name string
	}{{m.create, "create"}, {m.del, "delete"}, {m.release, "release"}, {m.twin, "the twin"}} {
		if f.is {
			what = append(what, f.name)
		}
	}
	switch {
	case m.has[0] && m.has[1]:
		what = append(what, fmt.Sprintf("v%d", m.tx))
	case m.has[0] || m.has[1]:
		what = append(what, fmt.Sprintf("half of v%d", m.tx))
	case !m.del && !m.release:
		what = append(what, "nothing")
	}
	return fmt.Sprintf("%s's %s (%s)", name(m.owner), sessionName(m.session), strings.Join(what, ", "))
}

func (a *ask) verdict(was *message) string {
	m := &a.claim
	switch {
	case m.checked:
		return fmt.Sprintf("it reads v%d, and is to raise the epoch", m.val[0])
	case a.outcome != store.Granted:
		return a.outcome.String()
	case was.checked:
		return fmt.Sprintf("granted, epoch %d", m.epoch)
	}
	return fmt.Sprintf("granted, epoch %d, reads v%d", m.epoch, m.val[0])
}

// heard tells what a node made of the answer to its batch.
func (w *world) heard(before *State, n uint8) string {
	var parts []string
	for s := range uint8(w.Sessions) {
		f, was, l := &before.nodes[n].flights[s], &before.nodes[n].sessions[s], &w.nodes[n].sessions[s]
		if f.phase == idle || w.nodes[n].flights[s].phase != idle {
			continue
		}
		part := ""
		if f.phase == judged {
			part = f.outcome.String() + ", "
		}
		switch {
		case !l.live && was.live:
			part += sessionName(s) + " leaves memory"
		case !l.live:
			part += sessionName(s) + " is not there any more"
		case l.saved == l.ver:
			part += sessionName(s) + " is clean"
		default:
			part += sessionName(s) + " is to be sent again"
		}
		parts = append(parts, part)
	}
	return ": " + strings.Join(parts, ", and ") + w.losses(before)
}

// losses tells what was reported lost.
func (w *world) losses(before *State) (told string) {
	for s := range uint8(w.Sessions) {
		if more := w.records[s].lost &^ before.records[s].lost; more != 0 {
			told += "; reports " + more.String() + " lost"
		}
	}
	return told
}

func (w *world) lateLine(before *State, st Step) string {
	m := before.late[st.arg]
	r := &w.records[m.session]
	checked := false
	for i := range w.late {
		checked = checked || w.late[i].checked && w.late[i].owner == m.owner && !m.checked
	}
	if m.kind == claim {
		return fmt.Sprintf("the store gets the late claim of node %s for %s: %s", name(m.owner), sessionName(m.session),
			half(checked, fmt.Sprintf("%s has epoch %d, of node %s", sessionName(m.session), r.epoch, name(max(r.owner, 1)))))
	}
	verdict := "nothing changes"
	if *r != before.records[m.session] {
		verdict = "written"
	}
	return fmt.Sprintf("the store gets late%s %s: %s", twice(st.action == lateTwice), &m, half(checked, verdict))
}
