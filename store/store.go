// Package store is the contract between a kvstore.DB and the database behind it.
//
// A store keeps sessions. A session is a [Header], which says who owns it, and
// a set of entries (key → bytes). A store knows nothing of the values' types and
// nothing of caches. It has one duty that ordinary databases do not take on:
// it refuses every write of an owner whose tenure is over, in the same atomic
// step that would have written. That refusal is called a fence, after the
// fencing tokens of Kleppmann, "How to do distributed locking" (2016), and
// Gray and Cheriton, "Leases" (SOSP 1989).
//
// The order of all states that a session ever had in its store is the order of
// the pairs (epoch, seq). An epoch is one owner's tenure; seq counts that owner's
// writes. Time never decides.
//
// Everything that persists is a [Store]: an engine's adapter, a wrapper that
// encrypts, peers that replicate. Package storetest holds this contract as a
// test suite, one case for each sentence below; run it on a store of your own.
package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"iter"
	"math"
	"time"
)

// Limits that every store must be able to hold. A store that can hold more may;
// one that cannot hold a particular entry says [Rejected] and names its key.
const (
	MaxSession = 1024      // longest session ID in bytes; the shortest is 1
	MaxKey     = 1024      // longest entry key in bytes; the empty key is the main entry
	MinValue   = 512 << 10 // the size in bytes up to which every store must accept a value

	MaxAlias      = 1024     // longest alias in bytes; the shortest is 1
	MaxAliases    = 256      // most aliases of one session
	MaxAliasBytes = 32 << 10 // most bytes of all aliases of one session together
)

// MaxEpoch is the highest epoch, and the highest seq: engines keep them as signed integers.
const MaxEpoch = math.MaxInt64

