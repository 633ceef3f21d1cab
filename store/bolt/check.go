package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// maxReported is how many findings an error lists. The rest is counted.
const maxReported = 64

// Check reads the whole file and gives everything that is wrong with it as joined errors, [*store.CorruptError]
// for records that are damaged. It looks at
//
//   - every page: what refers to it, what it holds, where its keys belong, and that each is in
//     use exactly once or free; first by code of this package that
//     trusts nothing, then, if that found nothing, by bbolt's own check;
//   - every record: its checksum, and its decoded fields;
//   - that there is a header to every entry, and a record to every main entry
//     that its header says has one; that tombstones and their index agree, and so do aliases and theirs.
//
// It reads around the memory map, page by page. Writers wait until it is done; readers do not.
func (s *Store) Check(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	case <-s.breaks:
		return s.brokenBy()
	}
	c := &checker{store: s}
	err := s.update(func(tx *bbolt.Tx) error {
		if err := c.check(ctx, tx); err != nil {
			return err
		}
		return errNothing // writing was never meant: the transaction only keeps the pages as they are
	})
	if err != errNothing {
		c.errs = append(c.errs, err)
	}
	if c.more > 0 {
		c.errs = append(c.errs, s.wrap(fmt.Errorf("and %d findings more", c.more)))
	}
	return errors.Join(c.errs...)
}

type checker struct {
	store *Store
	errs  []error
	more  int

	// The session whose records are being read.
	prefix  []byte // its header's key; nil at first
	flags   byte   // its header's
	apart   bool   // its main entry's own record was met
	skipped bool   // its header is damaged: its entries cannot be judged

	// Tombstones met in headers, minus those met in the index: both are 0 at the end.
	tombstones int
	balance    uint64 // of the hashes of their keys

	batch *batch // to look for records by their keys
}

func (c *checker) report(err error) {
	if len(c.errs) >= maxReported {
		c.more++
		return
	}
	c.errs = append(c.errs, c.store.wrap(err))
}

// check gives an error only if it could not go on.
func (c *checker) check(ctx context.Context, tx *bbolt.Tx) error {
	info, err := c.store.file.Stat()
	if err != nil {
		return err
	}
	p := &pager{
		file:     c.store.file,
		size:     info.Size(),
		pageSize: c.store.pageSize,
		report:   c.report,
		stop: func() error {
			if c.store.closing.Load() {
				return store.ErrClosed
			}
			return ctx.Err()
		},
	}
	if err := p.meta(); err != nil {
		return err
	}
	if err := p.readFreelist(); err != nil {
		return err
	}
	buckets, err := p.buckets()
	if err != nil {
		return err
	}
	if err := ours(p, buckets); err != nil {
		return err
	}
	err = safely(func() (err error) { c.batch, err = c.store.newBatch(tx); return err })
	if err != nil {
		return err
	}
	for _, b := range buckets {
		f := func(e element) {
			if e.bucket {
				c.report(fmt.Errorf("bucket %.32q holds a bucket %.32q", b.key, e.key))
			}
		}
		switch string(b.key) {
		case string(bucketSessions):
			f = c.record
		case string(bucketGraves):
			f = c.grave
		case string(bucketAliases):
			f = c.alias
		case string(bucketMeta):
			if native.Uint64(b.value) == 0 {
				continue // inline: ours has read it
			}
		default:
			c.report(fmt.Errorf("bucket %.32q: unknown", b.key))
		}
		if err := p.bucket(b, f); err != nil {
			return err
		}
	}
	c.endSession()
	p.unreachable()
	if c.tombstones != 0 || c.balance != 0 {
		c.report(fmt.Errorf("tombstones and their index disagree: %+d", c.tombstones))
	}
	if len(c.errs) > 0 {
		return nil // bbolt's check follows pages blindly, on a goroutine whose faults cannot be caught
	}
	for err := range tx.Check() {
		c.report(fmt.Errorf("bbolt: %w", err))
	}
	return nil
}

