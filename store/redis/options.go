package redis

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Options of a store. The zero value works. They are read once.
type Options struct {
	// Prefix names the keyspace: each key begins with it, or with a brace and it. Stores of different prefixes know nothing of each other. At
	// most 64 bytes, no braces. Empty: "kvstore".
	Prefix string

	// Buckets is into how many parts a new keyspace is divided, each of which is in one slot of a Redis Cluster. It is kept in the
	// keyspace, and whoever opens it later takes what is there. Zero: 1 on a single server, 24 on a Cluster. At most 512.
	Buckets int

	// AllowVolatile takes a server that forgets, too: one without an append-only file, which loses what was written since its last snapshot, or
	// all, when it is restarted, ownership included; and one that evicts keys when its memory is full. What is missing is told to Logger.
	// See "What is durable" in the package's comment.
	AllowVolatile bool

	// Replicas is how many replicas of the server must have a claim or a flush before it is acknowledged. Zero: none, and a failover
	// may lose what was acknowledged. With fewer replicas in reach, claims are errors and flushes are Undecided, until there are
	// enough again; so it should be one less than each server has.
	Replicas int

	// ReplicaWait is for how long a call waits for Replicas. Zero: a second. In milliseconds; parts of one are cut off.
	ReplicaWait time.Duration

	// TombstoneRetention is how long the tombstone of a deleted session is kept, by the server's clock. Zero:
	// seven days. It must outlast the longest outage of a node plus the longest retry of a change: it is what keeps
	// the epochs of a session from starting again at 1 while a write of its former life may still be on its way.
	// In milliseconds; parts of one are cut off.
	TombstoneRetention time.Duration

	// Logger is told what AllowVolatile allows, and what goes wrong beside a call. Nil: nobody.
	Logger *slog.Logger
}

const (
	maxPrefix  = 64 // bytes
	maxBuckets = 512

	// clusterBuckets is how many a new keyspace on a Cluster has: three masters, or four, six, eight or twelve, have as many each; and a
	// batch is not divided so far that most of the work is to begin scripts.
	clusterBuckets = 24
)

func (o *Options) withDefaults() (Options, error) {
	var f Options
	if o != nil {
		f = *o
	}
	if f.Prefix == "" {
		f.Prefix = "kvstore"
	}
	switch {
	case len(f.Prefix) > maxPrefix || strings.ContainsAny(f.Prefix, "{}"):
		return f, fmt.Errorf("store/redis: Options.Prefix is %.80q: at most %d bytes, and no braces, are allowed", f.Prefix, maxPrefix)
	case f.Buckets < 0 || f.Buckets > maxBuckets:
		return f, fmt.Errorf("store/redis: Options.Buckets is %d: 0 to %d are allowed", f.Buckets, maxBuckets)
	case f.Replicas < 0:
		return f, errors.New("store/redis: Options.Replicas cannot be negative")
	case f.ReplicaWait < 0 || f.ReplicaWait > 0 && f.ReplicaWait < time.Millisecond:
		return f, errors.New("store/redis: Options.ReplicaWait must be a millisecond or more")
	case f.TombstoneRetention < 0 || f.TombstoneRetention > 0 && f.TombstoneRetention < time.Millisecond:
		return f, errors.New("store/redis: Options.TombstoneRetention must be a millisecond or more")
	}
	if f.ReplicaWait == 0 {
		f.ReplicaWait = time.Second
	}
	if f.TombstoneRetention == 0 {
		f.TombstoneRetention = 7 * 24 * time.Hour
	}
	if f.Logger == nil {
		f.Logger = slog.New(slog.DiscardHandler)
	}
	return f, nil
}
