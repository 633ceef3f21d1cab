package kvstore

import (
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Options configures a DB. The zero value works. Options are validated once, by
// Open, whose error names the field; changing them afterwards has no effect.
type Options struct {
	// Node is this process's name, for people and for the ring: stable across
	// restarts, and unique among the processes that run. Open takes whoever else has the name for a former
	// incarnation of this process, and ends its lease, so that its sessions can be adopted at once; a process that lives
	// finds that out at its next renewal. Empty: a random name.
	Node string

	// Addr is where other nodes send the events of sessions that live here. It is
	// passed on in OwnedError and not used otherwise. Empty: none.
	Addr string

	// Weight is this node's share when survivors divide a dead node's
	// sessions, relative to theirs. Zero: 1. At most 1000.
	Weight int

	// Mode says when a write returns. Zero: WriteBehind.
	Mode Mode

	// MaxDelay is how long a change may wait in memory before it is handed to the store,
	// counted from the first unsaved change. With a healthy store
	//
	//	lag ≤ MaxDelay + one flush
	//
	// where a flush is all that its lane has to write at the time. A store that is slower than that, so that a flush
	// takes longer than MaxDelay, has the next one wait for it: lag ≤ two flushes.
	//
	// It is also the window within which changes of one key coalesce. Zero:
	// 100 ms. From 1 ms to 1 h.
	MaxDelay time.Duration

	// MaxBuffer bounds what is not stored yet, in bytes: keys, values as they lie in memory (see
	// Sizer), and 64 bytes for each. A release is never refused: each that is under way may add 64 bytes and
	// the ID. Zero: 64 MiB. At least 4 KiB.
	MaxBuffer int64

	// Overflow says what a write does when the buffer is full. Zero: Block.
	Overflow Overflow

	// MaxResident is the number of sessions to keep in memory. Above it clean
	// sessions are evicted, the least useful first (SIEVE); they stay owned and load
	// again on touch. Sessions with unsaved changes are never evicted, so the
	// number may be exceeded for a while. Zero: no limit.
	MaxResident int

	// MaxValue is the largest encoded value in bytes. A larger one is refused: at once where V is
	// a string or []byte, else when it is encoded, through Hooks.Lost. Zero: 512 KiB.
	MaxValue int

	// Lease is how long this node counts as alive after its last sign of life. Others
	// may adopt its sessions when it is over. It is renewed every Lease/3. Zero:
	// 3 s. From 10 ms to 1 h.
	Lease time.Duration

	// Strict makes every operation fail with ErrSuspended from shortly before the lease ends
	// until it is renewed, does not let a session be read while it is being released, and checks each session's ownership before it is
	// served again. (A session that was made here by Create, or anew after a Delete, is not the store's yet: until
	// its first flush another node may make it, too.) Without it a node that is cut off serves what it has in memory until
	// the store fences it.
	Strict bool

	// StoreTimeout bounds one call to the store. What timed out is repeated. Zero: 5 s.
	StoreTimeout time.Duration

	// RetryMin and RetryMax bound the waits between attempts to flush: the n-th is random between
	// 0 and min(RetryMax, RetryMin·2ⁿ). There is no last attempt. Zero: 20 ms and 2 s.
	RetryMin, RetryMax time.Duration

	// LagAlarm is the lag from which Health is not OK. Zero: 10 × MaxDelay, at least 1 s.
	LagAlarm time.Duration

	// MaxBatch is the number of sessions in one call to the store. Zero: 1024.
	MaxBatch int

	// Flushers is the number of lanes: of goroutines that encode and flush, each with one call to the store at a time. A
	// session always belongs to the same one. Zero: as many as the store can serve at a time, if it says so
	// (store.Writers; store/bolt says 1), else 4. At most 64.
	Flushers int

	// Codec encodes values. Nil: Msgpack, for which Open refuses a V that cannot come back whole.
	Codec Codec

	// Schema is the version of V as this program writes it: raise it when what the codec makes of V changes so that the program before
	// cannot read it. It is stored with each value, and with each session that is changed. A session that a program with a higher one
	// has changed is not taken by this one: Adopt and the like return a SchemaError, and leave it to others. Zero: none; what is stored by a program with
	// one is refused. A codec of your own whose encodings may begin with the bytes C1 76 needs a Schema from the beginning.
	Schema uint32

	// Upgrade sets *v, a *V to a zero V, from what a program with a lower Schema has stored; version is that, 0 for none. The value is stored in
	// the new form when it is next put. It is called like Codec.Decode, whose rules it keeps. Nil: Codec.Decode reads all of them.
	Upgrade func(version uint32, stored []byte, v any) error

	// AcceptNewer takes sessions that a program with a higher Schema has changed, all the same: Codec.Decode reads them, and what is put
	// is written over what it has written. For going back to an older program, when that is known to be right.
	AcceptNewer bool

	// DetectMutation encodes each value when it is put, too, and compares when it is
	// flushed: a value that was changed in place after it was put is logged and
	// counted in Stats.Mutated. For tests: it makes a Put many times slower.
	DetectMutation bool

	// MaxBacklog bounds what waits to be told to one listener of OnCommit or Watch, in bytes: keys, values as they lie in memory, and 64 bytes for each. If there is
	// no room for a commit it is not told, but counted; see Commit.Missed. (One that is larger is told, if nothing waits.) Zero: 16 MiB. At least 1.
	MaxBacklog int64

	// Hooks are told of what cannot be returned from a call.
	Hooks Hooks

	// Logger gets what an operator should know. Nil: nothing is logged, but for losses that nobody else is told of (see
	// Hooks.Lost).
	Logger *slog.Logger

	unlogged bool // Logger was nil
}

// Mode says when a write returns.
type Mode uint8

const (
	WriteBehind  Mode = iota // when it is in memory; it is stored within MaxDelay
	WriteThrough             // when it is stored
)

// Overflow says what a write does when the buffer is full.
type Overflow uint8

const (
	Block   Overflow = iota // wait for room until the caller's context is over
	Reject                  // fail at once with ErrFull
	Through                 // wait for room, and then until this write is stored
)

// resolve returns o with its defaults filled in, or an error that names a field.
func (o Options) resolve(v reflect.Type, st store.Store) (Options, error) {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	num := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	num(&o.Weight, 1)
	def(&o.MaxDelay, 100*time.Millisecond)
	if o.MaxBuffer == 0 {
		o.MaxBuffer = 64 << 20
	}
	if o.MaxBacklog == 0 {
		o.MaxBacklog = 16 << 20
	}
	num(&o.MaxValue, 512<<10)
	def(&o.Lease, 3*time.Second)
	def(&o.StoreTimeout, 5*time.Second)
	def(&o.RetryMin, 20*time.Millisecond)
	def(&o.RetryMax, max(2*time.Second, o.RetryMin))
	def(&o.LagAlarm, max(10*o.MaxDelay, time.Second))
	num(&o.MaxBatch, 1024)
	lanes := 4
	if w, ok := st.(store.Writers); ok {
		if n := w.Writers(); n > 0 {
			lanes = min(n, 64)
		}
	}
	num(&o.Flushers, lanes)
	if o.Codec == nil {
		o.Codec = Msgpack{}
	}
	if o.unlogged = o.Logger == nil; o.unlogged {
		o.Logger = slog.New(slog.DiscardHandler)
	}

	bad := func(field string, value any, want string) (Options, error) {
		return o, fmt.Errorf("%w: Options.%s is %v: %s", ErrInvalid, field, value, want)
	}
	switch {
	case len(o.Node) > 255:
		return bad("Node", fmt.Sprintf("%.32q…", o.Node), "at most 255 bytes")
	case len(o.Addr) > 1024:
		return bad("Addr", fmt.Sprintf("%.32q…", o.Addr), "at most 1024 bytes")
	case o.Weight < 1 || o.Weight > 1000:
		return bad("Weight", o.Weight, "from 1 to 1000")
	case o.Mode > WriteThrough:
		return bad("Mode", o.Mode, "WriteBehind or WriteThrough")
	case o.MaxDelay < time.Millisecond || o.MaxDelay > time.Hour:
		return bad("MaxDelay", o.MaxDelay, "from 1ms to 1h")
	case o.MaxBuffer < 4<<10:
		return bad("MaxBuffer", o.MaxBuffer, "at least 4096 bytes")
	case o.MaxBacklog < 1:
		return bad("MaxBacklog", o.MaxBacklog, "at least 1 byte")
	case o.Overflow > Through:
		return bad("Overflow", o.Overflow, "Block, Reject or Through")
	case o.MaxResident < 0:
		return bad("MaxResident", o.MaxResident, "0 for no limit, or more")
	case o.MaxValue < 1:
		return bad("MaxValue", o.MaxValue, "at least 1 byte")
	case o.Lease < 10*time.Millisecond || o.Lease > time.Hour:
		return bad("Lease", o.Lease, "from 10ms to 1h")
	case o.StoreTimeout < time.Millisecond:
		return bad("StoreTimeout", o.StoreTimeout, "at least 1ms")
	case o.RetryMin < time.Millisecond:
		return bad("RetryMin", o.RetryMin, "at least 1ms")
	case o.RetryMax < o.RetryMin:
		return bad("RetryMax", o.RetryMax, "at least RetryMin")
	case o.LagAlarm < o.MaxDelay:
		return bad("LagAlarm", o.LagAlarm, "at least MaxDelay")
	case o.MaxBatch < 1:
		return bad("MaxBatch", o.MaxBatch, "at least 1")
	case o.Flushers < 1 || o.Flushers > 64:
		return bad("Flushers", o.Flushers, "from 1 to 64")
	}
	if o.Upgrade != nil && o.Schema == 0 {
		return bad("Upgrade", "set", "there is nothing to upgrade to without Options.Schema")
	}
	switch v.Kind() {
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return o, fmt.Errorf("%w: values of type %s cannot be stored", ErrInvalid, v)
	}
	switch o.Codec.(type) {
	case Msgpack, *Msgpack: // what can be known now need not be lost at a flush
		if err := msgpackStorable(v); err != nil {
			return o, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	return o, nil
}
