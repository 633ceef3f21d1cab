package etcd

import (
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
		b := h.encode()
		if got, err := decodeHead("s", []byte(b)); err != nil || !reflect.DeepEqual(got, h) {
			t.Errorf("%+v is read as %+v, %v", h, got, err)
		}
		if h.main != nil {
			b = b[:len(b)-len(h.main.bytes)]
		}
		for n := range len(b) {
			if got, err := decodeHead("s", []byte(b[:n])); err == nil {
				t.Errorf("%d of %d bytes are read as %+v", n, len(b), got)
			}
		}
	}
}

// Heads of one tenure are in the order of their seqs, and others are not between them.
func TestHeadsAreInOrder(t *testing.T) {
	i, j := store.Incarnation{1}, store.Incarnation{2}
	at := func(epoch, seq uint64, by store.Incarnation, m mode) string {
		h := head{Header: store.Header{Epoch: epoch, Seq: seq, Owner: store.Owner{Incarnation: by}}, mode: m}
		return h.encode()
	}
	from, to := tenure(7, i, many), tenure(7, i, many)+figures(10)
	for _, in := range []string{at(7, 0, i, many), at(7, 9, i, many)} {
		if in <= from || in >= to {
			t.Errorf("%q is not between %q and %q", in, from, to)
		}
	}
	for _, out := range []string{at(7, 10, i, many), at(7, 100, i, many), at(7, 9, j, many), at(7, 9, i, single), at(7, 9, i, pending), at(7, 9, i, dead), at(6, 9, i, many), at(8, 9, i, many), at(70, 9, i, many)} {
		if out > from && out < to {
			t.Errorf("%q is between %q and %q", out, from, to)
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
