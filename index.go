package kvstore

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

// index finds the resident sessions by their IDs. It is the map of the DB, and what every operation begins
// with: a lookup takes no lock, allocates nothing, and waits for nobody.
//
// It is open addressing in groups of a cache line, each with a word of tags that rules nearly all wrong slots out
// before a session is touched (Kulukundis, "Designing a Fast, Efficient, Cache-friendly Hash Table", CppCon 2017; here
// with seven slots, and the tags in a word that is read at once). What it holds is the front of the session, with the
// ID, which is the key, and the main entry. So the way to a value is group → front → cell, one step shorter than
// through a general map, whose entries hold key and pointer; and 12 to 24 bytes are all that the index adds to a
// session.
//
// Writers of a shard take turns; they come when sessions arrive and leave. Nothing ever moves within a table: a shard
// that is too full is built anew, and readers of the old table see the index as it was when they began.
//
// Hashes are seeded anew in every process: IDs come from the network, and nobody is to choose ones that collide.
type index[V any] struct {
	seed   maphash.Seed
	none   *table[V] // of a shard without sessions: one for all, in which nothing is ever put
	shards [indexShards]shard[V]
}

func (x *index[V]) init() {
	x.seed, x.none = maphash.MakeSeed(), newTable[V](1)
	x.clear()
}

// So many shards that building one anew keeps nobody waiting for long: with ten million sessions it has 40,000.
const (
	indexShardBits = 8
	indexShards    = 1 << indexShardBits
)

// shard is the part of an index whose hashes begin with the same bits.
type shard[V any] struct {
	table atomic.Pointer[table[V]]
	n     atomic.Int64 // sessions in it; written under mu
	mu    sync.Mutex   // of writers

	spilled int      // groups of the table that are marked so; under mu
	_       [32]byte // a cache line each
}

// table is a generation of a shard: a head, in whose tags stands the mask, and behind it, in the same piece of memory,
// mask + 1 groups, a power of two.
//
// It is one object for the garbage collector's sake: so a scan of the shards finds all tables at once, and all that
// they lead to before it goes on from there. (With one small object in between, it went from each table to its few
// sessions on each page of memory, and then to the next table and the same pages again: three times as long; see bench,
// gc/put.)
//
// Invariant: a session is in the first group, from that of its hash on, that had room when it came; all groups before
// are marked as spilled. Marks stay when sessions go: a table with too many is built anew.
type table[V any] struct{ head group[V] }

func newTable[V any](groups int) *table[V] {
	mem := make([]group[V], groups+1)
	mem[0].tags.Store(uint64(groups - 1))
	return (*table[V])(unsafe.Pointer(&mem[0]))
}

func (t *table[V]) mask() uint32 { return uint32(t.head.tags.Load()) }

// group returns the i-th group; i ≤ mask.
func (t *table[V]) group(i uint32) *group[V] {
	return (*group[V])(unsafe.Add(unsafe.Pointer(t), uintptr(i+1)*unsafe.Sizeof(t.head)))
}

const (
	groupSlots = 7
	lowBits    = 0x00_01_01_01_01_01_01_01 // of the tags of a group
	highBits   = 0x00_80_80_80_80_80_80_80
	spill      = 1 << 56 // in a group's tags: a session that belongs here may be in a later group
)

// group is a cache line of slots. Byte i of tags belongs to slot i: 0 if it is free, else part of the session's hash with
// the high bit set. The slot is written before its tag is set, and cleared after, but a reader may
// have read the tags before: what it finds in the slot decides.
type group[V any] struct {
	tags  atomic.Uint64
	slots [groupSlots]atomic.Pointer[front[V]]
}

// hash returns the hash of an ID: the shard in the highest bits, the tag in the next, the group in the lowest ones.
func (x *index[V]) hash(id string) uint32 { return uint32(maphash.String(x.seed, id)) }

func (x *index[V]) shard(hash uint32) *shard[V] { return &x.shards[hash>>(32-indexShardBits)] }

func tagOf(hash uint32) uint64 { return uint64(hash>>(32-indexShardBits-7))&0x7f | 0x80 }

// matches returns a word with the high bit of each slot's byte set whose tag may be tag: all that are, and sometimes
// one above such a one.
func matches(tags, tag uint64) uint64 {
	d := tags ^ tag*lowBits
	return (d - lowBits) &^ d & highBits
}

func slotOf(match uint64) int { return bits.TrailingZeros64(match) >> 3 }

// front returns the front of the session of that ID; nil if there is none.
func (x *index[V]) front(id string) *front[V] {
	hash := x.hash(id)
	if f := x.home(hash).guess(hash); f != nil && f.is(id) {
		return f
	}
	return x.search(hash, id)
}

// home returns the group where a session of that hash belongs, and is if there was room.
func (x *index[V]) home(hash uint32) *group[V] {
	t := x.shard(hash).table.Load()
	return t.group(hash & t.mask())
}

// guess returns the first session of the group that its tags do not rule out: nearly always the one that is looked for. If there is none, it is nil or
// any other.
func (g *group[V]) guess(hash uint32) *front[V] {
	slot := bits.TrailingZeros64(matches(g.tags.Load(), tagOf(hash))) & 0x38 // × 8, and 0 if nothing matches
	return (*atomic.Pointer[front[V]])(unsafe.Add(unsafe.Pointer(&g.slots), slot)).Load()
}

