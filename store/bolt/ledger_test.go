package bolt

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-6f1f505d/kvstore/store"
)

// ledger knows, of what children say, what each session may be found as.
type ledger struct {
	possible [crashSessions][]crashState
	before   [crashSessions][]crashState // of the last try
	acks     int
}

func newLedger() *ledger {
	l := new(ledger)
	for i := range l.possible {
		l.possible[i] = []crashState{{neverWasHere: true}}
	}
	return l
}

// hear takes a line: "try", which may come true from then on; "ack", which has; "read", which is what a store has shown that was
// opened just before.
func (l *ledger) hear(line string) error {
	var what string
	var i int
	var epoch, seq uint64
	if n, err := fmt.Sscanf(line, "%s session-%d %d %d", &what, &i, &epoch, &seq); n != 4 {
		return fmt.Errorf("the child says %q: %v", line, err)
	}
	after := func(states []crashState) (next []crashState) {
		for _, s := range states {
			if n := s.after(epoch, seq); !slices.Contains(next, n) {
				next = append(next, n)
			}
		}
		return next
	}
	switch what {
	case "try":
		l.before[i] = l.possible[i]
		l.possible[i] = append(after(l.before[i]), l.before[i]...)
	case "ack":
		l.possible[i] = after(l.before[i])
		l.acks++
	case "read":
		was := l.possible[i]
		l.possible[i] = slices.DeleteFunc(slices.Clone(was), func(s crashState) bool { return s.epoch != epoch || s.seq != seq })
		if len(l.possible[i]) == 0 {
			return fmt.Errorf("the child found session %d at %d/%d, want one of %+v", i, epoch, seq, was)
		}
	default:
		return fmt.Errorf("the child says %q", line)
	}
	return nil
}

// verify wants each session in a state that is possible.
func (l *ledger) verify(load func(id string) (store.Snapshot, error)) error {
	for i, possible := range l.possible {
		snap, err := load(crashSession(i))
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(possible, func(p crashState) bool { return matches(snap, p) }) {
			var es []string
			for _, e := range snap.Entries {
				es = append(es, fmt.Sprintf("%q=%.12q", e.Key, e.Value))
			}
			return fmt.Errorf("%s: found %+v with entries [%s]; want one of %+v", crashSession(i), snap.Header, strings.Join(es, " "), possible)
		}
	}
	return nil
}