// Store keeps sessions and fences their former owners.
//
// Rules for all methods:
//
//   - All methods may be called concurrently.
//   - Session IDs, keys and aliases are arbitrary bytes.
//   - The callee keeps nothing of its arguments after it returned: it copies.
//     What it returns belongs to the caller, and no later call changes it.
//   - A context that is over when the call begins gives the context's error, and
//     nothing is changed.
//   - An error means that the outcome is unknown: the call may have been applied, may
//     be applied later, or never. It does not mean "not applied". A refusal is
//     therefore never an error, but an outcome in the answer.
//   - That something is absent is an answer too, never an error.
//   - Damaged data gives a [*CorruptError] naming session and key; what is not
//     damaged stays readable.
//   - Expiry is an absolute time, checked at every read. An entry is gone from its
//     expiry on. A session is gone from its expiry on, unless it is not released and its
//     owner is alive (who may hold an extension that is not stored yet).
//   - After Close every method gives [ErrClosed]. Close may be called twice.
type Store interface {
	// Claim makes req.Owner the owner of a session, at a higher epoch, and returns
	// the session's header with the entries that req names.
	//
	//   - A session that is released, or whose owner has no lease that runs, is granted.
	//   - A session whose owner's lease runs is Held, and Holder tells by whom; with
	//     Force it is granted all the same.
	//   - A session that its claimant owns already is granted at the epoch it has,
	//     so that a claim whose answer was lost can be repeated. If it has expired, it is
	//     gone for its owner, too: who claims holds no extension.
	//   - Otherwise the epoch is raised: to req.Epoch if it is proposed, else to
	//     one more than the highest that the session ever had, deleted lives included.
	//   - A proposal that is not above that highest epoch is Outbid. So is every claim that
	//     would raise an epoch beyond MaxEpoch.
	//   - A session that is absent, deleted or gone is NotFound; with Create it is
	//     granted empty and Created is set, and nothing of its former life remains.
	//   - Of any number of concurrent claimants of one epoch exactly one is granted.
	//   - The epoch is raised before the entries are read: no write of the former owner
	//     can land after what Claim returned.
	//   - A new tenure starts with seq 0, not released, and keeps expiry, aliases and schema.
	//   - Entries holds those of the named keys (or all) that exist. A key that
	//     could not be read now, because it is damaged, say, is named in Unread, and nothing is said about its existence.
	Claim(ctx context.Context, req ClaimRequest) (Claim, error)

	// Apply writes changes. Each change is atomic and stands alone: that one is
	// refused or fails says nothing of the others. It returns one result per
	// change, in their order. Changes of one session in one call are applied in their order.
	// Those of different sessions are in any: an alias that one of them frees another may find taken.
	//
	// Let h be the header on record, absent being epoch 0 and deleted:
	//
	//   - If h has the change's incarnation and epoch and at least its seq, the
	//     change is Already there: nothing is written.
	//   - If h has the change's incarnation and epoch, and is not deleted, the change is Applied.
	//   - If h has them and is deleted, only a change that deletes or creates is Applied.
	//   - If h has them and a seq below the change's Birth, h is not of the session that the change is about to
	//     make, but of one from before, or that a claim made: Fenced. A new session has a new epoch.
	//   - If h is deleted, or gone by expiry, a change that creates, with an
	//     epoch above h's, is Applied, and nothing of the former life remains.
	//   - Everything else is Fenced, and Header is h: in particular a change to an absent session
	//     that does not create, whatever its epoch.
	//   - Incarnation and epoch are compared for equality, as a pair.
	//   - Applied, the header has the change's seq, Released, expiry, aliases and schema;
	//     Wipe removes all entries before Puts; Deletes of absent keys are no error.
	//   - No two sessions have one alias: a change that would be Applied, and names an alias which another session has that is not gone, is
	//     Rejected instead, with an [*AliasError] of the first such alias. That is decided in the step that would have written.
	//   - A session has the aliases that its last change named, under its next owners too. The step in which a change leaves an alias out, or deletes the
	//     session, or in which a new life of it begins, frees the alias.
	//   - A session that is gone by expiry has an alias until a change of another session names it. If its owner comes back and
	//     extends it, the alias stays the other's: the header lists it, but the next change that names it is Rejected.
	//   - A store that cannot keep aliases unique Rejects each change that names one, with an Err that wraps errors.ErrUnsupported.
	//   - A change that deletes leaves a tombstone: a header that keeps owner, epoch
	//     and seq, and no entries. If it also creates, it leaves one where nothing was, so that
	//     a creation that is still on its way finds it.
	//   - A tombstone outlives the longest outage and the longest retry.
	//   - A change that can never be applied (too large, malformed) is Rejected, with Err,
	//     and with Keys if single entries are to blame. Nothing of it is written.
	//   - Undecided means that this change's outcome is unknown, as for an error.
	Apply(ctx context.Context, changes []Change) ([]Result, error)

	// Load reads the named entries of a session, or all if none is named, and
	// the header, in one consistent view.
	//
	//   - It reads at least the state of the last Claim or Apply that was
	//     acknowledged to anyone before the call.
	//   - An absent session has a header with epoch 0; a tombstone is returned as it is.
	//   - Entries are returned also if the session's own expiry is past: the
	//     reader may own it and judges the header. Expired entries are left out.
	//   - Damaged entries are left out and are the error, joined; the rest is returned beside it.
	Load(ctx context.Context, session string, keys ...string) (Snapshot, error)

	// Sessions walks the headers of sessions, those that are not deleted.
	//
	//   - A session that exists throughout the walk, and matches q throughout, is yielded
	//     once. There is no order.
	//   - Any method may be called during the walk, on the yielded session too.
	//   - A walk that could not see everything ends with an error as its last pair: no
	//     error means complete. A damaged header is yielded as an error, and the walk goes on.
	Sessions(ctx context.Context, q Query) iter.Seq2[Header, error]

	// KeepAlive says that n.Incarnation lives, for ttl from now on the store's clock, and returns whether its
	// lease ran until now.
	//
	//   - If it did not, because it is the first, was over, was ended by whomever, or is not known any more, others may have
	//     claimed its sessions meanwhile.
	//   - It replaces what was known of that incarnation, and no other's lease.
	//   - A ttl of zero or less ends the lease at once.
	//   - A lease that is over may be renewed: leases are hints, epochs decide.
	KeepAlive(ctx context.Context, n Node, ttl time.Duration) (ran bool, err error)

	// Nodes returns what is known of nodes, each with what is left of its lease.
	//
	//   - A node whose lease is running is there; one whose lease is over may be.
	Nodes(ctx context.Context) ([]Node, error)

	// Close ends the use of the store and frees what it holds.
	Close() error
}

