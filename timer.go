package kvstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is timers: entries that fire. A timer is two things, changed in one commit: a mark, which says when, so that whoever owns the session next knows
// it without reading anything, and so does who looks for what is due; and an entry, its payload.
//
//	armed  ⇔  there is a mark of that name  ⇔  there is an entry of that name
//
// A timer that is set anew gets a new cell for its payload. So that cell names the arm: a transaction that has read it conflicts with any that sets the timer
// anew, or takes it away. Clock.go is what makes timers fire.

// Timer is a timer that is armed.
type Timer struct {
	Name string
	At   time.Time // it fires then, or as soon as may be after that; in whole milliseconds
}

// Firing is a timer that fires, as the function of OnTimer gets it.
type Firing[V any] struct {
	Session string
	Epoch   uint64 // of this node's tenure
	Name    string
	At      time.Time // for when it was set
	Payload V         // shared with whoever put it: not to be changed
}

// ringer is the function of OnTimer.
type ringer[V any] struct {
	f func(ctx context.Context, tx *Tx[V], t Firing[V]) error
}

// OnTimer has f called for each timer of this node's sessions when its time has come; and has this node take in, now and then, the sessions of nodes that
// died, or that nobody owns, of which a timer is due, as AdoptDue does: every Options.Lease, its share of them. Before OnTimer nothing fires. There is one
// f at a time: a second is ErrInvalid until stop was called for the first. stop does not wait for calls that are under way.
//
// f runs in a transaction that takes the timer away: what f changes by tx and that the timer has fired are one commit. If f returns an error, nothing is
// changed, and the timer fires again after a while, by Options.RetryMin and RetryMax. To have it fire again later, set it anew in tx. Like any function of
// Update f may run more than once for one commit, and it must not change the session but by tx. It runs on a goroutine of its own, under no lock; the timers of a
// session fire one after the other, in the order of their times, those of several sessions up to 16 at a time. A panic is caught, logged, counted in Stats.HookPanics, and
// taken for an error. ctx is over when the DB is closed.
//
// What "once" means:
//
//   - A timer does not fire before its time, by the wall clock of the session's owner.
//   - Each time that it is set it fires at least once while somebody with an OnTimer owns the session, and again only if f did not return nil, or
//     its transaction was not committed.
//   - When that is committed it is over in this tenure. It is stored within Options.MaxDelay, like any commit, or at once if f's effects are to be: call
//     Sync from elsewhere. If the node dies before, the timer is still there in the store, as is the session as it was, and fires once more, under the next owner. So the
//     session's state shows each timer once, and what f does elsewhere is done at least once: have it know (Session, Name, At), or send it after a Sync.
//   - A node that was cut off, and does not know that it has lost the session, may fire a timer that its next owner fires, too. The store refuses what
//     it changes.
func (db *DB[V]) OnTimer(f func(ctx context.Context, tx *Tx[V], t Firing[V]) error) (stop func(), err error) {
	if f == nil {
		return nil, fmt.Errorf("%w: OnTimer with a nil function", ErrInvalid)
	}
	if db.closing.Load() {
		return nil, ErrClosed
	}
	if _, err := db.finder("OnTimer"); err != nil {
		return nil, err
	}
	r := &ringer[V]{f}
	if !db.clock.ringer.CompareAndSwap(nil, r) {
		return nil, fmt.Errorf("%w: OnTimer: there is a function already", ErrInvalid)
	}
	ctx, cancel := context.WithCancel(db.ctx)
	if !db.spawn(func(context.Context) { db.adoptDueAlways(ctx) }) {
		cancel()
		return nil, ErrClosed
	}
	db.clock.begin(db)
	return func() {
		cancel()
		db.clock.ringer.CompareAndSwap(r, nil)
	}, nil
}

// timerKey is of the entry that has a timer's payload.
func timerKey(name string) string { return ownKey(kindTimer, name) }

