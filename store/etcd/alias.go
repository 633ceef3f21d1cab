package etcd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

// The index of aliases has a key for each, whose value is the ID of a session.
//
//	a session has an alias    ⇔    the index names the session, and its head lists the alias
//
// So who takes an alias of which the index names another session looks at that one's head, and takes it under the condition that neither has changed. And who
// leaves an alias out, or begins a new life of a session, removes the key in the same step, unless it names another by now.
//
// A flush does not read the head. That its guess is right about aliases, too, is in the condition that it has anyway: the key of a head ends with a digest of those
// that it lists. If it names some it has the further condition that the index names its session for each. That they are its own is then certain, even if the session
// had expired meanwhile, and nothing is to be done in the index.

// guessedAliases is how many aliases of a change are compared without a look.
const guessedAliases = 8

// aliasDigest is what the key of a head that lists aliases ends with; nothing if there are none.
func aliasDigest(aliases []string) string {
	if len(aliases) == 0 {
		return ""
	}
	var b []byte
	for _, a := range aliases {
		b = appendText(b, a)
	}
	sum := sha256.Sum256(b)
	return " " + hex.EncodeToString(sum[:16])
}

// free removes aliases from the index, as far as it names the session.
func (s *Store) free(session string, aliases []string) (ops []clientv3.Op) {
	for _, a := range aliases {
		key := s.keys.alias(a)
		ops = append(ops, clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Value(key), "=", session)}, []clientv3.Op{clientv3.OpDelete(key)}, nil))
	}
	return ops
}

// register is what was seen, at one moment, of aliases and of the sessions that the index names for them.
type register struct {
	names map[string]name   // by alias; those of which there is none are not there
	guard int64             // the revision of the session's guard; 0 if there is none
	heads map[string]*sight // by session; with the node of the owner, where that matters
	bad   []error           // heads, and nodes, that are damaged: their sessions seem to list nothing
}

type name struct {
	session string
	rev     int64
}

// has returns the session that has an alias, and whether its owner is alive.
func (r *register) has(alias string) (h store.Header, alive bool) {
	n, ok := r.names[alias]
	if !ok {
		return h, false
	}
	if g := r.heads[n.session]; slices.Contains(g.Aliases, alias) {
		return g.Header, g.alive()
	}
	return h, false
}

// listed reports whether a session's head lists one of the aliases that the index names it for.
func (r *register) listed(session string) bool {
	for a, n := range r.names {
		if n.session == session && slices.Contains(r.heads[session].Aliases, a) {
			return true
		}
	}
	return false
}

// register reads what there is of aliases, beside the head of a session, unless that is "".
func (s *Store) register(ctx context.Context, session string, aliases []string) (*register, error) {
	heads := map[string]*sight{}
	if session != "" {
		heads[session] = &sight{}
	}
	r, err := s.registerOf(ctx, session, aliases, heads)
	if err == nil && len(r.bad) > 0 {
		err = r.bad[0]
	}
	return r, err
}

// registerOf reads what there is of aliases, beside heads, of a session and of others. It takes as many reads as it needs to have all that it looks at in one of them.
func (s *Store) registerOf(ctx context.Context, session string, aliases []string, heads map[string]*sight) (*register, error) {
	for last := (&register{heads: heads}); ; {
		var ops []clientv3.Op
		for _, a := range aliases {
			ops = append(ops, clientv3.OpGet(s.keys.alias(a)))
		}
		ops = append(ops, clientv3.OpGet(s.keys.guard(session)))
		var ids []string
		for id, was := range last.heads {
			ids = append(ids, id)
			ops = append(ops, s.looks(was, id)...)
		}
		folded, levels := fold(ops, maxOps)
		t, err := s.commit(ctx, nil, folded, nil)
		if err != nil {
			return nil, err
		}
		var rs []*pb.ResponseOp
		unfold(t.Responses, levels, func(o *pb.ResponseOp) { rs = append(rs, o) })
		r := &register{names: map[string]name{}, heads: map[string]*sight{}}
		for i, a := range aliases {
			for _, kv := range rs[i].GetResponseRange().Kvs {
				r.names[a] = name{string(kv.Value), kv.ModRevision}
			}
		}
		for _, kv := range rs[len(aliases)].GetResponseRange().Kvs {
			r.guard = kv.ModRevision
		}
		rs = rs[len(aliases)+1:]
		for _, id := range ids {
			var g sight
			if g, rs, err = s.see(id, last.heads[id], rs); err != nil {
				r.bad = append(r.bad, err)
				g = sight{head: head{Header: store.Header{Session: id}}, known: true}
			}
			r.heads[id] = &g
		}
		if last = r; r.complete(session, aliases, time.Now()) {
			return r, nil
		}
	}
}

