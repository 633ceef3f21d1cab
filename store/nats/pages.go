package nats

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/seed-6f1f505d/kvstore/store"
)

// This file is about sessions that are too large for one message. Their entries are in pages, and the document has a table of
// them: a tree of two levels, which is copied on write. A change reads the pages that it concerns, stores what replaces them under subjects
// that no page ever had, waits until that is acknowledged, and then writes the document, if it is still the one that was read. So whoever has read a
// document finds its pages, until a later one has replaced it.

const (
	minPayload = 1 << 20                  // bytes of a message that each server must take
	maxMessage = minPayload - 1<<10       // bytes of a message that is made here, without the server's headers
	inlineMax  = 128 << 10                // bytes of entries up to which they are in the document
	pageBytes  = 64 << 10                 // bytes of entries for which a page is made; a larger entry has one of its own
	pageExtra  = store.MaxKey + 64        // bytes of a page beside its value
	MaxValue   = maxMessage - 2*pageExtra // bytes
)

// part is some of a session's entries: those of a page, or all that a document has.
type part struct {
	page
	slots  []slot
	loaded bool // slots is what it has
	is     bool // there is such a page, and it has these slots
}

// content is a session's entries, as a change leaves them.
type content []part

func (d *document) content() content {
	if len(d.pages) == 0 {
		return content{{slots: d.slots, loaded: true}}
	}
	c := make(content, len(d.pages))
	for i, p := range d.pages {
		c[i] = part{page: p, is: true}
	}
	return c
}

// at returns which part has the key, if any has.
func (c content) at(key string) int {
	i, found := slices.BinarySearchFunc(c, key, func(p part, key string) int { return strings.Compare(p.first, key) })
	if !found {
		i--
	}
	return max(i, 0)
}

// load gives parts that the ops concern their slots, from what was read, and returns which have to be read first.
func (c content) load(os []op, read map[uint64][]slot) (missing []page) {
	for _, o := range os {
		p := &c[c.at(o.key)]
		if p.loaded {
			continue
		}
		if p.slots, p.loaded = read[p.seq]; !p.loaded && (len(missing) == 0 || missing[len(missing)-1].seq != p.seq) {
			missing = append(missing, p.page)
		}
	}
	return missing
}

// change returns the content as the ops leave it. What they concern is loaded.
func (c content) change(os []op) content {
	if len(os) == 0 {
		return c
	}
	c = slices.Clone(c)
	for len(os) > 0 {
		i, n := c.at(os[0].key), 1
		for n < len(os) && c.at(os[n].key) == i {
			n++
		}
		c[i] = part{slots: merge(c[i].slots, os[:n]), loaded: true, page: page{first: c[i].first}}
		os = os[n:]
	}
	return c.arrange()
}

// arrange divides the entries into parts anew, where they are too many for one, or too few.
func (c content) arrange() content {
	all, loaded := 0, true
	for i := range c {
		loaded = loaded && c[i].loaded
		all += weigh(c[i].slots)
	}
	if loaded && all <= inlineMax {
		one := part{loaded: true}
		for i := range c {
			one.slots = append(one.slots, c[i].slots...)
		}
		return content{one}
	}
	var parts content
	for i := range c {
		if c[i].is {
			parts = append(parts, c[i])
			continue
		}
		for _, sl := range c[i].slots {
			if n := len(parts); n == 0 || parts[n-1].is || parts[n-1].size+sl.weight() > pageBytes {
				parts = append(parts, part{page: page{first: sl.key}, loaded: true})
			}
			p := &parts[len(parts)-1]
			p.slots = append(p.slots, sl)
			p.size += sl.weight()
		}
	}
	if len(parts) == 0 {
		return content{{loaded: true}}
	}
	return parts
}

// paged reports whether the content is in pages.
func (c content) paged() bool { return len(c) > 1 || c[0].is || weigh(c[0].slots) > inlineMax }

// headSize is about how many bytes a document needs beside inline entries.
func headSize(h *store.Header, c content) int {
	n := 128 + len(h.Owner.Node)
	for _, a := range h.Aliases {
		n += len(a) + 5
	}
	if c.paged() {
		for i := range c {
			n += len(c[i].first) + 40
		}
	}
	return n
}

