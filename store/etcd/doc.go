// Package etcd keeps sessions in etcd (3.7 is tested; 3.5 should do): many nodes, on many machines, share one cluster.
//
//	st, err := etcd.Open(ctx, "etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379", nil)
//	if err != nil {
//		return err
//	}
//	defer st.Close()
//
// A program that has a client already gives that to [New]. Open's has one advantage: it leaves a server that stands still at the first
// call that is given up, and not after 12 s.
//
// etcd is for ownership and for modest amounts of data: all of it is in each server's memory index, each change is a round of consensus and
// an fsync on a majority, and 8 GiB are its makers' bound.
//
// # The fence
//
// A session has one key, which ends with its epoch and its owner's incarnation, and whose value begins with the seq. An Apply is one
// transaction, in which each session's puts and deletes stand under the condition that the key of the writer's tenure is there, and has a lower
// seq. So it needs no read before it. A claim moves the session to a key of another tenure. What was not as expected is read, judged as [store.Change.Judge] does,
// and written under the condition that it is as it was read. A claim is such a write, too, with the further condition that the
// owner's lease is gone, and reads the entries in the same transaction. So a late write either comes before the claim,
// and the claimant reads it, or finds another epoch and writes nothing; that the client sends a call twice, or that one arrives late, does no harm.
//
// All reads are linearizable: they ask a majority.
//
// An alias is a key that names a session, whose head lists it. A flush that names the aliases which its session has is as any other, up to eight of them. One that changes them
// is a transaction by itself, after a read: it costs three round trips, one that makes a session with aliases two, and one more for each twenty that are taken at once.
//
// A part of a session's entries is one transaction, too: see [Store.LoadRange]. The server has keys in their order, so it costs what is read.
// Aliases are found by their keys' order, 256 at a time at most, in two round trips or three: see [Store.Find].
//
// # What is durable
//
// What was acknowledged is on the disks of a majority: no kill, failover or power cut loses it. A cluster of one survives
// kills and power cuts, and not the loss of its disk. With --unsafe-no-fsync none of this holds.
//
// A call fails while there is no majority or no leader, which is about a second at a failover. What then fails may have been done.
//
// # Sizes
//
// A request takes 1.5 MiB and 128 operations by default. Transactions in transactions make the latter no bound. A change that is larger
// than a request is stored in parts first, and then one transaction makes them valid: it is atomic all the same, up to
// [MaxChange]. The server must have its default of --max-request-bytes and --max-txn-ops, at least.
//
// # Leases and clocks
//
// A node's lease is one of the server's. Those count in seconds, and the server grants no less than one and a half of its election
// time-outs, rounded up: two seconds by default. A shorter lease runs as long as that, which delays adoption and nothing else. After a
// change of leader all leases run anew.
//
// etcd tells no time: expiries and the retention of tombstones go by the clock of the node that looks. Keep them synchronized.
//
// # History and quota
//
// etcd keeps former values until it is told not to. A store tells it each few minutes: see [Options].Compact. It does so for the whole
// cluster, so do not let it where others need a longer history. A quota that is used up (2 GiB by default) is an error of
// every flush that says what to do; sessions stay in memory meanwhile, leases are renewed and deletes go through. File space comes
// back by defragmenting only, which is the operator's.
//
// # The keys
//
// All begin with [Options].Prefix, "kvstore/" by default, and a user needs the right to read and write those, and no other. A prefix
// under which there is something else is refused, and so is another format. Session IDs and keys are in them as they are.
package etcd
