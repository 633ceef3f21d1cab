package kvstore

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Preloaded is what a preload has done so far. Every session that is done with is in one of five numbers:
//
//	Done() = Adopted + Here + Others + Gone + Failed ≤ Total
type Preloaded struct {
	// Total is how many sessions are to come in. Until Complete it is a lower bound: what the walk of the store has met so far, or what
	// Preload.Count has counted, whichever is more.
	Total int

	// Complete says that the walk has seen everything: Total will not change any more. It stays false if the preload ended before.
	Complete bool

	Adopted int // by this preload
	Here    int // brought in by an event after the walk had met it
	Others  int // adopted by other nodes meanwhile
	Gone    int // deleted or expired meanwhile
	Failed  int // could not be brought in, or not with all the entries that were asked for: a *PreloadError names them

	// Full says that it stopped before its end because Options.MaxResident sessions are in memory. That is no error: the others stay in the
	// store, where an event finds them.
	Full bool

	// Took is the time since it began; once it is over, the time it took.
	Took time.Duration

	// Rate is how many sessions were done with in a second, over the last 5 to 10 s in which any was; or since it began, if that is
	// less, or it is over.
	Rate float64

	// Left is an estimate of the time that is left: (Total − Done()) / Rate. So it is as much a lower bound as Total is, and does not know
	// what demand will hold up. Zero: it is over. Negative: unknown, as nothing is done yet.
	Left time.Duration
}

// Done returns how many sessions are done with, whatever became of them.
func (p Preloaded) Done() int { return p.Adopted + p.Here + p.Others + p.Gone + p.Failed }

// PreloadError says what a preload has not brought in, and why.
type PreloadError struct {
	// Failed is how many sessions failed (Preloaded.Failed).
	Failed int

	// Missing are the first 100 of them, with the reason: a *store.CorruptError, an error of the codec or of the store.
	Missing map[string]error

	// Err is why the preload ended before its end: the context's error, ErrClosed, ErrDraining, ErrSuspended, or that the store did not answer.
	// What it had not met by then is not in Failed. Nil: it went through to the end.
	Err error
}

// missingMax bounds PreloadError.Missing.
const missingMax = 100

func (e *PreloadError) Error() string {
	var b strings.Builder
	b.WriteString("kvstore: preload: ")
	if e.Err != nil {
		fmt.Fprintf(&b, "it is not complete: %v", e.Err)
	}
	if e.Failed == 0 {
		return b.String()
	}
	if e.Err != nil {
		b.WriteString("; ")
	}
	fmt.Fprintf(&b, "%d sessions could not be brought in", e.Failed)
	for i, id := range slices.Sorted(maps.Keys(e.Missing)) {
		if i == 3 {
			b.WriteString("; …")
			break
		}
		fmt.Fprintf(&b, "; %q: %v", id, e.Missing[id])
	}
	return b.String()
}

// Unwrap returns Err, and why each of Missing is.
func (e *PreloadError) Unwrap() []error {
	var all []error
	if e.Err != nil {
		all = append(all, e.Err)
	}
	for _, id := range slices.Sorted(maps.Keys(e.Missing)) {
		all = append(all, e.Missing[id])
	}
	return all
}
