package postgres

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Options of a store. The zero value works. They are read once.
type Options struct {
	// Schema is the name of the schema that holds the tables. Empty: "kvstore". At most 63 bytes.
	Schema string

	// Relaxed acknowledges flushes before they are on the server's disk. What a crash of the server forgets of them, the store writes again;
	// if the process that has the store dies at the same time, the last 0.6 s are lost, unless a Sync, a Flush or a Close has waited
	// for them. See "What is durable" in the package's comment. Claims are durable all the same.
	Relaxed bool

	// TombstoneRetention is how long the tombstone of a deleted session is kept, by the server's clock. Zero:
	// seven days. It must outlast the longest outage of a node plus the longest retry of a change: it is what keeps
	// the epochs of a session from starting again at 1 while a write of its former life may still be on its way.
	TombstoneRetention time.Duration

	// Logger is told of what goes wrong beside a call, as when old tombstones cannot be removed. Nil: nobody.
	Logger *slog.Logger
}

const maxIdentifier = 63 // bytes; PostgreSQL would cut a longer one silently

func (o *Options) withDefaults() (Options, error) {
	var f Options
	if o != nil {
		f = *o
	}
	if f.Schema == "" {
		f.Schema = "kvstore"
	}
	if len(f.Schema) > maxIdentifier || strings.ContainsRune(f.Schema, 0) {
		return f, fmt.Errorf("store/postgres: Options.Schema is %.80q: at most %d bytes, and no zero byte, are allowed", f.Schema, maxIdentifier)
	}
	if f.TombstoneRetention < 0 {
		return f, errors.New("store/postgres: Options.TombstoneRetention cannot be negative")
	}
	if f.TombstoneRetention == 0 {
		f.TombstoneRetention = 7 * 24 * time.Hour
	}
	if f.Logger == nil {
		f.Logger = slog.New(slog.DiscardHandler)
	}
	return f, nil
}
