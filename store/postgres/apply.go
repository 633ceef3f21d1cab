package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/seed-6f1f505d/kvstore/internal/redo"
	"github.com/seed-6f1f505d/kvstore/store"
)

// MaxValue is the size in bytes of the largest value. A change with a larger one is Rejected, and names its key.
const MaxValue = 64 << 20

// callBytes is the size of values up to which changes go in one statement. The protocol's bound is 1 GiB.
const callBytes = 32 << 20

// Apply implements [store.Store]. It is one statement, but for changes of one session, which follow each other, for those of several owners, and for more than 32 MiB.
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

// portion divides places into those of one statement, no two of the same session, by one owner and not too many bytes, and the rest. Those of one
// statement are in the order of their sessions.
func portion(changes []store.Change, places []int) (now, later []int) {
	seen := make(map[string]bool, len(places))
	bytes := 0
	for _, i := range places {
		c := &changes[i]
		if seen[c.Session] || bytes > callBytes || len(now) > 0 && c.Owner != changes[now[0]].Owner {
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
	slices.SortFunc(now, func(i, j int) int { return strings.Compare(changes[i].Session, changes[j].Session) })
	return now, later
}

// What a change is, beside its numbers: as the function apply has it.
const (
	creates int16 = 1 << iota
	deletes
	releases
	wipes
	mainSet
	mainDeleted
)

// numbers is an array that is NULL if all of it is 0.
type numbers struct {
	of []int64
	n  int
}

func (a *numbers) set(i int, v int64) {
	if v == 0 {
		return
	}
	if a.of == nil {
		a.of = make([]int64, a.n)
	}
	a.of[i] = v
}

// writeSome writes the changes at places, no two of the same session.
func (s *Store) writeSome(ctx context.Context, changes []store.Change, places []int, results []store.Result) error {
	some := make([]store.Change, len(places))
	for i, place := range places {
		some[i] = changes[place]
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

// write writes changes, no two of the same session, all of one owner and in the order of their sessions, in one statement: durably, or, if a memory is
// named, if the server has that.
func (s *Store) write(ctx context.Context, memory *redo.Memory, changes []store.Change) ([]store.Result, error) {
	results := make([]store.Result, len(changes))
	n := len(changes)
	var (
		ids, mains                        = make([][]byte, n), make([][]byte, n)
		epochs, seqs                      = make([]int64, n), make([]int64, n)
		flags                             = make([]int16, n)
		births, expiries, schemas, untils = numbers{n: n}, numbers{n: n}, numbers{n: n}, numbers{n: n}
		aliases                           [][]byte
		putChanges, deleteChanges         []int32
		putIDs, putKeys, putValues        [][]byte
		putUntils                         []int64
		deleteIDs, deleteKeys             [][]byte
		nameChanges                       []int32
		nameIDs, names                    [][]byte
	)
	for i := range changes {
		c := &changes[i]
		ids[i], epochs[i], seqs[i] = []byte(c.Session), int64(c.Epoch), int64(c.Seq)
		births.set(i, int64(c.Birth))
		expiries.set(i, int64(c.Expires))
		schemas.set(i, int64(c.Schema))
		if len(c.Aliases) > 0 {
			if aliases == nil {
				aliases = make([][]byte, n)
			}
			aliases[i] = joinAliases(c.Aliases)
		}
		if !c.Delete {
			for _, a := range c.Aliases {
				nameChanges, nameIDs, names = append(nameChanges, int32(i+1)), append(nameIDs, ids[i]), append(names, []byte(a))
			}
		}
		for _, f := range []struct {
			is   bool
			flag int16
		}{{c.Create, creates}, {c.Delete, deletes}, {c.Release, releases}, {c.Wipe, wipes}} {
			if f.is {
				flags[i] |= f.flag
			}
		}
		for j := range c.Puts {
			switch p := &c.Puts[j]; {
			case p.Key == "":
				flags[i] |= mainSet
				mains[i] = notNil(p.Value)
				untils.set(i, int64(p.Expires))
			default:
				putChanges, putIDs, putKeys = append(putChanges, int32(i+1)), append(putIDs, ids[i]), append(putKeys, []byte(p.Key))
				putValues, putUntils = append(putValues, notNil(p.Value)), append(putUntils, int64(p.Expires))
			}
		}
		for _, key := range c.Deletes {
			if key == "" {
				flags[i] |= mainDeleted
			} else {
				deleteChanges, deleteIDs, deleteKeys = append(deleteChanges, int32(i+1)), append(deleteIDs, ids[i]), append(deleteKeys, []byte(key))
			}
		}
	}
	owner := changes[0].Owner
	err := again(ctx, func() error {
		for i := range results {
			results[i] = store.Result{Outcome: store.Applied}
		}
		rows, err := s.pool.Query(ctx, s.sql.apply, memory, []byte(owner.Node), owner.Incarnation,
			flat(ids), flat(epochs), flat(seqs), flat(flags), flat(mains), flat(untils.of), flat(births.of), flat(expiries.of), flat(schemas.of), flat(aliases),
			flat(putChanges), flat(putIDs), flat(putKeys), flat(putValues), flat(putUntils), flat(deleteChanges), flat(deleteIDs), flat(deleteKeys),
			flat(nameChanges), flat(nameIDs), flat(names))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() { // the changes that were not written
			var i int
			var outcome int16
			var h header
			var alias, holder []byte
			if err := rows.Scan(append(append([]any{&i, &outcome}, h.dest()...), &alias, &holder)...); err != nil {
				return err
			}
			r := &results[i-1]
			*r = store.Result{Outcome: store.Already}
			switch outcome {
			case 4:
				*r = store.Result{Outcome: store.Rejected, Err: &store.AliasError{Alias: string(alias), Session: changes[i-1].Session, Holder: string(holder)}}
			case 3:
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

// flat is an array that pgx encodes without reflection, or NULL.
func flat[T any](a []T) pgtype.FlatArray[T] { return a }

// notNil keeps an empty value from being NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
