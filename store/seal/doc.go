// Package seal encrypts what another store keeps.
//
//	inner, err := bolt.Open("calls.db", nil)
//	st, err := seal.New(inner, seal.Options{Keys: []seal.Key{{ID: 1, Secret: secret}}})
//	db, err := kvstore.Open[Call](ctx, st, kvstore.Options{Node: "a"})
//
// Values are encrypted and authenticated with AES-256-GCM (NIST SP 800-38D). Each is bound to its session, its key, its
// expiry and the epoch in which it was written. Session IDs, keys and aliases are hidden too if Options.NameKey is set. A sealed value
// is [Overhead] bytes longer: the inner store must take that much more than [store.MinValue], as all of this module do.
//
// # What is kept from whom
//
// Who reads the inner store, its files or its backups, does not learn values. Who writes to it cannot make or change one, nor put one in the place of
// another, of another session or key, nor let it live longer or end sooner: such a value is a [*store.CorruptError], and the rest stays readable.
//
// It is not kept from a reader:
//
//   - how long values are and, if hidden, names; how many entries a session has, and which one is the main entry;
//   - when something is written, and that a value was written again. (Not whether it is the same: it never looks the same.)
//   - the header: epoch, seq, owner, released or deleted, expiry, schema, number of aliases; and the expiry of entries;
//   - nodes: their names, incarnations, addresses and leases. Names of nodes stand in headers, too;
//   - without a NameKey session IDs, keys and aliases; with one, that two stored names are the same name.
//
// Who writes to the inner store can still, and nothing here detects it:
//
//   - put back an older value of the same session and key, be it of an earlier epoch, or all of an older session;
//   - remove an entry or a session, tombstones included, or an alias; move aliases, hidden or not, between sessions;
//   - change a header: the owner, the epoch (that no value may be of an epoch above the header's finds a record from a later time in a header from
//     an earlier one, unless that is changed as well), expiry, released, schema; end and extend leases, and redirect to another address;
//   - with AcceptPlain, put in any value.
//
// The store is opened by processes that know the keys, and they are trusted wholly: each can read, and seal, everything.
//
// # Nonces
//
// Random nonces of 96 bits are safe for 2³² records of a key (SP 800-38D, section 8.3), which this library writes in a day. So no record is
// sealed with a key of the ring: each open store draws a salt of 128 random bits, derives a subkey from it by HKDF (RFC 5869), and counts its nonces
// (the deterministic construction, section 8.2.1). The salt and the count stand in each record. After 1 TiB a new salt is drawn: by then AES can be told
// from a random function with a chance of 2⁻⁵⁷ at most. It is unsafe to resume one image of a running process twice, as a snapshot of a virtual machine
// can be: both would count on under the same subkey.
//
// # Keys
//
// The last key of the ring seals, all open; a record names its own. To replace a key without an interruption:
//
//  1. Add the new one before the last, on every node: all can open what it will seal.
//  2. Make it the last, on every node.
//  3. Let [Store.Reseal] rewrite what the old one has sealed, until nothing remains. It does not touch what living nodes own: call it while nodes are restarted or
//     drained, or after.
//  4. Take the old one away.
//
// What is lost with its key is lost. An entry sealed with an unknown key is a [*store.CorruptError], as is one with the wrong secret. In
// backups the old key is needed for as long as they are.
//
// To seal a store that has been in use in clear: first set AcceptPlain, then let Reseal seal what is there, then take AcceptPlain away. bolt, as other stores,
// does not erase: what was stored in clear stays on free pages of its file until they are written again.
//
// # Names
//
// With a NameKey the inner store sees no session ID, key or alias, but the same bytes for the same name each time, as it must find things by them.
// A key of one session looks different in another. The empty key, the main entry's, stays empty: stores treat it in a way of its own.
//
// A hidden name is 16 bytes longer. So session IDs and keys have at most 1008 bytes. A change with a longer key is Rejected, which names the key, one of a longer
// session ID, too, and its claim is an error: all wrap [store.ErrTooLarge]. A stored name that was tampered with is noticed in walks and when all entries are read, as a
// CorruptError that has it as it is stored; to whom asks for the true name it is just not there.
//
// Hidden names are in an order of their own, so none are read in the order of the true ones: [Store.LoadRange] and [Store.Find] then give an error that wraps
// [errors.ErrUnsupported].
//
// The NameKey cannot be changed, and cannot be added to or taken from a store that has sessions. It is independent of the ring.
//
// # Cost
//
// A few hundred nanoseconds for a value of a few hundred bytes, and no allocation, be it sealed or opened; two or three microseconds for the first value that is
// read of each subkey. A hidden name takes about a microsecond.
//
// Other powers of the inner store are passed on: [store.Claimer], [store.Barrier], [store.Watcher], [store.Writers]; [store.Directory]; and without a NameKey [store.Ranger]
// and [store.Finder].
package seal