// Writers is an optional power of a Store: one that works on a certain number of calls of Apply at a time, however many
// come, says so. A DB then uses as many lanes, unless it was told otherwise: where one writer takes turns, fewer and larger
// batches of neighbours are written sooner than many at once.
type Writers interface {
	// Writers returns that number; 0, or less, if it is not known, as of a wrapper around a store that does not say.
	Writers() int
}

// Claimer is an optional power of a Store: one that decides many claims in one round trip has it. A DB uses it to adopt what a dead node
// leaves behind.
type Claimer interface {
	// ClaimAll decides each request as Claim does, each for itself, and returns one answer per request, in their order. No
	// session stands twice. A request that has no answer, because the session's header is damaged, say, says why in its Err; an error means that
	// the outcome of all is unknown.
	ClaimAll(ctx context.Context, rs []ClaimRequest) ([]Claim, error)
}

// Ranger is an optional power of a Store: one that reads the entries of a session in the order of their keys, a page at a time, has it. A DB uses it to find out which
// keys there are without their values, and to read a part of a session that is too large to be read whole.
type Ranger interface {
	// LoadRange reads the entries of a session with r.From ≤ key < r.To, in the order of their keys as bytes, and the header, in
	// one consistent view.
	//
	//   - An empty To is no bound. With KeysOnly the entries have no Value; they have their Expires.
	//   - It reads the first r.Limit entries, or fewer, and tells in Next where the rest begins. An empty Next says that there are no more.
	//   - All else is as for Load.
	LoadRange(ctx context.Context, session string, r Range) (Page, error)
}

// Range is a part of a session's entries.
type Range struct {
	From, To string // From ≤ key < To; an empty To is no bound
	KeysOnly bool   // the values are not wanted
	Limit    int    // entries at most; 0 or less: as many as the store likes
}

// Page is what LoadRange has read.
type Page struct {
	Snapshot
	Next string // where the next page begins: above every key that was looked at; empty if there are no more
}

// Has reports whether the key is in the range.
func (r Range) Has(key string) bool { return key >= r.From && (r.To == "" || key < r.To) }

// Barrier is an optional power of a Store: one that acknowledges changes sooner than they are as durable as it can make them
// has it. A DB calls it for whoever waits: in Sync, Flush and Close. It is not called for claims: whether what they grant outlasts a crash of the
// engine is for the store to see to, and to document.
type Barrier interface {
	// Barrier returns when everything that was acknowledged before the call, and not yet covered by a Barrier, is as durable as the store can
	// make it. If an engine has crashed meanwhile, and forgotten some of it, the store writes that again first; what it cannot bring
	// back, as somebody else has the session by now, is a *ForgottenError, of which it tells once: all other sessions' changes are as durable then as
	// without it. After any other error the call can be repeated.
	Barrier(ctx context.Context) error
}

// Directory is an optional power of a Store: one that finds a session by an alias has it. All that keep aliases do.
type Directory interface {
	// Lookup returns the header of the session that has the alias. Its epoch is 0 if none has it, or if the one that has it is gone.
	// It reads at least what was acknowledged to anyone before the call. Whoever claims the session then looks whether the header that was granted lists
	// the alias still. An error that wraps errors.ErrUnsupported says that the store keeps no aliases.
	Lookup(ctx context.Context, alias string) (Header, error)
}

// Finder is an optional power of a Directory: one that reads aliases in their order, a page at a time, has it. A DB writes what sessions are to be found by, a
// timer that is due, say, as aliases, and finds them by it. Headers may come with it that are of no further use: those of one session with several such aliases.
type Finder interface {
	// Find reads the aliases with r.From ≤ alias < r.To, in the order of their bytes, each with the header of the session that has it.
	//
	//   - An alias that one session has throughout the call is found, of that session, if the page comes to it.
	//   - It reads the first r.Limit aliases, or fewer, and tells in Next where the rest begins.
	//   - What is found is what Lookup would have returned at some time during the call: an alias of which the session is gone is left out.
	//   - A damaged record, or header, is left out and is the error, joined; the rest is returned beside it.
	//   - An error that wraps errors.ErrUnsupported says that the store keeps no aliases, or not in their order.
	Find(ctx context.Context, r AliasRange) (Found, error)
}