// stage returns the messages of the pages that have none yet, for a document that replaces the one of the sequence base.
func (s *Store) stage(session string, base uint64, c content) (asks []*ask, parts []*part) {
	if !c.paged() {
		return nil, nil
	}
	for i := range c {
		p := &c[i]
		if p.is {
			continue
		}
		b := encodePage(p.slots)
		p.slots = anchor(p.slots, b)
		p.first, p.size, p.tag = p.slots[0].key, len(b), rand.Uint64()
		asks, parts = append(asks, put(s.pageSubject(session, base, p.tag), b)), append(parts, p)
	}
	return asks, parts
}

// badPages has why pages cannot be read.
type badPages struct {
	why  map[uint64]error
	gone bool // one is not there: the document may have been replaced meanwhile
}

// readPages reads pages of a session into read.
func (s *Store) readPages(ctx context.Context, d *document, pages []page, read map[uint64][]slot) (bad badPages, err error) {
	var asks []*ask
	var asked []page
	for _, p := range pages {
		if slots := s.cache.page(d.header.Session, p.seq); slots != nil {
			read[p.seq] = slots
		} else if _, ok := read[p.seq]; !ok {
			a := s.at(p.seq)
			a.expects = p.size
			asks, asked = append(asks, a), append(asked, p)
		}
	}
	if err := s.ask(ctx, asks...); err != nil {
		return bad, err
	}
	for i, a := range asks {
		p := asked[i]
		m, err := a.found()
		if err != nil {
			return bad, wrap(err)
		}
		session, _, tag, ok := s.parsePage(m.Subject)
		var slots []slot
		switch {
		case m.Seq == 0 || !ok || session != d.header.Session || tag != p.tag:
			err, bad.gone = errors.New("it is not there"), true
		default:
			slots, err = decodePage(m.Data)
		}
		if err != nil {
			if bad.why == nil {
				bad.why = map[uint64]error{}
			}
			bad.why[p.seq] = wrap(&store.CorruptError{Session: d.header.Session, Key: p.first, Reason: "the page that begins with it: " + err.Error()})
			continue
		}
		s.cache.learnPage(session, p.seq, slots)
		read[p.seq] = slots
	}
	return bad, nil
}

// reading is what was read of a session's entries.
type reading struct {
	entries []store.Entry
	unread  []string // keys of those that cannot be read
	why     error    // joined
	gone    bool     // a page is not there: the document may have been replaced meanwhile
	unknown bool     // a page is damaged, and so it is not known which entries cannot be read
}

func (r *reading) spoil(key string, why error) {
	r.unread, r.why = append(r.unread, key), errors.Join(r.why, why)
}

// entries returns the named entries of the document, or all, as far as they have not ended.
func (s *Store) entries(ctx context.Context, d *document, keys []string, all bool) (r reading, err error) {
	if !all && len(keys) == 0 {
		return r, nil
	}
	now, err := s.now(ctx)
	if err != nil {
		return r, err
	}
	c := d.content()
	read := map[uint64][]slot{}
	var bad badPages
	if len(d.pages) > 0 {
		need := d.pages
		if !all {
			need = nil
			for _, k := range keys {
				if p := c[c.at(k)].page; !slices.ContainsFunc(need, func(q page) bool { return q.seq == p.seq }) {
					need = append(need, p)
				}
			}
		}
		if bad, err = s.readPages(ctx, d, need, read); err != nil {
			return r, err
		}
		r.gone = bad.gone
		for i := range c {
			c[i].slots = read[c[i].seq]
		}
	}
	give := func(sl *slot) {
		if sl.expires.Past(now) {
			return
		}
		e, err := sl.entry(d.header.Session)
		if err != nil {
			r.spoil(sl.key, err)
			return
		}
		r.entries = append(r.entries, e)
	}
	if all {
		for i := range c {
			if err := bad.why[c[i].seq]; err != nil {
				r.spoil(c[i].first, err)
				r.unknown = true
			}
			for j := range c[i].slots {
				give(&c[i].slots[j])
			}
		}
		return r, nil
	}
	for _, k := range keys {
		p := &c[c.at(k)]
		if err := bad.why[p.seq]; err != nil {
			r.spoil(k, err)
			continue
		}
		if i, ok := slices.BinarySearchFunc(p.slots, k, func(sl slot, k string) int { return strings.Compare(sl.key, k) }); ok {
			give(&p.slots[i])
		}
	}
	return r, nil
}
