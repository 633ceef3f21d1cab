package etcd

import (
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

// write is what a transaction does to one session, when its conditions hold.
type write struct {
	next  head
	ops   []clientv3.Op
	bytes int // about what it takes of a request
}

const opBytes = 32 // what an operation takes of a request beside its key and value, or somewhat more

func (w *write) put(key, value string, opts ...clientv3.OpOption) {
	w.ops = append(w.ops, clientv3.OpPut(key, value, opts...))
	w.bytes += len(key) + len(value) + opBytes
}

func (w *write) delete(key string, opts ...clientv3.OpOption) {
	w.ops = append(w.ops, clientv3.OpDelete(key, opts...))
	w.bytes += 2*len(key) + opBytes
}

// head puts the head and what goes with it, for a session whose head was prev.
func (s *Store) head(w *write, prev *head, now time.Time) {
	next := &w.next
	id := next.Session
	s.putHead(w, prev)
	from, to := prev.Owner.Incarnation, next.Owner.Incarnation
	if prev.Exists() && (!next.Exists() || from != to) {
		w.delete(s.keys.index(from, id))
	}
	if next.Exists() && (!prev.Exists() || from != to) {
		w.put(s.keys.index(to, id), "")
	}
	if next.Deleted {
		w.put(s.keys.grave(now.UnixMilli(), id), next.tenure())
	}
}

// putHead puts the head alone, and takes prev away if that has another key.
func (s *Store) putHead(w *write, prev *head) {
	id := w.next.Session
	to := s.keys.head(id, w.next.tenure())
	w.put(to, w.next.encode())
	if prev.Epoch == 0 {
		return
	}
	if from := s.keys.head(id, prev.tenure()); from != to {
		w.delete(from)
	}
}

// change returns what a change does that was judged to be applied to prev, which is not pending: next is its new header, and
// if wipe is set all that was there goes. In mode single prev.main is what it was, unless the change says what it is.
func (s *Store) change(c *store.Change, prev *head, next store.Header, wipe bool, now time.Time) write {
	w := write{next: head{Header: next}}
	puts, deletes := c.Puts, c.Deletes
	empty := wipe || !prev.Exists()
	switch {
	case next.Deleted:
		w.next.mode = dead
	case empty && fitsHead(c), !empty && prev.mode == single && fitsHead(c):
		w.next.mode = single
		if !empty {
			w.next.main = prev.main
		}
		if len(deletes) > 0 {
			w.next.main = nil
		}
		for i := range puts {
			w.next.main = &value{puts[i].Expires, puts[i].Value}
		}
		puts, deletes = nil, nil
	default:
		w.next.mode = many
		if prev.mode == single && !empty && prev.main != nil && !touchesMain(c) {
			w.put(s.keys.entries(c.Session), encodeEntry(*prev.main))
		}
	}
	s.head(&w, prev, now)
	entries := s.keys.entries(c.Session)
	if wipe && prev.mode == many {
		w.clear(entries, puts)
	}
	for i := range puts {
		w.put(entries+puts[i].Key, encodeEntry(value{puts[i].Expires, puts[i].Value}))
	}
	if !empty && prev.mode == many {
		for _, key := range deletes {
			w.delete(entries + key)
		}
	}
	return w
}

// clear deletes all that begins with prefix but what is put: the server takes no transaction in which a range that is deleted has a key that is put.
func (w *write) clear(prefix string, puts []store.Entry) {
	keys := make([]string, len(puts))
	for i := range puts {
		keys[i] = puts[i].Key
	}
	slices.Sort(keys)
	from := prefix
	for _, key := range keys {
		if to := prefix + key; from < to {
			w.delete(from, clientv3.WithRange(to))
		}
		from = next(prefix + key)
	}
	w.delete(from, clientv3.WithRange(end(prefix)))
}

// fitsHead reports whether a change touches no other entry than the main one, and that fits into a head.
func fitsHead(c *store.Change) bool {
	for i := range c.Puts {
		if c.Puts[i].Key != "" || len(c.Puts[i].Value) > mainInHead {
			return false
		}
	}
	if c.Wipe {
		return true // what it deletes goes anyway
	}
	for _, key := range c.Deletes {
		if key != "" {
			return false
		}
	}
	return true
}

func touchesMain(c *store.Change) bool {
	return slices.ContainsFunc(c.Puts, func(e store.Entry) bool { return e.Key == "" }) || slices.Contains(c.Deletes, "")
}

// guess returns the head that a change is likely to find, if all is well, and the conditions under which it does as well as if it had.
func (s *Store) guess(c *store.Change) (prev head, ifs []clientv3.Cmp) {
	if c.Create {
		return head{Header: store.Header{Session: c.Session}}, []clientv3.Cmp{s.absent(c.Session)}
	}
	m := many
	switch was := s.modes.of(c.Session); {
	case c.Delete || c.Wipe:
		if was == single {
			m = single
		}
	case was != many && touchesMain(c) && fitsHead(c):
		m = single
	}
	prev = head{Header: store.Header{Session: c.Session, Owner: c.Owner, Epoch: c.Epoch, Seq: c.Seq - 1}, mode: m}
	if !c.Delete {
		prev.Aliases = c.Aliases
	}
	ifs = append(ifs, below(s.keys.head(c.Session, prev.tenure()), figures(c.Seq)))
	for _, a := range prev.Aliases {
		ifs = append(ifs, clientv3.Compare(clientv3.Value(s.keys.alias(a)), "=", c.Session))
	}
	return prev, ifs
}

// below is clientv3.Compare for the value of a key that is below another, without three copies of it: a flush has one for each session.
func below(key, value string) (c clientv3.Cmp) {
	c.WithKeyBytes([]byte(key))
	p := c.GetCompare()
	p.Target, p.Result, p.TargetUnion = pb.Compare_VALUE, pb.Compare_LESS, &pb.Compare_Value{Value: []byte(value)}
	return c
}