// AliasRange is a part of the aliases of all sessions.
type AliasRange struct {
	From, To string // From ≤ alias < To; an empty To is no bound
	Limit    int    // aliases at most; 0 or less: as many as the store likes
}

// Has reports whether the alias is in the range.
func (r AliasRange) Has(alias string) bool {
	return alias >= r.From && (r.To == "" || alias < r.To)
}

// Found is what Find has read.
type Found struct {
	Aliases []Named
	Next    string // where the next page begins: above every alias that was looked at; empty if there are no more
}

// Named is an alias, and the header of the session that has it.
type Named struct {
	Alias  string
	Header Header
}

// Watcher is an optional power of a Store: one whose engine tells that a lease is over has it. A DB then knows at once that a node is gone.
type Watcher interface {
	// WatchNodes calls changed as soon as it watches, and then after each lease that ends, whether it ran out or was ended. One call may be
	// for several, and there may be others. Nodes, called after it, does not have them any more, or as over. changed returns at once.
	// WatchNodes returns when ctx is over, when the store is closed, or when it cannot watch any longer, and says why.
	// errors.ErrUnsupported says that it never can.
	WatchNodes(ctx context.Context, changed func()) error
}

// ForgottenError is Barrier's: the store had acknowledged changes of these sessions, its engine may have forgotten them in a crash, and as
// others own the sessions by now they were not written again.
type ForgottenError struct {
	Sessions []string // in order
}

func (e *ForgottenError) Error() string {
	return fmt.Sprintf("store: changes of %d sessions that were acknowledged may have been forgotten in a crash of the engine, and others own the sessions now: %.200q",
		len(e.Sessions), e.Sessions)
}

// Incarnation names one Open of one node: random, never used twice. A dead
// incarnation never returns. The zero value is nobody.
type Incarnation [16]byte

// NewIncarnation returns a new random incarnation.
func NewIncarnation() Incarnation {
	var i Incarnation
	rand.Read(i[:]) // never fails: it crashes the program rather than returning weak bytes
	return i
}

// String returns the incarnation as 32 hexadecimal digits.
func (i Incarnation) String() string { return hex.EncodeToString(i[:]) }

// ParseIncarnation is the inverse of String.
func ParseIncarnation(s string) (Incarnation, error) {
	var i Incarnation
	if len(s) != 2*len(i) {
		return i, fmt.Errorf("store: incarnation %q: want %d hexadecimal digits", s, 2*len(i))
	}
	if _, err := hex.Decode(i[:], []byte(s)); err != nil {
		return Incarnation{}, fmt.Errorf("store: incarnation %q: %w", s, err)
	}
	return i, nil
}

// Owner is who may change a session: a node's name, for people, and its
// incarnation, which alone is compared.
type Owner struct {
	Node        string
	Incarnation Incarnation
}

// Time is an instant in milliseconds since the Unix epoch. The zero Time means
// "never" where an expiry is meant. It has one exact form in every engine, and
// reaches further than any engine's own time type.
type Time int64

// TimeOf returns the first Time that is not before t, so that nothing ends early;
// the zero time.Time is never. Instants at or before the Unix epoch become 1.
func TimeOf(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	sec := t.Unix()
	switch {
	case sec < 0:
		return 1
	case sec >= math.MaxInt64/1000:
		return math.MaxInt64
	}
	ms := sec*1000 + (int64(t.Nanosecond())+999_999)/1_000_000
	return Time(max(ms, 1))
}

// Std returns t as a time.Time; never is the zero time.Time.
func (t Time) Std() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(t))
}

// Past reports whether the expiry t has come at now. Never does not.
func (t Time) Past(now time.Time) bool { return t != 0 && now.UnixMilli() >= int64(t) }

// Header is what a store knows of a session, apart from its entries.
type Header struct {
	Session string
	Epoch   uint64 // the tenure; 0 if the session is absent. Never goes back while a header or tombstone is kept
	Seq     uint64 // the last change applied in this epoch; 0 if none was
	Owner   Owner  // whose tenure it is, or was if Released or Deleted

	Released bool // the owner gave it up: anyone may claim it
	Deleted  bool // a tombstone: there is no session, only its last epoch

	Expires Time // when the session ends by itself

	// Aliases are further names of the session, each of which it alone has, of all sessions that are not gone: see Store.Apply. They
	// and session IDs are name spaces of their own: an alias may be spelled as the ID of any session.
	Aliases []string
	Schema  uint32 // version of the values' type, set by the application
}

