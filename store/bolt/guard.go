package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// This file is the only door to bbolt. bbolt reads its pages through a map of the file and trusts
// them: a damaged page makes it panic, and one that is not there any more (the file
// was cut, the disk cannot read it) makes the processor fault. Behind this door both are errors.

// faultError is a panic or fault met inside bbolt.
type faultError struct {
	cause any
	stack []byte // for the logger; empty if it was our own finding
}

func (e *faultError) Error() string { return fmt.Sprintf("the file is damaged: %v", e.cause) }

// safely runs f and gives its panics and memory faults as a *faultError.
func safely(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &faultError{cause: p, stack: debug.Stack()}
		}
	}()
	return f()
}

// view runs f in a read transaction. What tx gives is gone when f returns.
func (s *Store) view(f func(tx *bbolt.Tx) error) error {
	return s.transact(s.read, f)
}

// read is bbolt's View, but it does not wait for another transaction that begins.
func (s *Store) read(f func(tx *bbolt.Tx) error) error {
	tx, err := s.db.Begin(false)
	if err != nil {
		return err
	}
	defer func() {
		locked := s.beginMu.TryLock()
		for i := 0; i < 100 && !locked; i++ { // to begin takes less
			locked = s.beginMu.TryLock()
		}
		if !locked {
			// Who begins may fault, and the lock that this needs is never had; nor can we wait
			// for beginMu, as who begins may wait for a writer who waits for this transaction.
			s.ends.Go(func() { tx.Rollback() })
			return
		}
		defer s.beginMu.Unlock()
		if s.brokenBy() == nil {
			tx.Rollback()
		}
	}()
	return f(tx)
}

// update runs f in a write transaction and commits it, unless f gives an error. The caller holds s.turn.
// An error that is not f's own leaves it unknown whether the transaction will be seen.
func (s *Store) update(f func(tx *bbolt.Tx) error) error {
	err := s.stoppedBy()
	if err != nil {
		return err
	}
	if s.place.lost {
		if err := s.place.look(); err != nil {
			return s.wrap(err)
		}
	}
	committing, id := false, 0
	err = s.transact(s.db.Update, func(tx *bbolt.Tx) error {
		if id = tx.ID(); s.txid != 0 && id != s.txid+1 {
			return errReplaced
		}
		err := f(tx)
		committing = err == nil
		return err
	})
	switch {
	case errors.Is(err, errReplaced):
		return s.stop(err) // bbolt knows which pages were free in what was there before
	case err == nil:
		s.txid = id
		return s.wrap(s.place.look()) // after the commit: before it, the file may yet be replaced while the disk syncs
	case !committing || isFault(err):
		return err
	case strings.Contains(err.Error(), "mmap allocate error"): // bbolt gives this one as text only, and has unmapped the file
		return s.stop(fmt.Errorf("its map could not be enlarged, so it is not read nor written any more until it is opened anew: %w", err))
	case s.opt.NoSync:
		s.txid = 0 // a part of it may count
		return err
	case s.rolledBack(id, err):
		return err
	}
	// The operating system may have dropped the pages that it could not write, and may
	// report success for them next time. No later commit could be trusted.
	return s.stop(fmt.Errorf("a commit could not be synced, so nothing is written any more until the file is opened anew: %w", err))
}

// errReplaced: somebody wrote over the file.
var errReplaced = errors.New("what is in it was replaced while it is open, so nothing is written any more until it is opened anew")

// stop has no transaction write any more. It returns the error that they give.
func (s *Store) stop(why error) error {
	why = s.wrap(why)
	s.brokenMu.Lock()
	defer s.brokenMu.Unlock()
	s.stopped = why
	return why
}