// complete reports whether all was seen that matters; else it has places for what is missing.
func (r *register) complete(session string, aliases []string, now time.Time) bool {
	is := true
	for _, a := range aliases {
		n, ok := r.names[a]
		if !ok || n.session == session {
			continue
		}
		g := r.heads[n.session]
		switch {
		case g == nil:
			r.heads[n.session], is = &sight{}, false
		case !g.looked && slices.Contains(g.Aliases, a) && g.Exists() && !g.Released && g.Expires.Past(now):
			is = false
		}
	}
	return is
}

// takenAtOnce is how many aliases one transaction takes: what it has conditions for, and operations, must not be more than 128 together.
const takenAtOnce = 20

// naming is what a change does to the index.
type naming struct {
	moved  bool  // the session is not as it was seen
	denied error // another session has an alias: an *store.AliasError
	some   bool  // there are more aliases to take than one transaction can: these are the first, and are to be taken before the change is written
	ifs    []clientv3.Cmp
	ops    []clientv3.Op
}

// naming finds out whether a change that is applied to g, after which the header is next, may have the aliases that it names. The session has those that
// the index names it for, as long as its guard is as it was: who takes one writes that, too.
func (s *Store) naming(ctx context.Context, c *store.Change, g *sight, next *store.Header) (n naming, err error) {
	if len(next.Aliases) > 0 {
		r, err := s.register(ctx, c.Session, next.Aliases)
		if err != nil {
			return n, err
		}
		if n.moved = r.heads[c.Session].rev != g.rev; n.moved {
			return n, nil
		}
		if n.denied = c.JudgeAliases(r.has, time.Now()); n.denied != nil {
			return n, nil
		}
		n.ifs = append(n.ifs, clientv3.Compare(clientv3.ModRevision(s.keys.guard(c.Session)), "=", r.guard))
		met, taken := map[string]bool{c.Session: true}, 0
		for _, a := range next.Aliases {
			key, is := s.keys.alias(a), r.names[a]
			if is.session == c.Session {
				continue
			}
			if taken++; taken > takenAtOnce {
				n.some = true
				return n, nil
			}
			n.ifs = append(n.ifs, clientv3.Compare(clientv3.ModRevision(key), "=", is.rev))
			n.ops = append(n.ops, clientv3.OpPut(key, c.Session))
			if other := r.heads[is.session]; other != nil && !met[is.session] {
				met[is.session] = true
				n.ifs = append(n.ifs, s.unchanged(other, is.session, r.listed(is.session) && !other.Released)...)
				n.ops = append(n.ops, clientv3.OpPut(s.keys.guard(is.session), ""))
			}
		}
	}
	dropped := slices.DeleteFunc(slices.Clone(g.Aliases), func(a string) bool { return slices.Contains(next.Aliases, a) })
	n.ops = append(n.ops, s.free(c.Session, dropped)...)
	if len(next.Aliases) == 0 {
		n.ops = append(n.ops, clientv3.OpDelete(s.keys.guard(c.Session)))
	}
	return n, nil
}

// named writes changes after or before which sessions have aliases, each by itself, some at the same time.
func (a *call) named(ctx context.Context, items []*item) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, callsAtOnce)
	for _, it := range items {
		slots <- struct{}{}
		wg.Go(func() {
			r, err := a.s.rename(ctx, &a.changes[it.place], it.sight)
			if err != nil {
				a.undecided(it, err)
			} else {
				a.results[it.place] = r
			}
			<-slots
		})
	}
	wg.Wait()
}

