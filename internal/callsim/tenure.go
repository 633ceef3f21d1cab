package callsim

import (
	"fmt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// tenure is one owner's time with a call, as the network heard of it.
//
// What the owner wrote are events above from, since it found the call at event from or later when its tenure began. An entry
// of a later event that bears the mark of an earlier tenure was written after that one was over.
type tenure struct {
	by   string // see tenureName
	from uint64
}

// tenureName names a tenure: epochs may repeat between nodes, when a call's making was never stored.
func tenureName(node string, epoch uint64) string { return fmt.Sprintf("%s/%d", node, epoch) }

// reign notes that the call was answered for by a tenure, which found it at event from at the latest.
func (r *record) reign(by string, from uint64) {
	if n := len(r.tenures); n == 0 || r.tenures[n-1].by != by {
		r.tenures = append(r.tenures, tenure{by, from})
	}
}

// late says which entry was written by a tenure that was over; empty if none was.
func (r *record) late(found map[string]Part) string {
	for key, p := range found {
		for k, t := range r.tenures {
			if t.by != p.By {
				continue
			}
			for _, next := range r.tenures[k+1:] {
				if p.N > next.from {
					return fmt.Sprintf("%s is of event %d, by %s; but %s had taken over at event %d", name(key), p.N, p.By, next.by, next.from)
				}
			}
		}
	}
	return ""
}

// land counts a call in which a late write shows.
func (l *Ledger) land(r *record, where, why string) {
	r.wrong = landed
	l.note(&l.found.ZombieLanded, 1, r, "a late write landed, %s: %s", where, why)
}

// untouched judges a call in the store that nobody has changed since its owner adopted it.
func (l *Ledger) untouched(r *record, h store.Header, found map[string]Part) {
	const where = "in the store"
	owner := r.tenures[len(r.tenures)-1]
	switch by := tenureName(h.Owner.Node, h.Epoch); {
	case !h.Exists():
		l.land(r, where, fmt.Sprintf("it is gone, and %s has it", owner.by))
	case by != owner.by:
		l.land(r, where, fmt.Sprintf("it is %s's, and %s has it", by, owner.by))
	default:
		if why := r.late(found); why != "" {
			l.land(r, where, why)
		} else if v, why := l.model.judge(r.i, found, r.sent); v != whole {
			l.land(r, where, why)
		} else if n := found[Dialog].N; n < owner.from {
			l.land(r, where, fmt.Sprintf("it is at event %d, and %s found it at %d", n, owner.by, owner.from))
		}
	}
}
