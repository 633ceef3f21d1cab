package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

// Load implements [store.Store]. It is one transaction, hence one view; for a session whose last change was a large one that is not carried
// out yet, two.
func (s *Store) Load(ctx context.Context, session string, keys ...string) (store.Snapshot, error) {
	if err := s.enter(ctx); err != nil {
		return store.Snapshot{}, err
	}
	defer s.leave()
	want := wanted{all: len(keys) == 0, keys: keys}
	last := head{Header: store.Header{Session: session}} // as it was seen
	for {
		ops := append([]clientv3.Op{s.lookHead(session)}, s.reads(&last, want)...)
		r, err := s.commit(ctx, nil, ops, nil)
		if err != nil {
			return store.Snapshot{Header: store.Header{Session: session}}, err
		}
		g, err := s.seen(session, r.Responses[0].GetResponseRange().Kvs)
		snap := store.Snapshot{Header: g.Header}
		if err != nil {
			return snap, err
		}
		if g.pending != last.pending {
			last = g.head // there are parts, or others: they have to be read with it
			continue
		}
		var damaged []damage
		if snap.Entries, damaged, err = s.read(&g.head, want, r.Responses[1:], time.Now()); err != nil {
			return snap, err
		}
		errs := make([]error, len(damaged))
		for i := range damaged {
			errs[i] = damaged[i].err
		}
		return snap, errors.Join(errs...)
	}
}

// wanted is what is to be read of a session's entries.
type wanted struct {
	all  bool
	keys []string
}

// one reports whether the keys are read one by one.
func (w *wanted) one() bool { return !w.all && len(w.keys) <= maxOps/2 }

func (w *wanted) none() bool { return !w.all && len(w.keys) == 0 }

// reads are the operations that read what is wanted, given a head that says where it is.
func (s *Store) reads(h *head, w wanted) (ops []clientv3.Op) {
	if w.none() {
		return nil
	}
	prefix := s.keys.entries(h.Session)
	if w.one() {
		for _, key := range w.keys {
			ops = append(ops, clientv3.OpGet(prefix+key))
		}
	} else {
		ops = append(ops, clientv3.OpGet(prefix, within(prefix)))
	}
	if h.pending != "" {
		parts := s.keys.parts(h.Session, h.pending)
		ops = append(ops, clientv3.OpGet(parts, within(parts)))
	}
	return ops
}

// damage is an entry that cannot be read.
type damage struct {
	key string
	err error
}

// read makes entries of the answers to reads, in the order of their keys.
// If a part of a large change is damaged, nobody can tell what is in it: that is err.
func (s *Store) read(h *head, w wanted, rs []*pb.ResponseOp, now time.Time) (es []store.Entry, damaged []damage, err error) {
	if w.none() {
		return nil, nil, nil
	}
	found := map[string]store.Entry{}
	prefix := s.keys.entries(h.Session)
	var bad map[string]error
	spoil := func(key string, err error) {
		if bad == nil {
			bad = map[string]error{}
		}
		bad[key] = err
	}
	for _, r := range rs {
		for _, kv := range r.GetResponseRange().Kvs {
			if h.pending != "" && r == rs[len(rs)-1] {
				puts, deletes, err := decodePart(h.Session, kv.Value)
				if err != nil {
					return nil, nil, err
				}
				for _, e := range puts {
					e.Value = append([]byte{}, e.Value...)
					found[e.Key] = e
					delete(bad, e.Key)
				}
				for _, key := range deletes {
					delete(found, key)
					delete(bad, key)
				}
				continue
			}
			key := after(prefix, kv.Key)
			e, err := decodeEntry(h.Session, key, kv.Value)
			if err != nil {
				spoil(key, err)
				continue
			}
			found[key] = e
		}
	}
	if h.main != nil {
		found[""] = store.Entry{Value: append([]byte{}, h.main.bytes...), Expires: h.main.expires}
	}
	keys := w.keys
	if w.all {
		keys = slices.Collect(maps.Keys(found))
		for key := range bad {
			keys = append(keys, key)
		}
	}
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	for _, key := range keys {
		if err := bad[key]; err != nil {
			damaged = append(damaged, damage{key, err})
			continue
		}
		if e, ok := found[key]; ok && !e.Expires.Past(now) {
			es = append(es, e)
		}
	}
	return es, damaged, nil
}

