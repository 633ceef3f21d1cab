// Package postgres keeps sessions in PostgreSQL (15 is tested; 12 should do): many nodes, on many machines, share
// one database.
//
//	st, err := postgres.Open(ctx, "postgres://kvstore@db.internal/calls", nil)
//	if err != nil {
//		return err
//	}
//	defer st.Close()
//
// A program that has a pool of connections already gives that to [New].
//
// # The fence
//
// An Apply is one call of one function in the database, hence one statement and one round trip. The function locks the rows of
// the sessions' headers, in one order, and then writes those changes whose incarnation, epoch and seq still hold. A claim locks the
// same row. So a late write either commits before the claim does, and the claimant reads it, or finds the new
// epoch and writes nothing. As no transaction waits for its client, a node that is stopped in the middle of a call holds no lock.
//
// An alias is a row of a table of its own, which that call locks after the sessions, in one order, too. Who takes an alias from a session that is gone by expiry
// has that session's row locked as well, so that its owner does not extend it in the same moment.
//
// # Ranges
//
// A part of a session is read by the index of its entries, in the order of their keys as bytes: see [Store.LoadRange]. It costs what is read, however large the session is.
// Aliases are found by the index of theirs, 256 at a time at most: see [Store.Find].
//
// # What is durable
//
// By default what was acknowledged is on the disk of the server, as far as its own settings (fsync, full_page_writes) let that be
// true. [Options].Relaxed gives that up for flushes that nobody waits for: the server acknowledges them before they reach its disk, which
// leaves that less to do, and a crash of the server or its machine forgets the last of them, at most three times its
// wal_writer_delay: 0.6 s, unless it was changed. The store keeps what may be forgotten, for a second at most, and each flush says on which
// memory of the server it counts (the name of that is in an unlogged table, which a crash empties). So a crash is noticed before
// anything is written after it, and what was forgotten is written again first: it is lost only if this process dies, too, before that.
// Sync, Flush and Close wait until the disk has all that was acknowledged before them. Where others have claimed a session between the
// crash and that, they say so: the error is a [store.ForgottenError].
//
// Claims are always durable, and as the log is one sequence, a durable claim makes all that was flushed before it durable. So nothing that a claimant
// has read is lost later.
//
// On a primary with asynchronous standbys a failover may lose what was acknowledged, claims included: then two nodes may hold
// one epoch number, and the store refuses one of them by its incarnation. With synchronous_standby_names set it is
// not acknowledged before a standby has it. Settings of synchronous_commit that ask for more than "on" are left as they are.
//
// # The schema
//
// Open makes what it needs in a schema of its own, "kvstore" by default, and is safe when several nodes start at once. The role needs
// the right to create a schema, or the schema must be there: [Schema] returns the statements for those who
// apply them by hand. A schema of another format, or with other things in it, is refused: one of format 1, which has no aliases, too.
//
// Session IDs, keys and names are bytea, as they are arbitrary bytes: convert_from(session, 'UTF8') shows them.
// The main entry is a column of the session's row, so that to flush a session of one entry is to update one row.
//
// Leases and expiries go by the server's clock.
package postgres
