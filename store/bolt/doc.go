// Package bolt keeps sessions in a file: the embedded default store, on go.etcd.io/bbolt.
//
//	st, err := bolt.Open("sessions.db", nil)
//	if err != nil {
//		return err
//	}
//	defer st.Close()
//
// # One process
//
// A file is open in one process at a time: bbolt locks it, and Open waits [Options.LockTimeout] for
// another process to let go. Within the process any number of DBs may share the [Store].
//
// Leases (KeepAlive, Nodes) are therefore kept in the Store's memory and not in the file. Nobody
// but this process could read them; when it dies, all owners in it die with it, and the next process
// that opens the file finds every session without a living owner, at once, instead of waiting for leases to
// run out. Nor does a heartbeat cost an fsync. Leases run on the monotonic clock.
//
// # What is durable
//
// A call of Apply or ClaimAll, or a Claim that is granted anew, is one transaction of bbolt; calls that run at
// the same time share one. By default it is on the disk when the call returns: it survives a kill of the process, a
// crash of the operating system and a power cut. [Options.NoSync] gives up the last two.
//
// An error of Apply or Claim means that the outcome is unknown, as the contract has it. After a
// commit that failed before anything of it counted, for want of space or of the right to write, say, the store
// goes on. After one whose fsync failed, or of whose meta page a part was written, it can be read but
// not written, until the file is opened anew: the operating system may have dropped what it
// could not write, and nothing that is built on it could be trusted. If bbolt's map could not be enlarged, it
// cannot be read either. A Load or a walk may show a commit whose last
// fsync still runs; nobody has been told of it yet, and a power cut in that moment undoes it. Apply and Claim do not:
// what they answer, refused claims excepted, rests on commits that are over.
//
// Open builds on what the disk has, and not on what the system remembers of the file. It syncs the file and
// its name, which a process that was killed may have left unsynced. And it has Linux drop the file from memory: after an
// fsync that failed, memory passes for written though no disk has it. So the first reads after Open are from the
// disk. Not dropped is what another process has mapped, or a Store of this one that damage has made unusable.
// On other systems, and 32-bit ones, nothing is dropped: there, after an error that asks for the file to be opened anew, only
// a restart of the machine is certain to show what the disk has. [Options.NoSync] leaves all of that out.
//
// A disk must write 512 bytes whole or not at all, and must have what it has acknowledged.
//
// If the file is renamed or removed while it is open, or another takes its name, nobody would find what is written: nothing is
// acknowledged from then on, until the file is back or opened anew. Reads go on. A file that is written over
// in place takes no changes, either, until it is opened anew. Both are noticed when a commit is made, and not before.
//
// # Damage
//
// Every record carries a checksum over its key and its content. A damaged one is a
// [*store.CorruptError], and everything else stays readable: Load returns the rest beside the error,
// Claim names the key in Unread, a walk passes by, and a change to a session whose header is damaged is
// Rejected. Damaged pages of bbolt, which make bbolt panic, and pages that the disk does not give back, which
// make the processor fault, are errors too, of the calls that meet them. A file that is cut to nothing
// while it is open is noticed before a transaction begins. Only if it is cut in the very instant in which one
// does is the whole Store unusable afterwards, and says so: Close then waits for nobody, and
// a commit that enlarges bbolt's map in the same instant does not return.
//
// Open reads the pages that lead to others, so that bbolt cannot be led in circles; it refuses a file
// in which they are damaged, that is truncated, or one of whose two meta pages is damaged: bbolt
// would go back to the other silently, and with it to epochs that are over. [Store.Check] reads
// everything, and finds what is damaged but also what is missing; [Options.Check] does so at Open.
// A file that is damaged while it is open is not Open's case: it is noticed by what meets it.
//
// No page of sessions or aliases is believed before the pages from the root to it were looked at: one with a wrong count, length or
// place, or with keys that do not belong there, is an error to a Load, a claim, a walk and a Find; these two end there. So nothing is
// absent because damage hides it (not even if that has altered its key alone), and no old version of a record comes back from behind the end of a page. Nor does a write wash damage away:
// such a page stays as it is, and changes that need it are Undecided. No session is lost to a write that was not lost before,
// and none that damage hides is made again at epoch 1; nor is an alias that damage hides given to another. A damaged record of an alias is
// written anew by the next change of its session.
//
// A page, or the part of one that takes several, that is whole but not the latest, because the disk dropped a write that it
// had acknowledged, nothing here can tell.
//
// # Layout
//
// Four buckets. "meta" has the magic string and the version of the format. "sessions" has, for each
// session, a header record under uvarint(len(ID)) ID, and after it an entry record for each
// entry under uvarint(len(ID)) ID 0x00 key: one session's records lie together, on the same pages. The
// main entry, whose key is empty, is kept within the header record up to 1 KiB, so that the
// flush of a session of one entry is a single put. "graves" lists tombstones by age; every commit
// removes the few oldest that are older than [Options.TombstoneRetention]. Sessions and entries that
// have expired are not removed: their owner's deletes do that. "aliases" says which session has an alias. The records' bytes are defined in record.go.
//
// The format is version 2. A file of version 1, which has no aliases, is read and written as it is, and becomes one of version 2 with the
// first change that names an alias: programs that know version 1 only, and would not keep aliases unique, do not open it from then on.
//
// A header does not count its entries. It would have to know of every put whether
// it is the key's first, which is a search more for each entry of a flush. That an
// entry is missing shows all the same: bbolt's pages leave no room for it, and Check looks there.
package bolt
