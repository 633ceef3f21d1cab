package callsim

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// Report is what came of a run. Times are in milliseconds.
type Report struct {
	Seed  uint64 `json:"seed"`
	Calls int    `json:"calls"`

	// Before the kill.
	Seconds      float64 `json:"seconds"`
	Events       int     `json:"events"` // answered by the node that was killed
	EventsPerSec float64 `json:"events_per_s"`
	Synced       int     `json:"synced"`        // events that were answered after they were stored
	EntryChanges int64   `json:"entry_changes"` // entries that events changed
	StoreWrites  int64   `json:"store_writes"`  // entries put or deleted in the store, as of the last look before the kill
	StoreCalls   int64   `json:"store_calls"`   // batches in which they were written
	Coalescing   float64 `json:"coalescing"`    // EntryChanges / StoreWrites
	MidWrite     bool    `json:"mid_write"`     // it was writing when it was last looked at

	// What the kill cost. The bound is MaxDelay and the longest flush.
	LagBoundMS     float64 `json:"lag_bound_ms"`
	LongestFlushMS float64 `json:"longest_flush_ms"`
	LongestLagMS   float64 `json:"longest_lag_ms"` // that the node saw itself
	EventsLost     int     `json:"events_lost"`    // not synced, and within the lag
	WorstLossMS    float64 `json:"worst_loss_ms"`  // the age of the oldest of them
	WithinBound    bool    `json:"within_bound"`

	// The takeover.
	FirstAdoptMS float64 `json:"first_adopt_ms"` // from the kill to the first answer about an adopted call
	Adopted      int     `json:"adopted"`
	AdoptP50MS   float64 `json:"adopt_p50_ms"`
	AdoptP99MS   float64 `json:"adopt_p99_ms"`
	EventsAfter  int     `json:"events_after"` // answered by the other node

	// What calls have besides entries, on both nodes together.
	Logged        int64   `json:"logged"`          // events that the calls' queues took
	Lookups       int64   `json:"lookups"`         // of calls by their further name
	TimersFired   int64   `json:"timers_fired"`    // as far as the node that was killed had told
	LatestTimerMS float64 `json:"latest_timer_ms"` // from the time of a timer to when it fired
	ByTimer       int     `json:"by_timer"`        // calls that were adopted for a timer that was due, before their next event came

	// Guarantees: zero, all of them.
	SyncedLost    int `json:"synced_lost"`
	Torn          int `json:"torn"`
	Corrupt       int `json:"corrupt"`
	CallsLost     int `json:"calls_lost"`
	Regressed     int `json:"regressed"`
	CleanExitLost int `json:"clean_exit_lost"`
	EarlyTimers   int `json:"early_timers"` // fired before their time
	TornTimers    int `json:"torn_timers"`  // found another number of charges than they were to: what a timer changed, and that it fired, came apart

	Checked  int      `json:"checked"` // calls compared with the model, in all three rounds together
	OK       bool     `json:"ok"`
	Problems []string `json:"problems,omitempty"`
}

// Bound returns how old a change may be that is lost in a kill, in milliseconds, and from which age on its loss counts
// as a broken guarantee: five times that, and at least a second.
//
// The bound holds for a healthy store, and nobody can measure the flush that the kill cut
// off, nor how long the system kept a process from running. So a loss between the
// two is a warning. But a change that no flush takes up in time grows older than any
// hiccup, and that is what the limit catches.
func Bound(maxDelay time.Duration, longestFlushMS float64) (bound, limit float64) {
	bound = max(millis(maxDelay), longestFlushMS) + longestFlushMS
	return bound, max(5*bound, 1000)
}

// Judge fills in what the ledger found, and whether all is well.
func (r *Report) Judge(f Findings, maxDelay time.Duration) {
	r.EventsLost, r.WorstLossMS = f.Lost, millis(f.WorstLoss)
	bound, limit := Bound(maxDelay, r.LongestFlushMS)
	r.LagBoundMS = bound
	r.WithinBound = r.WorstLossMS <= r.LagBoundMS
	r.SyncedLost, r.Torn, r.Corrupt, r.CallsLost = f.SyncedLost, f.Torn, f.Corrupt, f.CallsLost
	r.Regressed, r.CleanExitLost = f.Regressed, f.CleanExitLost
	r.Problems = f.Problems
	r.OK = !f.Broken() && r.EarlyTimers+r.TornTimers == 0
	if r.WorstLossMS > limit {
		r.OK = false
		r.Problems = append(r.Problems, fmt.Sprintf("worst loss: an event of %.0f ms before the kill was lost: the lag bound is %.0f ms, and above %.0f ms no hiccup explains it",
			r.WorstLossMS, bound, limit))
	}
}

