package postgres

import (
	"context"
	"fmt"

	"github.com/seed-6f1f505d/kvstore/internal/redo"
	"github.com/seed-6f1f505d/kvstore/store"
)

// MaxValue is the size in bytes of the largest value. A change with a larger one is Rejected, and names its key.
const MaxValue = 64 << 20

// callBytes is the size of values up to which changes go in one statement. The protocol's bound is 1 GiB.
const callBytes = 32 << 20

// Apply implements [store.Store]. It is one statement, but for changes of one session, which follow each other, and for more than 32 MiB.
func (s *Store) Apply(ctx context.Context, changes []store.Change) ([]store.Result, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	results := make([]store.Result, len(changes))
	var todo []int // changes, by their places
	for i := range changes {
		if keys, err := check(&changes[i]); err != nil {
			results[i] = store.Result{Outcome: store.Rejected, Err: err, Keys: keys}
		} else {
			todo = append(todo, i)
		}
	}
	for len(todo) > 0 {
		now, later := portion(changes, todo)
		// What was written before is told beside what fails: a part that has no answer is Undecided.
		if err := s.writeSome(ctx, changes, now, results); err != nil {
			if len(now)+len(later) == len(changes) {
				return nil, err
			}
			for _, i := range append(now, later...) {
				results[i] = store.Result{Outcome: store.Undecided, Err: err}
			}
			return results, nil
		}
		todo = later
	}
	return results, nil
}

// check reports what can never be written, with the keys to blame.
func check(c *store.Change) (keys []string, err error) {
	if keys, err = c.Check(); err != nil {
		return keys, err
	}
	for i := range c.Puts {
		if n := len(c.Puts[i].Value); n > MaxValue {
			keys = append(keys, c.Puts[i].Key)
			err = fmt.Errorf("%w: session %q, key %.32q: the value has %d bytes, at most %d are allowed", store.ErrTooLarge, c.Session, c.Puts[i].Key, n, MaxValue)
		}
	}
	return keys, err
}

// portion divides places into those of one statement, no two of the same session and not too many bytes, and the rest.
func portion(changes []store.Change, places []int) (now, later []int) {
	seen := make(map[string]bool, len(places))
	bytes := 0
	for _, i := range places {
		c := &changes[i]
		if seen[c.Session] || bytes > callBytes {
			later = append(later, i)
			seen[c.Session] = true // those behind it wait for it
			continue
		}
		seen[c.Session] = true
		now = append(now, i)
		for j := range c.Puts {
			bytes += len(c.Puts[j].Value)
		}
	}
	return now, later
}

// What becomes of the main entry.
const (
	mainStays int16 = iota
	mainSet
	mainDeleted
)

// writeSome writes the changes at places, no two of the same session.
func (s *Store) writeSome(ctx context.Context, changes []store.Change, places []int, results []store.Result) error {
	some := changes
	if len(places) < len(changes) {
		some = make([]store.Change, len(places))
		for i, place := range places {
			some[i] = changes[place]
		}
	}
	var rs []store.Result
	var err error
	if s.opt.Relaxed {
		rs, err = s.redo.Write(ctx, some)
	} else {
		rs, err = s.write(ctx, nil, some)
	}
	for i := range rs {
		results[places[i]] = rs[i]
	}
	return err
}

// write writes changes, no two of the same session, in one statement: durably, or, if a memory is named, if the server has that.
func (s *Store) write(ctx context.Context, memory *redo.Memory, changes []store.Change) ([]store.Result, error) {
	results := make([]store.Result, len(changes))
	n := len(changes)
	var (
		ids, nodes, aliases, mains     = make([][]byte, n), make([][]byte, n), make([][]byte, n), make([][]byte, n)
		incarnations                   = make([][16]byte, n)
		epochs, seqs, births           = make([]int64, n), make([]int64, n), make([]int64, n)
		creates, ends, releases, wipes = make([]bool, n), make([]bool, n), make([]bool, n), make([]bool, n)
		expiries, schemas, mainUntils  = make([]int64, n), make([]int64, n), make([]int64, n)
		mainOps                        = make([]int16, n)
		putChanges, deleteChanges      = []int32{}, []int32{}
		putKeys, putValues, deleteKeys = [][]byte{}, [][]byte{}, [][]byte{}
		putUntils                      = []int64{}
	)
	for i := range changes {
		c := &changes[i]
		ids[i], nodes[i], aliases[i] = []byte(c.Session), []byte(c.Owner.Node), joinAliases(c.Aliases)
		incarnations[i] = c.Owner.Incarnation
		epochs[i], seqs[i], births[i] = int64(c.Epoch), int64(c.Seq), int64(c.Birth)
		creates[i], ends[i], releases[i], wipes[i] = c.Create, c.Delete, c.Release, c.Wipe || c.Delete
		expiries[i], schemas[i] = int64(c.Expires), int64(c.Schema)
		for j := range c.Puts {
			switch p := &c.Puts[j]; {
			case p.Key == "":
				mainOps[i], mains[i], mainUntils[i] = mainSet, notNil(p.Value), int64(p.Expires)
			default:
				putChanges, putKeys = append(putChanges, int32(i+1)), append(putKeys, []byte(p.Key))
				putValues, putUntils = append(putValues, notNil(p.Value)), append(putUntils, int64(p.Expires))
			}
		}
		for _, key := range c.Deletes {
			if key == "" {
				mainOps[i] = mainDeleted
			} else {
				deleteChanges, deleteKeys = append(deleteChanges, int32(i+1)), append(deleteKeys, []byte(key))
			}
		}
	}
	err := again(ctx, func() error {
		for i := range results {
			results[i] = store.Result{Outcome: store.Applied}
		}
		rows, err := s.pool.Query(ctx, s.sql.apply, memory,
			ids, nodes, incarnations, epochs, seqs, births, creates, ends, releases, wipes, expiries, schemas, aliases, mainOps, mains, mainUntils,
			putChanges, putKeys, putValues, putUntils, deleteChanges, deleteKeys)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() { // the changes that were not written
			var i int
			var outcome int16
			var h header
			if err := rows.Scan(append([]any{&i, &outcome}, h.dest()...)...); err != nil {
				return err
			}
			r := &results[i-1]
			*r = store.Result{Outcome: store.Already}
			if outcome == 3 {
				r.Outcome = store.Fenced
				if r.Header, err = h.head(changes[i-1].Session); err != nil {
					*r = store.Result{Outcome: store.Undecided, Err: err}
				}
			}
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

// notNil keeps an empty value from being NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
