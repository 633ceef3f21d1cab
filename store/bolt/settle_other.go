//go:build !(linux && (amd64 || arm64 || loong64 || ppc64le || riscv64))

package bolt

import (
	"os"
	"time"
)

// settles: see there; here Open only syncs, once bbolt has the file.
const settles = false

// settle does nothing: there is no portable way to have the system forget what it could not write.
func settle(*os.File, bool, bool, time.Time) error { return nil }
