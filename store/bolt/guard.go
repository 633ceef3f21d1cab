package bolt

import (
	"errors"
	"fmt"
	"io/fs"
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
	return s.transact(s.db.View, f)
}

// update runs f in a write transaction and commits it, unless f gives an error. The caller holds s.turn.
// An error that is not f's own leaves it unknown whether the transaction will be seen.
func (s *Store) update(f func(tx *bbolt.Tx) error) error {
	s.brokenMu.Lock()
	err := s.unsynced
	s.brokenMu.Unlock()
	if err != nil {
		return err
	}
	committing := false
	err = s.transact(s.db.Update, func(tx *bbolt.Tx) error {
		err := f(tx)
		committing = err == nil
		return err
	})
	if fault := (*faultError)(nil); err != nil && committing && !errors.As(err, &fault) && !s.opt.NoSync && !rolledBack(err) {
		// The operating system may have dropped the pages that it could not write, and may
		// report success for them next time. No later commit could be trusted.
		err = s.wrap(fmt.Errorf("a commit could not be synced, so nothing is written any more until the file is opened anew: %w", err))
		s.brokenMu.Lock()
		s.unsynced = err
		s.brokenMu.Unlock()
	}
	return err
}

// rolledBack reports whether a commit failed while it wrote or grew the file, before any sync: bbolt has then
// undone it, and the store goes on. A full disk is the usual cause.
func rolledBack(err error) bool {
	var perr *fs.PathError
	return errors.As(err, &perr) && perr.Op == "write" ||
		strings.Contains(err.Error(), "file resize error") // bbolt gives this one as text only
}

func (s *Store) transact(run func(func(*bbolt.Tx) error) error, f func(tx *bbolt.Tx) error) error {
	if err := s.brokenBy(); err != nil {
		return err
	}
	var tx *bbolt.Tx
	err := safely(func() error {
		err := run(func(t *bbolt.Tx) error {
			tx = t
			return f(t)
		})
		if errors.Is(err, berrors.ErrMaxSizeReached) {
			return &faultError{cause: "a length is wrong: " + err.Error()} // see limit
		}
		return err
	})
	if err == nil || err == errNothing {
		return err
	}
	err = s.wrap(err)
	if fault := (*faultError)(nil); errors.As(err, &fault) {
		// A transaction that began, and has let go of its DB, was ended properly.
		if tx == nil || tx.DB() != nil {
			s.brokenMu.Lock()
			s.broken = fmt.Errorf("%w (and the store cannot be used any more)", err)
			s.brokenMu.Unlock()
		}
		s.opt.Logger.Error("store/bolt: damage met", "file", s.path, "err", err, "stack", string(fault.stack))
	}
	return err
}

func (s *Store) brokenBy() error {
	s.brokenMu.Lock()
	defer s.brokenMu.Unlock()
	return s.broken
}
