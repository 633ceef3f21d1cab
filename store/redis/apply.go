package redis

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-6f1f505d/kvstore/internal/redo"
	"github.com/seed-6f1f505d/kvstore/store"
)

// What a change can be at most. One that is more is Rejected.
const (
	MaxValue   = 64 << 20  // the size of a value, in bytes; its key is named
	MaxEntries = 400_000   // how many entries one change may put and delete
	MaxChange  = 256 << 20 // the size of all of a change, in bytes
)

// A server does nothing else while it runs a script, so a script has changes up to these numbers, or one change.
const (
	callChanges = 256
	callBytes   = 1 << 20
)

// plainSets is how many fields and values the script writes with one command. It is a bound of its unpack.
const plainSets = 4000

// Apply implements [store.Store]. It is one script for each bucket and about each 256 changes or MiB, all in one round trip, but for changes of one
// session that would be divided between two scripts: then the second waits for the first.
func (s *Store) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	results := make([]store.Result, len(changes))
	some, places := make([]store.Change, 0, len(changes)), make([]int, 0, len(changes))
	for i := range changes {
		if keys, err := s.check(&changes[i]); err != nil {
			results[i] = store.Result{Outcome: store.Rejected, Err: err, Keys: keys}
		} else {
			some, places = append(some, changes[i]), append(places, i)
		}
	}
	if len(some) == 0 {
		return results, nil
	}
	rs, err := s.redo.Write(ctx, some)
	if err != nil && len(some) == len(changes) {
		return nil, err
	}
	for n, i := range places {
		if err != nil {
			results[i] = store.Result{Outcome: store.Undecided, Err: err}
		} else {
			results[i] = rs[n]
		}
	}
	return results, nil
}

// write writes changes with a script, one that servers must have had before. If one has not, that is redo.ErrForgot.
func (s *Store) write(ctx context.Context, script *script, changes []store.Change) ([]store.Result, error) {
	results := make([]store.Result, len(changes))
	todo := make([]int, len(changes)) // changes, by their places
	for i := range todo {
		todo[i] = i
	}
	undecided := 0
	var last error
	for len(todo) > 0 {
		var ps []*portion
		ps, todo = s.divide(changes, todo)
		calls := make([]*call, len(ps))
		for i, p := range ps {
			p.call = s.applyCall(p, changes)
			p.call.script, p.call.known = script, true
			calls[i] = p.call
		}
		s.run(ctx, calls...)
		failed := map[string]bool{}
		for _, p := range ps {
			if err := p.read(changes, results); errors.Is(err, redo.ErrForgot) {
				return nil, err
			} else if err != nil {
				last = err
			}
			for _, i := range p.places {
				if results[i].Outcome == store.Undecided {
					undecided++
					failed[changes[i].Session] = true
				}
			}
		}
		// What follows a change that may not be there is not written either: it would stand for it.
		rest := todo[:0]
		for _, i := range todo {
			if failed[changes[i].Session] {
				results[i] = store.Result{Outcome: store.Undecided, Err: wrap(errFollows)}
				undecided++
			} else {
				rest = append(rest, i)
			}
		}
		todo = rest
	}
	if last != nil && undecided == len(changes) {
		return nil, last
	}
	return results, nil
}

var errFollows = errors.New("an earlier change of this session failed")

// check reports what can never be written, with the keys to blame.
func (s *Store) check(c *store.Change) (keys []string, err error) {
	if keys, err = c.Check(); err != nil {
		return keys, err
	}
	if len(c.Aliases) > 0 && len(s.buckets) > 1 {
		return nil, errBuckets(fmt.Sprintf("session %q: ", c.Session))
	}
	for i := range c.Puts {
		if n := len(c.Puts[i].Value); n > MaxValue {
			keys = append(keys, c.Puts[i].Key)
			err = fmt.Errorf("%w: session %q, key %.32q: the value has %d bytes, at most %d are allowed", store.ErrTooLarge, c.Session, c.Puts[i].Key, n, MaxValue)
		}
	}
	if err != nil {
		return keys, err
	}
	if n := len(c.Puts) + len(c.Deletes); n > MaxEntries {
		return nil, fmt.Errorf("%w: session %q: the change is of %d entries, at most %d are allowed", store.ErrTooLarge, c.Session, n, MaxEntries)
	}
	if n := size(c); n > MaxChange {
		return nil, fmt.Errorf("%w: session %q: the change has %d bytes, at most %d are allowed", store.ErrTooLarge, c.Session, n, MaxChange)
	}
	return nil, nil
}

// size is about how many bytes a change has on its way.
func size(c *store.Change) int {
	n := 2*len(c.Session) + len(c.Owner.Node) + leastHeader
	for _, a := range c.Aliases {
		n += len(a) + 10
	}
	for i := range c.Puts {
		n += len(c.Puts[i].Key) + len(c.Puts[i].Value) + 10
	}
	for _, k := range c.Deletes {
		n += len(k) + 1
	}
	return n
}

