package nats

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Options of a store. The zero value works. They are read once.
type Options struct {
	// Stream is the name of the stream, and of the subjects: all below "<Stream>.". Empty: "KVSTORE". Letters, digits, '_' and '-', at
	// most 64 of them.
	Stream string

	// Replicas is how many servers keep the stream, if Open has to make it: 1 to 5. Zero: 3 if the server belongs to a cluster, else 1.
	// A stream that is there already stays as it is.
	Replicas int

	// Domain is the JetStream domain of the stream, for a client that reaches it through a leaf node. Empty: the server's own.
	Domain string

	// Timeout bounds a call whose context has no deadline. Without one it would wait as long as the stream has no leader. Zero: five seconds.
	Timeout time.Duration

	// CacheBytes is how many bytes of the documents that this store has written or read last it keeps, to write to them again without
	// reading them first. Nothing is ever answered from there. Zero: 64 MiB. Negative: none.
	CacheBytes int

	// TombstoneRetention is how long the tombstone of a deleted session is kept, by the server's clock, in whole
	// seconds. Zero: seven days. It must outlast the longest outage of a node plus the longest retry of a change: it is
	// what keeps the epochs of a session from starting again at 1 while a write of its former life may still be on its way.
	TombstoneRetention time.Duration

	// Logger is told of what goes wrong beside a call, as when pages that nobody needs cannot be removed. Nil: nobody.
	Logger *slog.Logger
}

const maxName = 64 // bytes of a stream's name, which stands in each subject, and a line of the protocol has 4096

func (o *Options) withDefaults() (Options, error) {
	var f Options
	if o != nil {
		f = *o
	}
	if f.Stream == "" {
		f.Stream = "KVSTORE"
	}
	if strings.Contains(escape(f.Stream), "=") || len(f.Stream) > maxName {
		return f, fmt.Errorf("store/nats: Options.Stream is %.80q: letters, digits, '_' and '-' are allowed, and at most %d of them", f.Stream, maxName)
	}
	if strings.Contains(escape(f.Domain), "=") {
		return f, fmt.Errorf("store/nats: Options.Domain is %.80q: letters, digits, '_' and '-' are allowed", f.Domain)
	}
	if f.Replicas < 0 || f.Replicas > 5 {
		return f, fmt.Errorf("store/nats: Options.Replicas is %d: a stream has 1 to 5 replicas", f.Replicas)
	}
	if f.Timeout < 0 {
		return f, errors.New("store/nats: Options.Timeout cannot be negative")
	}
	if f.Timeout == 0 {
		f.Timeout = 5 * time.Second
	}
	if f.CacheBytes == 0 {
		f.CacheBytes = 64 << 20
	}
	switch {
	case f.TombstoneRetention == 0:
		f.TombstoneRetention = 7 * 24 * time.Hour
	case f.TombstoneRetention < time.Second:
		return f, errors.New("store/nats: Options.TombstoneRetention is less than a second")
	}
	if f.Logger == nil {
		f.Logger = slog.New(slog.DiscardHandler)
	}
	return f, nil
}
