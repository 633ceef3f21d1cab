package storetest

import (
	"fmt"
	"runtime"
	"sync"
)

// This file turns the suite on stores that are known to be at fault: a test that cannot fail shows nothing.

// Finds runs f, which tests such a store, as by Race, and returns its first failure; ok is false if it has none.
func Finds(f func(t T)) (failure string, ok bool) {
	r := record(f)
	r.mu.Lock() // what f began may not have ended
	defer r.mu.Unlock()
	if len(r.failures) == 0 {
		return "", false
	}
	return r.failures[0], true
}

// recorder is a T that remembers how a case ended.
type recorder struct {
	mu       sync.Mutex
	failures []string
	skipped  string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skipf(format string, args ...any) {
	r.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// record runs what may end its goroutine.
func record(run func(t T)) *recorder {
	r := &recorder{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(r)
	}()
	<-done
	return r
}
