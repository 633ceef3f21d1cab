package nats

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file removes messages that nobody refers to. Whatever is stored for a document that is yet to be written has the sequence of the document that
// the new one is to replace: its base. Once a session has a document that is later than the base, the new one was written, or never will be: what
// the document does not refer to then is garbage, and no clock is needed to say so. Messages are removed by their sequences, or by subjects that
// are used once, so that what has replaced them meanwhile stays.

// claimed is a message in the index: that an incarnation may own a session.
type claimed struct {
	by      store.Incarnation
	session string
}

// indexed is the question that puts a message into the index, for a document that is to replace that of the sequence base.
func (s *Store) indexed(i store.Incarnation, session string, base uint64) *ask {
	return put(s.indexSubject(i, session), binary.BigEndian.AppendUint64(nil, base))
}

const (
	choreTime  = 10 * time.Second
	choreBatch = 256
	choreQueue = 10_000 // what is more is left for a sweep
	sweepEvery = 10 * time.Minute
	lateAge    = 24 * time.Hour // of messages for a session that is not there: no call takes that long
)

// tidy has messages removed, by their sequences, and messages in the index, if they are stale. Nobody waits for that.
func (s *Store) tidy(seqs []uint64, suspects []claimed) {
	if len(seqs) == 0 && len(suspects) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.litter) < choreQueue {
		s.litter = append(s.litter, seqs...)
	}
	if len(s.suspects) < choreQueue {
		s.suspects = append(s.suspects, suspects...)
	}
	if !s.tidying {
		s.tidying = true
		s.chores.Go(s.tidyAll) // from within a call, for which Close waits first
	}
}

func (s *Store) tidyAll() {
	for {
		s.mu.Lock()
		litter, suspects := s.litter, s.suspects
		s.litter, s.suspects = nil, nil
		if len(litter)+len(suspects) == 0 || s.ended.Err() != nil {
			s.tidying = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		if err := s.chore(func(ctx context.Context) error {
			stale, err := s.stale(ctx, suspects)
			if err != nil {
				return err
			}
			return s.remove(ctx, append(litter, stale...))
		}); err != nil && s.ended.Err() == nil {
			s.opt.Logger.Warn("store/nats: messages that nobody needs were not removed", "error", err)
		}
	}
}

func (s *Store) chore(do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(s.ended, choreTime)
	defer cancel()
	return do(ctx)
}

func (s *Store) remove(ctx context.Context, seqs []uint64) error {
	for len(seqs) > 0 {
		n := min(len(seqs), choreBatch)
		asks := make([]*ask, n)
		for i, seq := range seqs[:n] {
			asks[i] = s.drop(seq)
		}
		if err := s.ask(ctx, asks...); err != nil {
			return err
		}
		seqs = seqs[n:]
	}
	return nil
}

// stale returns the sequences of those messages in the index that are not true, and will not become so.
func (s *Store) stale(ctx context.Context, suspects []claimed) (seqs []uint64, err error) {
	for len(suspects) > 0 {
		n := min(len(suspects), choreBatch)
		asks := make([]*ask, n)
		sessions := make([]string, n)
		for i, c := range suspects[:n] {
			asks[i], sessions[i] = s.last(s.indexSubject(c.by, c.session)), c.session
		}
		if err := s.ask(ctx, asks...); err != nil {
			return nil, err
		}
		docs, _, err := s.readAll(ctx, sessions)
		if err != nil {
			return nil, err
		}
		low, _ := s.clock.bounds()
		for i, c := range suspects[:n] {
			m, err := asks[i].found()
			d := docs[i]
			if err != nil || m.Seq == 0 || d == nil || len(m.Data) != 8 {
				continue
			}
			base := binary.BigEndian.Uint64(m.Data)
			switch {
			case d.header.Exists() && d.header.Owner.Incarnation == c.by:
			case base < d.seq, d.seq == 0 && m.Time.Add(lateAge).Before(low):
				seqs = append(seqs, m.Seq)
			}
		}
		suspects = suspects[n:]
	}
	return seqs, nil
}

// sweepNowAndThen looks for pages that were stored and never used, because a node died in between, or did not learn what became of a document.
func (s *Store) sweepNowAndThen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sweeping || time.Since(s.swept) < sweepEvery {
		return
	}
	s.sweeping, s.swept = true, time.Now()
	s.chores.Go(func() {
		err := s.sweep(s.ended)
		s.mu.Lock()
		s.sweeping = false
		s.mu.Unlock()
		if err != nil && s.ended.Err() == nil {
			s.opt.Logger.Warn("store/nats: pages that nobody needs were not looked for", "error", err)
		}
	})
}

// sweep removes the pages that no document refers to.
func (s *Store) sweep(ctx context.Context) error {
	in, err := s.chores1(ctx, "")
	if err != nil {
		return err
	}
	filters := []string{s.prefix + "p.>"}
	if in.State.Count > fewSubjects {
		filters = nil
		for i := range buckets {
			filters = append(filters, s.prefix+"p."+bucketName(i)+".>")
		}
	}
	for _, filter := range filters {
		in, err := s.chores1(ctx, filter)
		if err != nil {
			return err
		}
		of := map[string][]string{}
		for subject := range in.State.Subjects {
			if session, _, _, ok := s.parsePage(subject); ok {
				of[session] = append(of[session], subject)
			}
		}
		for session, subjects := range of {
			if err := s.chore(func(ctx context.Context) error { return s.sweepSession(ctx, session, subjects) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) chores1(ctx context.Context, filter string) (in *streamInfo, err error) {
	ctx, cancel := context.WithTimeout(ctx, choreTime)
	defer cancel()
	return s.info(ctx, filter)
}

func (s *Store) sweepSession(ctx context.Context, session string, subjects []string) error {
	d, err := s.read(ctx, session)
	if err != nil {
		return nil // a damaged one keeps what it has
	}
	used := make(map[uint64]bool, len(d.pages))
	for _, p := range d.pages {
		used[p.tag] = true
	}
	var asks []*ask
	for _, subject := range subjects {
		_, base, tag, _ := s.parsePage(subject)
		switch {
		case used[tag]:
		case base < d.seq:
			asks = append(asks, s.purge(subject))
		case d.seq == 0:
			a := s.last(subject)
			if err := s.ask(ctx, a); err != nil {
				return err
			}
			m, err := a.found()
			if low, _ := s.clock.bounds(); err == nil && m.Seq != 0 && m.Time.Add(lateAge).Before(low) {
				asks = append(asks, s.purge(subject))
			}
		}
	}
	return s.ask(ctx, asks...)
}
