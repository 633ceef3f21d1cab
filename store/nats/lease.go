package nats

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// lease is what the stream has of a node.
type lease struct {
	node store.Node
	seq  uint64 // of its message; 0: there is none
	ends time.Time
}

// runs reports whether the lease does at now.
func (l *lease) runs(now time.Time) bool { return l.ends.After(now) }

// A lease's message has format, weight, ttl in nanoseconds, name and address. It runs from when the leader of the stream received it.
func encodeLease(n *store.Node, ttl time.Duration) []byte {
	b := []byte{format}
	b = binary.AppendVarint(b, int64(n.Weight))
	b = binary.AppendVarint(b, int64(ttl))
	b = appendString(b, n.Name)
	return appendString(b, n.Addr)
}

func leaseOf(i store.Incarnation, a *ask) (lease, error) {
	l := lease{node: store.Node{Incarnation: i}}
	m, err := a.found()
	if err != nil || m.Seq == 0 {
		return l, err
	}
	r := &reader{b: m.Data}
	if r.fixed(1)[0] != format {
		return l, errors.New("a lease has another format")
	}
	l.node.Weight = int(r.signed())
	ttl := r.signed()
	l.node.Name, l.node.Addr = r.text(), r.text()
	if r.err != nil {
		return l, errors.New("a lease is cut off")
	}
	l.seq, l.ends = m.Seq, end(m.Time, time.Duration(ttl))
	return l, nil
}

func (r *reader) signed() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.err, r.b = errCut, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

// end returns when a ttl is over that begins at a time.
func end(from time.Time, ttl time.Duration) time.Time {
	if ttl <= 0 {
		return time.Time{}
	}
	return from.Add(min(ttl, math.MaxInt64/4))
}

// renewal is what a store knows of a lease that it has written.
type renewal struct {
	seq  uint64
	ends time.Time // at the earliest
}

// leaseKept is how long after its end the message of a lease is kept.
const leaseKept = time.Hour

// KeepAlive implements [store.Store]. It also sets this store's idea of the server's clock, and now and then removes what nobody needs.
func (s *Store) KeepAlive(ctx context.Context, n store.Node, ttl time.Duration) (ran bool, err error) {
	if err := s.enter(ctx); err != nil {
		return false, err
	}
	defer s.leave()
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if ttl < 0 {
		ttl = 0
	}
	for attempt := 0; ; attempt++ {
		s.mu.Lock()
		was := s.leases[n.Incarnation]
		s.mu.Unlock()
		if attempt > 0 || was == nil {
			if attempt > 1 && pause(ctx, attempt-2) != nil {
				return false, s.over(ctx, nil)
			}
			a := s.last(s.leaseSubject(n.Incarnation))
			if err := s.ask(ctx, a); err != nil {
				return false, err
			}
			l, err := leaseOf(n.Incarnation, a)
			if err != nil {
				return false, wrap(err)
			}
			was = &renewal{l.seq, l.ends}
		}
		low, _ := s.clock.bounds()
		a := publish(s.leaseSubject(n.Incarnation), encodeLease(&n, ttl), was.seq).expire(ttl + leaseKept)
		if err := s.renew(ctx, a); err != nil {
			return false, err
		}
		seq, err := a.stored()
		_, high := s.clock.bounds()
		switch {
		case err == nil:
			s.mu.Lock()
			if is := (&renewal{seq, end(low, ttl)}); ttl > 0 {
				s.leases[n.Incarnation] = is
			} else {
				delete(s.leases, n.Incarnation)
			}
			s.mu.Unlock()
			s.sweepNowAndThen()
			return was.ends.After(high), nil // it has not ended before the new one was there
		case moved(err):
			s.mu.Lock()
			delete(s.leases, n.Incarnation)
			s.mu.Unlock()
		default:
			return false, wrap(err)
		}
	}
}

// renew asks, and sets the clock.
func (s *Store) renew(ctx context.Context, a *ask) error {
	in := s.api("STREAM.INFO", struct{}{})
	sent := time.Now()
	if err := s.ask(ctx, a, in); err != nil {
		return err
	}
	var i streamInfo
	if err := in.decode(&i); err != nil {
		return wrap(err)
	}
	if !i.Time.IsZero() && (i.Cluster == nil || i.Cluster.Leader != "") {
		s.clock.learn(i.Time, sent, time.Now())
	}
	return nil
}

// Nodes implements [store.Store].
func (s *Store) Nodes(ctx context.Context) (ns []store.Node, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	ctx, cancel := s.bound(ctx)
	defer cancel()
	in, err := s.info(ctx, s.prefix+"l.*")
	if err != nil {
		return nil, wrap(err)
	}
	var asks []*ask
	var who []store.Incarnation
	for subject := range in.State.Subjects {
		i, err := store.ParseIncarnation(subject[strings.LastIndexByte(subject, '.')+1:])
		if err != nil {
			continue // not ours
		}
		asks, who = append(asks, s.last(subject)), append(who, i)
	}
	if err := s.ask(ctx, asks...); err != nil {
		return nil, err
	}
	now, _ := s.clock.bounds()
	for i, a := range asks {
		l, err := leaseOf(who[i], a)
		if err != nil {
			return nil, wrap(err)
		}
		if l.seq != 0 && !l.ends.IsZero() {
			l.node.Lease = l.ends.Sub(now)
			ns = append(ns, l.node)
		}
	}
	slices.SortFunc(ns, func(a, b store.Node) int { return strings.Compare(a.Name, b.Name) })
	return ns, nil
}