// portion is what one script writes.
type portion struct {
	bucket int
	places []int // of the changes
	bytes  int
	call   *call
}

func (p *portion) full() bool { return len(p.places) >= callChanges || p.bytes >= callBytes }

// divide divides places into portions, so that no session is in two of them, and the rest. For portions may be carried out in another
// order than they are sent: after a script had to be sent itself, or a bucket has moved.
func (s *Store) divide(changes []store.Change, places []int) (ps []*portion, later []int) {
	open := make([]*portion, len(s.buckets))
	in := make(map[string]*portion, len(places)) // nil: those that follow have to wait
	for _, i := range places {
		c := &changes[i]
		b := s.bucketOf(c.Session)
		p, seen := in[c.Session]
		switch {
		case seen && (p == nil || p != open[b] || p.full()):
			in[c.Session] = nil
			later = append(later, i)
			continue
		case open[b] == nil || open[b].full():
			open[b] = &portion{bucket: b, places: make([]int, 0, min(len(places), callChanges))}
			ps = append(ps, open[b])
		}
		p = open[b]
		p.places = append(p.places, i)
		p.bytes += size(c)
		in[c.Session] = p
	}
	return ps, later
}

func (s *Store) applyCall(p *portion, changes []store.Change) *call {
	b := &s.buckets[p.bucket]
	n := 7 + 7*len(p.places)
	for _, i := range p.places {
		n += 2*len(changes[i].Puts) + len(changes[i].Deletes)
	}
	args := make([]any, 0, n)
	args = append(args, b.live, b.owned, b.nodes, b.aliases, b.order)
	for _, i := range p.places {
		args = append(args, b.session+changes[i].Session)
	}
	keys := len(args)
	args = append(args, s.opt.TombstoneRetention.Milliseconds(), len(b.session))
	buf := make([]byte, 0, p.bytes+p.bytes/8) // if it is too small, what is in the former one stays there
	for _, i := range p.places {
		c := &changes[i]
		if sets := 2 * len(c.Puts); c.Create || c.Wipe || c.Delete || len(c.Puts) == 0 || len(c.Deletes) > 0 || sets > plainSets {
			birth := ""
			if c.Birth != 0 {
				birth = string(appendNumber(nil, int64(c.Birth), 19))
			}
			args = append(args, "x"+flagsOf(c.Create, "c", c.Wipe || c.Delete, "w"), birth, sets, len(c.Deletes))
		} else {
			args = append(args, sets)
		}
		from := len(buf)
		buf = appendHeader(buf, c)
		args = append(args, buf[from:len(buf):len(buf)])
		for j := range c.Puts {
			from := len(buf)
			buf = append(append(buf, '/'), c.Puts[j].Key...)
			to := len(buf)
			buf = appendEntry(buf, &c.Puts[j])
			args = append(args, buf[from:to:to], buf[to:len(buf):len(buf)])
		}
		for _, k := range c.Deletes {
			args = append(args, fieldOf(k))
		}
	}
	return &call{bucket: b, keys: keys, args: args, writes: true}
}

func flagsOf(a bool, ifA string, b bool, ifB string) string {
	switch {
	case a && b:
		return ifA + ifB
	case a:
		return ifA
	case b:
		return ifB
	}
	return ""
}

// read reads the answer into the results. It returns the error of the call as a whole.
func (p *portion) read(changes []store.Change, results []store.Result) error {
	answer, err := p.call.list()
	if err != nil {
		for _, i := range p.places {
			results[i] = store.Result{Outcome: store.Undecided, Err: err}
		}
		return err
	}
	for _, i := range p.places {
		results[i] = store.Result{Outcome: store.Applied}
	}
	for ; len(answer) >= 3; answer = answer[3:] { // those that were not written
		i, what := p.places[whole(answer[0])-1], answer[2]
		switch whole(answer[1]) {
		case 2:
			results[i] = store.Result{Outcome: store.Already}
		case 3:
			h, err := parseHeader(changes[i].Session, what)
			if err != nil {
				results[i] = store.Result{Outcome: store.Undecided, Err: err}
			} else {
				results[i] = store.Result{Outcome: store.Fenced, Header: h}
			}
		case 4:
			taken, _ := what.([]any)
			if len(taken) != 2 {
				return errAnswer
			}
			results[i] = store.Result{Outcome: store.Rejected, Err: &store.AliasError{Alias: text(taken[0]), Session: changes[i].Session, Holder: text(taken[1])}}
		default:
			results[i] = store.Result{Outcome: store.Undecided, Err: fmt.Errorf("store/redis: %v", what)}
		}
	}
	return nil
}
