package nats

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// job is what an Apply, or a Claim, does to one session: it reads the document, decides, and writes the document that replaces it, which the server
// takes only if the one that was read is still the last. Else it begins anew.
type job struct {
	session string
	places  []int // of its changes

	doc    *document // nil: to be read
	cached bool      // it was not read by this call: good enough to write on, and for no other answer
	reread bool      // what is in the cache is not good enough
	pages  map[uint64][]slot
	gone   uint64 // the document of which a page was not there
	leases map[store.Incarnation]lease

	needs     []page            // pages that have to be read before it can be decided,
	needLease store.Incarnation // and the lease of this one, unless it is nobody

	results []store.Result // as they are if next is written
	next    *document      // nil: nothing is to be written
	content content        // of next
	indexed bool           // a message was made for next in the index
	lost    *document      // what was written, and not answered
	was     *document      // what it was to replace
	err     error          // it is over, and the outcome is not known
	done    bool
}

// again has the document read before anything else.
func (j *job) again() { j.doc, j.reread = nil, true }

// Apply implements [store.Store]. All sessions are written at once, each with a message that replaces its document: one round trip if this
// store has written or read them lately, and two if not. To make a session costs one more, for the index of its owner; so does
// to write to one that is too large for one message.
func (s *Store) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	ctx, cancel := s.bound(ctx)
	defer cancel()

	results := make([]store.Result, len(changes))
	jobs := make([]*job, 0, len(changes))
	of := make(map[string]*job, len(changes))
	for i := range changes {
		c := &changes[i]
		if keys, err := check(c); err != nil {
			results[i] = store.Result{Outcome: store.Rejected, Err: err, Keys: keys}
			continue
		}
		j := of[c.Session]
		if j == nil {
			j = &job{session: c.Session}
			of[c.Session], jobs = j, append(jobs, j)
		}
		j.places = append(j.places, i)
	}
	s.work(ctx, jobs, func(j *job, now time.Time) { s.decide(j, changes, now) })

	var failed error
	undecided := 0
	for _, j := range jobs {
		for n, i := range j.places {
			if j.err != nil {
				results[i] = store.Result{Outcome: store.Undecided, Err: j.err}
				failed = j.err
				undecided++
			} else {
				results[i] = j.results[n]
			}
		}
	}
	if failed != nil && undecided == len(changes) {
		return nil, failed
	}
	return results, nil
}

// check reports what can never be written, with the keys to blame.
func check(c *store.Change) (keys []string, err error) {
	if keys, err = c.Check(); err != nil {
		return keys, err
	}
	if len(c.Aliases) > 0 {
		return nil, fmt.Errorf("store/nats: session %q: aliases are not kept: %w", c.Session, errors.ErrUnsupported)
	}
	for i := range c.Puts {
		if n := len(c.Puts[i].Value); n > MaxValue {
			keys = append(keys, c.Puts[i].Key)
			err = fmt.Errorf("%w: session %q, key %.32q: the value has %d bytes, at most %d are allowed", store.ErrTooLarge, c.Session, c.Puts[i].Key, n, MaxValue)
		}
	}
	return keys, err
}

// work does the jobs. Each is done, or has an error, when it returns.
func (s *Store) work(ctx context.Context, jobs []*job, decide func(j *job, now time.Time)) {
	fail := func(err error) {
		for _, j := range jobs {
			if !j.done && j.err == nil {
				j.err = err
			}
		}
	}
	for attempt := 0; len(jobs) > 0; attempt++ {
		if attempt > 1 { // others write to these sessions, too
			if err := pause(ctx, attempt-2); err != nil {
				fail(s.over(ctx, nil))
				return
			}
		}
		if err := s.round(ctx, jobs, decide); err != nil {
			fail(err)
			return
		}
		rest := jobs[:0:0]
		for _, j := range jobs {
			if !j.done && j.err == nil {
				rest = append(rest, j)
			}
		}
		jobs = rest
	}
}

// round brings each job as far as it gets without beginning anew. After an error those that are not done do not know their outcome.
func (s *Store) round(ctx context.Context, jobs []*job, decide func(j *job, now time.Time)) error {
	now, err := s.now(ctx) // before leases are read: what has ended by then is over for everybody
	if err != nil {
		return err
	}
	for undecided := jobs; len(undecided) > 0; {
		if err := s.gather(ctx, undecided); err != nil {
			return err
		}
		var rest []*job
		for _, j := range undecided {
			if j.err != nil || j.done {
				continue
			}
			if j.doc != nil {
				decide(j, now)
				if len(j.needs) == 0 && j.needLease == (store.Incarnation{}) && (j.next != nil || !j.cached) {
					continue
				}
				if len(j.needs) == 0 && j.needLease == (store.Incarnation{}) {
					j.again() // what is refused is refused by the latest document, not by one that was the latest a while ago
				}
			}
			rest = append(rest, j)
		}
		undecided = rest
	}
	var writers []*job
	for _, j := range jobs {
		switch {
		case j.err != nil, j.done:
		case j.next == nil:
			j.done = true
		default:
			writers = append(writers, j)
		}
	}
	if len(writers) == 0 {
		return nil
	}
	if err := s.stageAll(ctx, writers); err != nil {
		return err
	}
	s.commit(ctx, writers)
	return nil
}

