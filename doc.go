// Package kvstore keeps the live sessions of a program in memory and makes them survive
// the machine.
//
// A session is whatever has state for a while: a phone call, a cart, a game, a device
// link, an agent run. The program reads and writes its sessions in memory, at the speed of a map. Behind the map a
// write-behind buffer keeps what has changed, and flushes only the latest value of each key, a moment
// later, to a store: an embedded file (package store/bolt), or any database that
// implements [github.com/seed-6f1f505d/kvstore/store.Store]. When the machine dies its sessions are still in the store.
// Another node that is asked about one adopts it, in one round trip, and loads its
// entries as they are touched. From that moment the store refuses every late write of the old owner.
//
//	st, err := bolt.Open("calls.db", nil)
//	db, err := kvstore.Open[Call](ctx, st, kvstore.Options{Node: "a", Addr: "10.0.0.1:5060"})
//	defer db.Close(ctx)
//
//	err = db.Put(ctx, id, call)      // in memory now, in the store within 100 ms
//	call, err := db.Get(ctx, id)     // from memory
//
//	s, err := db.Adopt(ctx, id)      // an event for a session that this node does not know
//
// # Words
//
// A session belongs to one node at a time, its owner. An owner's tenure has a number, the
// epoch; its flushes have numbers, seq. The pair (epoch, seq) orders all states that a session
// ever had in the store. A session is resident on its owner, in memory; without a living owner it is
// non-resident. It holds entries, named by keys; the empty key names its main entry, which is all that
// DB.Get and DB.Put deal with. An entry that has changed is dirty until it is stored; the age of the
// oldest dirty entry is the lag: what would be lost if the process died now.
//
// # Values
//
// A value is immutable once it is put. The DB hands out the very value that was put, to
// all who read it, and encodes it when it is flushed, once for all the changes of a flush window. So do not change what a
// value points to: put a new value, or use [Session.Update]. [Options].DetectMutation
// finds those who forget.
//
// What another node adopts is what the [Codec] made of the value. [Msgpack], the default, says what of a value is
// not stored, unexported fields above all; [Open] refuses types of which it would lose more than that.
//
// # The write path
//
// A change of a session, whichever it is, is one commit (commit.go), under the session's own lock. It puts
// the new values in place, and queues the session if it was clean. Nothing else
// happens at that moment. The queue is a lane's (buffer.go); every session belongs to one
// of a few lanes. When the oldest change in it is [Options].MaxDelay old, or someone waits in Sync, the
// lane flushes (flush.go): it takes the dirty entries of each queued session, between two of its
// transactions, encodes them under no lock, and hands all to the store in a batch. The store answers for
// each session (settle.go): applied, and what did not change since is clean; no answer, and
// it is merged back under what is newer, and sent again, for ever, with backoff; fenced, and the session leaves
// memory; rejected, and the entry to blame is handed over, alone.
//
//	Put, Update ──commit.go──▶ session ──buffer.go──▶ lane ──flush.go──▶ Store.Apply ──settle.go──▶ clean
//
// What is dirty is bounded in bytes (budget.go). At the bound a write waits, fails, or writes
// through, as [Options].Overflow says. Nothing is dropped to make room.
//
// # Inside a session
//
// Whatever a session holds is entries, and every change of them is a commit. So what follows is as one expects of an entry: it is
// in memory at once and stored within MaxDelay, coalesced, fenced, together with all else in its transaction, and it survives an adoption. Each
// is a method of a [Tx], and one of a [Session] that is a transaction of its own.
//
//   - Keys are paths (tree.go): [Session.Children] lists one level, [Session.Walk] all below, [Session.DeleteTree] and [Session.Rename] work
//     on a path with all below it. Listing and deleting load keys, not values. [JoinKey] makes keys of elements that may hold separators.
//   - [Session.Queue] is a queue of values, [Session.KeyQueue] one of entries (queue.go, keyqueue.go): pushed and popped at either end, at a
//     cost that does not depend on the length. What comes and goes within a flush window is never written.
//   - [Session.CompareAndSwap] and [Session.Add] (cas.go, counter.go) say when they are acknowledged: [InMemory], or [Stored]. The first
//     can be lost in a crash, the second cannot.
//   - [Session.AddAlias] gives a session a further name, [DB.Lookup] and [DB.AdoptBy] find it by that (alias.go). That no two sessions have one is for
//     the store to see to, in the step that writes; who comes second gets an [AliasError] that names the holder.
//   - [Session.After] sets a timer (timer.go), which goes on through adoptions. When its time has come its owner calls the function given to
//     [DB.OnTimer], in the transaction that takes the timer away (clock.go): what that changes, the session's state shows once, whoever dies
//     meanwhile; what it does elsewhere is done at least once. A survivor finds the timers of a dead node that are due, and adopts those
//     sessions, though no event comes: [DB.AdoptDue], which OnTimer does by itself (due.go).
//
// What expires does so at an absolute time that is stored with it, and judged at every read ([Session.Expire], [Tx.PutUntil]; ExpireAfter and PutFor
// compute it). A session with an idle time ([Session.ExpireIdle]) ends when it was not touched for so long: [Session.Touch] moves the end in memory, and
// the end in the store follows by at most a tenth of the idle time (touch.go). Its owner ends it, and tells [Hooks].OnExpired, once (expiry.go, wheel.go);
// [DB.Sweep] collects, by ring share, what has expired while nobody had it in memory (sweep.go).
//
// [DB.OnCommit] and [DB.Watch] tell of each transaction, with what was and is, in the order of its session, on goroutines for which nothing
// waits; [DB.BeforeCommit] is asked before, and may refuse (changes.go, listen.go, watch.go, veto.go).
//
// An [Index], declared at [Open], makes terms of values: a user's name, say. [DB.Stored] and [DB.Merged] find the sessions that have a term, or one in
// a range, a page at a time and in a stable order, without a look at the others (query.go): Stored by what the store has, Merged with this node's changes over that. The answer says
// what it covered. The terms stand in the session's header, beside its aliases, and are written in the step that writes the value (terms.go, marks.go); [DB.Reindex] writes those of what was stored
// before the declaration. [DB.Resident] walks what is in memory.
//
// What the library keeps there itself is in entries whose keys begin with a zero byte (own.go), which keys of the application may not, and, where sessions are to
// be found by it, in aliases that begin so (marks.go).
//
// # Versions of a program
//
// In a rolling deploy programs of two versions share a store. With [Options].Schema each value tells which version wrote it, and
// Options.Upgrade reads what an older one has stored. A session that a newer program has changed is not taken by an older one, which would write over
// what it does not know: Adopt returns a [SchemaError], and leaves the session to others (schema.go).
//
// # Adoption
//
// Each node says in the store that it lives, by a lease (lease.go). [DB.Adopt] claims a
// session (adopt.go): the store raises its epoch, in one atomic step, unless its owner's lease runs, and returns
// the entries asked for; the others are loaded when they are touched (load.go), once each. If the owner is alive
// Adopt returns its address in an [OwnedError]; [DB.Steal] takes the session all the same. Leases
// are hints, and nothing is wrong if they are: the store compares the epoch in every write, in the
// step that writes, and refuses what comes from an epoch that is over. The former owner learns it from its
// next flush: the session leaves its memory whole, and [Hooks].Lost gets what was unsaved.
//
//	Adopt ──adopt.go──▶ Store.Claim: epoch+1 ──▶ resident ──load.go──▶ entries, as they are touched
//	                        │
//	the old owner's flush ──┴──▶ fenced ──settle.go, adopt.go──▶ Hooks.Lost, Hooks.Fenced
//
// [DB.AdoptOrphans] takes this node's share of a dead node's sessions in the background (orphans.go, ring.go), and [DB.Departures]
// tells when a node is gone (departures.go).
// [DB.Release] and [DB.Drain] hand sessions over without waiting for any lease (sync.go).
//
// After a restart the first event of each session would wait for the store. [DB.Preload] brings sessions in beforehand (preload.go): those that the
// node had, its share of all by the ring, or what a predicate on the header chooses, with their main entries, named ones, or all. It works in the background
// of demand, many in a round trip, and stops at [Options].MaxResident rather than evict. [Preloading.Progress] tells at any time how far
// it is, and a [PreloadError] what could not be brought in.
//
// # Wrappers
//
// Package store/seal wraps a store: what reaches it is encrypted, and bound to its session, key, expiry and epoch, so that
// whoever has the database neither reads a value nor changes or moves one. With a NameKey it sees no session IDs,
// keys and aliases either. Keys form a ring: the last one seals, all open, and Reseal rewrites what older ones have sealed, fenced like every
// write. Headers, nodes, sizes and times stay readable, and an older record put back is not noticed: the package says exactly what is.
//
// Package store/pack, a module of its own, compresses values when they are flushed. Sessions are small and alike: with a dictionary,
// which pack.Train makes of what pack.Sample draws from the store, values of 256 bytes take half the room; without one, only
// larger values gain. It goes in front of store/seal: compress first, then encrypt; and do not put a secret into the same value as text
// that others choose, as the length tells of it (CRIME, BREACH).
//
// # What is promised
//
//   - One owner: at most one tenure can change a session's stored state, and the store itself sees to it.
//   - Whole transactions: who adopts a session finds the state after some whole Update, never half of one. One entry
//     that the store refuses, or that cannot be encoded, is the exception: it is handed over alone, and the others are stored.
//   - No silent loss: what is not stored is in memory and retried, or was handed to Hooks.Lost with its value.
//   - Bounded loss: with a healthy store the lag is at most MaxDelay and one flush. [DB.Health] tells it always.
//   - Durable on demand: [Session.Sync] and [DB.Flush] return when everything before them is stored.
//
// # Errors
//
// Kinds are sentinels, for errors.Is; [OwnedError], [FencedError], [RejectedError] and [UnsavedError] carry
// data, for errors.As. An error of the store is returned wrapped.
package kvstore
