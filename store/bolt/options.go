package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"
)

// Options of a file. The zero value works. They are read once, at Open.
type Options struct {
	// LockTimeout is how long Open waits for another process to let go of the file. Zero means one
	// second. Negative is an error.
	LockTimeout time.Duration

	// FileMode is the permission bits of a file that Open makes, before the umask. Zero means 0600.
	FileMode fs.FileMode

	// NoSync leaves it to the operating system when what was written reaches the disk.
	//
	// False, the default: each commit ends with an fsync of its pages and then one of the page that
	// makes them current. What Apply or Claim acknowledged survives a kill of the process, a crash
	// of the operating system and a power cut, as far as the disk keeps what it has acknowledged.
	//
	// True: what was acknowledged survives a kill of the process at any instant, because the
	// operating system has it. After a crash of the operating system or a power cut the
	// latest changes are gone, and as pages reach the disk in any order, the whole file
	// may be unusable. Close syncs.
	NoSync bool

	// TombstoneRetention is how long the tombstone of a deleted session is kept, by the wall clock.
	// Zero means seven days. Negative is an error. A tombstone must outlive the longest outage
	// of a node plus the longest retry of a change: it is what keeps the epochs of a
	// session from starting again at 1 while a write of its former life may still be on its way.
	TombstoneRetention time.Duration

	// Check makes Open read the whole file, as [Store.Check] does, and refuse it if
	// anything is damaged. The cost is the reading of the file. Without it Open checks
	// what its own safety rests on: the pages that say where the others are.
	Check bool

	// Logger is told of damage that was met and survived. Nil means nobody.
	// It is called on the goroutine of the call that met the damage, and must not call the Store. If it panics, that is dropped.
	Logger *slog.Logger
}

// withDefaults returns a copy in which every field has its meaning filled in.
func (o *Options) withDefaults() (Options, error) {
	var f Options
	if o != nil {
		f = *o
	}
	if f.LockTimeout < 0 {
		return f, fmt.Errorf("store/bolt: Options.LockTimeout is %v: it cannot be negative", f.LockTimeout)
	}
	if f.LockTimeout == 0 {
		f.LockTimeout = time.Second
	}
	if f.FileMode&^fs.ModePerm != 0 {
		return f, fmt.Errorf("store/bolt: Options.FileMode is %v: only permission bits are allowed", f.FileMode)
	}
	if f.FileMode == 0 {
		f.FileMode = 0o600
	}
	if f.FileMode&0o600 != 0o600 {
		return f, errors.New("store/bolt: Options.FileMode must let its owner read and write")
	}
	if f.TombstoneRetention < 0 {
		return f, fmt.Errorf("store/bolt: Options.TombstoneRetention is %v: it cannot be negative", f.TombstoneRetention)
	}
	if f.TombstoneRetention == 0 {
		f.TombstoneRetention = 7 * 24 * time.Hour
	}
	if f.Logger == nil {
		f.Logger = slog.New(slog.DiscardHandler)
	}
	return f, nil
}
