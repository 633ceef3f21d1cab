package bolt

import (
	"bytes"
	"errors"
	"fmt"
)

// tree walks one tree of pages in the order of its keys. Leaves are read only if f is not nil, which then
// gets each element. Only a stop is returned; damage is reported, and the walk goes on beside it.
func (p *pager) tree(root uint64, f func(element)) error {
	depth, err := p.depth(root, maxDepth)
	if err == nil {
		err = p.subtree(root, 0, depth, nil, nil, f)
	}
	return p.settle(err)
}

// settle reports an error unless it is a stop, which it returns.
func (p *pager) settle(err error) error {
	var s *stopped
	if errors.As(err, &s) {
		return err
	}
	if err != nil {
		p.report(err)
	}
	return nil
}

// depth returns how many levels of branches lie above the leaves. A damaged page is passed
// by: its neighbours know as well.
func (p *pager) depth(id uint64, most int) (int, error) {
	b, err := p.read(maxDepth+1, id, pageBranch|pageLeaf)
	if err != nil || native.Uint16(b[8:]) == pageLeaf {
		return 0, err
	}
	if most == 0 {
		return 0, fmt.Errorf("page %d: branches without end", id)
	}
	var children []uint64
	err = elements(b, func(e element) error {
		if len(children) < 8 {
			children = append(children, e.child)
		}
		return nil
	})
	if err == nil {
		err = errors.New("damaged: no elements")
	}
	err = fmt.Errorf("page %d: %w", id, err)
	for _, child := range children {
		var d int
		if d, err = p.depth(child, most-1); err == nil {
			return d + 1, nil
		}
	}
	return 0, err
}

// errLed: bbolt finds the place of a page in the one above by the page's first key. If that stands there
// otherwise, it makes a second place for the page when it writes it, and leaves the first one as it is.
var errLed = errors.New("damaged: it does not begin with the key that leads to it")

// subtree walks the pages below id, which is on the given level; the leaves are on level depth. Keys must
// lie in [lo, hi), nil being no bound.
func (p *pager) subtree(id uint64, level, depth int, lo, hi []byte, f func(element)) error {
	if level == depth && f == nil {
		p.refer(id, p.pageSize)
		return nil
	}
	kind := uint16(pageBranch)
	if level == depth {
		kind = pageLeaf
	}
	b, err := p.read(level, id, kind)
	if err != nil {
		return err
	}
	if !p.refer(id, len(b)) {
		return nil // already walked, or not to be trusted
	}
	var es []element
	first := level > 0
	err = elements(b, func(e element) error {
		if first && !bytes.Equal(e.key, lo) {
			return errLed
		}
		first = false
		if lo != nil && bytes.Compare(e.key, lo) < 0 || hi != nil && bytes.Compare(e.key, hi) >= 0 {
			return errors.New("damaged: a key does not belong here")
		}
		if level == depth {
			f(e)
		} else {
			es = append(es, e)
		}
		return nil
	})
	if err == nil && level > 0 && native.Uint16(b[10:]) == 0 {
		err = errors.New("damaged: no elements")
	}
	if err != nil {
		// What else the page leads to is lost to us; the pages below will show as unreachable.
		p.report(fmt.Errorf("page %d: %w", id, err))
	}
	for i, e := range es {
		next := hi
		if i+1 < len(es) {
			next = es[i+1].key
		}
		if err := p.settle(p.subtree(e.child, level+1, depth, e.key, next, f)); err != nil {
			return err
		}
	}
	return nil
}

// bucket walks the tree of a bucket, whose element in the root tree is e. An inline one is always read.
func (p *pager) bucket(e element, f func(element)) error {
	if len(e.value) < 16 {
		p.report(fmt.Errorf("bucket %q: damaged: it has %d bytes", e.key, len(e.value)))
		return nil
	}
	root := native.Uint64(e.value)
	if root != 0 {
		return p.tree(root, f)
	}
	page := e.value[16:]
	if len(page) < pageHeader || native.Uint16(page[8:]) != pageLeaf {
		p.report(fmt.Errorf("bucket %q: damaged: not a page", e.key))
		return nil
	}
	err := elements(page, func(e element) error {
		if f != nil {
			f(e)
		}
		return nil
	})
	if err != nil {
		p.report(fmt.Errorf("bucket %q: %w", e.key, err))
	}
	return nil
}

// buckets returns the elements of the root tree; they belong to the caller.
func (p *pager) buckets() (es []element, err error) {
	err = p.tree(p.root, func(e element) {
		e.key, e.value = bytes.Clone(e.key), bytes.Clone(e.value)
		es = append(es, e)
	})
	return es, err
}

// unreachable reports pages that nothing refers to and that are not free.
func (p *pager) unreachable() {
	for id := uint64(2); id < p.end; id++ {
		if !p.used.has(id) && !p.free.has(id) {
			p.report(fmt.Errorf("page %d: neither in use nor free", id))
		}
	}
}
