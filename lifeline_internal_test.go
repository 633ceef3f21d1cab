package kvstore

import (
	"runtime"
	"testing"
	"time"
	"weak"
)

// A lifeline goes with the last handle that might ask for it; until then it outlasts the evictions.
func TestLifelinesGoWithTheirHandles(t *testing.T) {
	var l lifelines
	line := &lifeline{id: "s"}
	line.life.Store(3)
	for range 2 {
		l.keep(line)
		runtime.GC()
		if found := l.find("s"); found != line || found.life.Load() != 3 {
			t.Fatalf("found %v, want %v", found, line)
		}
	}
	if l.find("other") != nil {
		t.Error("found a lifeline of a session that was not evicted")
	}
	// One that takes a garbage one's place stays when that is cleaned up.
	l.byID["s"] = weak.Make(&lifeline{id: "s"})
	l.keep(line)
	l.forget("s")
	if l.find("s") != line {
		t.Error("forgot a lifeline that is in use")
	}
	runtime.KeepAlive(line)
	line = nil
	for start := time.Now(); ; runtime.Gosched() { // cleanups run on a goroutine of the runtime's
		runtime.GC()
		l.mu.Lock()
		n := len(l.byID)
		l.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Since(start) > time.Minute {
			t.Fatalf("%d lifelines are kept of which nobody has a handle", n)
		}
	}
}