// rename writes a change of which g may be what it finds: one read, and one transaction.
func (s *Store) rename(ctx context.Context, c *store.Change, g sight) (store.Result, error) {
	for {
		if err := s.settle(ctx, c.Session, &g); err != nil {
			return store.Result{}, err
		}
		now := time.Now()
		outcome, next, wipe := c.Judge(g.Header, g.alive(), now)
		switch {
		case outcome == store.Fenced && g.known:
			return store.Result{Outcome: outcome, Header: g.Header}, nil
		case outcome != store.Applied && g.known:
			return store.Result{Outcome: outcome}, nil
		}
		var n naming
		var err error
		if outcome == store.Applied {
			if n, err = s.naming(ctx, c, &g, &next); err != nil {
				return store.Result{}, err
			}
			if n.denied != nil {
				return store.Result{Outcome: store.Rejected, Err: n.denied}, nil
			}
		} else {
			n.moved = true
		}
		if !n.moved {
			w := s.change(c, &g.head, next, wipe, now)
			if !n.some && w.bytes+s.nameBytes(&next, &g) > s.requestBytes {
				return s.large(ctx, c)
			}
			ops := append(n.ops, w.ops...)
			if n.some {
				ops = n.ops
			}
			t, err := s.commitAll(ctx, append(s.unchanged(&g, c.Session, matters(c, &g.head, outcome, now)), n.ifs...), ops, nil)
			if err != nil {
				return store.Result{}, err
			}
			if t.Succeeded && n.some {
				continue
			}
			if t.Succeeded {
				s.modes.set(c.Session, w.next.mode)
				return store.Result{Outcome: store.Applied}, nil
			}
		}
		if g, err = s.lookAgain(ctx, c.Session, &g); err != nil {
			return store.Result{}, err
		}
	}
}

// nameBytes is about what the index takes of a request.
func (s *Store) nameBytes(h *store.Header, g *sight) (n int) {
	for _, a := range slices.Concat(h.Aliases, g.Aliases) {
		n += 2*(len(s.keys.alias(a))+opBytes) + len(h.Session)
	}
	return n
}

// commitAll makes a transaction of some conditions and any number of operations.
func (s *Store) commitAll(ctx context.Context, ifs []clientv3.Cmp, ops, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	then, _ := fold(ops, maxOps-1-len(ifs)) // an operation may be a transaction of one
	return s.commit(ctx, ifs, []clientv3.Op{clientv3.OpTxn(nil, then, nil)}, otherwise)
}

// Lookup implements [store.Directory]. It is two reads, the second of which has all in one view; three, if it is the lease that matters, as of a session that has expired.
func (s *Store) Lookup(ctx context.Context, alias string) (store.Header, error) {
	if err := s.enter(ctx); err != nil {
		return store.Header{}, err
	}
	defer s.leave()
	r, err := s.register(ctx, "", []string{alias})
	if err != nil {
		return store.Header{}, err
	}
	h, alive := r.has(alias)
	h.Aliases = slices.Clone(h.Aliases)
	return store.JudgeLookup(h, alive, time.Now()), nil
}

// findPage is how many aliases a Find reads at most.
const findPage = 256

// Find implements [store.Finder]. It is two reads, of 256 aliases at most: which there are, and then these with the sessions that have them, in one view, so that what moved between
// the two is found where it is, or not at all; three, if a lease matters, or one has moved.
func (s *Store) Find(ctx context.Context, r store.AliasRange) (f store.Found, err error) {
	if err := s.enter(ctx); err != nil {
		return f, err
	}
	defer s.leave()
	if r.To != "" && r.To <= r.From {
		return f, nil
	}
	limit := findPage
	if r.Limit > 0 {
		limit = min(limit, r.Limit)
	}
	prefix := s.keys.alias("")
	to := end(prefix)
	if r.To != "" {
		to = s.keys.alias(r.To)
	}
	page, err := s.client.Get(ctx, s.keys.alias(r.From), clientv3.WithRange(to), clientv3.WithLimit(int64(limit)+1))
	if err != nil {
		return f, called(ctx, err)
	}
	var aliases []string
	heads := map[string]*sight{}
	for i, kv := range page.Kvs {
		alias := after(prefix, kv.Key)
		if i == limit {
			f.Next = alias
			break
		}
		aliases = append(aliases, alias)
		heads[string(kv.Value)] = &sight{}
	}
	if len(aliases) == 0 {
		return f, nil
	}
	reg, err := s.registerOf(ctx, "", aliases, heads)
	if err != nil {
		return store.Found{}, err
	}
	now := time.Now()
	for _, alias := range aliases {
		if h, alive := reg.has(alias); store.JudgeLookup(h, alive, now).Epoch > 0 {
			h.Aliases = slices.Clone(h.Aliases)
			f.Aliases = append(f.Aliases, store.Named{Alias: alias, Header: h})
		}
	}
	return f, errors.Join(reg.bad...)
}

var (
	_ store.Directory = (*Store)(nil)
	_ store.Finder    = (*Store)(nil)
)
