package kvstore

import (
	"iter"
	"math/bits"

	"github.com/seed-6f1f505d/kvstore/store"
)

// wheel keeps alarms in the order in which they go off, roughly: a hierarchical timing wheel (Varghese and Lauck, SOSP 1987, scheme 7).
// To set an alarm, to move it and to take it out costs the same however many there are. It knows nothing of clocks.
//
// A time is eleven digits to the base 64. An alarm stands on the level of the highest digit in which it differs from now, in the slot of its
// own digit there. When now comes to a slot of level 0, its alarms go off; of a higher level, they fall to lower ones: at most ten times in an
// alarm's life, and an alarm that is far is not touched for a sixty-fourth of the time that it is away.
//
// Invariant: for each alarm in a slot of a level,
//
//	all higher digits of at = those of now, and the level's digit of at > that of now (on level 0: ≥)
//
// but for what is before now, which stands in now's own slot of level 0, and for a slot that now has just come to, and that is emptied next.
type wheel[T any] struct {
	now   store.Time
	n     int
	slots [wheelLevels][wheelSlots]uint32 // the first of each; 0: none
	busy  [wheelLevels]uint64             // bit i: slots[level][i] is not empty
	nodes [][]node[T]                     // node i is nodes[(i-1)/nodeChunk][(i-1)%nodeChunk]
	used  uint32                          // nodes that were ever taken: 1 … used
	free  uint32                          // the first of those that are not in use, by next
}

const (
	digitBits   = 6
	wheelSlots  = 1 << digitBits
	wheelLevels = (63 + digitBits - 1) / digitBits
	nodeChunk   = 256
	slotMark    = 1 << 31
)

// node is an alarm's place. Nodes are numbered: that is half of a pointer, and nothing to the collector.
type node[T any] struct {
	at   store.Time
	what T
	next uint32 // in its slot; 0: none
	prev uint32 // likewise; the first has the number of its slot instead, with slotMark
}

func (w *wheel[T]) node(i uint32) *node[T] { return &w.nodes[(i-1)/nodeChunk][(i-1)%nodeChunk] }

// insert sets an alarm, and returns its number, which is its own until it is removed or goes off.
func (w *wheel[T]) insert(at store.Time, what T) uint32 {
	i := w.free
	if i != 0 {
		w.free = w.node(i).next
	} else {
		if w.used%nodeChunk == 0 {
			w.nodes = append(w.nodes, make([]node[T], nodeChunk))
		}
		w.used++
		i = w.used
	}
	n := w.node(i)
	n.at, n.what = at, what
	w.link(i)
	w.n++
	return i
}

// at returns when an alarm goes off.
func (w *wheel[T]) at(i uint32) store.Time { return w.node(i).at }

// move sets an alarm to another time.
func (w *wheel[T]) move(i uint32, at store.Time) {
	w.unlink(i)
	w.node(i).at = at
	w.link(i)
}

// remove takes an alarm out.
func (w *wheel[T]) remove(i uint32) {
	w.unlink(i)
	*w.node(i) = node[T]{next: w.free}
	w.free = i
	w.n--
}

func (w *wheel[T]) link(i uint32) {
	n := w.node(i)
	at := max(n.at, w.now)
	level := 0
	if d := uint64(at ^ w.now); d >= wheelSlots {
		level = (bits.Len64(d) - 1) / digitBits
	}
	slot := digit(at, level)
	first := &w.slots[level][slot]
	n.next, n.prev = *first, slotMark|uint32(level*wheelSlots+slot)
	if n.next != 0 {
		w.node(n.next).prev = i
	}
	*first = i
	w.busy[level] |= 1 << slot
}

func (w *wheel[T]) unlink(i uint32) {
	n := w.node(i)
	if n.next != 0 {
		w.node(n.next).prev = n.prev
	}
	if n.prev&slotMark == 0 {
		w.node(n.prev).next = n.next
		return
	}
	level, slot := (n.prev&^slotMark)/wheelSlots, n.prev%wheelSlots
	if w.slots[level][slot] = n.next; n.next == 0 {
		w.busy[level] &^= 1 << slot
	}
}

func digit(t store.Time, level int) int { return int(t>>(level*digitBits)) % wheelSlots }

// pop takes out an alarm that goes off at now or before. If there is none, or after it has taken steps steps, it returns 0, and the time before which
// none goes off; which is not after now in the latter case. Time does not go back: an earlier now is as good as the last.
func (w *wheel[T]) pop(now store.Time, steps *int) (what T, ok bool, next store.Time) {
	for ; *steps > 0; *steps-- {
		level, slot := w.first()
		if level < 0 {
			w.now = max(w.now, now)
			return what, false, 1<<63 - 1
		}
		// Where the slot begins: all that stands on lower levels, and there is nothing, would be before.
		span := store.Time(1) << (level * digitBits)
		from := w.now&^(span*wheelSlots-1) | store.Time(slot)*span
		if level == wheelLevels-1 { // it has less than 64 slots: the mask would be of more bits than there are
			from = store.Time(slot) * span
		}
		if from > now {
			w.now = max(w.now, now)
			return what, false, from
		}
		w.now = max(w.now, from)
		i := w.slots[level][slot]
		if level > 0 {
			w.unlink(i)
			w.link(i)
			continue
		}
		what = w.node(i).what
		w.remove(i)
		*steps--
		return what, true, 0
	}
	return what, false, w.now
}

// first returns the slot whose alarms go off first; level -1 if there are none. That is one that now has come to, and which is to be
// emptied; or else the first of the lowest level that has any.
func (w *wheel[T]) first() (level, slot int) {
	level = -1
	for l := wheelLevels - 1; l >= 0; l-- {
		if w.busy[l] == 0 {
			continue
		}
		if d := digit(w.now, l); l > 0 && w.busy[l]&(1<<d) != 0 {
			return l, d
		}
		level, slot = l, bits.TrailingZeros64(w.busy[l])
	}
	return level, slot
}

// all yields the alarms, in no order.
func (w *wheel[T]) all() iter.Seq2[store.Time, T] {
	return func(yield func(store.Time, T) bool) {
		for level := range w.slots {
			for _, i := range w.slots[level] {
				for ; i != 0; i = w.node(i).next {
					if n := w.node(i); !yield(n.at, n.what) {
						return
					}
				}
			}
		}
	}
}
