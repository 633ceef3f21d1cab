//go:build !unix

package callrun

import "errors"

// Freeze is an error here: a process cannot be made to stand still from another one.
func (p *Process) Freeze() error { return errors.ErrUnsupported }

// Thaw does nothing here.
func (p *Process) Thaw() error { return nil }
