package kvstore

import "context"

// This file is steps: what a change does that depends on what is there when it is made, so that nothing can come between. A transaction reads first, and
// runs again if something came between; a step never does.

// step says what to find out, under the session's mu, and holds what was found. It may be taken more than once, and calls nothing of the application's.
//
// It is a value and a switch, not a function: what is handed to a function that the compiler does not know is allocated, and that would be each Put's change.
type step[V any] struct {
	kind  stepKind
	front bool     // push, pop: at the front
	cost  int32    // push: of the cell
	key   string   // of the entry; of a queue: of where it begins and ends
	name  string   // push, pop: of the queue
	cell  *cell[V] // push: the item. pop: what was taken out, or absent
	old   Version  // swap: what is to be replaced
	delta int64    // add: what is added
	sum   int64    // add: what came out

	missing []string // what it needs that is not in memory, after errMissing
}

type stepKind uint8

const (
	stepSwap stepKind = iota
	stepAdd
	stepPush
	stepPop
)

// stepWrites is how many writes a step finds at most.
const stepWrites = 2

// take finds the writes of ch, with their costs, or why there are to be none. In ch.writes there is room for stepWrites; a swap's stands there already, and only
// its place is found. Caller holds mu.
func (st *step[V]) take(db *DB[V], s *session[V], ch *change[V]) error {
	place, c := s.see(st.key, db.absent)
	if c == nil {
		return st.lack(st.key)
	}
	switch st.kind {
	case stepSwap:
		if db.versionOf(c) != st.old {
			return keyError(s.id(), st.key, ErrConflict)
		}
		ch.writes[0].place = place
		return nil
	case stepAdd:
		return st.add(db, s, ch, place, c)
	}
	head, tail, err := boundsOf(s.id(), st.key, c, db.absent)
	if err != nil {
		return err
	}
	if st.kind == stepPush {
		return st.push(db, ch, place, head, tail)
	}
	return st.pop(db, s, ch, place, head, tail)
}

// lack returns errMissing.
func (st *step[V]) lack(keys ...string) error {
	st.missing = keys
	return errMissing
}

// stepping makes the change that st finds. What it needs is loaded, outside of the lock.
func (h *Session[V]) stepping(ctx context.Context, ack Ack, st *step[V], writes []write[V]) error {
	if ack > Stored {
		return errAck(h.ID(), ack)
	}
	return h.do(ctx, func(s *session[V], life uint32) error {
		for {
			err := h.db.commit(ctx, s, &change[V]{step: st, writes: writes, bound: true, life: life, stored: ack == Stored})
			if err != errMissing {
				return err
			}
			if err := h.db.gather(ctx, s, life, st.missing); err != nil {
				return err
			}
			if _, err := h.db.fetch(ctx, s, life, st.missing[0], nil); err != nil { // the one that matters; it says why it cannot be read
				return err
			}
		}
	})
}