// Inside adds what a node tells of what its calls have besides entries.
func (r *Report) Inside(st NodeStats) {
	r.Lookups += st.Lookups
	r.TimersFired += st.DB.Fired
	r.LatestTimerMS = max(r.LatestTimerMS, st.LatestMS)
	r.EarlyTimers += st.Early
	r.TornTimers += st.Torn
	r.Logged += st.Logged
}

// Per returns a/b to two decimals, 0 if b is 0.
func Per(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return math.Round(100*a/b) / 100
}

// Table is a report as text, in the making.
type Table struct{ strings.Builder }

// Row adds a line: a name, its value, and what else is to be said.
func (t *Table) Row(name, value, note string) {
	fmt.Fprintln(t, strings.TrimRight(fmt.Sprintf("  %-28s %10s   %s", name, value, note), " "))
}

// Must adds a line with a number that must be zero.
func (t *Table) Must(name string, n int, note string) {
	mark := "must be 0"
	if n != 0 {
		mark = "MUST BE 0"
	}
	t.Row(name, Group(n), mark+note)
}

// MS returns a number of milliseconds as text.
func MS(v float64) string { return fmt.Sprintf("%.1f ms", v) }

// Print writes the report as a table.
func (r *Report) Print(w io.Writer) error {
	var t Table
	row, must, ms := t.Row, t.Must, MS
	mid := ""
	if r.MidWrite {
		mid = ", in mid-write"
	}
	fmt.Fprintf(&t, "\n%s calls, seed %d, node a killed after %.1f s%s\n\n", Group(r.Calls), r.Seed, r.Seconds, mid)
	row("events/s", Group(int(r.EventsPerSec)), fmt.Sprintf("%s events, %s of them synced", Group(r.Events), Group(r.Synced)))
	row("store writes", Group(int(r.StoreWrites)), fmt.Sprintf("entries in %s batches, for %s changes", Group(int(r.StoreCalls)), Group(int(r.EntryChanges))))
	row("coalescing", fmt.Sprintf("%.2f : 1", r.Coalescing), "entries changed by events : entries written")
	row("lag bound", ms(r.LagBoundMS), fmt.Sprintf("MaxDelay + the longest flush, %s", ms(r.LongestFlushMS)))
	row("longest lag seen", ms(r.LongestLagMS), "by the node itself")
	above := ""
	if !r.WithinBound {
		above = ": ABOVE THE LAG BOUND"
	}
	row("worst loss", ms(r.WorstLossMS), fmt.Sprintf("of %s events not synced, lost in the kill%s", Group(r.EventsLost), above))
	row("kill to first adopted call", ms(r.FirstAdoptMS), "")
	row("adoption p50", ms(r.AdoptP50MS), "")
	row("adoption p99", ms(r.AdoptP99MS), fmt.Sprintf("%s calls adopted, %s events after that", Group(r.Adopted), Group(r.EventsAfter)))
	row("events in the calls' logs", Group(int(r.Logged)), "pushed to a queue, of which the last 4 are kept")
	row("calls asked for by name", Group(int(r.Lookups)), "by an alias, the SIP Call-ID")
	row("timers fired", Group(int(r.TimersFired)), fmt.Sprintf("the latest %s after its time, its node being dead; %s calls were adopted for one", ms(r.LatestTimerMS), Group(r.ByTimer)))
	must("synced updates lost", r.SyncedLost, "")
	must("torn transactions", r.Torn, "")
	must("corrupt calls", r.Corrupt, "")
	must("synced calls lost", r.CallsLost, "")
	must("went back without a kill", r.Regressed, "")
	must("timers too early", r.EarlyTimers, "")
	must("timers torn", r.TornTimers, "")
	must("lost in a clean exit", r.CleanExitLost, fmt.Sprintf("   (%s calls checked, in three rounds)", Group(r.Checked)))
	fmt.Fprintln(&t)
	if !r.WithinBound && r.OK {
		fmt.Fprintf(&t, "warning: the worst loss is above the lag bound: the flush that the kill cut off was slower than any before,\n"+
			"or the system kept a process from running. On a quiet machine this should not happen.\n\n")
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&t, "BROKEN: %s\n", p)
	}
	_, err := io.WriteString(w, t.String())
	return err
}

// Group writes a number with its thousands apart.
func Group(n int) string {
	s := strconv.Itoa(n)
	if n < 0 {
		return s
	}
	var b strings.Builder
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}
