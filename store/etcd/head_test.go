package etcd

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed-6f1f505d/kvstore/store"
)

// A head is read as it was written, and one that is cut off anywhere before its main entry is noticed.
func TestHead(t *testing.T) {
	all := store.Header{
		Session: "s", Epoch: store.MaxEpoch, Seq: store.MaxEpoch, Owner: store.Owner{Node: "\x00\xff", Incarnation: store.NewIncarnation()},
		Released: true, Expires: math.MaxInt64, Aliases: []string{"", "a", "\xff"}, Schema: math.MaxUint32,
	}
	small := store.Header{Session: "s", Epoch: 1, Owner: store.Owner{Incarnation: store.NewIncarnation()}, Expires: -1}
	tomb := small
	tomb.Deleted = true
	for _, h := range []head{
		{Header: all, mode: many},
		{Header: all, mode: single, main: &value{expires: 7, bytes: []byte("v")}},
		{Header: small, mode: single, main: &value{bytes: []byte{}}},
		{Header: small, mode: pending, pending: "id"},
		{Header: tomb, mode: dead},
	} {
		b, tn := h.encode(), h.tenure()
		if got, err := decodeHead("s", tn, []byte(b)); err != nil || !reflect.DeepEqual(got, h) {
			t.Errorf("%+v is read as %+v, %v", h, got, err)
		}
		if h.main != nil {
			b = b[:len(b)-len(h.main.bytes)]
		}
		for n := range len(b) {
			if got, err := decodeHead("s", tn, []byte(b[:n])); err == nil {
				t.Errorf("%d of %d bytes are read as %+v", n, len(b), got)
			}
		}
		for n := range len(tn) {
			if got, err := decodeHead("s", tn[:n], []byte(b)); err == nil {
				t.Errorf("%q is read as %+v", tn[:n], got)
			}
		}
	}
}

// Each tenure and mode of each session has a key of its own, in the range of its session alone, and heads of one key are in the order of their seqs.
func TestHeadKeys(t *testing.T) {
	k := keyspace("p/")
	i, j := store.Incarnation{1}, store.Incarnation{2}
	met := map[string]string{}
	sessions := []string{"s", "s/", "s/1", "1/s", "", "\x00", "s/" + tenure(7, i, many), "\xff"}
	for _, session := range sessions {
		for _, tn := range []string{tenure(7, i, many), tenure(7, i, single), tenure(7, i, pending), tenure(7, i, dead), tenure(7, j, many), tenure(8, i, many), tenure(70, i, many)} {
			key := k.head(session, tn)
			is := fmt.Sprintf("session %q, tenure %q", session, tn)
			if was, ok := met[key]; ok {
				t.Errorf("%s has the key of %s", is, was)
			}
			met[key] = is
			if gotSession, gotTenure, ok := k.parseHead([]byte(key)); !ok || gotSession != session || gotTenure != tn {
				t.Errorf("the key of %s is read as that of session %q, tenure %q, %t", is, gotSession, gotTenure, ok)
			}
			for _, other := range sessions {
				prefix := k.headsOf(other)
				if in := key >= prefix && key < end(prefix); in != (other == session) {
					t.Errorf("%s is in the range of session %q: %t", is, other, in)
				}
			}
		}
	}
	at := func(seq uint64) string {
		h := head{Header: store.Header{Epoch: 7, Seq: seq, Owner: store.Owner{Incarnation: i}}, mode: many}
		return h.encode()
	}
	for _, pair := range [][2]uint64{{0, 1}, {9, 10}, {99, 100}, {store.MaxEpoch - 1, store.MaxEpoch}} {
		low, high := pair[0], pair[1]
		if at(low) >= figures(high) || at(high) < figures(high) || at(high) < figures(low) {
			t.Errorf("heads of seq %d and %d are not in order", low, high)
		}
	}
}

// What is no key of a head is not taken for one.
func TestNoHeadKey(t *testing.T) {
	k := keyspace("p/")
	for _, key := range []string{"p/s/", "p/s/s", "p/s/1", "p/s/1/", "p/s/1/s", "p/s/2/s/", "p/s/-1/s/", "p/s/9/s/x", "p/s/99999999999999999999/s/x", "p/s/x/s/x"} {
		if session, tenure, ok := k.parseHead([]byte(key)); ok {
			t.Errorf("%q is taken for session %q, tenure %q", key, session, tenure)
		}
	}
}

// However many operations there are, no path through them counts more than there is room for, and their answers are in their order.
func TestFold(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 129, 4096, 4097, 20_000, 200_000} {
		ops := make([]clientv3.Op, n)
		for i := range ops {
			ops[i] = clientv3.OpGet(strings.Repeat("k", i%7+1))
		}
		folded, levels := fold(ops, maxOps)
		var longest func([]clientv3.Op) int
		longest = func(ops []clientv3.Op) (most int) {
			for _, op := range ops {
				if _, then, _ := op.Txn(); op.IsTxn() {
					most = max(most, longest(then))
				}
			}
			return most + len(ops)
		}
		if most := longest(folded); most > maxOps {
			t.Errorf("%d operations count as %d", n, most)
		}
		var answer func([]clientv3.Op) []*pb.ResponseOp
		answer = func(ops []clientv3.Op) (rs []*pb.ResponseOp) {
			for _, op := range ops {
				r := &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: &pb.RangeResponse{Count: int64(len(op.KeyBytes()))}}}
				if _, then, _ := op.Txn(); op.IsTxn() {
					r.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: &pb.TxnResponse{Responses: answer(then)}}
				}
				rs = append(rs, r)
			}
			return rs
		}
		i := 0
		unfold(answer(folded), levels, func(r *pb.ResponseOp) {
			if int(r.GetResponseRange().Count) != i%7+1 {
				t.Fatalf("answer %d of %d is another one's", i, n)
			}
			i++
		})
		if i != n {
			t.Errorf("%d operations have %d answers", n, i)
		}
	}
}
