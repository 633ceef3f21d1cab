package main

import (
	"fmt"
	"io"

	"github.com/seed-6f1f505d/kvstore/internal/callsim"
)

// report is what came of a run. Times are in milliseconds.
type report struct {
	Store string `json:"store"` // the kind of
	Seed  uint64 `json:"seed"`
	Calls int    `json:"calls"`

	Seconds      float64 `json:"seconds"` // until the driver stopped
	Events       int     `json:"events"`  // answered
	EventsPerSec float64 `json:"events_per_s"`
	Synced       int     `json:"synced"`     // events that were answered after they were stored
	Strayed      int     `json:"strayed"`    // events that were sent to a wrong node on purpose
	Redirected   int     `json:"redirected"` // answers that named another node, which lived, as the owner
	Adopted      int     `json:"adopted"`    // calls that were taken over, each time counted

	// The stopped node. What it attempted are changes that it sent to the store after it was let go on, of calls that
	// others had adopted: they were refused, or they landed.
	FrozenMS        float64 `json:"frozen_ms"`
	ZombieAttempted int     `json:"zombie_attempted"`
	ZombieLanded    int     `json:"zombie_landed"`  // calls in which one shows
	ZombieChecked   int     `json:"zombie_checked"` // calls that were compared in the store while nobody else changed them

	// From the fault to the first answer that needed it to be overcome: about a call of the node that was killed or
	// stopped; of an event that was stored, after a server of the store was killed.
	FirstAnswerMS      float64  `json:"first_answer_ms"` // the longest
	FirstAnswerKillMS  float64  `json:"first_answer_kill_ms"`
	FirstAnswerStopMS  float64  `json:"first_answer_stop_ms"`
	FirstAnswerStoreMS *float64 `json:"first_answer_store_ms,omitempty"` // nil: it is not the demo's to kill

	// What the kill and the stop cost. The bound is MaxDelay and the longest flush.
	LagBoundMS     float64 `json:"lag_bound_ms"`
	LongestFlushMS float64 `json:"longest_flush_ms"`
	EventsLost     int     `json:"events_lost"`   // not synced, and within the lag
	WorstLossMS    float64 `json:"worst_loss_ms"` // the age of the oldest of them
	WithinBound    bool    `json:"within_bound"`

	// Leases that were over although their nodes ran: on a machine that is too busy, or while the store was away.
	Lapses      int `json:"lapses"`
	LapsedCalls int `json:"lapsed_calls"` // that others adopted then, and that lost something

	// Guarantees: zero, all of them, with ZombieLanded.
	SyncedLost    int `json:"synced_lost"`
	Torn          int `json:"torn"`
	Corrupt       int `json:"corrupt"`
	CallsLost     int `json:"calls_lost"`
	Regressed     int `json:"regressed"`
	CleanExitLost int `json:"clean_exit_lost"`

	Checked  int      `json:"checked"` // calls compared with the model when all was over, in two rounds
	OK       bool     `json:"ok"`
	Problems []string `json:"problems,omitempty"`
}

// judge fills in what the ledger found, and whether all is well.
func (r *report) judge(f callsim.Findings, c config) {
	var v callsim.Report // the loss is judged as in the other example
	v.LongestFlushMS = r.LongestFlushMS
	v.Judge(f, c.maxDelay)
	r.EventsLost, r.WorstLossMS, r.LagBoundMS, r.WithinBound = v.EventsLost, v.WorstLossMS, v.LagBoundMS, v.WithinBound
	r.SyncedLost, r.Torn, r.Corrupt, r.CallsLost = f.SyncedLost, f.Torn, f.Corrupt, f.CallsLost
	r.Regressed, r.CleanExitLost, r.ZombieLanded = f.Regressed, f.CleanExitLost, f.ZombieLanded
	r.ZombieAttempted += f.ZombieLanded
	r.OK, r.Problems = v.OK, v.Problems
	r.FirstAnswerMS = max(r.FirstAnswerKillMS, r.FirstAnswerStopMS)
	if r.FirstAnswerStoreMS != nil {
		r.FirstAnswerMS = max(r.FirstAnswerMS, *r.FirstAnswerStoreMS)
	}
}

// Print writes the report as a table.
func (r *report) Print(w io.Writer) error {
	var t callsim.Table
	group, ms := callsim.Group, callsim.MS
	fmt.Fprintf(&t, "\n%s calls at three nodes on %s, seed %d, %.1f s; node a killed in mid-write, node b stopped for %.1f s\n\n",
		group(r.Calls), r.Store, r.Seed, r.Seconds, r.FrozenMS/1000)
	t.Row("events/s", group(int(r.EventsPerSec)), fmt.Sprintf("%s events, %s of them synced", group(r.Events), group(r.Synced)))
	t.Row("redirected", group(r.Redirected), fmt.Sprintf("%s events were sent to a wrong node on purpose", group(r.Strayed)))
	t.Row("adopted", group(r.Adopted), "calls taken over from a, and from b")
	t.Row("zombie flushes attempted", group(r.ZombieAttempted), "changes that b sent when it was let go on, of calls that others have")
	t.Row("kill to first answer", ms(r.FirstAnswerKillMS), "about a call of a's: the rest of its lease, and an adoption")
	t.Row("stop to first answer", ms(r.FirstAnswerStopMS), "about a call of b's")
	if r.FirstAnswerStoreMS != nil {
		t.Row("store to first answer", ms(*r.FirstAnswerStoreMS), "of an event that was stored after a server of the store was killed")
	}
	if r.Lapses > 0 {
		t.Row("leases that lapsed", group(r.Lapses), fmt.Sprintf("of nodes that ran: the store was away, or the machine busy; %s calls lost events then", group(r.LapsedCalls)))
	}
	t.Row("lag bound", ms(r.LagBoundMS), fmt.Sprintf("MaxDelay + the longest flush, %s", ms(r.LongestFlushMS)))
	above := ""
	if !r.WithinBound {
		above = ": ABOVE THE LAG BOUND"
	}
	t.Row("worst loss", ms(r.WorstLossMS), fmt.Sprintf("of %s events not synced, lost in the kill and the stop%s", group(r.EventsLost), above))
	t.Must("zombie flushes landed", r.ZombieLanded, fmt.Sprintf("   (%s calls looked at in the store, just after b's attempts)", group(r.ZombieChecked)))
	t.Must("synced updates lost", r.SyncedLost, "")
	t.Must("torn transactions", r.Torn, "")
	t.Must("corrupt calls", r.Corrupt, "")
	t.Must("synced calls lost", r.CallsLost, "")
	t.Must("went back without a fault", r.Regressed, "")
	t.Must("lost in a clean exit", r.CleanExitLost, fmt.Sprintf("   (%s calls checked, in two rounds)", group(r.Checked)))
	fmt.Fprintln(&t)
	if !r.WithinBound && r.OK {
		fmt.Fprintf(&t, "warning: the worst loss is above the lag bound: the flush that the fault cut off was slower than any before,\n"+
			"or the system kept a process from running. On a quiet machine this should not happen.\n\n")
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&t, "BROKEN: %s\n", p)
	}
	_, err := io.WriteString(w, t.String())
	return err
}
