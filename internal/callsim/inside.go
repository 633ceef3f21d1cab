package callsim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/seed-6f1f505d/kvstore"
)

// This file is what calls have besides entries, if Inside is set:
//
//   - a further name, the SIP Call-ID, by which the network asks for half of the calls;
//   - a log of the last events, in a queue: each event pushes one entry, and pops one when there are enough;
//   - a timer that charges for the call while it is up, now and then, and counts that.
//
// In a state each shows as an entry more, under a key of its own, which follows from (seed, call, n) as the others do. How often a call was charged does not;
// that the counter and the timer agree about it does.
const (
	nameKey   = "name"
	logKey    = "log"
	chargeKey = "charge"

	logLength = 4
	counter   = "charged"

	// chargeEvery is the time between two charges of a call; the first comes sooner, each call's after a time of its own.
	chargeEvery = 3 * time.Second
)

// callID returns the further name of a call.
func callID(id string) string { return fmt.Sprintf("callid:%016x", xxhash.Sum64String(id)) }

// asked returns the name by which the network asks for a call.
func (m Model) asked(r *record) string {
	if m.Inside && r.i%4 < 2 { // of those that are looked at, and of the others
		return callID(r.id)
	}
	return r.id
}

func isCallID(name string) bool { return strings.HasPrefix(name, "callid:") }

// insider is a call that has those.
type insider interface {
	entries
	name() error
	log(p Part) error
	charge(n uint64, on bool) error // n is the event that begins or ends it
}

// inside makes e happen to what a call has besides entries.
func (e Event) inside(s insider) error {
	var err error
	switch e.Kind {
	case Invite:
		err = s.name()
	case Answer, Resume:
		err = s.charge(e.N, true)
	case Hold, Bye:
		err = s.charge(e.N, false)
	}
	return errors.Join(err, s.log(e.mark(Part{}, string(e.Kind))))
}

// logged is how a log shows.
func logged(log []Part) Part {
	p := Part{State: fmt.Sprintf("%d events", len(log))}
	for _, l := range log {
		p.N, p.Sum = l.N, uint32(mix(uint64(p.Sum)<<32|uint64(l.Sum))+l.N)
	}
	return p
}

// furnished is the model's call that has those.
type furnished struct {
	table
	id string
	ps []Part
}

func (f *furnished) name() error { f.table[nameKey] = Part{N: 1, State: callID(f.id)}; return nil }

func (f *furnished) log(p Part) error {
	if f.ps = append(f.ps, p); len(f.ps) > logLength {
		f.ps = f.ps[1:]
	}
	f.table[logKey] = logged(f.ps)
	return nil
}

func (f *furnished) charge(n uint64, on bool) error {
	if delete(f.table, chargeKey); on {
		f.table[chargeKey] = Part{N: n, State: "running"}
	}
	return nil
}

// furnishing is a transaction of a node whose calls have those.
type furnishing struct {
	*transaction
	id string
}

func (f *furnishing) name() error { f.changed++; return f.AddAlias(callID(f.id)) }

func (f *furnishing) log(p Part) error {
	f.changed++
	f.logged++
	q := f.Queue(logKey)
	if err := q.PushBack(p); err != nil {
		return err
	}
	n, err := q.Len()
	if err == nil && n > logLength {
		_, err = q.PopFront()
	}
	return err
}

func (f *furnishing) charge(n uint64, on bool) error {
	f.changed++
	if !on {
		return f.Cancel(chargeKey)
	}
	times, err := f.Counter(counter)
	if err != nil {
		return err
	}
	first := chargeEvery * time.Duration(1+xxhash.Sum64String(f.id)%100) / 100
	return f.After(chargeKey, first, Part{N: n, Sum: uint32(times) + 1})
}

// charges are what a node knows of the timers that fired.
type charges struct {
	mu     sync.Mutex
	latest time.Duration // from its time to when it fired
	early  int           // fired before their time
	torn   int           // that found another number of charges than they were to
}

// ring is what the timer does.
func (c *charges) ring(_ context.Context, tx *kvstore.Tx[Part], f kvstore.Firing[Part]) error {
	late := time.Since(f.At)
	times, err := tx.Add(counter, 1)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.latest = max(c.latest, late)
	if late < 0 {
		c.early++
	}
	if uint32(times) != f.Payload.Sum {
		c.torn++
	}
	c.mu.Unlock()
	return tx.After(chargeKey, chargeEvery, Part{N: f.Payload.N, Sum: f.Payload.Sum + 1})
}

// errLooked ends a transaction that only looks.
var errLooked = errors.New("callsim: looked")

// contents returns a call as it is at one moment, with what it has besides entries.
func contents(ctx context.Context, s *kvstore.Session[Part]) (map[string]Part, error) {
	var m map[string]Part
	err := s.Update(ctx, func(tx *kvstore.Tx[Part]) error {
		m = map[string]Part{}
		if d, err := tx.Get(Dialog); err == nil {
			m[Dialog] = d
		} else if !errors.Is(err, kvstore.ErrNotFound) {
			return err
		}
		all, err := tx.Walk("")
		if err != nil {
			return err
		}
		maps.Insert(m, all)
		var log []Part
		for q := tx.Queue(logKey); ; {
			p, err := q.PopFront()
			if errors.Is(err, kvstore.ErrEmpty) {
				break
			} else if err != nil {
				return err
			}
			log = append(log, p)
		}
		if len(log) > 0 {
			m[logKey] = logged(log)
		}
		times, err := tx.Counter(counter)
		if err != nil {
			return err
		}
		if _, p, err := tx.Timer(chargeKey); err == nil {
			m[chargeKey] = Part{N: p.N, State: "running"}
			if p.Sum != uint32(times)+1 {
				m[chargeKey] = Part{N: p.N, State: fmt.Sprintf("charged %d times, and charge %d is to come", times, p.Sum)}
			}
		} else if !errors.Is(err, kvstore.ErrNotFound) {
			return err
		}
		return errLooked
	})
	if !errors.Is(err, errLooked) {
		return nil, err
	}
	for _, a := range s.Aliases() {
		m[nameKey] = Part{N: 1, State: a}
	}
	return m, nil
}
