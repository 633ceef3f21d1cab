// Package nats keeps sessions in NATS JetStream (nats-server 2.12 or later; 2.15 is tested): many nodes, on many machines, share one stream.
//
//	st, err := nats.Open(ctx, "tls://n1.internal,tls://n2.internal,tls://n3.internal", nil)
//	if err != nil {
//		return err
//	}
//	defer st.Close()
//
// A program that connects by itself gives its connection to [New], and has the settings that matter from [Connect].
//
// # The fence
//
// A session is one message: header and entries together, on a subject of its own, of which the stream keeps the last. A write is a
// message that replaces it, with the sequence of the one that it was judged by; the server takes it only if that is still
// the last. So a late write either comes before a claim, and the claim is judged anew and has it; or after, and then it is refused, read again, and
// told the new epoch. What a store has written or read lately it remembers, and so a flush is one round trip for all its sessions
// together. Nothing but that a write was taken is ever told from memory.
//
// Entries of more than 128 KiB together are in messages of their own, pages of 64 KiB or of one larger entry. They
// are stored first, under subjects that are used once, and then the session's message, which refers to them. A change writes those pages that
// it concerns.
//
// A part of a session is read by the session's message and those of its pages that have some of it, about 4 MiB at a time: see [Store.LoadRange]. To list keys costs as
// much as to read values, as they are in one message.
//
// Aliases are not kept: a change that names one is Rejected, with an error that wraps [errors.ErrUnsupported].
//
// # What is durable
//
// What was acknowledged is in the stream, on more than half of its replicas. It survives that a server is killed, and with three replicas the loss
// of one machine, with a pause for as long as the others need to elect a leader, which is some seconds.
//
// But a server acknowledges what it has given to its operating system, and syncs it every two minutes (sync_interval in the jetstream section
// of its configuration). A power cut of a server that stands alone loses what is newer, claims included, and the stream itself if
// it was made just before; so does one of all replicas at once. With sync_interval: always nothing is lost that way, at the
// price of a sync for each message. A client cannot ask for it, nor find out: set it where the servers do not have power supplies apart from
// each other.
//
// A server whose disk is full stops working on the stream, and goes on when there is room and it was started again.
//
// Reads are answered by the leader of the stream. One that was stopped, or cut off, and does not know yet that there is another may answer with
// what it has: a store that has seen a later state of the session does not believe it, and asks again. A write it cannot
// acknowledge.
//
// # The stream
//
// Open makes the stream, "KVSTORE" by default, with subjects below its name, if it is not there, and refuses one of another format, of somebody else's, or with
// settings under which it would lose sessions: limits that discard, in memory, and so on. To make it by hand:
//
//	nats stream add KVSTORE --subjects 'KVSTORE.>' --storage file --replicas 3 --retention limits --max-msgs-per-subject 1 \
//	  --discard new --allow-msg-ttl --metadata kvstore-format=1 --defaults
//
// The user of a store needs to publish to KVSTORE.> and to these of $JS.API: STREAM.INFO.KVSTORE, STREAM.MSG.GET.KVSTORE,
// STREAM.MSG.DELETE.KVSTORE, STREAM.PURGE.KVSTORE, and STREAM.CREATE.KVSTORE unless the stream is there; and to subscribe to _INBOX.>.
//
// Leases and expiries go by the clock of the server that leads the stream: let the servers' clocks agree. Tombstones, and the leases of nodes that
// are gone, are removed by the server when their time is over.
//
// # Costs
//
// A walk of all sessions reads them whole, 256 at a time; that of an owner's sessions reads those. The values of
// a session are in memory once more, in the store, for as long as it was written lately: see [Options].CacheBytes.
package nats
