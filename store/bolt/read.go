package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Load implements [store.Store]. If the header is damaged, those entries
// that have records of their own are returned all the same.
func (s *Store) Load(ctx context.Context, session string, keys ...string) (store.Snapshot, error) {
	return s.load(ctx, session, func(rd *reader) ([]store.Entry, []*store.CorruptError, error) {
		if len(keys) == 0 {
			es, bad, _, err := rd.between(store.Range{})
			return es, bad, err
		}
		es, bad := rd.named(keys)
		return es, bad, nil
	})
}

// LoadRange implements [store.Ranger].
func (s *Store) LoadRange(ctx context.Context, session string, r store.Range) (store.Page, error) {
	var next string
	snap, err := s.load(ctx, session, func(rd *reader) (es []store.Entry, bad []*store.CorruptError, err error) {
		es, bad, next, err = rd.between(r)
		return es, bad, err
	})
	return store.Page{Snapshot: snap, Next: next}, err
}

// load reads a session's header, and the entries that read finds.
func (s *Store) load(ctx context.Context, session string, read func(rd *reader) ([]store.Entry, []*store.CorruptError, error)) (store.Snapshot, error) {
	if err := s.enter(ctx); err != nil {
		return store.Snapshot{}, err
	}
	defer s.leave()
	snap := store.Snapshot{Header: store.Header{Session: session}}
	if session == "" || len(session) > store.MaxSession {
		return snap, nil // there is no such session, and its key would be another's
	}
	var errs []error // what is damaged; not the transaction's
	err := s.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketSessions)
		if b == nil {
			return &faultError{cause: "a bucket is missing"}
		}
		key := appendPrefix(nil, session)
		pages, err := newSound(tx, b, bucketSessions)
		if err != nil {
			return &faultError{cause: err}
		}
		rd := reader{b.Cursor(), pages, key, nil, time.Now()}
		var h header
		err = safely(func() (err error) {
			if err = pages.record(key, false); err == nil {
				h, err = find(rd.cursor, pages, key)
			}
			return err
		})
		if err != nil {
			if isFault(err) {
				err = corruptHeader(key, err)
			}
			errs = append(errs, s.wrap(err))
			h.flags = flagEntries
		} else {
			snap.Header = h.head(session)
		}
		rd.head = &h
		es, bad, err := read(&rd)
		snap.Entries = es
		for _, e := range bad {
			errs = append(errs, s.wrap(e))
		}
		if err != nil {
			errs = append(errs, s.wrap(err))
		}
		return nil
	})
	return snap, errors.Join(append(errs, err)...)
}

// find reads the header record under key. Absent gives the zero header; anything
// that is not as it should be is an error.
func find(c *bbolt.Cursor, pages *sound, key []byte) (h header, err error) {
	k, v := c.Seek(key)
	if !bytes.Equal(k, key) {
		if isEntryOf(k, key) {
			return h, corruptHeader(key, errors.New("it is missing, and there are entries"))
		}
		if pages.hides(key, maxHeader+maxInline) {
			return h, corruptHeader(key, errHidden)
		}
		return h, nil
	}
	return readHeader(key, v)
}

// readHeader is decodeHeader, and says whose header it is.
func readHeader(key, content []byte) (header, error) {
	h, err := decodeHeader(key, content)
	if err != nil {
		return header{}, corruptHeader(key, err)
	}
	return h, nil
}

// reader reads entries of one session.
type reader struct {
	cursor *bbolt.Cursor
	sound  *sound // makes sure of the pages where a key belongs, before what is there is believed
	key    []byte // of the header record
	head   *header
	now    time.Time
}

// entries returns copies of the named entries, or of all, that exist and are not expired. Damaged
// ones are in bad. An error means that there may be more, which could not be found.
func (r *reader) entries(keys []string, all bool) (es []store.Entry, bad []*store.CorruptError, err error) {
	if all {
		es, bad, _, err = r.between(store.Range{})
		return es, bad, err
	}
	es, bad = r.named(keys)
	return es, bad, nil
}

func (r *reader) named(keys []string) (es []store.Entry, bad []*store.CorruptError) {
	for _, k := range keys {
		e, ok, err := r.entry(k)
		switch {
		case err != nil:
			bad = append(bad, &store.CorruptError{Session: r.session(), Key: k, Reason: err.Error()})
		case ok && !e.Expires.Past(r.now):
			es = append(es, e)
		}
	}
	return es, bad
}

// pageBytes is the size of the values after which a page ends, whatever its number of entries.
const pageBytes = 4 << 20

