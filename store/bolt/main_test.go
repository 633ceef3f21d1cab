package bolt

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"
)

var (
	seedFlag   = flag.Uint64("bolt.seed", 0, "seed of the randomized tests; 0 takes a new one")
	roundsFlag = flag.Int("bolt.rounds", 0, "rounds of the kill and damage tests; 0 takes each test's own number")
)

// childEnv tells the test binary which child to be instead of running tests.
const childEnv = "KVSTORE_BOLT_TEST_CHILD"

var children = map[string]func() error{
	"write": writeChild,
	"hold":  holdChild,
}

// beforeChild runs before the child.
var beforeChild = func() error { return nil }

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		err := beforeChild()
		if err == nil {
			err = children[name]()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child is a command that runs one of children in a process of its own.
func child(t testing.TB, name string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), childEnv+"="+name), env...)
	cmd.Stderr = os.Stderr
	return cmd
}

// random returns a generator whose seed is in the log, and rounds or what the flag says instead.
func random(t testing.TB, rounds, short int, evenIfRace bool) (*rand.Rand, int) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	switch {
	case testing.Short():
		rounds = short
	case raceEnabled && !evenIfRace:
		rounds = max(rounds/4, short)
	}
	if *roundsFlag > 0 {
		rounds = *roundsFlag
	}
	t.Logf("repeat with -bolt.seed=%d -bolt.rounds=%d", seed, rounds)
	return rand.New(rand.NewPCG(seed, 0)), rounds
}