// gather reads what the jobs need.
func (s *Store) gather(ctx context.Context, jobs []*job) error {
	var asking []*job
	var sessions []string
	for _, j := range jobs {
		if j.doc != nil {
			continue
		}
		if !j.reread {
			if j.doc = s.cache.document(j.session); j.doc != nil {
				j.cached = true
				continue
			}
		}
		asking, sessions = append(asking, j), append(sessions, j.session)
	}
	docs, errs, err := s.readAll(ctx, sessions)
	if err != nil {
		return err
	}
	for i, j := range asking {
		j.doc, j.err, j.cached = docs[i], errs[i], false
		if j.lost != nil && j.doc != nil && bytes.Equal(j.doc.raw, j.lost.raw) {
			j.next, j.doc = j.lost, j.was // it is there
			j.next.seq = docs[i].seq
			s.written(j)
			j.done = true
		}
	}
	return errors.Join(s.gatherLeases(ctx, jobs), s.gatherPages(ctx, jobs))
}

func (s *Store) gatherLeases(ctx context.Context, jobs []*job) error {
	var asks []*ask
	of := map[store.Incarnation]*ask{}
	for _, j := range jobs {
		if o := j.needLease; o != (store.Incarnation{}) && j.err == nil && of[o] == nil {
			of[o] = s.last(s.leaseSubject(o))
			asks = append(asks, of[o])
		}
	}
	if err := s.ask(ctx, asks...); err != nil {
		return err
	}
	for _, j := range jobs {
		a := of[j.needLease]
		if a == nil || j.err != nil {
			continue
		}
		l, err := leaseOf(j.needLease, a)
		if err != nil {
			j.err = wrap(err)
			continue
		}
		if j.leases == nil {
			j.leases = map[store.Incarnation]lease{}
		}
		j.leases[j.needLease] = l
	}
	return nil
}

func (s *Store) gatherPages(ctx context.Context, jobs []*job) error {
	for _, j := range jobs {
		if len(j.needs) == 0 || j.err != nil {
			continue
		}
		if j.pages == nil {
			j.pages = map[uint64][]slot{}
		}
		bad, err := s.readPages(ctx, j.doc, j.needs, j.pages)
		if err != nil {
			return err
		}
		if bad.gone && (j.cached || j.gone != j.doc.seq) {
			if !j.cached {
				j.gone = j.doc.seq
			}
			j.again() // perhaps another document is there
			continue
		}
		for _, why := range bad.why {
			j.err = errors.Join(j.err, why)
		}
	}
	return nil
}

// decide judges the changes of one session, one after the other, each against what those before it leave.
func (s *Store) decide(j *job, changes []store.Change, now time.Time) {
	j.next, j.results, j.needs, j.needLease = nil, j.results[:0], nil, store.Incarnation{}
	h, c := j.doc.header, j.doc.content()
	written := false
	for _, i := range j.places {
		ch := &changes[i]
		alive := false
		if ch.Create && !h.Released && h.Exists() && h.Expires.Past(now) {
			l, known := j.leases[h.Owner.Incarnation]
			if !known {
				j.needLease = h.Owner.Incarnation
				return
			}
			alive = l.runs(now)
		}
		outcome, next, wipe := ch.Judge(h, alive, now)
		r := store.Result{Outcome: outcome}
		switch outcome {
		case store.Fenced:
			r.Header = ownHeader(h)
		case store.Applied:
			cc := c
			if wipe {
				cc = content{{loaded: true}}
			}
			os := ops(ch)
			if j.needs = cc.load(os, j.pages); len(j.needs) > 0 {
				return
			}
			cc = cc.change(os)
			if n := headSize(&next, cc); n > maxMessage-inlineMax {
				r = store.Result{Outcome: store.Rejected, Err: fmt.Errorf("%w: session %q: its aliases, and the table of its entries, have %d bytes, at most %d are allowed",
					store.ErrTooLarge, ch.Session, n, maxMessage-inlineMax)}
				break
			}
			h, c, written = next, cc, true
		}
		j.results = append(j.results, r)
	}
	if written {
		j.next, j.content = &document{header: h}, c
	}
	if j.cached && slices.ContainsFunc(j.results, func(r store.Result) bool { return r.Outcome != store.Applied }) {
		j.next = nil // the document is read, then
	}
}

