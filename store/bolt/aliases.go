package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/seed-6f1f505d/kvstore/store"
)

// The bucket "aliases" has, under each alias that a session has, that session. It is written in the transaction that writes the headers:
//
//	aliases[a] = s               ⇒  s is not deleted, and its header lists a
//	s lists a, and is not past   ⇒  aliases[a] = s
//
// One that has expired may list what another took when it was gone. A file of format 1 has no such bucket: the first change that names an alias
// makes it, and raises the format. (What headers list there from before, which no DB ever wrote, is a session's own when its next change names it.)

// errFormat: a file of format 2 has always had the bucket.
var errFormat = errors.New("a bucket is missing")

// aliasesOf returns the bucket, or nil if the file's format has none.
func aliasesOf(tx *bbolt.Tx) (*bbolt.Bucket, error) {
	b := tx.Bucket(bucketAliases)
	if b != nil {
		return b, nil
	}
	if meta := tx.Bucket(bucketMeta); meta == nil || !bytes.Equal(meta.Get(keyFormat), formatValue(formatBefore)) {
		return nil, &faultError{cause: errFormat}
	}
	return nil, nil
}

// damagedAlias is a record of the bucket that is not as it was written.
type damagedAlias struct{ *store.CorruptError }

// holder returns the session that has an alias; empty if none has.
func (b *batch) holder(alias string) (session string, err error) {
	if b.aliases == nil {
		return "", nil
	}
	key := []byte(alias)
	if err := b.soundAlias(key, false); err != nil {
		return "", err
	}
	v := b.aliases.Get(key)
	if v == nil {
		if !b.upgraded && b.aliasPages.hides(key, store.MaxSession+sumSize) {
			return "", damagedAlias{&store.CorruptError{Alias: alias, Reason: errHidden.Error()}}
		}
		return "", nil
	}
	s, err := decodeAlias(key, v)
	if err != nil {
		return "", damagedAlias{&store.CorruptError{Alias: alias, Reason: err.Error()}}
	}
	return string(s), nil
}

// soundAlias makes sure of the pages where an alias belongs, and of those beside them if merges is set.
func (b *batch) soundAlias(key []byte, merges bool) error {
	if b.upgraded {
		return nil // the bucket has no pages yet
	}
	if err := b.lookAtAliases(); err != nil {
		return err
	}
	return b.aliasPages.record(key, merges)
}

// lookAtAliases makes aliasPages, if it is not there.
func (b *batch) lookAtAliases() (err error) {
	if b.aliasPages == nil {
		if b.aliasPages, err = newSound(b.tx, b.aliases, bucketAliases); err != nil {
			return &faultError{cause: err}
		}
	}
	return nil
}

// decideAliases says what becomes of aliases with a change that is Applied. refused is why it is not after all.
func (b *batch) decideAliases(c *store.Change, p *plan) (refused, err error) {
	was := p.old.names()
	if len(was)+len(p.next.Aliases) == 0 {
		return nil, nil
	}
	// What is damaged is the session's own if its header, which is sound, says so, and nobody can have taken it.
	own := func(alias string) bool { return !p.old.expires.Past(b.wall) && slices.Contains(was, alias) }
	denied := c.JudgeAliases(func(alias string) (store.Header, bool) {
		if refused != nil || err != nil {
			return store.Header{}, false
		}
		session, e := b.holder(alias)
		if damaged := (damagedAlias{}); errors.As(e, &damaged) {
			if !own(alias) {
				refused = b.store.wrap(damaged.CorruptError)
			}
			e = nil
		}
		if e != nil {
			err = e
			return store.Header{}, false
		}
		if session != c.Session {
			p.takes = append(p.takes, alias)
		}
		if session == "" || session == c.Session {
			return store.Header{}, false
		}
		h, e := b.find(appendPrefix(nil, session))
		if isFault(e) {
			err = e
		} else if e != nil {
			refused = b.store.wrap(e)
		}
		_, alive := b.store.lease(h.incarnation, b.now)
		return h.fence(session), alive
	}, b.wall)
	switch {
	case err != nil:
		return nil, err
	case refused != nil:
		return refused, nil
	case denied != nil:
		return denied, nil
	}
	return nil, b.decideFreed(c.Session, was, p)
}

