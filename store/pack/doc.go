// Package pack compresses the values on their way to another store, with zstd (RFC 8878), and gives them back as they were.
//
//	file, err := bolt.Open("sessions.db", nil)
//	st, err := pack.New(file, pack.Options{})
//	db, err := kvstore.Open[Call](ctx, st, kvstore.Options{})
//
// Keys, session IDs and headers stay as they are, and so does all that fences. Values that are small ([Options].MinSize), or that packing does not make
// smaller by an eighth ([Options].MinGain), are stored as they are, without any addition.
//
// # What it brings
//
// Sessions in MessagePack, of names, states, addresses and times; the time of one value on one processor, in the fastest round of many (go test -bench Values):
//
//	                            256 bytes                          4 KiB
//	                            stored    to pack    to unpack     stored    to pack    to unpack
//	as they are                 241 B                              4188 B
//	packed                      241 B     8.5 µs     –             1484 B    28 µs      8.6 µs
//	packed, with a dictionary   116 B     12 µs      0.9 µs        1195 B    43 µs      12 µs
//
// A small value has little in it that repeats: it is the dictionary that has what such values share. With one, values of 51 bytes get smaller by 9 %, of 71 by
// 31 %, of 113 by 37 %, and of 24 never: hence MinSize is 64. Where half of the values, those of 51 bytes, save less than an eighth, they would save 4 % of all bytes
// together, and each would have to be unpacked whenever it is read: hence MinGain is 1/8. Without a dictionary set MinSize to 256 or so: what is smaller is
// tried in vain.
//
// Packing is done in Apply, by the flusher, once for each flush window; Get of a resident session has nothing to do with it. There are as many encoders and as many
// decoders as processors at most, each with one or two megabytes. A call that finds none free waits for the end of another's computation.
//
// # Dictionaries
//
// [Sample] draws values from a store, [Train] makes a dictionary of them. It is a file like any other: keep it, and give it to [New] from then on. The
// last of [Options].Dictionaries packs, all of them unpack, and each record names the one that it needs. So
//
//   - give a new dictionary to all nodes first, in front of the one that packs, and move it to the end when all have it: what a node packs, the others have to read;
//   - keep an old dictionary for as long as there is a value that was packed with it. A value whose dictionary is missing is a [*store.CorruptError] that names
//     session, key and the dictionary's ID. It is there again as soon as the dictionary is.
//
// A dictionary has pieces of the samples in it. Treat it as you treat the data.
//
// # Coming and going
//
// A store may have been in use without this package: what it has is read as it is, and packed when it is written the next time. What is packed begins with a mark of
// eight bytes that begins no value in MessagePack (the default codec), no text in UTF-8, no CBOR, gob or Protocol Buffers, and one in 2⁵² of random
// ones. If a value that was written before begins with it all the same, it is a CorruptError, but for one in 2³² of these; it is never another value silently. What is
// written through this package is told apart with certainty, whatever it is: a value that begins with the mark, or with seven bytes of it, is stored behind another mark,
// and is twelve bytes longer. So a Store may also be wrapped in another one. The store behind has to take these twelve bytes more than the longest value, [store.MinValue], say.
//
// Without the wrapper what is packed is a value that no codec knows: reading it is an error of the codec, MessagePack's among them, and nothing is lost; with the wrapper it is there
// again. To take the wrapper away, set MinSize to -1: nothing is packed any more, and all is read. When each session has been written anew, or is gone, leave
// the wrapper away.
//
// # Damage
//
// Each record has a check of its value, 32 bits of XXH64, which also finds out a wrong dictionary with the right ID. A flipped bit, a wrong byte, or a missing end is a
// CorruptError, in Claim an Unread, and everything else stays readable. Two limits: what is cut to less than the eight bytes of the mark is taken for a short value, and
// what has lost two or more bytes of the mark for one that was written without this package. Values that are stored as they are have no check: that is for the store behind.
//
// A record says what it unpacks to. More than [Options].MaxValue is refused before anything is unpacked, and what unpacks to more than it says is given up
// there: a reader takes no more memory than MaxValue for any record, and for one of n bytes no more than about 32 KiB × n.
//
// # Secrets
//
// Compress first, then encrypt: what is encrypted cannot be compressed. So a wrapper that encrypts is the one behind this one:
//
//	sealed, err := …                          // encrypts on its way to the engine
//	st, err := pack.New(sealed, pack.Options{})
//
// The length of what is packed tells something of what it is, and encryption hides no length. If an attacker can put text of his choice into the same value as a
// secret, and can see how long the record is, he can guess the secret piece by piece: a right guess is a repetition, and makes the record shorter. That is what
// CRIME (Rizzo and Duong, 2012) and BREACH (Gluck, Harris and Prado, 2013) do; Kelsey, "Compression and Information Leakage of Plaintext" (FSE 2002) is the
// principle. A dictionary that was trained on secrets gives them away likewise. Keep secrets and foreign text in entries of their own: each value is packed by itself. Or do not pack.
package pack
