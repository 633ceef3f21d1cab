package sim

import (
	"flag"
	"os"
	"runtime"
	"testing"
)

// Without the race detector one goroutine at a time runs, so that a seed replays exactly. With it they run as they like.
func TestMain(m *testing.M) {
	flag.Parse()
	if !raceEnabled {
		runtime.GOMAXPROCS(1)
	}
	os.Exit(m.Run())
}
