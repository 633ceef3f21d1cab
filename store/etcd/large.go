package etcd

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

// A change that is too large for a request is written in steps, of which one decides:
//
//  1. its puts and deletes are stored as parts, which mean nothing yet, and go by themselves if nothing comes of them;
//  2. a transaction under the fence writes the head, in mode pending, which names them: now the change is applied;
//  3. one part after the other is carried out and removed, in a transaction each, and then the mode is many again.
//
// Between 2 and 3 readers take the parts for newer than the entries, and whoever is to write next does 3 first. So it does not matter who
// comes how far: all that is done in 3 is done while the head is as it was seen, and each part once.

// partBytes is about what a part takes of a request when it is carried out.
const partBytes = 1 << 20

// stagedFor is how long parts are kept that nobody decides about, in seconds.
const stagedFor = 300

// size is what the entries of a change take of a request.
func (s *Store) size(c *store.Change) (n int) {
	each := len(s.keys.entries(c.Session)) + opBytes
	for i := range c.Puts {
		n += each + len(c.Puts[i].Key) + len(c.Puts[i].Value)
	}
	for _, key := range c.Deletes {
		n += each + len(key)
	}
	return n
}

// stage is what was stored of a change in advance.
type stage struct {
	id    string
	lease clientv3.LeaseID
	parts []string // their keys
}

// stage stores a change's parts.
func (s *Store) stage(ctx context.Context, c *store.Change) (*stage, error) {
	g, err := s.client.Grant(ctx, stagedFor)
	if err != nil {
		return nil, called(ctx, err)
	}
	st := &stage{id: store.NewIncarnation().String(), lease: g.ID}
	prefix := s.keys.parts(c.Session, st.id)
	var part []byte
	size := 0
	put := func() error {
		key := prefix + figures(uint64(len(st.parts)))
		_, err := s.client.Put(ctx, key, string(part), clientv3.WithLease(st.lease))
		st.parts, part, size = append(st.parts, key), part[:0], 0
		return called(ctx, err)
	}
	each := len(s.keys.entries(c.Session)) + opBytes
	add := func(n int) error {
		n += each
		if size > 0 && size+n > s.partBytes {
			if err := put(); err != nil {
				return err
			}
		}
		size += n
		return nil
	}
	for i := range c.Puts {
		p := &c.Puts[i]
		if err := add(len(p.Key) + len(p.Value)); err != nil {
			return st, err
		}
		part = appendPut(part, p)
	}
	for _, key := range c.Deletes {
		if err := add(len(key)); err != nil {
			return st, err
		}
		part = appendDelete(part, key)
	}
	return st, put()
}

// drop lets go what was staged. Parts that a head names are not affected, and a transaction that would name others is refused.
func (s *Store) drop(ctx context.Context, st *stage) {
	if st != nil {
		s.client.Revoke(ctx, st.lease) // else they go later
	}
}