// rolledBack reports whether the commit of transaction id failed while it wrote or grew the file, before any sync: bbolt has then
// undone it, and the store goes on. A full disk is the usual cause. If it was the meta page of which a part was
// written, the next transaction would build on this one, which no disk may have.
func (s *Store) rolledBack(id int, err error) bool {
	if strings.Contains(err.Error(), "file resize error") { // bbolt gives this one as text only
		return true
	}
	var perr *fs.PathError
	if !errors.As(err, &perr) || perr.Op != "write" {
		return false
	}
	p := &pager{file: s.file, size: math.MaxInt64, pageSize: s.pageSize}
	return p.meta() == nil && p.txid < uint64(id)
}

// transact runs f in a transaction that run begins and ends.
//
// To begin one, bbolt reads the meta pages, under a lock that a fault would leave locked for ever: whoever begins a
// transaction after that, or ends a reading one, would wait for it. So we look first whether the pages are still there. If the
// file is cut just then, only one call is inside: the others begin after it, and find the Store broken, and none ends
// meanwhile. What remains is a commit that has to enlarge bbolt's map: it waits for the reader that never began.
func (s *Store) transact(run func(func(*bbolt.Tx) error) error, f func(tx *bbolt.Tx) error) error {
	var tx *bbolt.Tx
	s.beginMu.Lock()
	beginning := true
	if err := s.brokenBy(); err != nil {
		s.beginMu.Unlock()
		return err
	}
	err := safely(func() error {
		if err := s.probe(); err != nil {
			return err
		}
		inside := true
		defer func() {
			if inside && beginning { // at once: it takes time to take the stack
				s.setBroken(s.wrap(errors.New("the file is damaged: its meta pages cannot be read")))
			}
		}()
		err := run(func(t *bbolt.Tx) error {
			tx, beginning = t, false
			s.beginMu.Unlock()
			return f(t)
		})
		inside = false
		if errors.Is(err, berrors.ErrMaxSizeReached) {
			return &faultError{cause: "a length is wrong: " + err.Error()} // see limit
		}
		return err
	})
	if beginning {
		s.beginMu.Unlock()
	}
	if err == nil || err == errNothing {
		return err
	}
	if stopped := s.stoppedBy(); errors.Is(err, berrors.ErrInvalidMapping) && stopped != nil {
		return stopped
	}
	err = s.wrap(err)
	if fault := (*faultError)(nil); errors.As(err, &fault) {
		if tx != nil && tx.Writable() && tx.DB() != nil {
			s.setBroken(err) // it was not ended properly, and has not let go of bbolt's locks
		}
		s.log(slog.LevelError, "store/bolt: damage met", "err", err, "stack", string(fault.stack))
	}
	return err
}

// probe reads from both meta pages, by a map of our own, or else from the file. If they are not there it faults.
func (s *Store) probe() error {
	for i := range 2 {
		at, b := i*s.pageSize+pageHeader, []byte(nil)
		if s.metas != nil {
			b = s.metas[at:]
		} else {
			b = make([]byte, 4)
			if _, err := s.file.ReadAt(b, int64(at)); err != nil {
				return &faultError{cause: err}
			}
		}
		if native.Uint32(b) != bboltMagic {
			return &faultError{cause: fmt.Errorf("meta page %d is damaged", i)}
		}
	}
	return nil
}

func (s *Store) setBroken(err error) {
	s.brokenMu.Lock()
	defer s.brokenMu.Unlock()
	if s.broken == nil {
		s.broken = fmt.Errorf("%w (and the store cannot be used any more until the file is opened anew)", err)
		close(s.breaks)
	}
}

func (s *Store) stoppedBy() error {
	s.brokenMu.Lock()
	defer s.brokenMu.Unlock()
	return s.stopped
}

func (s *Store) brokenBy() error {
	s.brokenMu.Lock()
	defer s.brokenMu.Unlock()
	return s.broken
}

// log tells the logger. One that panics must not take the turn, and the calls that wait, with it.
func (s *Store) log(level slog.Level, msg string, args ...any) {
	defer func() { recover() }()
	s.opt.Logger.Log(context.Background(), level, msg, append(args, "file", s.path)...)
}
