package kvstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is versions of the type of values, for programs of different versions that share a store, as in a rolling deploy.
//
// A program that sets Options.Schema writes that number in front of each value, and into the header of each session that it changes. So a value tells how it
// is to be read, and a session whether a newer program has been at it: whoever does not know that program's version does not take the session, as it
// would write over what it does not understand (dotnet/orleans#2153).
//
//	value     0xC1 'v' uvarint(version) encoding
//	          encoding                             of a program without a version
//
// 0xC1 is the one byte with which no MessagePack value begins.
const schemaMark = "\xc1v"

// ErrSchema: what is stored is of a newer version than this program knows; see SchemaError.
var ErrSchema = errors.New("kvstore: stored by a newer version of the program")

// SchemaError tells that a session, or a value in it, was written by a program with a higher Options.Schema. It matches ErrSchema. The
// session is left to those who know it: this node does not own it.
type SchemaError struct {
	Session string
	Stored  uint32 // the version on record
	Known   uint32 // this program's Options.Schema
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("kvstore: session %q was stored by version %d of the program, this one is %d", e.Session, e.Stored, e.Known)
}

// Is makes the error match ErrSchema.
func (e *SchemaError) Is(target error) bool { return target == ErrSchema }

// appendVersion appends what stands before the encoding of a value.
func appendVersion(dst []byte, version uint32) []byte {
	if version == 0 {
		return dst
	}
	return binary.AppendUvarint(append(dst, schemaMark...), uint64(version))
}

// versionOf splits a stored value into the version that wrote it, 0 for none, and the encoding.
func versionOf(value []byte) (version uint32, encoding []byte, err error) {
	if len(value) < len(schemaMark) || string(value[:len(schemaMark)]) != schemaMark {
		return 0, value, nil
	}
	n, size := binary.Uvarint(value[len(schemaMark):])
	if size <= 0 || n == 0 || n > 1<<32-1 || size > 1 && value[len(schemaMark)+size-1] == 0 {
		return 0, nil, errors.New("kvstore: decoding: the version of the value is malformed")
	}
	return uint32(n), value[len(schemaMark)+size:], nil
}

// decodeValue sets v from a stored value, whichever version wrote it.
func (db *DB[V]) decodeValue(value []byte, v *V) error {
	version, encoding, err := versionOf(value)
	switch {
	case err != nil:
		return err
	case version > db.opt.Schema && !db.opt.AcceptNewer:
		return fmt.Errorf("kvstore: decoding %T: %w: its version is %d, Options.Schema is %d", v, ErrSchema, version, db.opt.Schema)
	case version < db.opt.Schema && db.opt.Upgrade != nil:
		return upgrade(db.opt.Upgrade, version, encoding, v)
	}
	return decode(db.opt.Codec, encoding, v)
}

// upgrade is f with no panic that leaves it.
func upgrade(f func(uint32, []byte, any) error, version uint32, encoding []byte, v any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("kvstore: decoding %T of version %d: panic in Options.Upgrade: %w", v, version, panicError(p))
		}
	}()
	if err := f(version, encoding, v); err != nil {
		return fmt.Errorf("kvstore: decoding %T of version %d: %w", v, version, err)
	}
	return nil
}

// knows returns why this program is not to have a session with that header.
func (db *DB[V]) knows(h *store.Header) error {
	if h.Schema <= db.opt.Schema || db.opt.AcceptNewer {
		return nil
	}
	return &SchemaError{Session: h.Session, Stored: h.Schema, Known: db.opt.Schema}
}

// giveBack releases a session that a claim has just given to this node, which is not to have it. If the store does not answer, it is tried again in the
// background. No call for the session is under way but the caller's.
func (db *DB[V]) giveBack(h store.Header) {
	change := store.Change{
		Session: h.Session, Owner: db.self, Epoch: h.Epoch, Seq: db.seq.Add(1), Release: true,
		Expires: h.Expires, Aliases: h.Aliases, Schema: h.Schema,
	}
	try := func() bool {
		rs, err := db.apply(db.ctx, []store.Change{change})
		return err == nil && rs[0].Outcome != store.Undecided // else it is another's by now
	}
	if try() {
		return
	}
	db.spawn(func(ctx context.Context) {
		for fails := 1; !try(); fails++ {
			timer := time.NewTimer(time.Duration(db.backoff(min(fails, 60))))
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
		}
	})
}
