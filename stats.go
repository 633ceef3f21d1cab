package kvstore

import (
	"sync/atomic"
	"time"
)

// Stats are numbers about a DB: gauges, which hold now, and counters, which only
// grow, so that the difference of two Stats (Sub) is about the time between them.
type Stats struct {
	// Gauges.
	Resident int           // sessions in memory
	Buffered int64         // bytes of what is not stored
	Lag      time.Duration // age of the oldest change that is not stored

	// LongestFlush is how long it took at most, since Open, to store what a lane had to write at a time, in however many
	// calls of the store. With a store that was always well, Lag was never above Options.MaxDelay + LongestFlush, or, where a
	// change was ripe while another flush was under way, MaxDelay + 2·LongestFlush.
	LongestFlush time.Duration

	// Counters.
	Changes   int64 // commits (a Put, a Delete, an Update …) that are stored now
	Puts      int64 // entries written to the store
	Deletes   int64 // entries deleted in the store
	Bytes     int64 // encoded bytes of Puts
	Sessions  int64 // sessions' flushes that were stored
	Flushes   int64 // calls of Store.Apply that were answered
	Retries   int64 // calls of Store.Apply that were not
	Adopted   int64 // sessions claimed
	Created   int64 // sessions made here
	Reloaded  int64 // sessions loaded again after an eviction
	Loads     int64 // entries loaded
	Evicted   int64 // sessions evicted
	Expired   int64 // sessions and entries that were resident and whose time came
	Fenced    int64 // sessions that were taken away
	Lost      int64 // entries handed to Hooks.Lost
	Conflicts int64 // transactions that ran again

	Fired      int64 // timers that fired, of which OnTimer's function returned nil
	TimerFails int64 // and those of which it did not, or that could not be committed: each time

	Missed     int64 // commits that a listener of OnCommit or Watch was not told of, since its queue was full: each of them counts
	HookPanics int64
	Mutated    int64 // values found changed in place (Options.DetectMutation)

	FlushTime time.Duration // spent in Store.Apply, answered calls
	ClaimTime time.Duration // spent in Store.Claim, granted claims
}

// Sub returns s with its counters reduced by those of earlier; gauges stay.
func (s Stats) Sub(earlier Stats) Stats {
	for i, c := range s.counters() {
		*c -= *earlier.counters()[i]
	}
	s.FlushTime -= earlier.FlushTime
	s.ClaimTime -= earlier.ClaimTime
	return s
}

func (s *Stats) counters() [21]*int64 {
	return [...]*int64{&s.Changes, &s.Puts, &s.Deletes, &s.Bytes, &s.Sessions, &s.Flushes, &s.Retries, &s.Adopted, &s.Created,
		&s.Reloaded, &s.Loads, &s.Evicted, &s.Expired, &s.Fenced, &s.Lost, &s.Conflicts, &s.Fired, &s.TimerFails, &s.Missed, &s.HookPanics, &s.Mutated}
}

// counters are what Stats reads. None is touched by a resident Get, nor by a Put of a dirty session.
type counters struct {
	changes, puts, deletes, bytes, stored, flushes, retries atomic.Int64
	adopted, created, reloaded, loads, evicted, expired     atomic.Int64
	fenced, lost, conflicts, missed, hookPanics, mutated    atomic.Int64
	flushTime, claimTime, fired, timerFails                 atomic.Int64
}

// Stats returns the present numbers. It does no I/O.
func (db *DB[V]) Stats() Stats {
	c := &db.count
	now := db.now()
	return Stats{
		Resident: db.sessions.size(), Buffered: db.budget.used.Load(), Lag: db.lag(now), LongestFlush: db.longestFlush(now),
		Changes: c.changes.Load(), Puts: c.puts.Load(), Deletes: c.deletes.Load(), Bytes: c.bytes.Load(),
		Sessions: c.stored.Load(), Flushes: c.flushes.Load(), Retries: c.retries.Load(),
		Adopted: c.adopted.Load(), Created: c.created.Load(), Reloaded: c.reloaded.Load(), Loads: c.loads.Load(),
		Evicted: c.evicted.Load(), Expired: c.expired.Load(), Fenced: c.fenced.Load(), Lost: c.lost.Load(),
		Conflicts: c.conflicts.Load(), Fired: c.fired.Load(), TimerFails: c.timerFails.Load(), Missed: c.missed.Load(), HookPanics: c.hookPanics.Load(), Mutated: c.mutated.Load(),
		FlushTime: time.Duration(c.flushTime.Load()), ClaimTime: time.Duration(c.claimTime.Load()),
	}
}
