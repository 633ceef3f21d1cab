// Package redis keeps sessions in Redis (7.0 is tested; 6.0 should do), Valkey or a Redis Cluster: many nodes, on many machines, share
// it.
//
//	st, err := redis.Open(ctx, "redis://kvstore:secret@sessions.internal:6379", nil)
//	if err != nil {
//		return err
//	}
//	defer st.Close()
//
// A program that has a client already gives that to [New].
//
// # The fence
//
// Sessions are divided into buckets, one on a single server, and all keys of a bucket are in one slot of a Cluster: headers, entries,
// indexes of owners, and the leases of all nodes. So one script sees and changes them in one step, and nothing comes between its
// look at incarnation, epoch and seq and what it then writes. An Apply is one script for each bucket, and a claim one script,
// all in one round trip. A header that is not there fences: a server that has forgotten everything, or a failover that has forgotten
// the last second, makes nobody an owner.
//
// Aliases are in the same step, too, if all sessions are in one bucket: on a single server, or with [Options].Buckets at 1 where a Cluster is. In a keyspace of
// several buckets an alias and its session would be in two slots, and no step sees both: there each change that names one is Rejected, with an
// error that wraps [errors.ErrUnsupported], and [Store.Lookup] and [Store.Find] give that.
//
// To be found in their order aliases are in a sorted set, too, beside the hash that says whose they are: some 100 bytes and its length more of the server's memory for each. What a program
// wrote that did not know the set yet, Find adds to it, a thousand aliases in a script; it is noticed by their number. So while such programs still run, Find may miss aliases that
// they have named, if they have given up as many: let it be relied on when they are gone.
//
// # Ranges
//
// A hash has no order: a page of a session's entries, of [Store.LoadRange], has the server look at all their names, in a Cluster, too, which takes it about 1 µs for
// each. Of a thousand entries a page is as quick as reading them all; of 20,000 small ones reading all, page after page, takes ten times what one Load does, and
// holds others up for less at a time. Pages end after 1000 entries, or about 1 MiB.
//
// # What is durable
//
// An acknowledged flush or claim is what Redis makes of an acknowledged write, by settings of the server (but see below for flushes):
//
//   - With an append-only file and appendfsync always, what was acknowledged survives a power cut. Each flush then waits for the disk; as it is
//     a batch, that costs less than it seems to.
//   - With appendfsync everysec, the default, a power cut, or a crash of the machine's kernel, loses about the last second, claims
//     included: two tenures may then have one epoch, and it is the incarnation that tells them apart. Mostly nothing is lost when only the server's process is
//     killed; but while a sync of the disk takes long, the server acknowledges without writing to its file, for up to two seconds, and then
//     that is lost. After a power cut the end of its file may be unreadable: redis-check-aof --fix cuts it off. Only with no, which leaves it to the kernel to sync, is it written before it is acknowledged in any case.
//     A full disk is noticed after the fact at everysec: what was acknowledged just before the first refusal is then in the server's memory only, until there
//     is room again.
//   - Without an append-only file a restart loses everything since the last snapshot, or all. Open refuses such a server, and one whose
//     maxmemory-policy drops keys, unless [Options].AllowVolatile is set.
//   - Replicas get what is written after it is acknowledged. So a failover, by a Cluster or by sentinels, loses what the dead master had not passed
//     on, claims included: the former owner may then go on as if nothing had been, until the next claim. A master that was
//     cut off, or stood still, may even acknowledge writes after it was replaced. With [Options].Replicas a claim or a flush is acknowledged
//     when so many replicas have it: what is not confirmed in time is an error, which tells so, and is repeated until it is. It makes each flush wait for
//     a replica, which costs time and hardly any throughput. Then have two replicas of each master, and Replicas at 1: with only one, nothing
//     is acknowledged from when a master or its replica dies until there is a new one. Of two replicas a failover prefers the one that has more, but does not
//     promise it; with Replicas at 2 it cannot matter. That replicas have it does not mean that their disks do.
//   - Where servers tell what is on their disks (Valkey, Redis 7.2), a DB's Sync waits for that, by [Store.Barrier].
//
// What a server, or the replica that takes over, has forgotten of acknowledged flushes, the store that wrote it writes again, before anything else: it keeps
// the last ten seconds, up to 32 MiB. It notices because a server that begins anew knows no scripts, and the one that writes is sent once to each. So
// flushes are lost only if the node that made them dies as well, before that. What others have claimed meanwhile is an error of the next
// Barrier, a [store.ForgottenError]. Claims are not made again: whose was lost is fenced at its next flush, and told so.
//
// Where a claim that is lost cannot be had, keep ownership in a store that has consensus and only the data here: that is what package split is for.
//
// # The server
//
// Its maxmemory-policy must be noeviction. When its memory is full, changes that need some are Undecided, with an error that says so; claims, leases, releases and
// deletions go on. A session is one hash, and a script blocks its server while it runs: some 4 µs for an entry, so a claim that reads a session of
// 20,000 entries is felt by others.
//
// The store needs the keys that begin with the prefix and a colon, or with a brace, the prefix and a colon, and a user with these rights:
//
//	ACL SETUSER kvstore on >secret ~kvstore:* ~{kvstore:* +eval +evalsha +info +cluster|slots +cluster|shards +command
//	    +set +setnx +get +del +hset +hget +hmget +hgetall +hkeys +hlen +hscan +hdel +persist +pexpire
//	    +zadd +zrem +zcard +zrangebylex +time +wait +asking
//
// Nothing is to be installed: scripts are sent when a server does not know them. The client's own log goes to the standard error output; its SetLogger
// changes that.
//
// # Cluster
//
// A new keyspace on a Cluster has 24 buckets, spread evenly over the slots. They can be moved to other servers at any time: a bucket moves as a whole, and while
// it does, calls that find it divided fail and are repeated. After a failover the client finds the new master within a second of its promotion.
//
// Leases and expiries go by the server's clock; in a Cluster by that of each bucket's master.
package redis
