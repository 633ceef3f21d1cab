package bolt

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// place is where the open file is found by its name. If it is renamed, removed, or another file is renamed over it, bbolt
// goes on writing into what it has open, and whoever opens the name next finds none of that. So a commit is
// acknowledged only if the name still leads to the file after it.
type place struct {
	path string      // absolute: the working directory may change
	file fs.FileInfo // of the open file
	lost bool        // under Store.turn: the name led elsewhere when it was looked at last
}

func newPlace(path string, file *os.File) (p place, err error) {
	if p.path, err = filepath.Abs(path); err != nil {
		return p, err
	}
	p.file, err = file.Stat()
	return p, err
}

// look gives an error if the name is known not to lead to the file any more. That the name cannot be followed, for want of
// permission, say, tells nothing.
func (p *place) look() error {
	if runtime.GOOS == "windows" {
		return nil // an open file keeps its name there
	}
	info, err := os.Stat(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		p.lost = true
		return errors.New("it was removed or renamed while it is open: nothing is written until it is back, or opened anew")
	case err == nil && !os.SameFile(info, p.file):
		p.lost = true
		return errors.New("another file has taken its place while it is open: nothing is written until it is back, or opened anew")
	}
	p.lost = false
	return nil
}
