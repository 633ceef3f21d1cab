package memory_test

import (
	"testing"

	"github.com/seed-6f1f505d/kvstore/store"
	"github.com/seed-6f1f505d/kvstore/store/memory"
	"github.com/seed-6f1f505d/kvstore/store/storetest"
)

func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return memory.New() })
}

func TestRace(t *testing.T) {
	t.Parallel()
	storetest.Race(t, memory.New(), 20)
	storetest.RaceAliases(t, memory.New(), 20)
}