// How many heads one transaction of a walk reads.
const (
	walkPage  = 500
	ownedPage = 2000
)

// Sessions implements [store.Store]. It reads pages of 500 heads in the order of their IDs, or 2000 of one owner, each in a transaction of
// its own.
func (s *Store) Sessions(ctx context.Context, q store.Query) iter.Seq2[store.Header, error] {
	return func(yield func(store.Header, error) bool) {
		page := s.walkPage
		if q.Owner != (store.Incarnation{}) {
			page = s.ownedPage
		}
		for from, more := "", true; more; {
			var fs []found
			var err error
			if fs, from, more, err = page(ctx, q, from); err != nil {
				yield(store.Header{}, fmt.Errorf("store/etcd: walk not complete: %w", err))
				return
			}
			for _, f := range fs {
				if !yield(f.header, f.err) {
					return
				}
			}
		}
	}
}

type found struct {
	header store.Header
	err    error // it is damaged
}

// walkPage reads heads from a key on, and returns where the next page begins.
func (s *Store) walkPage(ctx context.Context, _ store.Query, from string) (page []found, to string, more bool, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, "", false, err
	}
	defer s.leave()
	prefix := s.keys.heads()
	r, err := s.client.Get(ctx, max(from, prefix), within(prefix), clientv3.WithLimit(walkPage))
	if err != nil {
		return nil, "", false, called(ctx, err)
	}
	for _, kv := range r.Kvs {
		// A claim moves the head: the next page begins after all keys that it could have.
		session, tenure, ok := s.keys.parseHead(kv.Key)
		if !ok {
			to = next(string(kv.Key))
			page = append(page, found{err: badHead(session, "its key is none of ours")})
			continue
		}
		to = end(s.keys.headsOf(session))
		h, err := decodeHead(session, tenure, kv.Value)
		switch {
		case err != nil:
			page = append(page, found{err: err})
		case !h.Deleted:
			page = append(page, found{header: h.Header})
		}
	}
	return page, to, r.More, nil
}

// ownedPage is walkPage for the sessions of one owner. Of the index and the heads, which it reads one after the other, the heads are right.
func (s *Store) ownedPage(ctx context.Context, q store.Query, from string) (page []found, to string, more bool, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, "", false, err
	}
	defer s.leave()
	prefix := s.keys.owned(q.Owner)
	index, err := s.client.Get(ctx, max(from, prefix), within(prefix), clientv3.WithLimit(ownedPage), clientv3.WithKeysOnly())
	if err != nil {
		return nil, "", false, called(ctx, err)
	}
	if len(index.Kvs) == 0 {
		return nil, "", false, nil
	}
	ops := make([]clientv3.Op, len(index.Kvs))
	for i, kv := range index.Kvs {
		to = next(string(kv.Key))
		ops[i] = s.lookHead(after(prefix, kv.Key))
	}
	folded, levels := fold(ops, maxOps)
	r, err := s.commit(ctx, nil, folded, nil)
	if err != nil {
		return nil, "", false, err
	}
	met := map[string]sight{}
	unfold(r.Responses, levels, func(o *pb.ResponseOp) {
		for _, kv := range o.GetResponseRange().Kvs {
			session, tenure, _ := s.keys.parseHead(kv.Key)
			h, err := decodeHead(session, tenure, kv.Value)
			switch {
			case err != nil:
				page = append(page, found{err: err})
			case !h.Deleted && h.Owner.Incarnation == q.Owner:
				page = append(page, found{header: h.Header})
				h.Aliases = slices.Clone(h.Aliases) // the caller gets the others
				met[h.Session] = sight{known: true, old: true, head: h, rev: kv.ModRevision}
			}
		}
	})
	s.walked.set(met)
	return page, to, index.More, nil
}
