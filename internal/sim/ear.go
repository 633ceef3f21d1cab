package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed-6f1f505d/kvstore"
)

// ear is a node's listener of OnCommit. What is told has to add up: each commit changes what the one before it left.
type ear struct {
	n     *node
	views map[string]view // by session

	// Under cluster.mu.
	made  map[string]bool // session/key=value: puts that clients were told are made
	heard map[string]bool // likewise: that were told here
}

// view is what a session's commits have told of its entries. Of a key that is not in it nothing was told.
type view map[string]kvstore.Content[string]

// listen has the node's commits be told to an ear of it.
func (n *node) listen() {
	n.ear = &ear{n: n, views: map[string]view{}, made: map[string]bool{}, heard: map[string]bool{}}
	if _, err := n.db.OnCommit(n.ear.hear); err != nil {
		panic(err)
	}
}

func (e *ear) hear(cm kvstore.Commit[string]) {
	c := e.n.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.n.killed {
		return
	}
	c.count.commits.Add(1)
	if c.plan.Setup.Sabotage == "untold commit" && c.count.commits.Load()%10 == 0 {
		return
	}
	if cm.Missed > 0 { // and of which sessions, nobody knows
		clear(e.views)
	}
	v := e.views[cm.Session]
	if v == nil || cm.Whole {
		v = view{}
		e.views[cm.Session] = v
	}
	for _, ch := range cm.Changes {
		if ch.Kind != kvstore.Plain {
			continue
		}
		// After an eviction entries are not in memory, and some may have expired.
		if was, told := v[ch.Key]; told && !ch.Old.Unknown && !was.Unknown {
			over := !was.Expires.IsZero() && !was.Expires.After(time.Now())
			if ch.Old.Exists != was.Exists && !over || ch.Old.Exists && (ch.Old.Value != was.Value || !ch.Old.Expires.Equal(was.Expires)) {
				c.failLocked(hooked, "node %s: %s, %q: a commit in epoch %d (%v) says that it was %s, and the one before it left %s", e.n.name, cm.Session, ch.Key, cm.Epoch,
					cm.Cause, short(ch.Old), short(was))
			}
		}
		v[ch.Key] = ch.New
		if at := cm.Session + "/" + ch.Key + "=" + ch.New.Value; ch.Cause == kvstore.CausePut {
			if e.heard[at] {
				c.failLocked(hooked, "node %s: %s, %q = %s is told twice", e.n.name, cm.Session, ch.Key, ch.New.Value)
			}
			e.heard[at] = true
		}
	}
}

func short(c kvstore.Content[string]) string {
	return fmt.Sprintf("%s (exists %v, until %v)", strings.TrimRight(c.Value, "~"), c.Exists, c.Expires)
}

// expect notes the writes of a change that was made. Caller holds mu.
func (e *ear) expect(id string, writes map[string]cell) {
	for k, w := range writes {
		if w.v != "" && (k == "" || k[0] != 0) {
			e.made[id+"/"+k+"="+w.v] = true
		}
	}
}

// audit fails if something that was made was not told, at the end of the node, when all was.
func (e *ear) audit(missed int64) {
	e.n.c.mu.Lock()
	defer e.n.c.mu.Unlock()
	for at := range e.made {
		if !e.heard[at] && missed == 0 {
			e.n.c.failLocked(hooked, "node %s: %s was made, and was told to nobody", e.n.name, at)
		}
	}
}
