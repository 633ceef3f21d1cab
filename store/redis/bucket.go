package redis

import (
	"fmt"
	"hash/crc32"
)

// bucket is a part of the keyspace. The name of each of its keys has the same part in braces, so that they are in one slot of a Cluster, and a
// script can change several of them in one step.
type bucket struct {
	live    string // a sorted set: the IDs of all sessions, in their order
	owned   string // a sorted set: the same, each with its owner's incarnation before it, also of those released
	nodes   string // a hash: by incarnation, the lease, and what is known of the node
	aliases string // a hash: by alias, the ID of the session that has it, if its header lists it
	order   string // a sorted set: the aliases, in their order
	confirm string // a string that is written so that replicas have something to confirm
	session string // a session's key begins so; its ID follows
}

func newBuckets(prefix string, n int) []bucket {
	bs := make([]bucket, n)
	for i := range bs {
		tag := "{" + newTag(prefix, i, n) + "}:"
		bs[i] = bucket{live: tag + "live", owned: tag + "owned", nodes: tag + "nodes", aliases: tag + "aliases", order: tag + "order", confirm: tag + "confirm", session: tag + "s:"}
	}
	return bs
}

const slots = 16384 // of a Cluster

// newTag returns what the i-th of n buckets has in braces: such that its slot is in the i-th of n equal parts of all slots, so that
// servers that have as many slots have as many buckets. It is part of the format.
func newTag(prefix string, i, n int) string {
	tag := fmt.Sprintf("%s:%d", prefix, i)
	for try := 1; slot(tag)*n/slots != i; try++ {
		tag = fmt.Sprintf("%s:%d.%d", prefix, i, try)
	}
	return tag
}

// slot returns the slot of keys that have this in braces: the CRC-16 of XMODEM.
func slot(tag string) int {
	crc := uint16(0)
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % slots
}

// bucketOf returns the place of the bucket that a session is in. It is part of the format.
func (s *Store) bucketOf(session string) int {
	if len(s.buckets) == 1 {
		return 0
	}
	return int(crc32.ChecksumIEEE([]byte(session)) % uint32(len(s.buckets)))
}

// A session's key is a hash. Its header is a field, and so is each entry: its key with a slash before it.
const headerField = "header"

func fieldOf(key string) string { return "/" + key }