// decideFreed says which of the aliases that a session's header lists it gives up.
func (b *batch) decideFreed(session string, was []string, p *plan) error {
	for _, alias := range was {
		if slices.Contains(p.next.Aliases, alias) {
			continue
		}
		holder, err := b.holder(alias)
		if damaged := (damagedAlias{}); errors.As(err, &damaged) {
			if err = nil; !p.old.expires.Past(b.wall) {
				holder = session
			}
		}
		if err == nil && holder == session {
			p.frees = append(p.frees, alias)
			err = b.soundAlias([]byte(alias), true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rename writes what was decided about the aliases of a session.
func (b *batch) rename(session string, p *plan) error {
	if len(p.takes) > 0 && b.aliases == nil {
		var err error
		if b.aliases, err = b.tx.CreateBucket(bucketAliases); err != nil {
			return err
		}
		b.upgraded = true
		if err := b.tx.Bucket(bucketMeta).Put(keyFormat, formatValue(format)); err != nil {
			return err
		}
	}
	for _, a := range p.frees {
		if err := b.aliases.Delete([]byte(a)); err != nil {
			return err
		}
	}
	for _, a := range p.takes {
		key := []byte(a)
		if err := b.aliases.Put(key, appendAlias(b.store.arena.space(len(session)+sumSize), key, session)); err != nil {
			return err
		}
	}
	return nil
}

// Lookup implements [store.Directory].
func (s *Store) Lookup(ctx context.Context, alias string) (found store.Header, err error) {
	if err := s.enter(ctx); err != nil {
		return store.Header{}, err
	}
	defer s.leave()
	if alias == "" || len(alias) > store.MaxAlias {
		return store.Header{}, nil
	}
	err = s.view(func(tx *bbolt.Tx) error {
		b, err := s.newBatch(tx)
		if err != nil {
			return err
		}
		session, err := b.holder(alias)
		if err != nil || session == "" {
			return err
		}
		h, err := b.find(appendPrefix(nil, session))
		if err != nil {
			return err
		}
		if !slices.Contains(h.names(), alias) {
			return damagedAlias{&store.CorruptError{Alias: alias, Reason: fmt.Sprintf("session %q does not list it", session)}}
		}
		_, alive := s.lease(h.incarnation, b.now)
		found = store.JudgeLookup(h.head(session), alive, b.wall)
		return nil
	})
	if damaged := (damagedAlias{}); errors.As(err, &damaged) {
		err = damaged.CorruptError
	}
	return found, s.wrap(err)
}

// findPage is how many records of aliases one read transaction of a Find looks at.
const findPage = 256

// Find implements [store.Finder]. One call is one transaction, and reads 256 aliases at most. A damaged page ends it: what is found before that is
// returned, and the error is no [*store.CorruptError], as nobody can tell what the page had.
func (s *Store) Find(ctx context.Context, r store.AliasRange) (found store.Found, err error) {
	if err := s.enter(ctx); err != nil {
		return found, err
	}
	defer s.leave()
	var bad []error // what is damaged; not the transaction's
	err = s.view(func(tx *bbolt.Tx) error {
		b, err := s.newBatch(tx)
		if err != nil || b.aliases == nil {
			return err
		}
		bad, err = b.findAliases(r, &found)
		return err
	})
	return found, errors.Join(append(bad, err)...)
}

// findAliases reads the first page of a range. bad is what of it is damaged.
func (b *batch) findAliases(r store.AliasRange, found *store.Found) (bad []error, err error) {
	if r.To != "" && r.To <= r.From {
		return nil, nil
	}
	if err := b.lookAtAliases(); err != nil {
		return nil, err
	}
	limit := findPage
	if r.Limit > 0 {
		limit = min(limit, r.Limit)
	}
	var end []byte // of the range; nil: none
	if r.To != "" {
		end = []byte(r.To)
	}
	from := []byte(r.From) // where the next record was looked for
	c := b.aliases.Cursor()
	if err := b.aliasPages.through(from, from); err != nil { // before bbolt looks there
		return nil, &faultError{cause: err}
	}
	k, v := c.Seek(from)
	for n := 0; k != nil && (end == nil || bytes.Compare(k, end) < 0); n++ {
		if err := b.aliasPages.through(from, k); err != nil { // or some are passed by
			return bad, &faultError{cause: err}
		}
		if n == findPage || len(found.Aliases) == limit {
			found.Next = string(k)
			return bad, nil
		}
		switch h, err := b.named(k, v); {
		case err != nil:
			bad = append(bad, b.store.wrap(err))
		case h.Epoch > 0:
			found.Aliases = append(found.Aliases, store.Named{Alias: string(k), Header: h})
		}
		from = k
		k, v = c.Next()
	}
	if err := b.aliasPages.through(from, end); err != nil { // or more of them are hidden
		return bad, &faultError{cause: err}
	}
	return bad, nil
}

// named returns what a Lookup finds by a record of the bucket, whose page is sound. The error is a *store.CorruptError: of the alias, or of the session's
// header, be it that its page is damaged.
func (b *batch) named(key, record []byte) (h store.Header, err error) {
	damaged := func(reason string) (store.Header, error) {
		return store.Header{}, &store.CorruptError{Alias: string(key), Reason: reason}
	}
	if record == nil {
		return damaged("it has become a bucket")
	}
	id, err := decodeAlias(key, record)
	if err != nil {
		return damaged(err.Error())
	}
	session, prefix := string(id), appendPrefix(nil, string(id))
	err = safely(func() error {
		on, err := b.find(prefix)
		if err == nil {
			h = on.head(session)
		}
		return err
	})
	switch {
	case isFault(err):
		return store.Header{}, corruptHeader(prefix, err)
	case err != nil:
		return store.Header{}, err
	case !slices.Contains(h.Aliases, string(key)):
		return damaged(fmt.Sprintf("session %q does not list it", session))
	}
	_, alive := b.store.lease(h.Owner.Incarnation, b.now)
	return store.JudgeLookup(h, alive, b.wall), nil
}

// names returns the aliases that the header lists.
func (h *header) names() (aliases []string) {
	if h.flags&flagExtras != 0 {
		aliases, _, _ = decodeAliases(h.aliases)
	}
	return aliases
}