// stageAll stores what the documents that the jobs are to write refer to: messages in the index of their owners, and pages. It waits until they are
// acknowledged: a document never refers to what is not there.
func (s *Store) stageAll(ctx context.Context, jobs []*job) error {
	type staged struct {
		j *job
		p *part // nil: the index
	}
	var asks []*ask
	var what []staged
	for _, j := range jobs {
		h := &j.next.header
		j.indexed = false
		switch old := j.doc; {
		case h.Deleted:
		case old.index != 0 && old.header.Owner.Incarnation == h.Owner.Incarnation:
			j.next.index = old.index
		default:
			asks, what = append(asks, s.indexed(h.Owner.Incarnation, j.session, old.seq)), append(what, staged{j: j})
			j.indexed = true
		}
		as, parts := s.stage(j.session, j.doc.seq, j.content)
		asks = append(asks, as...)
		for _, p := range parts {
			what = append(what, staged{j, p})
		}
	}
	if len(asks) == 0 {
		return nil
	}
	if err := s.ask(ctx, asks...); err != nil {
		return err // what was stored all the same a sweep finds
	}
	for i, a := range asks {
		seq, aerr := a.stored()
		switch w := what[i]; {
		case errors.Is(aerr, errLost): // a sweep finds it, if it is there
			w.j.again()
		case aerr != nil && w.j.err == nil:
			w.j.err = wrap(aerr)
		case aerr != nil:
		case w.p == nil:
			w.j.next.index = seq
		default:
			w.p.seq = seq
		}
	}
	for _, j := range jobs {
		if j.err != nil {
			s.discard(j)
		}
	}
	return nil
}

// While the server works on some messages, the next ones are made.
const (
	commitPart  = 64
	commitParts = manyAsks / commitPart // on their way at a time
)

// commit writes the documents.
func (s *Store) commit(ctx context.Context, jobs []*job) {
	var wg sync.WaitGroup
	room := make(chan struct{}, commitParts)
	for part := range slices.Chunk(jobs, commitPart) {
		writing, asks := make([]*job, 0, len(part)), make([]*ask, 0, len(part))
		for _, j := range part {
			if j.err == nil && j.doc != nil {
				writing, asks = append(writing, j), append(asks, s.document(j))
			}
		}
		room <- struct{}{}
		wg.Go(func() {
			err := s.ask(ctx, asks...)
			for i, j := range writing {
				s.concluded(j, asks[i], err)
			}
			<-room
		})
	}
	wg.Wait()
}

// document returns the message that a job writes.
func (s *Store) document(j *job) *ask {
	d := j.next
	if j.content.paged() {
		for i := range j.content {
			d.pages = append(d.pages, j.content[i].page)
		}
	} else {
		d.slots = j.content[0].slots
	}
	b := d.encode()
	d.slots, d.raw = anchor(d.slots, b), b
	a := publish(s.documentSubject(j.session), b, j.doc.seq)
	if d.header.Deleted {
		a.expire(s.opt.TombstoneRetention)
	}
	return a
}

// concluded is told what became of a job's message; err is why some were not answered.
func (s *Store) concluded(j *job, a *ask, err error) {
	seq, aerr := a.stored()
	if aerr == nil {
		j.next.seq = seq
		s.written(j)
		j.done = true
		return
	}
	s.cache.outdated(j.session, j.doc.seq)
	switch {
	case moved(aerr):
		s.discard(j)
		j.again()
	case errors.Is(aerr, errLost) && err == nil:
		j.lost, j.was = j.next, j.doc
		j.again()
	case code(aerr) != 0: // refused, for good
		s.discard(j)
		j.err = wrap(aerr)
	case err != nil:
		j.err = err
	default:
		j.err = wrap(aerr)
	}
}

// written takes note of a document that is written, and has removed what only the one before it referred to.
func (s *Store) written(j *job) {
	s.cache.learn(j.next)
	var litter []uint64
	if j.doc.index != 0 && j.doc.index != j.next.index {
		litter = append(litter, j.doc.index)
	}
	if len(j.doc.pages) > 0 {
		stays := make(map[uint64]bool, len(j.next.pages))
		for _, p := range j.next.pages {
			stays[p.seq] = true
		}
		for _, p := range j.doc.pages {
			if !stays[p.seq] {
				litter = append(litter, p.seq)
				s.cache.dropPage(j.session, p.seq)
			}
		}
	}
	for i := range j.content {
		if p := &j.content[i]; p.seq != 0 && !p.is {
			s.cache.learnPage(j.session, p.seq, p.slots)
		}
	}
	s.tidy(litter, nil)
}

// discard has removed what was stored for a document that was not written, and never will be.
func (s *Store) discard(j *job) {
	var litter []uint64
	for i := range j.content {
		if p := &j.content[i]; p.seq != 0 && !p.is {
			litter = append(litter, p.seq)
		}
	}
	if j.indexed {
		// The same owner may have been granted the session by another call, whose message it now is. So that is looked at.
		s.tidy(litter, []claimed{{j.next.header.Owner.Incarnation, j.session}})
		return
	}
	s.tidy(litter, nil)
}