// large writes a change that is too large for one request.
func (s *Store) large(ctx context.Context, c *store.Change) (store.Result, error) {
	var st *stage
	defer func() { s.drop(ctx, st) }()
	g, err := s.look(ctx, c.Session)
	for err == nil {
		if err = s.settle(ctx, c.Session, &g); err != nil {
			break
		}
		now := time.Now()
		outcome, next, wipe := c.Judge(g.Header, g.alive(), now)
		if outcome == store.Fenced {
			return store.Result{Outcome: outcome, Header: g.Header}, nil
		}
		if outcome != store.Applied {
			return store.Result{Outcome: outcome}, nil
		}
		var n naming
		if len(g.Aliases)+len(next.Aliases) > 0 {
			if n, err = s.naming(ctx, c, &g, &next); err != nil {
				break
			}
			if n.denied != nil {
				return store.Result{Outcome: store.Rejected, Err: n.denied}, nil
			}
			if n.some { // they are taken first
				_, err = s.commitAll(ctx, append(s.unchanged(&g, c.Session, matters(c, &g.head, outcome, now)), n.ifs...), n.ops, nil)
			}
			if err == nil && (n.moved || n.some) {
				g, err = s.lookAgain(ctx, c.Session, &g)
				continue
			}
			if err != nil {
				break
			}
		}
		if st == nil {
			if st, err = s.stage(ctx, c); err != nil {
				break
			}
		}
		w := write{next: head{Header: next, mode: pending, pending: st.id}}
		s.head(&w, &g.head, now)
		switch {
		case wipe && g.mode == many:
			w.delete(s.keys.entries(c.Session), within(s.keys.entries(c.Session)))
		case !wipe && g.mode == single && g.main != nil:
			w.put(s.keys.entries(c.Session), encodeEntry(*g.main))
		}
		ifs := s.unchanged(&g, c.Session, matters(c, &g.head, outcome, now))
		for _, key := range st.parts {
			ifs = append(ifs, clientv3.Compare(clientv3.CreateRevision(key), ">", 0))
			w.put(key, "", clientv3.WithIgnoreValue()) // takes it off its lease
		}
		var r *clientv3.TxnResponse
		r, err = s.commitAll(ctx, append(ifs, n.ifs...), append(w.ops, n.ops...), append(s.looks(&g, c.Session), clientv3.OpGet(s.keys.parts(c.Session, st.id), within(s.keys.parts(c.Session, st.id)), clientv3.WithCountOnly())))
		if err != nil {
			break
		}
		if r.Succeeded {
			done := sight{head: w.next, known: true, rev: r.Header.Revision}
			if err := s.settle(ctx, c.Session, &done); err != nil {
				s.opt.Logger.Debug("store/etcd: a large change is applied, and its parts are still to be carried out", "session", c.Session, "error", err)
			}
			return store.Result{Outcome: store.Applied}, nil
		}
		was := g
		var rest []*pb.ResponseOp
		if g, rest, err = s.see(c.Session, &was, r.Responses); err == nil && rest[0].GetResponseRange().Count < int64(len(st.parts)) {
			s.drop(ctx, st) // it took too long, and its parts are gone
			st = nil
		}
	}
	return store.Result{}, err
}

// settle carries out what is pending in a session. g is what was seen of it, and then is what it is now.
func (s *Store) settle(ctx context.Context, session string, g *sight) error {
	for g.mode == pending {
		if err := s.carryOut(ctx, session, g); err != nil {
			return err
		}
	}
	return nil
}

// carryOut carries out one part of what is pending after the other, and then ends that; or it finds that the head is another by now.
func (s *Store) carryOut(ctx context.Context, session string, g *sight) error {
	parts, entries := s.keys.parts(session, g.pending), s.keys.entries(session)
	list, err := s.client.Get(ctx, parts, within(parts), clientv3.WithKeysOnly())
	if err != nil {
		return called(ctx, err)
	}
	for _, kv := range list.Kvs {
		key := string(kv.Key)
		part, err := s.client.Get(ctx, key)
		if err != nil {
			return called(ctx, err)
		}
		if len(part.Kvs) == 0 {
			continue // somebody else was here
		}
		puts, deletes, err := decodePart(session, part.Kvs[0].Value)
		if err != nil {
			return err
		}
		var w write
		for i := range puts {
			w.put(entries+puts[i].Key, encodeEntry(value{puts[i].Expires, puts[i].Value}))
		}
		for _, k := range deletes {
			w.delete(entries + k)
		}
		w.delete(key)
		then, _ := fold(w.ops, maxOps)
		ifs := []clientv3.Cmp{
			s.same(g, session),
			clientv3.Compare(clientv3.CreateRevision(key), ">", 0),
		}
		r, err := s.commit(ctx, ifs, then, []clientv3.Op{s.lookHead(session)})
		if err != nil {
			return err
		}
		if !r.Succeeded {
			now, err := s.seen(session, r.Responses[0].GetResponseRange().Kvs)
			if err != nil || now.rev != g.rev {
				*g = now
				return err
			}
		}
	}
	w := write{next: g.head}
	w.next.mode, w.next.pending = many, ""
	s.putHead(&w, &g.head)
	r, err := s.commit(ctx, []clientv3.Cmp{s.same(g, session)}, w.ops, []clientv3.Op{s.lookHead(session)})
	if err != nil {
		return err
	}
	if r.Succeeded {
		g.head, g.rev = w.next, r.Header.Revision
		s.modes.set(session, many)
		return nil
	}
	*g, err = s.seen(session, r.Responses[0].GetResponseRange().Kvs)
	return err
}