// Exists reports whether the header is that of a session, be it expired: neither absent
// nor a tombstone.
func (h Header) Exists() bool { return h.Epoch > 0 && !h.Deleted }

// Gone reports whether no session is left at now: absent, deleted or expired.
func (h Header) Gone(now time.Time) bool { return !h.Exists() || h.Expires.Past(now) }

// HeldBy reports whether h is of the tenure (owner, epoch).
func (h Header) HeldBy(o Owner, epoch uint64) bool {
	return h.Epoch == epoch && h.Owner.Incarnation == o.Incarnation
}

// Entry is one value of a session. Value is the encoded form; a store does not look inside.
type Entry struct {
	Key     string
	Value   []byte
	Expires Time
}

// ClaimRequest asks for the ownership of a session.
type ClaimRequest struct {
	Session string
	Owner   Owner
	Force   bool     // take it from a living owner, too
	Create  bool     // make it if it is absent, deleted or gone
	Epoch   uint64   // the epoch proposed; 0 lets the store choose
	Keys    []string // entries to read in the same step
	All     bool     // read all entries instead
}

// ClaimOutcome is the answer to a claim. The zero value is none.
type ClaimOutcome uint8

const (
	Granted  ClaimOutcome = iota + 1 // req.Owner owns the session
	Held                             // another owner's lease runs
	NotFound                         // there is no such session
	Outbid                           // the epoch would not be above the highest seen
)

func (o ClaimOutcome) String() string {
	return [...]string{"no answer", "granted", "held", "not found", "outbid"}[min(o, Outbid)]
}

// Claim is the answer to a ClaimRequest.
type Claim struct {
	Outcome ClaimOutcome
	Created bool   // Granted, and this call made the session
	Header  Header // as it now stands: the new tenure if Granted, else what refused
	Holder  Node   // Held: the owner, with its address
	Entries []Entry
	Unread  []string // keys asked for that could not be read: ask Load. With All it may be the key that is damaged, and this what it has become
	Err     error    // only of ClaimAll: why there is no answer
}

// Change is one session's part of a flush: what is to be changed, by whom, and
// the proof that they may. Expires, Aliases and Schema replace those on record: a
// change carries them always.
type Change struct {
	Session string
	Owner   Owner
	Epoch   uint64
	Seq     uint64 // above every earlier change of this tenure

	Create  bool   // the session may be made by this change (with Delete: its tombstone)
	Birth   uint64 // with Create: the Seq of the first attempt to make it; 0: that is not told
	Wipe    bool   // all entries on record go before Puts
	Delete  bool   // the session goes; Puts and Deletes are empty
	Release bool   // after this change anyone may claim

	Puts    []Entry // no key stands twice in Puts and Deletes together
	Deletes []string

	Expires Time
	Aliases []string // none twice; of a change that deletes they do not count
	Schema  uint32
}

// Outcome says what became of one Change.
type Outcome uint8

const (
	Undecided Outcome = iota // unknown: repeat it
	Applied                  // written by this call
	Already                  // this change, or a later one of the same tenure, is there
	Fenced                   // the tenure is over, or never was
	Rejected                 // it can never be applied as it is
)

func (o Outcome) String() string {
	return [...]string{"undecided", "applied", "already", "fenced", "rejected"}[min(o, Rejected)]
}

// Result is what became of one Change.
type Result struct {
	Outcome Outcome
	Header  Header   // Fenced: the header on record
	Err     error    // Rejected: why; an *AliasError if another session has an alias. Undecided: what failed, if known
	Keys    []string // Rejected: the entries to blame; empty if it is not single entries
}

// Snapshot is a consistent view of a session.
type Snapshot struct {
	Header  Header
	Entries []Entry
}

// Query chooses sessions. The zero value chooses all.
type Query struct {
	Owner Incarnation // only those of this tenure-holder, also those that it released
}

// Node is a process that has a DB open on the store.
type Node struct {
	Name        string
	Incarnation Incarnation
	Addr        string        // where other nodes send the events of its sessions
	Weight      int           // its share of a dead node's sessions
	Lease       time.Duration // Nodes: what is left of its lease on the store's clock; 0 or less if it is over
}
