// Package redo writes again what a store's server has acknowledged and forgot in a crash: for the adapter of an engine that acknowledges sooner than
// what it has is durable.
//
// All that was acknowledged since the last barrier is kept, as it was sent. Every call tells the server which memory of its own it counts on, and a
// server that has lost that refuses the call. Then, before anything else is written, all is written once more, in its order: what the
// server still has it knows by its number, and what somebody else has claimed meanwhile is fenced. So a server's crash loses
// nothing, as long as this process lives.
package redo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Memory names what a server remembers until it crashes. The zero value is none.
type Memory [16]byte

// ErrForgot is what a call ends with, with nothing done, if the server has not that memory.
var ErrForgot = errors.New("the server has lost what it had in memory")

// Server is what a Log needs of an engine. Its calls return ErrForgot as above.
type Server interface {
	// Memory returns the name of the server's memory, which it gives itself when it has none.
	Memory(ctx context.Context) (Memory, error)

	// Write is as [store.Store].Apply, but if the server has that memory only: else it returns ErrForgot. If there are several servers, of which
	// some have it, or several steps, changes may have been written all the same.
	Write(ctx context.Context, of Memory, changes []store.Change) ([]store.Result, error)

	// Harden makes all durable that was acknowledged before, as far as the engine can, if the server has that memory.
	Harden(ctx context.Context, of Memory) error
}

const (
	// maxBytes is how much is kept, or little more. Then the oldest goes; where a barrier covers all, that makes it durable first.
	maxBytes = 32 << 20

	// maxAge is after how long something is made durable that nobody has asked a barrier for.
	maxAge = time.Second
)

// Log is what may be forgotten. Its methods can be called by many goroutines.
type Log struct {
	server Server
	stays  time.Duration

	// Who writes holds one of it, who writes again all: nothing new is written before what was forgotten.
	turn *semaphore.Weighted

	mu     sync.Mutex
	memory Memory // that of the server which acknowledged what is kept
	kept   []kept
	before uint64 // how many were kept before these
	sure   uint64 // up to this place a barrier has covered them
	bytes  int
	again  Memory   // of the server to which all is being written again,
	upto   uint64   // as far as it is kept before this place
	lost   []string // sessions of which something was forgotten, and could not be written again
	timer  *time.Timer
	closed bool
	timed  sync.WaitGroup // what the timer does, until ctx is over
	ctx    context.Context
	cancel context.CancelFunc
}

type kept struct {
	store.Change
	at time.Time // when it was acknowledged, or written again
}

const all = 1 << 30

