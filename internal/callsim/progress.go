package callsim

import (
	"fmt"
	"os"
	"unicode/utf8"
)

// Line is a line on a terminal that is written over again and again. On anything
// else it writes nothing. It is used by one goroutine.
type Line struct {
	f    *os.File
	wide int // of what stands there
}

// NewLine returns a line on f.
func NewLine(f *os.File) *Line {
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		f = nil
	}
	return &Line{f: f}
}

// Show replaces the line.
func (l *Line) Show(format string, args ...any) {
	if l.f == nil {
		return
	}
	s := fmt.Sprintf(format, args...)
	n := utf8.RuneCountInString(s)
	fmt.Fprintf(l.f, "\r%s%*s", s, max(l.wide-n, 0), "")
	l.wide = n
}

// Clear takes the line away.
func (l *Line) Clear() {
	if l.f != nil && l.wide > 0 {
		fmt.Fprintf(l.f, "\r%*s\r", l.wide, "")
		l.wide = 0
	}
}
