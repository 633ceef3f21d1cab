package etcd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Options of a store. The zero value works. They are read once.
type Options struct {
	// Prefix is what the names of all keys begin with. Empty: "kvstore/". At most 256 bytes. No two stores may have prefixes of which
	// one begins with the other.
	Prefix string

	// TLS is how Open's connections are secured, if the URL asks for it. Nil: by the system's certificates.
	TLS *tls.Config

	// Compact is for how long the server keeps former values, of all keys, whoever they are of. Each is one more than anyone here
	// needs, and they fill the server's quota. Zero: five minutes. Negative: the store leaves it to the server, which then
	// must have its --auto-compaction-retention set. A user that is not root may not compact: that is logged, once.
	Compact time.Duration

	// TombstoneRetention is how long the tombstone of a deleted session is kept, by the nodes' clocks. Zero:
	// seven days. It must outlast the longest outage of a node plus the longest retry of a change: it is what keeps
	// the epochs of a session from starting again at 1 while a write of its former life may still be on its way.
	TombstoneRetention time.Duration

	// Logger is told of what goes wrong beside a call, as when old tombstones cannot be removed. Nil: nobody.
	Logger *slog.Logger
}

const maxPrefix = 256 // bytes

func (o *Options) withDefaults() (Options, error) {
	var f Options
	if o != nil {
		f = *o
	}
	if f.Prefix == "" {
		f.Prefix = "kvstore/"
	}
	if len(f.Prefix) > maxPrefix {
		return f, fmt.Errorf("store/etcd: Options.Prefix is %.80q…: at most %d bytes are allowed", f.Prefix, maxPrefix)
	}
	if f.TombstoneRetention < 0 {
		return f, errors.New("store/etcd: Options.TombstoneRetention cannot be negative")
	}
	if f.TombstoneRetention == 0 {
		f.TombstoneRetention = 7 * 24 * time.Hour
	}
	if f.Compact == 0 {
		f.Compact = 5 * time.Minute
	}
	if f.Logger == nil {
		f.Logger = slog.New(slog.DiscardHandler)
	}
	return f, nil
}
