package bolt

// arena is memory for the records of one transaction. bbolt refers to a value that it is given until the
// transaction ends, and not after: then the next one has the same memory. What is not allocated for each record
// the garbage collector need not come round for, in the middle of the application's work.
//
// It belongs to the holder of Store.turn.
type arena struct {
	chunks [][]byte
	next   int    // chunks[next:] are free
	spare  []byte // what is left of chunks[next-1]
}

const (
	arenaChunk = 32 << 10
	arenaKept  = 128 // chunks that are kept for the next transaction
)

// space returns an empty slice with room for n bytes. Many small ones share a chunk; a large one is allocated.
func (a *arena) space(n int) []byte {
	if n > arenaChunk/8 {
		return make([]byte, 0, n)
	}
	if n > len(a.spare) {
		if a.next == len(a.chunks) {
			a.chunks = append(a.chunks, make([]byte, arenaChunk))
		}
		a.spare = a.chunks[a.next]
		a.next++
	}
	space := a.spare[:0:n]
	a.spare = a.spare[n:]
	return space
}

// reset has the next transaction begin from the start. The last one is over.
func (a *arena) reset() {
	if len(a.chunks) > arenaKept {
		clear(a.chunks[arenaKept:])
		a.chunks = a.chunks[:arenaKept]
	}
	a.next, a.spare = 0, nil
}