// between returns copies of the entries of a range, in order, and the key from which on it has not looked; empty if it has looked at all. Without
// a limit it does. Only records that were looked at count: the first one that does not fit is where the next page begins. A damaged record beside
// the range is in bad, too: it may be one of the range whose key is what was damaged.
func (r *reader) between(rg store.Range) (es []store.Entry, bad []*store.CorruptError, next string, err error) {
	size := 0
	room := func() bool { return rg.Limit <= 0 || len(es) < rg.Limit && size < pageBytes }
	add := func(key string, value []byte, expires store.Time) {
		if expires.Past(r.now) {
			return
		}
		e := store.Entry{Key: key, Expires: expires}
		if !rg.KeysOnly {
			e.Value = bytes.Clone(value)
			size += len(value)
		}
		es = append(es, e)
	}
	if rg.Has("") {
		e, ok, err := r.entry("")
		if err != nil {
			bad = append(bad, &store.CorruptError{Session: r.session(), Key: "", Reason: err.Error()})
		} else if ok {
			add("", e.Value, e.Expires)
		}
	}
	if r.head.flags&flagEntries == 0 || rg.To != "" && rg.To <= rg.From {
		return es, bad, "", nil
	}
	err = safely(func() error {
		base := appendEntryKey(nil, r.key, "")
		start, end := appendEntryKey(nil, r.key, rg.From), afterEntries(nil, r.key)
		if rg.To != "" {
			end = appendEntryKey(nil, r.key, rg.To)
		}
		if err := r.sound.record(start, false); err != nil {
			return err
		}
		beside := func(k, v []byte) {
			if len(k) > len(base) && isEntryOf(k, r.key) {
				if _, _, err := decodeEntry(k, v); err != nil {
					bad = append(bad, &store.CorruptError{Session: r.session(), Key: string(k[len(base):]), Reason: err.Error()})
				}
			}
		}
		if i := below(r.sound.leaf().page, start); i >= 0 {
			beside(record(r.sound.leaf().page, i))
		}
		from := start
		k, v := r.cursor.Seek(start)
		for ; isEntryOf(k, r.key) && bytes.Compare(k, end) < 0; k, v = r.cursor.Next() {
			if err := r.sound.through(from, k); err != nil { // or some are passed by
				return &faultError{cause: err}
			}
			if err := r.sound.record(k, false); err != nil {
				return err
			}
			from = k
			name := string(k[len(base):])
			if name == "" {
				continue // the main entry; it is there already
			}
			if !room() {
				next = name
				return nil
			}
			if value, expires, err := decodeEntry(k, v); err != nil {
				bad = append(bad, &store.CorruptError{Session: r.session(), Key: name, Reason: err.Error()})
			} else {
				add(name, value, expires)
			}
		}
		if err := r.sound.through(from, end); err != nil { // or more of them are hidden
			return &faultError{cause: err}
		}
		if k != nil && r.sound.leaf().has(k) { // a damaged key is still on the page where it belongs
			beside(k, v)
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("session %q: not all entries could be found: %w", r.session(), err)
	}
	return es, bad, next, err
}

// entry returns a copy of one entry, and whether there is such a one.
func (r *reader) entry(name string) (e store.Entry, ok bool, err error) {
	h := r.head
	if name == "" && h.flags&flagInline != 0 {
		return store.Entry{Value: bytes.Clone(h.inline), Expires: h.inlineExpires}, true, nil
	}
	if h.flags&flagEntries == 0 || len(name) > store.MaxKey {
		return e, false, nil
	}
	err = safely(func() error {
		key := appendEntryKey(nil, r.key, name)
		if err := r.sound.record(key, false); err != nil {
			return err
		}
		k, v := r.cursor.Seek(key)
		if !bytes.Equal(k, key) {
			if name == "" && h.flags&flagApart != 0 {
				return errors.New("the record is missing")
			}
			if r.sound.hides(key, maxRecord) {
				return errHidden
			}
			return nil
		}
		value, expires, err := decodeEntry(k, v)
		if err == nil {
			e, ok = store.Entry{Key: name, Value: bytes.Clone(value), Expires: expires}, true
		}
		return err
	})
	return e, ok, err
}

func (r *reader) session() string {
	_, id, _, _, _ := parseKey(r.key)
	return string(id)
}

// corruptHeader names the session whose header record is key.
func corruptHeader(key []byte, err error) *store.CorruptError {
	_, id, _, _, _ := parseKey(key)
	return &store.CorruptError{Session: string(id), Header: true, Reason: err.Error()}
}

func isFault(err error) bool {
	var fault *faultError
	return errors.As(err, &fault)
}