// After sets a timer that fires d from now on, by the wall clock: At of that time.
func (tx *Tx[V]) After(name string, d time.Duration, payload V) error {
	if tx.over {
		return errOver
	}
	at, err := fromNow(tx.s.id(), "a timer that fires", d)
	if err != nil {
		return err
	}
	return tx.At(name, at, payload)
}

// At sets the session's timer of that name, with the transaction: it fires at the time at, in whole milliseconds, rounded up, or as soon as may be if that has passed. If it was set
// before, that is over. See DB.OnTimer for what a timer does. It goes on through adoptions until it has fired, is cancelled, or the session
// ends. The names of timers are a name space of their own. A session may have some 250 timers; each is written with every change of the session, and counts among its
// aliases: ErrTooLarge if there are too many, from the commit.
//
// ErrInvalid: at is zero, or the payload nil. An error that wraps errors.ErrUnsupported: the store cannot be asked for timers.
func (tx *Tx[V]) At(name string, at time.Time, payload V) error {
	if tx.over {
		return errOver
	}
	if at.IsZero() {
		return fmt.Errorf("%w: session %q: timer %q at the zero time: Cancel takes a timer away", ErrInvalid, tx.s.id(), name)
	}
	if err := checkName(tx.s.id(), "timer", name); err != nil {
		return err
	}
	if err := tx.db.keepsMarks(tx.ctx, "timers"); err != nil {
		return err
	}
	c, err := tx.db.newItem(tx.s.id(), payload)
	if err != nil {
		return fmt.Errorf("timer %q: %w", name, err)
	}
	tx.set(timerKey(name), c)
	tx.arm(arming{name, store.TimeOf(at)})
	return nil
}

// Cancel takes a timer away, with the transaction. To cancel one that is not set is no error. A call of OnTimer's function that is under way for it is not
// stopped, but what it has changed by its transaction is not committed.
func (tx *Tx[V]) Cancel(name string) error {
	if tx.over {
		return errOver
	}
	if err := checkName(tx.s.id(), "timer", name); err != nil {
		return err
	}
	tx.disarm(name)
	return nil
}

// Timer returns a timer of the session, and its payload. ErrNotFound if there is none of that name.
func (tx *Tx[V]) Timer(name string) (t Timer, payload V, err error) {
	if tx.over {
		return t, payload, errOver
	}
	if err := checkName(tx.s.id(), "timer", name); err != nil {
		return t, payload, err
	}
	c, err := tx.cell(timerKey(name))
	if err != nil {
		return t, payload, err
	}
	due, err := tx.due(name)
	if err != nil {
		return t, payload, err
	}
	if c == tx.db.absent || due == 0 {
		return t, payload, fmt.Errorf("%w: session %q, timer %q", ErrNotFound, tx.s.id(), name)
	}
	return Timer{name, due.Std()}, c.val, nil
}

// due returns when a timer fires whose payload the transaction has read, as it sees it; 0 if it does not.
func (tx *Tx[V]) due(name string) (store.Time, error) {
	for _, a := range tx.marks.timers {
		if a.name == name {
			return a.due, nil
		}
	}
	tx.s.mu.Lock()
	defer tx.s.mu.Unlock()
	if err := tx.holds(); err != nil { // the payload and the mark change together
		return 0, tx.read(err)
	}
	for _, m := range tx.s.marks() {
		if n, due, ok := parseTimer(m); ok && n == name {
			return due, nil
		}
	}
	return 0, nil
}

func (tx *Tx[V]) disarm(name string) {
	tx.set(timerKey(name), tx.db.absent)
	tx.arm(arming{name: name})
}

func (tx *Tx[V]) arm(a arming) {
	tx.marks.timers = slices.DeleteFunc(tx.marks.timers, func(b arming) bool { return b.name == a.name })
	tx.marks.timers = append(tx.marks.timers, a)
}

