package kvstore

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Kinds of errors, to be tested with errors.Is.
var (
	// ErrNotFound: there is no such session, or no such entry in it.
	ErrNotFound = errors.New("kvstore: not found")

	// ErrNotResident: this node does not own the session, as far as it knows without asking
	// the store. Adopt asks.
	ErrNotResident = errors.New("kvstore: session is not resident")

	// ErrExists: Create was called for a session that this node owns, or is adopting.
	ErrExists = errors.New("kvstore: session exists")

	// ErrOwned: the session's owner is alive on another node; see OwnedError.
	ErrOwned = errors.New("kvstore: session is owned by another node")

	// ErrFenced: this node's ownership of the session is over; see FencedError.
	ErrFenced = errors.New("kvstore: fenced")

	// ErrRejected: the store or the codec refused an entry for good; see RejectedError.
	ErrRejected = errors.New("kvstore: rejected")

	// ErrReleased: the session is being handed over, or was.
	ErrReleased = errors.New("kvstore: session is released")

	// ErrFull: the buffer is full and Options.Overflow is Reject. The write was not done.
	ErrFull = errors.New("kvstore: buffer is full")

	// ErrTooLarge: an ID, a key, a value or a transaction is over its limit.
	ErrTooLarge = errors.New("kvstore: too large")

	// ErrInvalid: an argument or option that cannot be right.
	ErrInvalid = errors.New("kvstore: invalid")

	// ErrSuspended: the lease is or may soon be over, or a Release of the session was given up and may have been done, and
	// Options.Strict is set.
	ErrSuspended = errors.New("kvstore: lease is in doubt, not serving")

	// ErrDraining: Drain was called; no session comes in any more. (If it lives on another node, OwnedError tells where.)
	ErrDraining = errors.New("kvstore: draining")

	// ErrClosed: Close was called.
	ErrClosed = errors.New("kvstore: closed")
)

// OwnedError tells where a session lives that could not be adopted: send its
// event there. It matches ErrOwned.
type OwnedError struct {
	Session string
	Node    string
	Addr    string // the owner's Options.Addr
	Epoch   uint64
	Lease   time.Duration // what was left of the owner's lease
}

func (e *OwnedError) Error() string {
	return fmt.Sprintf("kvstore: session %q is owned by node %q at %q (epoch %d)", e.Session, e.Node, e.Addr, e.Epoch)
}

// Is makes the error match ErrOwned.
func (e *OwnedError) Is(target error) bool { return target == ErrOwned }

// FencedError tells that a session was taken over, or existed already when an
// optimistic Create was stored. It matches ErrFenced.
type FencedError struct {
	Session string
	Epoch   uint64       // the tenure that was refused
	By      store.Header // what the store has on record; epoch 0 if nothing
}

func (e *FencedError) Error() string {
	switch {
	case e.By.Epoch == 0:
		return fmt.Sprintf("kvstore: session %q: epoch %d is fenced: the store has no such session", e.Session, e.Epoch)
	case e.By.Deleted:
		return fmt.Sprintf("kvstore: session %q: epoch %d is fenced: deleted by node %q in epoch %d", e.Session, e.Epoch, e.By.Owner.Node, e.By.Epoch)
	}
	return fmt.Sprintf("kvstore: session %q: epoch %d is fenced: node %q has epoch %d", e.Session, e.Epoch, e.By.Owner.Node, e.By.Epoch)
}

// Is makes the error match ErrFenced.
func (e *FencedError) Is(target error) bool { return target == ErrFenced }

// RejectedError tells that entries of a session can never be stored: their codec
// failed, they are too large, or the store refused them. It matches ErrRejected.
type RejectedError struct {
	Session string
	Keys    []string // the entries; empty if the session itself was refused. One that begins with a zero byte is the library's own: a queue's, say
	Err     error    // why
}

func (e *RejectedError) Error() string {
	if len(e.Keys) == 0 && errors.Is(e.Err, ErrAlias) {
		return e.Err.Error()
	}
	if len(e.Keys) == 0 {
		return fmt.Sprintf("kvstore: session %q is rejected: %v", e.Session, e.Err)
	}
	return fmt.Sprintf("kvstore: session %q: %s rejected: %v", e.Session, strings.Join(keyNames(e.Keys), ", "), e.Err)
}

// Is makes the error match ErrRejected.
func (e *RejectedError) Is(target error) bool { return target == ErrRejected }

// Unwrap returns why.
func (e *RejectedError) Unwrap() error { return e.Err }

// UnsavedError is what Close returns if its context was over before everything was stored.
// What remained was handed to Hooks.Lost. It matches the context's error.
type UnsavedError struct {
	Sessions int // that had unsaved changes
	Entries  int // that were not stored, or not known to be
	Err      error
}

func (e *UnsavedError) Error() string {
	return fmt.Sprintf("kvstore: closed with %d entries of %d sessions not stored: %v", e.Entries, e.Sessions, e.Err)
}

// Unwrap returns what ended the wait.
func (e *UnsavedError) Unwrap() error { return e.Err }

var errNilContext = fmt.Errorf("%w: the context is nil", ErrInvalid)

// sessionError names the session in an error of kind.
func sessionError(id string, kind error) error { return fmt.Errorf("%w: session %q", kind, id) }

func keyError(id, key string, kind error) error {
	return fmt.Errorf("%w: session %q, key %q", kind, id, key)
}

// keyNames describes keys in an error.
func keyNames(keys []string) []string {
	names := make([]string, len(keys))
	for i, key := range keys {
		kind, name := kindOf(key)
		if names[i] = fmt.Sprintf("%s %q", kind, name); kind == Plain {
			names[i] = fmt.Sprintf("key %q", name)
		}
	}
	return names
}

func checkID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: the session ID is empty", ErrInvalid)
	case len(id) > store.MaxSession:
		return fmt.Errorf("%w: session ID %.32q… has %d bytes, at most %d are allowed", ErrTooLarge, id, len(id), store.MaxSession)
	}
	return nil
}

func checkKey(id, key string) error {
	if isOwn(key) {
		return fmt.Errorf("%w: session %q: key %.32q begins with a zero byte: such keys are the library's own", ErrInvalid, id, key)
	}
	if len(key) > store.MaxKey {
		return fmt.Errorf("%w: session %q: key %.32q… has %d bytes, at most %d are allowed", ErrTooLarge, id, key, len(key), store.MaxKey)
	}
	return nil
}