// search is front, in all groups where the session may be.
func (x *index[V]) search(hash uint32, id string) *front[V] {
	return x.shard(hash).table.Load().find(hash, id)
}

// load returns the session of that ID; nil if there is none.
func (x *index[V]) load(id string) *session[V] { return x.front(id).whole() }

func (t *table[V]) find(hash uint32, id string) *front[V] {
	mask := t.mask()
	for i := range mask + 1 {
		g := t.group((hash + i) & mask)
		tags := g.tags.Load()
		for m := matches(tags, tagOf(hash)); m != 0; m &= m - 1 {
			if f := g.slots[slotOf(m)].Load(); f != nil && f.is(id) {
				return f
			}
		}
		if tags&spill == 0 {
			break
		}
	}
	return nil
}

// insert adds s unless there is a session of the same ID. It returns the one that is there now.
func (x *index[V]) insert(s *session[V]) *session[V] {
	hash := x.hash(s.id())
	sh := x.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	t := sh.table.Load()
	if was := t.find(hash, s.id()); was != nil {
		return was.whole() // which cannot have left: that is what the lock is for
	}
	n := int(sh.n.Load()) + 1
	if t == x.none || n > t.room() || sh.spilled > int(t.mask())/2 {
		t, sh.spilled = x.rebuilt(t, n)
		sh.spilled += t.add(hash, s)
		sh.table.Store(t)
	} else {
		sh.spilled += t.add(hash, s)
	}
	sh.n.Store(int64(n))
	return s
}

// remove takes s out, if it is there.
func (x *index[V]) remove(s *session[V]) {
	hash := x.hash(s.id())
	sh := x.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	t := sh.table.Load()
	if !t.remove(hash, s) {
		return
	}
	s.session.Store(nil) // who has the ID shall not keep the session by it
	n := int(sh.n.Load()) - 1
	sh.n.Store(int64(n))
	switch {
	case n == 0:
		sh.table.Store(x.none)
		sh.spilled = 0
	case n < t.room()/8:
		t, sh.spilled = x.rebuilt(t, n)
		sh.table.Store(t)
	}
}

// room returns how many sessions a table holds before it is built anew, larger: three quarters of its slots.
func (t *table[V]) room() int { return int(t.mask()+1) * groupSlots * 3 / 4 }

// rebuilt returns a new table with the sessions of t and room for n, and how many groups of it have spilled.
func (x *index[V]) rebuilt(t *table[V], n int) (next *table[V], spilled int) {
	groups := 1
	for ; groups*groupSlots < 2*n; groups *= 2 { // not just for n: what has been built anew is not to be again soon
	}
	next = newTable[V](groups)
	for s := range t.all {
		spilled += next.add(x.hash(s.id()), s)
	}
	return next, spilled
}

// add puts a session in that is not there, and returns how many groups it has marked as spilled. There is room. Caller
// holds mu, or has t for itself.
func (t *table[V]) add(hash uint32, s *session[V]) (spilled int) {
	mask := t.mask()
	for i := hash & mask; ; i = (i + 1) & mask {
		g := t.group(i)
		tags := g.tags.Load()
		if free := ^tags & highBits; free != 0 {
			slot := slotOf(free)
			g.slots[slot].Store(s.front)
			g.tags.Store(tags | tagOf(hash)<<(8*slot))
			return spilled
		}
		if tags&spill == 0 {
			g.tags.Store(tags | spill)
			spilled++
		}
	}
}

// remove takes s out; it reports whether it was there. Caller holds mu.
func (t *table[V]) remove(hash uint32, s *session[V]) bool {
	mask := t.mask()
	for i := range mask + 1 {
		g := t.group((hash + i) & mask)
		tags := g.tags.Load()
		for m := matches(tags, tagOf(hash)); m != 0; m &= m - 1 {
			if slot := slotOf(m); g.slots[slot].Load() == s.front {
				g.tags.Store(tags &^ (0xff << (8 * slot)))
				g.slots[slot].Store(nil)
				return true
			}
		}
		if tags&spill == 0 {
			break
		}
	}
	return false
}

// all calls yield for each session in the table.
func (t *table[V]) all(yield func(*session[V]) bool) {
	for i := range t.mask() + 1 {
		g := t.group(i)
		for j := range g.slots {
			if s := g.slots[j].Load().whole(); s != nil && !yield(s) {
				return
			}
		}
	}
}

// all walks the sessions. One that is there throughout the walk is met once; others may be. The index may change meanwhile.
func (x *index[V]) all() iter.Seq[*session[V]] {
	return func(yield func(*session[V]) bool) {
		for i := range x.shards {
			for s := range x.shards[i].table.Load().all {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// size returns the number of sessions.
func (x *index[V]) size() (n int) {
	for i := range x.shards {
		n += int(x.shards[i].n.Load())
	}
	return n
}

// clear empties the index.
func (x *index[V]) clear() {
	for i := range x.shards {
		sh := &x.shards[i]
		sh.mu.Lock()
		sh.table.Store(x.none)
		sh.n.Store(0)
		sh.spilled = 0
		sh.mu.Unlock()
	}
}
