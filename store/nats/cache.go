package nats

import (
	"container/list"
	"sync"
	"time"
)

// cache keeps what was written or read last, for two purposes. A writer that knows the document need not read it: that it is the latest is
// proven by the server, which compares sequences. And a reader that is shown an older one than is known here has asked a server
// that was the leader once.
type cache struct {
	max int // bytes

	mu     sync.Mutex
	size   int
	items  map[cacheKey]*list.Element // of *item
	recent list.List                  // the latest first
}

type cacheKey struct {
	session string
	page    uint64 // its sequence; 0: the document
}

type item struct {
	key   cacheKey
	doc   *document
	slots []slot // of a page
	size  int
	stale bool      // there is a later one
	seen  time.Time // when it was the latest
	lower time.Time // when first an older one was read, and since then only such
}

func newCache(max int) *cache { return &cache{max: max, items: map[cacheKey]*list.Element{}} }

// document returns the session's document that is known, if none is known to be later.
func (c *cache) document(session string) *document {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.items[cacheKey{session: session}]; ok {
		if it := e.Value.(*item); !it.stale {
			c.recent.MoveToFront(e)
			return it.doc
		}
	}
	return nil
}

func (c *cache) page(session string, seq uint64) []slot {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.items[cacheKey{session, seq}]; ok {
		c.recent.MoveToFront(e)
		return e.Value.(*item).slots
	}
	return nil
}

// learn takes note of a document that was the latest a moment ago.
func (c *cache) learn(d *document) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := cacheKey{session: d.header.Session}
	if e, ok := c.items[key]; ok && e.Value.(*item).doc.seq > d.seq {
		return
	}
	if d.seq == 0 {
		c.remove(key)
		return
	}
	size := 256 + len(d.header.Session) + len(d.raw)
	for i := range d.pages {
		size += 64 + len(d.pages[i].first)
	}
	c.put(&item{key: key, doc: d, size: size, seen: time.Now()})
}

func (c *cache) learnPage(session string, seq uint64, slots []slot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(&item{key: cacheKey{session, seq}, slots: slots, size: 128 + len(session) + weigh(slots)})
}

func (c *cache) put(it *item) {
	c.remove(it.key)
	if it.size > c.max/4 {
		return
	}
	c.items[it.key] = c.recent.PushFront(it)
	for c.size += it.size; c.size > c.max; {
		c.remove(c.recent.Back().Value.(*item).key)
	}
}

func (c *cache) remove(key cacheKey) {
	if e, ok := c.items[key]; ok {
		c.size -= e.Value.(*item).size
		c.recent.Remove(e)
		delete(c.items, key)
	}
}

func (c *cache) dropPage(session string, seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(cacheKey{session, seq})
}

// outdated notes that there may be a later document than the one of that sequence.
func (c *cache) outdated(session string, seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.items[cacheKey{session: session}]; ok && e.Value.(*item).doc.seq <= seq {
		e.Value.(*item).stale = true
	}
}

// allOutdated notes that anything may have happened. With forget nothing that was known is held against what is read from now on: a server that
// stands alone may have lost it.
func (c *cache) allOutdated(forget bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if forget {
		clear(c.items)
		c.recent.Init()
		c.size = 0
		return
	}
	for _, e := range c.items {
		e.Value.(*item).stale = true
	}
}

// patience is how long an older document than is known is not believed. No server takes itself for the leader that long after the others
// have elected another one.
const patience = 30 * time.Second

// older reports whether a document that was read, absent being 0, is older than what is known, and so not to be believed. retention is that of
// tombstones: after it a document may be absent that was there.
func (c *cache) older(session string, seq uint64, retention time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := cacheKey{session: session}
	e, ok := c.items[key]
	if !ok {
		return false
	}
	it := e.Value.(*item)
	switch now := time.Now(); {
	case seq >= it.doc.seq:
		it.lower = time.Time{}
		return false
	case seq == 0 && (it.doc.header.Deleted || now.Sub(it.seen) >= retention):
	case it.lower.IsZero():
		it.lower = now
		return true
	case now.Sub(it.lower) < patience:
		return true
	}
	c.remove(key) // the server has lost it
	return false
}
