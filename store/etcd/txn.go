package etcd

import (
	"context"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

// A server takes at most 128 operations in a transaction. But operations may be transactions, and what it counts is, on each path from the outermost
// to an innermost one, the sum of their operations: two levels of 64 are 4096. So it is the size of a request, 1.5 MiB, that bounds what
// can be done in one step.
const (
	maxOps = 128

	// A flush is one transaction of groups of sessions:
	outerOps = 56
	groupOps = maxOps - outerOps
)

// fold arranges operations such that they count as at most room: in so many levels of transactions without a condition.
func fold(ops []clientv3.Op, room int) (folded []clientv3.Op, levels int) {
	width := room // of each level
	for n := 1; power(width, n) < len(ops); width = room / n {
		n++
	}
	for ; len(ops) > width; levels++ {
		var above []clientv3.Op
		for part := range slices.Chunk(ops, width) {
			above = append(above, clientv3.OpTxn(nil, part, nil))
		}
		ops = above
	}
	return ops, levels
}

func power(x, n int) int {
	p := 1
	for range n {
		p *= x
	}
	return p
}

// unfold calls see with the answer to each of the operations that were folded, in their order.
func unfold(rs []*pb.ResponseOp, levels int, see func(*pb.ResponseOp)) {
	for _, r := range rs {
		if levels == 0 {
			see(r)
		} else {
			unfold(r.GetResponseTxn().Responses, levels-1, see)
		}
	}
}

// sight is what was seen of a session at one moment.
type sight struct {
	head
	known bool  // else nothing was seen: it is a guess
	old   bool  // an earlier call saw it
	rev   int64 // of the head's last change; 0 if there is none

	// The node that owns it, if it was looked at: that of owner, alive if its revision is not 0.
	looked  bool
	node    store.Node
	nodeRev int64
}

// alive reports whether the owner is known to live. Else it is taken for dead, and where that matters it is a condition of what is done.
func (g *sight) alive() bool { return g.looked && g.nodeRev != 0 }

// unchanged are the conditions under which a session is still as it was seen and, if that matters, its owner as dead as was assumed.
func (s *Store) unchanged(g *sight, session string, matters bool) []clientv3.Cmp {
	ifs := []clientv3.Cmp{s.same(g, session)}
	if matters && !g.alive() {
		ifs = append(ifs, clientv3.Compare(clientv3.CreateRevision(s.keys.node(g.Owner.Incarnation)), "=", 0))
	}
	return ifs
}

// same is the condition under which a session's head is as it was seen.
func (s *Store) same(g *sight, session string) clientv3.Cmp {
	if g.rev == 0 {
		return s.absent(session)
	}
	return clientv3.Compare(clientv3.ModRevision(s.keys.head(session, g.tenure())), "=", g.rev)
}

// absent is the condition under which a session has no head.
func (s *Store) absent(session string) clientv3.Cmp {
	prefix := s.keys.headsOf(session)
	return clientv3.Compare(clientv3.CreateRevision(prefix), "=", 0).WithRange(end(prefix))
}

// lookHead is the operation that seen reads.
func (s *Store) lookHead(session string) clientv3.Op {
	prefix := s.keys.headsOf(session)
	return clientv3.OpGet(prefix, within(prefix))
}

// looks are the operations that see reads: the head, and the node that owned it last time.
func (s *Store) looks(g *sight, session string) []clientv3.Op {
	ops := []clientv3.Op{s.lookHead(session)}
	if g.known && g.rev != 0 {
		ops = append(ops, clientv3.OpGet(s.keys.node(g.Owner.Incarnation)))
	}
	return ops
}

// see takes the answers to looks, and returns those that come after them. was is the sight that they were made for.
func (s *Store) see(session string, was *sight, rs []*pb.ResponseOp) (g sight, rest []*pb.ResponseOp, err error) {
	g, err = s.seen(session, rs[0].GetResponseRange().Kvs)
	rest = rs[1:]
	if !was.known || was.rev == 0 {
		return g, rest, err
	}
	if err == nil && g.rev != 0 && g.Owner.Incarnation == was.Owner.Incarnation {
		g.looked = true
		if kvs := rest[0].GetResponseRange().Kvs; len(kvs) > 0 {
			g.nodeRev = kvs[0].ModRevision
			g.node, err = decodeNode(g.Owner.Incarnation, kvs[0].Value)
		}
	}
	return g, rest[1:], err
}

// seen is the sight of a session whose head was read.
func (s *Store) seen(session string, kvs []*mvccpb.KeyValue) (g sight, err error) {
	g = sight{known: true, head: head{Header: store.Header{Session: session}}}
	switch len(kvs) {
	case 0:
	case 1:
		g.rev = kvs[0].ModRevision
		g.head, err = decodeHead(session, after(s.keys.headsOf(session), kvs[0].Key), kvs[0].Value)
	default:
		err = badHead(session, fmt.Sprintf("it has %d heads", len(kvs)))
	}
	s.modes.set(session, g.mode)
	return g, err
}

// lookAgain reads the head of a session, and the node that owned it last time.
func (s *Store) lookAgain(ctx context.Context, session string, was *sight) (sight, error) {
	r, err := s.commit(ctx, nil, s.looks(was, session), nil)
	if err != nil {
		return sight{}, err
	}
	g, _, err := s.see(session, was, r.Responses)
	return g, err
}

// look reads the head of a session.
func (s *Store) look(ctx context.Context, session string) (sight, error) {
	prefix := s.keys.headsOf(session)
	r, err := s.client.Get(ctx, prefix, within(prefix))
	if err != nil {
		return sight{}, called(ctx, err)
	}
	return s.seen(session, r.Kvs)
}