// New returns an empty log for a server. Unless stays is 0, the engine's barrier does not cover all ways to forget: then a change is kept for so long
// though a barrier has covered it, and no longer though none has if it is too much.
func New(s Server, stays time.Duration) *Log {
	l := &Log{server: s, stays: stays, turn: semaphore.NewWeighted(all)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Begin has the log ask for the name of the server's memory, which the first Write does else.
func (l *Log) Begin(ctx context.Context) error { return l.recall(ctx, Memory{}) }

// Write writes changes as Server.Write does, and keeps those that are acknowledged.
func (l *Log) Write(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	if l.full() {
		var lost *store.ForgottenError
		if err := l.Barrier(ctx); errors.As(err, &lost) {
			l.lose(lost.Sessions) // whoever waits for a barrier is to be told
		} else if err != nil {
			return nil, err
		}
		l.full()
	}
	for {
		if err := l.turn.Acquire(ctx, 1); err != nil {
			return nil, err
		}
		l.mu.Lock()
		of := l.memory
		l.mu.Unlock()
		var rs []store.Result
		err := ErrForgot
		if of != (Memory{}) {
			rs, err = l.server.Write(ctx, of, changes)
		}
		if err == nil {
			l.keep(changes, rs)
		}
		l.turn.Release(1)
		if !errors.Is(err, ErrForgot) {
			return rs, err
		}
		if err := l.recall(ctx, of); err != nil {
			return nil, err
		}
	}
}

// keep keeps those of the changes that the server has now.
func (l *Log) keep(changes []store.Change, rs []store.Result) {
	some := make([]kept, 0, len(rs))
	now, bytes := time.Now(), 0
	for i := range rs {
		if o := rs[i].Outcome; o == store.Applied || o == store.Already {
			some = append(some, kept{changes[i], now})
			bytes += size(&changes[i])
		}
	}
	own(some)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, some...)
	l.bytes += bytes
	l.schedule()
}

// own has the changes refer to nothing of the caller's but strings, in few pieces.
func own(some []kept) {
	puts, deletes, bytes := 0, 0, 0
	for i := range some {
		puts, deletes = puts+len(some[i].Puts), deletes+len(some[i].Deletes)
		for j := range some[i].Puts {
			bytes += len(some[i].Puts[j].Value)
		}
	}
	entries, keys, arena := make([]store.Entry, 0, puts), make([]string, 0, deletes), make([]byte, 0, bytes)
	for i := range some {
		c := &some[i]
		c.Aliases = slices.Clone(c.Aliases)
		from := len(keys)
		keys = append(keys, c.Deletes...)
		c.Deletes = keys[from:len(keys):len(keys)]
		from = len(entries)
		for _, e := range c.Puts {
			at := len(arena)
			arena = append(arena, e.Value...)
			e.Value = arena[at:len(arena):len(arena)]
			entries = append(entries, e)
		}
		c.Puts = entries[from:len(entries):len(entries)]
	}
}

// schedule has all made durable in a while. Caller holds mu.
func (l *Log) schedule() {
	if len(l.kept) == 0 || l.timer != nil || l.closed {
		return
	}
	l.timed.Add(1)
	l.timer = time.AfterFunc(maxAge, func() {
		defer l.timed.Done()
		ctx, cancel := context.WithTimeout(l.ctx, 10*maxAge)
		defer cancel()
		err := l.Barrier(ctx) // one that fails is tried again
		l.mu.Lock()
		defer l.mu.Unlock()
		var lost *store.ForgottenError
		if errors.As(err, &lost) {
			l.lost = append(lost.Sessions, l.lost...)
		}
		l.timer = nil
		l.schedule()
	})
}

// size is roughly what a change takes in memory.
func size(c *store.Change) int {
	n := 256 + len(c.Session)
	for i := range c.Puts {
		n += len(c.Puts[i].Key) + len(c.Puts[i].Value) + 64
	}
	for _, k := range c.Deletes {
		n += len(k) + 16
	}
	for _, a := range c.Aliases {
		n += len(a) + 16
	}
	return n
}

// Barrier returns when all that was acknowledged before is durable. What was forgotten is written again first. Its error is a
// *store.ForgottenError if something could not be, of which it tells once.
func (l *Log) Barrier(ctx context.Context) error {
	for {
		l.mu.Lock()
		of, upto := l.memory, l.before+uint64(len(l.kept))
		if of == (Memory{}) { // nothing was ever written
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		err := l.server.Harden(ctx, of)
		switch {
		case errors.Is(err, ErrForgot):
			if err := l.recall(ctx, of); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.forget(upto) // it was durable before the server could lose that memory
		return l.told()
	}
}

// forget keeps no longer what was kept up to a place, and need not stay. Caller holds mu.
func (l *Log) forget(upto uint64) {
	l.sure = max(l.sure, upto)
	n := 0
	for until := time.Now().Add(-l.stays); l.before+uint64(n) < upto && !l.kept[n].at.After(until); n++ {
	}
	l.shift(n)
}

// full drops what is too much, the oldest first, and reports whether a barrier is needed before more goes.
func (l *Log) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, left := 0, l.bytes
	for ; left > maxBytes && (l.stays > 0 || l.before+uint64(n) < l.sure); n++ {
		left -= size(&l.kept[n].Change)
	}
	l.shift(n)
	return left > maxBytes
}

// shift removes the first n. Caller holds mu.
func (l *Log) shift(n int) {
	for i := range l.kept[:n] {
		l.bytes -= size(&l.kept[i].Change)
	}
	clear(l.kept[:n])
	l.kept, l.before = l.kept[n:], l.before+uint64(n)
}

// told returns, once, what was lost. Caller holds mu.
func (l *Log) told() error {
	if len(l.lost) == 0 {
		return nil
	}
	e := &store.ForgottenError{Sessions: slices.Compact(slices.Sorted(slices.Values(l.lost)))}
	l.lost = nil
	return e
}

func (l *Log) lose(sessions []string) {
	l.mu.Lock()
	l.lost = append(l.lost, sessions...)
	l.mu.Unlock()
}

// recall writes all again that a server may have forgotten which has lost a memory. Whoever comes later finds it done.
func (l *Log) recall(ctx context.Context, was Memory) error {
	if err := l.turn.Acquire(ctx, all); err != nil {
		return err
	}
	defer l.turn.Release(all)
	l.mu.Lock()
	of := l.memory
	l.mu.Unlock()
	if of != was {
		return nil
	}
	now, err := l.server.Memory(ctx)
	if err != nil {
		return err
	}
	// Contexts may be short, and what is kept much: who comes next goes on where this one ends.
	l.mu.Lock()
	if l.again != now {
		l.again, l.upto = now, 0
	}
	l.mu.Unlock()
	for {
		some := l.next()
		if len(some) == 0 {
			break
		}
		rs, err := l.server.Write(ctx, now, some)
		if errors.Is(err, ErrForgot) {
			return fmt.Errorf("it did so again while that was written once more: %w", err)
		} else if err != nil {
			return err
		}
		var lost []string
		for i := range rs {
			switch rs[i].Outcome {
			case store.Applied, store.Already:
			case store.Undecided:
				return rs[i].Err
			default:
				lost = append(lost, some[i].Session)
			}
		}
		l.mu.Lock()
		l.upto += uint64(len(some))
		l.lost = append(l.lost, lost...)
		l.mu.Unlock()
	}
	l.mu.Lock()
	l.memory, l.again = now, Memory{}
	for at, i := time.Now(), 0; i < len(l.kept); i++ {
		l.kept[i].at = at // it may be forgotten once more
	}
	l.mu.Unlock()
	return nil
}

// next returns some of what is to be written again.
func (l *Log) next() (some []store.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.upto = max(l.upto, l.before)
	bytes := 0
	for _, k := range l.kept[l.upto-l.before:] {
		if bytes += size(&k.Change); len(some) == 256 || len(some) > 0 && bytes > 1<<20 {
			break
		}
		some = append(some, k.Change)
	}
	return some
}

// Close ends what the log does by itself. What is kept is not made durable by it.
func (l *Log) Close() {
	l.mu.Lock()
	l.closed = true
	l.cancel()
	if l.timer != nil && l.timer.Stop() {
		l.timed.Done()
	}
	l.mu.Unlock()
	l.timed.Wait()
}