// After sets a timer that fires d from now on, by the wall clock, as Tx.At does; ack says when the call returns.
func (h *Session[V]) After(ctx context.Context, name string, d time.Duration, payload V, ack Ack) error {
	return h.update(ctx, ack, func(tx *Tx[V]) error { return tx.After(name, d, payload) })
}

// At sets a timer, as Tx.At does; ack says when the call returns.
func (h *Session[V]) At(ctx context.Context, name string, at time.Time, payload V, ack Ack) error {
	return h.update(ctx, ack, func(tx *Tx[V]) error { return tx.At(name, at, payload) })
}

// Cancel takes a timer away, as Tx.Cancel does; ack says when the call returns.
func (h *Session[V]) Cancel(ctx context.Context, name string, ack Ack) error {
	return h.update(ctx, ack, func(tx *Tx[V]) error { return tx.Cancel(name) })
}

// Timers returns the session's timers in the order in which they fire. It does no I/O.
func (h *Session[V]) Timers() []Timer {
	s := h.cur.Load().s
	s.mu.Lock()
	marks := s.marks()
	s.mu.Unlock()
	var ts []Timer
	for _, m := range marks {
		if name, due, ok := parseTimer(m); ok {
			ts = append(ts, Timer{name, due.Std()})
		}
	}
	slices.SortFunc(ts, func(a, b Timer) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Name, b.Name)) })
	return ts
}

// marks returns the session's marks, which are not to be changed. Caller holds mu.
func (s *session[V]) marks() []string {
	if s.x == nil {
		return nil
	}
	return s.x.marks
}

// first returns the timer among marks that fires first; due is 0 if there is none.
func first(marks []string) (name string, due store.Time) {
	for _, m := range marks {
		if n, t, ok := parseTimer(m); ok && (due == 0 || t < due || t == due && n < name) {
			name, due = n, t
		}
	}
	return name, due
}

// supported remembers whether the store finds marks.
type supported struct{ yes atomic.Bool }

// keepsMarks returns why the store does not find marks, or did not answer. Only the first call that has an answer asks it.
func (db *DB[V]) keepsMarks(ctx context.Context, what string) error {
	if db.supported.yes.Load() {
		return nil
	}
	f, err := db.finder(what)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, db.opt.StoreTimeout)
	defer cancel()
	if _, err := f.Find(ctx, store.AliasRange{From: dueBefore(0), To: dueBefore(1), Limit: 1}); err != nil {
		return fmt.Errorf("kvstore: does the store keep %s? %w", what, err)
	}
	db.supported.yes.Store(true)
	return nil
}

// errStale: a timer that was to fire has been set anew, or cancelled, or was not there. It never leaves fire.
var errStale = errors.New("kvstore: the timer is not set")

// fire has a timer fire that is due, in a transaction that takes it away.
func (db *DB[V]) fire(ctx context.Context, h *Session[V], r *ringer[V], t Timer) error {
	err := h.Update(ctx, func(tx *Tx[V]) (err error) {
		c, err := tx.cell(timerKey(t.Name))
		if err != nil {
			return err
		}
		if due, err := tx.due(t.Name); err != nil || due != store.TimeOf(t.At) {
			return cmp.Or(err, errStale)
		}
		tx.s.mu.Lock()
		epoch := tx.s.epoch
		tx.s.mu.Unlock()
		tx.disarm(t.Name)
		if c == db.absent {
			return nil // its payload could not be stored, as Hooks.Lost was told
		}
		defer func() {
			if v := recover(); v != nil {
				db.count.hookPanics.Add(1)
				db.log.Error("kvstore: the function of OnTimer panicked", "session", tx.s.id(), "timer", t.Name, "panic", v)
				err = fmt.Errorf("kvstore: the function of OnTimer panicked: %v", v)
			}
		}()
		return r.f(ctx, tx, Firing[V]{Session: tx.s.id(), Epoch: epoch, Name: t.Name, At: t.At, Payload: c.val})
	})
	if errors.Is(err, errStale) {
		return nil
	}
	if err == nil {
		db.count.fired.Add(1)
	}
	return err
}