// record looks at the next record of the bucket of sessions. They come in the order of their keys.
func (c *checker) record(e element) {
	prefix, session, key, isEntry, err := parseKey(e.key)
	if err != nil {
		c.report(fmt.Errorf("record under key %.64x: the key is damaged: %w", e.key, err))
		return
	}
	if e.bucket {
		c.report(&store.CorruptError{Session: string(session), Key: string(key), Header: !isEntry, Reason: "it has become a bucket"})
		if !bytes.Equal(prefix, c.prefix) {
			c.endSession()
			c.prefix, c.skipped = bytes.Clone(prefix), true
		}
		return
	}
	if !isEntry {
		c.endSession()
		c.prefix, c.flags, c.apart, c.skipped = bytes.Clone(prefix), 0, false, false
		h, err := decodeHeader(e.key, e.value)
		if err != nil {
			c.skipped = true
			c.report(corruptHeader(prefix, err))
			return
		}
		c.flags = h.flags
		if h.flags&flagDeleted != 0 {
			c.tombstones++
			c.balance += xxhash.Sum64(appendGrave(nil, h.died, session))
		}
		c.names(string(session), &h)
		return
	}
	if !bytes.Equal(prefix, c.prefix) {
		c.endSession()
		c.prefix, c.skipped = bytes.Clone(prefix), true
		c.report(corruptHeader(prefix, errors.New("it is missing, and there are entries")))
	}
	_, _, err = decodeEntry(e.key, e.value)
	switch {
	case err != nil:
	case c.skipped:
		return
	case c.flags&flagEntries == 0:
		err = errors.New("the header says that there are no entries")
	case len(key) == 0 && c.flags&flagApart == 0:
		err = errors.New("the header says that it is elsewhere")
	case len(key) == 0:
		c.apart = true
	}
	if err != nil {
		c.report(&store.CorruptError{Session: string(session), Key: string(key), Reason: err.Error()})
	}
}

// endSession is called when the last record of a session was seen.
func (c *checker) endSession() {
	if c.prefix != nil && !c.skipped && c.flags&flagApart != 0 && !c.apart {
		_, session, _, _, _ := parseKey(c.prefix)
		c.report(&store.CorruptError{Session: string(session), Reason: "the record is missing"})
	}
}

func (c *checker) grave(e element) {
	if e.bucket {
		c.report(fmt.Errorf("index of tombstones, record under key %.64x: it has become a bucket", e.key))
		return
	}
	if _, _, err := decodeGrave(e.key, e.value); err != nil {
		c.report(fmt.Errorf("index of tombstones, record under key %.64x: damaged: %w", e.key, err))
		return
	}
	c.tombstones--
	c.balance -= xxhash.Sum64(e.key)
}

// names looks whether a session has the aliases that its header lists. Past its expiry another may have taken them, and in a file of the format that has no
// index of them nobody has any.
func (c *checker) names(session string, h *header) {
	if h.expires.Past(c.batch.wall) || c.batch.aliases == nil {
		return
	}
	for _, a := range h.names() {
		err := safely(func() error {
			holder, err := c.batch.holder(a)
			if err == nil && holder != session {
				err = fmt.Errorf("the index of aliases has session %.64q for it", holder)
			}
			return err
		})
		if err != nil {
			c.report(fmt.Errorf("session %q, alias %q: %w", session, a, err))
		}
	}
}

// alias looks at a record of the index of aliases.
func (c *checker) alias(e element) {
	if e.bucket {
		c.report(fmt.Errorf("index of aliases, record under key %.64q: it has become a bucket", e.key))
		return
	}
	session, err := decodeAlias(e.key, e.value)
	if err != nil {
		c.report(&store.CorruptError{Alias: string(e.key), Reason: err.Error()})
		return
	}
	err = safely(func() error {
		h, err := c.batch.find(appendPrefix(nil, string(session)))
		if err == nil && !slices.Contains(h.names(), string(e.key)) {
			err = errors.New("it does not list it")
		}
		return err
	})
	if err != nil {
		c.report(fmt.Errorf("index of aliases: %q is session %q's: %w", e.key, session, err))
	}
}
