package etcd

import (
	"context"
	"errors"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

// rangePage is how many entries a page has at most: each has a value of up to MaxValue, and all are in one message.
const rangePage = 256

// LoadRange implements [store.Ranger]. It is one transaction, hence one view, which reads at most 256 entries; for a session whose last change was a large one
// that is not carried out yet it is two, and reads all that is in the range. KeysOnly saves the caller nothing but memory: an entry's expiry is beside its
// value, and the server reads both or neither.
func (s *Store) LoadRange(ctx context.Context, session string, r store.Range) (store.Page, error) {
	if err := s.enter(ctx); err != nil {
		return store.Page{}, err
	}
	defer s.leave()
	if r.Limit <= 0 || r.Limit > rangePage {
		r.Limit = rangePage
	}
	last := head{Header: store.Header{Session: session}} // as it was seen
	for {
		ops := append([]clientv3.Op{s.lookHead(session)}, s.readsRange(&last, r)...)
		t, err := s.commit(ctx, nil, ops, nil)
		if err != nil {
			return store.Page{Snapshot: store.Snapshot{Header: store.Header{Session: session}}}, err
		}
		g, err := s.seen(session, t.Responses[0].GetResponseRange().Kvs)
		page := store.Page{Snapshot: store.Snapshot{Header: g.Header}}
		if err != nil || len(ops) == 1 {
			return page, err
		}
		if g.pending != last.pending {
			last = g.head // there are parts, or others: they have to be read with it
			continue
		}
		es, damaged, err := s.read(&g.head, wanted{all: true}, t.Responses[1:], time.Now())
		if err != nil {
			return page, err
		}
		es = slices.DeleteFunc(es, func(e store.Entry) bool { return !r.Has(e.Key) }) // parts, and the main entry of a head, are read whatever is wanted
		if some := t.Responses[1].GetResponseRange(); some.More {
			page.Next = next(after(s.keys.entries(session), some.Kvs[len(some.Kvs)-1].Key))
		} else if len(es) > r.Limit {
			page.Next, es = es[r.Limit].Key, es[:r.Limit]
		}
		if r.KeysOnly {
			for i := range es {
				es[i].Value = nil
			}
		}
		page.Entries = es
		errs := make([]error, len(damaged))
		for i := range damaged {
			errs[i] = damaged[i].err
		}
		return page, errors.Join(errs...)
	}
}

// readsRange is reads for a range. With parts over them it is not known which entries are the first, so all are read.
func (s *Store) readsRange(h *head, r store.Range) (ops []clientv3.Op) {
	if r.To != "" && r.From >= r.To {
		return nil
	}
	prefix := s.keys.entries(h.Session)
	from, to := prefix+r.From, end(prefix)
	if r.To != "" {
		to = prefix + r.To
	}
	if h.pending == "" {
		return []clientv3.Op{clientv3.OpGet(from, clientv3.WithRange(to), clientv3.WithLimit(int64(r.Limit)))}
	}
	parts := s.keys.parts(h.Session, h.pending)
	return []clientv3.Op{clientv3.OpGet(from, clientv3.WithRange(to)), clientv3.OpGet(parts, within(parts))}
}

var _ store.Ranger = (*Store)(nil)
