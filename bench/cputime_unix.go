//go:build unix

package main

import "syscall"

// processTime returns the processor time of this process so far, in nanoseconds, by the system's account.
func processTime() (float64, bool) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, false
	}
	return float64(u.Utime.Nano() + u.Stime.Nano()), true
}
